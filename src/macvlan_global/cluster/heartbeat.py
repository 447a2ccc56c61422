"""This host's place in the cluster, and which other hosts live.

A host lives while its key `alive/<id>` is there, which goes with a lease that the host renews. `hosts/<id>` tells about
it for longer. Only `alive/` is watched: it changes when a host comes or goes, while rows of `hosts/` change every
minute, which in a cluster of thousands would be news for everybody all the time.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from macvlan_global.cluster.membership import Membership, MembershipChange
from macvlan_global.errors import Conflict, Internal, MacvlanGlobalError, Unavailable
from macvlan_global.store.ports import Batch, ClusterStore, Entry, Lease
from macvlan_global.store.records import AliveRecord, HostRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.store.validate import VERSION, version_of

log = logging.getLogger(__name__)

TTL_SECONDS = 15.0
ROW_SECONDS = 60.0
"""How often `hosts/<id>` is written if nothing changed."""
NEWS_SECONDS = 1.0
LEAVE_SECONDS = 2.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Member:
    """This host, this boot of it, this run of its driver, and the version that runs."""

    id: str
    name: str
    boot: str
    incarnation: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class HostSummary:
    """What `hosts/<id>` tells beside the name: the engine's version ("" if it is away) and what is on the host."""

    engine: str = ""
    networks: int = 0
    endpoints: int = 0


@dataclass(frozen=True, slots=True)
class Clocks:
    """`wall` is written into records; `steady` measures, and is never set."""

    wall: Callable[[], float] = field(default=time.time)
    steady: Callable[[], float] = field(default=time.monotonic)


class Heartbeat:
    """One per process. `announce` once, then `run` for as long as the driver lives, then `leave`."""

    def __init__(
        self,
        store: ClusterStore,
        tables: Tables,
        member: Member,
        facts: Callable[[], Awaitable[HostSummary]],
        *,
        ttl: float = TTL_SECONDS,
        clocks: Clocks | None = None,
    ) -> None:
        """`ttl` in seconds is how long a host is taken for living after its last sign of life, or up to twice that."""
        self.member = member
        self.ttl = ttl
        self._store = store
        self._tables = tables
        self._facts = facts
        self._clocks = clocks or Clocks()
        self._roll = Membership(member.id)
        self._lease: Lease | None = None
        self._was_in = False
        self._twin_since: float | None = None
        self._doubt = asyncio.Event()
        self._reachable = True
        self._told = HostSummary()
        self._told_at: float | None = None
        self._news = asyncio.Event()

    # ------------------------------------------------------------ who lives

    def name_of(self, host: str) -> str:
        """What the host with this id is called, living or dead; the beginning of the id if nobody knows."""
        return self.member.name if host == self.member.id else self._roll.named.get(host) or host[:12]

    def is_live(self, host: str) -> bool:
        """False only if the host is known to be gone: while nobody knows, it counts as living."""
        return self._roll.is_live(host)

    def gone_for(self, host: str) -> float | None:
        """How long this process has seen the host gone without a gap, in seconds; None if it lives or nobody knows."""
        return self._roll.gone_for(host, self._clocks.steady())

    def live(self) -> Mapping[str, AliveRecord]:
        """The hosts that live, by id, as last seen."""
        return self._roll.live

    def known(self) -> Mapping[str, str]:
        """Names of the hosts that are or were, by id, as last seen."""
        return self._roll.named

    # ------------------------------------------------------------ this host

    async def announce(self) -> None:
        """Enter the cluster, if the store answers and nothing of an earlier boot is in the way; else `run` does it.

        Raises:
            Conflict: a living host has this one's name or identity.
        """
        try:
            await self._enter()
        except (Unavailable, Internal) as error:
            self._note_away(error)

    async def run(self) -> None:
        """Renew the lease, tell about this host, and follow who lives, until cancelled.

        It never returns, and a store that is away is waited for.

        Raises:
            Conflict: a living host has this one's name or identity; the driver must stop.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_alive())
                tasks.create_task(self._follow())
                tasks.create_task(self._tell())
        except BaseExceptionGroup as group:
            raise next((error for error in group.exceptions if isinstance(error, Conflict)), group) from None

    def look_again(self) -> None:
        """What this host tells about itself has changed: tell it soon, and not only when it is due."""
        self._news.set()

    async def leave(self) -> None:
        """Let the others know at once that the driver stops. What its containers have stays theirs."""
        lease, self._lease = self._lease, None
        if lease is not None:
            with contextlib.suppress(Unavailable, TimeoutError):  # then it lapses by itself
                async with asyncio.timeout(LEAVE_SECONDS):
                    await lease.end()

    async def _keep_alive(self) -> None:
        while True:
            try:
                pause = await self._sign_of_life()
                self._note_back()
            except (Unavailable, Internal) as error:
                self._note_away(error)
                pause = min(RETRY_SECONDS, self.ttl / 3)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._doubt.wait()

    async def _sign_of_life(self) -> float:
        """Do what is due; how long to wait for the next time, in seconds."""
        doubted = self._doubt.is_set()
        self._doubt.clear()
        if self._lease is None:
            entered = await self._enter()
            return self.ttl / 3 if entered else min(RETRY_SECONDS, self.ttl / 3)
        if not await self._lease.renew():
            log.warning("the lease of this host ended before it was renewed; it enters the cluster again")
            self._lease = None
            return 0
        if doubted and not await self._has_key():
            self._lease = None
            return 0
        return self.ttl / 3

    async def _has_key(self) -> bool:
        entry = await self._store.get(self._tables.alive.key(self.member.id))
        row = self._tables.alive.read(entry) if entry else None
        return row is not None and row.record.incarnation == self.member.incarnation

    async def _enter(self) -> bool:
        """Put `alive/<id>` there; False if another one is in the way, which may lapse."""
        rows = await self._tables.alive.scan()
        own = next((row for row in rows if row.record.id == self.member.id), None)
        if not self._was_in:  # later on it does no harm, and containers may run here
            self._refuse_namesake(rows)
        if own is not None and not await self._take_over(own):
            return False
        if own is None:
            await self._clear_own_key()
        await self._write_row(await self._gather())
        lease = await self._store.lease(self.ttl)
        try:
            entry = await self._create_key(lease)
            if entry is not None and not self._was_in:
                # create first, look afterwards: of two that came at once, the later one sees the other
                rows = await self._tables.alive.scan()
                self._refuse_namesake([row for row in rows if row.entry.revision < entry.revision])
        except BaseException:
            with contextlib.suppress(Unavailable):
                await lease.end()
            raise
        if entry is None:
            await lease.end()
            return False
        self._lease, self._was_in, self._twin_since = lease, True, None
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

    async def _take_over(self, own: Row[AliveRecord]) -> bool:
        """Take an earlier run's key away if that run is surely over; whether it is gone."""
        if own.record.incarnation == self.member.incarnation:  # ours: an answer was lost, or a lease lapses just now
            return await self._tables.alive.delete(own)
        if own.record.boot == self.member.boot and not self._was_in:  # we hold the lock of the state folder
            return await self._tables.alive.delete(own)
        now = self._clocks.steady()
        self._twin_since = now if self._twin_since is None else self._twin_since
        if now - self._twin_since <= 2 * self.ttl + 5:
            return False
        raise Conflict(
            f"another machine lives in the cluster as this host ({own.record.name}, id {self.member.id[:12]}): one of "
            "the two state folders is a copy. On the machine with the copy, stop the driver, move its state folder "
            "away, and start it again"
        )

    async def _clear_own_key(self) -> None:
        """Away with what no driver wrote: it has no lease, so it would be in our way and show us alive for ever."""
        entry = await self._store.get(self._tables.alive.key(self.member.id))
        if entry and version_of(entry.value) <= VERSION and self._tables.alive.read(entry) is None:
            await self._store.delete(entry)

    async def _create_key(self, lease: Lease) -> Entry | None:
        record = AliveRecord(
            id=self.member.id,
            name=self.member.name,
            boot=self.member.boot,
            incarnation=self.member.incarnation,
            at=self._clocks.wall(),
        )
        key = self._tables.alive.prefix + self.member.id
        return await self._store.create_with(lease, key, msgspec.json.encode(record))

    def _note_away(self, error: MacvlanGlobalError) -> None:
        self._twin_since = None  # a lease cannot lapse while there is no store to let it
        if self._reachable:
            log.warning("this host cannot be announced to the cluster: %s. What runs goes on; it is tried again", error)
        self._reachable = False

    def _note_back(self) -> None:
        if not self._reachable:
            log.info("this host can be announced to the cluster again")
        self._reachable = True

    # -------------------------------------------------------- telling, seeing

    async def _tell(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.ttl):
                    await self._news.wait()
                    await asyncio.sleep(min(NEWS_SECONDS, self.ttl / 3))  # what comes together is told together
            self._news.clear()
            facts = await self._gather()
            due = self._told_at is None or self._clocks.steady() - self._told_at >= ROW_SECONDS
            if self._was_in and (due or facts != self._told):
                with contextlib.suppress(Unavailable, Internal):  # told by the task that renews the lease
                    await self._write_row(facts)

    async def _gather(self) -> HostSummary:
        try:
            return await self._facts()
        except Unavailable:
            return self._told

    async def _write_row(self, facts: HostSummary) -> None:
        record = HostRecord(
            id=self.member.id,
            name=self.member.name,
            version=self.member.version,
            engine=facts.engine,
            networks=facts.networks,
            endpoints=facts.endpoints,
            seen=self._clocks.wall(),
        )
        await self._tables.hosts.put(record, self.member.id)
        self._told, self._told_at = facts, self._clocks.steady()

    async def _follow(self) -> None:
        while True:
            watch = self._store.watch(self._tables.alive.prefix)
            try:
                async for batch in watch:
                    await self._take(batch)
            except (Unavailable, Internal) as error:
                log.debug("who lives is not known now: %s", error)
            finally:
                self._roll.lose_sight()
                if isinstance(watch, AsyncGenerator):
                    await watch.aclose()
            await asyncio.sleep(min(RETRY_SECONDS, self.ttl / 3))

    async def _take(self, batch: Batch) -> None:
        records = [self._read(entry) for entry in batch.entries]
        if batch.whole:
            names = {row.record.id: row.record.name for row in await self._tables.hosts.scan()}
            self._roll.learn_names(names)
            change = self._roll.see_all(records, self._clocks.steady())
        else:
            gone = [key.removeprefix(self._tables.alive.prefix) for key in batch.gone]
            change = self._roll.see(records, gone, self._clocks.steady())
        self._log(change)
        own = self._roll.live.get(self.member.id)
        if self._was_in and (own is None or own.incarnation != self.member.incarnation):
            self._doubt.set()  # what is seen may be old; the task that keeps the key asks

    def _read(self, entry: Entry) -> AliveRecord:
        if row := self._tables.alive.read(entry):
            return row.record
        # of a newer version, or overwritten by somebody: whoever it is, it lives
        host = entry.key.removeprefix(self._tables.alive.prefix)
        return AliveRecord(id=host, name=self.name_of(host), boot="", incarnation="", at=0)

    def _log(self, change: MembershipChange) -> None:
        for name in change.joined:
            log.info("host %s joined", name)
        for name in change.left:
            log.info("host %s left", name)
        if change:
            log.info("watch triggered with %d hosts", len(self._roll.live))
