"""Metered stores: a store, or a cluster store, whose operations and watches are counted. Only with metrics."""

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from macvlan_global.errors import Unavailable
from macvlan_global.metrics.counts import OperationCounts, StoreCounts, WatchCounts
from macvlan_global.store.ports import Batch, ClusterStore, Entry, Lease, Store

FOLLOWED = frozenset({"alive/", "avoided/", "definitions/", "names/", "removed/"})
"""Prefixes of the tables that a driver of a cluster follows, wholly or some groups of their keys. Other watches come
and go with those who look at the page, and are late for nobody else."""

T = TypeVar("T")


class MeteredStore:
    """A `Store` that does as the one inside, and counts."""

    def __init__(self, store: Store, counts: StoreCounts, *, steady: Callable[[], float] = time.perf_counter) -> None:
        """`steady` gives seconds on a clock that nobody sets."""
        self._inside = store
        self._counts = counts
        self._steady = steady
        operations = counts.operations
        self._get, self._scan, self._create, self._replace, self._delete = (
            operations.setdefault(each, OperationCounts()) for each in ("get", "scan", "create", "replace", "delete")
        )

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        return await self._timed(self._get, self._inside.get(key))

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return await self._timed(self._scan, self._inside.scan(prefix))

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._written(self._create, key, self._inside.create(key, value))

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        work = self._inside.replace(entry, value)
        # Consul changes nothing, and so tells no watch, if the value is the one that is there
        return await self._written(self._replace, entry.key if entry.value != value else "", work)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        if watched := self._watch_of(entry.key):  # a watch may deliver neither what was written nor that it is gone
            watched.waiting.pop(entry.key, None)
        return await self._timed(self._delete, self._inside.delete(entry), may_lose=True)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._inside.close()

    async def _timed(self, operation: OperationCounts, work: Awaitable[T], *, may_lose: bool = False) -> T:
        started = self._steady()
        try:
            answer = await work
        except Unavailable:
            operation.unavailable += 1
            self._counts.is_up = False
            raise
        if may_lose and not answer:
            operation.lost += 1
        else:
            operation.done += 1
        operation.times.add(self._steady() - started)
        self._counts.is_up = True
        return answer

    async def _written(self, operation: OperationCounts, key: str, work: Awaitable[Entry | None]) -> Entry | None:
        """Count a write of a key, and follow it until the watch delivers it; a lost race is no write."""
        watched = self._watch_of(key)
        if watched:
            watched.sent(key, self._steady())  # before: the watch may be faster than the answer
        entry = None
        try:
            entry = await self._timed(operation, work, may_lose=True)
        finally:
            if entry is None and watched:
                watched.waiting.pop(key, None)
        return entry

    def _watch_of(self, key: str) -> WatchCounts | None:
        watches = self._counts.watches
        return watches.get(key[: key.find("/") + 1]) if watches else None


class MeteredClusterStore(MeteredStore):
    """A `ClusterStore` that does as the one inside, and counts."""

    def __init__(
        self, store: ClusterStore, counts: StoreCounts, *, steady: Callable[[], float] = time.perf_counter
    ) -> None:
        """As `MeteredStore`."""
        super().__init__(store, counts, steady=steady)
        self._cluster = store
        self._lease = counts.operations.setdefault("lease", OperationCounts())
        self._create_with = counts.operations.setdefault("create_with", OperationCounts())

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""
        return _MeteredLease(await self._timed(self._lease, self._cluster.lease(seconds)), self._renewed)

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        inside = lease.inside if isinstance(lease, _MeteredLease) else lease
        return await self._written(self._create_with, key, self._cluster.create_with(inside, key, value, over))

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch]:
        """See `ClusterStore.watch`."""
        watched, table = WatchCounts(self._steady()), prefix[: prefix.find("/") + 1]
        if table in FOLLOWED:
            watched = self._counts.watches.setdefault(table, watched)
        watched.begins(prefix, self._steady())
        is_open = lost = False
        try:
            async with contextlib.aclosing(self._cluster.watch(prefix, after)) as batches:
                async for batch in batches:
                    keys = [each.key for each in batch.entries] if watched.waiting else []
                    watched.delivered(prefix, keys, self._steady(), whole=batch.whole, first=not is_open)
                    is_open = True
                    yield batch
                    del batch, keys
        except Exception:  # not the end of its reader, who closes the generator
            lost = True
            raise
        finally:
            watched.ended(prefix, self._steady(), was_open=is_open, lost=lost)

    async def _renewed(self, work: Awaitable[bool]) -> bool:
        return await self._timed(self._lease, work)


class _MeteredLease:
    """A `Lease` whose renewals are counted: in a quiet cluster they alone tell that the store answers."""

    def __init__(self, inside: Lease, count: Callable[[Awaitable[bool]], Awaitable[bool]]) -> None:
        self.inside = inside
        self._count = count

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return await self._count(self.inside.renew())

    async def end(self) -> None:
        """See `Lease.end`."""
        await self.inside.end()
