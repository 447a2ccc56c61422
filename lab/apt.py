"""Installing packages of this machine's release, and fetching packages of another one without installing them.

What the machine has installed, prefers or pins decides nothing about what is fetched: the same packages of the same
release come on Debian 12, on Debian 13 and on Ubuntu.
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab.errors import CommandError, LabError
from lab.paths import locked, scratch_folder
from lab.process import run
from lab.sources import debian_mirror, read_sources

MIRROR_VARIABLE = "MACVLAN_GLOBAL_DEBIAN_MIRROR"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_KEYS_PACKAGE = "debian-archive-keyring"
# A fresh machine may be installing updates by itself.
_WAIT_FOR_OTHERS = "-oDPkg::Lock::Timeout=600"
# The machine's own settings still count (a proxy, say), but not what describes this release, nor hooks that act on
# the machine's own lists. A file, as the command line cannot clear a list.
_SETTINGS = """
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Default-Release;
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "{folder}/lists";
// nothing is installed, as far as apt knows: it would look for the installed version of a package, and for no other
Dir::State::Status "{folder}/status";
Dir::State::Extended_States "{folder}/extended_states";
// kept out of the machine's cache, which describes the machine's lists
Dir::Cache::PkgCache "";
Dir::Cache::SrcPkgCache "";
Acquire::Languages "none";
// the unprivileged downloader may not enter the repository's folders
APT::Sandbox::User "root";
"""


def can_install() -> bool:
    """Whether packages can be installed here: there is an apt-get, and we are root."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install(packages: Sequence[str], *, why: str = "") -> None:
    """Install packages of this machine's own release, without what they recommend.

    Args:
        packages: their names.
        why: goes into the line that says so, behind the names.

    Raises:
        LabError: this machine has no apt-get, we are not root, or apt-get refused.
    """
    names = ", ".join(packages)
    if not can_install():
        raise LabError(f"install these first (no apt-get here, or not root): {names}")
    print(f"lab: installing {names}{why and f', {why}'}", flush=True)
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # One source of many that does not answer is no reason to give up: what matters is whether the packages come.
    run(["apt-get", "-qq", _WAIT_FOR_OTHERS, "update"], env=env, timeout=300, check=False)
    install = ["apt-get", "-qq", "-y", _WAIT_FOR_OTHERS, "--no-install-recommends", "install", *packages]
    run(install, env=env, timeout=900)


def download(suite: str, packages: Iterable[str], folder: Path) -> list[Path]:
    """Fetch packages of a Debian suite, this machine's own or not, into `folder`.

    The machine's own package lists are left alone. Signatures are checked.

    Raises:
        LabError: no mirror is known, or it has no such suite or package.
    """
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "status").touch()
    at = mirror()
    # of a file: source apt hands out the file itself, and would fetch nothing
    at = "copy:" + at.removeprefix("file:") if at.startswith("file:") else at
    (folder / "sources.list").write_text(f"deb [signed-by={keys()}] {at} {suite} main\n")
    settings = folder / "apt.conf"
    settings.write_text(_SETTINGS.format(folder=folder.resolve()))
    apt = ["apt-get", "-qq", f"--config-file={settings.resolve()}"]
    try:
        run([*apt, "update"], timeout=300)
        run([*apt, "download", *packages], cwd=folder, timeout=600)
    except CommandError as refused:
        hint = f"nothing came of suite {suite} from {at}; another mirror can be named in {MIRROR_VARIABLE}"
        raise LabError(f"{hint}\n{refused}") from refused
    return sorted(folder.glob("*.deb"))


def unpack(suite: str, packages: Iterable[str], tree: Path) -> None:
    """Unpack packages of a Debian suite into the folder `tree`, which is theirs alone, unless it is there.

    Raises:
        LabError: see `download`.
    """
    with locked(tree.name):
        if tree.exists():
            return
        with scratch_folder(tree.parent) as scratch:
            for archive in download(suite, packages, scratch / suite):
                run(["dpkg", "-x", str(archive), str(scratch / "tree")])
            (scratch / "tree").rename(tree)


def keys() -> Path:
    """The keys of Debian's archive, installed if this machine has them not (Ubuntu has a package of them)."""
    if not _KEYS.exists():
        install([_KEYS_PACKAGE], why="the keys of Debian's archive")
    return _KEYS


def mirror(folder: Path = Path("/etc/apt"), named: str | None = None) -> str:
    """The mirror of Debian's archive that this machine uses, or the one that the caller or the environment names.

    Raises:
        LabError: none is known.
    """
    named = named or os.environ.get(MIRROR_VARIABLE)
    return (named or debian_mirror(read_sources(folder)) or mirror_of_debootstrap()).rstrip("/")


def mirror_of_debootstrap(root: Path = Path("/usr")) -> str:
    """The mirror that debootstrap would take: how a machine that is not a Debian (Ubuntu, say) learns of one.

    Raises:
        LabError: it names none.
    """
    files = [root / "sbin/debootstrap", root / "share/debootstrap/scripts/sid"]
    if not any(file.exists() for file in files):
        install(["debootstrap", _KEYS_PACKAGE], why="which know where Debian is")
    for file in files:
        found = re.search(r"https?://[^\s\"']+/debian\b", file.read_text() if file.exists() else "")
        if found:
            return found[0]
    raise LabError(f"no Debian mirror in this machine's package sources; name one in {MIRROR_VARIABLE}")
