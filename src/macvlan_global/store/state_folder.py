"""The state of a driver on its host: its file, and its folder, locked, which two drivers never use."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from macvlan_global.errors import Unavailable


def state_file(store: str, folder: Path) -> Path | None:
    """The SQLite file of a driver with this store (as in the configuration) and state folder; None if its state is in
    memory. With a cluster store, what is of this host alone is in the state folder."""
    if store == "memory:":
        return None
    return Path(store.removeprefix("sqlite://")) if store.startswith("sqlite:///") else folder / "state.db"


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Within the block the state folder is there, for root only, and this process has its lock (flock(2)).

    Raises:
        Unavailable: another driver has it, or the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
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
