"""The heartbeat of this host in the cluster, and the membership that the heartbeats of all hosts make.

A host lives while its key `alive/<id>` is there. The key goes with a lease, which the host renews three times in its
length: that is the heartbeat. A host that dies, or is cut off, loses the key when the lease expires.

`hosts/<id>` describes a host and outlives it. Only `alive/` is watched: it changes when a host joins or leaves, while
rows of `hosts/` change every minute, which in a cluster of thousands would be news for everybody all the time.

Three loops run for as long as the driver: one renews the lease, one follows `alive/`, one keeps the row up to date.
Only a `Conflict` ends them, when another living host has this one's name or identity; then the driver must stop.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from macvlan_global.cluster.membership import Membership, MembershipChange
from macvlan_global.errors import Conflict, Internal, Unavailable
from macvlan_global.store.follow import PrefixFollower
from macvlan_global.store.layout import StoreLayout
from macvlan_global.store.ports import Batch, ClusterStore, Entry, Lease
from macvlan_global.store.records import AliveRecord, HostRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.store.validate import VERSION, version_of
from macvlan_global.tasks import Crowd, forever, when

log = logging.getLogger(__name__)

TTL_SECONDS = 15.0
ROW_SECONDS, ROW_EACH = 60.0, 0.06
"""Interval in seconds at which `hosts/<id>` is written if nothing changed."""
SETTLE_SECONDS = 1.0
"""Changes of this host within this time are written together."""
ENTER_SECONDS = 10.0
"""Time for one try to enter at the start; `run` goes on trying."""
LEAVE_SECONDS = 2.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Member:
    """This host as a member: id, name, the kernel's boot id, the run of its driver, and the version that runs.
    `earlier` are the runs before it, () if nobody knows; `page` says that it serves the page."""

    id: str
    name: str
    boot: str
    incarnation: str
    version: str = ""
    earlier: tuple[str, ...] = ()
    page: bool = False

    def succeeds(self, record: AliveRecord) -> bool:
        """Whether this run follows one of this host that is surely over: it is of this boot, and had the lock of the
        same state folder."""
        return record.boot == self.boot and (not self.earlier or record.incarnation in self.earlier)


@dataclass(frozen=True, slots=True)
class HostSummary:
    """The part of `hosts/<id>` that changes: the engine's version ("" while it is away) and counts of this host."""

    engine: str = ""
    networks: int = 0
    endpoints: int = 0


@dataclass(frozen=True, slots=True)
class Clocks:
    """Clocks in seconds: `wall` is written into records, `steady` measures and is never set."""

    wall: Callable[[], float] = field(default=time.time)
    steady: Callable[[], float] = field(default=time.monotonic)


class Heartbeat:
    """One per process. `announce` once, then `run` for as long as the driver lives, then `leave`."""

    def __init__(
        self,
        store: ClusterStore,
        tables: Tables,
        member: Member,
        summary: Callable[[], Awaitable[HostSummary]],
        *,
        ttl: float = TTL_SECONDS,
        clocks: Clocks | None = None,
    ) -> None:
        """`ttl` in seconds is the length of the lease: a host counts as living for so long after its last heartbeat,
        or up to twice that. `summary` tells about this host, and may raise Unavailable."""
        self.member = member
        self.ttl = ttl
        self.crowd = Crowd()
        """The hosts that live, as many as they are. Another one may be set before `run`."""
        self.pages = asyncio.Event()
        """Set while a host that lives, or this one, serves the page."""
        if member.page:
            self.pages.set()
        self._store = store
        self._tables = tables
        self._layout = StoreLayout(store)
        self._summary = summary
        self._clocks = clocks or Clocks()
        self._on_members: Callable[[frozenset[str]], None] = lambda _living: None
        self._on_key_lost: Callable[[], None] = lambda: None
        self._retry = min(RETRY_SECONDS, ttl / 3)
        self._membership = Membership(member.id)
        self._follower = PrefixFollower(
            store,
            tables.alive.prefix,
            self._on_batch,
            on_lost=self._membership.on_lost,
            resumes=False,
            level=logging.DEBUG,
        )
        self._lease: Lease | None = None
        self._entered = False
        self._may_be_reclaimed = False
        self._is_lost = False  # something of this host may be gone from the store
        self._duplicate_since: float | None = None
        self._other_run: AliveRecord | None = None  # the run of this host whose key is in the way
        self._beat_due = asyncio.Event()
        self._pause = 0.0
        self._changed = asyncio.Event()
        self._written = HostSummary()
        self._written_at: float | None = None
        self._row_seconds = ROW_SECONDS

    # ------------------------------------------------------------ membership

    def name_of(self, host: str) -> str:
        """The name of the host with this id, living or dead; the beginning of the id if nobody knows."""
        return self.member.name if host == self.member.id else self._membership.names.get(host) or host[:12]

    def is_live(self, host: str) -> bool:
        """False only if the host is known to be gone: while nobody knows, it counts as living."""
        return self._membership.is_live(host)

    def gone_for(self, host: str) -> float | None:
        """Seconds for which this process has seen the host gone without a gap; None if it lives or nobody knows."""
        return self._membership.gone_for(host, self._clocks.steady())

    def arrivals(self, host: str) -> int:
        """Times that this process saw the host come: if it is another one than before, the host lived meanwhile."""
        return self._membership.arrivals(host)

    def live(self) -> Mapping[str, AliveRecord]:
        """The hosts that live, by id, as last seen."""
        return self._membership.live

    def known(self) -> Mapping[str, str]:
        """Names of the hosts that are or were, by id, as last seen."""
        return self._membership.names

    def hear_of(self, hosts: Iterable[str]) -> None:
        """Note that containers of these hosts (ids) have names; of each it is known from then on whether it lives."""
        self._membership.hear_of(hosts, self._clocks.steady())

    def forget(self, host: str) -> None:
        """Nothing is left of a dead host. One that was only heard of gives its place to the next."""
        self._membership.forget(host)

    def tell(
        self, on_members: Callable[[frozenset[str]], None], on_key_lost: Callable[[], None] = lambda: None
    ) -> None:
        """Tell `on_members` the ids of the hosts that live, this one among them, whenever they were read or changed.
        `on_key_lost` is called when this host has entered the cluster again and something of it may be gone from the
        store: others gave back what it had, since they took it for dead, or its key was gone though its lease lived.
        """
        self._on_members = on_members
        self._on_key_lost = on_key_lost

    @property
    def has_entered(self) -> bool:
        """Whether this run was a member of the cluster once: the identity of this host is its own."""
        return self._entered

    # ------------------------------------------------------------- lifecycle

    async def announce(self, seconds: float = ENTER_SECONDS) -> None:
        """Enter the cluster before the driver serves. The store has `seconds` for each try.

        If the key of another run is in the way, it may be that of this host before a crash, which expires; or that of a
        living host whose clone this one is. So this waits until the key is gone, for as long as a lease can last. If
        the store does not answer, the driver serves what it can without, and `run` enters.

        Raises:
            Conflict: a living host has this one's name or identity.
        """
        try:
            while not await self._enter_within(seconds):  # noqa: ASYNC110 - the store: a lease that ends tells nobody
                await asyncio.sleep(self._retry)
        except (Unavailable, Internal) as error:
            log.debug("this host is not announced yet: %s", error)
        except TimeoutError:
            log.warning("entering the cluster takes longer than %g s; the driver serves meanwhile", seconds)

    async def _enter_within(self, seconds: float) -> bool:
        async with asyncio.timeout(seconds):
            return await self._enter()

    def why_not_member(self) -> str:
        """The reason why this run is not, or not surely, this host in the cluster, "" if it is.

        Once it has entered it stays so while the store is away, until it finds the key of another run in its place.
        """
        if self._other_run:
            return (
                f"another run of this host is in the cluster ({self._other_run.name}, id {self.member.id[:12]}): an "
                "earlier one whose lease ends soon, or a machine of which this one is a clone; until that is known "
                "nothing is written. Try again in a minute, and see the log of macvlan-global"
            )
        return "" if self._entered else "this host is not in the cluster yet; try again in a few seconds"

    async def run(self) -> None:
        """Renew the lease, describe this host, and follow the other hosts, until cancelled.

        It never returns, and a store that is away is waited for.

        Raises:
            Conflict: a living host has this one's name or identity; the driver must stop.
        """
        retry, enter = self._retry, "announcing this host to the cluster"
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(forever(enter, self._keep_alive, first=retry, last=retry, fatal=(Conflict,)))
                tasks.create_task(self._follower.run(first=retry, last=retry))
                tasks.create_task(
                    forever("describing this host", self._update_row, first=retry, last=self.ttl, level=logging.DEBUG)
                )
        except BaseExceptionGroup as group:
            raise next((error for error in group.exceptions if isinstance(error, Conflict)), group) from None

    def on_change(self) -> None:
        """Write the summary of this host soon, and not only when it is due: something about it has changed."""
        self._changed.set()

    async def leave(self) -> None:
        """Let the others know at once that the driver stops. What its containers have stays theirs."""
        lease, self._lease = self._lease, None
        if lease is not None:
            with contextlib.suppress(Unavailable, TimeoutError):  # then it expires by itself
                async with asyncio.timeout(LEAVE_SECONDS):
                    await lease.end()

    # -------------------------------------------------------------- the lease

    async def _keep_alive(self) -> None:
        """One heartbeat, when it is due."""
        async with when(self._beat_due, at_most=self._pause):
            try:
                self._pause = await self._beat()
            except Exception:
                self._duplicate_since = None  # a lease cannot expire while there is no store to let it
                raise

    async def _beat(self) -> float:
        """Renew the lease, or enter the cluster; seconds until the next heartbeat."""
        if self._lease is None:
            if not await self._enter():
                return self._retry
        elif not await self._lease.renew():
            log.warning("the lease of this host ended before it was renewed; it enters the cluster again")
            self._lease = None
            return 0
        # asked each time: who follows a prefix in Consul learns late that the whole store was deleted
        elif not await self._has_key():
            log.warning("the key of this host is gone from the store; it enters the cluster again")
            self._lease, self._is_lost = None, True
            return 0
        if self._may_be_reclaimed or self._is_lost:
            await self._see_what_is_lost()
        return self.ttl / 3

    async def _see_what_is_lost(self) -> None:
        """Tell if something of this host may be gone. Asked with the key in place: before they take anything, others
        write that they do, and then look for the key."""
        row = await self._tables.hosts.find(self.member.id)
        if row and row.record.reclaimed:
            log.warning("others have taken this host for dead, and given back what it had; it is claimed again")
            self._is_lost = True  # first: the answer to the write may be lost. After a crash the next run claims all
            await self._tables.hosts.change(self.member.id, reclaimed=False)
        self._may_be_reclaimed = False
        if self._is_lost:
            self._is_lost = False
            self._on_key_lost()

    async def _has_key(self) -> bool:
        row = await self._own_row()
        return row is not None and row.record.incarnation == self.member.incarnation

    async def _own_row(self) -> Row[AliveRecord] | None:
        """The row under the key of this host; None if there is none, or it cannot be read: then it is not another
        run's."""
        alive = self._tables.alive
        entry = await self._store.get(alive.key(self.member.id))
        return alive.read(entry) if entry and alive.may_be_row(entry) else None

    async def _enter(self) -> bool:
        """Create `alive/<id>`; False if another run's key is in the way, which may expire."""
        if self._entered:  # a namesake does no harm later on, and containers may run here: the others are not read
            own = await self._own_row()
        else:
            await self._layout.check()
            rows = await self._tables.alive.scan()
            own = next((row for row in rows if row.record.id == self.member.id), None)
            self._refuse_namesake(rows)
        if own is None:
            await self._clear_own_key()
        elif not self._may_take_over(own.record):
            return False
        await self._write_row(await self._summarise())
        lease = await self._store.lease(self.ttl)
        try:
            # in the place of an earlier run's: if there were none for a moment, a clone of this host could be in time
            made = await self._create_key(lease, own)
            if made is not None and not self._entered:
                # create first, look afterwards: of two that came at once, the later one sees the other
                rows = await self._tables.alive.scan()
                self._refuse_namesake([row for row in rows if row.entry.revision < made.entry.revision])
        except BaseException:
            with contextlib.suppress(Unavailable):
                await lease.end()
            raise
        if made is None:
            await lease.end()
            return False
        self._lease, self._entered, self._duplicate_since = lease, True, None
        self._other_run, self._may_be_reclaimed = None, True
        log.info("host %s is in the cluster as %s", self.member.name, self.member.id[:12])
        return True

    def _refuse_namesake(self, rows: list[Row[AliveRecord]]) -> None:
        mine = self.member.name.casefold()
        for each in (row.record for row in rows):
            if each.id != self.member.id and each.name.casefold() == mine:
                raise Conflict(
                    f"a living host of the cluster is called {each.name} already (id {each.id[:12]}); give this one "
                    "another name (host_name in the configuration, or --host-name), or stop the driver there"
                )

    def _may_take_over(self, own: AliveRecord) -> bool:
        """Whether a key is of a run that is surely over, or of this one: an answer was lost, or a lease expires just
        now. Otherwise it is waited for."""
        if own.incarnation == self.member.incarnation or (self.member.succeeds(own) and not self._entered):
            return True
        self._wait_for(own)
        return False

    def _wait_for(self, other: AliveRecord) -> None:
        """Another run's key is in the way: raise Conflict once it is there for longer than a lease lasts unrenewed."""
        if self._other_run is None:
            log.warning(
                "another run of this host is in the cluster (%s, id %s); waiting until its lease ends",
                other.name,
                self.member.id[:12],
            )
        self._other_run = other
        now = self._clocks.steady()
        self._duplicate_since = now if self._duplicate_since is None else self._duplicate_since
        if now - self._duplicate_since > 2 * self.ttl + 5:
            raise Conflict(
                f"another machine lives in the cluster as this host ({other.name}, id {self.member.id[:12]}): one of "
                "the two state folders is a copy. On the machine with the copy, stop the driver, move its state folder "
                "away, and start it again"
            )

    async def _clear_own_key(self) -> None:
        """Delete our own `alive/` key if it is no heartbeat. Without a lease it never expires: an operator put it back
        from a copy, say. One of a newer version is that of a run that is over, whose lease ends, or of a clone."""
        alive = self._tables.alive
        entry = await self._store.get(alive.key(self.member.id))
        if entry and alive.may_be_row(entry) and version_of(entry.value) > VERSION:
            self._wait_for(self._unread(entry))
        elif entry and not (alive.may_be_row(entry) and alive.read(entry)):
            await self._store.delete(entry)

    async def _create_key(self, lease: Lease, over: Row[AliveRecord] | None) -> Row[AliveRecord] | None:
        record = AliveRecord(
            id=self.member.id,
            name=self.member.name,
            boot=self.member.boot,
            incarnation=self.member.incarnation,
            at=self._clocks.wall(),
            page=self.member.page,
        )
        return await self._tables.alive.create_with(lease, record, self.member.id, over=over)

    # ---------------------------------------------------------------- the row

    async def _update_row(self) -> None:
        async with when(self._changed, at_most=self.ttl, settle=min(SETTLE_SECONDS, self.ttl / 3)):
            summary = await self._summarise()
            due = self._written_at is None or self._clocks.steady() - self._written_at >= self._row_seconds
            if self._entered and (due or summary != self._written):
                await self._write_row(summary)

    async def _summarise(self) -> HostSummary:
        try:
            return await self._summary()
        except Unavailable:
            return self._written

    async def _write_row(self, summary: HostSummary) -> None:
        record = HostRecord(
            id=self.member.id,
            name=self.member.name,
            version=self.member.version,
            engine=summary.engine,
            networks=summary.networks,
            endpoints=summary.endpoints,
            seen=self._clocks.wall(),
        )
        await self._layout.keep()  # before the row: a store with hosts and without it is one of an earlier release
        await self._put_row(record)
        self._written, self._written_at = summary, self._clocks.steady()
        self._row_seconds = ROW_SECONDS + self.crowd.spread(ROW_SECONDS, ROW_EACH)

    async def _put_row(self, record: HostRecord) -> None:
        hosts = self._tables.hosts
        try:
            row = await hosts.update(lambda old: msgspec.structs.replace(record, reclaimed=old.reclaimed), record.id)
        except Internal:
            row = None
        if row is None:
            self._is_lost |= self._entered  # an operator removed this host, or the store was restored
            await hosts.put(record, record.id)

    # -------------------------------------------------------- the other hosts

    async def _on_batch(self, batch: Batch) -> None:
        may_be_row = self._tables.alive.may_be_row
        leased = await self._tables.alive.read_all(entry for entry in batch.entries if may_be_row(entry))
        records = [row.record if row else self._unread(entry) for entry, row in leased]
        if batch.whole:
            names = {row.record.id: row.record.name for row in await self._tables.hosts.scan()}
            self._membership.add_names(names)
            change = self._membership.replace_all(records, self._clocks.steady())
        else:
            keys = [*batch.gone, *(entry.key for entry in batch.entries if not may_be_row(entry))]
            gone = [key.removeprefix(self._tables.alive.prefix) for key in keys]
            change = self._membership.update(records, gone, self._clocks.steady())
        self._log(change)
        living = frozenset({*self._membership.live, self.member.id})
        self.crowd.hosts = len(living)
        self._on_members(living)
        if self.member.page or any(each.page for each in self._membership.live.values()):
            self.pages.set()
        else:
            self.pages.clear()
        own = self._membership.live.get(self.member.id)
        if self._entered and (own is None or own.incarnation != self.member.incarnation):
            self._beat_due.set()  # the batch may be old; the loop that keeps the key asks the store

    def _unread(self, entry: Entry) -> AliveRecord:
        """The heartbeat in a record of a newer version, or one that somebody overwrote: it may be a host that lives."""
        host = entry.key.removeprefix(self._tables.alive.prefix)
        return AliveRecord(id=host, name=self.name_of(host), boot="", incarnation="", at=0)

    def _log(self, change: MembershipChange) -> None:
        for name in change.joined:
            log.info("host %s joined", name)
        for name in change.left:
            log.info("host %s left", name)
        if change:
            log.info("watch triggered with %d hosts", len(self._membership.live))
