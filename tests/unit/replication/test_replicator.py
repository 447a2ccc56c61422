"""Replicators of several hosts on one store, with engines in memory."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Self, cast

import msgspec
import pytest

from lab.speed import Allowance
from macvlan_global.driver.driver import ClusterHooks
from macvlan_global.engine.ports import EngineNetwork, NetworkEvent
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.reconcile.engine_follower import learn_names
from macvlan_global.replication import decide
from macvlan_global.replication.apply import Executor
from macvlan_global.replication.decide import STOPPED_SECONDS
from macvlan_global.replication.definition import cluster_id, definition_of
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.replication.observe import Observer
from macvlan_global.replication.problems import NetworkProblem, NetworkProblems
from macvlan_global.replication.replicator import (
    KEEP_SURPLUS_SECONDS,
    KEEP_TOMBSTONES_SECONDS,
    MOST_NAMESAKES,
    MOST_TOMBSTONES,
    RESYNC_SECONDS,
    TURNS_SECONDS,
    Replicator,
)
from macvlan_global.store.known_engine import KnownEngine
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import ClusterStore, Entry
from macvlan_global.store.records import (
    DefinitionRecord,
    HostRecord,
    IdentityRecord,
    NetworkRecord,
    PendingRecord,
    PoolRecord,
    RemovedRecord,
)
from macvlan_global.store.table import Tables
from testkit.brief import STRIDE
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_clock import FakeClock
from testkit.fake_engine import OUR_DRIVER, OUR_IPAM, FakeEngine, Subnet, engine_id
from testkit.faults import Faults, FaultyStore

pytestmark = pytest.mark.virtual_time


@dataclass
class Site:
    """One host: its engine, its driver, and its replicator. Until it `runs`, the driver calls nobody by himself."""

    host: ClusterHost
    tables: Tables
    replicator: Replicator
    begin: Callable[[], Replicator]

    @classmethod
    async def build(cls, name: str, store: ClusterStore, rig: ClusterRig) -> Self:
        """Nothing runs yet. Replication goes through `store`, the driver through a client of its own."""
        problems = NetworkProblems()
        host = await rig.host(name, ClusterHooks(admission=problems.admission))
        tables = Tables(store, host.disk)
        await tables.identity.put(IdentityRecord(id=name), "this")
        begin = partial(
            Replicator,
            store,
            tables,
            host.engine,
            host.driver.networks,
            name,
            problems=problems,
            now=rig.clock,
            steady=rig.clock,
        )
        await tables.hosts.put(HostRecord(id=name, name=f"host-{name}", seen=0.0), name)
        return cls(host, tables, begin(), begin)

    @property
    def engine(self) -> FakeEngine:
        """The host's engine."""
        return self.host.engine

    def restart(self) -> None:
        """The next run knows nothing of this one."""
        self.replicator = self.begin()

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[Self]:
        """It replicates within the block."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.replicator.run()), tasks.create_task(self._follow())]
            await self.replicator.on_engine_up()
            yield self
            for each in running:
                each.cancel()

    async def create(self, name: str, subnet: str = "10.8.0.0/24", *, driver: str = OUR_DRIVER) -> str:
        """`docker network create`; the network's id."""
        return await self.engine.create_network(name, Subnet(subnet), options={"parent": "eth1, eth0"}, driver=driver)

    def executor(
        self, definitions: MirroredTable[DefinitionRecord], tombstones: MirroredTable[RemovedRecord]
    ) -> Executor:
        """What applies actions here, with these views of the store."""
        return Executor(self.tables, self.engine, self.host.driver.networks, definitions, tombstones)

    async def _follow(self) -> None:
        async for event in self.engine.events():
            await learn_names(self.host.driver, self.engine)
            if isinstance(event, NetworkEvent):
                self.replicator.on_network_event(event)

    def reason(self) -> str:
        """The reason of the only problem."""
        [problem] = self.replicator.problems.all()
        return problem.reason


@dataclass
class Pair:
    """Two hosts that replicate, and what they share."""

    a: Site
    b: Site
    rig: ClusterRig

    @property
    def store(self) -> MemoryStore:
        """The store that both share."""
        return self.rig.shared


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Hosts a and b."""
    rig = await ClusterRig.build(new_ids=True)
    a, b = [await Site.build(name, rig.shared.client(), rig) for name in ("a", "b")]
    async with a.runs(), b.runs():
        yield Pair(a, b, rig)


async def until(condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Return once the condition holds."""
    limit = Allowance(seconds)
    while not condition():
        assert not limit.over, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.001)


async def settled(*sites: Site) -> None:
    """Return once nobody looks at anything."""
    await until(lambda: not any(each.replicator.busy for each in sites), "peace")


async def test_a_network_is_made_on_the_other_host(pair: Pair) -> None:
    """The same options and subnets, and its id in the cluster; both know that it is published."""
    made = await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    here, there = pair.a.engine.has("lan"), pair.b.engine.has("lan")
    assert here
    assert there
    assert (there.options, there.subnets, cluster_id(there)) == (here.options, here.subnets, made)
    for site in (pair.a, pair.b):
        [row] = await site.tables.networks.scan()
        assert (row.record.published, row.record.cluster) == (True, made)
    assert pair.a.engine.added == []
    assert (pair.a.replicator.actions["Publish", "applied"], pair.b.replicator.actions["Create", "applied"]) == (1, 1)
    assert pair.a.replicator.waiting == pair.b.replicator.waiting == 0


async def test_a_removal_reaches_the_other_host(pair: Pair) -> None:
    """From either host; and the name can be used again."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.b)
    await pair.b.engine.remove_network("lan")
    await until(lambda: not pair.a.engine.has("lan"), "the removal on a")
    again = await pair.b.create("lan", "10.9.0.0/24")
    await until(lambda: pair.a.engine.has("lan"), "the next one on a")
    found = pair.a.engine.has("lan")
    assert found
    assert cluster_id(found) == again


async def test_a_network_in_use_goes_with_its_last_container(pair: Pair) -> None:
    """Until then it stays and is reported, and a new network of the name waits for it; no container starts on it."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.b)
    await pair.b.engine.run("web", "lan")
    old = pair.b.engine.has("lan")
    assert old
    await pair.a.engine.remove_network("lan")
    new = await pair.a.create("lan", "10.9.0.0/24")
    await until(pair.b.replicator.problems.all, "the report of b")
    assert pair.b.reason() == "network lan was removed in the cluster and is kept on this host for its containers: web"
    refusal, room = pair.b.replicator.problems.admission(old.id)
    assert refusal.startswith(pair.b.reason() + "; stop or disconnect them")
    assert room == 1
    assert pair.b.replicator.problems.admission("another") == ("", 0)
    assert pair.b.engine.has("lan")
    await pair.b.engine.stop("web")
    await until(lambda: (found := pair.b.engine.has("lan")) and cluster_id(found) == new, "the new network on b")
    await until(lambda: not pair.b.replicator.problems.all(), "the end of the report")


@pytest.mark.parametrize("pause", [0, 5])
async def test_a_container_on_a_removed_network_is_restarted(pair: Pair, pause: float) -> None:
    """`docker restart` on b, of a network that a removed: no further container starts, but those that it had."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.b)
    await pair.b.engine.run("web", "lan")
    await pair.a.engine.remove_network("lan")
    await until(pair.b.replicator.problems.all, "the report of b")
    with pytest.raises(Conflict, match="was removed in the cluster and is kept on this host for its containers: web"):
        await pair.b.engine.run("another", "lan")
    await pair.b.engine.stop_only("web", "lan")
    await asyncio.sleep(pause)
    await pair.b.engine.run("web", "lan")
    with pytest.raises(Conflict, match="was removed in the cluster"):
        await pair.b.engine.run("another", "lan")


async def test_a_stopped_container_elsewhere_keeps_its_network(pair: Pair) -> None:
    """A prune on a does not take it from b: it is published again, told of in status, and the container starts."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    await pair.b.engine.run("app", "lan")
    await pair.b.engine.stop_only("app", "lan")
    before = pair.b.engine.has("lan")
    await pair.a.engine.remove_network("lan")
    await asyncio.sleep(1)
    pair.rig.clock.advance(STOPPED_SECONDS)
    await until(lambda: pair.a.engine.has("lan"), "the network on a again")
    assert pair.b.engine.has("lan") == before
    assert await pair.a.tables.removed.scan() == []
    assert pair.b.reason() == (
        "network lan was removed on another host and is kept for stopped containers of this host: app"
    )
    await pair.b.host.mend()
    await pair.b.engine.run("app", "lan")
    await pair.b.engine.stop("app")
    pair.b.engine.referred.clear()
    await pair.a.engine.remove_network("lan")
    await until(lambda: not pair.b.engine.has("lan"), "the removal on b")
    await until(lambda: not pair.b.replicator.problems.all(), "the end of the note")


async def test_names_with_a_slash_are_names_of_their_own(pair: Pair) -> None:
    """`tenant/lan` and `tenant_lan` are both on both hosts, and each goes by itself."""
    for number, name in enumerate(("tenant/lan", "tenant_lan", "tenant%2Flan")):
        await pair.a.create(name, f"10.{number}.0.0/24")
    await until(lambda: len(pair.b.engine.names()) == 3, "all of them on b")
    await settled(pair.a, pair.b)
    assert pair.a.replicator.problems.all() == pair.b.replicator.problems.all() == []
    await pair.b.engine.remove_network("tenant/lan")
    await until(lambda: not pair.a.engine.has("tenant/lan"), "its removal on a")
    await settled(pair.a, pair.b)
    assert pair.a.engine.names() == ["tenant_lan", "tenant%2Flan"]


async def test_one_of_two_networks_wins(pair: Pair) -> None:
    """Made at once on both hosts: the loser's stays, says why, takes no container, and gives way once it is removed."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pair.a.create("lan", "10.8.0.0/24"))
        tasks.create_task(pair.b.create("lan", "10.9.0.0/24"))
    await until(lambda: pair.a.replicator.problems.all() or pair.b.replicator.problems.all(), "a conflict")
    await settled(pair.a, pair.b)
    loser, winner = (pair.a, pair.b) if pair.a.replicator.problems.all() else (pair.b, pair.a)
    lost, won = loser.engine.has("lan"), winner.engine.has("lan")
    assert lost
    assert won
    assert winner.replicator.problems.all() == []
    assert winner.replicator.problems.admission(won.id) == ("", 0)
    refusal, room = loser.replicator.problems.admission(lost.id)
    assert f"which is from host host-{winner.host.driver.identity.host}: subnets: 10." in refusal
    assert "docker network rm lan" in refusal
    assert room == 0
    await loser.engine.remove_network("lan")
    await until(lambda: loser.engine.added == ["lan"], "the cluster's network")
    await settled(loser)
    assert loser.replicator.problems.all() == []
    assert winner.engine.has("lan") == won


async def test_a_foreign_network_is_left_alone(pair: Pair) -> None:
    """A bridge, or a network of the time before the cluster: reported, untouched, and replaced once it is removed."""
    bridge = await pair.b.create("lan", driver="bridge")
    own = engine_id("of the time before")
    await pair.b.tables.networks.put(NetworkRecord(id=own, name="dmz", given={}, at=0.0), own)
    pair.b.engine.learn(EngineNetwork(own, "dmz", OUR_IPAM, driver=OUR_DRIVER))
    await pair.a.create("lan")
    await pair.a.create("dmz", "10.9.0.0/24")
    await until(lambda: len(pair.b.replicator.problems.all()) == 2, "two reports")
    dmz, lan = pair.b.replicator.problems.all()
    assert (lan.id, dmz.id, lan.blocks, dmz.blocks) == (bridge, own, False, False)
    assert "this host has a network of driver bridge of that name" in lan.reason
    assert "this host has a local network of that name" in dmz.reason
    await pair.b.engine.remove_network("lan")
    await until(lambda: pair.b.engine.added == ["lan"], "the cluster's network")


async def test_a_host_that_comes_later() -> None:
    """It gets what is there, and what it has that was removed meanwhile goes."""
    rig = await ClusterRig.build(new_ids=True)
    a, b = [await Site.build(name, rig.shared.client(), rig) for name in ("a", "b")]
    async with a.runs():
        async with b.runs():
            await a.create("old")
            await until(lambda: b.engine.has("old"), "the network on b")
            await settled(b)
        await a.engine.remove_network("old")
        await a.create("new", "10.9.0.0/24")
        await settled(a)
        async with b.runs():
            await until(lambda: b.engine.names() == ["new"], "what a has")


async def test_removed_while_the_driver_was_down() -> None:
    """The engine still is the one that had it, so its operator removed it: it goes everywhere, once it is no longer
    young."""
    rig = await ClusterRig.build(new_ids=True)
    a, b = [await Site.build(name, rig.shared.client(), rig) for name in ("a", "b")]
    async with a.runs():
        async with b.runs():
            await a.create("lan")
            await until(lambda: b.engine.has("lan"), "the network on b")
            await settled(a, b)
        b.host.plugin.runs = False
        await b.engine.remove_network("lan")
        b.host.plugin.runs = True
        b.restart()
        async with b.runs():
            await settled_for_now(b)
            assert a.engine.has("lan")
            assert not b.engine.has("lan")
            rig.clock.advance(120)
            await b.replicator.on_engine_up()
            await until(lambda: not a.engine.has("lan"), "the removal on a")
            await settled(a, b)
            assert not b.engine.has("lan")


async def test_removed_while_the_driver_was_down_that_had_not_heard_of_its_name() -> None:
    """The driver ended between its note of the network as published and the definition, and the engine's event had not
    come: what the network claimed is given back all the same."""
    rig = await ClusterRig.build(new_ids=True)
    faults = Faults()
    a = await Site.build("a", FaultyStore(rig.shared.client(), faults), rig)
    await a.replicator.on_engine_up()
    made = await a.create("lan")
    found = a.engine.has("lan")
    assert found
    faults.refused = "create definitions/"
    executor = a.executor(*_unwatched(a, rig.shared))
    with pytest.raises(Unavailable):
        await executor.apply(decide.Publish(made, definition_of(found, "a", 0.0), "it was created on this host"))
    faults.refused = ""
    a.host.plugin.runs = False
    await a.engine.remove_network("lan")
    a.host.plugin.runs = True
    rig.clock.advance(120)
    async with a.runs():
        await settled_for_now(a)
        await settled(a)
        assert [row.record.name for row in await a.tables.removed.scan()] == ["lan"]
        assert await a.host.driver.networks.all() == []
        assert (await a.host.driver.pools.all(), await a.host.driver.addresses.all()) == ([], [])


async def settled_for_now(site: Site) -> None:
    """Return once the first comparison has begun to look at something."""
    await until(lambda: site.replicator.busy, "a first look")


async def test_an_engine_that_lost_its_data(pair: Pair) -> None:
    """Gets its networks again, the one that was made on it too; nobody takes that for a removal."""
    made = await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    pair.rig.clock.advance(120)
    pair.a.engine.lose_data()
    await pair.a.replicator.on_engine_up()
    await until(lambda: pair.a.engine.has("lan"), "the network on a")
    await settled(pair.a, pair.b)
    found = pair.a.engine.has("lan")
    assert found
    assert cluster_id(found) == made
    assert pair.b.engine.has("lan")
    assert await pair.a.tables.removed.scan() == []
    [row] = await pair.a.tables.networks.scan()
    assert (row.record.id, row.record.cluster, row.record.published) == (found.id, made, True)


async def test_what_cannot_be_forgotten_of_an_engine_that_lost_its_data_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The villain is the kernel: it refuses to delete the parent of a network. That ends nothing, not the driver
    either; the other network is there at once, this one once the kernel permits it, and neither counts as removed."""
    caplog.set_level(logging.INFO)
    rig = await ClusterRig.build(new_ids=True)
    site = await Site.build("a", rig.shared.client(), rig)
    async with site.runs():
        made = [await site.create("lan"), await site.create("other", "10.9.0.0/24")]
        await site.engine.create_network("vlan", Subnet("10.7.0.0/24"), options={"parent": "eth0.50"})
        await settled(site)
        rig.clock.advance(120)
        site.engine.lose_data()
        busy = Conflict("eth0.50 cannot be deleted: device or resource busy")
        site.host.kernel.failing["delete"] = busy
        await site.replicator.on_engine_up()
        site.host.kernel.failing["delete"] = busy  # for the resync that follows
        assert site.reason() == (
            "network vlan of the cluster cannot be compared with this host: eth0.50 cannot be deleted: device or "
            "resource busy"
        )
        await until(lambda: site.engine.has("lan") and site.engine.has("other"), "the other networks")
        assert site.engine.has("vlan") is None
        await asyncio.sleep(RESYNC_SECONDS)
        await until(lambda: site.engine.has("vlan"), "the network on a parent that was busy")
        await settled(site)
        assert site.replicator.problems.all() == []
        assert await site.tables.removed.scan() == []
        assert not any("announce the removal" in each.getMessage() for each in caplog.records)
        networks = [row.record for row in await site.tables.networks.scan()]
        assert {each.cluster for each in networks} > {*made}
        assert {each.id for each in networks} == {each.id for each in await site.engine.every_network()}
        # only now is it the engine of these records: what it does not have any more was removed by its operator
        assert (await KnownEngine(site.tables).read()).id == (await site.engine.info()).id


async def test_a_network_that_is_being_made_on_an_engine_that_lost_its_data_is_left_alone(pair: Pair) -> None:
    """The engine does not list it yet, and nobody else knows of it."""
    await pair.a.create("lan")
    await settled(pair.a)
    pair.a.engine.lose_data()
    young = NetworkRecord(id="9" * 64, cluster="9" * 64, given={}, at=pair.rig.clock())
    await pair.a.tables.networks.put(young, young.id)
    await pair.a.replicator.on_engine_up()
    assert young in [row.record for row in await pair.a.tables.networks.scan()]


async def test_nothing_is_taken_for_removed_from_another_engine(pair: Pair) -> None:
    """An engine that came back empty and that nobody told us of: its networks are not removed elsewhere."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    pair.rig.clock.advance(120)
    pair.a.engine.lose_data()
    watches = _unwatched(pair.a, pair.store)
    [row] = await pair.a.tables.networks.scan()
    outcome = await pair.a.executor(*watches).apply(decide.WriteTombstone(row.record.id, "it looks removed"))
    assert outcome == "later"
    assert await pair.a.tables.removed.scan() == []


def _unwatched(site: Site, store: MemoryStore) -> tuple[MirroredTable[DefinitionRecord], MirroredTable[RemovedRecord]]:
    """Views that saw nothing yet."""
    tables = site.tables
    return (
        MirroredTable(store, tables.definitions, lambda _: None, lambda: None),
        MirroredTable(store, tables.removed, lambda _: None, lambda: None),
    )


async def test_a_lagging_watch_brings_nothing_back(pair: Pair) -> None:
    """A network removed a moment ago is neither created nor published again by a host whose watch lags."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    copy = pair.b.engine.has("lan")
    assert copy
    definition = definition_of(copy, "b", 0.0)
    await pair.a.engine.remove_network("lan")
    await until(lambda: not pair.b.engine.has("lan"), "the removal on b")
    definitions, removed = _unwatched(pair.b, pair.store)
    executor = pair.b.executor(definitions, removed)
    assert await executor.apply(decide.Create(definition, "it is defined")) == "again"
    assert await executor.apply(decide.Publish(copy.id, definition, "it is lost")) == "again"
    assert list(pair.b.engine.names()) == []
    assert await pair.b.tables.definitions.scan() == []
    assert definition.id in removed.rows, "it knows now"
    await pair.a.tables.removed.drop(definition.id)
    assert await executor.apply(decide.Create(definition, "it was defined")) == "again"
    assert list(pair.b.engine.names()) == [], "what is no longer defined is not made either"


async def test_a_definition_beside_its_tombstone_makes_no_network(pair: Pair) -> None:
    """A host that lags behind wrote it anew, or somebody did."""
    definitions, removed = _unwatched(pair.b, pair.store)
    definition = DefinitionRecord(id="1" * 64, name="lan", options={"parent": "eth0"}, host="a", at=0)
    store = MemoryStore()
    tables = Tables(store, pair.b.host.disk)
    await tables.definitions.create(definition, "lan")
    await tables.removed.create(RemovedRecord(id=definition.id, name="lan", host="a", at=0), definition.id)
    executor = Executor(tables, pair.b.engine, pair.b.host.driver.networks, definitions, removed)
    assert await executor.apply(decide.Create(definition, "it is defined")) == "again"
    assert pair.b.engine.names() == []


async def test_only_the_definition_of_the_removed_network_itself_goes(pair: Pair) -> None:
    """By now the name is another one's."""
    definitions, removed = _unwatched(pair.b, pair.store)
    old = DefinitionRecord(id="1" * 64, name="lan", host="a", at=0)
    new = DefinitionRecord(id="2" * 64, name="lan", host="a", at=1)
    tables = Tables(MemoryStore(), pair.b.host.disk)
    await tables.definitions.create(new, "lan")
    await tables.removed.create(RemovedRecord(id=old.id, name="lan", host="a", at=0), old.id)
    executor = Executor(tables, pair.b.engine, pair.b.host.driver.networks, definitions, removed)
    assert await executor.apply(decide.DeleteDefinition(old, "the network was removed")) == "again"
    assert [row.record for row in await tables.definitions.scan()] == [new]


async def test_a_copy_that_was_made_while_others_removed_the_network_gives_back_what_it_claimed(pair: Pair) -> None:
    """It was not published yet, so its removal would be nobody's business."""
    made = await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    await pair.a.engine.remove_network("lan")
    await until(lambda: not pair.b.engine.has("lan"), "the removal on b")
    joined = Subnet("10.8.0.0/24", gateway="10.8.0.1", options={"network": made})
    await pair.b.engine.create_network("lan", joined, options={"parent": "eth0"})
    await until(lambda: not pair.b.engine.has("lan"), "the removal of the late copy")
    await settled(pair.a, pair.b)
    assert (await pair.b.host.driver.pools.all(), await pair.b.host.driver.addresses.all()) == ([], [])


async def test_a_network_that_was_removed_here_is_not_made_again_before_the_store_knows() -> None:
    """The driver cannot tell it yet, and keeps that for later; the definition is there still."""
    rig = await ClusterRig.build(new_ids=True)
    a = await Site.build("a", rig.shared.client(), rig)
    async with a.runs():
        await a.create("lan")
        while await a.tables.definitions.get("lan") is None:  # noqa: ASYNC110 - the store tells nobody here
            await asyncio.sleep(0.001)
        await settled(a)
        a.host.faults.away = True
        await a.engine.remove_network("lan")
        await asyncio.sleep(60)
        assert (a.engine.has("lan"), a.engine.added) == (None, [])


async def test_a_definition_goes_with_a_removal_that_waits(pair: Pair) -> None:
    """The store answers again, and the outbox has not come to it yet."""
    definitions, removed = _unwatched(pair.b, pair.store)
    tables = Tables(MemoryStore(), MemoryStore())
    definition = DefinitionRecord(id="1" * 64, name="lan", host="b", at=0)
    await tables.definitions.create(definition, "lan")
    executor = Executor(tables, pair.b.engine, pair.b.host.driver.networks, definitions, removed)
    action = decide.DeleteDefinition(definition, "the network was removed")
    await executor.apply(action)
    assert len(await tables.definitions.scan()) == 1, "nobody knows of a removal"
    await tables.pending.put(PendingRecord(kind="removal", network=definition.id, name="lan", at=0), "1")
    await executor.apply(action)
    assert await tables.definitions.scan() == []


async def test_a_record_that_can_be_read_again_is_read(pair: Pair) -> None:
    """Somebody overwrote it, and put it right."""
    definitions, _ = _unwatched(pair.b, pair.store)
    store = MemoryStore()
    tables = Tables(store, MemoryStore())
    definitions = MirroredTable(store, tables.definitions, lambda _: None, lambda: None)
    damaged = await store.create("definitions/lan", b"?")
    assert damaged
    watching = asyncio.ensure_future(definitions.run())
    await until(lambda: "lan" in definitions.unreadable, "the damaged record")
    right = DefinitionRecord(id="1" * 64, name="lan", host="a", at=0)
    assert await store.replace(damaged, msgspec.json.encode(right))
    await until(lambda: "lan" in definitions.rows, "the right one")
    assert definitions.unreadable == set()
    watching.cancel()


async def test_a_record_that_was_overwritten_is_no_row_any_more(pair: Pair) -> None:
    """By a newer version, or by mistake: what it said before does not count."""
    store = MemoryStore()
    tables = Tables(store, MemoryStore())
    definitions = MirroredTable(store, tables.definitions, lambda _: None, lambda: None)
    row = await tables.definitions.create(DefinitionRecord(id="1" * 64, name="lan", host="a", at=0), "lan")
    assert row
    watching = asyncio.ensure_future(definitions.run())
    await until(lambda: "lan" in definitions.rows, "the record")
    assert await store.replace(row.entry, b"?")
    await until(lambda: definitions.unreadable == {"lan"}, "the damage")
    assert definitions.rows == {}
    watching.cancel()


async def test_a_network_whose_name_somebody_else_published_first_is_not_recorded_as_published(pair: Pair) -> None:
    """Its removal would remove the other one everywhere."""
    definitions, removed = _unwatched(pair.b, pair.store)
    tables = Tables(MemoryStore(), MemoryStore())
    await tables.definitions.create(DefinitionRecord(id="1" * 64, name="lan", host="a", at=0), "lan")
    await tables.networks.put(NetworkRecord(id="2" * 64, name="lan", given={}, at=0), "2" * 64)
    mine = DefinitionRecord(id="2" * 64, name="lan", host="b", at=0)
    executor = Executor(tables, pair.b.engine, pair.b.host.driver.networks, definitions, removed)
    assert await executor.apply(decide.Publish(mine.id, mine, "it was created on this host")) == "again"
    assert [row.record.published for row in await tables.networks.scan()] == [False]
    assert definitions.rows["lan"].record.id == "1" * 64


async def test_what_waits_to_be_removed_is_observed_as_removed(pair: Pair) -> None:
    """The store does not know it yet."""
    definitions, removed = _unwatched(pair.b, pair.store)
    tables = Tables(MemoryStore(), MemoryStore())
    await tables.pending.put(PendingRecord(kind="removal", network="1" * 64, name="lan", at=0), "1")
    await tables.pending.put(PendingRecord(kind="release", network="2" * 64, address="10.8.0.9", at=0), "2")
    facts = await Observer(tables, pair.b.engine, definitions, removed, host="b").observe("lan")
    assert facts.removed == {"1" * 64}


async def test_containers_are_seen_stopped_since_the_last_of_them_was(pair: Pair) -> None:
    """Another one that was stopped just now may be about to be removed."""
    made = await pair.a.create("lan")
    await settled(pair.a)
    definitions, removed = _unwatched(pair.a, pair.store)
    row = await Tables(MemoryStore(), MemoryStore()).removed.create(
        RemovedRecord(id=made, name="lan", host="b", at=0), made
    )
    assert row
    removed.rows[made] = row
    steady = FakeClock(0)
    observer = Observer(pair.a.tables, pair.a.engine, definitions, removed, host="a", now=pair.rig.clock, steady=steady)
    seen = []
    for stopped in (["app"], ["app"], ["app", "db"], ["app", "db"]):
        pair.a.engine.referred["lan"] = stopped
        seen.append((await observer.observe("lan")).stopped_for)
        steady.advance(7)
        pair.rig.clock.advance(86400)  # it is set meanwhile
    assert seen == [0, 7, 0, 7]


def test_a_problem_that_does_not_block_keeps_no_container() -> None:
    """The operator is told of it."""
    problems = NetworkProblems()
    problems.add(NetworkProblem("lan", "1", "it differs", "nothing needs to be done"))
    assert problems.admission("1") == ("", 0)
    assert [each.name for each in problems.all()] == ["lan"]


def test_each_change_of_the_problems_is_told_once() -> None:
    """When one comes, becomes another, or goes; the same one again is no change."""
    problems, told = NetworkProblems(), []
    problems.on_change = lambda: told.append(len(problems.all()))
    differs = NetworkProblem("lan", "1", "it differs", "nothing needs to be done")
    for _ in range(2):
        problems.add(differs)
    problems.note(NetworkProblem("dmz", "2", "it is kept", "nothing needs to be done"))
    for _ in range(2):
        problems.clear("lan", "it is equal")
        problems.forget("dmz")
    assert told == [1, 2, 1, 0]


async def test_news_of_a_name_that_is_being_looked_at_has_it_looked_at_once_more() -> None:
    """What was observed may be older than the news; the next look at all would be a minute later."""
    rig, faults = await ClusterRig.build(new_ids=True), Faults()
    a = await Site.build("a", rig.shared.client(), rig)
    b = await Site.build("b", FaultyStore(rig.shared.client(), faults), rig)
    async with a.runs(), b.runs():
        await a.create("lan")
        await until(lambda: b.engine.has("lan"), "the network on b")
        await settled(a, b)
        faults.delay = 3
        b.replicator.on_network_event(NetworkEvent("create", b.engine.id_of("lan"), "lan"))
        await asyncio.sleep(1)
        await a.engine.remove_network("lan")
        await asyncio.sleep(30)
        assert b.engine.has("lan") is None


async def test_nothing_is_done_before_it_is_known_which_engine_this_is() -> None:
    """It may be another one than the records are about, and its answers would be taken for what that one has."""
    rig = await ClusterRig.build(new_ids=True)
    a, b = [await Site.build(name, rig.shared.client(), rig) for name in ("a", "b")]
    async with a.runs():
        await a.create("lan")
        await settled(a)
        running = asyncio.ensure_future(b.replicator.run())
        await until(lambda: b.replicator.following, "the watches of b")
        await asyncio.sleep(300)
        assert b.engine.names() == []
        await b.replicator.on_engine_up()
        await until(lambda: b.engine.has("lan"), "the network on b")
        running.cancel()


class LateReads(FaultyStore):
    """A store whose answers to reads arrive when `gate` is set."""

    def __init__(self, inner: ClusterStore) -> None:
        """None was asked for yet."""
        super().__init__(inner)
        self.gate = asyncio.Event()
        self.read = 0

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        found = await super().get(key)
        self.read += 1
        await self.gate.wait()
        return found


class LateWrites(FaultyStore):
    """A store whose answers to creations arrive when `gate` is set."""

    def __init__(self, inner: ClusterStore) -> None:
        """Nothing was created yet."""
        super().__init__(inner)
        self.gate = asyncio.Event()

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        made = await super().create(key, value)
        await self.gate.wait()
        return made


async def test_an_answer_that_is_older_than_the_watchs_news_is_passed_over(pair: Pair) -> None:
    """A network was read before it was published again, and the answer came after the news of that: it is known."""
    late = LateReads(pair.store.client())
    definitions, removed = _unwatched(pair.b, pair.store)
    executor = Executor(
        Tables(late, pair.b.host.disk), pair.b.engine, pair.b.host.driver.networks, definitions, removed
    )
    watching = asyncio.ensure_future(definitions.run())
    await until(lambda: definitions.synced, "the watch")
    definition = DefinitionRecord(id="1" * 64, name="lan", options={"parent": "eth0"}, host="c", at=0)
    creating = asyncio.ensure_future(executor.apply(decide.Create(definition, "it was defined")))
    await until(lambda: late.read == 2, "the reads")
    await pair.a.tables.definitions.create(definition, "lan")
    await until(lambda: "lan" in definitions.rows, "the news")
    late.gate.set()
    assert await creating == "again"
    assert definitions.rows["lan"].record == definition
    watching.cancel()


async def test_an_answer_of_before_a_deletion_brings_nothing_back_to_the_copy(pair: Pair) -> None:
    """The definition that this host published was deleted before the answer came: its copy ends without it."""
    shared = MemoryStore()  # of no other host's: nobody publishes again
    late = LateWrites(shared.client())
    definitions, removed = _unwatched(pair.b, shared)
    executor = Executor(
        Tables(late, pair.b.host.disk), pair.b.engine, pair.b.host.driver.networks, definitions, removed
    )
    watching = asyncio.ensure_future(definitions.run())
    await until(lambda: definitions.synced, "the watch")
    definition = DefinitionRecord(id="1" * 64, name="lan", options={"parent": "eth0"}, host="b", at=0)
    publishing = asyncio.ensure_future(executor.apply(decide.Publish("", definition, "it is lost")))
    await until(lambda: "lan" in definitions.rows, "the news of its own writing")
    assert await shared.delete(definitions.rows["lan"].entry)
    await until(lambda: "lan" not in definitions.rows, "the news of the deletion")
    late.gate.set()
    assert await publishing == "again"
    assert "lan" not in definitions.rows
    watching.cancel()


async def test_a_tombstone_that_the_store_no_longer_has_ends_nothing(pair: Pair) -> None:
    """A host whose watch lags behind a store that was restored neither deletes definitions nor removes networks."""
    made = await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    copy = pair.b.engine.has("lan")
    assert copy
    definitions, removed = _unwatched(pair.b, pair.store)
    stale = await pair.b.tables.removed.put(RemovedRecord(id=made, name="lan", host="a", at=0), made)
    removed.rows[made] = stale
    assert await pair.b.tables.removed.delete(stale)
    executor = pair.b.executor(definitions, removed)
    for action in (
        decide.DeleteDefinition(definition_of(copy, "a", 0.0), "it was removed"),
        decide.Remove(copy.id, "lan", made, "it was removed"),
    ):
        assert await executor.apply(action) == "again"
    assert removed.rows == {}, "it knows now"
    assert pair.b.engine.has("lan")
    [row] = await pair.b.tables.definitions.scan()
    assert row.record.id == made


async def test_a_network_that_was_defined_again_is_not_removed_by_memory(pair: Pair) -> None:
    """Another host took its removal back, and the watches of this one, which kept it for a container, lag behind."""
    made = await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    copy = pair.b.engine.id_of("lan")
    await pair.b.tables.networks.change(copy, removed=True)
    executor = pair.b.executor(*_unwatched(pair.b, pair.store))
    assert await executor.apply(decide.Remove(copy, "lan", made, "it was removed")) == "again"
    assert pair.b.engine.has("lan")


async def test_a_copy_too_many_goes_quietly(pair: Pair) -> None:
    """A removal of our own is no operator's: the other hosts keep the network."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    copy = pair.b.engine.has("lan")
    assert copy
    executor = pair.b.executor(*_unwatched(pair.b, pair.store))
    assert await executor.apply(decide.RemoveDuplicate(copy.id, "there are two")) == "again"
    assert await pair.b.tables.removed.scan() == []
    await until(lambda: (again := pair.b.engine.has("lan")) and again.id != copy.id, "the next look at b")
    assert pair.a.engine.has("lan")


async def test_who_loses_the_race_has_not_published(pair: Pair) -> None:
    """The removal of a network that only has the name of the cluster's is nobody else's business."""
    store = pair.store.client()
    c = await Site.build("c", store, pair.rig)
    await c.create("lan", "10.9.0.0/24")
    await pair.a.create("lan", "10.8.0.0/24")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    async with c.runs():
        await until(c.replicator.problems.all, "a conflict")
        await settled(c)
        [row] = await c.tables.networks.scan()
        assert row.record.published is False


async def test_a_definition_that_was_lost_is_written_again(pair: Pair) -> None:
    """The store went back to a time before the network: it is neither removed anywhere nor forgotten."""
    before = pair.store.save()
    made = await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    pair.store.restore(before)
    await settled(pair.a, pair.b)
    limit = Allowance(5)
    while (row := await pair.a.tables.definitions.get("lan")) is None:
        assert not limit.over
        await asyncio.sleep(0.001)
    assert row.record.id == made
    assert pair.a.engine.has("lan")
    assert pair.b.engine.has("lan")


async def test_a_definition_of_a_removed_network_goes(pair: Pair) -> None:
    """It is a left-over, and nothing is made from it."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    tables = pair.a.tables
    [row] = await tables.definitions.scan()
    await pair.a.engine.remove_network("lan")
    await until(lambda: not pair.b.engine.has("lan"), "the removal on b")
    await tables.definitions.create(row.record, "lan")
    limit = Allowance(5)
    while await tables.definitions.get("lan"):
        assert not limit.over
        await asyncio.sleep(0.001)
    await settled(pair.a, pair.b)
    assert (list(pair.a.engine.names()), list(pair.b.engine.names())) == ([], [])
    assert pair.b.engine.added == ["lan"]


async def test_what_the_engine_refuses_is_shown_and_tried_again(pair: Pair) -> None:
    """With the engine's words, until it works."""
    pair.b.engine.refuses = "no usable parent: eth7 is not there"
    await pair.a.create("lan")
    await until(pair.b.replicator.problems.all, "the report of b")
    [problem] = pair.b.replicator.problems.all()
    assert problem.reason == (
        "network lan of the cluster cannot be created on this host: the Docker Engine refuses: no usable parent: eth7 "
        "is not there"
    )
    assert (problem.name, problem.id, problem.blocks) == ("lan", "", False)
    pair.b.engine.refuses = ""
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await until(lambda: not pair.b.replicator.problems.all(), "the end of the report")


async def test_an_engine_that_is_away(pair: Pair) -> None:
    """A network published meanwhile is created when it is back, without another event."""
    pair.b.engine.raises = Unavailable("the Docker Engine does not answer")
    with pytest.raises(Unavailable):
        await pair.b.replicator.on_engine_up()
    await pair.a.create("lan")
    await until(lambda: pair.b.replicator.busy, "a try")
    pair.b.engine.raises = None
    await until(lambda: pair.b.engine.has("lan"), "the network on b")


async def test_a_store_that_fails_at_every_step() -> None:
    """Any single step of the store may fail, before or after it was done: in the end both hosts have the network."""
    for after in (False, True):
        number = 1
        while await _made_with_fault(number, after=after):
            number += STRIDE
        assert number > 8, "there are steps to fail"


async def _made_with_fault(number: int, *, after: bool) -> bool:
    """Whether the step was reached at all."""
    rig, faults = await ClusterRig.build(new_ids=True), Faults()
    store = FaultyStore(rig.shared.client(), faults)
    a, b = [await Site.build(name, store, rig) for name in ("a", "b")]
    faults.arm(number, after=after)
    async with a.runs(), b.runs():
        made = await a.create("lan")
        await until(
            lambda: b.engine.has("lan"), f"the network on b though step {faults.taken[number - 1 :][:1]} failed"
        )
        await settled(a, b)
        found = b.engine.has("lan")
        assert found
        assert cluster_id(found) == made
        assert b.engine.added == ["lan"]
        return len(faults.taken) >= number


async def test_a_removal_is_forgotten_once_this_host_has_seen_it_for_ninety_days(pair: Pair) -> None:
    """One that was seen for a shorter time stays, whatever the clocks of the hosts say that wrote them; and one that a
    pool names, be it one that this host cannot read: a newer version, the villain, wrote it."""
    tables = pair.a.tables
    await tables.removed.create(RemovedRecord(id="11", name="old", host="z", at=4e9), "11")
    await tables.removed.create(RemovedRecord(id="33", name="used", host="z", at=4e9), "33")
    await tables.removed.create(RemovedRecord(id="44", name="used by newer ones", host="z", at=4e9), "44")
    # containers of some host run on it still: else its pool would be gone
    pool = PoolRecord(space="lab", subnet="10.99.0.0/24", network="33", host="z", at=0)
    await tables.pools.create(pool, "lab", "10.99.0.0/24")
    newer = msgspec.structs.replace(pool, v=2, subnet="10.98.0.0/24", network="44")
    await tables.pools.create(newer, "lab", "10.98.0.0/24")
    await settled(pair.a, pair.b)
    await pair.a.replicator.on_engine_up()
    await until(lambda: not pair.a.replicator.busy, "it was seen")
    pair.rig.clock.advance(KEEP_TOMBSTONES_SECONDS - 60)
    await tables.removed.create(RemovedRecord(id="22", name="young", host="z", at=0), "22")
    await pair.a.replicator.on_engine_up()
    await until(lambda: not pair.a.replicator.busy, "a look")
    assert [row.record.id for row in await tables.removed.scan()] == ["11", "22", "33", "44"]
    pair.rig.clock.advance(61 + TURNS_SECONDS)
    await pair.a.replicator.on_engine_up()
    limit = Allowance(5)
    while [row.record.id for row in await tables.removed.scan()] != ["22", "33", "44"]:
        assert not limit.over
        await asyncio.sleep(0.001)


async def _removed_and_kept(pair: Pair, options: dict[str, str], ipam: str) -> str:
    """`lan` is removed on a while `web` runs on it on b, and the hosts forget that: its tombstone is old. Its id."""
    subnets = [Subnet("10.8.0.0/24")] if ipam == OUR_IPAM else []
    made = await pair.a.engine.create_network("lan", *subnets, options=options, ipam=ipam)
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    await pair.b.engine.run("web", "lan")
    await pair.a.engine.remove_network("lan")
    await until(pair.b.replicator.problems.all, "the report of b")
    if ipam == OUR_IPAM:  # as by `docker compose up`; it takes the pool over
        await pair.a.create("lan")
    await _look(pair)
    pair.rig.clock.advance(KEEP_TOMBSTONES_SECONDS + TURNS_SECONDS + 1)
    await _look(pair)
    assert await pair.a.tables.removed.scan() == []
    return made


async def _look(pair: Pair) -> None:
    for each in (pair.a, pair.b):
        await each.replicator.on_engine_up()
    await asyncio.sleep(2)
    await settled(pair.a, pair.b)


async def test_a_removed_network_without_a_pool_does_not_come_back_from_a_host_that_kept_it(pair: Pair) -> None:
    """The other host, the villain, forgets the removal after ninety days: no pool says that the network is in use."""
    await _removed_and_kept(pair, {"parent": "eth0"}, "null")
    assert await pair.a.tables.definitions.scan() == []
    assert pair.a.engine.names() == []
    assert "is kept on this host for its containers: web" in pair.b.reason()
    await pair.b.engine.stop("web")
    await until(lambda: not pair.b.engine.has("lan"), "its end on b")
    assert await pair.a.tables.definitions.scan() == []


async def test_a_removed_network_whose_pool_the_next_one_has_does_not_come_back(pair: Pair) -> None:
    """The other host, the villain, forgets the removal; the next network of the name comes with the last container's
    end, and when it is removed too, there is none."""
    old = await _removed_and_kept(pair, {"parent": "eth1, eth0"}, OUR_IPAM)
    assert "is kept on this host for its containers: web" in pair.b.reason()
    await pair.b.engine.stop("web")
    await until(lambda: (found := pair.b.engine.has("lan")) and cluster_id(found) != old, "the next one on b")
    await settled(pair.a, pair.b)
    await pair.a.engine.remove_network("lan")
    await until(lambda: not pair.b.engine.has("lan"), "its end on b")
    await _look(pair)
    assert pair.a.engine.names() == pair.b.engine.names() == []


async def test_a_removal_that_another_host_takes_back_is_not_remembered(pair: Pair) -> None:
    """The network is kept for a container that runs, when it is defined again; a store that is older then, the villain,
    loses it no more."""
    made = await _removed_and_kept(pair, {"parent": "eth0"}, "null")
    definition = DefinitionRecord(id=made, name="lan", options={"parent": "eth0"}, host="c", at=0)
    definition = msgspec.structs.replace(definition, ipam_options={"ipam-driver": "null"})
    row = await pair.a.tables.definitions.create(definition, "lan")
    assert row
    await until(lambda: pair.a.engine.has("lan"), "the network on a")
    await until(lambda: not pair.b.replicator.problems.all(), "the end of the report")
    assert [each.record.removed for each in await pair.b.tables.networks.scan()] == [False]
    await settled(pair.a, pair.b)
    assert await pair.a.tables.definitions.delete(row)
    await _look(pair)
    assert [each.record.id for each in await pair.a.tables.definitions.scan()] == [made]


async def test_a_container_that_stops_on_a_network_that_was_kept_for_it_takes_the_removal_back(pair: Pair) -> None:
    """Its host has remembered the removal, which another one, the villain, has forgotten; now it forgets it too."""
    made = await _removed_and_kept(pair, {"parent": "eth0"}, "null")
    await pair.b.engine.stop_only("web", "lan")
    await asyncio.sleep(1)
    pair.rig.clock.advance(STOPPED_SECONDS)
    await until(lambda: pair.a.engine.has("lan"), "the network on a again")
    await settled(pair.a, pair.b)
    assert [each.record.id for each in await pair.a.tables.definitions.scan()] == [made]
    assert [each.record.removed for each in await pair.b.tables.networks.scan()] == [False]


async def test_of_too_many_removals_the_oldest_are_forgotten_after_a_day(pair: Pair) -> None:
    """By the order in which the store has them. No younger one goes, however many there are."""
    tables = pair.a.tables
    for number in range(MOST_TOMBSTONES + 3):
        key = f"{MOST_TOMBSTONES + 9 - number:04}"  # the oldest is the last one by its key
        await tables.removed.create(RemovedRecord(id=key, name=f"n{key}", host="z", at=number), key)
    await settled(pair.a, pair.b)
    for seconds in (0, KEEP_SURPLUS_SECONDS - 1):
        pair.rig.clock.advance(seconds)
        await pair.a.replicator.on_engine_up()
        await until(lambda: not pair.a.replicator.busy, "a look")
        assert len(await tables.removed.scan()) == MOST_TOMBSTONES + 3
    pair.rig.clock.advance(2 + TURNS_SECONDS)
    await pair.a.replicator.on_engine_up()
    limit = Allowance(20)
    while len(rows := await tables.removed.scan()) > MOST_TOMBSTONES:
        assert not limit.over
        await asyncio.sleep(0.001)
    kept = {row.record.id for row in rows}
    assert not kept & {f"{MOST_TOMBSTONES + 9 - number:04}" for number in range(3)}
    await pair.a.replicator.on_engine_up()
    await until(lambda: not pair.a.replicator.busy, "another look")
    assert len(await tables.removed.scan()) == MOST_TOMBSTONES


@pytest.mark.parametrize("at", [0.0, -1e9, 4e9], ids=["1970", "before", "2096"])
async def test_a_removal_of_a_host_with_a_wrong_clock_holds(pair: Pair, at: float) -> None:
    """No host takes its mark for old, so the network stays away, also from a host that kept a copy for a container."""
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "b has a copy")
    await settled(pair.a, pair.b)
    await pair.b.engine.run("web", "lan")
    network = pair.a.engine.id_of("lan")
    await pair.a.tables.removed.create(RemovedRecord(id=network, name="lan", host="z", at=at), network)
    await until(lambda: not pair.a.engine.has("lan"), "a removes its copy")
    for _ in range(3):
        await pair.a.replicator.on_engine_up()
        await pair.b.replicator.on_engine_up()
        await until(lambda: not pair.a.replicator.busy, "a look")
    await pair.b.engine.stop("web")
    pair.b.replicator.on_network_event(NetworkEvent("disconnect", pair.b.engine.id_of("lan"), "lan"))
    await until(lambda: not pair.b.engine.has("lan"), "b removes its copy")
    assert await pair.a.tables.removed.get(network)
    assert await pair.a.tables.definitions.get("lan") is None


async def test_what_a_newer_version_wrote_is_left_alone(pair: Pair) -> None:
    """Its definition is neither followed nor overwritten, nor is its tombstone guessed at."""
    await pair.store.create("definitions/lan", b'{"v": 99, "id": "77"}')
    await pair.store.create("removed/88", b"no JSON at all")
    await pair.a.create("lan")
    await settled(pair.a, pair.b)
    entry = await pair.store.get("definitions/lan")
    assert entry
    assert entry.value == b'{"v": 99, "id": "77"}'
    assert not pair.b.engine.has("lan")
    assert pair.a.engine.has("lan")


async def test_other_events_change_nothing(pair: Pair) -> None:
    """A container that comes or goes on a network that is in order makes nobody look."""
    await pair.a.create("lan")
    await settled(pair.a, pair.b)
    for action in ("connect", "disconnect"):
        pair.a.replicator.on_network_event(NetworkEvent(action, "aa", "lan"))
        assert not pair.a.replicator.busy


async def test_a_network_without_ip_management_is_on_every_host(pair: Pair) -> None:
    """There is nothing to coordinate but its name: no subnet, no pool. Removed on one host, it goes from all."""
    made = await pair.a.engine.create_network("l2", options={"parent": "eth0"}, ipam="null")
    await until(lambda: pair.b.engine.has("l2"), "the network on b")
    found = pair.b.engine.has("l2")
    assert found
    assert (found.ipam_driver, found.subnets, cluster_id(found)) == ("null", (), made)

    async def recorded() -> bool:
        (record,) = await pair.b.host.driver.networks.all()
        return (record.shared_id, record.published, record.subnets) == (made, True, [])

    for _ in range(100):
        if await recorded():
            break
        await asyncio.sleep(0.1)
    assert await recorded()
    await pair.b.engine.run("web", "l2")
    await pair.b.engine.stop("web")
    await pair.b.engine.remove_network("l2")
    await until(lambda: not pair.a.engine.has("l2"), "the removal on a")
    assert await pair.a.host.driver.pools.all() == []


async def test_networks_of_one_name_are_known_by_their_ids(pair: Pair) -> None:
    """The one that is defined and the latest that were removed: containers may run on any of them."""
    told: list[int] = []
    pair.b.replicator.on_networks = lambda: told.append(1)
    made = await pair.a.create("lan")
    other = await pair.a.create("other", "10.9.0.0/24")
    await until(lambda: pair.b.replicator.defined() == {made, other}, "both definitions on b")
    assert told
    for number in range(MOST_NAMESAKES + 2):
        record = RemovedRecord(id=f"old{number}", name="lan", host="a", at=float(number))
        await pair.a.tables.removed.create(record, record.id)
    latest = {f"old{number}" for number in range(2, MOST_NAMESAKES + 2)}
    await until(lambda: pair.b.replicator.namesakes({made}) == latest | {made}, "all of one name")
    assert pair.b.replicator.namesakes({"old5"}) == latest | {made}
    assert pair.b.replicator.namesakes({other}) == {other}
    assert pair.b.replicator.namesakes({"unknown"}) == set()


async def test_what_cannot_be_read_costs_no_questions(pair: Pair) -> None:
    """Anybody writes a definition that is none, and below removed/ the name of a network: it is a network's name, and
    no id. The former is looked at once, the latter is nobody's tombstone."""
    await pair.store.create("removed/lan", b"no JSON at all")
    await pair.store.create("definitions/junk", b"nor this")
    await pair.a.create("lan")
    await until(lambda: pair.b.engine.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    assert (pair.a.replicator.waiting, pair.b.replicator.waiting) == (0, 0)
    entry = await pair.store.get("definitions/junk")
    assert entry
    assert await pair.store.delete(entry)
    await pair.a.create("junk", "10.9.0.0/24")
    await until(lambda: pair.b.engine.has("junk"), "the network of that name")


@pytest.mark.virtual_time
async def test_what_the_store_refuses_for_good_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """It answers, and its watches are open, but it does not let us write definitions. It is logged once, and clears
    when the store permits it."""
    rig = await ClusterRig.build(new_ids=True)
    refusing = FaultyStore(rig.shared.client(), faults := Faults())
    faults.error = Unavailable("Consul refuses (403): Permission denied")
    faults.refused = "create definitions"
    site = await Site.build("a", cast("ClusterStore", refusing), rig)
    with caplog.at_level(logging.INFO):
        async with site.runs():
            await site.create("lan")
            await asyncio.sleep(20)
            assert site.replicator.problems.all() == []
            await asyncio.sleep(100)
            [problem] = site.replicator.problems.all()
            assert problem.reason == (
                "the cluster cannot be told of network lan: Consul refuses (403): Permission denied"
            )
            said = [each.getMessage() for each in caplog.records if "publish network lan" in each.getMessage()]
            assert len(said) == len(set(said)) <= 2  # it is new, and then the cluster lacks it
            faults.refused = ""
            await asyncio.sleep(40)
            assert site.replicator.problems.all() == []


async def test_a_removal_is_not_forgotten_while_containers_run_on_the_network_here() -> None:
    """Else this host would tell the others to make it again."""
    rig = await ClusterRig.build(new_ids=True)
    site = await Site.build("a", rig.shared.client(), rig)
    async with site.runs():
        made = await site.create("lan")
        await settled(site)
        await site.engine.run("web", "lan")
        for each, name in ((made, "lan"), ("11", "old")):
            await site.tables.removed.create(RemovedRecord(id=each, name=name, host="z", at=0), each)
        await until(site.replicator.problems.all, "it is kept")
        await site.replicator.on_engine_up()
        await settled(site)
        rig.clock.advance(KEEP_TOMBSTONES_SECONDS + TURNS_SECONDS)
        await site.replicator.on_engine_up()
        limit = Allowance(5)
        while len(await site.tables.removed.scan()) > 1:
            assert not limit.over
            await asyncio.sleep(0.001)
        await settled(site)
        assert [row.record.id for row in await site.tables.removed.scan()] == [made]
