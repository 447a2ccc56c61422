"""Names of this host's containers: learnt from events, withdrawn when they go, compared after a gap."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from lab.speed import within
from macvlan_global.dns.publish.publisher import Publisher
from macvlan_global.dns.publish.watch_engine import NameWatcher
from macvlan_global.driver.driver import ClusterHooks
from macvlan_global.engine.ports import ContainerEvent, Engine, EngineContainer, EngineNetwork, NetworkEvent
from macvlan_global.global_scope import shared_ids
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import EndpointRecord
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import FakeEngine, Subnet, engine_id

LAN = Subnet("10.9.0.0/24")
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Learning:
    """A host whose names are being learnt."""

    host: ClusterHost
    names: NameWatcher
    network: str
    store: MemoryStore

    async def started(self, name: str) -> None:
        """A container starts, and the engine says so."""
        await self.host.engine.run(name, "lan")
        await self.names.on_event(NetworkEvent("connect", self.network, "lan", engine_id(name)))

    async def known(self, *expected: str) -> None:
        """Return once the store has names of exactly these containers.

        Raises:
            AssertionError: not in time.
        """
        async with within(SECONDS):
            async for _ in self.store.watch("names/"):
                rows = await self.host.driver.tables.names.scan()
                if {row.record.names[0] for row in rows} == set(expected):
                    return
        raise AssertionError("the watch ended")


class Late:
    """An engine whose answers about containers are made at once, and come once they may."""

    def __init__(self) -> None:
        """Of nobody yet."""
        self.engine: FakeEngine | None = None
        self.asked, self.answered = asyncio.Event(), asyncio.Event()

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        assert self.engine
        return await self.engine.networks()

    async def container(self, container_id: str) -> EngineContainer | None:
        """See `Engine.container`."""
        assert self.engine
        found = await self.engine.container(container_id)
        self.asked.set()
        await self.answered.wait()
        return found


@asynccontextmanager
async def learning(late: Late | None = None) -> AsyncIterator[Learning]:
    """Names are learnt within the block, on a host with the network `lan`; with `late`, of its engine."""
    rig = await ClusterRig.build()
    deleted = asyncio.Queue[EndpointRecord]()
    host = await rig.host("a", ClusterHooks(on_deleted=deleted.put_nowait))
    network = await host.publish("lan", LAN)
    publisher = Publisher(host.driver.tables, "a")
    if late:
        late.engine = host.engine
    engine = cast("Engine", late) if late else host.engine
    names = NameWatcher(engine, lambda: shared_ids(host.driver.tables), publisher, "a", now=host.clock)

    async def pass_on() -> None:
        while True:
            names.on_endpoint_deleted(await deleted.get())

    tasks = [asyncio.ensure_future(names.run()), asyncio.ensure_future(pass_on())]
    try:
        yield Learning(host, names, network, rig.shared.client())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_container_that_starts_is_known() -> None:
    """With its address, its network's id in the cluster, and the name of the network."""
    async with learning() as here:
        await here.started("web")
        await here.known("web")
        (row,) = await here.host.driver.tables.names.scan()
        container = here.host.engine.containers["web"]
        assert row.record.address == container.address.partition("/")[0]
        assert (row.record.network, row.record.network_name) == (here.network, "lan")


async def test_a_container_that_ends_is_known_no_more() -> None:
    """By its endpoint, which the driver deletes; the engine's event may come later."""
    async with learning() as here:
        await here.started("web")
        await here.started("db")
        await here.known("web", "db")
        await here.host.engine.stop("web")
        await here.known("db")


async def test_a_container_that_died_is_known_no_more() -> None:
    """By the engine's event: it may die before its endpoint is deleted."""
    async with learning() as here:
        await here.started("web")
        await here.known("web")
        await here.names.on_event(ContainerEvent("die", engine_id("web"), "web"))
        await here.known()


async def test_a_container_that_dies_while_the_engine_is_asked_about_it_is_known_no_more() -> None:
    """The engine said that it runs, and its answer comes after the events of the end."""
    late = Late()
    async with learning(late) as here:
        await here.started("web")
        await late.asked.wait()
        await here.host.engine.stop("web")
        await here.names.on_event(ContainerEvent("die", engine_id("web"), "web"))
        late.answered.set()
        await here.started("db")
        await here.known("db")


async def test_what_happened_while_nobody_listened_is_made_up_for() -> None:
    """The engine came back: names are compared, in both directions."""
    async with learning() as here:
        await here.started("web")
        await here.known("web")
        here.host.engine.forget("web")
        await here.host.engine.run("db", "lan")
        await here.names.on_event(None)
        await here.known("db")


async def test_networks_that_are_not_the_cluster_s_are_nobody_s_business() -> None:
    """A container that has a leg elsewhere, too, is known by its leg on ours."""
    async with learning() as here:
        await here.names.on_event(ContainerEvent("start", "no-such-container", "bridged"))
        await here.started("web")
        await here.known("web")
