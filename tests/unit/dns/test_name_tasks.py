"""Side tasks of the DNS rooms outlive every exception that their ports let out, on virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from lab.speed import patience, within
from macvlan_global.dns.publish.publisher import Publisher
from macvlan_global.dns.publish.watch_engine import NameWatcher
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.feed import Feed
from macvlan_global.dns.resolver.names import MOST_ALIASES, MOST_PORTS
from macvlan_global.engine.ports import (
    ContainerEvent,
    EngineContainer,
    EngineEndpoint,
    EngineLeg,
    EngineNetwork,
    EnginePort,
)
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import NameRecord
from macvlan_global.store.table import Tables
from testkit.fake_engine import FakeEngine
from testkit.faults import Faults, FaultyStore
from testkit.foreign_errors import FOREIGN
from testkit.plugin_calls import NoDriver
from testkit.virtual_time import VirtualLoop
from tests.unit.dns.names import ask, knowing, put, record, texts

SECONDS = 60.0
each_error = pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)


def play(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a story on an event loop where waiting takes no time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


@asynccontextmanager
async def running(endless: Awaitable[object]) -> AsyncIterator[None]:
    """Run a task within the block, after which it must still run."""
    task = asyncio.ensure_future(endless)
    yield
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return once the condition holds."""
    async with within(SECONDS):
        while not await condition():  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.01)


async def _names(store: MemoryStore) -> set[str]:
    return {row.record.names[0] for row in await Tables(store, store).names.scan()}


@each_error
def test_the_feed_lives_on(error: Exception) -> None:
    """A watch that breaks is opened again, and what it missed is in the table."""

    async def story() -> None:
        store, faults = MemoryStore(), Faults(error=error)
        names = Tables(store, store).names
        cache = ResponseCache(5)
        again = asyncio.Event()
        feed = Feed(FaultyStore(store, faults), names, cache, on_read=again.set)
        feed.want([record(1).network])
        async with running(feed.run()):
            await until(lambda: _true(feed.following))
            faults.arm(1)
            again.clear()
            await put(names, record(1, "web"))
            await asyncio.wait_for(again.wait(), patience(SECONDS))
            await until(lambda: _true(feed.following))
            assert len(cache) == 1

    play(story)


async def _true(value: bool) -> bool:
    return value


@each_error
def test_the_publisher_lives_on(error: Exception) -> None:
    """The engine's answer, and each step of the store, may fail with anything: in the end the names are there."""

    async def story() -> None:
        for at in range(3):  # 0: the engine fails, then the scan, then the write
            store, faults = MemoryStore(), Faults(at, error=error)
            failures = [error] if at == 0 else []

            async def read(failures: list[Exception] = failures) -> list[NameRecord]:
                if failures:
                    raise failures.pop()
                return [record(1, "web")]

            through = FaultyStore(store, faults)
            publisher = Publisher(Tables(through, MemoryStore()), "h1")
            async with running(publisher.run(read)):
                await until(lambda publisher=publisher: _true(not publisher.due))  # type: ignore[misc]
                assert await _names(store) == {"web"}
                assert failures == []
                assert len(faults.taken) >= at

    play(story)


@each_error
def test_an_event_that_cannot_be_published_makes_a_comparison_due(error: Exception) -> None:
    """Nothing is raised to the caller, for a record that is written and one that is deleted."""

    async def story() -> None:
        for attempt in ("publish", "withdraw"):
            store, faults = MemoryStore(), Faults(error=error)
            through = FaultyStore(store, faults)
            publisher = Publisher(Tables(through, MemoryStore()), "h1")

            async def here() -> list[NameRecord]:
                return [record(1, "web")]

            await publisher.compare(here)
            assert not publisher.due
            faults.arm(1)
            done = await (
                publisher.publish([record(1, "shop")])
                if attempt == "publish"
                else publisher.withdraw(record(1).endpoint)
            )
            assert not done
            assert publisher.due

    play(story)


class Docker(FakeEngine):
    """An engine with one container `web` on the network `lan`, which runs as long as it is said to."""

    is_running = True

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        self._answer("container")
        endpoint = EngineEndpoint("e1", "web", "", container_id="c1")
        return [EngineNetwork("n1", "lan", "macvlan-global", endpoints=(endpoint,))]

    async def container(self, container_id: str) -> EngineContainer | None:
        """See `Engine.container`."""
        self._answer("container")
        leg = EngineLeg("n1", "lan", "e1", "10.65.0.1")
        return EngineContainer(container_id, "web", "web", running=self.is_running, legs=(leg,))


@each_error
def test_the_name_watcher_lives_on(error: Exception) -> None:
    """Whatever the engine raises, about an event and in comparisons: once it answers, the name is published."""

    async def story() -> None:
        store = MemoryStore()
        docker = Docker(NoDriver())
        docker.raises = error
        publisher = Publisher(Tables(store, MemoryStore()), "h1")

        async def networks() -> dict[str, str]:
            return {"n1": "n1"}

        watcher = NameWatcher(docker, networks, publisher, "h1")
        async with running(watcher.run()):
            await watcher.on_event(ContainerEvent("start", "c1", "web"))
            await asyncio.sleep(30)
            assert await _names(store) == set()
            docker.raises = None
            await until(lambda: _equal(_names(store), {"web"}))
            await store.delete((await store.scan("names/"))[0])
            await watcher.on_event(None)
            await until(lambda: _equal(_names(store), {"web"}))

    play(story)


def test_a_stopped_container_has_no_names_until_it_starts() -> None:
    """The engine shows it with the endpoint that it had when the host lost power, and tells that it was renamed."""

    async def story() -> None:
        store = MemoryStore()
        docker = Docker(NoDriver())
        publisher = Publisher(Tables(store, MemoryStore()), "h1")

        async def networks() -> dict[str, str]:
            return {"n1": "n1"}

        watcher = NameWatcher(docker, networks, publisher, "h1")
        async with running(watcher.run()):
            docker.is_running = False
            await watcher.on_event(ContainerEvent("rename", "c1", "web"))
            await watcher.on_event(None)
            await asyncio.sleep(30)
            assert await _names(store) == set()
            docker.is_running = True
            await watcher.on_event(ContainerEvent("start", "c1", "web"))
            await until(lambda: _equal(_names(store), {"web"}))
            docker.is_running = False
            await watcher.on_event(ContainerEvent("rename", "c1", "web"))
            await until(lambda: _equal(_names(store), set()))

    play(story)


async def test_a_container_that_exposes_thousands_of_ports_has_a_small_record(caplog: pytest.LogCaptureFixture) -> None:
    """Its published ports come first, its own names are complete, and the log says so once."""

    class Exposing(Docker):
        async def container(self, container_id: str) -> EngineContainer | None:
            exposed = tuple(EnginePort(number, "udp") for number in range(16384, 32768))
            leg = EngineLeg("n1", "lan", "e1", "10.65.0.1", names=tuple(f"alias{number}" for number in range(1000)))
            published = (EnginePort(60000),)
            return EngineContainer(container_id, "web", "host", True, (leg,), exposed, published)

    store = MemoryStore()

    async def networks() -> dict[str, str]:
        return {"n1": "n1"}

    publisher = Publisher(Tables(store, MemoryStore()), "h1")
    watcher = NameWatcher(Exposing(NoDriver()), networks, publisher, "h1")
    for _ in range(2):
        (found,) = await watcher.read()
    assert len(found.ports) == MOST_PORTS
    assert 60000 in {each.port for each in found.ports}
    assert len(found.names) == MOST_ALIASES + 3
    assert {"web", "c1", "host"} <= set(found.names)
    assert caplog.text.count("container web exposes 16385 ports") == 1


def test_a_record_of_another_host_is_bounded_too() -> None:
    """Names and ports beyond the bounds are not in the table, whoever wrote them."""
    cache = knowing(record(1, *(f"n{number}" for number in range(1000)), ports=tuple(range(1, 1000))))
    assert texts(ask(cache, "n1")) == ["NOERROR", "10.65.0.1"]
    assert texts(ask(cache, "n999")) == ["REFUSED"]
    assert len(texts(ask(cache, "_1._tcp.n1", "SRV"))) == 2
    assert len(texts(ask(cache, "_999._tcp.n1", "SRV"))) == 1


async def _equal(found: Awaitable[object], expected: object) -> bool:
    return await found == expected
