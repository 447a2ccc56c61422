"""The state of a driver on its host: its file, and its folder, locked, which two drivers never use."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from macvlan_global.errors import Unavailable


def state_file(store: str, folder: Path) -> Path | None:
    """The SQLite file of a driver with this store (as in the configuration) and state folder; None if its state is in
    memory. With a cluster store, what is of this host alone is in the state folder."""
    if store == "memory:":
        return None
    return Path(store.removeprefix("sqlite://")) if store.startswith("sqlite:///") else folder / "state.db"


@contextmanager
def locked_state(store: str, folder: Path) -> Iterator[None]:
    """Within the block no other driver uses the state of one with this store and state folder: that folder is locked,
    and so is the state file, which may be elsewhere, by a file beside it that is called the same with `.lock`.

    Raises:
        Unavailable: another driver has one of them, or one cannot be used.
    """
    with ExitStack() as stack:
        stack.enter_context(locked_folder(folder))
        if file := _real(state_file(store, folder)):
            stack.enter_context(_locked(Path(f"{file}.lock"), f"the state file {file}", "--store"))
        yield


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Within the block the state folder is there, for root only, and this process has its lock (flock(2)).

    Raises:
        Unavailable: another driver has it, or the folder cannot be used.
    """
    with _locked(folder / "lock", f"the state folder {folder}", "--state-dir"):
        yield


@contextmanager
def _locked(path: Path, what: str, option: str) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = path.open("w")
    except OSError as error:
        raise Unavailable(f"{what} cannot be used: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                f"another macvlan-global uses {what}; stop it first, or give another one with {option}"
            ) from error
        except OSError as error:
            raise Unavailable(f"{what} cannot be used: {error}") from error
        yield


def _real(file: Path | None) -> Path | None:
    """The file itself: a link or a folder's link may lead to it."""
    try:
        return Path(os.path.realpath(file)) if file else None
    except ValueError:  # no file can have this name: whoever opens it says so
        return None
