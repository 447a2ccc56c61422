"""Reserve, claim and release pools on a store. States: see `macvlan_global.ipam`.

Pools of one address space may overlap, as with Docker's own macvlan driver: their networks are on one wire, and an
address has one holder there. Only the very same subnet and range is another network's: see ADR 30.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import ip_network

import msgspec

from macvlan_global.errors import Conflict, Exhausted, Internal, NotFound, Unavailable
from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.auto_pool import DEFAULT_AUTO_POOLS, AutoPool, candidates
from macvlan_global.ipam.cache import CREATE_WINDOW_SECONDS, OwnClaim, ParsedPool, PoolCache, PoolFill
from macvlan_global.ipam.conflicts import PoolOverlaps, PoolTaken, several_at_once
from macvlan_global.ipam.engine_looks import EngineLooks
from macvlan_global.ipam.held_addresses import OwnAddresses
from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pool_id import key_of, pool_id
from macvlan_global.ipam.subnet_use import SpaceSubnet
from macvlan_global.store.records import AddressRecord, PoolRecord, SubnetRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import Address, Subnet, dynamic_window

log = logging.getLogger(__name__)

ENDING_SECONDS = 2.0
"""The longest that a request waits until the engine tells that a network of another driver is gone, whose pool it has
released: it does so before `docker network rm` returns."""


class Pools:
    """Pools of every address space. One per process."""

    def __init__(
        self,
        tables: Tables,
        cache: PoolCache,
        addresses: Addresses,
        identity: Identity,
        *,
        auto_pools: Sequence[AutoPool] = DEFAULT_AUTO_POOLS,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`addresses` are those in these pools; they go with a pool. `cache` is the one that they use."""
        self._table = tables.pools
        self._networks = tables.networks
        self._cache = cache
        self._addresses = addresses
        self._identity = identity
        self._auto_pools = auto_pools
        self._now = now
        self._reserved_since: dict[str, tuple[int, float]] = {}  # of other hosts: revision and first sight, by key
        self._ending: dict[str, asyncio.Event] = {}  # networks of other drivers whose pools the engine has released
        self.looks = EngineLooks()
        self.requested = cache.requested
        """Set when this host has reserved a pool, or an address of one that may be another driver's network's."""

    async def load(self) -> None:
        """Read into the cache what the store has of this host's subnets. Call once, before anything else.

        Raises:
            Unavailable: the store does not answer; then each thing is read when it is needed.
        """
        await self._addresses.avoided.load()
        self._cache.load(await self.all(), (await self._addresses.held.own()).records)

    async def read_anew(self, pools: Iterable[PoolRecord]) -> None:
        """Learn the addresses of some pools that other hosts took or gave back since.

        Raises:
            Unavailable: the store does not answer.
        """
        for each in pools:
            await self._addresses.learn(each)

    async def all(self) -> list[PoolRecord]:
        """Every pool, read from the store."""
        return [row.record for row in await self._table.scan()]

    async def find(self, pool: str) -> ParsedPool:
        """The pool with this id.

        Raises:
            NotFound: there is none.
        """
        if known := self._cache.get(pool):
            return known
        row = await self._table.get(*key_of(pool))
        found = await self._remember(row.record, None) if row else self._cache.get(pool)
        if found is None:
            raise NotFound(
                f"there is no pool {pool!r}; its network was removed, or was created with another state folder"
            )
        return found

    async def foreign_network(self, pool: str) -> str:
        """The network of another driver that has the pool with this id; "" if none has it, or nobody can read whose it
        is: then repair gives back what such a network's container had."""
        try:
            record = (await self.find(pool)).record
        except (NotFound, Internal):
            return ""
        return record.network if record.driver else ""

    def usage(self, record: PoolRecord) -> tuple[int, int]:
        """Usage of a pool's dynamic window: addresses held as far as is known, and its size."""
        return self._cache.usage(record)

    def fills(self, subnets: Iterable[SubnetRecord]) -> list[PoolFill]:
        """Counts of the dynamic windows of networks' subnets, without a question to the store."""
        windows = []
        for each in subnets:
            first, stop = dynamic_window(each.prefix, each.range_prefix)
            windows.append((each.space, each.prefix.version, first, stop))
        return self._cache.fills(windows)

    def count_held(self) -> int:
        """Count of all addresses that are held, as far as is known here; without a cluster that is all of them."""
        return self._cache.count()

    async def reserve(self, space: str, subnet: Subnet, part: Subnet | None = None) -> PoolRecord:
        """Reserve a pool of this subnet, and of this range of it. A repeated request gets the same answer.

        Raises:
            Invalid: the range is outside the subnet.
            PoolOverlaps: a network has this very pool, or another host's request.
        """
        record = self._record(space, subnet, part)
        seen = self._cache.get(pool_id(record))
        while not await self._create(record):
            existing = await self._table.get(*key_of(pool_id(record)))
            if existing and (existing.record.network or not self._is_abandoned(existing)):
                raise PoolOverlaps(record, existing.record)
            if existing and await self._table.replace(existing, record):
                break
        return await self._reserved(record, seen)

    async def take_over(self, removed: PoolRecord) -> PoolRecord:
        """Reserve the pool of a network that was removed from the cluster while containers still run on it elsewhere.

        Their addresses stay claimed: one address space has one holder of each address, whichever pool it is from.

        Raises:
            PoolOverlaps: its record changed meanwhile.
        """
        part = ip_network(removed.range) if removed.range else None
        record = self._record(removed.space, ip_network(removed.subnet), part)
        seen = self._cache.get(pool_id(record))
        row = await self._table.get(*key_of(pool_id(removed)))
        if row and (row.record != removed or await self._table.replace(row, record) is None):
            raise PoolOverlaps(record, row.record)
        if row is None and not await self._create(record):
            raise PoolOverlaps(record, removed)
        return await self._reserved(record, seen)

    async def join(self, space: str, subnet: Subnet, part: Subnet | None, network: str) -> PoolRecord:
        """Use the pool that a network of the cluster has, or has lost: a store restored from a copy may be older.

        Raises:
            Invalid: the range is outside the subnet.
            PoolOverlaps: another network has this very pool.
        """
        record = self._record(space, subnet, part, network)
        seen = self._cache.get(pool_id(record))
        while not await self._create(record):
            existing = await self._table.get(*key_of(pool_id(record)))
            if existing and existing.record.network == record.network:
                break
            if existing:
                raise PoolOverlaps(record, existing.record)
        await self._remember(record, seen)
        self._cache.begin_joining(record)
        return record

    async def reserve_free(self, space: str, routes: Sequence[Subnet], *, ipv6: bool) -> PoolRecord:
        """Reserve a pool from the default address pools, apart from every other pool and from `routes`.

        Raises:
            Exhausted: no subnet is left to choose.
        """
        # other hosts make and remove pools too, so the store is asked for them
        avoid = [*routes, *(ip_network(each.subnet) for each in await self.all())]
        for candidate in candidates(self._auto_pools, avoid, version=6 if ipv6 else 4):
            record = msgspec.structs.replace(self._record(space, candidate, None), auto=True)
            seen = self._cache.get(pool_id(record))
            if await self._create(record):  # else another host chose it at the same time
                return await self._reserved(record, seen)
        raise Exhausted(
            f"no free IPv{6 if ipv6 else 4} subnet is left to choose; give one with --subnet, or more room in "
            "[[auto_pools]] of the configuration"
        )

    async def release(self, pool: str) -> None:
        """Give back the pool with this id if no network has it; otherwise do nothing. Idempotent.

        That of another driver's network stays until `end_foreign`: a repeated release may meet the next network's.
        """
        self._cache.end_joining(pool=pool)
        row = await self._table.get(*key_of(pool))
        if row is None:
            self._cache.forget(pool)
        elif row.record.driver and row.record.host == self._identity.host:
            self._ending.setdefault(row.record.network, asyncio.Event())
        elif row.record.network or row.record.host != self._identity.host:
            log.debug("pool %s stays: network %s or host %s has it", pool, row.record.network[:12], row.record.host)
        else:
            await self._drop(row, with_reserved=True)

    def foreign(self) -> set[str]:
        """Networks of other drivers of this host that have pools, as far as is known here: ids of the engine."""
        return self._ending.keys() | self._cache.foreign()

    @property
    def ending(self) -> Collection[str]:
        """Those whose pools the engine has released, and of whose end it has not told yet."""
        return self._ending.keys()

    async def end_foreign(self, network: str) -> None:
        """Let go of all that a network of another driver had: the engine says that it is gone. Idempotent."""
        await self.drop_network(network, ends_here=True)
        self._tell_ended(network)

    async def has_ended(self, pool: PoolRecord) -> bool:
        """Whether the network of a pool is one of another driver that is just going: then it is gone when this returns.
        The engine releases its pool first, and tells of its end a moment later."""
        if ending := self._ending.get(pool.network):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ending.wait(), ENDING_SECONDS)
            return ending.is_set()
        return False

    async def claim(self, subnet: Subnet, network: str) -> PoolRecord:
        """Claim the reserved pool with this subnet for a network. Idempotent.

        The protocol does not say which of several spaces is meant: it is the one that was just reserved.

        Raises:
            PoolTaken: another network has it.
            Conflict: nobody reserved it, or the choice is not clear.
        """
        rows = [row for row in await self._table.scan() if row.record.subnet == str(subnet)]
        mine = [row for row in rows if row.record.network == network]
        if mine:  # perhaps since an earlier try, whose answer was lost
            return self._cache.remember(mine[0].record).record
        own = [row for row in rows if not row.record.network and row.record.host in {"", self._identity.host}]
        fresh = [row for row in own if self._cache.is_just_reserved(row.record)] or own
        if len(fresh) > 1:
            raise several_at_once(str(subnet))
        if not fresh and (held := [row.record for row in rows if row.record.network]):
            raise PoolTaken(held[0])
        if not fresh:  # a release that came late, or of another create of the same subnet, which failed
            raise Conflict(f"--subnet {subnet} was released while the network was being created; try again")
        claimed = msgspec.structs.replace(fresh[0].record, network=network)
        if await self._table.replace(fresh[0], claimed) is None:
            return await self.claim(subnet, network)
        self._cache.remember(claimed)
        self.looks.tell()
        return claimed

    def is_any_unclaimed(self) -> bool:
        """Whether a pool was reserved here a while ago and no network has claimed it yet, or an address of one that is
        another driver's network's by now is reserved in nobody's name still; or a request waits to know of its pool."""
        nameless = any(self._cache.is_just_reserved(pool) for pool, _ in self.nameless())
        return nameless or self.looks.are_awaited or self._cache.is_any_reserved()

    def unclaimed(self) -> list[PoolRecord]:
        """Pools of this host of which it is to be found out whether another driver's network has them: those that no
        network has claimed yet, and those with nameless addresses."""
        return [*self._cache.unclaimed(), *dict.fromkeys(pool for pool, _ in self.nameless())]

    def nameless(self) -> list[tuple[PoolRecord, Address]]:
        """Addresses that containers of networks of other drivers may have got before it was known whose pools they are
        from, each with the pool as it is now. They are reserved in nobody's name still."""
        return self._cache.nameless()

    def end_asking(self, pool: str, space: str, address: Address) -> bool:
        """The pool with this id releases an address: whether that is reserved through another pool, and stays."""
        return self._cache.end_asking(pool, space, address)

    async def when_claimed(self, pool: ParsedPool, address: Address, *, gateway: bool) -> ParsedPool:
        """The pool as it is when an address of it, which is asked for by name, can be judged.

        A network that is being made asks for each of its aux addresses once. If one was asked for already, and no
        network has that pool, then the request comes twice, or one of the two is of a container on a network of another
        driver that was just made. The engine tells. A `gateway` is for a network, and may be asked for twice.

        Raises:
            Unavailable: the engine did not tell in time.
            NotFound: the pool is gone meanwhile.
        """
        if not self._cache.is_open(pool, address, gateway=gateway):
            return pool
        return await self._look(pool, address, lambda: self._cache.is_open(pool, address, gateway=gateway))

    async def when_looked(self, pool: ParsedPool, address: Address) -> ParsedPool:
        """The pool as it is when the engine was asked whether a network of another driver has it: an address of it that
        other networks claim is asked for, which such a network's container does not get. If the engine does not tell in
        time it is as it was: mostly a network is being made, for which no request may hang.

        Raises:
            NotFound: the pool is gone meanwhile.
        """
        if self.looks.are_in_vain:
            return pool
        with contextlib.suppress(Unavailable):
            return await self._look(pool, address, lambda: True)
        return pool

    def is_for_network(self, record: PoolRecord) -> bool:
        """Whether an address of a pool that is asked for by name is for a network, and for no container: the network is
        being made on this host just now, and none of its containers can ask before.

        A request for the pool may come once more when the network is made: then its containers can.
        """
        joined = self._cache.joined_by(record)
        if joined and any(each.shared_id == joined and each.subnets for each in self._networks.kept):
            return False
        return bool(joined) or not record.network

    def joined(self, subnets: Sequence[str]) -> str:
        """The network of the cluster whose pools with these subnets this host is joining just now; "" if none."""
        return self._cache.joined(subnets)

    def end_joining(self, network: str) -> None:
        """The network is made here: from now on its gateway and aux addresses are as taken as any."""
        self._cache.end_joining(network=network)

    def disown_others(self, networks: Collection[str]) -> None:
        """This host has no networks but these (ids in the cluster). See `PoolCache.disown_others`."""
        self._cache.disown_others(networks)

    def claims_of_containers(self) -> list[OwnClaim]:
        """The addresses that this host knows to be its containers'."""
        return self._cache.claims_of_containers()

    def disown_lost(self, claims: Iterable[OwnClaim], own: OwnAddresses, used: Collection[Address]) -> None:
        """Take into account that this host has lost some of these claims: neither the store has them, as it was read
        afterwards (`own`), nor are they `used` by endpoints of this host or its engine, which were read still later.
        The store was restored from an older copy, and the container is gone: nobody gives such an address back."""
        held = {(each.space, each.address) for each in own.records}
        lost = [each for each in claims if each.address not in used and (each.space, str(each.address)) not in held]
        seen = None if own.subnets is None else [(space, ip_network(subnet)) for space, subnet in own.subnets]
        for claim in lost:  # few, if any
            if seen is None or any(space == claim.space and claim.address in subnet for space, subnet in seen):
                self._cache.disown_claim(claim)

    async def drop_network(
        self, network: str, *, if_empty: bool = False, ends_here: bool = False, subnets: Iterable[SpaceSubnet] = ()
    ) -> bool:
        """Let go of every pool and address that a network and its endpoints claim; whether it was done. Idempotent.

        Its addresses are looked for in the subnets of its pools, and in `subnets`: its pools may be lost, or another
        network's by now. With `if_empty` nothing is done while a container, of any host, has an address of it.

        `ends_here` says that this host's engine has it no more, so nothing is starting on it: what this host has
        reserved there goes in any case. The engine forgets the IPv4 address of a container whose IPv6 address was
        refused. What others have reserved may be for containers that are starting: each host gives back its own.
        """
        rows = [row for row in await self._table.scan() if row.record.network == network]
        there = {*subnets, *((row.record.space, row.record.subnet) for row in rows)}
        reserved = await self._reserved_in(there, network) if ends_here else []
        is_done = await self._addresses.drop_network(network, there, if_empty=if_empty)
        if is_done:
            for row in rows:
                await self._drop(row)
            self._cache.forget_network(network)  # another host may have been faster
            await self._addresses.avoided.names.forget_network(network)
        else:
            self._cache.disown_network(network)
        await self._drop_reserved(reserved, network)
        return is_done

    async def give_back(self, record: PoolRecord) -> bool:
        """Delete exactly this record, and the reservations in it; False if it changed meanwhile."""
        row = await self._table.get(*key_of(pool_id(record)))
        given_back = row is not None and row.record == record and await self._drop(row, with_reserved=True)
        if given_back:
            self._tell_ended(record.network)
        return given_back

    async def restore(self, record: PoolRecord) -> None:
        """Write a pool of a network anew that the store lost. Idempotent.

        Raises:
            PoolOverlaps: another network has this very pool.
        """
        seen = self._cache.get(pool_id(record))
        while not await self._create(record):
            row = await self._table.get(*key_of(pool_id(record)))
            if row and not row.record.network:  # reserved before the loss, or by a host that saw it free since
                if await self._table.replace(row, record):
                    break
            elif row and row.record.network != record.network:
                self._cache.remember(row.record)  # it is nobody's no more
                raise PoolOverlaps(record, row.record)
            elif row:
                record = row.record
                break
        await self._remember(record, seen)
        self.looks.tell()
        self.requested.set()  # addresses of it may be nameless

    # ---------------------------------------------------------------- inside

    def _record(self, space: str, subnet: Subnet, part: Subnet | None, network: str = "") -> PoolRecord:
        dynamic_window(subnet, part)  # refuses a range outside the subnet
        return PoolRecord(
            space=space,
            subnet=str(subnet),
            range=str(part) if part and part != subnet else "",
            network=network,
            host=self._identity.host,
            at=self._now(),
        )

    async def _look(self, pool: ParsedPool, address: Address, is_open: Callable[[], bool]) -> ParsedPool:
        self.requested.set()
        if not await self.looks.wait_while(is_open):
            raise Unavailable(
                f"address {address} is reserved, and the engine did not tell for which network; try again"
            )
        return await self.find(pool.id)

    def _tell_ended(self, network: str) -> None:
        if ending := self._ending.pop(network, None):
            ending.set()

    def _is_abandoned(self, row: Row[PoolRecord]) -> bool:
        """Whether a reservation is this host's, or was seen unchanged for so long that nothing came of it.

        The time in the record does not count: the clock of the host that wrote it may be off by years.
        """
        if row.record.host in {"", self._identity.host}:
            return True
        revision, since = self._reserved_since.get(row.entry.key, (-1, 0.0))
        if revision != row.entry.revision:
            since = self._cache.steady()
            self._reserved_since[row.entry.key] = row.entry.revision, since
        return self._cache.steady() - since > CREATE_WINDOW_SECONDS

    async def _create(self, record: PoolRecord) -> bool:
        """Create a pool; False if this very pool is there."""
        return await self._table.create(record, *key_of(pool_id(record))) is not None

    async def _reserved(self, record: PoolRecord, seen: ParsedPool | None) -> PoolRecord:
        """Take into account that this pool was reserved. See `_remember`."""
        if self._cache.get(pool_id(record)) is seen:
            self._cache.reserved(record)
        else:
            await self._remember(record, seen)
        self.requested.set()
        return record

    async def _remember(self, record: PoolRecord, seen: ParsedPool | None) -> ParsedPool | None:
        """Keep a pool as it was read or written, if what is known of it is still what was `seen` before. Otherwise the
        answer came late, and a network may have the pool by now: it is read anew. Without a row nothing changes."""
        pool = pool_id(record)
        while (known := self._cache.get(pool)) is not seen:
            if known and known.record == record:
                return known
            row = await self._table.get(*key_of(pool))
            if row is None:
                return known
            seen, record = known, row.record
        return self._cache.remember(record)

    async def _drop(self, row: Row[PoolRecord], *, with_reserved: bool = False) -> bool:
        """Delete a pool, perhaps with what is reserved in it. A container that came since its network was found empty
        runs on, and keeps its address."""
        pool = row.record
        reserved = await self._reserved_in([(pool.space, pool.subnet)], pool.network) if with_reserved else []
        if not await self._table.delete(row):
            return False
        self._cache.forget(pool_id(pool))
        await self._drop_reserved(reserved, pool.network)
        others = [each.record for each in await self._table.scan(pool.space)]
        await self._addresses.avoided.forget_pool(pool, others)
        self._cache.forget_subnet(pool)
        return True

    async def _reserved_in(self, subnets: Iterable[SpaceSubnet], network: str) -> list[Row[AddressRecord]]:
        """The reservations in the name of `network`, which ends here, and those of this host in nobody's name. Subnets
        that another network of this host has are passed over: a container of that may be starting."""
        here = [each for each in self._networks.kept if each.shared_id != network]
        used = {(each.space, each.subnet) for other in here for each in other.subnets}
        return await self._addresses.held.reserved({*subnets} - used, self._identity.host, network)

    async def _drop_reserved(self, rows: Collection[Row[AddressRecord]], network: str = "") -> None:
        """Delete these, which were read before the pools of `network` went, unless another one has their subnet."""
        for space in {row.record.space for row in rows}:
            pools = [row.record for row in await self._table.scan(space)]
            used = {each.subnet for each in pools if not network or each.network != network}
            here = [row for row in rows if row.record.space == space]
            await self._addresses.drop_reserved(row for row in here if row.record.subnet not in used)
