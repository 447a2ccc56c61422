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
    and the folder of the state file too if it is another one.

    Raises:
        Unavailable: another driver has one of them, or one cannot be used.
    """
    with ExitStack() as stack:
        stack.enter_context(locked_folder(folder))
        elsewhere = _folder_of(state_file(store, folder))
        # by what the folders are: a link or a bind mount may lead to the one that we have just locked
        if elsewhere and not _is_one_folder(elsewhere, folder):
            stack.enter_context(locked_folder(elsewhere))
        yield


def _folder_of(file: Path | None) -> Path | None:
    try:
        return Path(os.path.realpath(file)).parent if file else None
    except ValueError:  # no file can have this name: whoever opens it says so
        return None


def _is_one_folder(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there yet, or cannot be looked at: whoever locks it says so
        return False


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Within the block the state folder is there, for root only, and this process has its lock (flock(2)).

    Raises:
        Unavailable: another driver has it, or the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("a")  # a file of this name that is another's keeps what it holds
    except OSError as error:
        raise _unusable(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unavailable(
                f"another macvlan-global uses the state folder {folder}; stop it first, or give another folder with "
                "--state-dir"
            ) from error
        except OSError as error:
            raise _unusable(folder, error) from error
        yield


def _unusable(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(f"the state folder {folder} cannot be used: {error}")
