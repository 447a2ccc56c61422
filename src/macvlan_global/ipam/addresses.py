"""Addresses, on a store: reserved for who asks, claimed by endpoints and networks, given back by their holders.

See `ipam.pools` for the two states, and for pools, which this is one half of.
"""

import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from macvlan_global.errors import Conflict, Exhausted, NotFound, Unavailable
from macvlan_global.ipam.cache import PoolCache, PoolView, number
from macvlan_global.ipam.owners import (
    Holder,
    Identity,
    InUse,
    Peers,
    ask_nobody,
    describe_holder,
    is_our_earlier_request,
)
from macvlan_global.ipam.pool_id import key_of, pool_id
from macvlan_global.ipam.recent_writes import RecentWrites
from macvlan_global.store.records import AddressRecord, PendingRecord, PoolRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import Address, from_number, parse_address, usable, with_prefix

log = logging.getLogger(__name__)

CREATE_WINDOW_SECONDS = 60.0
"""How long a reserved pool may wait for its CreateNetwork. The engine repeats a broken call for 15 s."""
RACES = 2
"""So many candidates may be lost to other hosts before what this process believes is read anew."""

FOREIGN_MOST = 32
"""So many addresses in a row may be in use on the wire before a request is refused: the engine waits."""

Later = Callable[[PendingRecord], Awaitable[None]]
"""Keeps what the store must be told when it answers again."""


class Addresses:
    """Who has which address. Safe for many callers at once on one event loop."""

    def __init__(
        self,
        tables: Tables,
        identity: Identity,
        *,
        peers: Peers,
        later: Later | None = None,
        in_use: InUse = ask_nobody,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`later` is given if the store is shared with other hosts, and then may be away. `in_use` is asked about what
        a container is to get, once it is reserved: so nobody else can be asking for the same."""
        self._pools = tables.pools
        self._addresses = tables.addresses
        self._identity = identity
        self._peers = peers
        self._later = later
        self._in_use = in_use
        self._now = now
        self._view = PoolCache(host=identity.host, shared=later is not None)
        self._fresh = RecentWrites()
        # pools of the cluster's networks that are being made here too, until their CreateNetwork
        self._joining: dict[str, tuple[str, float]] = {}

    async def load(self) -> None:
        """Read what the store holds. Call once, before anything else.

        Raises:
            Unavailable: the store does not answer; then each thing is read when it is needed.
        """
        pools = [row.record for row in await self._pools.scan()]
        addresses = [row.record for row in await self._addresses.scan()]
        self._view = PoolCache(pools, addresses, host=self._identity.host, shared=self._later is not None)

    async def request_address(self, pool: str, address: str, *, gateway: bool = False) -> str:
        """Reserve an address (bare or CIDR text, "" for one of our choosing); CIDR text of it.

        Raises:
            NotFound: no such pool.
            Invalid: not an address of the pool, or one that no interface can have.
            Conflict: somebody has it, perhaps only on the wire.
            Exhausted: the pool is full, or all of it that was tried is in use on the wire.
        """
        view = await self._need(pool)
        if address:
            wanted = parse_address(address, "--gateway" if gateway else "--ip")
            view.refuse_unusable(wanted, gateway=gateway)
            row = await self._reserve_this(view, wanted)
            if not gateway and (who := await self._found_on_wire(view, row)):
                raise Conflict(f"address {wanted} is in use on the wire: {who}; use another, or take that device off")
            return with_prefix(wanted, view.subnet)
        if gateway and (found := await self._gateway_of_joined(view) or await self._reserve_first(view)):
            return found
        return await self._reserve_next(view)

    async def release_address(self, pool: str, address: str) -> None:
        """Give back an address that is only reserved; a claimed one stays with its holder. Idempotent."""
        space, *_ = key_of(pool)
        bare = str(parse_address(address, "address"))
        try:
            known = self._fresh.take(space, bare, self._now())
            if known and known.record.kind == "reserved" and await self._drop_address(known):
                return
            row = await self._addresses.get(space, bare)
            if row and row.record.kind == "reserved" and row.record.host == self._identity.host:
                await self._drop_address(row)
            elif row:
                log.debug("address %s stays: it is in use %s", bare, await describe_holder(self._peers, row.record))
        except Unavailable as error:
            await self._postpone(error, PendingRecord(kind="release", space=space, address=bare, at=self._now()))

    async def claim(self, pool: PoolRecord, address: str, holder: Holder, *, in_use: bool = False) -> None:
        """Make the holder of an address known. Idempotent for the same holder; takes it if nobody reserved it.

        With `in_use` the holder has it in use already: what another host only asked for is then no obstacle.

        Raises:
            Conflict: somebody else claims it.
        """
        known = self._fresh.take(pool.space, address, self._now())
        if known and known.record.kind == "reserved" and await self._hand_over(known, pool, holder):
            return
        while True:
            row = await self._addresses.get(pool.space, address)
            if row is None:
                if await self._create(self._record(pool, address, holder)):
                    return
            elif holder.shares(row.record) or self._has_already(holder, row.record):
                if await self._keep(row):
                    return
            elif not (in_use and row.record.kind == "reserved") and not await self._may_take(holder, row.record):
                raise Conflict(f"address {address} is in use {await describe_holder(self._peers, row.record)}")
            elif await self._hand_over(row, pool, holder):
                return

    async def unclaim(self, space: str, address: str, holder: Holder, *, release_follows: bool = True) -> None:
        """Let go of an address if this holder has it; otherwise do nothing. Idempotent.

        If the engine's ReleaseAddress follows, the address is reserved until then: freed at once, somebody else could
        have reserved it by the time that release comes, and would lose it.
        """
        try:
            known = self._fresh.take(space, address, self._now())
            if known and holder.holds(known.record) and await self._let_go(known, release_follows=release_follows):
                return
            row = await self._addresses.get(space, address)
            if row and holder.holds(row.record):
                await self._let_go(row, release_follows=release_follows)
        except Unavailable as error:
            kept = PendingRecord(
                kind="release",
                network=holder.network,
                endpoint=holder.endpoint,
                space=space,
                address=address,
                at=self._now(),
            )
            await self._postpone(error, kept)

    async def settle(self, release: PendingRecord) -> None:
        """Let go of an address whose release was kept for later, if it still is what it was then.

        Raises:
            Unavailable: the store does not answer yet.
        """
        row = await self._addresses.get(release.space, release.address)
        if row is None or row.record.host != self._identity.host:
            return
        if release.endpoint:
            mine = row.record.endpoint == release.endpoint
        else:  # asked for by this host, and not anew since
            mine = row.record.kind == "reserved" and row.record.at <= release.at
        if mine:
            await self._drop_address(row)

    async def addresses(self) -> list[AddressRecord]:
        """Every address that is held, as the store has it."""
        return [row.record for row in await self._addresses.scan()]

    async def give_back(self, record: AddressRecord) -> bool:
        """Delete exactly this record of an address; False if it changed meanwhile."""
        row = await self._addresses.get(record.space, record.address)
        return row is not None and row.record == record and await self._drop_address(row)

    # ---------------------------------------------------------------- inside

    async def _need(self, pool: str) -> PoolView:
        if view := self._view.get(pool):
            return view
        row = await self._pools.get(*key_of(pool))
        if row is None:
            raise NotFound(
                f"there is no pool {pool!r}; its network was removed, or was created with another state folder"
            )
        return self._view.remember(row.record)

    async def _hand_over(self, row: Row[AddressRecord], pool: PoolRecord, holder: Holder | None) -> bool:
        """Make an address the holder's, or only reserved, if it still is what `row` says; whether it was."""
        address = row.record.address
        if (written := await self._addresses.replace(row, self._record(pool, address, holder))) is None:
            return False
        self._fresh.wrote(written, self._now())
        self._view.occupancy(pool).take(number(address))
        return True

    async def _let_go(self, row: Row[AddressRecord], *, release_follows: bool) -> bool:
        """See `unclaim`; False if it is no longer what `row` says."""
        if not release_follows:
            return await self._drop_address(row)
        return await self._hand_over(row, PoolRecord(space=row.record.space, subnet=row.record.subnet, at=0), None)

    def _joined_by(self, pool: PoolRecord) -> str:
        """The network that is joining this pool on this host just now; "" if none."""
        network, since = self._joining.get(pool_id(pool), ("", 0.0))
        return network if abs(self._now() - since) <= CREATE_WINDOW_SECONDS else ""

    def _is_of_joined(self, pool: PoolRecord, held: AddressRecord) -> bool:
        """Whether an address is the gateway or an aux address of the network that is being made here, too."""
        return held.kind in {"gateway", "aux"} and held.network == self._joined_by(pool) != ""

    def _has_already(self, holder: Holder, held: AddressRecord) -> bool:
        """An endpoint is of one host. If the record names another one, this host lost its state, and its id with it."""
        return holder.holds(held) and (holder.kind != "endpoint" or held.host == self._identity.host)

    async def _may_take(self, holder: Holder, held: AddressRecord) -> bool:
        """Whether who claims an address may have it from who has it: from its own reservation, or from the dead."""
        if holder.holds(held):
            return True
        if held.kind == "reserved":
            return held.host == self._identity.host
        return await self._peers.is_stale(held)

    async def _reserve_this(self, view: PoolView, address: Address) -> Row[AddressRecord]:
        record = self._record(view.record, str(address), None)
        while True:
            if created := await self._create(record):
                return created
            row = await self._addresses.get(record.space, record.address)
            if row is None:
                continue
            if is_our_earlier_request(row.record, self._identity) or self._is_of_joined(view.record, row.record):
                if kept := await self._keep(row):
                    return kept
                continue
            if row.record.kind == "reserved" or not await self._peers.is_stale(row.record):
                raise Conflict(f"address {address} is in use {await describe_holder(self._peers, row.record)}")
            if replaced := await self._addresses.replace(row, record):
                return replaced

    async def _gateway_of_joined(self, view: PoolView) -> str | None:
        """The gateway that a network of the cluster has, for an engine that wants one where none was given."""
        if not self._joined_by(view.record):
            return None
        for row in await self._addresses.scan(view.record.space):
            held = row.record
            if held.kind == "gateway" and held.subnet == view.record.subnet and self._is_of_joined(view.record, held):
                return with_prefix(parse_address(held.address, "gateway"), view.subnet)
        return None

    async def _reserve_first(self, view: PoolView) -> str | None:
        first, _ = usable(view.subnet)
        address = from_number(first, view.subnet)
        if await self._create(self._record(view.record, str(address), None)):
            return with_prefix(address, view.subnet)
        return None

    async def _reserve_next(self, view: PoolView) -> str:
        occupancy = self._view.occupancy(view.record)
        lost = 0
        foreign: dict[int, str] = {}  # who has what on the wire, that the books have free
        is_fresh = self._later is None  # nobody else writes a store of this host
        while True:
            chosen = occupancy.choose(*view.window, self._now())
            if chosen in foreign:  # nothing else is left
                occupancy.free(chosen, self._now())
                chosen = None
            if not is_fresh and (chosen is None or lost == RACES):
                self._view.learn(view.record, await self.addresses())
                is_fresh = True
            elif chosen is None:
                break
            elif row := await self._try_candidate(view, chosen):
                if not (who := await self._found_on_wire(view, row)):
                    return with_prefix(from_number(chosen, view.subnet), view.subnet)
                log.warning("address %s is passed over: %s, and nobody of ours has it", row.record.address, who)
                foreign[chosen] = f"{row.record.address}: {who}"
                if len(foreign) == FOREIGN_MOST:
                    break
            else:
                lost += 1
                occupancy.jump()
        if foreign:
            raise Exhausted(
                f"no free address was found in {view.record.range or view.record.subnet}: {len(foreign)} that nobody "
                f"of ours has are in use on the wire, such as {next(iter(foreign.values()))}; give containers a "
                "--ip-range that no other device uses"
            )
        raise Exhausted(
            f"no free address is left in {view.record.range or view.record.subnet}; stop a container, or make the "
            "--ip-range or --subnet wider"
        )

    async def _try_candidate(self, view: PoolView, chosen: int) -> Row[AddressRecord] | None:
        """Reserve an address that was chosen; None if another host was faster."""
        address = from_number(chosen, view.subnet)
        record = self._record(view.record, str(address), None, asked=False)
        try:
            row = await self._addresses.create(record, record.space, record.address)
        except BaseException:
            self._view.occupancy(view.record).free(chosen, self._now())
            raise
        if row:
            self._fresh.wrote(row, self._now())
        return row

    async def _found_on_wire(self, view: PoolView, row: Row[AddressRecord]) -> str:
        """Who has on the wire what was just reserved, "" if nobody. If somebody has it is given back, and cools off."""
        if row.record.kind != "reserved":  # the gateway, say, of a network that is made here too
            return ""
        who = "nobody waits for it any more"
        try:
            who = await self._in_use(view.record, row.record.address)
        finally:
            if who:
                await self._give_up(row)
        return who

    async def _give_up(self, row: Row[AddressRecord]) -> None:
        """Give back what was reserved a moment ago; later, if the store has gone away meanwhile."""
        try:
            await self._drop_address(row)
        except Unavailable as error:
            space, address = row.record.space, row.record.address
            await self._postpone(error, PendingRecord(kind="release", space=space, address=address, at=self._now()))

    async def _create(self, record: AddressRecord) -> Row[AddressRecord] | None:
        row = await self._addresses.create(record, record.space, record.address)
        if row:
            self._fresh.wrote(row, self._now())
            self._view.occupancy(record).take(number(record.address))
        return row

    async def _keep(self, row: Row[AddressRecord]) -> Row[AddressRecord] | None:
        """Have what this host has already, as of now; None if it changed meanwhile.

        A release of ours that timed out may still be on its way. It must not find what it has read.
        """
        if self._later is None or row.record.host != self._identity.host:
            return row
        kept = msgspec.structs.replace(row.record, incarnation=self._identity.incarnation, at=self._now())
        return await self._addresses.replace(row, kept)

    async def _drop_address(self, row: Row[AddressRecord]) -> bool:
        if not await self._addresses.delete(row):
            return False
        record = row.record
        self._view.occupancy(record).free(number(record.address), self._now())
        return True

    async def _postpone(self, error: Unavailable, kept: PendingRecord) -> None:
        """The store did not answer. The engine must not wait for it, nor must the address leak."""
        if self._later is None:
            raise error
        await self._later(kept)

    def _record(self, pool: PoolRecord, address: str, holder: Holder | None, *, asked: bool = True) -> AddressRecord:
        return AddressRecord(
            space=pool.space,
            subnet=pool.subnet,
            address=address,
            kind=holder.kind if holder else "reserved",
            network=holder.network if holder else "",
            endpoint=holder.endpoint if holder else "",
            label=holder.label if holder else "",
            asked=asked,
            host=self._identity.host,
            incarnation=self._identity.incarnation,
            at=self._now(),
        )
