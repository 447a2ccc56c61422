"""Keeps this host's engine in step with the networks of the cluster.

Whatever may have changed about a network makes its name be looked at: facts are gathered, `plan` decides, the action is
carried out, and the name is looked at again until it is settled. One task looks at a name at a time, so actions about
one network never overlap. Every minute, and after each gap, all names are compared.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from macvlan_global.engine.ports import Engine, NetworkEvent
from macvlan_global.errors import MacvlanGlobalError, Unavailable
from macvlan_global.replication import decide
from macvlan_global.replication.apply import Executor, NetworksHere, Outcome
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.replication.observe import Observer
from macvlan_global.store.ports import ClusterStore
from macvlan_global.store.table import Tables

log = logging.getLogger(__name__)

COMPARE_SECONDS = 60.0
KEEP_REMOVED_SECONDS = 90 * 86400.0
FIRST_RETRY_SECONDS = 0.1
AWAY_RETRY_SECONDS = 2.0
"""The longest wait between two tries while the store or the engine is away."""
REFUSED_RETRY_SECONDS = 30.0
"""The longest wait between two tries of what the engine refuses."""
AT_ONCE = 4
"""How many networks are worked on at a time: the engine and the driver have containers to start besides."""


@dataclass(frozen=True, slots=True)
class NetworkProblem:
    """What an operator should know about a network on this host. `id` is the engine's, "" if it is not here.

    With `blocks`, containers cannot be started on it.
    """

    name: str
    id: str
    reason: str
    next_step: str
    blocks: bool = False

    @property
    def text(self) -> str:
        """All of it in one line."""
        return f"{self.reason}; {self.next_step}"


class Replicator:
    """Networks of the cluster on this host. `run` does the work; everything else returns at once or soon."""

    def __init__(
        self,
        store: ClusterStore,
        tables: Tables,
        engine: Engine,
        networks: NetworksHere,
        host: str,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`store` is where the shared ones of `tables` live, `host` is this host's id."""
        self._tables = tables
        self._engine = engine
        self._networks = networks
        self._now = now
        self._definitions = MirroredTable(store, tables.definitions, self._look_at, self._read_anew)
        self._removed = MirroredTable(store, tables.removed, self._removed_changed, self._compare_soon)
        watches = (self._definitions, self._removed)
        self._gatherer = Observer(tables, engine, *watches, host=host, now=now)
        self._carrier = Executor(tables, engine, networks, *watches)
        self._problems: dict[str, NetworkProblem] = {}
        self._looking: dict[str, asyncio.Event] = {}
        self._to_look_at: set[str] = set()
        self._something = asyncio.Event()
        self._compare = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._engine_known = False
        self.on_read: Callable[[], None] = lambda: None
        """Told when the cluster's networks were read anew."""
        self._comparing = False

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._definitions.run())
            tasks.create_task(self._removed.run())
            tasks.create_task(self._compare_often())
            while True:
                await self._something.wait()
                self._something.clear()
                for name in sorted(self._to_look_at):
                    if name in self._looking:
                        self._looking[name].set()
                    else:
                        self._looking[name] = asyncio.Event()
                        tasks.create_task(self._settle(name))
                self._to_look_at.clear()

    # ------------------------------------------------------------- what happens

    def network_event(self, event: NetworkEvent) -> None:
        """Hear of something that happened to a network of ours on this engine."""
        if event.action in {"create", "destroy"} or (event.action == "disconnect" and event.name in self._problems):
            self._look_at([event.name])

    async def engine_came(self) -> None:
        """Hear that the engine answers (again). Nothing may be deleted as unknown to it before this has returned.

        An engine that lost its networks gets them again; so what this host keeps about those it had is forgotten,
        and not taken for removed by an operator.

        Raises:
            Unavailable: the engine does not answer; nothing is known then.
        """
        found = (await self._engine.info()).id
        here = {each.id for each in await self._engine.every_network()}
        row = await self._tables.identity.get("this")
        if row and found and row.record.engine != found:
            for network in (await self._gatherer.local()).networks.values():
                if network.published and network.id not in here:
                    log.warning("the engine has lost network %s; it is made again", network.name or network.id[:12])
                    await self._networks.delete(network.id, everywhere=False)
            await self._tables.identity.replace(row, msgspec.structs.replace(row.record, engine=found))
        self._engine_known = True
        self._compare_soon()

    # ------------------------------------------------------------------ answers

    @property
    def following(self) -> bool:
        """Whether changes of the cluster's networks are being received."""
        return self._definitions.live and self._removed.live

    @property
    def busy(self) -> bool:
        """Whether something is being looked at, or about to be."""
        return bool(self._looking or self._to_look_at or self._comparing or self._compare.is_set())

    def problems(self) -> list[NetworkProblem]:
        """What an operator should know, by the names of networks."""
        return [self._problems[name] for name in sorted(self._problems)]

    def conflict_of(self, network_id: str) -> str:
        """Why no container may start on this network (the engine's id), and what to do; "" if it may."""
        for problem in self._problems.values():
            if problem.blocks and problem.id == network_id:
                return problem.text
        return ""

    # ------------------------------------------------------------------- inside

    def _look_at(self, names: Iterable[str]) -> None:
        self._to_look_at.update(names)
        self._something.set()

    def _removed_changed(self, ids: Iterable[str]) -> None:
        self._look_at(self._removed.rows[each].record.name for each in ids if each in self._removed.rows)

    def _read_anew(self) -> None:
        self._compare_soon()
        self.on_read()

    def _compare_soon(self) -> None:
        self._compare.set()

    @property
    def _ready(self) -> bool:
        return self._engine_known and self._definitions.complete and self._removed.complete

    async def _settle(self, name: str) -> None:
        """Look at a name until nothing is left to do about it."""
        event = self._looking[name]
        wait, before = FIRST_RETRY_SECONDS, ""
        while True:
            event.clear()
            tried = await self._try(name)
            if tried.outcome == "done" and not event.is_set():
                del self._looking[name]
                return
            # what was done already and is to be done again shows late, or fails without a word
            if tried.outcome == "later" or tried.action == before:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(event.wait(), wait)
                wait = min(wait * 2, tried.longest_wait)
            else:
                wait = FIRST_RETRY_SECONDS
            before = tried.action

    async def _try(self, name: str) -> "_Tried":
        """Look at a name once."""
        if not self._ready:  # the first comparison comes back to it
            return _Tried("done")
        doing = "gathering"
        try:
            async with self._slots:
                action = decide.decide(await self._gatherer.about(name))
                doing = type(action).__name__
                self._note(name, action)
                return _Tried(await self._carrier.carry_out(action), doing)
        except Unavailable as error:
            log.debug("network %s: %s", name, error)
            return _Tried("later", doing, AWAY_RETRY_SECONDS)
        except MacvlanGlobalError as error:
            what = f"network {name} of the cluster cannot be {_DOING.get(doing, 'looked after')} here: {error}"
            self._put(NetworkProblem(name, "", what, "put right what it says, it is tried again every half minute"))
        except Exception:
            log.exception("looking after network %s failed; it is tried again", name)
        return _Tried("later", doing)

    def _note(self, name: str, action: decide.Action) -> None:
        """Keep what an operator should know, and log what is about to be done."""
        if isinstance(action, decide.InConflict):
            self._put(NetworkProblem(name, action.network, action.reason, action.next_step, action.blocks))
        elif isinstance(action, decide.Keep):
            self._put(NetworkProblem(name, action.network, action.reason, action.next_step, blocks=True))
        elif isinstance(action, decide.Settled):
            if self._problems.pop(name, None):
                log.info("network %s: %s", name, action.reason)
        elif not isinstance(action, decide.Wait):
            log.info("network %s: %s, since %s", name, type(action).__name__, action.reason)

    def _put(self, problem: NetworkProblem) -> None:
        if self._problems.get(problem.name) != problem:
            log.warning("%s; %s", problem.reason, problem.next_step)
        self._problems[problem.name] = problem

    async def _compare_often(self) -> None:
        wait = FIRST_RETRY_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._compare.wait(), COMPARE_SECONDS)
            self._compare.clear()
            if not self._ready:
                continue
            self._comparing = True
            try:
                await self._compare_all()
                wait = FIRST_RETRY_SECONDS
            except Unavailable as error:
                log.debug("networks are not compared yet: %s", error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, AWAY_RETRY_SECONDS)
                self._compare.set()
            except Exception:
                log.exception("comparing the networks failed; it is tried again")
            finally:
                self._comparing = False

    async def _compare_all(self) -> None:
        names = set(self._problems)
        for facts in await self._gatherer.everything():
            names.discard(facts.name)
            action = decide.decide(facts)
            if isinstance(action, decide.Settled | decide.InConflict):
                self._note(facts.name, action)
            else:
                names.add(facts.name)
        self._look_at(names)
        await self._forget_old_removals()

    async def _forget_old_removals(self) -> None:
        """A host that was away for longer than this would bring a network back; nobody is, and rows must not pile
        up for ever."""
        used = {each.shared_id for each in (await self._gatherer.local()).networks.values()}
        for key, row in list(self._removed.rows.items()):
            if self._now() - row.record.at > KEEP_REMOVED_SECONDS and row.record.id not in used:
                await self._tables.removed.delete(row)
                self._removed.learn(key, None)


_DOING = {"Create": "made", "Remove": "removed"}


@dataclass(frozen=True, slots=True)
class _Tried:
    """What came of looking at a name, and how long to wait at most before the next time."""

    outcome: Outcome
    action: str = ""
    longest_wait: float = REFUSED_RETRY_SECONDS
