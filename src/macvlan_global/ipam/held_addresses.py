"""Reads of many addresses: those of a subnet, of a wire, of the subnets that this host uses, and at last of all.

What one host reads by itself, at a start, in a repair, for a full pool, does not grow with the cluster: it is of the
subnets in which the host may have addresses (`subnet_use`).
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from macvlan_global.errors import Internal
from macvlan_global.ipam.owners import is_on_wire_of, network_claims
from macvlan_global.ipam.subnet_use import SpaceSubnet, SubnetUse
from macvlan_global.store.records import AddressRecord, NetworkRecord, PoolRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import Address, Subnet, overlap

SUBNETS_AT_ONCE = 8
"""Subnets that are read at a time."""
GET_AT_ONCE = 16
"""Addresses that are read one by one at a time."""


@dataclass(frozen=True, slots=True)
class OwnAddresses:
    """The addresses that are held in the subnets in which this host may have some, and others; `subnets` is None if
    that is all of the store."""

    records: list[AddressRecord]
    subnets: frozenset[SpaceSubnet] | None


class HeldAddresses:
    """Reads rows of addresses. One per process."""

    def __init__(self, tables: Tables, use: SubnetUse) -> None:
        """`use` tells in which subnets this host may have addresses."""
        self._table = tables.addresses
        self._pools = tables.pools
        self.use = use

    async def all(self) -> list[AddressRecord]:
        """Every address that is held. In a cluster those of all hosts, so only for an operator who asks for them.

        Raises:
            Unavailable: the store does not answer.
        """
        return [row.record for row in await self._table.scan()]

    async def own(
        self,
        besides: Iterable[SpaceSubnet] = (),
        each_of: Callable[[Collection[SpaceSubnet]], Iterable[tuple[str, str]]] = lambda _seen: (),
    ) -> OwnAddresses:
        """The addresses of every subnet in which this host may have some, and of others besides; and single ones
        (space, and bare address) that `each_of` gives when it knows of the subnets.

        Raises:
            Unavailable: the store does not answer.
        """
        if not self.use.is_kept:
            return OwnAddresses(await self.all(), None)
        subnets = frozenset({*await self.use.own(), *besides})
        whole, single = await asyncio.gather(self.within_each(subnets), self.get_each(each_of(subnets)))
        return OwnAddresses(whole + single, subnets)

    async def within(self, space: str, subnet: str) -> list[Row[AddressRecord]]:
        """The rows of a subnet (CIDR).

        Raises:
            Unavailable: the store does not answer.
        """
        return await self._table.scan_within(space, ip_network(subnet))

    async def reserved(self, subnets: Iterable[SpaceSubnet], host: str, network: str) -> list[Row[AddressRecord]]:
        """The reservations of a host in nobody's name in some subnets, and those in the name of `network`.

        Raises:
            Unavailable: the store does not answer.
        """
        found = []
        for space, subnet in sorted(set(subnets)):
            for row in await self.within(space, subnet):
                held = row.record
                ends = held.network == network if held.network else held.host == host
                if (held.subnet, held.kind) == (subnet, "reserved") and ends:
                    found.append(row)
        return found

    async def within_each(self, subnets: Collection[SpaceSubnet]) -> list[AddressRecord]:
        """The addresses of some subnets, each once: subnets may overlap.

        Raises:
            Unavailable: the store does not answer.
        """
        rows = await self._rows({(space, ip_network(subnet)) for space, subnet in subnets})
        return [row.record for row in rows]

    async def get_each(self, addresses: Iterable[tuple[str, str]]) -> list[AddressRecord]:
        """The records of some addresses (space, and bare address), as far as there are any that can be read.

        Raises:
            Unavailable: the store does not answer.
        """
        free = asyncio.Semaphore(GET_AT_ONCE)

        async def get(space: str, address: str) -> Row[AddressRecord] | None:
            async with free:
                try:
                    return await self._table.get(space, address)
                except Internal:
                    return None

        rows = await asyncio.gather(*(get(*each) for each in addresses))
        return [row.record for row in rows if row]

    async def with_mac(self, network: NetworkRecord, mac: str, endpoint: str) -> list[Row[AddressRecord]]:
        """The addresses of other endpoints on the wire of a network, on all hosts, with a MAC. Reads the addresses of
        its subnets, and of those that overlap them.

        Raises:
            Unavailable: the store does not answer.
        """
        if not self.use.is_kept:
            return []
        ours = {(each.space, each.prefix) for each in network.subnets if each.space}
        pools = {(row.record.space, ip_network(row.record.subnet)) for row in await self._pools.scan()}
        beside = {each for each in pools if any(each[0] == space and overlap(each[1], mine) for space, mine in ours)}
        found = [row for row in await self._rows(ours | beside) if row.record.mac == mac]
        found = [row for row in found if row.record.kind == "endpoint" and row.record.endpoint != endpoint]
        return [row for row in found if is_on_wire_of(row.record, network)]

    async def is_gateway(self, pool: PoolRecord, address: Address) -> bool:
        """Whether the network of a pool claims an address as its gateway."""
        row = await self._table.get(pool.space, str(address))
        return row is not None and bool(pool.network) and is_gateway_claim(row.record, pool.network)

    async def is_static(self, space: str, address: Address) -> bool:
        """Whether the user of a container chose an address that is reserved or in use."""
        row = await self._table.get(space, str(address))
        return row is not None and row.record.static

    async def _rows(self, subnets: Collection[tuple[str, Subnet]]) -> list[Row[AddressRecord]]:
        free = asyncio.Semaphore(SUBNETS_AT_ONCE)

        async def read(space: str, subnet: Subnet) -> list[Row[AddressRecord]]:
            async with free:
                return await self._table.scan_within(space, subnet)

        parts = await asyncio.gather(*(read(*each) for each in _widest(subnets)))
        return [row for rows in parts for row in rows]


def is_gateway_claim(record: AddressRecord, network: str) -> bool:
    """Whether a network claims an address as its gateway, whoever has it besides."""
    return any((each.kind, each.network) == ("gateway", network) for each in network_claims(record))


def _widest(subnets: Collection[tuple[str, Subnet]]) -> list[tuple[str, Subnet]]:
    """Subnets without those that others of their space hold."""
    lengths = {subnet.prefixlen for _, subnet in subnets}

    def is_held(space: str, subnet: Subnet) -> bool:
        wider = (subnet.supernet(new_prefix=length) for length in lengths if length < subnet.prefixlen)
        return any((space, each) in subnets for each in wider)

    kept = [each for each in subnets if not is_held(*each)]
    return sorted(kept, key=lambda each: (each[0], each[1].version, each[1].network_address.packed))
