"""What a watch of one table shows, kept at hand: it comes back by itself when the store was away."""

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
    """Rows of a table by what follows its prefix in their keys. They may lag behind the store for a moment."""

    def __init__(
        self, store: ClusterStore, table: Table[R], changed: Callable[[Iterable[str]], None], began: Callable[[], None]
    ) -> None:
        """`changed` is told the keys that came, changed or went; `began` that all was read anew."""
        self._store = store
        self._table = table
        self._changed = changed
        self._began = began
        self.rows: dict[str, Row[R]] = {}
        self.unreadable: set[str] = set()
        self.complete = False
        """Whether all was read at least once."""
        self.live = False
        """Whether changes are being received."""

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

    def learn(self, key: str, row: Row[R] | None) -> None:
        """Know already what was just read or written; None if it is gone. The watch tells the same soon."""
        if row:
            self.rows[key] = row
        else:
            self.rows.pop(key, None)

    def _take(self, batch: Batch) -> None:
        if batch.whole:
            self.rows.clear()
            self.unreadable.clear()
        for entry in batch.entries:
            self._put(entry)
        gone = [self._key(key) for key in batch.gone]
        if batch.whole:
            self.complete = True
            self._began()
        else:
            # told before they are forgotten: a row may say what it is about
            self._changed([*(self._key(entry.key) for entry in batch.entries), *gone])
        for key in gone:
            self.rows.pop(key, None)
            self.unreadable.discard(key)

    def _put(self, entry: Entry) -> None:
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
