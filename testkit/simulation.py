"""A cluster in one process, on virtual time: everything that happens in it follows from its seed.

Hosts with engines, disks, and our own driver, replicator, reclaimer and publisher share one store in memory. The seed
draws how long each message takes, what users do, and what goes wrong. When all is quiet again and repaired, nothing may
be left over or missing; and the history of the run is read for addresses with two holders.

    python -m testkit.simulation 4711 815:150    # the stories of two schedules, the second one of 150 steps
    python -m testkit.fresh_schedules 3600    # an hour of others, on all cores
"""

import asyncio
import contextlib
import logging
import random
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.replication.definition import cluster_id
from macvlan_global.store.memory import MemoryStore, Saved
from macvlan_global.store.table import Tables
from testkit.fake_kernel import FakeKernel
from testkit.history import Event, Verdict, Violation, judge
from testkit.simulated_end import End
from testkit.simulated_host import EPOCH, GRACE, HOST_GRACE, PARENT, SimulatedHost, Surroundings, device
from testkit.simulated_store import Weather
from testkit.simulated_users import draw_address, draw_habits, draw_subnets
from testkit.virtual_time import LeanLoop

STEPS = 30
"""So many things are done before a schedule is left to settle."""
ROUNDS = 3
"""So many repairs by all hosts settle everything: one host's repair may wait for another's."""
MORE_ROUNDS = 3
"""For what a host held that lost its state: it is dead to the others, and they wait for the grace period."""
LAST_SECONDS = 45.0
"""Time that the consequences of the last repair may take, in seconds: what the engine refused waits for half a minute.
"""
WELL_SECONDS = 10.0
"""A clone is switched off before its original's lease may expire: then it would be the host."""
OPTIONS = {"parent": PARENT}
TEN_YEARS = 10 * 365.0 * 86400
FAULTS = (
    *("crash", "power", "state", "outage", "cut", "clock", "restore", "removal", "loss", "late", "twice"),
    *("change", "clone", "own"),
)
HARMLESS = {"clock", "removal", "twice", "own"}
"""Faults in spite of which each host soon knows the addresses of the others."""
MEMORY_LOST = {"restore", "state", "clone"}
"""Faults by which a store may forget whose name one is."""
TOLD_SECONDS = 60.0
"""Until then at the latest, if nothing goes wrong."""


def first_skew(drawn: float) -> float:
    """The skew of a new host's clock in seconds: a tenth of them begin in 1970, and a tenth are ten years ahead."""
    if abs(drawn) < 4:
        return drawn
    return TEN_YEARS if drawn > 0 else -EPOCH


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a schedule. `story` has each step with its time.

    `operations` counts requests of engines; `faults` what went wrong, each message that was lost or came late, and each
    request that was sent twice.
    """

    seed: int
    verdict: Verdict
    hosts: int
    operations: int
    faults: int
    containers: int
    story: tuple[str, ...]
    events: tuple[Event, ...] = field(repr=False)

    def tell(self) -> str:
        """The whole story, and what is wrong about it."""
        return "\n".join((f"seed {self.seed}:", *self.story, *map(str, self.verdict.violations)))


def simulate(
    seed: int,
    *,
    steps: int = STEPS,
    store: Callable[[], MemoryStore] = MemoryStore,
    kernel: Callable[[], FakeKernel] = device,
) -> Outcome:
    """Run the schedule of a seed; `steps` is how many things are done before it is left to settle.

    `store` makes the shared store, `kernel` that of a host: a test of the simulation itself gives broken ones.
    """
    random.seed(seed)  # our own code draws its pauses from here
    with _quiet(), asyncio.Runner(loop_factory=LeanLoop) as runner:
        return runner.run(_World(seed, steps, store(), kernel).run())


class _World:
    """One schedule."""

    def __init__(self, seed: int, steps: int, store: MemoryStore, kernel: Callable[[], FakeKernel]) -> None:
        self._lot = random.Random(seed)  # noqa: S311 - it guards nothing
        self._seed = seed
        self._steps = steps
        self._store = store
        self._tables = Tables(self._store, self._store)
        self._weather = Weather(self._lot, slowest=self._lot.choice((0.05, 0.5, 2.0)))
        self._weather.resumes = seed % 2 == 1
        self._stays_away = seed % 4 == 1
        """Whether hosts are cut off or down for longer than the grace period after which others reclaim."""
        self._habits = draw_habits(self._lot)
        self._around = Surroundings(self._store, self._weather, self._lot, [], kernel)
        self._possible = [each for each in FAULTS if self._lot.random() < self._habits.risk]
        if "loss" in self._possible:
            self._weather.lose_request = self._weather.lose_answer = self._lot.choice((0.02, 0.1))
        if "late" in self._possible:
            self._weather.late = self._lot.choice((0.02, 0.2))
        if "twice" in self._possible:
            self._around.twice = 0.1
        self._hosts = self._around.hosts
        self._doing: dict[asyncio.Task[None], None] = {}  # faults; no set: these have no order to rely on
        self._removed: set[str] = set()
        self._changed: set[str] = set()
        """Endpoints whose container changed its interface."""
        self._networks = 0
        self._saved: list[Saved] = []
        self._faults = 0
        self._containers = 0
        self._story: list[str] = []
        self._lost: dict[tuple[str, tuple[str, ...]], Violation] = {}
        self._end = End(self._tables, self._hosts, self._lot)

    async def run(self) -> Outcome:
        for number in range(self._lot.randint(2, 4)):
            await self._start(SimulatedHost(self._around, f"h{number}", first_skew(self._lot.uniform(-5, 5))))
        await self._new_network(self._lot.choice(self._hosts))
        await asyncio.sleep(20 * self._weather.slowest)  # the others have it too, mostly
        pace = self._lot.choice(self._habits.paces)
        for _ in range(self._steps * self._habits.longer):
            await asyncio.sleep(self._lot.expovariate(1 / pace))
            self._something()
            await self._look()
        await self._settle()
        if self._around.bugs:
            raise self._around.bugs[0]
        verdict = judge(self._around.events)
        verdict.violations += self._lost.values()
        if not MEMORY_LOST & set(self._possible):
            verdict.violations += self._end.one_mac_each()
        verdict.violations += await self._end.examine(verdict, restored=self._weather.era > 0)
        for host in self._hosts:
            host.crash()
        requests = sum(event.what in {"request", "create", "delete", "release"} for event in self._around.events)
        return Outcome(
            self._seed,
            verdict,
            len(self._hosts),
            requests,
            self._faults + self._weather.struck + self._around.repeated,
            self._containers,
            tuple(self._story),
            tuple(self._around.events),
        )

    # ------------------------------------------------------ what users do

    def _something(self) -> None:
        """The next step: a fault now and then, else what users do."""
        host = self._lot.choice(self._hosts)
        if self._possible and self._lot.random() < 0.25 and (fault := self._fault(self._lot.choice(self._possible))):
            self._faults += 1
            self._break(fault(host))
            return
        drawn, habits = self._lot.random(), self._habits
        engine = host.engine
        if drawn < habits.start:
            host.begin(self._start_container(host))
        elif drawn < habits.end and engine.containers:
            name = self._lot.choice(list(engine.containers))
            self._tell(f"{host.name} ends {name} ({engine.containers[name].address})")
            host.begin(engine.stop(name))
        elif drawn < habits.again and engine.stopped:
            again = self._lot.choice(engine.stopped[-3:])
            self._tell(f"{host.name} takes {again.name} down again")
            host.begin(engine.repeat_stop(again))
        elif drawn < habits.make and self._networks < 3:
            host.begin(self._new_network(host))
        elif drawn < habits.reconnect:
            self._tell(f"{host.name}: the engine's stream of events breaks")
            engine.break_streams()
        else:
            host.begin(self._repair(host))

    async def _start_container(self, host: SimulatedHost) -> None:
        engine = host.engine
        names = [name for name in engine.names() if name not in self._removed]
        if not names:
            return
        name = self._lot.choice(names)
        network = engine.has(name)
        four = six = ""
        if network and self._lot.random() < self._habits.wish:
            asked = [each.subnet for each in network.subnets]
            four, six = (
                draw_address(self._lot, self._habits, next((x for x in asked if (":" in x) == wanted), ""))
                for wanted in (False, True)
            )
        host.made += 1
        avoided = self._known_on_hosts(host)
        try:
            container = await engine.run(f"{host.name}-c{host.made}", name, ip=four, ip6=six)
        except MacvlanGlobalError as error:
            self._tell(f"{host.name} starts nothing on {name} ({four or 'any'}): {error}")
            return
        self._containers += 1
        self._tell(f"{host.name} runs {container.name} on {name}: {container.address} {container.address6}")
        on_hosts = {address for address, _, _ in avoided & self._known_on_hosts(host)}  # all the time
        for address in on_hosts & set(container.addresses):
            found = Violation("address of a host handed out", address, f"to {container.name} on {host.name}")
            self._lost[address, (container.endpoint,)] = found

    async def _new_network(self, host: SimulatedHost) -> None:
        self._networks += 1
        number = self._networks
        # a subnet is used again once its network is removed, but not where a snapshot may bring that one back
        base = f"10.0.{number % 2 if 'restore' not in self._possible else number}"
        if number > 1 and self._lot.random() < 0.3:  # on one wire with the first one
            base = "10.0.1"
        subnets = draw_subnets(self._lot, self._habits, number, base)
        try:
            await host.engine.create_network(f"n{number}", *subnets, options=OPTIONS)
        except MacvlanGlobalError as error:
            self._tell(f"{host.name} makes no network n{number}: {error}")
            return
        self._tell(f"{host.name} made network n{number}: {subnets}")

    async def _remove_network(self, host: SimulatedHost) -> None:
        engine = host.engine
        names = [name for name in engine.names() if not engine.is_busy(name) and name not in self._removed]
        if not names:
            return
        name = self._lot.choice(names)
        network = engine.has(name)
        self._removed.add(name)
        self._tell(f"{host.name} removes network {name}")
        now = self._around.now()
        for subnet in network.subnets if network else ():
            for address in (subnet.gateway, *subnet.aux.values()):
                cluster = network.ipam_options.get("network", network.id) if network else ""
                self._around.note(Event("unfix", host.name, now, now, "ok", cluster, address))
        await host.begin(engine.remove_network(name))

    async def _repair(self, host: SimulatedHost) -> None:
        for correction in await host.repair():
            self._tell(f"{host.name} repairs: {correction.subject}: {correction.reason}")
        await self._confirm()

    def _known_on_hosts(self, host: SimulatedHost) -> set[tuple[str, str, float]]:
        """Addresses that a host must know that hosts have, with their hosts, and since when: its own at once, those of
        others after a while."""
        now = self._around.now()
        told = set(self._possible) <= HARMLESS
        return {
            (address, each.name, since)
            for each in self._hosts
            for address, since in each.own.items()
            if each is host or (told and now - since > TOLD_SECONDS)
        }

    # --------------------------------------------------- what goes wrong

    def _fault(self, name: str) -> Callable[[SimulatedHost], Coroutine[Any, Any, None]] | None:
        return {
            "crash": self._crash,
            "power": self._lose_power,
            "state": self._lose_state,
            "outage": self._outage,
            "cut": self._cut,
            "clock": self._jump,
            "restore": self._restore,
            "removal": self._remove_network,
            "change": self._change_interface,
            "clone": self._clone,
            "own": self._change_own,
        }.get(name)

    async def _change_own(self, host: SimulatedHost) -> None:
        """An operator gives a host an address where containers have theirs, or takes the last one away."""
        if len(host.own) > 1:
            host.take_own(next(iter(host.own)))
        else:
            address = f"10.0.{self._lot.randint(0, 2)}.{self._lot.choice((3, 4, 5, 65, 66))}"
            if not any(address in each.addresses for one in self._hosts for each in one.engine.containers.values()):
                host.give_own(address)
        self._tell(f"{host.name} has {', '.join(host.own) or 'no address'} itself")

    async def _crash(self, host: SimulatedHost) -> None:
        self._tell(f"{host.name}: the driver is killed")
        host.crash()
        await asyncio.sleep(self._lot.uniform(0, 2 * HOST_GRACE if self._stays_away else 20))
        await self._start(host)

    async def _lose_power(self, host: SimulatedHost) -> None:
        self._tell(f"{host.name} loses power")
        ended = list(host.engine.containers.values())
        host.lose_power()
        await asyncio.sleep(self._lot.uniform(1, 30))
        await self._start(host)
        if self._lot.random() < 0.5:  # the engine takes down what ran, as far as it remembers
            for container in ended:
                await host.engine.repeat_stop(container)

    async def _lose_state(self, host: SimulatedHost) -> None:
        self._tell(f"{host.name}: the driver is killed, and its state folder is lost")
        host.lose_state()
        await self._start(host)

    async def _outage(self, _host: SimulatedHost) -> None:
        self._tell("the store is away")
        self._weather.go()
        await asyncio.sleep(self._lot.uniform(0.5, 20))
        self._weather.away = False
        self._tell("the store is back")

    async def _cut(self, host: SimulatedHost) -> None:
        self._tell(f"{host.name} is cut off")
        self._weather.cut(host.name)
        await asyncio.sleep(self._lot.uniform(0.5, 2 * HOST_GRACE if self._stays_away else 60))
        self._weather.cut_off.discard(host.name)

    async def _jump(self, host: SimulatedHost) -> None:
        host.clock.skew += self._lot.choice((-1, 1)) * self._lot.choice((10, 100, 10_000))
        self._tell(f"the clock of {host.name} is off by {host.clock.skew:.0f} s")

    async def _change_interface(self, host: SimulatedHost) -> None:
        """A container with CAP_NET_ADMIN sets another MAC, and perhaps another name."""
        kernel, running = host.kernel, list(host.engine.containers.values())
        legs = [(each, name) for each in running for name in kernel.sandboxed.get(each.sandbox, {})]
        if not legs:
            return
        container, name = self._lot.choice(legs)
        mac = f"02:00:00:00:be:{self._lot.randrange(256):02x}"
        changed = {"mac": mac} | ({"name": "wan"} if self._lot.random() < 0.5 else {})
        kernel.change(container.sandbox, name, **changed)
        self._changed.add(container.endpoint)
        self._tell(f"{host.name}: {container.name} ({container.address}) changes its interface: {changed}")

    async def _clone(self, host: SimulatedHost) -> None:
        """A machine is made from the disk of a host, and boots beside it, for as long as that one lives. Its engine
        has networks of the same names, and no container; its users start some."""
        if not self._is_well(host):
            return
        clone = host.make_clone()
        self._tell(f"{host.name}: a clone boots beside it")
        await clone.start()
        for _ in range(self._lot.randint(4, 60)):
            await asyncio.sleep(0.5)
            if not self._is_well(host) or host.id != clone.id:
                break
            if self._lot.random() < 0.2:
                clone.begin(self._start_container(clone))
            if self._lot.random() < 0.1:
                clone.begin(self._repair(clone))
        clone.lose_power()
        self._tell(f"{clone.name}: the clone is switched off")

    def _is_well(self, host: SimulatedHost) -> bool:
        """Whether a host lives, reaches the store, and holds its key there for some seconds at least."""
        if host.run is None or not host.run.serving or self._weather.away or host.name in self._weather.cut_off:
            return False
        return self._store.seconds_left(f"alive/{host.id}") > WELL_SECONDS

    async def _restore(self, _host: SimulatedHost) -> None:
        """Take a snapshot, or put one back, for which the store stops."""
        if not self._saved or self._lot.random() < 0.5:
            self._tell("a snapshot of the store is taken")
            self._saved.append(self._store.save())
            return
        self._weather.go()
        await asyncio.sleep(6)
        self._store.restore(self._lot.choice(self._saved))
        self._weather.era += 1
        now = self._around.now()
        self._around.note(Event("restore", "", now, now))
        await self._confirm()
        self._weather.away = False
        self._tell("the store is that of an older snapshot")

    # ---------------------------------------------------------- the end

    async def _settle(self) -> None:
        """Nothing goes wrong any more; everybody finishes, and repairs until there is nothing to repair."""
        self._around.twice = 0.0
        while tasks := [*self._doing, *(task for host in self._hosts for task in host.doing)]:
            await asyncio.wait(tasks)
        self._weather.calm()
        for host in self._hosts:
            if host.run is None or not host.run.serving:
                await self._start(host)
        rounds = ROUNDS + MORE_ROUNDS * any(host.former_ids for host in self._hosts)
        for number in range(rounds):
            if number == rounds - 1:  # a name that a late write left is found when names are compared again
                for host in self._hosts:
                    host.engine.break_streams()
            await asyncio.sleep(GRACE * 1.5)
            if number == 0:
                await self._ask_for_changed()
            for host in self._hosts:
                await self._repair(host)
            await self._empty_removed()
            await self._look()
        await self._end.remove_hosts()
        await asyncio.sleep(LAST_SECONDS)

    async def _ask_for_changed(self) -> None:
        """Users ask for the addresses of containers that changed their interface, and are no longer young."""
        for host in self._hosts:
            for container in list(host.engine.containers.values()):
                address = next((each for each in container.addresses if ":" not in each), "")
                if container.endpoint in self._changed and address:
                    host.made += 1
                    with contextlib.suppress(MacvlanGlobalError):
                        await host.engine.run(f"{host.name}-c{host.made}", container.network, ip=address)

    async def _empty_removed(self) -> None:
        """Networks that were removed wait for their containers only. A restored store may not know of the removal, but
        the host that keeps one does."""
        tombstones = {row.record.id for row in await self._tables.removed.scan()}
        for host in self._hosts:
            kept = {each.shared_id for each in host.run.driver.networks.known() if each.removed} if host.run else set()
            removed = tombstones | kept
            for container in list(host.engine.containers.values()):
                network = host.engine.has(container.network)
                if network and cluster_id(network) in removed:
                    await host.engine.stop(container.name)

    # ----------------------------------------------------------- inside

    async def _start(self, host: SimulatedHost) -> None:
        if host.run is None:
            await host.start()
            self._tell(f"{host.name}: a driver starts")
        while host.run and not host.run.serving:
            await host.run.changed.wait()

    def _break(self, fault: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(fault)
        self._doing[task] = None
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._doing.pop(task)
        if not task.cancelled() and (error := task.exception()):
            self._around.bugs.append(error)

    async def _look(self) -> None:
        """Whether all that run have their addresses, unless a snapshot took them."""
        for each in await self._end.unheld() if not self._weather.era else ():
            if (each.address, each.holders) not in self._lost:
                self._lost[each.address, each.holders] = each
                self._tell(str(each))

    async def _confirm(self) -> None:
        """Whoever the store knows as the holder of his address is safe from now on."""
        if not self._saved:
            return
        now = self._around.now()
        for row in await self._tables.addresses.scan():
            record = row.record
            holder = record.endpoint or record.network
            self._around.note(Event("confirm", "", now, now, "ok", holder, record.address))

    def _tell(self, text: str) -> None:
        self._story.append(f"{self._around.now():9.3f} {text}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Thousands of schedules write too much."""
    log = logging.getLogger("macvlan_global")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def again(seed: int, steps: int = STEPS) -> str:
    """The command that plays a schedule again."""
    python, root = Path(sys.executable), Path(__file__).parents[1]
    shown = python.relative_to(root) if python.is_relative_to(root) else python
    return f"to play it again: {shown} -m testkit.simulation {seed}" + (f":{steps}" if steps != STEPS else "")


def main() -> int:
    """Tell the stories of the seeds that are named; how many of them went wrong."""
    wrong = 0
    for each in sys.argv[1:]:
        seed, _, steps = each.partition(":")
        outcome = simulate(int(seed), steps=int(steps or STEPS))
        wrong += bool(outcome.verdict.violations)
        sys.stdout.write(f"{outcome.tell()}\n")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
