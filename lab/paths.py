"""Folders of the lab, and the lock that guards what is made once."""

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "lab"
GUESTS = BUILD / "guest"
# Sockets of engines are below this: their paths must fit into 107 bytes, which
# a path below the repository may not. It is a tmpfs on nearly every machine.
RUN = Path("/run/macvlan-global-lab")
PREFIX = "mg-"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock called `name` against every other process of this repository.

    The kernel lets go of it when the holder dies, however it dies.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder below `parent`, gone afterwards.

    Below `parent` and not in /tmp, so that a result is moved by a rename.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)
