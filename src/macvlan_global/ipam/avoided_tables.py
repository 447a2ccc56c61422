"""The records of `avoided.Avoided`: read when the driver starts, followed in a cluster, and static addresses written.

A static address is remembered when it is given back: from then on it goes to another container only if the pool has no
other. Records are few: the newest of each host, for some weeks, and they go with the last pool that has the address.
Addresses that are remembered by the names of containers are in `remembered_names`.
"""

import contextlib
import time
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address, ip_network
from operator import itemgetter

from macvlan_global.errors import Internal
from macvlan_global.ipam.avoided import Avoided
from macvlan_global.ipam.remembered_names import RememberedNames
from macvlan_global.store.address_keys import unpadded
from macvlan_global.store.ports import Batch, Entry
from macvlan_global.store.records import AddressRecord, PoolRecord, StaticAddressRecord
from macvlan_global.store.table import AVOIDED, Tables

REMEMBERED_MOST = 512
"""The most static addresses that each host remembers for all."""
AGAIN_SECONDS = 86400.0
"""A record is written anew if it is older: so often at most, however often its container restarts."""


class AvoidedTables:
    """Reads and writes what is avoided. One per process."""

    def __init__(
        self,
        tables: Tables,
        avoided: Avoided,
        host: str,
        *,
        shared: bool = False,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host` is the id of this host, whose own addresses come from its kernel and not from here. `shared` says that
        other hosts write the store too."""
        self.is_shared = shared
        """Whether other hosts write the store too: then names are read by network, when they are needed."""
        self._hosts = tables.host_addresses
        self._static = tables.static_addresses
        self._avoided = avoided
        self._host = host
        self._now = now
        self.names = RememberedNames(tables, avoided, host, shared=shared, steady=steady)

    @property
    def known(self) -> Avoided:
        """The avoided addresses, as this process knows them."""
        return self._avoided

    async def load(self) -> None:
        """Read all records, but names of a cluster: those are read by network, when they are needed. Drop the static
        ones of this host that are too many.

        Raises:
            Unavailable: the store does not answer.
        """
        for table in (self._hosts, self._static):
            await self.take(Batch(True, tuple(await table.entries())), table.prefix)
        if not self.is_shared:
            await self.take(Batch(True, tuple(await self.names.entries())), self.names.prefix)
        await self._prune()

    async def take(self, batch: Batch, prefix: str = AVOIDED) -> None:
        """Take a batch of a watch of a prefix into account: of all these, of a table, or of the names of a network."""
        # all is read before anything changes: others have their turn meanwhile
        hosts = [row.record for _, row in await self._hosts.read_all(self._of(self._hosts.prefix, batch)) if row]
        static = [row for _, row in await self._static.read_all(self._of(self._static.prefix, batch)) if row]
        names = await self.names.read(self._of(self.names.prefix, batch))
        if batch.whole:
            if self._hosts.prefix.startswith(prefix):
                known = {each.id: tuple(each.addresses) for each in hosts}
                self._avoided.replace_hosts(known | {self._host: self._avoided.of_host(self._host)})
            if self._static.prefix.startswith(prefix):
                self._avoided.clear_static()
            self.names.begin(prefix)
        else:
            for key in batch.gone:
                self._forget(key)
            for host in hosts:
                if host.id != self._host:
                    self._avoided.set_host(host.id, host.addresses)
        takes = [
            (row.entry.revision, partial(self._avoided.add_static, row.record, row.entry.revision)) for row in static
        ]
        takes += [(row.entry.revision, partial(self.names.take, row)) for row in names]
        # by revision: what was written last was used last, whatever the clocks of the hosts said
        for _, take in sorted(takes, key=itemgetter(0)):
            take()

    async def remember(self, released: AddressRecord) -> None:
        """Remember a static address that is given back.

        Raises:
            Unavailable: the store does not answer.
        """
        found = ip_address(released.address)
        known = self._avoided.static(released.space, found.version).get(int(found))
        now = self._now()
        if known and known.host == self._host and abs(now - known.at) < AGAIN_SECONDS:
            self._avoided.add_static(known)  # here it is the one that was used last
            return
        record = StaticAddressRecord(space=released.space, address=released.address, host=self._host, at=now)
        await self._static.put(record, record.space, record.address)
        self._avoided.add_static(record)
        await self._prune()

    async def forget_pool(self, gone: PoolRecord, others: Iterable[PoolRecord]) -> None:
        """Drop the static addresses of a pool that is gone, but those that other pools of its space have too."""
        subnet = ip_network(gone.subnet)
        left = [ip_network(each.subnet) for each in others]
        for row in await self._static.scan_within(gone.space, subnet):
            address = ip_address(row.record.address)
            if not any(address in each for each in left):
                await self.forget(row.record)

    async def forget_host(self, host: str) -> None:
        """Drop the static addresses that a host remembered: it was removed from the cluster."""
        for row in await self._static.scan():
            if row.record.host == host:
                await self.forget(row.record)

    async def _prune(self) -> None:
        mine = [each for each in self._avoided.all_static() if each.host == self._host]
        mine.sort(key=lambda each: each.at)
        for record in mine[: max(0, len(mine) - REMEMBERED_MOST)]:
            with contextlib.suppress(Internal):  # somebody overwrote it
                await self.forget(record)

    async def forget(self, record: StaticAddressRecord) -> None:
        """Remember a static address no longer.

        Raises:
            Unavailable: the store does not answer.
        """
        row = await self._static.get(record.space, record.address)
        if row is None or row.record.host == record.host:
            if row:
                await self._static.delete(row)
            self._avoided.drop_static(record.space, record.address)

    def static(self) -> list[StaticAddressRecord]:
        """Every static address that is remembered."""
        return self._avoided.all_static()

    @property
    def whole(self) -> tuple[str, str]:
        """The prefixes that are of concern as a whole: of the addresses of hosts, and of static ones."""
        return self._hosts.prefix, self._static.prefix

    def _forget(self, key: str) -> None:
        if key.startswith(self.names.prefix):
            self.names.gone(key)
            return
        if key.startswith(self._hosts.prefix):
            host = key.removeprefix(self._hosts.prefix)
            if host != self._host:
                self._avoided.set_host(host, ())
            return
        space, _, part = key.removeprefix(self._static.prefix).rpartition("/")
        try:
            self._avoided.drop_static(space, unpadded(part))
        except ValueError:  # nobody could read that record either
            return

    def _of(self, prefix: str, batch: Batch) -> list[Entry]:
        return [entry for entry in batch.entries if entry.key.startswith(prefix)]
