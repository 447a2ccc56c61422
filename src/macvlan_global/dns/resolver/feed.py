"""Feed: follows the names of some networks in the store, each by a watch of its own, and updates the name table."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from itertools import islice
from typing import NoReturn

from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.names import RowKey, row_key
from macvlan_global.store.follow_groups import GroupsFollower
from macvlan_global.store.ports import Batch, ClusterStore, Entry
from macvlan_global.store.records import NameRecord
from macvlan_global.store.table import Table

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.25
LAST_RETRY_SECONDS = 5.0
AT_ONCE = 200
"""Records that are added before the event loop gets its turn: a few milliseconds."""


class Feed:
    """Mirrors the names of the networks that are wanted. While the store is away, the names that were last read are
    still answered."""

    def __init__(
        self,
        store: ClusterStore,
        names: Table[NameRecord],
        cache: ResponseCache,
        *,
        on_read: Callable[[], None] = lambda: None,
        on_hosts: Callable[[set[str]], None] = lambda _hosts: None,
        retry: float = FIRST_RETRY_SECONDS,
    ) -> None:
        """`run` does the work; a broken watch is opened again after `retry` seconds, then after longer waits.

        `on_read` is called after all names of a network that was followed were read again, `on_hosts` with the ids of
        the hosts whose names come.
        """
        self._names = names
        self._cache = cache
        self._retry = retry
        self._on_read = on_read
        self._on_hosts = on_hosts
        self._groups = GroupsFollower(
            store, lambda network: names.key(network) + "/", self._take, self._forget, level=logging.WARNING
        )

    @property
    def following(self) -> bool:
        """Whether the watches of all networks that are wanted are open."""
        return self._groups.live

    def want(self, networks: Iterable[str]) -> None:
        """Follow these networks (ids in the cluster), and no others after a while."""
        self._groups.want(networks)
        self._tell_awaited()

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        await self._groups.run(first=self._retry, last=LAST_RETRY_SECONDS)

    def _tell_awaited(self, read: str = "") -> None:
        """Tell which networks are awaited; `read` was just read."""
        awaited = {each for each in self._groups.wanted if each != read and not self._groups.has_read(each)}
        self._cache.set_awaited(frozenset(awaited))

    async def _take(self, network: str, batch: Batch) -> None:
        surplus = self._surplus(network, batch)
        await self._put(batch.entries)
        await self._remove(network, surplus)
        if batch.whole and self._groups.has_read(network):
            self._on_read()
        elif batch.whole:
            self._tell_awaited(network)
            log.debug("the resolver has the names on network %s, %d in all", network[:12], len(self._cache))

    async def _forget(self, network: str) -> None:
        self._tell_awaited()  # it may be wanted again meanwhile
        await self._remove(network, self._cache.keys_of(self._names.key(network)))

    def _surplus(self, network: str, batch: Batch) -> set[RowKey]:
        if not batch.whole:
            return {row_key(each) for each in batch.gone}
        return self._cache.keys_of(self._names.key(network)).difference(row_key(each.key) for each in batch.entries)

    async def _put(self, entries: Iterable[Entry]) -> None:
        rest = iter(entries)
        while some := list(islice(rest, AT_ONCE)):
            rows = [(each.key, self._names.read(each)) for each in some]
            # a record that was overwritten, by a newer version or by mistake, is no answer any more
            self._cache.update(
                put=[(key, row.record) for key, row in rows if row], deleted=[key for key, row in rows if row is None]
            )
            self._on_hosts({row.record.host for _, row in rows if row})
            await asyncio.sleep(0)

    async def _remove(self, network: str, keys: Iterable[RowKey]) -> None:
        rest = iter(keys)
        while some := list(islice(rest, AT_ONCE)):
            self._cache.remove(self._names.key(network), some)
            await asyncio.sleep(0)
