"""Replication: keeps the networks of this host's engine equal to those that the cluster defines.

A reconciliation loop with one key for each network name. Whatever may concern a network (a change of its definition or
tombstone, an event of the engine, a gap in either) only enqueues its name. A worker then observes the facts, decides on
one action and applies it, and repeats that until the action is `Settled`. There is at most one worker for a name, so
actions about one network never overlap. Every minute, and after each gap, all names are compared, which finds what no
event told of.

    watch definitions/, removed/ ─┐
    events of the engine ─────────┼─► queue of names ─► worker: observe ─► decide ─► apply ─► engine, store
    resync, every minute ─────────┘                       ▲                            │
                                                          └──────── until Settled ─────┘
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import NoReturn

from macvlan_global.engine.ports import Engine, NetworkEvent
from macvlan_global.errors import MacvlanGlobalError, Unavailable
from macvlan_global.replication.apply import Executor, LocalNetworks, Outcome
from macvlan_global.replication.decide import (
    Action,
    Change,
    Create,
    DeleteDefinition,
    ForgetLost,
    InConflict,
    Keep,
    LeaveAlone,
    Publish,
    Remove,
    RemoveDuplicate,
    SetPublished,
    Settled,
    TakeBackRemoval,
    Wait,
    WriteTombstone,
    decide,
)
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.replication.observe import Observer
from macvlan_global.replication.problems import NetworkProblem, NetworkProblems
from macvlan_global.store.known_engine import KnownEngine
from macvlan_global.store.observed_age import ObservedAges
from macvlan_global.store.ports import ClusterStore
from macvlan_global.store.table import Tables
from macvlan_global.tasks import forever, when

log = logging.getLogger(__name__)

RESYNC_SECONDS = 60.0
KEEP_TOMBSTONES_SECONDS = 90 * 86400.0
MOST_TOMBSTONES = 1000
"""Of more than these the oldest go sooner: every host keeps them all in memory."""
KEEP_SURPLUS_SECONDS = 86400.0
TURNS_SECONDS = 86400.0
"""Time over which hosts spread their deletions of one tombstone: the first does it, and the others hear of that."""
FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_UNAVAILABLE_SECONDS = 2.0
"""Longest back-off while the store or the engine does not answer."""
LAST_RETRY_REFUSED_SECONDS = 30.0
"""Longest back-off for what the engine refuses."""
REFUSED_APART_SECONDS = 0.5
"""Time between two tries of names that are refused, when there are many."""
MOST_NAMESAKES = 8
"""Removed networks of one name on which containers are expected to run still."""
UNAVAILABLE_TOLD_SECONDS = 30.0
"""Time for which the store may refuse something, while it is followed, until the operator is told."""
WORKERS = 4
"""Names that are worked on at a time: the engine and the driver have containers to start besides."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """Result of one pass over a name. `action` is None if none was decided; `longest_wait` bounds the back-off.
    `unavailable` is the problem with it if the store or the engine did not do it, which mostly passes."""

    outcome: Outcome
    action: type[Action] | None = None
    longest_wait: float = LAST_RETRY_REFUSED_SECONDS
    unavailable: NetworkProblem | None = None


class Replicator:
    """Reconciles this host's networks with the cluster's. `run` does the work; events only enqueue names."""

    def __init__(  # noqa: PLR0913 - each of another owner
        self,
        store: ClusterStore,
        tables: Tables,
        engine: Engine,
        networks: LocalNetworks,
        host: str,
        *,
        problems: NetworkProblems | None = None,
        on_read: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`store` holds the shared ones of `tables`, `host` is this host's id, `now` gives seconds since the epoch,
        `steady` seconds on a clock that is never set.

        `problems` is filled, and read by others; `on_read` is called after all definitions were read again.
        """
        self.problems = NetworkProblems() if problems is None else problems
        self._on_read = on_read
        self._host = host
        self._tables = tables
        self._engine = engine
        self._networks = networks
        self.on_networks: Callable[[], None] = lambda: None
        """Called when the networks of the cluster were read or changed."""
        self._definitions = MirroredTable(
            store, tables.definitions, self._definitions_changed, self._definitions_resynced
        )
        self._tombstones = MirroredTable(store, tables.removed, self._tombstones_changed, self._tombstones_resynced)
        mirrors = (self._definitions, self._tombstones)
        is_ending = networks.leftovers.is_ending
        self._observer = Observer(tables, engine, *mirrors, host=host, now=now, steady=steady, is_ending=is_ending)
        self._ages = ObservedAges(tables, "tombstones", steady=steady)
        self._executor = Executor(tables, engine, networks, *mirrors)
        self._queue: set[str] = set()
        self._queued = asyncio.Event()
        self._active: dict[str, asyncio.Event] = {}  # names with a worker; the event has it look once more
        self._tried: dict[str, Action] = {}  # the last action of each of these
        self._slots = asyncio.Semaphore(WORKERS)
        self._engine_known = False
        self._new_engine = ""  # the id of the data of an engine that lost those that this host's networks are about
        self._lost: dict[str, str] = {}  # ids and names of such networks, whose records are not deleted yet
        self._resync_due = asyncio.Event()
        self._resyncing = False
        self.actions: Counter[tuple[str, str]] = Counter()
        """Changes of networks since the driver began, by kind and outcome: applied, later or failed."""

    async def run(self) -> NoReturn:
        """Replicate until cancelled."""
        first, last = FIRST_RETRY_SECONDS, LAST_RETRY_UNAVAILABLE_SECONDS
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._definitions.run())
            tasks.create_task(self._tombstones.run())
            resync = "comparing networks with the cluster"
            tasks.create_task(forever(resync, self._resync_when_due, first=first, last=last, level=logging.DEBUG))
            await forever("taking up events about networks", lambda: self._dispatch(tasks), first=first, last=last)

    # ------------------------------------------------------------------ events

    def on_network_event(self, event: NetworkEvent) -> None:
        """Enqueue the network of an event of this host's engine, if it may concern replication."""
        if event.action == "destroy":
            self.problems.forget(event.name)
            self._observer.seen.ended(event.network)
        if event.action in {"create", "destroy"} or (event.action == "disconnect" and event.name in self.problems):
            self._enqueue([event.name])

    async def on_engine_up(self) -> None:
        """Check whether the engine, which answers (again), still has its data, and request a resync.

        An engine that lost its networks gets them again: the records of those it had are deleted first, so that they
        are not taken for removals by an operator. Nothing may be deleted as unknown to the engine before this returns.
        A record that cannot be deleted now is tried again with each resync. Until none is left the engine counts as
        another one than that of the records, for whose networks no tombstone is written.

        Raises:
            Unavailable: the engine does not answer; nothing was concluded.
        """
        found = (await self._engine.info()).id
        here = {each.id for each in await self._engine.every_network()}
        if not found or (await KnownEngine(self._tables).read()).id == found:
            self._new_engine, self._lost = "", {}
        elif found != self._new_engine:
            records = (await self._observer.local()).networks.values()
            lost = {each.id: each.shown for each in records if each.published and each.id not in here}
            self._new_engine, self._lost = found, lost
        await self._forget_lost()
        self._engine_known = True
        self._request_resync()

    async def _forget_lost(self) -> None:
        """Delete the records of the networks that the engine lost with its data; those that are made on it since then
        are not among them."""
        engine = self._new_engine
        for network, shown in list(self._lost.items()):
            try:
                await self._networks.delete(network, everywhere=False)
            except MacvlanGlobalError as error:  # of the kernel, say: the others are created meanwhile
                self.problems.add(_failed(shown, None, error))
            else:
                log.warning("network %s: the engine lost its data; the network is created again", shown)
                self._lost.pop(network, None)
        if engine and engine == self._new_engine and not self._lost:
            await KnownEngine(self._tables).remember_id(engine)
            self._new_engine = ""

    # ------------------------------------------------------------------- state

    @property
    def following(self) -> bool:
        """Whether the watches of definitions and tombstones are open."""
        return self._definitions.live and self._tombstones.live

    @property
    def busy(self) -> bool:
        """Whether a name is queued or being worked on, or a resync is due or under way."""
        return bool(self._active or self._queue or self._resyncing or self._resync_due.is_set())

    @property
    def waiting(self) -> int:
        """Number of networks that are queued or being worked on."""
        return len(self._queue) + len(self._active)

    def defined(self) -> set[str]:
        """Ids in the cluster of all networks that are defined, as far as they were read."""
        return {row.record.id for row in self._definitions.rows.values()}

    def namesakes(self, networks: Collection[str]) -> set[str]:
        """Ids in the cluster of networks that are called as one of `networks`: the one that is defined, and the latest
        of those that were removed, on which containers may still run."""
        defined = {row.record.id: row.record.name for row in self._definitions.rows.values()}
        removed = {row.record.id: row.record for row in self._tombstones.rows.values()}
        names = {
            defined[each] if each in defined else removed[each].name
            for each in networks
            if each in defined or each in removed
        }
        found = {each for each, name in defined.items() if name in names}
        for name in names:
            former = sorted((each for each in removed.values() if each.name == name), key=lambda each: each.at)
            found.update(each.id for each in former[-MOST_NAMESAKES:])
        return found

    # ------------------------------------------------------------------- queue

    def _enqueue(self, names: Iterable[str]) -> None:
        self._queue.update(names)
        self._queued.set()

    def _definitions_changed(self, names: Iterable[str]) -> None:
        self._enqueue(names)
        self.on_networks()

    def _tombstones_changed(self, ids: Iterable[str]) -> None:
        self._enqueue(self._tombstones.rows[each].record.name for each in ids if each in self._tombstones.rows)
        self.on_networks()

    def _definitions_resynced(self) -> None:
        self._request_resync()
        self.on_networks()
        self._on_read()

    def _tombstones_resynced(self) -> None:
        self._request_resync()
        self.on_networks()

    def _request_resync(self) -> None:
        self._resync_due.set()

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        """Start a worker for every queued name; one that has a worker is looked at once more."""
        async with when(self._queued):
            for name in sorted(self._queue):
                if name in self._active:
                    self._active[name].set()
                else:
                    self._active[name] = asyncio.Event()
                    tasks.create_task(self._reconcile(name))
            self._queue.clear()

    @property
    def _ready(self) -> bool:
        return self._engine_known and self._definitions.synced and self._tombstones.synced

    # ------------------------------------------------------------------ worker

    async def _reconcile(self, name: str) -> None:
        """Work on one name until it is settled; it is in `_active` meanwhile."""
        try:
            await self._until_settled(name, self._active[name])
        finally:
            self._active.pop(name, None)
            self._tried.pop(name, None)

    async def _until_settled(self, name: str, again: asyncio.Event) -> None:
        wait, before = FIRST_RETRY_SECONDS, None
        since: float | None = None
        while True:
            again.clear()
            attempt = await self._attempt(name)
            if attempt.outcome == "done" and not again.is_set():
                return
            now = asyncio.get_running_loop().time()
            since = now if since is None else since
            if attempt.unavailable is None or not self.following:
                since = None
            elif now - since >= UNAVAILABLE_TOLD_SECONDS and name not in self.problems:
                self.problems.add(attempt.unavailable)
            # the same action twice in a row: its effect is not visible yet, or it failed silently; back off
            if attempt.outcome == "later" or (attempt.action and attempt.action is before):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(again.wait(), wait)
                wait = min(wait * 2, attempt.longest_wait)
            else:
                wait = FIRST_RETRY_SECONDS
            before = attempt.action

    async def _attempt(self, name: str) -> _Attempt:
        """Observe, decide and apply once."""
        if not self._ready:  # the first resync enqueues it again
            return _Attempt("done")
        action: Action | None = None
        try:
            async with self._slots:
                facts = await self._observer.observe(name)
                if facts.missing and facts.missing.id in self._lost:  # a resync enqueues it again
                    return _Attempt("done")
                action = decide(facts)
                self._report(name, action, is_new=self._tried.get(name) != action)
                self._tried[name] = action
                outcome = await self._executor.apply(action)
            self._count(action, "later" if outcome == "later" else "applied")
            if isinstance(action, TakeBackRemoval) or (isinstance(action, Publish) and action.definition.kept_for):
                self._on_read()  # pools and gateway went with the removal: they are claimed again
            return _Attempt(outcome, type(action))
        except Unavailable as error:
            self._count(action, "later")
            log.debug("network %s: %s", name, error)
            problem = _failed(name, action, error)
            return _Attempt("later", type(action) if action else None, LAST_RETRY_UNAVAILABLE_SECONDS, problem)
        except MacvlanGlobalError as error:
            self.problems.add(_failed(name, action, error))
        except Exception:
            log.exception("network %s: replication failed, it is tried again", name)
        self._count(action, "failed")
        # many names that are refused take turns: anybody may write thousands of definitions
        longest = max(LAST_RETRY_REFUSED_SECONDS, len(self._active) * REFUSED_APART_SECONDS)
        return _Attempt("later", type(action) if action else None, longest)

    def _count(self, action: Action | None, outcome: str) -> None:
        if isinstance(action, Change):
            self.actions[type(action).__name__, outcome] += 1

    # --------------------------------------------------------------- reporting

    def _report(self, name: str, action: Action, *, is_new: bool = True) -> None:
        """Log a change before it is made, unless it is only tried again, and add or clear the problem of this name."""
        match action:
            case InConflict():
                self.problems.add(
                    NetworkProblem(name, action.network, action.reason, action.next_step, action.blocks, action.room)
                )
            case Keep():
                self.problems.add(
                    NetworkProblem(name, action.network, action.reason, action.next_step, blocks=True, room=action.room)
                )
            case Settled():
                self.problems.clear(name, action.reason)
            case TakeBackRemoval():
                self._observer.kept_for[action.cluster_id] = action.containers
                self.problems.note(_kept(name, action))
                _log_change(name, action)
            case ForgetLost():
                if is_new:
                    log.warning(
                        "the engine has lost network %s, which the cluster has; it is made again; if you removed it, "
                        "remove it again: docker network rm %s",
                        name,
                        name,
                    )
            case Wait() | LeaveAlone():
                log.debug("network %s: waiting, %s", name, action.reason)
            case _ if is_new:
                _log_change(name, action)
            case _:
                pass

    # ------------------------------------------------------------------ resync

    async def _resync_when_due(self) -> None:
        async with when(self._resync_due, at_most=RESYNC_SECONDS):
            await self._forget_lost()
            if self._ready:
                self._resyncing = True
                try:
                    await self._resync()
                finally:
                    self._resyncing = False

    async def _resync(self) -> None:
        """Enqueue every name that is not settled."""
        names = {each.name for each in self.problems.all() if each.name not in self._active}
        for facts in await self._observer.observe_all():
            action = decide(facts)
            if isinstance(action, Settled):
                self._report(facts.name, action)
                names.discard(facts.name)
            elif isinstance(action, LeaveAlone):
                names.discard(facts.name)
            elif facts.name not in self._active:  # one with a worker is tried again anyway
                names.add(facts.name)
        self._enqueue(names)
        await self._delete_old_tombstones()

    async def _delete_old_tombstones(self) -> None:
        """Delete tombstones that no host can need any more, and the oldest of those that are too many, so that they do
        not pile up: every host follows them.

        Their age is that which this host observed: see `store.observed_age`. A host that was away for longer would
        bring a network back. One whose containers still run on it remembers the removal: see `SetRemoved`. As long as
        a pool names the network, those who look for what it leaves must know that it was removed.
        Each host has a time of its own within a day for each of them: the first deletes it.
        """
        rows = self._tombstones.rows
        await self._ages.update(rows.keys())
        oldest_first = sorted(rows, key=lambda key: rows[key].entry.revision)
        surplus = oldest_first[: max(0, len(rows) - MOST_TOMBSTONES)]
        old = [key for key in surplus if self._is_older(key, KEEP_SURPLUS_SECONDS)]
        old += [key for key in oldest_first[len(surplus) :] if self._is_older(key, KEEP_TOMBSTONES_SECONDS)]
        if not old:
            return
        used = {each.shared_id for each in (await self._observer.local()).networks.values()}
        pools = await self._tables.pools.read_all(await self._tables.pools.entries())
        used |= {row.record.network for _, row in pools if row}
        unread = [entry.value for entry, row in pools if row is None]  # of a newer version: they name it all the same
        for key in old:
            row = self._tombstones.rows.get(key)
            if row and row.record.id not in used and not any(key.encode() in each for each in unread):
                with self._tombstones.asking(key) as question:
                    await self._tables.removed.delete(row)  # if it changed meanwhile, the watch says so
                    self._tombstones.put(question, None)

    def _is_older(self, key: str, seconds: float) -> bool:
        """Whether this host has observed a tombstone for longer, and for the time besides that it leaves to others."""
        beyond = self._ages.age(key) - seconds
        digest = hashlib.sha256(f"{self._host} {key}".encode()).digest()
        return beyond > 0 and beyond > int.from_bytes(digest[:4]) / 2**32 * TURNS_SECONDS


def _log_change(name: str, action: Change) -> None:
    log.info("%s network %s: %s", action.verb, name, action.reason)


def _kept(name: str, action: TakeBackRemoval) -> NetworkProblem:
    return NetworkProblem(
        name,
        action.network,
        f"network {name} was removed on another host and is kept for stopped containers of this host: "
        f"{', '.join(action.containers)}",
        "remove these containers (docker rm) and then the network, if it is not wanted any more",
    )


def _failed(name: str, action: Action | None, error: MacvlanGlobalError) -> NetworkProblem:
    match action:
        case Create():
            what = f"network {name} of the cluster cannot be created on this host: {error}"
        case Remove() | RemoveDuplicate():
            what = f"network {name} of the cluster cannot be removed from this host: {error}"
        case Publish() | SetPublished() | WriteTombstone() | DeleteDefinition() | TakeBackRemoval():
            what = f"the cluster cannot be told of network {name}: {error}"
        case _:
            what = f"network {name} of the cluster cannot be compared with this host: {error}"
    return NetworkProblem(name, "", what, "correct the cause; the driver tries again by itself")
