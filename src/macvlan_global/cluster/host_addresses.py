"""Addresses that hosts have themselves, as they tell each other: so no host gives another one's address to a container.

Each host writes its own row when its addresses change, and follows the rows of the others, the static addresses that
are remembered for all, and those that stay with names on the networks that its containers are on. The row outlives the
host: a host that boots has its address again.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from macvlan_global.cluster.heartbeat import Heartbeat
from macvlan_global.ipam.avoided_tables import AvoidedTables
from macvlan_global.store.follow import PrefixFollower
from macvlan_global.store.follow_groups import GroupsFollower
from macvlan_global.store.ports import Batch, ClusterStore
from macvlan_global.store.records import HostAddress, HostAddressesRecord
from macvlan_global.store.table import Tables
from macvlan_global.tasks import forever

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Interval at which a host looks whether its addresses changed, which costs it one system call."""


class HostAddressExchange:
    """Publishes this host's own addresses, and follows those of the others. One per process."""

    def __init__(  # noqa: PLR0913 - each of another owner
        self,
        store: ClusterStore,
        tables: Tables,
        heartbeat: Heartbeat,
        avoided: AvoidedTables,
        own: Callable[[], Awaitable[tuple[HostAddress, ...]]],
        *,
        every: float = LOOK_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`own` gives the addresses that this host has now; every `every` seconds they are compared with the row."""
        self._tables = tables
        self._member = heartbeat.member
        self._heartbeat = heartbeat
        self._own = own
        self._every = every
        self._now = now
        self._written: tuple[HostAddress, ...] | None = None  # what the store surely has
        self._writing: tuple[HostAddress, ...] | None = None  # what was written last, answered or not
        self._losses = 0
        self._avoided = avoided
        names = avoided.names
        self._followers = [PrefixFollower(store, each, partial(self._take, each)) for each in avoided.whole]
        self._names = GroupsFollower(store, names.prefix_of, self._take_names, self._forget_names)

    def want(self, networks: Iterable[str]) -> None:
        """Follow the addresses that stay with names on these networks (ids in the cluster), and no others after a
        while."""
        self._avoided.names.wanted = frozenset(networks)
        self._names.want(self._avoided.names.wanted)

    async def run(self) -> None:
        """Publish and follow until cancelled. A store that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._followers:
                tasks.create_task(each.run())
            tasks.create_task(self._names.run())
            tasks.create_task(forever("publishing the addresses of this host", self._look, first=1.0, last=self._every))

    async def publish(self) -> None:
        """Write this host's own addresses, if they are not those that it wrote last. Not before it is in the cluster:
        until then another host may live under its id.

        Raises:
            Unavailable: the store does not answer.
        """
        own = await self._own()
        if own == self._written or not self._heartbeat.has_entered:
            return
        record = HostAddressesRecord(id=self._member.id, name=self._member.name, addresses=list(own), at=self._now())
        losses, self._writing = self._losses, own
        await self._tables.host_addresses.put(record, record.id)
        if losses == self._losses:  # else the store was restored, and may have forgotten this meanwhile
            self._written = own

    async def _take_names(self, network: str, batch: Batch) -> None:
        await self._avoided.take(batch, self._avoided.names.prefix_of(network))

    async def _forget_names(self, network: str) -> None:
        self._avoided.names.end(network)

    async def _take(self, prefix: str, batch: Batch) -> None:
        """Take a batch into account, and publish anew if the store lost this host's own row, or somebody changed it."""
        key = self._tables.host_addresses.key(self._member.id)
        rows = [self._tables.host_addresses.read(entry) for entry in batch.entries if entry.key == key]
        changed = any(row is None or tuple(row.record.addresses) != self._writing for row in rows)
        lost = batch.whole and not rows and key.startswith(prefix)
        if changed or key in batch.gone or lost:
            self._written = None
            self._losses += 1
        await self._avoided.take(batch, prefix)

    async def _look(self) -> None:
        await self.publish()
        await asyncio.sleep(self._every)
