"""A host of a simulation: a machine with a disk and an engine, on which drivers live and die."""

import asyncio
import contextlib
import copy
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.engine.ports import Engine
from macvlan_global.errors import MacvlanGlobalError, Unavailable
from macvlan_global.ipam.owners import Identity
from macvlan_global.reconcile import plan as r
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from testkit.fake_engine import OUR_IPAM, engine_id
from testkit.fake_kernel import FakeKernel
from testkit.history import Event
from testkit.simulated_store import Life, LocalStore, SharedStore, Weather

T = TypeVar("T")

EPOCH = 1_000_000.0
GRACE = 60.0
RETRIES = (1.0, 2.0, 4.0, 8.0)
"""How long an engine waits before it calls again a driver that did not answer."""


def device() -> FakeKernel:
    """The kernel of a host with one device."""
    return FakeKernel("eth0")


@dataclass(slots=True)
class Surroundings:
    """What all hosts of a simulation share. `twice` is the chance that an engine sends a request two times."""

    store: MemoryStore
    weather: Weather
    lot: random.Random
    events: list[Event]
    kernel: Callable[[], FakeKernel] = device
    twice: float = 0.0
    repeated: int = 0
    """How many requests were sent two times."""

    def now(self) -> float:
        """The true time, which no host knows."""
        return asyncio.get_running_loop().time()

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


class Died(Exception):
    """The driver died before it answered."""


class Run:
    """One run of a driver: its parts, its tasks, and its way to the stores."""

    def __init__(self, around: Surroundings, host: "SimulatedHost") -> None:
        """Built, and not serving yet."""
        self.life = Life()
        self.tasks: dict[asyncio.Task[Any], None] = {}  # no set: that has no order to rely on
        self.serving = False
        self.changed = asyncio.Event()
        """Set when it serves, and when it died before."""
        self.kernel = copy.copy(host.kernel)  # the links are the same, and this run's changes end with it
        self.kernel.faults = self.life
        local = LocalStore(host.disk, self.life, around.weather)
        shared = SharedStore(around.store, self.life, around.weather, host.name)
        identity = Identity(host.id, f"{host.name} run {host.runs}", f"boot {host.boots}", host.name)
        settings = Settings(scope="global", shared=True)
        tables = Tables(shared, local)
        self.driver = Driver.build(tables, self.kernel, identity, settings, now=host.clock, steady=around.now)
        self.reconciler = _NotingReconciler(self.driver, around, host)

    def begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """A task that dies with the run."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)
        return task

    async def serve(self, request: Callable[[Driver], Awaitable[T]]) -> T:
        """The answer to a request.

        Raises:
            Died: there will be none.
        """
        task = self.begin(_answer(request, self.driver))
        try:
            answer = await task
        except (asyncio.CancelledError, MacvlanGlobalError):
            asks = asyncio.current_task()
            if self.life.over and not (asks and asks.cancelling()):  # else who asks ends, too
                raise Died from None
            raise
        if self.life.over:
            raise Died
        return answer

    def die(self) -> None:
        """As by SIGKILL: nothing of it does anything any more."""
        self.life.over = True
        self.serving = False
        self.changed.set()
        for task in list(self.tasks):
            task.cancel()


class SimulatedHost:
    """A machine. What a run of the driver leaves behind is on `disk` and in `kernel`."""

    def __init__(self, around: Surroundings, name: str, skew: float) -> None:
        """It is on, and no driver runs."""
        self.around = around
        self.name = name
        self.former_ids: list[str] = []
        self.id = engine_id(name)[:32]
        self.clock = HostClock(skew)
        self.kernel = around.kernel()
        self.disk = MemoryStore()
        self.boots = 1
        self.runs = 0
        self.run: Run | None = None
        self.engine: Engine | None = None
        self.legs: dict[str, list[str]] = {}
        """The addresses of each endpoint that the engine is working on, or that is in use."""

    async def start(self) -> None:
        """Start the driver, as the daemon does."""
        self.runs += 1
        self.run = run = Run(self.around, self)
        self.kernel = run.kernel
        run.begin(self._begin(run))

    async def _begin(self, run: Run) -> None:
        with contextlib.suppress(Unavailable):
            await run.driver.pools.load()
        await run.reconciler.reconcile(None)
        if run.driver.outbox:
            run.begin(run.driver.outbox.run())
        run.serving = True
        run.changed.set()
        await self.mend()

    async def mend(self) -> list[r.Correction]:
        """Repair with the engine's view, if a driver serves; what was corrected."""
        run = self.run
        if run is None or not run.serving:
            return []
        with contextlib.suppress(Died, MacvlanGlobalError):
            return await run.serve(lambda _: run.reconciler.reconcile(self.engine))
        return []

    def crash(self) -> None:
        """The driver is killed; containers run on."""
        if self.run:
            self.run.die()
        self.run = None

    def lose_power(self) -> None:
        """Everything stops. The disk stays, and no link does. The host boots anew."""
        self.crash()
        self.boots += 1
        self.kernel = self.around.kernel()

    def lose_state(self) -> None:
        """The state folder is gone, and with it who this host was."""
        self.crash()
        self.disk = MemoryStore()
        self.former_ids.append(self.id)
        now = self.around.now()
        self.around.note(Event("forget", self.name, now, now))
        self.id = engine_id(f"{self.name} {len(self.former_ids)}")[:32]

    async def call(self, request: Callable[[Driver], Awaitable[T]]) -> T:
        """As an engine calls: again if the driver dies or is not there, and sometimes twice for no reason.

        Raises:
            Unavailable: the driver did not come back in time, or says so itself.
        """
        for wait in (*RETRIES, None):
            run = self.run
            if run and run.serving:
                with contextlib.suppress(Died):
                    if self.around.lot.random() < self.around.twice:
                        self.around.repeated += 1
                        run.begin(_ignore_errors(_answer(request, run.driver)))
                        await asyncio.sleep(self.around.weather.delay())
                    return await run.serve(request)
            if wait is not None:
                await asyncio.sleep(wait)
        raise Unavailable("the engine cannot reach the driver")


class _NotingReconciler(Reconciler):
    """Writes down in the history what it takes back, and whose address it found where it belongs."""

    def __init__(self, driver: Driver, around: Surroundings, host: SimulatedHost) -> None:
        super().__init__(driver, grace=GRACE, our_ipam=OUR_IPAM, now=host.clock)
        self._around = around
        self._machine = host

    async def plan(self, engine: Engine | None, grace: float | None = None) -> list[r.Correction]:
        planned = await super().plan(engine, grace)
        for correction in planned:  # when it is applied is not known, nor whether that works
            self._note(correction, "unknown")
        return planned

    async def reconcile(self, engine: Engine | None, grace: float | None = None) -> list[r.Correction]:
        done = await super().reconcile(engine, grace)
        for correction in done:
            self._note(correction, "ok")
        return done

    def _note(self, correction: r.Correction, outcome: Literal["ok", "unknown"]) -> None:
        now, host = self._around.now(), self._machine.name
        if isinstance(correction, r.GiveBackAddress):
            record = correction.address
            self._around.note(Event("take back", host, now, now, outcome, record.endpoint, record.address))
        elif isinstance(correction, r.DeleteEndpoint):
            for address in self._machine.legs.get(correction.endpoint, ()):
                self._around.note(Event("take back", host, now, now, outcome, correction.endpoint, address))


async def _answer(request: Callable[[Driver], Awaitable[T]], driver: Driver) -> T:
    return await request(driver)


async def _ignore_errors(work: Awaitable[object]) -> None:
    with contextlib.suppress(MacvlanGlobalError):
        await work
