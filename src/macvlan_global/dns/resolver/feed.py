"""Keeps the resolver's table as the store has it."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from itertools import islice

from macvlan_global.dns.resolver.cache import Answers
from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Batch, ClusterStore, Entry
from macvlan_global.store.records import NameRecord
from macvlan_global.store.table import Table

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.25
LAST_RETRY_SECONDS = 5.0
AT_ONCE = 200
"""Records taken in before others on the event loop get their turn: a few milliseconds."""


class Feed:
    """Follows the names in the store. While the store is away, what was last known stays."""

    def __init__(
        self, store: ClusterStore, names: Table[NameRecord], answers: Answers, *, retry: float = FIRST_RETRY_SECONDS
    ) -> None:
        """`run` does the work; after `retry` seconds, and then after longer waits, it asks again."""
        self._store = store
        self._names = names
        self._answers = answers
        self._retry = retry
        self.on_read: Callable[[], None] = lambda: None
        """Told when all names were read anew."""
        self.following = False
        """Whether changes in the store are being received."""

    async def run(self) -> None:
        """Never returns."""
        wait = self._retry
        while True:
            try:
                # every watch is a generator, which must end with us and not when it is collected
                async with contextlib.aclosing(self._store.watch(self._names.prefix)) as watch:
                    async for batch in watch:
                        await self._take(batch)
                        self.following = True
                        wait = self._retry
            except Unavailable as error:
                if self.following:
                    log.warning("names are not followed, those known stay: %s", error)
            except Exception:  # a bug on this side task must not stop the driver that containers rely on
                log.exception("following names failed; it is tried again")
            self.following = False
            await asyncio.sleep(wait)
            wait = min(wait * 2, max(LAST_RETRY_SECONDS, self._retry))

    async def _take(self, batch: Batch) -> None:
        gone = self._answers.keys().difference(each.key for each in batch.entries) if batch.whole else batch.gone
        await self._put(batch.entries)
        await self._drop(gone)
        if batch.whole:
            self.on_read()
        if batch.whole and not self._answers.known:
            self._answers.all_known()
            log.info("names of %d endpoints are known", len(self._answers))

    async def _put(self, entries: Iterable[Entry]) -> None:
        rest = iter(entries)
        while some := list(islice(rest, AT_ONCE)):
            self._answers.change(put=[read for each in some if (read := self._read(each))])
            await asyncio.sleep(0)

    async def _drop(self, gone: Iterable[str]) -> None:
        rest = iter(gone)
        while some := list(islice(rest, AT_ONCE)):
            self._answers.change(gone=some)
            await asyncio.sleep(0)

    def _read(self, entry: Entry) -> tuple[str, NameRecord] | None:
        """The record of an entry; one that cannot be read, or is a newer version's, is left out."""
        row = self._names.read(entry)
        return (entry.key, row.record) if row else None
