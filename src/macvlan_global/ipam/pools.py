"""Pools and addresses, on a store.

Docker asks in two steps and says only in the second one for whom: RequestPool, then CreateNetwork; RequestAddress,
then CreateEndpoint. So everything here has two states:

* **reserved**: asked for. A repeated request gets the same answer; a release gives it back.
* **claimed**: a network or an endpoint has it. Only its holder lets go of it; a release by anybody else, late or
  repeated, changes nothing.

What was reserved and never claimed is found by comparison with the engine (see `driver.repair`), not by a timer.
The truth is the store's create-if-absent; what this process remembers (`Occupancy`) only proposes candidates.
"""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Literal, Protocol

import msgspec

from macvlan_global.errors import Conflict, Exhausted, Invalid, MacvlanGlobalError, NotFound
from macvlan_global.ipam.allocate import Occupancy
from macvlan_global.ipam.autopool import DEFAULT_AUTO_POOLS as DEFAULT_AUTO_POOLS
from macvlan_global.ipam.autopool import AutoPool as AutoPool
from macvlan_global.store.records import AddressRecord, PoolRecord, Row, Tables
from macvlan_global.subnets import (
    Address,
    Subnet,
    dynamic_window,
    from_number,
    is_within,
    overlap,
    parse_address,
    parse_subnet,
    usable,
    with_prefix,
)

log = logging.getLogger(__name__)

DEFAULT_SPACE = "macvlan-global"
SPACE_OPTION = "space"
MAX_SPACE = 32
CREATE_WINDOW_SECONDS = 60.0
"""How long a reserved pool may wait for its CreateNetwork. The engine repeats a broken call for 15 s."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Which run of which host's driver this is, and during which boot; written beside what is taken."""

    host: str
    incarnation: str
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims an address. `label` names an aux address."""

    kind: Literal["gateway", "aux", "endpoint"]
    network: str
    endpoint: str = ""
    label: str = ""

    def holds(self, record: AddressRecord) -> bool:
        """Whether `record` already is this claim (an aux address may be the gateway's too)."""
        return record.kind == self.kind and record.network == self.network and record.endpoint == self.endpoint


@dataclass(slots=True)
class _PoolView:
    """A pool as this process works with it."""

    record: PoolRecord
    subnet: Subnet
    window: tuple[int, int]


@dataclass(slots=True)
class _View:
    """What this process believes: pools by id, occupancy by (space, subnet)."""

    pools: dict[str, _PoolView] = field(default_factory=dict)
    occupied: dict[tuple[str, str], Occupancy] = field(default_factory=dict)


class Peers(Protocol):
    """What the address book asks about those who hold addresses."""

    async def is_stale(self, address: AddressRecord) -> bool:
        """Whether the endpoint that claims an address is known to be dead."""
        ...

    async def network_name(self, network: str) -> str:
        """A network as the operator knows it: its name if it is known, else the beginning of its id."""
        ...

    async def endpoint_name(self, network: str, endpoint: str) -> str:
        """An endpoint as the operator knows it: its container if that is known, else the beginning of its id."""
        ...


class Pools:
    """The address book. One per process; safe for many callers at once on one event loop."""

    def __init__(
        self,
        tables: Tables,
        identity: Identity,
        *,
        auto_pools: Sequence[AutoPool] = DEFAULT_AUTO_POOLS,
        routes: Callable[[], Awaitable[Sequence[Subnet]]],
        peers: Peers,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`routes` tells where this host already goes, which auto pools avoid."""
        self._pools = tables.pools
        self._addresses = tables.addresses
        self._identity = identity
        self._auto_pools = auto_pools
        self._routes = routes
        self._peers = peers
        self._now = now
        self._view = _View()

    async def load(self) -> None:
        """Read what the store holds. Call once, before anything else."""
        view = _View()
        for pool in await self._pools.scan():
            self._remember(view, pool.record)
        held: dict[tuple[str, str], list[AddressRecord]] = {}
        for row in await self._addresses.scan():
            held.setdefault((row.record.space, row.record.subnet), []).append(row.record)
        for key, records in held.items():
            last = max(records, key=lambda record: record.at)
            view.occupied[key] = Occupancy([_number(record.address) for record in records], _number(last.address))
        self._view = view

    # ------------------------------------------------------------------ pools

    async def request_pool(
        self, subnet: str, allocation_range: str, options: dict[str, str], *, ipv6: bool
    ) -> tuple[str, str]:
        """Reserve a pool (`subnet` and range in CIDR form, "" for one of our choosing); its id and its subnet.

        Raises:
            Invalid: not a subnet, a range outside it, an unknown `--ipam-opt`.
            Conflict: it overlaps a pool that somebody has.
            Exhausted: no subnet is left to choose.
        """
        space = _space(options)
        if not subnet:
            if allocation_range:
                raise Invalid(f"--ip-range {allocation_range} needs a --subnet that it is part of")
            return await self._reserve_auto(space, ipv6=ipv6)
        wanted = parse_subnet(subnet, "--subnet")
        part = parse_subnet(allocation_range, "--ip-range") if allocation_range else None
        dynamic_window(wanted, part)  # refuses a range outside the subnet
        record = PoolRecord(
            space=space, subnet=str(wanted), range=str(part) if part and part != wanted else "", at=self._now()
        )
        return await self._reserve(record), record.subnet

    async def release_pool(self, pool_id: str) -> None:
        """Give back a pool that no network has; anything else is left as it is. Idempotent."""
        row = await self._pools.get(*_parts(pool_id))
        if row is None:
            self._view.pools.pop(pool_id, None)
        elif row.record.network:
            log.debug("pool %s stays: network %s has it", pool_id, row.record.network[:12])
        else:
            await self._drop_pool(row)

    async def claim_pool(self, subnet: str, network: str) -> PoolRecord:
        """Claim the reserved pool with this subnet for a network. Idempotent.

        The protocol does not say which of several spaces is meant: it is the one that was just reserved.

        Raises:
            Conflict: another network has it, or the choice is not clear.
            NotFound: nobody reserved it.
        """
        rows = [row for row in await self._pools.scan() if row.record.subnet == subnet]
        mine = [row for row in rows if row.record.network == network]
        if mine:
            return mine[0].record
        free = sorted((row for row in rows if not row.record.network), key=lambda row: row.record.at, reverse=True)
        fresh = [row for row in free if self._now() - row.record.at <= CREATE_WINDOW_SECONDS] or free[:1]
        if len(fresh) > 1:
            raise Conflict(
                f"several networks with subnet {subnet} are being created at once; wait for the others, then try again"
            )
        if not fresh:
            return await self._claim_unreserved(rows, subnet, network)
        claimed = msgspec.structs.replace(fresh[0].record, network=network)
        if await self._pools.replace(fresh[0], claimed) is None:
            return await self.claim_pool(subnet, network)
        self._remember(self._view, claimed)
        return claimed

    async def drop_network(self, network: str) -> None:
        """Let go of every pool and address that a network and its endpoints claim. Idempotent."""
        for address in await self._addresses.scan():
            if address.record.network == network:
                await self._drop_address(address)
        for pool in await self._pools.scan():
            if pool.record.network == network:
                await self._drop_pool(pool)

    async def pools(self) -> list[PoolRecord]:
        """Every pool, as the store has it."""
        return [row.record for row in await self._pools.scan()]

    def usage(self, record: PoolRecord) -> tuple[int, int]:
        """How many addresses of a pool's dynamic window are held, and how many it has."""
        view = self._view.pools.get(pool_id(record))
        if view is None:
            return 0, 0
        first, stop = view.window
        return self._occupancy(record.space, record.subnet).held_in(first, stop), stop - first

    # -------------------------------------------------------------- addresses

    async def request_address(self, pool: str, address: str, *, gateway: bool = False) -> str:
        """Reserve an address (bare or CIDR text, "" for one of our choosing); CIDR text of it.

        Raises:
            NotFound: no such pool.
            Invalid: not an address of the pool, or one that no interface can have.
            Conflict: somebody has it.
            Exhausted: the pool is full.
        """
        view = await self._need(pool)
        if address:
            wanted = self._inside(view, parse_address(address, "--gateway" if gateway else "--ip"), gateway=gateway)
            return await self._reserve_this(view, wanted)
        if gateway and (found := await self._reserve_first(view)):
            return found
        return await self._reserve_next(view)

    async def release_address(self, pool: str, address: str) -> None:
        """Give back an address that is only reserved; a claimed one stays with its holder. Idempotent."""
        space, *_ = _parts(pool)
        row = await self._addresses.get(space, str(parse_address(address, "address")))
        if row is None:
            return
        if row.record.kind == "reserved":
            await self._drop_address(row)
        else:
            log.debug("address %s stays: it is in use %s", address, await self._holder(row.record))

    async def claim(self, pool: PoolRecord, address: str, holder: Holder) -> None:
        """Make the holder of an address known. Idempotent for the same holder; takes it if nobody reserved it.

        Raises:
            Conflict: somebody else claims it.
        """
        while True:
            row = await self._addresses.get(pool.space, address)
            if row is None:
                if await self._create(self._record(pool, address, holder)):
                    return
            elif holder.holds(row.record) or _gateway_as_aux(holder, row.record):
                return
            elif row.record.kind != "reserved" and not await self._peers.is_stale(row.record):
                raise Conflict(f"address {address} is in use {await self._holder(row.record)}")
            elif await self._addresses.replace(row, self._record(pool, address, holder)):
                self._occupancy(pool.space, pool.subnet).take(_number(address))
                return

    async def unclaim(self, space: str, address: str, holder: Holder) -> None:
        """Let go of an address if this holder has it; otherwise do nothing. Idempotent."""
        row = await self._addresses.get(space, address)
        if row and holder.holds(row.record):
            await self._drop_address(row)

    async def addresses(self) -> list[AddressRecord]:
        """Every address that is held, as the store has it."""
        return [row.record for row in await self._addresses.scan()]

    async def give_back(self, record: AddressRecord) -> bool:
        """Delete exactly this record of an address; False if it changed meanwhile."""
        row = await self._addresses.get(record.space, record.address)
        return row is not None and row.record == record and await self._drop_address(row)

    async def give_back_pool(self, record: PoolRecord) -> bool:
        """Delete exactly this record of a pool, and what is reserved in it; False if it changed meanwhile."""
        row = await self._pools.get(*_parts(pool_id(record)))
        if row is None or row.record != record:
            return False
        return await self._drop_pool(row)

    # ---------------------------------------------------------------- inside

    async def _reserve(self, record: PoolRecord) -> str:
        key = pool_id(record)
        while not await self._create_pool(record):
            existing = await self._pools.get(*_parts(key))
            if existing and existing.record.network:
                raise Conflict(await self._overlaps(record, existing.record))
            if existing and await self._pools.replace(existing, record):
                break
        self._remember(self._view, record)
        return key

    async def _create_pool(self, record: PoolRecord) -> bool:
        """Create a pool; False if this very pool is there. Conflict if another one overlaps."""
        row = await self._pools.create(record, *_parts(pool_id(record)))
        if row is None:
            return False
        # create first, look afterwards: of two that overlap and were created at once, at least one sees the other
        try:
            clash = await self._find_clash(record)
        except BaseException:  # who asked gets no pool, so nobody would ever release it
            with contextlib.suppress(MacvlanGlobalError):
                await self._pools.delete(row)
            raise
        if clash:
            await self._pools.delete(row)
            raise Conflict(await self._overlaps(record, clash))
        self._remember(self._view, record)
        return True

    async def _find_clash(self, record: PoolRecord) -> PoolRecord | None:
        others = [other.record for other in await self._pools.scan(record.space) if other.record != record]
        return next((other for other in others if _pools_clash(record, other)), None)

    async def _reserve_auto(self, space: str, *, ipv6: bool) -> tuple[str, str]:
        avoid = [*await self._routes(), *(view.subnet for view in self._view.pools.values())]
        for candidate in _candidates(self._auto_pools, avoid, version=6 if ipv6 else 4):
            record = PoolRecord(space=space, subnet=str(candidate), at=self._now(), auto=True)
            with contextlib.suppress(Conflict):  # somebody chose it at the same time
                if await self._create_pool(record):
                    return pool_id(record), record.subnet
        raise Exhausted(
            f"no free IPv{6 if ipv6 else 4} subnet is left to choose; give one with --subnet, or more room in "
            "[[auto_pools]] of the configuration"
        )

    async def _claim_unreserved(self, rows: list[Row[PoolRecord]], subnet: str, network: str) -> PoolRecord:
        if rows:
            name = await self._peers.network_name(rows[0].record.network)
            raise Conflict(f"--subnet {subnet} is in use by network {name}; use another subnet")
        record = PoolRecord(space=DEFAULT_SPACE, subnet=subnet, at=self._now())
        await self._reserve(record)
        return await self.claim_pool(subnet, network)

    async def _reserve_this(self, view: _PoolView, address: Address) -> str:
        record = self._record(view.record, str(address), None)
        while True:
            if await self._create(record):
                return with_prefix(address, view.subnet)
            row = await self._addresses.get(record.space, record.address)
            if row is None:
                continue
            if _is_our_earlier_request(row.record, self._identity):
                return with_prefix(address, view.subnet)
            if row.record.kind == "reserved" or not await self._peers.is_stale(row.record):
                raise Conflict(f"address {address} is in use {await self._holder(row.record)}")
            if await self._addresses.replace(row, record):
                return with_prefix(address, view.subnet)

    async def _reserve_first(self, view: _PoolView) -> str | None:
        first, _ = usable(view.subnet)
        address = from_number(first, view.subnet)
        if await self._create(self._record(view.record, str(address), None)):
            return with_prefix(address, view.subnet)
        return None

    async def _reserve_next(self, view: _PoolView) -> str:
        occupancy = self._occupancy(view.record.space, view.record.subnet)
        while (number := occupancy.choose(*view.window, self._now())) is not None:
            address = from_number(number, view.subnet)
            record = msgspec.structs.replace(self._record(view.record, str(address), None), asked=False)
            try:
                row = await self._addresses.create(record, record.space, record.address)
            except BaseException:
                occupancy.free(number, self._now())
                raise
            if row:
                return with_prefix(address, view.subnet)
        raise Exhausted(
            f"no free address is left in {view.record.range or view.record.subnet}; stop a container, or make the "
            "--ip-range or --subnet wider"
        )

    async def _create(self, record: AddressRecord) -> bool:
        if await self._addresses.create(record, record.space, record.address):
            self._occupancy(record.space, record.subnet).take(_number(record.address))
            return True
        return False

    async def _drop_address(self, row: Row[AddressRecord]) -> bool:
        if not await self._addresses.delete(row):
            return False
        record = row.record
        self._occupancy(record.space, record.subnet).free(_number(record.address), self._now())
        return True

    async def _drop_pool(self, row: Row[PoolRecord]) -> bool:
        if not await self._pools.delete(row):
            return False
        record = row.record
        self._view.pools.pop(pool_id(record), None)
        if all(_subnet_key(view.record) != _subnet_key(record) for view in self._view.pools.values()):
            await self._forget_subnet(record)
        return True

    async def _forget_subnet(self, pool: PoolRecord) -> None:
        """Nobody has the subnet any more: whatever was reserved in it goes too."""
        for row in await self._addresses.scan(pool.space):
            if row.record.subnet == pool.subnet and row.record.kind == "reserved":
                await self._addresses.delete(row)
        self._view.occupied.pop(_subnet_key(pool), None)

    async def _need(self, pool: str) -> _PoolView:
        if pool not in self._view.pools:
            row = await self._pools.get(*_parts(pool))
            if row is None:
                raise NotFound(
                    f"there is no pool {pool!r}; its network was removed, or was created with another state folder"
                )
            self._remember(self._view, row.record)
        return self._view.pools[pool]

    def _inside(self, view: _PoolView, address: Address, *, gateway: bool) -> Address:
        option = "--gateway" if gateway else "address"
        if address not in view.subnet:
            raise Invalid(f"{option} {address} is not in the subnet {view.subnet}")
        first, stop = usable(view.subnet)
        if not first <= int(address) < stop and not gateway:
            raise Invalid(
                f"address {address} is the network or broadcast address of {view.subnet}; use one from "
                f"{from_number(first, view.subnet)} to {from_number(stop - 1, view.subnet)}"
            )
        return address

    async def _holder(self, record: AddressRecord) -> str:
        """Who has an address, in words that follow "in use"."""
        if record.kind == "reserved":
            return "by a container that is just being started"
        if record.kind == "endpoint":
            name = await self._peers.endpoint_name(record.network, record.endpoint)
            return f"by {name} on host {record.host}"
        what = "its gateway" if record.kind == "gateway" else f"its aux address {record.label}"
        return f"by network {await self._peers.network_name(record.network)} as {what}"

    async def _overlaps(self, wanted: PoolRecord, other: PoolRecord) -> str:
        name = other.network and await self._peers.network_name(other.network)
        holder = f"network {name} has it" if name else "a network is being created with it"
        part = f" (range {other.range})" if other.range else ""
        return (
            f"--subnet {wanted.subnet} overlaps with {other.subnet}{part} in address space {other.space}: {holder}. "
            "Use another subnet, a --ip-range of its own for each, or --ipam-opt space=NAME for a VLAN that reuses "
            "addresses"
        )

    def _occupancy(self, space: str, subnet: str) -> Occupancy:
        return self._view.occupied.setdefault((space, subnet), Occupancy([]))

    def _remember(self, view: _View, record: PoolRecord) -> None:
        subnet = parse_subnet(record.subnet, "pool")
        part = parse_subnet(record.range, "range") if record.range else None
        view.pools[pool_id(record)] = _PoolView(record, subnet, dynamic_window(subnet, part))

    def _record(self, pool: PoolRecord, address: str, holder: Holder | None) -> AddressRecord:
        return AddressRecord(
            space=pool.space,
            subnet=pool.subnet,
            address=address,
            kind=holder.kind if holder else "reserved",
            network=holder.network if holder else "",
            endpoint=holder.endpoint if holder else "",
            label=holder.label if holder else "",
            asked=True,
            host=self._identity.host,
            incarnation=self._identity.incarnation,
            at=self._now(),
        )


def pool_id(record: PoolRecord) -> str:
    """The id that Docker knows a pool by: `SPACE/SUBNET` or `SPACE/SUBNET/RANGE`."""
    return "/".join(filter(None, (record.space, record.subnet, record.range)))


def _parts(pool: str) -> tuple[str, ...]:
    space, _, rest = pool.partition("/")
    pieces = rest.split("/")
    if len(pieces) == 2:
        return space, rest
    if len(pieces) == 4:
        return space, "/".join(pieces[:2]) + "~" + "/".join(pieces[2:])
    raise NotFound(f"{pool!r} is not a pool id of macvlan-global")


def _space(options: dict[str, str]) -> str:
    for key in options:
        if key != SPACE_OPTION:
            raise Invalid(f"unknown option --ipam-opt {key}; known: {SPACE_OPTION}")
    space = options.get(SPACE_OPTION, DEFAULT_SPACE)
    if not 0 < len(space) <= MAX_SPACE or not all(x.isascii() and (x.isalnum() or x in "-_") for x in space):
        raise Invalid(f"--ipam-opt space={space} must be 1 to {MAX_SPACE} letters, digits, '-' or '_'")
    return space


def _number(address: str) -> int:
    return int(parse_address(address, "address"))


def _subnet_key(record: PoolRecord) -> tuple[str, str]:
    return record.space, record.subnet


def _pools_clash(one: PoolRecord, other: PoolRecord) -> bool:
    """Pools of one subnet may share it if each has a range of its own (as Docker's own IPAM allows)."""
    if one.subnet == other.subnet and one.range and other.range:
        return overlap(parse_subnet(one.range, "range"), parse_subnet(other.range, "range"))
    return overlap(parse_subnet(one.subnet, "pool"), parse_subnet(other.subnet, "pool"))


def _is_our_earlier_request(record: AddressRecord, identity: Identity) -> bool:
    return record.kind == "reserved" and record.asked and record.host == identity.host


def _gateway_as_aux(holder: Holder, record: AddressRecord) -> bool:
    return holder.kind != "endpoint" and record.kind in {"gateway", "aux"} and record.network == holder.network


def _candidates(pools: Sequence[AutoPool], avoid: Sequence[Subnet], *, version: int) -> Iterator[Subnet]:
    for pool in pools:
        if pool.base.version != version:
            continue
        near = [subnet for subnet in avoid if overlap(subnet, pool.base)]
        step = 1 << (pool.base.max_prefixlen - pool.prefix)
        number, stop = int(pool.base.network_address), int(pool.base.broadcast_address)
        while number <= stop:
            candidate = ip_network(f"{from_number(number, pool.base)}/{pool.prefix}")
            clash = next((subnet for subnet in near if overlap(subnet, candidate)), None)
            if clash is None:
                yield candidate
                number += step
            elif is_within(candidate, clash):  # leap over a large subnet in one step
                number = int(clash.broadcast_address) + 1
            else:
                number += step
