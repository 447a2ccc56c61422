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
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from macvlan_global.errors import Conflict, Exhausted, Invalid, MacvlanGlobalError, NotFound
from macvlan_global.ipam.autopool import DEFAULT_AUTO_POOLS, AutoPool, candidates
from macvlan_global.ipam.holders import Holder, Identity, Peers, is_our_earlier_request
from macvlan_global.ipam.poolid import key_of, overlaps, pool_id, space_of
from macvlan_global.ipam.view import PoolView, View, number
from macvlan_global.store.records import AddressRecord, PoolRecord, Row, Tables
from macvlan_global.subnets import (
    Address,
    Subnet,
    dynamic_window,
    from_number,
    parse_address,
    parse_subnet,
    usable,
    with_prefix,
)

log = logging.getLogger(__name__)

CREATE_WINDOW_SECONDS = 60.0
"""How long a reserved pool may wait for its CreateNetwork. The engine repeats a broken call for 15 s."""


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
        self._view = View()

    async def load(self) -> None:
        """Read what the store holds. Call once, before anything else."""
        pools = [row.record for row in await self._pools.scan()]
        self._view = View(pools, [row.record for row in await self._addresses.scan()])

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
        space = space_of(options)
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
        row = await self._pools.get(*key_of(pool_id))
        if row is None:
            self._view.forget(pool_id)
        elif row.record.network:
            log.debug("pool %s stays: network %s has it", pool_id, row.record.network[:12])
        else:
            await self._drop_pool(row)

    async def claim_pool(self, subnet: str, network: str) -> PoolRecord:
        """Claim the reserved pool with this subnet for a network. Idempotent.

        The protocol does not say which of several spaces is meant: it is the one that was just reserved.

        Raises:
            Conflict: another network has it, nobody reserved it, or the choice is not clear.
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
            raise await self._no_pool(rows, subnet)
        claimed = msgspec.structs.replace(fresh[0].record, network=network)
        if await self._pools.replace(fresh[0], claimed) is None:
            return await self.claim_pool(subnet, network)
        self._view.remember(claimed)
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
        return self._view.usage(record)

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
            wanted = parse_address(address, "--gateway" if gateway else "--ip")
            view.refuse_unusable(wanted, gateway=gateway)
            return await self._reserve_this(view, wanted)
        if gateway and (found := await self._reserve_first(view)):
            return found
        return await self._reserve_next(view)

    async def release_address(self, pool: str, address: str) -> None:
        """Give back an address that is only reserved; a claimed one stays with its holder. Idempotent."""
        space, *_ = key_of(pool)
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
            elif holder.holds(row.record) or holder.shares(row.record):
                return
            elif row.record.kind != "reserved" and not await self._peers.is_stale(row.record):
                raise Conflict(f"address {address} is in use {await self._holder(row.record)}")
            elif await self._addresses.replace(row, self._record(pool, address, holder)):
                self._view.occupancy(pool).take(number(address))
                return

    async def unclaim(self, space: str, address: str, holder: Holder, *, release_follows: bool = True) -> None:
        """Let go of an address if this holder has it; otherwise do nothing. Idempotent.

        If the engine's ReleaseAddress follows, the address is reserved until then: freed at once, somebody else could
        have reserved it by the time that release comes, and would lose it.
        """
        row = await self._addresses.get(space, address)
        if row is None or not holder.holds(row.record):
            return
        if not release_follows:
            await self._drop_address(row)
        else:
            pool = PoolRecord(space=space, subnet=row.record.subnet, at=0)
            await self._addresses.replace(row, self._record(pool, address, None))

    async def addresses(self) -> list[AddressRecord]:
        """Every address that is held, as the store has it."""
        return [row.record for row in await self._addresses.scan()]

    async def give_back(self, record: AddressRecord) -> bool:
        """Delete exactly this record of an address; False if it changed meanwhile."""
        row = await self._addresses.get(record.space, record.address)
        return row is not None and row.record == record and await self._drop_address(row)

    async def give_back_pool(self, record: PoolRecord) -> bool:
        """Delete exactly this record of a pool, and what is reserved in it; False if it changed meanwhile."""
        row = await self._pools.get(*key_of(pool_id(record)))
        if row is None or row.record != record:
            return False
        return await self._drop_pool(row)

    # ---------------------------------------------------------------- inside

    async def _reserve(self, record: PoolRecord) -> str:
        key = pool_id(record)
        while not await self._create_pool(record):
            existing = await self._pools.get(*key_of(key))
            if existing and existing.record.network:
                raise Conflict(await self._overlaps(record, existing.record))
            if existing and await self._pools.replace(existing, record):
                break
        self._view.remember(record)
        return key

    async def _create_pool(self, record: PoolRecord) -> bool:
        """Create a pool; False if this very pool is there. Conflict if another one overlaps."""
        row = await self._pools.create(record, *key_of(pool_id(record)))
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
        self._view.remember(record)
        return True

    async def _find_clash(self, record: PoolRecord) -> PoolRecord | None:
        others = [other.record for other in await self._pools.scan(record.space) if other.record != record]
        return next((other for other in others if overlaps(record, other)), None)

    async def _reserve_auto(self, space: str, *, ipv6: bool) -> tuple[str, str]:
        avoid = [*await self._routes(), *self._view.subnets()]
        for candidate in candidates(self._auto_pools, avoid, version=6 if ipv6 else 4):
            record = PoolRecord(space=space, subnet=str(candidate), at=self._now(), auto=True)
            with contextlib.suppress(Conflict):  # somebody chose it at the same time
                if await self._create_pool(record):
                    return pool_id(record), record.subnet
        raise Exhausted(
            f"no free IPv{6 if ipv6 else 4} subnet is left to choose; give one with --subnet, or more room in "
            "[[auto_pools]] of the configuration"
        )

    async def _no_pool(self, rows: list[Row[PoolRecord]], subnet: str) -> Conflict:
        """Why no pool with this subnet can be claimed."""
        if rows:
            name = await self._peers.network_name(rows[0].record.network)
            return Conflict(f"--subnet {subnet} is in use by network {name}; use another subnet")
        # a release that came late, or of another create of the same subnet, which failed
        return Conflict(f"--subnet {subnet} was released while the network was being created; try again")

    async def _reserve_this(self, view: PoolView, address: Address) -> str:
        record = self._record(view.record, str(address), None)
        while True:
            if await self._create(record):
                return with_prefix(address, view.subnet)
            row = await self._addresses.get(record.space, record.address)
            if row is None:
                continue
            if is_our_earlier_request(row.record, self._identity):
                return with_prefix(address, view.subnet)
            if row.record.kind == "reserved" or not await self._peers.is_stale(row.record):
                raise Conflict(f"address {address} is in use {await self._holder(row.record)}")
            if await self._addresses.replace(row, record):
                return with_prefix(address, view.subnet)

    async def _reserve_first(self, view: PoolView) -> str | None:
        first, _ = usable(view.subnet)
        address = from_number(first, view.subnet)
        if await self._create(self._record(view.record, str(address), None)):
            return with_prefix(address, view.subnet)
        return None

    async def _reserve_next(self, view: PoolView) -> str:
        occupancy = self._view.occupancy(view.record)
        while (chosen := occupancy.choose(*view.window, self._now())) is not None:
            address = from_number(chosen, view.subnet)
            record = msgspec.structs.replace(self._record(view.record, str(address), None), asked=False)
            try:
                row = await self._addresses.create(record, record.space, record.address)
            except BaseException:
                occupancy.free(chosen, self._now())
                raise
            if row:
                return with_prefix(address, view.subnet)
        raise Exhausted(
            f"no free address is left in {view.record.range or view.record.subnet}; stop a container, or make the "
            "--ip-range or --subnet wider"
        )

    async def _create(self, record: AddressRecord) -> bool:
        if await self._addresses.create(record, record.space, record.address):
            self._view.occupancy(record).take(number(record.address))
            return True
        return False

    async def _drop_address(self, row: Row[AddressRecord]) -> bool:
        if not await self._addresses.delete(row):
            return False
        record = row.record
        self._view.occupancy(record).free(number(record.address), self._now())
        return True

    async def _drop_pool(self, row: Row[PoolRecord]) -> bool:
        if not await self._pools.delete(row):
            return False
        record = row.record
        self._view.forget(pool_id(record))
        if not self._view.shares_subnet(record):
            await self._forget_subnet(record)
        return True

    async def _forget_subnet(self, pool: PoolRecord) -> None:
        """Nobody has the subnet any more: whatever was reserved in it goes too."""
        for row in await self._addresses.scan(pool.space):
            if row.record.subnet == pool.subnet and row.record.kind == "reserved":
                await self._addresses.delete(row)
        self._view.forget_occupancy(pool)

    async def _need(self, pool: str) -> PoolView:
        if view := self._view.get(pool):
            return view
        row = await self._pools.get(*key_of(pool))
        if row is None:
            raise NotFound(
                f"there is no pool {pool!r}; its network was removed, or was created with another state folder"
            )
        return self._view.remember(row.record)

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
