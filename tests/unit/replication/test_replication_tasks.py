"""Tasks of replication outlive every exception that their ports let out, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from macvlan_global.replication.replicator import RESYNC_SECONDS, Replicator
from macvlan_global.store.memory import MemoryStore
from testkit.fake_clock import FakeClock
from testkit.fake_docker import FakeDocker
from testkit.faults import FOREIGN, Faults, FaultyStore
from testkit.virtual_time import VirtualLoop

SECONDS = 600.0
each_error = pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)


class Site:
    """One host: its engine, its replicator, and faults of its way to the store."""

    def __init__(self, name: str, store: MemoryStore, error: Exception) -> None:
        """Nothing fails yet."""
        self.faults = Faults(error=error)
        clock = FakeClock()
        self.docker = FakeDocker(name, FaultyStore(store, self.faults), MemoryStore(), clock)
        through = FaultyStore(store, self.faults)
        self.replicator = Replicator(through, self.docker.tables, self.docker, self.docker, name, now=clock)
        self.docker.tell = self.replicator.on_network_event

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        """It replicates within the block, after which it must still run."""
        await self.docker.install()
        task = asyncio.ensure_future(self.replicator.run())
        await self.replicator.on_engine_up()
        await until(lambda: self.replicator.following and not self.replicator.busy)
        yield
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


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
        store = MemoryStore()
        a, b = Site("a", store, error), Site("b", store, error)
        async with a.runs(), b.runs():
            b.docker.trouble.raises = error
            await a.docker.create("lan")
            await asyncio.sleep(3 * RESYNC_SECONDS)
            assert not b.docker.has("lan")
            b.docker.trouble.raises = None
            await until(lambda: b.docker.has("lan"))
            a.docker.tell = lambda _event: None
            await a.docker.create("dmz", "10.9.0.0/24")
            await until(lambda: b.docker.has("dmz"))

    play(story)


@each_error
def test_whichever_step_of_the_store_raises_the_network_is_made(error: Exception) -> None:
    """Each step of the host that gets the network fails once: reads, writes and batches of its watches."""

    async def story() -> None:
        number, steps = 1, 1
        while number <= steps:
            store = MemoryStore()
            a, b = Site("a", store, error), Site("b", store, error)
            async with a.runs(), b.runs():
                b.faults.arm(number)
                await a.docker.create("lan")
                await until(lambda b=b: b.docker.has("lan") and not b.replicator.busy)  # type: ignore[misc]
                await until(lambda b=b: b.replicator.following)  # type: ignore[misc]
                assert b.docker.made == ["lan"]
                steps = max(steps, len(b.faults.taken))
            number += 1
        assert steps > 3

    play(story)
