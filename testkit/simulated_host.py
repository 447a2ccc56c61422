"""A host of a simulation: a machine with a disk and an engine, on which drivers live and die."""

import asyncio
import contextlib
import copy
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from typing import Any, Literal, TypeVar

from macvlan_global.cluster.heartbeat import Clocks
from macvlan_global.cluster.identity import note_clock
from macvlan_global.config import Config
from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.engine.ports import Engine, NewNetwork
from macvlan_global.errors import Conflict, MacvlanGlobalError, Unavailable
from macvlan_global.global_scope import join_cluster
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.ports import RouteFacts
from macvlan_global.metrics.counts import Metrics
from macvlan_global.reconcile import corrections
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.engine_follower import EngineFollower
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import ClusterStore
from macvlan_global.store.records import IdentityRecord
from testkit.fake_engine import FakeEngine, engine_id
from testkit.fake_kernel import FakeKernel
from testkit.history import Event
from testkit.plugin_calls import InProcess, NoAnswer, insist
from testkit.simulated_store import Life, LocalStore, SharedStore, Weather

T = TypeVar("T")

EPOCH = 1_000_000.0
GRACE = 60.0
HOST_GRACE = 200.0
TTL = 60.0
"""Of a host's lease, in seconds. Longer than the driver's own, as each renewal costs a schedule time."""
RETRIES = (1.0, 2.0, 4.0, 8.0)
"""Pause of an engine before it calls a driver again that did not answer, in seconds."""
CLAIM_SECONDS = 20.0
RESTART = 5.0
"""Seconds until a driver that refused to start is started again."""
PARENT = "eth0"
NAMES = 5
"""Count of the names that engines tell the IPAM driver."""


def device() -> FakeKernel:
    """The kernel of a host with one device."""
    return FakeKernel(PARENT)


@dataclass(slots=True)
class Surroundings:
    """Surroundings that all hosts share. `twice` is the chance that an engine sends a request two times; it goes
    by the first answer or by the second one."""

    store: MemoryStore
    weather: Weather
    lot: random.Random
    events: list[Event]
    kernel: Callable[[], FakeKernel] = device
    twice: float = 0.0
    repeated: int = 0
    """Count of the requests that were sent two times."""
    connect: Callable[[Life, str], ClusterStore] | None = None
    """Other ways to the shared store: of a run of the driver, on the host of this name."""
    hosts: list["SimulatedHost"] = field(default_factory=list)
    clones: int = 0
    """Count of the machines that were made from a host's disk."""
    bugs: list[BaseException] = field(default_factory=list)
    """Exceptions that ended tasks which must not end."""

    def now(self) -> float:
        """The true time, which no host knows."""
        return asyncio.get_running_loop().time()

    def reach(self, life: Life, host: str) -> ClusterStore:
        """The shared store as a run of the driver on a host reaches it."""
        return self.connect(life, host) if self.connect else SharedStore(self.store, life, self.weather, host)

    def note(self, event: Event) -> None:
        """It happened."""
        self.events.append(event)


class HostClock:
    """A host's idea of the time, `skew` seconds off. Never twice the same: rows that are kept by it have one order."""

    def __init__(self, skew: float) -> None:
        """Off by `skew` from the beginning."""
        self.skew = skew
        self._last = 0.0

    def __call__(self) -> float:
        """Seconds since the epoch, as the host believes."""
        now = EPOCH + self.skew + asyncio.get_running_loop().time()
        if abs(now - self._last) < 0.00001:
            now = self._last + 0.00001
        self._last = now
        return now


class Died(NoAnswer):
    """The driver died before it answered."""


class Run:
    """One run of a driver: its parts, its tasks, and its way to the stores."""

    def __init__(self, around: Surroundings, host: "SimulatedHost") -> None:
        """Built, and not serving yet."""
        self._around = around
        self._host = host
        self.life = Life()
        self.tasks: dict[asyncio.Task[Any], None] = {}  # no set: that has no order to rely on
        self.serving = False
        self.changed = asyncio.Event()
        """Set when it serves, and when it died before."""
        self.kernel = copy.copy(host.kernel)  # the links are the same, and this run's changes end with it
        self.kernel.faults = self.life
        local = LocalStore(host.disk, self.life, around.weather)
        self.shared = around.reach(self.life, host.name)
        identity = Identity(host.id, f"{host.name} run {host.runs}", f"{host.name} boot {host.boots}", host.name)
        settings = Settings(scope="global", shared=True)
        config = Config(store="consul://simulated:8500", dns="", host_grace=HOST_GRACE)
        clocks = Clocks(host.clock, around.now)
        self.driver, self.scope = join_cluster(
            config, settings, local, self.shared, self.kernel, host.engine, identity, clocks=clocks, ttl=TTL
        )
        self._plugin = InProcess(self.driver)
        self.reconciler = _NotingReconciler(self.driver, around, host)
        self._follower = _Follower(
            self.driver, host.engine, self.reconciler, Metrics(), self.scope.hear, store_read=self.scope.store_read
        )

    async def start(self) -> None:
        """As the daemon does; from the end of this on, it serves."""
        identity = self.driver.tables.identity
        if await identity.get("this") is None:
            await identity.put(IdentityRecord(id=self._host.id), "this")
        lead = self._host.clock() - self._around.now()
        self.driver.liveness.note_clock(await note_clock(identity, self.driver.identity.boot, lead))
        while True:
            try:
                await self.scope.heartbeat.announce()
                break
            except Conflict:  # the host's name is that of one who lives: the identity that it lost
                await asyncio.sleep(RESTART)
        with contextlib.suppress(Unavailable):
            await self.driver.pools.load()
        await self.reconciler.reconcile(None)
        for work in (self.scope.run(), self._follower.run(), self.driver.memory.run()):
            self.begin(work).add_done_callback(self._ended)
        self.serving = True
        self.changed.set()

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task that dies with the run."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)
        return task

    async def serve(self, request: Callable[[], Awaitable[T]]) -> T:
        """The answer to a request.

        Raises:
            Died: there will be none.
        """
        task = self.begin(_answer(request))
        try:
            answer = await task
        except (asyncio.CancelledError, MacvlanGlobalError):
            asks = asyncio.current_task()
            if self.life.over and not (asks and asks.cancelling()):  # else who asks ends, too
                raise Died("the driver died") from None
            raise
        if self.life.over:
            raise Died("the driver died")
        return answer

    async def take(self, method: str, fields: dict[str, object]) -> dict[str, Any]:
        """A message of the engine arrives. A release that is sent twice may take its effect when the other one was
        answered long ago, so each is written down."""
        begun = self._around.now()
        try:
            return await self._plugin.call(method, **fields)
        finally:
            if method == "IpamDriver.ReleaseAddress":
                address = str(fields["Address"]).partition("/")[0]
                self._around.note(Event("release", self._host.name, begun, self._around.now(), "ok", "", address))

    def die(self) -> None:
        """As by SIGKILL: nothing of it does anything any more."""
        self.life.over = True
        self.serving = False
        self.changed.set()
        for task in list(self.tasks):
            task.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, BaseExceptionGroup) or error.split(Conflict)[1] is None:  # it is started again
            self._host.restart(self)
        else:
            self._around.bugs.append(error)


class SimulatedHost:
    """A machine, and the way of its engine to whichever driver runs (see `Plugin`). What a run of the driver leaves
    behind is on `disk` and in `kernel`."""

    def __init__(self, around: Surroundings, name: str, skew: float, original: "SimulatedHost | None" = None) -> None:
        """It is on, and no driver runs. A clone has the id and the disk of its `original`, and counts as no host."""
        self.around = around
        self.name = name
        self.former_ids: list[str] = []
        self.id: str = original.id if original else engine_id(name)[:32]
        self.clock: HostClock = HostClock(skew)
        self.kernel: FakeKernel = around.kernel()
        self.own: dict[str, float] = {}
        """Addresses that it has itself, and since when."""
        self.disk: MemoryStore = MemoryStore()
        if original:
            self.disk.restore(original.disk.save())
        self.boots: int = 1
        self.runs: int = 0
        self.made = 0
        """Count of the containers that were started here."""
        self.run: Run | None = None
        self.engine: SimulatedEngine = SimulatedEngine(self)
        self.doing: dict[asyncio.Task[Any], None] = {}  # no set: these have no order to rely on
        self._wire()
        if original is None:
            around.hosts.append(self)

    def make_clone(self) -> "SimulatedHost":
        """A machine from this one's disk, booted. The engine on it has no container."""
        self.around.clones += 1
        clone = SimulatedHost(self.around, f"{self.name}-clone{self.around.clones}", self.clock.skew, self)
        clone.engine.take_networks(self.engine)
        return clone

    async def start(self) -> None:
        """Start the driver, as the daemon does."""
        self.runs += 1
        self.run = run = Run(self.around, self)
        self.engine.links = self.kernel = run.kernel
        run.begin(run.start())

    async def repair(self) -> list[corrections.Correction]:
        """Repair with the engine's view, if a driver serves; what was corrected."""
        run = self.run
        if run is None or not run.serving:
            return []
        with contextlib.suppress(MacvlanGlobalError):
            return await run.serve(lambda: run.reconciler.reconcile(self.engine))
        return []

    def restart(self, run: Run) -> None:
        """The driver of this run stops by itself, and is started again after a while."""
        if run is self.run:
            self.crash()
            self.begin(self._start_late())

    async def _start_late(self) -> None:
        await asyncio.sleep(RESTART)
        if self.run is None:
            await self.start()

    def crash(self) -> None:
        """The driver is killed; containers run on."""
        if self.run:
            self.run.die()
        self.run = None

    def lose_power(self) -> None:
        """Everything stops. The disk stays, and no link does. The host boots anew."""
        self.crash()
        self.boots += 1
        self.engine.lose_power()
        self.engine.links = self.kernel = self.around.kernel()
        self._show_own()
        self._wire()
        for task in list(self.doing):
            task.cancel()

    def lose_state(self) -> None:
        """The state folder is gone, and with it who this host was."""
        self.crash()
        self.disk = MemoryStore()
        self.former_ids.append(self.id)
        now = self.around.now()
        self.around.note(Event("forget", self.name, now, now))
        self.id = engine_id(f"{self.name} {len(self.former_ids)}")[:32]

    def give_own(self, address: str) -> None:
        """The host has an address itself from now on."""
        self.own[address] = self.around.now()
        self._show_own()

    def take_own(self, address: str) -> None:
        """The host has an address no longer."""
        del self.own[address]
        self._show_own()

    def _show_own(self) -> None:
        own = tuple((PARENT, ip_interface(f"{address}/24")) for address in self.own)
        self.kernel.route_facts = RouteFacts(addresses=own)

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Run something that users or the engine do: it ends with the power."""
        task = asyncio.get_running_loop().create_task(work)
        self.doing[task] = None
        task.add_done_callback(self._done)
        return task

    async def call(self, method: str, **fields: object) -> dict[str, Any]:
        """See `Plugin.call`: again if the driver dies or is not there, and sometimes twice for no reason."""
        return await insist(lambda: self._ask(method, fields), RETRIES)

    async def _ask(self, method: str, fields: dict[str, object]) -> dict[str, Any]:
        run = self.run
        if run is None or not run.serving:
            raise NoAnswer("the engine cannot reach the driver")
        if self.around.lot.random() < self.around.twice:
            self.around.repeated += 1
            if self.around.lot.random() < 0.5:  # the one whose answer counts comes first
                run.begin(_later(self.around.weather.delay(), lambda: run.take(method, fields)))
            else:
                run.begin(_ignore_errors(lambda: run.take(method, fields)))
                await asyncio.sleep(self.around.weather.delay())
        return await run.serve(lambda: run.take(method, fields))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.doing.pop(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, MacvlanGlobalError):
            self.around.bugs.append(error)

    def _wire(self) -> None:
        self.kernel.neighbours[PARENT] = _Answering(self)


class SimulatedEngine(FakeEngine):
    """The engine of a host. It goes on with what it was asked for, also if the driver that asked dies meanwhile."""

    def __init__(self, host: SimulatedHost) -> None:
        """Call whichever driver runs there."""
        around = host.around
        super().__init__(host, host.kernel, host=host.name, note=around.note, now=around.now, new_ids=True)
        self._machine = host
        self.tells_names = around.lot.random() < 0.7

    def told_name(self, name: str) -> str:
        """One of few, so that names are used again, on this host and on others, and sometimes by two at a time."""
        return f"w{int(name.rpartition('c')[2]) % NAMES}"

    def take_networks(self, other: FakeEngine) -> None:
        """Have the networks of another engine, from a copy of its data, without their containers."""
        self._networks = {name: replace(each, endpoints=()) for name, each in other._networks.items()}
        self._pools = dict(other._pools)

    async def add_network(self, wanted: NewNetwork) -> str:
        """See `Engine.add_network`."""
        return await asyncio.shield(self._machine.begin(super().add_network(wanted)))

    async def delete_network(self, network_id: str) -> None:
        """See `Engine.delete_network`."""
        await asyncio.shield(self._machine.begin(super().delete_network(network_id)))


class _Answering(set[str]):
    """The addresses for which somebody answers on the wire, as a host hears it: those of the other hosts' containers,
    as they are now. Its own cannot be heard from the parent."""

    def __init__(self, host: SimulatedHost) -> None:
        super().__init__()
        self._host = host

    def __contains__(self, address: object) -> bool:
        return any(
            address in container.addresses
            for host in self._host.around.hosts
            if host is not self._host
            for container in host.engine.containers.values()
        )


class _Follower(EngineFollower):
    """Asks less often for an address that somebody else has: each time costs a schedule time."""

    async def _claim_again(self) -> None:
        await asyncio.sleep(CLAIM_SECONDS)
        await self.reconciler.claim_again()


class _NotingReconciler(Reconciler):
    """Writes down in the history what it takes back, and whose address it found where it belongs."""

    def __init__(self, driver: Driver, around: Surroundings, host: SimulatedHost) -> None:
        super().__init__(driver, grace=GRACE, now=host.clock)
        self._around = around
        self._machine = host

    async def plan(
        self, engine: Engine | None, grace: float | None = None, *, needs_store: bool = False
    ) -> list[corrections.Correction]:
        plan = await super().plan(engine, grace, needs_store=needs_store)
        for correction in plan:  # when it is applied is not known, nor whether that works
            self._note(correction, "unknown")
        return plan

    async def _apply(self, correction: corrections.Correction, engine: Engine | None, grace: float) -> None:
        await super()._apply(correction, engine, grace)
        self._note(correction, "ok")

    def _note(self, correction: corrections.Correction, outcome: Literal["ok", "unknown"]) -> None:
        now, host = self._around.now(), self._machine.name
        if isinstance(correction, corrections.GiveBackAddress) and not correction.network:
            record = correction.address
            self._around.note(Event("take back", host, now, now, outcome, record.endpoint, record.address))
        elif isinstance(correction, corrections.DeleteEndpoint):
            for address in self._machine.engine.legs.get(correction.endpoint, ()):
                self._around.note(Event("take back", host, now, now, outcome, correction.endpoint, address))


async def _answer(request: Callable[[], Awaitable[T]]) -> T:
    return await request()


async def _ignore_errors(work: Callable[[], Awaitable[object]]) -> None:
    with contextlib.suppress(MacvlanGlobalError):
        await work()


async def _later(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    await asyncio.sleep(seconds)
    await _ignore_errors(work)
