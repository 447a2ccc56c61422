"""Cost of a cluster for one of its hosts where no store of a machine goes: 10,000 hosts with a million containers.

The driver is the real one, on virtual time; the store is in memory, and counts what it sends and receives. Every
network of the cluster is in this host's engine, which is a double, and one has a container here.
"""

import asyncio
import gc
import logging
import random
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec

from bench.large_cluster import EACH, heartbeat, host_id, name_record, rows
from bench.rounds import Row, Unit
from macvlan_global.store.layout import StoreLayout
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from testkit.herd import HerdStore, Traffic, Trunk
from testkit.shared_line import SharedLine
from testkit.simulated_host import SimulatedHost, Surroundings
from testkit.simulated_store import Weather
from testkit.virtual_time import LeanLoop

SMALL, LARGE = 100, 10_000
"""Hosts."""
_FIGURES: dict[str, tuple[str, Unit]] = {
    "memory": ("memory of a driver, without its code", "MB"),
    "start": ("store traffic of a start", "MB"),
    "rest": ("store traffic of an hour at rest", "MB"),
    "change": ("store traffic of a container that starts elsewhere on its network", "MB"),
    "other": ("store traffic of a container that starts on another network", "MB"),
    "repair": ("store traffic of a repair", "MB"),
    "removal": ("store traffic of network rm", "MB"),
    "run": ("store traffic of a container that starts here", "MB"),
}
GOAL = 1.2
TITLES = tuple(f"{what}, {LARGE} hosts simulated" for what, _ in _FIGURES.values())
_RATE = 125e6
"""Bytes a second to the store: 1 Gbit/s."""
_LEASE_SECONDS = 1e6
"""Nobody renews the heartbeats of hosts that are only records."""
_SETTLE_SECONDS = 200.0
_REST_SECONDS = 3600.0
_CHANGES = 10


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement: a large cluster beside a small one, whose networks are as large."""
    (small, large), each = ((20, 40), 2) if quick else ((SMALL, LARGE), EACH)
    few, many = (measure_one(hosts, each) for hosts in (small, large))
    titles = zip(TITLES, _FIGURES.items(), strict=True)
    return [Row(title, unit, [many[key]], [few[key]], f"{SMALL} hosts", GOAL) for title, (key, (_, unit)) in titles]


def measure_one(hosts: int, each: int) -> dict[str, float]:
    """Every figure, in bytes, of a cluster with so many hosts that have `each` containers."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    random.seed(1)
    try:
        with asyncio.Runner(loop_factory=LeanLoop) as runner:
            return runner.run(_Measured(hosts, each).run())
    finally:
        logging.disable(level)


class _Measured:
    """One host among many that are records."""

    def __init__(self, hosts: int, each: int) -> None:
        self._hosts, self._each = hosts, each
        self._store = MemoryStore()
        self._tables = Tables(self._store, self._store)
        self._trunk = Trunk(self._store, SharedLine(_RATE))
        lot = random.Random(1)  # noqa: S311 - it guards nothing
        connect = partial(HerdStore, self._trunk, copies=True)
        around = Surroundings(self._store, Weather(lot, slowest=0.001), lot, [], connect=connect)
        self._host = SimulatedHost(around, "measured", 0.0)

    async def run(self) -> dict[str, float]:
        await self._fill()
        engine = self._host.engine
        await self._host.start()
        await asyncio.sleep(_SETTLE_SECONDS)
        await engine.run("c1", "lan0")
        await asyncio.sleep(_SETTLE_SECONDS)
        self._host.crash()
        gc.collect()
        tracemalloc.start()
        found = {"start": await self._bytes_of(self._host.start, _SETTLE_SECONDS)}
        gc.collect()
        found["memory"] = float(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        found["rest"] = await self._bytes_of(_nothing, _REST_SECONDS)
        rest = found["rest"] / _REST_SECONDS
        for what, on in (("change", 0), ("other", self._hosts - 1)):
            cost = await self._bytes_of(partial(self._add, on), _CHANGES * 2.0)
            found[what] = max(cost / _CHANGES - 2.0 * rest, 0.0)
        for what, work in (
            ("repair", self._host.repair),
            ("run", partial(engine.run, "c2", "lan0")),
            ("removal", partial(engine.remove_network, "lan1")),
        ):
            found[what] = await self._bytes_of(work, 10.0) - 10.0 * rest
        self._host.crash()
        return found

    async def _fill(self) -> None:
        await StoreLayout(self._store).check()
        lease, now = await self._store.lease(_LEASE_SECONDS), 0.0
        for host in range(self._hosts):
            key = self._tables.alive.key(host_id(host))
            await self._store.create_with(lease, key, msgspec.json.encode(heartbeat(host, now)))
        for key, value in rows(self._tables, self._hosts, self._each):
            await self._store.create(key, value)

    async def _add(self, on: int) -> None:
        """Containers start on another host, one after the other."""
        first = self._each + (0 if on else _CHANGES)
        for number in range(first, first + _CHANGES):
            record = name_record(on, number, 0.0)
            await self._tables.names.create(record, record.network, record.host, record.endpoint)
            await asyncio.sleep(1.0)

    async def _bytes_of(self, work: Callable[[], Awaitable[Any]], seconds: float) -> float:
        """Bytes between the store and the host while something is done, and so many seconds after it began."""
        self._trunk.traffic.clear()
        begun = asyncio.get_running_loop().time()
        await work()
        await asyncio.sleep(max(0.0, begun + seconds - asyncio.get_running_loop().time()))
        return float(self._trunk.traffic.get(self._host.name, Traffic()).bytes)


async def _nothing() -> None:
    """Nothing happens."""
