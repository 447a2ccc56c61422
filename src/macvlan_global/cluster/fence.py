"""The fence around the cluster store: this run of the driver writes nothing before it holds the heartbeat of this host.

A clone of a host, machine id and all, has that host's id and so takes its addresses, names and networks for its own.
The heartbeat tells them apart: the key `alive/<id>` is the original's. The fence is around the store and not around
each writer, so that no writer can be forgotten; to all of them it looks like a store that does not answer. The
heartbeat itself stands outside.
"""

from collections.abc import AsyncGenerator

from macvlan_global.cluster.heartbeat import Heartbeat
from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Batch, ClusterStore, Entry, Lease


class FencedStore:
    """A `ClusterStore` that reads as the one inside, and writes only while the heartbeat is this run's.

    Raises (each method that writes):
        Unavailable: the store does not answer; or it does, and this run is not this host in it.
    """

    def __init__(self, store: ClusterStore, heartbeat: Heartbeat) -> None:
        """`heartbeat` writes to `store` itself."""
        self._store = store
        self._heartbeat = heartbeat

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        return await self._store.get(key)

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return await self._store.scan(prefix)

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        await self._pass(key)
        return await self._store.create(key, value)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        await self._pass(entry.key)
        return await self._store.replace(entry, value)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        await self._pass(entry.key)
        return await self._store.delete(entry)

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""
        return await self._store.lease(seconds)

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        await self._pass(key)
        return await self._store.create_with(lease, key, value, over)

    def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch]:
        """See `ClusterStore.watch`."""
        return self._store.watch(prefix, after)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._store.close()

    async def _pass(self, key: str) -> None:
        """Raise unless this run may write."""
        if reason := self._heartbeat.why_not_member():
            await self._store.get(key)  # a store that is away says so in its own words
            raise Unavailable(reason)
