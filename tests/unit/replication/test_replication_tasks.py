"""Tasks of replication outlive every exception that their ports let out, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from macvlan_global.engine.ports import NetworkEvent
from macvlan_global.replication.replicator import RESYNC_SECONDS, Replicator
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import IdentityRecord
from macvlan_global.store.table import Tables
from testkit.brief import STRIDE
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import Subnet
from testkit.faults import Faults, FaultyStore
from testkit.foreign_errors import FOREIGN
from testkit.virtual_time import VirtualLoop

SECONDS = 600.0
each_error = pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)


class Site:
    """One host: its engine, its replicator, and faults of its way to the store."""

    def __init__(self, host: ClusterHost, store: MemoryStore, error: Exception) -> None:
        """Nothing fails yet. The driver's own way to the store never does."""
        self.host = host
        self.engine = host.engine
        self.faults = Faults(error=error)
        through = FaultyStore(store, self.faults)
        name = host.driver.identity.host
        tables = Tables(through, host.disk)
        self.replicator = Replicator(through, tables, self.engine, host.driver.networks, name, now=host.clock)
        self.told = True
        """Whether replication is told of the engine's events."""

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        """It replicates within the block, after which it must still run."""
        await self.host.driver.tables.identity.put(IdentityRecord(id=self.host.driver.identity.host), "this")
        task, following = (asyncio.ensure_future(each) for each in (self.replicator.run(), self._follow()))
        await self.replicator.on_engine_up()
        await until(lambda: self.replicator.following and not self.replicator.busy)
        yield
        assert not task.done()
        for each in (task, following):
            each.cancel()
        await asyncio.gather(task, following, return_exceptions=True)

    async def create(self, name: str, subnet: str = "10.8.0.0/24") -> None:
        """`docker network create`."""
        await self.engine.create_network(name, Subnet(subnet), options={"parent": "eth0"})

    async def _follow(self) -> None:
        async for event in self.engine.events():
            if isinstance(event, NetworkEvent) and event.action == "create":
                await self.host.driver.networks.name(event.network, event.name)
            if isinstance(event, NetworkEvent) and self.told:
                self.replicator.on_network_event(event)


async def two(error: Exception) -> tuple[Site, Site]:
    """Hosts a and b, on one store."""
    rig = await ClusterRig.build(new_ids=True)
    a, b = [Site(await rig.host(name), rig.shared, error) for name in ("a", "b")]
    return a, b


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a story on an event loop where waiting takes no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)


@each_error
def test_whatever_the_engine_raises_workers_and_resync_live_on(error: Exception) -> None:
    """A network that was published meanwhile is created once the engine answers, and one that no event told of too."""

    async def story() -> None:
        a, b = await two(error)
        async with a.runs(), b.runs():
            b.engine.raises = error
            await a.create("lan")
            await asyncio.sleep(3 * RESYNC_SECONDS)
            assert not b.engine.has("lan")
            b.engine.raises = None
            await until(lambda: b.engine.has("lan"))
            a.told = False
            await a.create("dmz", "10.9.0.0/24")
            await until(lambda: b.engine.has("dmz"))

    play(story)


@each_error
def test_whichever_step_of_the_store_raises_the_network_is_made(error: Exception) -> None:
    """Each step of the host that gets the network fails once: reads, writes and batches of its watches."""

    async def story() -> None:
        number, steps = 1, 1
        while number <= steps:
            a, b = await two(error)
            async with a.runs(), b.runs():
                b.faults.arm(number)
                await a.create("lan")
                await until(lambda b=b: b.engine.has("lan") and not b.replicator.busy)  # type: ignore[misc]
                await until(lambda b=b: b.replicator.following)  # type: ignore[misc]
                assert b.engine.added == ["lan"]
                steps = max(steps, len(b.faults.taken))
            number += STRIDE
        assert steps > 3

    play(story)
