"""Earlier releases of the driver, out of the repository's history: an upgrade is tried with the real thing."""

import subprocess
from pathlib import Path

from lab.errors import LabError
from lab.paths import BUILD, ROOT, locked, scratch_folder

EARLIER = "eb3e908"
"""The last commit before the rooms of the package were moved: what it wrote is on operators' disks."""

_RELEASES = BUILD / "releases"


def source_of(commit: str) -> Path:
    """The package folder (for PYTHONPATH) of an earlier commit, unpacked below `build/` once.

    Raises:
        LabError: the history of this clone does not reach back to it.
    """
    folder = _RELEASES / commit
    with locked("releases"):
        if not folder.exists():
            archive = ["git", "-C", str(ROOT), "archive", commit, "src/macvlan_global"]
            done = subprocess.run(archive, capture_output=True, check=False)
            if done.returncode != 0:
                said = done.stderr.decode(errors="replace").strip()
                raise LabError(f"commit {commit} is not in this clone ({said}); fetch it with `git fetch --unshallow`")
            with scratch_folder(_RELEASES) as scratch:
                (tree := scratch / "tree").mkdir()
                # not with tarfile: Debian 12's Python has no filter for what it unpacks
                subprocess.run(["tar", "-x", "-C", str(tree)], input=done.stdout, check=True)
                tree.rename(folder)
    return folder / "src"
