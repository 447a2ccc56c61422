"""Holders of addresses and pools as an operator knows them: names of networks, containers and hosts.

`ipam` raises a conflict with the record that is in the way; here it gets its words.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from macvlan_global.driver.endpoint_table import EndpointTable
from macvlan_global.driver.liveness import Liveness
from macvlan_global.errors import Conflict
from macvlan_global.ipam.conflicts import AddressTaken, PoolOverlaps, PoolTaken
from macvlan_global.ipam.owners import Identity
from macvlan_global.store.records import AddressRecord, EndpointRecord
from macvlan_global.store.table import Row, Tables


class Holders:
    """Names and liveness of those who hold addresses."""

    def __init__(
        self,
        tables: Tables,
        endpoints: EndpointTable,
        identity: Identity,
        liveness: Liveness,
        *,
        host_name: Callable[[str], str] = str,
    ) -> None:
        """`host_name` gives the name of another host by its id."""
        self._tables = tables
        self._endpoints = endpoints
        self._identity = identity
        self._liveness = liveness
        self._host_name = host_name

    async def refuse_unless_dead(self, taken: AddressTaken) -> Row[AddressRecord]:
        """The row in the way, if its holder is known to be dead: then it may be replaced.

        Raises:
            Conflict: the holder may be alive; the text names it.
        """
        record = taken.row.record
        if not await self._liveness.is_stale(record):
            raise Conflict(f"address {record.address} is in use {await self._describe(record)}") from taken
        return taken.row

    async def refuse_mac_unless_dead(self, record: AddressRecord) -> None:
        """Check that an endpoint with a MAC that a user chose for another one is known to be dead.

        Raises:
            Conflict: it may be alive; the text names it.
        """
        if not await self._liveness.is_stale(record):
            raise Conflict(
                f"--mac-address {record.mac} is in use on network {await self.network_name(record.network)}: "
                f"{await self._endpoint_name(record)} on host {self._host_named(record.host)} has it; use another"
            )

    @asynccontextmanager
    async def named(self) -> AsyncIterator[None]:
        """Name the holder of a pool in the conflicts raised inside.

        Raises:
            Conflict: instead of PoolOverlaps and PoolTaken; the text names the network and what would work.
        """
        try:
            yield
        except PoolOverlaps as error:
            wanted, other = error.wanted, error.other
            name = other.network and await self.network_name(other.network)
            holder = f"network {name} has it" if name else "a network is being created with it"
            part = f" (range {other.range})" if other.range else ""
            raise Conflict(
                f"--subnet {wanted.subnet} overlaps with {other.subnet}{part} in address space {other.space}: "
                f"{holder}. Use another subnet, a --ip-range of its own for each, or --ipam-opt space=NAME for a VLAN "
                "that reuses addresses"
            ) from error
        except PoolTaken as error:
            name = await self.network_name(error.record.network)
            raise Conflict(f"--subnet {error.record.subnet} is in use by network {name}; use another subnet") from error

    async def ends_elsewhere(self, network: str) -> bool:
        """Whether a network (its id in the cluster) was removed, and is left on other hosts only."""
        if not network or await self._tables.removed.find(network) is None:
            return False
        return all(row.record.shared_id != network for row in await self._tables.networks.scan())

    async def network_name(self, network: str) -> str:
        """A network by its id in the cluster: its name if it is known, else the beginning of its id."""
        if removed := await self._tables.removed.find(network):
            return f"{removed.record.name} (removed, and containers still run on it)"
        for row in await self._tables.networks.scan():
            if row.record.shared_id == network and row.record.name:
                return row.record.name
        known = {row.record.network: row.record.name for row in await self._tables.pools.scan()}
        known |= {row.record.id: row.record.name for row in await self._tables.definitions.scan()}
        return known.get(network) or network[:12]

    async def _describe(self, record: AddressRecord) -> str:
        """The holder of an address, in words that follow "in use"."""
        if record.kind == "reserved" and record.network:
            network = await self.network_name(record.network)
            return f"by a container of network {network} on host {self._host_named(record.host)}"
        if record.kind == "reserved":
            return "by a container that is starting"
        if record.kind == "endpoint":
            return f"by {await self._endpoint_name(record)} on host {self._host_named(record.host)}"
        if record.kind == "host":
            return f"by host {self._host_named(record.host)} itself (-o host_access=true)"
        role = "its gateway" if record.kind == "gateway" else f"its aux address {record.label}"
        return f"by network {await self.network_name(record.network)} as {role}"

    async def _endpoint_name(self, address: AddressRecord) -> str:
        """The container of an endpoint, else the beginning of the endpoint's id."""
        if address.host != self._identity.host:
            row = await self._tables.names.find(address.network, address.host, address.endpoint)
            names = row.record.names if row else []
            return f"container {names[0]}" if names else f"endpoint {address.endpoint[:12]}"
        found = await self._endpoints.find(address.endpoint)
        return describe_endpoint(found) if found else f"endpoint {address.endpoint[:12]}"

    def _host_named(self, host: str) -> str:
        if host == self._identity.host:
            return self._identity.name or host
        return self._host_name(host)


def describe_endpoint(endpoint: EndpointRecord) -> str:
    """An endpoint by its container, else by the beginning of its id."""
    return f"container {endpoint.container}" if endpoint.container else f"endpoint {endpoint.id[:12]}"
