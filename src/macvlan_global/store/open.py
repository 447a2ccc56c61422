"""From `--store` to a store."""

from pathlib import Path

from macvlan_global.errors import Invalid
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Store
from macvlan_global.store.sqlite import open_sqlite

KINDS = "sqlite (the default), sqlite:///PATH or memory:"


def open_store(url: str, state_dir: Path) -> Store:
    """Open the store that `url` names; "sqlite" is the file state.db in the state folder.

    Raises:
        Invalid: no such kind of store.
        Unavailable: it cannot be opened.
    """
    if url in {"", "sqlite", "sqlite:"}:
        return open_sqlite(state_dir / "state.db")
    if url.startswith("sqlite://") and url.removeprefix("sqlite://").startswith("/"):
        return open_sqlite(Path(url.removeprefix("sqlite://")))
    if url == "memory:":
        return MemoryStore()
    raise Invalid(f"--store {url.partition('://')[0]!r} is not a kind of store; use {KINDS}")
