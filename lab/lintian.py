"""lintian, Debian's check of packages: unpacked, and laid over this machine's files for its own process only."""

import re
import shutil
from pathlib import Path

from lab.paths import BUILD, locked, scratch_folder
from lab.process import run

_TREE = BUILD / "lintian"
# /usr and /etc of a mount namespace of its own: what is unpacked comes first, all else is this machine's.
_RUN = """
set -e
for part in usr etc; do
    if [ -d "$1/$part" ]; then mount -t overlay -o "lowerdir=$1/$part:/$part" lintian "/$part"; fi
done
shift
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME=/tmp "$@"
"""


def lintian(package: Path) -> list[str]:
    """The lines of lintian's report on a package file that are errors (E) or warnings (W).

    Raises:
        LabError: lintian cannot be fetched, or did not come to an end.
    """
    command = ["lintian", "--no-cfg", "--allow-root", str(package)]
    if shutil.which("lintian") is None:
        command = ["unshare", "--mount", "sh", "-c", _RUN, "lintian", str(_unpacked()), *command]
    done = run(command, check=False, timeout=600)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if not line.startswith(("N:", "I:", "P:", "running with root"))]


def _unpacked() -> Path:
    with locked("lintian"):
        if not _TREE.exists():
            print("lab: fetching lintian", flush=True)
            run(["apt-get", "-qq", "update"], check=False, timeout=300)
            planned = run(["apt-get", "-s", "--no-install-recommends", "install", "lintian"]).stdout
            names = re.findall(r"^Inst (\S+)", planned, re.MULTILINE)
            with scratch_folder(BUILD) as scratch:
                (scratch / "archives").mkdir()
                # root's downloader may not write below a folder of ours otherwise
                run(
                    ["apt-get", "-qq", "-oAPT::Sandbox::User=root", "download", *names],
                    cwd=scratch / "archives",
                    timeout=600,
                )
                for archive in sorted((scratch / "archives").glob("*.deb")):
                    run(["dpkg", "-x", str(archive), str(scratch / "tree")])
                (scratch / "tree").rename(_TREE)
    return _TREE
