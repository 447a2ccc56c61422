"""Mirrored table (an informer): a watch keeps a copy of one table of the store in memory.

The watch is opened again when it breaks; every new watch begins with all rows. The copy may lag behind the store.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Batch, ClusterStore, Entry
from macvlan_global.store.records import Record
from macvlan_global.store.table import Row, Table

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 2.0

R = TypeVar("R", bound=Record)


class MirroredTable(Generic[R]):
    """Rows of one table. Keys are those of the store without the table's prefix."""

    def __init__(
        self,
        store: ClusterStore,
        table: Table[R],
        on_change: Callable[[Iterable[str]], None],
        on_resync: Callable[[], None],
    ) -> None:
        """`on_change` gets the keys of changed and deleted rows; `on_resync` is called after all rows were read."""
        self._store = store
        self._table = table
        self._on_change = on_change
        self._on_resync = on_resync
        self.rows: dict[str, Row[R]] = {}
        self.unreadable: set[str] = set()
        """Keys of records that a newer version wrote, or that are damaged."""
        self.synced = False
        """Whether all rows were read at least once."""
        self.live = False
        """Whether the watch is open."""

    async def run(self) -> None:
        """Never returns."""
        wait = FIRST_RETRY_SECONDS
        while True:
            try:
                async for batch in self._store.watch(self._table.prefix):
                    self.live, wait = True, FIRST_RETRY_SECONDS
                    self._take(batch)
            except Unavailable as error:
                log.debug("waiting for the store: %s", error)
            except Exception:
                log.exception("watching %s failed; it is tried again", self._table.prefix)
            self.live = False
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_RETRY_SECONDS)

    def put(self, key: str, row: Row[R] | None) -> None:
        """Take over a row that was just read or written, None if it was deleted, before the watch delivers it."""
        if row:
            self.rows[key] = row
        else:
            self.rows.pop(key, None)

    def _take(self, batch: Batch) -> None:
        if batch.whole:
            self.rows.clear()
            self.unreadable.clear()
        for entry in batch.entries:
            self._take_entry(entry)
        gone = [self._key(key) for key in batch.gone]
        if batch.whole:
            self.synced = True
            self._on_resync()
        else:
            # before deleted rows are dropped: the callee may look at them
            self._on_change([*(self._key(entry.key) for entry in batch.entries), *gone])
        for key in gone:
            self.rows.pop(key, None)
            self.unreadable.discard(key)

    def _take_entry(self, entry: Entry) -> None:
        key = self._key(entry.key)
        row = self._table.read(entry)
        if row:
            self.rows[key] = row
            self.unreadable.discard(key)
        else:
            self.rows.pop(key, None)
            self.unreadable.add(key)

    def _key(self, key: str) -> str:
        return key.removeprefix(self._table.prefix)
