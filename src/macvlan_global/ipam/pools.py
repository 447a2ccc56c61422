"""Pools and addresses, on a store.

Docker asks in two steps and says only in the second one for whom: RequestPool, then CreateNetwork; RequestAddress,
then CreateEndpoint. So everything here has two states:

* **reserved**: asked for. A repeated request gets the same answer; a release gives it back.
* **claimed**: a network or an endpoint has it. Only its holder lets go of it; a release by anybody else, late or
  repeated, changes nothing.

What was reserved and never claimed is found by comparison with the engine (see `reconcile.plan`), not by a timer.
The truth is the store's create-if-absent; what this process remembers (`Occupancy`) only proposes candidates.
"""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from macvlan_global.errors import Conflict, Exhausted, Invalid, MacvlanGlobalError, Unavailable
from macvlan_global.ipam.addresses import CREATE_WINDOW_SECONDS, Addresses, Later
from macvlan_global.ipam.auto_pool import DEFAULT_AUTO_POOLS, AutoPool, candidates
from macvlan_global.ipam.owners import Identity, InUse, Peers, ask_nobody, describe_overlap, describe_taken_pool
from macvlan_global.ipam.pool_id import key_of, network_of, overlaps, pool_id, space_of
from macvlan_global.store.records import AddressRecord, PoolRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import Subnet, dynamic_window, parse_subnet

log = logging.getLogger(__name__)


class Pools(Addresses):
    """The address book: pools, and the addresses in them. One per process."""

    def __init__(  # noqa: PLR0913 - by name, and each of another owner
        self,
        tables: Tables,
        identity: Identity,
        *,
        auto_pools: Sequence[AutoPool] = DEFAULT_AUTO_POOLS,
        routes: Callable[[], Awaitable[Sequence[Subnet]]],
        peers: Peers,
        later: Later | None = None,
        in_use: InUse = ask_nobody,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`routes` tells where this host already goes, which auto pools avoid; see `Addresses` for the others."""
        super().__init__(tables, identity, peers=peers, later=later, in_use=in_use, now=now)
        self._auto_pools = auto_pools
        self._routes = routes

    async def request_pool(
        self, subnet: str, allocation_range: str, options: dict[str, str], *, ipv6: bool
    ) -> tuple[str, str]:
        """Reserve a pool (`subnet` and range in CIDR form, "" for one of our choosing); its id and its subnet.

        With the option `network` the pool of that network of the cluster is joined instead.

        Raises:
            Invalid: not a subnet, a range outside it, an unknown `--ipam-opt`.
            Conflict: it overlaps a pool that somebody has.
            Exhausted: no subnet is left to choose.
        """
        space, network = space_of(options), network_of(options)
        if not subnet:
            if allocation_range:
                raise Invalid(f"--ip-range {allocation_range} needs a --subnet that it is part of")
            return await self._reserve_auto(space, ipv6=ipv6)
        wanted = parse_subnet(subnet, "--subnet")
        part = parse_subnet(allocation_range, "--ip-range") if allocation_range else None
        dynamic_window(wanted, part)  # refuses a range outside the subnet
        record = PoolRecord(
            space=space,
            subnet=str(wanted),
            range=str(part) if part and part != wanted else "",
            network=network,
            host=self._identity.host,
            at=self._now(),
        )
        await (self._join(record) if network else self._reserve(record))
        return pool_id(record), record.subnet

    async def release_pool(self, pool_id: str) -> None:
        """Give back a pool that no network has; anything else is left as it is. Idempotent."""
        self._joining.pop(pool_id, None)
        try:
            row = await self._pools.get(*key_of(pool_id))
        except Unavailable:
            if self._later is None:
                raise
            log.info("pool %s is given back by repair, if nobody has it by then", pool_id)
            return
        if row is None:
            self._view.forget(pool_id)
        elif row.record.network or row.record.host != self._identity.host:
            log.debug("pool %s stays: network %s or host %s has it", pool_id, row.record.network[:12], row.record.host)
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
        fresh = [row for row in free if abs(self._now() - row.record.at) <= CREATE_WINDOW_SECONDS] or free[:1]
        if len(fresh) > 1:
            raise Conflict(
                f"several networks with subnet {subnet} are being created at once; wait for the others, then try again"
            )
        if not fresh:
            raise Conflict(await describe_taken_pool(self._peers, rows[0].record if rows else None, subnet))
        claimed = msgspec.structs.replace(fresh[0].record, network=network)
        if await self._pools.replace(fresh[0], claimed) is None:
            return await self.claim_pool(subnet, network)
        self._view.remember(claimed)
        return claimed

    def joined(self, subnets: Sequence[str]) -> str:
        """The network of the cluster whose pools with these subnets this host is joining just now; "" if none."""
        found = {self._joined_by(record) for record in self._view.records() if record.subnet in subnets} - {""}
        return found.pop() if len(found) == 1 else ""

    def end_joining(self, network: str) -> None:
        """The network is made here: from now on its gateway and aux addresses are as taken as any."""
        self._joining = {pool: each for pool, each in self._joining.items() if each[0] != network}

    async def drop_network(self, network: str, *, if_empty: bool = False) -> bool:
        """Let go of every pool and address that a network and its endpoints claim; whether it was done. Idempotent.

        With `if_empty` nothing is done while an endpoint, of any host, has an address of it.
        """
        held = [row for row in await self._addresses.scan() if row.record.network == network]
        if if_empty and any(row.record.kind == "endpoint" for row in held):
            return False
        for address in held:
            await self._drop_address(address)
        for pool in await self._pools.scan():
            if pool.record.network == network:
                await self._drop_pool(pool)
        return True

    async def pools(self) -> list[PoolRecord]:
        """Every pool, as the store has it."""
        return [row.record for row in await self._pools.scan()]

    async def read_anew(self) -> None:
        """Learn what other hosts did since.

        Raises:
            Unavailable: the store does not answer.
        """
        held: dict[tuple[str, str], list[AddressRecord]] = {}
        for address in await self.addresses():
            held.setdefault((address.space, address.subnet), []).append(address)
        for record in self._view.records():
            self._view.learn(record, held.get((record.space, record.subnet), ()))

    def usage(self, record: PoolRecord) -> tuple[int, int]:
        """How many addresses of a pool's dynamic window are held as far as is known, and how many it has."""
        return self._view.usage(record)

    async def give_back_pool(self, record: PoolRecord) -> bool:
        """Delete exactly this record of a pool, and what is reserved in it; False if it changed meanwhile."""
        row = await self._pools.get(*key_of(pool_id(record)))
        if row is None or row.record != record:
            return False
        return await self._drop_pool(row)

    async def restore_pool(self, record: PoolRecord) -> None:
        """Write a pool of a network anew that the store lost. Idempotent.

        Raises:
            Conflict: another network has it, or one that it overlaps with.
        """
        while not await self._create_pool(record):
            row = await self._pools.get(*key_of(pool_id(record)))
            if row and not row.record.network:  # asked for before the loss, or by somebody who saw it free since
                if await self._pools.replace(row, record):
                    self._view.remember(record)
                    return
            elif row and row.record.network != record.network:
                raise Conflict(await describe_overlap(self._peers, record, row.record))
            elif row:
                return

    # ---------------------------------------------------------------- inside

    async def _reserve(self, record: PoolRecord) -> None:
        while not await self._create_pool(record):
            existing = await self._pools.get(*key_of(pool_id(record)))
            if existing and (existing.record.network or not self._is_ours(existing.record)):
                raise Conflict(await describe_overlap(self._peers, record, existing.record))
            if existing and await self._pools.replace(existing, record):
                break
        self._view.remember(record)

    async def _join(self, record: PoolRecord) -> None:
        """Use the pool that a network of the cluster has, or has lost: a store restored from a copy may be older."""
        while not await self._create_pool(record):
            existing = await self._pools.get(*key_of(pool_id(record)))
            if existing and existing.record.network == record.network:
                break
            if existing:
                raise Conflict(await describe_overlap(self._peers, record, existing.record))
        self._view.remember(record)
        self._joining[pool_id(record)] = record.network, self._now()

    def _is_ours(self, reserved: PoolRecord) -> bool:
        """Whether a reservation is this host's, or so old that nothing came of it."""
        return reserved.host == self._identity.host or abs(self._now() - reserved.at) > CREATE_WINDOW_SECONDS

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
            raise Conflict(await describe_overlap(self._peers, record, clash))
        self._view.remember(record)
        return True

    async def _find_clash(self, record: PoolRecord) -> PoolRecord | None:
        others = [other.record for other in await self._pools.scan(record.space) if other.record != record]
        return next((other for other in others if overlaps(record, other)), None)

    async def _reserve_auto(self, space: str, *, ipv6: bool) -> tuple[str, str]:
        # other hosts make and remove pools too, so the store is asked for them
        avoid = [*await self._routes(), *(parse_subnet(each.subnet, "pool") for each in await self.pools())]
        for candidate in candidates(self._auto_pools, avoid, version=6 if ipv6 else 4):
            host = self._identity.host
            record = PoolRecord(space=space, subnet=str(candidate), host=host, at=self._now(), auto=True)
            with contextlib.suppress(Conflict):  # somebody chose it at the same time
                if await self._create_pool(record):
                    return pool_id(record), record.subnet
        raise Exhausted(
            f"no free IPv{6 if ipv6 else 4} subnet is left to choose; give one with --subnet, or more room in "
            "[[auto_pools]] of the configuration"
        )

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
