"""Reserve, claim and release addresses on a store. States: see `macvlan_global.ipam`.

Every method is safe for many callers at once, on this host and on others: a write is a create-if-absent, or a replace
or delete on condition that the row is still current. After a lost race the row is read again.

An address that another holder has is raised as `AddressTaken`, with its row. The caller may know that this holder is
dead, and repeat the call with `dead=row`: then this row is replaced first, if it is still current. It is not read again
before that, since a verdict about life and death does not keep.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

import msgspec

from macvlan_global.errors import Exhausted, Internal, Unavailable
from macvlan_global.ipam.allocator import gateway_candidates
from macvlan_global.ipam.avoided_tables import AvoidedTables
from macvlan_global.ipam.cache import ParsedPool, PoolCache
from macvlan_global.ipam.conflicts import AddressTaken
from macvlan_global.ipam.held_addresses import HeldAddresses, is_gateway_claim
from macvlan_global.ipam.late_releases import LateReleases
from macvlan_global.ipam.owners import (
    Holder,
    Identity,
    beside,
    is_claim_of,
    is_gateway_of,
    is_of,
    network_claims,
    with_claim,
    without_container,
    without_network,
)
from macvlan_global.ipam.subnet_use import SpaceSubnet, SubnetUse
from macvlan_global.store.records import AddressRecord, PendingRecord, PoolRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import Address, from_number, with_prefix

log = logging.getLogger(__name__)

RACES = 2
"""Candidates that may be lost to other hosts before the taken addresses are read anew."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """An address of a pool that its requester may have, and its row in the store."""

    pool: ParsedPool
    address: Address
    row: Row[AddressRecord]

    @property
    def cidr(self) -> str:
        """The address with the prefix length of its subnet, as Docker wants it."""
        return with_prefix(self.address, self.pool.subnet)

    @property
    def is_claimed(self) -> bool:
        """Whether it is the gateway or an aux address of networks already, and of no container."""
        return self.row.record.kind != "reserved"

    @property
    def is_shared(self) -> bool:
        """Whether networks claim it as their gateway or an aux address, whoever has it besides."""
        return bool(network_claims(self.row.record))


class Addresses:
    """Addresses of every pool. One per process."""

    def __init__(
        self,
        tables: Tables,
        cache: PoolCache,
        identity: Identity,
        *,
        shared: bool = False,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`shared` says that other hosts write the store too: then what is cached may be out of date. `steady` is a
        clock that is never set."""
        self._table = tables.addresses
        self._cache = cache
        self._identity = identity
        self._shared = shared
        self._doubtful: set[tuple[str, Address]] = set()  # their releases were broken off: they may be free
        self._now = now
        self.held = HeldAddresses(tables, SubnetUse(tables, identity.host, shared=shared, steady=steady))
        self.all = self.held.all
        self.late = LateReleases(identity.incarnation)
        self.avoided = AvoidedTables(tables, cache.avoided, identity.host, shared=shared, now=now, steady=steady)

    async def reserve(
        self,
        pool: ParsedPool,
        address: Address,
        *,
        for_network: bool = False,
        dead: Row[AddressRecord] | None = None,
    ) -> Reservation:
        """Reserve this address. A repeated request of this host gets the same answer.

        With `for_network` it is to be the gateway or an aux address of a network that is being made: so it may be that
        of other networks already. Otherwise it is a container's, which may be the gateway of its own network.

        Raises:
            AddressTaken: it has another holder.
        """
        record = self._record(pool.record, str(address), None, static=not for_network)
        with self.late.taking(record):
            if dead and (replaced := await self._replace(dead, beside(record, dead.record))):
                return self._reserved(pool, address, replaced)
            # of a network that is joined its claim is there, as a rule: then nothing is written
            looks_first = for_network and bool(pool.record.network)
            while True:
                if not looks_first and (created := await self._create(record)):
                    return self._reserved(pool, address, created)
                looks_first = False
                row = await self._table.get(record.space, record.address)
                if row is None:
                    continue
                elsewhere = self._cache.is_asked_elsewhere(pool, address, for_network=for_network)
                repeated = self._is_earlier_request(row.record, record) and not elsewhere
                if repeated or (for_network and network_claims(row.record)):
                    if kept := await self._keep(row):
                        return self._reserved(pool, address, kept) if repeated else Reservation(pool, address, kept)
                elif not for_network and pool.record.network and is_gateway_of(row.record, pool.record.network):
                    if taken := await self._replace(row, beside(record, row.record)):
                        return self._reserved(pool, address, taken)
                else:
                    raise AddressTaken(row)

    async def reserve_kept(self, pool: ParsedPool, address: Address, dead: Row[AddressRecord] | None) -> Reservation:
        """Reserve an address for the container whose name it stays with. No earlier request of it is a repeated one.

        Raises:
            AddressTaken: it has a holder.
        """
        record = self._record(pool.record, str(address), None, asked=False)
        with self.late.taking(record):
            created = await self._replace(dead, beside(record, dead.record)) if dead else None
            while created is None and not (created := await self._create(record)):
                if row := await self._table.get(record.space, record.address):
                    raise AddressTaken(row)
            return self._reserved(pool, address, created)

    async def reserve_gateway(self, pool: ParsedPool, *, preferred: Collection[Address] = ()) -> Reservation:
        """Reserve a gateway that was not named: that of the network being joined, the first of `preferred` in the
        subnet, or the first usable address of the subnet that is not in the range and that no host has.

        Raises:
            Exhausted: there is none.
        """
        if network := self._cache.joined_by(pool.record):
            for row in await self.held.within(pool.record.space, pool.record.subnet):
                if is_gateway_claim(row.record, network):
                    return Reservation(pool, ip_address(row.record.address), row)
        for candidate in gateway_candidates(pool.subnet, pool.window if pool.record.range else None, preferred):
            if candidate not in preferred and self._cache.avoided.on_hosts(candidate):
                continue
            try:
                return await self.reserve(pool, candidate, for_network=True)
            except (AddressTaken, Internal):  # or what is there cannot be read
                log.debug("%s is no gateway of %s: a container has it", candidate, pool.record.subnet)
        if pool.record.range:
            raise Exhausted(
                f"no gateway of {pool.record.subnet} can be chosen outside the --ip-range {pool.record.range}; give "
                "one with --gateway"
            )
        return await self.reserve_next(pool)

    async def reserve_next(self, pool: ParsedPool, *, passed_over: Collection[Address] = ()) -> Reservation:
        """Reserve the next free address of the pool's window that is none of `passed_over`.

        Raises:
            Exhausted: there is none.
        """
        self._cache.avoided.expire(self._now())
        occupancy = self._cache.occupancy(pool.record)
        skipped = {int(each) for each in passed_over}
        lost = 0
        doubts = {each for each in self._doubtful if each[0] == pool.record.space and each[1] in pool.subnet}
        is_fresh = not (self._shared or doubts)
        while True:
            # what is remembered comes last: after all that other hosts have given back meanwhile
            chosen = occupancy.choose(*pool.window, self._now(), remembered=is_fresh, skipped=skipped)
            if not is_fresh and (chosen is None or lost == RACES):
                await self.learn(pool.record)
                self._doubtful -= doubts
                is_fresh = True
            elif chosen is None:
                raise pool.exhausted(self._cache.avoided.seen(pool.record.space, pool.subnet.version))
            elif row := await self._try_candidate(pool, chosen):
                return self._reserved(pool, from_number(chosen, pool.subnet), row)
            else:
                lost += 1
                occupancy.jump(*pool.window)

    async def learn(self, pool: PoolRecord) -> None:
        """Learn anew from the store which addresses of the subnet of a pool are taken."""
        records = [row.record for row in await self.held.within(pool.space, pool.subnet)]
        self._cache.learn(pool, records, self._now())

    async def cancel(self, reservation: Reservation) -> bool:
        """Give a reservation back; False if its row changed since."""
        return await self.drop(reservation.row)

    async def release(self, space: str, address: Address, *, foreign: str = "") -> None:
        """Give back an address that this host only reserved: for nobody, or for the network `foreign`. Idempotent."""
        bare = str(address)
        known = self._cache.recent.take(space, bare, self._now())
        if known and self._is_reserved(known.record, foreign) and await self.drop(known):
            return
        row = await self._read_own(space, bare)
        if row and self._is_reserved(row.record, foreign):
            await self.drop(row)
        elif row:
            log.debug("address %s stays: it is %s, of network %s", bare, row.record.kind, row.record.network[:12])

    async def claim(
        self,
        pool: PoolRecord,
        address: Address,
        holder: Holder,
        *,
        in_use: bool = False,
        dead: Row[AddressRecord] | None = None,
    ) -> None:
        """Make `holder` the holder of an address, reserved or free. Idempotent for the same holder.

        With `in_use` its interface is up already: another host's mere reservation is then no obstacle.

        Raises:
            AddressTaken: it has another holder.
        """
        bare = str(address)
        record = self._record(pool, bare, holder)
        with self.late.taking(record):
            if dead and await self._replace(dead, beside(record, dead.record)):
                return
            known = self._cache.recent.take(pool.space, bare, self._now())
            plain = known is not None and holder.follows(known.record)
            if known and plain and await self._replace(known, beside(record, known.record)):
                return
            while True:
                row = await self._table.get(pool.space, bare)
                if row is None:
                    if await self._create(record):
                        return
                elif await self._claim_row(row, record, holder, in_use=in_use):
                    return

    async def hold(self, pool: PoolRecord, address: Address) -> None:
        """Have an address reserved in the name of a network of another driver, a container of which has it. Idempotent.

        Raises:
            AddressTaken: it has another holder.
        """
        record = self._record(pool, str(address), None)
        with self.late.taking(record):
            while not await self._create(record):
                row = await self._table.get(record.space, record.address)
                if row and (row.record.kind, row.record.network) == ("reserved", pool.network):
                    return
                if row and not (self._is_reserved(row.record) or is_claim_of(row.record, pool.network)):
                    raise AddressTaken(row)
                if row and await self._replace(row, beside(record, row.record)):
                    return

    async def unclaim(
        self, space: str, address: Address, holder: Holder, *, release_follows: bool = True, ran: bool = True
    ) -> None:
        """Let go of an address if this holder has it; otherwise do nothing. Idempotent.

        A static address of a container that `ran` is remembered. If the engine's ReleaseAddress follows, the address is
        reserved until then: freed at once, somebody else could have reserved it by the time that release comes, and
        would lose it.
        """
        bare = str(address)
        known = self._cache.recent.take(space, bare, self._now())
        if known and holder.holds(known.record) and await self._let_go(known, release_follows=release_follows, ran=ran):
            return
        row = await self._read_own(space, bare)
        if row and holder.holds(row.record):
            await self._let_go(row, release_follows=release_follows, ran=ran)

    async def settle(self, release: PendingRecord) -> None:
        """Carry out a release that was kept while the store was away, if the address is still that holder's, and was
        not taken anew since."""
        row = await self._read_own(release.space, release.address)
        if row is None or row.record.host != self._identity.host:
            return
        only = self._is_reserved(row.record, release.network)
        mine = row.record.endpoint == release.endpoint if release.endpoint else only
        if mine and not self.late.is_void(release, row.record):
            await self.drop(row)

    async def give_back(self, record: AddressRecord) -> bool:
        """Delete exactly this record; False if it changed meanwhile."""
        row = await self._read_own(record.space, record.address)
        return row is not None and row.record == record and await self.drop(row)

    async def drop_network(self, network: str, subnets: Iterable[SpaceSubnet], *, if_empty: bool = False) -> bool:
        """Delete every address of these subnets that a network and its endpoints claim; whether it was done.

        With `if_empty` nothing is done while a container, of any host, has an address of it. On a network of another
        driver that is a reservation. What hosts have themselves stays: each gives it back once it is off its shim.
        """
        rows = {row.entry.key: row for each in sorted(set(subnets)) for row in await self.held.within(*each)}
        held = [row for row in rows.values() if is_of(row.record, network)]
        used = {"endpoint", "reserved"} if if_empty else set()
        if any(row.record.kind in used and row.record.network == network for row in held):
            return False
        # a container may come meanwhile, and be the network's gateway or have one of its aux addresses
        return all([await self._end_claims(row, network, {"host", *used}) for row in held])

    async def end_claims(self, record: AddressRecord, network: str) -> None:
        """Delete the claims of a network on an address, unless a container or host has it there. Idempotent."""
        if row := await self._table.get(record.space, record.address):
            await self._end_claims(row, network, {"endpoint", "host"})

    async def drop_reserved(self, rows: Iterable[Row[AddressRecord]]) -> None:
        """Let go of reservations that are still what they were. Claims of networks stay."""
        for row in rows:
            await self._drop(row)

    async def drop(self, row: Row[AddressRecord]) -> bool:
        """Let go of a row for its container if it is still current; whether it was. Claims of networks stay."""
        await self._remember(row.record)
        return await self._drop(row)

    # ---------------------------------------------------------------- inside

    async def _drop(self, row: Row[AddressRecord]) -> bool:
        """See `drop`; nothing is remembered."""
        left = without_container(row.record)
        if left is None:
            return await self._delete(row)
        try:
            return await self._replace(row, msgspec.structs.replace(left, at=self._now())) is not None
        finally:
            self._cache.disown(row.record.space, row.record.address)

    async def _delete(self, row: Row[AddressRecord]) -> bool:
        try:
            deleted = await self._table.delete(row)
        except (Unavailable, asyncio.CancelledError):
            # it may be done, and nobody of this host wants the address any more
            self._cache.disown(row.record.space, row.record.address)
            if not self._shared:
                self._doubtful.add((row.record.space, ip_address(row.record.address)))
            raise
        if deleted:
            self._cache.dropped(row.record, self._now())
        return deleted

    async def _end_claims(self, row: Row[AddressRecord], network: str, spared: Collection[str]) -> bool:
        """See `end_claims`. Others may add or end claims of theirs meanwhile. The address of a `spared` kind of holder
        on the network stays; False if a container has it by now."""
        current: Row[AddressRecord] | None = row
        while current and is_of(current.record, network):
            user = current.record.kind if current.record.network == network else ""
            if user in spared:
                return user == "host"
            left = without_network(current.record, network)
            if left is None:
                if await self._delete(current):
                    return True
            elif await self._replace(current, left):
                self._cache.disown(left.space, left.address)
                return True
            current = await self._table.get(row.record.space, row.record.address)
        return True

    def _reserved(self, pool: ParsedPool, address: Address, row: Row[AddressRecord]) -> Reservation:
        if row.record.kind == "reserved":
            self._cache.asked(pool, address)
        return Reservation(pool, address, row)

    async def _read_own(self, space: str, address: str) -> Row[AddressRecord] | None:
        """The row of an address that this host is about to let go of. If it is not this host's, it is so already; so it
        is if nobody can read whose it is."""
        row = await self._table.find(space, address)
        if row is None or row.record.host != self._identity.host:
            self._cache.disown(space, address)
        return row

    async def _create(self, record: AddressRecord) -> Row[AddressRecord] | None:
        await self.held.use.begin(record.space, record.subnet)
        row = await self._table.create(record, record.space, record.address)
        if row:
            self._cache.wrote(row, self._now())
        return row

    async def _replace(self, row: Row[AddressRecord], record: AddressRecord) -> Row[AddressRecord] | None:
        if record.host == self._identity.host or any(each.host == self._identity.host for each in record.sharers):
            await self.held.use.begin(record.space, record.subnet)
        written = await self._table.replace(row, record)
        if written:
            self._cache.wrote(written, self._now())
        return written

    async def _try_candidate(self, pool: ParsedPool, chosen: int) -> Row[AddressRecord] | None:
        """Reserve an address that was chosen; None if another host was faster."""
        address = str(from_number(chosen, pool.subnet))
        record = self._record(pool.record, address, None, asked=False)
        try:
            with self.late.taking(record) as attempt:
                created = await self._create(record)
                attempt.is_lost = created is None
                return created
        except BaseException:
            self._cache.not_taken(pool.record, chosen, self._now())
            raise

    async def _keep(self, row: Row[AddressRecord], mac: str = "") -> Row[AddressRecord] | None:
        """Write a row of this host anew, with the MAC of its holder if one is given; None if it changed meanwhile.

        A release of ours that timed out may still be on its way. It must not find the row that it has read.
        """
        mac = mac or row.record.mac
        if row.record.host != self._identity.host or not (self._shared or mac != row.record.mac):
            return row
        kept = msgspec.structs.replace(row.record, incarnation=self._identity.incarnation, at=self._now(), mac=mac)
        return await self._table.replace(row, kept)

    async def _let_go(self, row: Row[AddressRecord], *, release_follows: bool, ran: bool) -> bool:
        """See `unclaim`; False if the row is no longer current."""
        held = row.record
        if ran:
            await self._remember(held)
        if not release_follows:
            return await self._drop(row)
        pool = PoolRecord(space=held.space, subnet=held.subnet, at=0)
        return await self._replace(row, beside(self._record(pool, held.address, None), held)) is not None

    async def _claim_row(self, row: Row[AddressRecord], record: AddressRecord, holder: Holder, *, in_use: bool) -> bool:
        """See `claim`; False if the row is no longer current."""
        if self._has_already(holder, row.record):
            return await self._keep(row, holder.mac) is not None
        own = row.record.kind in {"endpoint", "reserved"} and row.record.network == holder.network
        if holder.shares(row.record) or (holder.kind == "gateway" and own):  # the store lost one of the two claims
            return await self._replace(row, with_claim(row.record, holder, self._identity.host)) is not None
        if not self._may_take(holder, row.record, in_use=in_use):
            raise AddressTaken(row)
        return await self._replace(row, beside(record, row.record)) is not None

    async def _remember(self, held: AddressRecord) -> None:
        """Remember an address that an endpoint lets go of, if its user chose it."""
        if held.static and held.kind == "endpoint":
            await self.avoided.remember(held)

    def _is_earlier_request(self, held: AddressRecord, wanted: AddressRecord) -> bool:
        """Whether this host asked for this very address before, and nothing came of it yet."""
        return self._is_reserved(held) and held.asked and not wanted.network  # there it is another container's

    def _is_reserved(self, held: AddressRecord, foreign: str = "") -> bool:
        """Whether this host only reserved an address: for nobody, or for a container of the network `foreign`."""
        return held.kind == "reserved" and held.host == self._identity.host and held.network in {"", foreign}

    def _has_already(self, holder: Holder, held: AddressRecord) -> bool:
        """An endpoint is of one host. If the record names another one, this host lost its state, and its id with it."""
        return holder.holds(held) and (holder.kind not in {"endpoint", "host"} or held.host == self._identity.host)

    def _may_take(self, holder: Holder, held: AddressRecord, *, in_use: bool) -> bool:
        """Whether a claim may replace a record without asking who is dead: its own, or a mere reservation."""
        if held.kind == "reserved":
            return not held.network and (in_use or held.host == self._identity.host)
        return holder.holds(held) or (holder.kind == "endpoint" and is_gateway_of(held, holder.network))

    def _record(
        self, pool: PoolRecord, address: str, holder: Holder | None, *, asked: bool = True, static: bool = False
    ) -> AddressRecord:
        # no endpoint follows from another network driver: what its containers have stays reserved, in its name
        return AddressRecord(
            space=pool.space,
            subnet=pool.subnet,
            address=address,
            kind=holder.kind if holder else "reserved",
            network=holder.network if holder else pool.network if pool.driver else "",
            endpoint=holder.endpoint if holder else "",
            label=holder.label if holder else "",
            mac=holder.mac if holder else "",
            asked=asked,
            host=self._identity.host,
            incarnation=self._identity.incarnation,
            at=self._now(),
            static=static,
        )
