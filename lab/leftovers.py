"""Finding and removing what a host of the lab consists of, by its id.

An id is `mg-<pid of the maker>-<name>`. Network namespaces, folders and
cgroups carry it as their name. A process belongs to a host if it is in the
host's network namespace (daemons, shims) or in a cgroup below the host's
(containers, also those whose shim is gone). It belongs to a guest kernel if it
was started with the guest's folder: the kernel's helpers were, too. A member
of a store, alike, was started with the folder that its data is in.
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

from lab.paths import GUESTS, PREFIX, RUN
from lab.process import alive, kill, run

_NAMESPACES = Path("/run/netns")
# Each round kills all that is there; a second or third finds what was just forked.
_ROUNDS = 20
_CGROUPS = Path("/sys/fs/cgroup")


def reap_leftovers() -> list[str]:
    """Remove what lab runs left behind whose process is gone; their ids.

    Safe beside other runs: what belongs to a living process is left alone.
    """
    places = (_NAMESPACES, RUN, GUESTS, *_controllers())
    ids = {entry.name for place in places if place.is_dir() for entry in place.glob(f"{PREFIX}*")}
    dead = sorted(name for name in ids if not _maker_lives(name))
    for name in dead:
        remove(name)
    return dead


def remove(identity: str) -> None:
    """Remove every process, mount, namespace, cgroup and folder of one id.

    Repeatable: what is already gone is no error.
    """
    # No politeness: mounts go with the mount namespace, and a dockerd that is
    # asked would wait for its containers.
    end_processes(identity)
    _remove_cgroups(identity)
    run(["ip", "netns", "delete", identity], check=False)
    for folder in (RUN, GUESTS):
        shutil.rmtree(folder / identity, ignore_errors=True)


def end_processes(identity: str) -> None:
    """Kill all processes of one id, also those that start while this runs."""
    for _ in range(_ROUNDS):
        found = processes(identity)
        if not found:
            return
        kill(found)


def processes(identity: str) -> list[int]:
    """The processes of one id; never init, the caller, or what the caller was started by."""
    spared = {1, *_lineage(os.getpid())}
    network = _inode(_NAMESPACES / identity)
    # Whole path segments only: mg-1-a is not mg-1-ab.
    name = re.escape(identity).encode() + rb"(?![\w-])"
    cgroup, folder = re.compile(b"/" + name), re.compile(b"/guest/" + name + b"|/" + name + b"/member/")
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        with contextlib.suppress(OSError):
            mine = (
                (network is not None and _inode(entry / "ns/net") == network)
                or cgroup.search((entry / "cgroup").read_bytes())
                or folder.search((entry / "cmdline").read_bytes())
            )
            if mine and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def _lineage(pid: int) -> list[int]:
    """A process and its ancestors, as far as they can be seen."""
    found = []
    while pid > 0:
        found.append(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _maker_lives(identity: str) -> bool:
    number = identity.removeprefix(PREFIX).partition("-")[0]
    return number.isdigit() and alive(int(number))


def _controllers() -> list[Path]:
    """Roots of cgroup hierarchies: one for each controller (v1), or the only one (v2)."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [entry for entry in _CGROUPS.glob("*") if entry.is_dir() and not entry.is_symlink()]


def _remove_cgroups(identity: str) -> None:
    for controller in _controllers():
        for folder, _, _ in os.walk(controller / identity, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
