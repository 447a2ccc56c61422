"""Docker's requests for pools and addresses.

RequestAddress takes three steps: `ipam` reserves an address, `address_probe` probes the parent's segment for it, and
then it is kept, or given back and the next one reserved. The reservation comes first, so two requests never probe for
one address. The first candidate is the address that `name_memory` remembers for the container's name.

If the cluster's store is away, a release is kept in the outbox: neither must the engine wait for it, nor the address
leak. A conflict that `ipam` raises gets its words from `holders`, which knows names, and knows the dead.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import nullcontext

from macvlan_global.driver.address_probe import AddressProbe
from macvlan_global.driver.holders import Holders
from macvlan_global.driver.host_addresses import HostAddresses
from macvlan_global.driver.name_memory import NameMemory
from macvlan_global.driver.outbox import Outbox
from macvlan_global.driver.undo import Leftovers
from macvlan_global.errors import Conflict, Exhausted, Internal, Invalid, NotFound, Unavailable
from macvlan_global.ipam.addresses import Addresses, Reservation
from macvlan_global.ipam.cache import ParsedPool
from macvlan_global.ipam.conflicts import AddressTaken, PoolOverlaps
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, key_of, network_of, pool_id, space_of
from macvlan_global.ipam.pools import Pools
from macvlan_global.ipam.remembered_names import Name
from macvlan_global.kernel.ports import Kernel
from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.store.records import AddressRecord, PoolRecord
from macvlan_global.store.table import Row
from macvlan_global.subnets import Address, Subnet, parse_address, parse_subnet, refuse_no_unicast

log = logging.getLogger(__name__)

ADDRESS_SPACE = DEFAULT_SPACE
"""The address space that Docker is told of; others are named by `--ipam-opt space=`."""

PASSED_OVER_MOST = 32
"""Addresses in a row that may be in use on the segment before a request is refused: the engine waits."""


class IpamDriver:
    """Docker's IPAM driver: the four requests of the protocol, as libnetwork sends them."""

    def __init__(  # noqa: PLR0913, PLR0917 - each of another owner
        self,
        pools: Pools,
        addresses: Addresses,
        holders: Holders,
        probe: AddressProbe,
        kernel: Kernel,
        hosts: HostAddresses,
        memory: NameMemory,
        leftovers: Leftovers,
        *,
        outbox: Outbox | None = None,
    ) -> None:
        """`kernel` tells the host's routes, which pools of our choosing avoid; `hosts` the addresses that hosts have;
        `memory` those that containers had; `leftovers` are told of what may be reserved for nobody.

        An `outbox` keeps releases while a store that is shared with other hosts is away.
        """
        self._pools = pools
        self._addresses = addresses
        self._holders = holders
        self._probe = probe
        self._kernel = kernel
        self._hosts = hosts
        self._memory = memory
        self._leftovers = leftovers
        self._outbox = outbox
        self._named = KeyedLock()
        self.missed = asyncio.Event()
        """Set when the engine asks for an address of a pool that nobody has: its network may have lost it."""

    async def request_pool(
        self, subnet: str, allocation_range: str, options: Mapping[str, str], *, ipv6: bool
    ) -> tuple[str, str]:
        """Reserve a pool (`subnet` and range in CIDR form, "" for one of our choosing); its id and its subnet.

        With the option `network` the pool of that network of the cluster is joined instead, which is not refused for
        its subnet: an earlier release may have allowed that.

        Raises:
            Invalid: not a subnet, one of loopback or multicast addresses, a range outside it, an unknown `--ipam-opt`.
            Conflict: it overlaps another pool.
            Exhausted: no subnet is left to choose.
        """
        async with self._leftovers.of(f"reserve pool {subnet or 'of our choosing'}"):
            return await self._request_pool(subnet, allocation_range, options, ipv6=ipv6)

    async def _request_pool(
        self, subnet: str, allocation_range: str, options: Mapping[str, str], *, ipv6: bool
    ) -> tuple[str, str]:
        """See `request_pool`."""
        space, network = space_of(options), network_of(options)
        if not subnet:
            if allocation_range:
                raise Invalid(f"--ip-range {allocation_range} needs a --subnet that it is part of")
            record = await self._pools.reserve_free(space, await self._routes(), ipv6=ipv6)
            return pool_id(record), record.subnet
        wanted = parse_subnet(subnet, "--subnet")
        if not network:
            refuse_no_unicast(wanted, "--subnet")
        part = parse_subnet(allocation_range, "--ip-range") if allocation_range else None
        async with self._holders.named():
            if network:
                record = await self._pools.join(space, wanted, part, network)
            else:
                record = await self._reserve_pool(space, wanted, part)
        return pool_id(record), record.subnet

    async def _reserve_pool(self, space: str, subnet: Subnet, part: Subnet | None) -> PoolRecord:
        """Reserve a pool of this subnet and range, also that of a network which was removed and ends on other hosts.

        `docker compose down` and `up` on one host is such a removal, while the project runs on another host.

        Raises:
            Invalid: the range is outside the subnet.
            PoolOverlaps: a network has this very pool, or another host's request.
        """
        try:
            return await self._pools.reserve(space, subnet, part)
        except PoolOverlaps as error:
            if await self._pools.has_ended(error.other):
                return await self._pools.reserve(space, subnet, part)
            if not await self._holders.ends_elsewhere(error.other.network):
                raise
            return await self._pools.take_over(error.other)

    async def release_pool(self, pool: str) -> None:
        """Give back a pool that no network has; any other is left as it is. Idempotent."""
        async with self._leftovers.of(operation := f"release pool {pool}"):
            try:
                await self._pools.release(pool)
            except Unavailable:
                if self._outbox is None:
                    raise
                self._leftovers.suspect(f"{operation} failed")

    async def request_address(
        self, pool: str, address: str, *, gateway: bool = False, container: str = "", for_host: bool = False
    ) -> str:
        """Reserve an address (bare or CIDR text, "" for one of our choosing); CIDR text of it.

        `container` is the name of the container that it is for, "" if the engine does not say. `for_host` says that
        this host itself wants it.

        Raises:
            NotFound: no such pool.
            Invalid: not an address of the pool, or one that no interface can have.
            Conflict: it has a holder, or is in use on the segment.
            Exhausted: the pool is full, or each address tried is in use on the segment.
            Unavailable: it is reserved, and the engine did not tell in time for which network.
        """
        operation = f"reserve address {address or 'of our choosing'} of pool {pool}"
        # this host asks again and again, also while a cable is out for days
        async with nullcontext() if for_host else self._leftovers.of(operation):
            return await self._request_address(pool, address, gateway=gateway, container=container, for_host=for_host)

    async def _request_address(self, pool: str, address: str, *, gateway: bool, container: str, for_host: bool) -> str:
        """See `request_address`."""
        try:
            found = await self._pools.find(pool)
        except NotFound:
            if not for_host:  # that asks again and again
                self.missed.set()
            raise
        await self._hosts.refresh()
        name = None if gateway else await self._memory.name_on(found.record, container)
        if address:
            wanted = parse_address(address, "--gateway" if gateway else "--ip")
            async with self._named.of(f"{found.record.space} {wanted}"):  # of two at once one is the second
                return await self._request_named(found, wanted, name, gateway=gateway)
        if not gateway:
            await self._memory.prepare(found.record)
        if gateway:  # of a device outside, as a rule, so nothing is probed
            return (await self._addresses.reserve_gateway(found, preferred=self._hosts.gateways())).cidr
        reserved = await self._reserve_remembered(found, name) or await self._reserve_next(found)
        self._memory.note(found.record, reserved.address, name)
        return reserved.cidr

    async def release_address(self, pool: str, address: str) -> None:
        """Give back an address (bare or CIDR text) that is only reserved; a claimed one stays with its holder.

        Idempotent.

        Raises:
            NotFound: malformed pool id.
            Invalid: malformed address.
        """
        space, _ = key_of(pool)
        wanted = parse_address(address, "address")
        if self._pools.end_asking(pool, space, wanted):
            return
        foreign = ""
        async with self._leftovers.of(f"release address {wanted}"):
            try:
                foreign = await self._pools.foreign_network(pool)
                await self._addresses.release(space, wanted, foreign=foreign)
            except Unavailable as error:
                await self._release_later(error, space, wanted, foreign)

    # ---------------------------------------------------------------- inside

    async def _request_named(self, pool: ParsedPool, wanted: Address, name: Name | None, *, gateway: bool) -> str:
        """See `request_address`: this very address."""
        pool.refuse_unusable(wanted, gateway=gateway)
        pool = await self._pools.when_claimed(pool, wanted, gateway=gateway)
        reserved = await self._reserve_named(pool, wanted, gateway=gateway)
        if reserved.is_shared and not gateway and not pool.record.network:
            pool = await self._pools.when_looked(pool, wanted)
            reserved = await self._reserve_named(pool, wanted, gateway=gateway) if pool.record.network else reserved
        self._memory.note(pool.record, reserved.address, name)
        return reserved.cidr

    async def _reserve_named(self, pool: ParsedPool, wanted: Address, *, gateway: bool) -> Reservation:
        # the engine does not say for whom
        for_network = gateway or self._pools.is_for_network(pool.record)
        if not for_network and self._hosts.have(wanted):
            self._hosts.refuse(wanted, is_gateway=await self._addresses.held.is_gateway(pool.record, wanted))
        return await self._reserve(pool, wanted, for_network=for_network)

    async def _routes(self) -> list[Subnet]:
        """Destinations of the host's routes, and subnets of its own addresses."""
        facts = await self._kernel.routes()
        return [*facts.destinations, *(address.network for _, address in facts.addresses)]

    async def _reserve(self, pool: ParsedPool, address: Address, *, for_network: bool) -> Reservation:
        dead: Row[AddressRecord] | None = None
        while True:
            try:
                reserved = await self._addresses.reserve(pool, address, for_network=for_network, dead=dead)
                break
            except AddressTaken as taken:
                dead = await self._holders.refuse_unless_dead(taken)
        if not for_network and (who := await self._probe_or_cancel(reserved)):
            raise Conflict(f"address {address} is in use on the segment: {who}; use another, or remove that device")
        return reserved

    async def _reserve_remembered(self, pool: ParsedPool, name: Name | None) -> Reservation | None:
        """Reserve the address that the last container of this name had; None if there is none, or it is in use, also by
        a device outside."""
        address = self._memory.preferred(pool, name) if name else None
        outside = self._addresses.avoided.known.seen(pool.record.space, pool.subnet.version)
        if address is None or self._hosts.have(address) or int(address) in outside:
            return None
        dead: Row[AddressRecord] | None = None
        while True:
            try:
                reserved = await self._addresses.reserve_kept(pool, address, dead)
                break
            except AddressTaken as taken:
                try:
                    dead = await self._holders.refuse_unless_dead(taken)
                except Conflict:
                    return None
            except Internal:  # what is there cannot be read: nobody can tell who has it
                return None
        who = await self._probe_or_cancel(reserved)
        if who:
            log.warning("address %s is passed over: %s", address, who)
        return None if who else reserved

    async def _reserve_next(self, pool: ParsedPool) -> Reservation:
        passed_over: dict[Address, str] = {}
        while len(passed_over) < PASSED_OVER_MOST:
            try:
                reserved = await self._addresses.reserve_next(pool, passed_over=passed_over)
            except Exhausted:
                if passed_over:
                    break
                raise
            if not (who := await self._probe_or_cancel(reserved)):
                return reserved
            log.warning("address %s is passed over: %s", reserved.address, who)
            passed_over[reserved.address] = who
        address, who = next(iter(passed_over.items()))
        raise Exhausted(
            f"no free address was found in {pool.dynamic}: {len(passed_over)} candidates are in use on the segment, "
            f"such as {address}: {who}; give containers a --ip-range that no other device uses"
        )

    async def _probe_or_cancel(self, reserved: Reservation) -> str:
        """The owner of a reserved address on the segment, "" if there is none. If there is, the address is given back.

        It then cools off like any freed address. A request that is cancelled meanwhile gives it back too.
        """
        if reserved.is_claimed:  # the gateway, say, of a network that is being made here too
            return ""
        who = "cancelled"
        try:
            who = await self._probe.find_owner(reserved.pool.record, reserved.address)
        finally:
            if who:
                await self._cancel(reserved)
        return who

    async def _cancel(self, reserved: Reservation) -> None:
        try:
            await self._addresses.cancel(reserved)
        except Unavailable as error:
            held = reserved.row.record
            await self._release_later(error, held.space, reserved.address, held.network)

    async def _release_later(self, error: Unavailable, space: str, address: Address, foreign: str) -> None:
        """Keep a release in the outbox, of an address that is perhaps reserved in the name of a `foreign` network;
        without an outbox it has failed by this error."""
        if self._outbox is None:
            raise error
        await self._outbox.release_later(space, address, network=foreign)
