"""Feed: follows `names/` in the store and updates the resolver's name table."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import NoReturn

from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.store.follow import PrefixFollower
from macvlan_global.store.ports import Batch, ClusterStore, Entry
from macvlan_global.store.records import NameRecord
from macvlan_global.store.table import Table

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.25
LAST_RETRY_SECONDS = 5.0
AT_ONCE = 200
"""Records that are added before the event loop gets its turn: a few milliseconds."""


class Feed:
    """Mirrors the names of the store. While the store is away, the names that were last read are still answered."""

    def __init__(
        self,
        store: ClusterStore,
        names: Table[NameRecord],
        cache: ResponseCache,
        *,
        on_read: Callable[[], None] = lambda: None,
        retry: float = FIRST_RETRY_SECONDS,
    ) -> None:
        """`run` does the work; a broken watch is opened again after `retry` seconds, then after longer waits.

        `on_read` is called after all names were read again.
        """
        self._names = names
        self._cache = cache
        self._retry = retry
        self._on_read = on_read
        self.on_change: Callable[[Mapping[str, NameRecord], Collection[str]], None] = lambda _put, _gone: None
        """Called with records that were put, by key, and with the keys of those that are gone."""
        self._follower = PrefixFollower(store, names.prefix, self._take, level=logging.WARNING)

    @property
    def following(self) -> bool:
        """Whether the watch is open."""
        return self._follower.live

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        await self._follower.run(first=self._retry, last=LAST_RETRY_SECONDS)

    async def _take(self, batch: Batch) -> None:
        known = self._cache.keys()  # the host's own name is no key of the store
        stored = {each for each in known if each.startswith(self._names.prefix)}
        deleted = stored.difference(each.key for each in batch.entries) if batch.whole else batch.gone
        await self._put(batch.entries)
        await self._delete(deleted)
        if batch.whole:
            self._on_read()
        if batch.whole and not self._cache.synced:
            self._cache.mark_synced()
            log.info("the resolver has the names of %d endpoints", len(self._cache))

    async def _put(self, entries: Iterable[Entry]) -> None:
        rest = iter(entries)
        while some := list(islice(rest, AT_ONCE)):
            rows = {each.key: self._names.read(each) for each in some}
            # a record that was overwritten, by a newer version or by mistake, is no answer any more
            put = {key: row.record for key, row in rows.items() if row}
            gone = [key for key, row in rows.items() if row is None]
            self._cache.update(put=put.items(), deleted=gone)
            self.on_change(put, gone)
            await asyncio.sleep(0)

    async def _delete(self, deleted: Iterable[str]) -> None:
        rest = iter(deleted)
        while some := list(islice(rest, AT_ONCE)):
            self._cache.update(deleted=some)
            self.on_change({}, some)
            await asyncio.sleep(0)
