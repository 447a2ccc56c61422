"""Replicators of several hosts on one store, with engines in memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import pytest
from msgspec import structs

from macvlan_global.engine.ports import NetworkEvent
from macvlan_global.errors import Unavailable
from macvlan_global.replication import decide
from macvlan_global.replication.apply import Executor
from macvlan_global.replication.definition import cluster_id, definition_of
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.replication.replicator import KEEP_TOMBSTONES_SECONDS, Replicator
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import DefinitionRecord, HostRecord, RemovedRecord
from testkit.fake_clock import FakeClock
from testkit.fake_docker import FakeDocker
from testkit.faults import Faults, FaultyStore

pytestmark = pytest.mark.virtual_time


@dataclass
class Site:
    """One host: its engine and its replicator."""

    docker: FakeDocker
    replicator: Replicator

    @classmethod
    async def build(cls, name: str, store: MemoryStore | FaultyStore, clock: FakeClock) -> Self:
        """Nothing runs yet."""
        docker = FakeDocker(name, store, MemoryStore(), clock)
        await docker.install()
        replicator = Replicator(store, docker.tables, docker, docker, name, now=clock)
        docker.tell = replicator.on_network_event
        await docker.tables.hosts.put(HostRecord(id=name, name=f"host-{name}", seen=0.0), name)
        return cls(docker, replicator)

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[Self]:
        """It replicates within the block."""
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.replicator.run())
            await self.replicator.on_engine_up()
            yield self
            running.cancel()

    def reason(self) -> str:
        """The reason of the only problem."""
        [problem] = self.replicator.problems.all()
        return problem.reason


@dataclass
class Pair:
    """Two hosts that replicate, and what they share."""

    a: Site
    b: Site
    store: MemoryStore
    clock: FakeClock


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Hosts a and b."""
    store, clock = MemoryStore(), FakeClock()
    a, b = [await Site.build(name, store.client(), clock) for name in ("a", "b")]
    async with a.runs(), b.runs():
        yield Pair(a, b, store, clock)


async def until(condition: Callable[[], object], what: str, seconds: float = 5.0) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.001)


async def settled(*sites: Site) -> None:
    """Return once nobody looks at anything."""
    await until(lambda: not any(each.replicator.busy for each in sites), "peace")


async def test_a_network_is_made_on_the_other_host(pair: Pair) -> None:
    """The same options and subnets, and its id in the cluster; both know that it is published."""
    made = await pair.a.docker.create("lan", options={"parent": "eth1, eth0"})
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    here, there = pair.a.docker.has("lan"), pair.b.docker.has("lan")
    assert here
    assert there
    assert (there.options, there.subnets, cluster_id(there)) == (here.options, here.subnets, made)
    for docker in (pair.a.docker, pair.b.docker):
        [row] = await docker.tables.networks.scan()
        assert (row.record.published, row.record.cluster) == (True, made)
    assert pair.a.docker.made == []


async def test_a_removal_reaches_the_other_host(pair: Pair) -> None:
    """From either host; and the name can be used again."""
    await pair.a.docker.create("lan")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.b)
    await pair.b.docker.rm("lan")
    await until(lambda: not pair.a.docker.has("lan"), "the removal on a")
    again = await pair.b.docker.create("lan", "10.9.0.0/24")
    await until(lambda: pair.a.docker.has("lan"), "the next one on a")
    found = pair.a.docker.has("lan")
    assert found
    assert cluster_id(found) == again


async def test_a_network_in_use_goes_with_its_last_container(pair: Pair) -> None:
    """Until then it stays and is reported, and a new network of the name waits for it; no container starts on it."""
    await pair.a.docker.create("lan")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.b)
    pair.b.docker.start("web", "lan")
    old = pair.b.docker.has("lan")
    assert old
    await pair.a.docker.rm("lan")
    new = await pair.a.docker.create("lan", "10.9.0.0/24")
    await until(pair.b.replicator.problems.all, "the report of b")
    assert pair.b.reason() == "network lan was removed in the cluster and is kept on this host for its containers: web"
    assert pair.b.replicator.problems.admission_error(old.id).startswith(pair.b.reason() + "; stop or disconnect them")
    assert pair.b.replicator.problems.admission_error("another") == ""
    assert pair.b.docker.has("lan")
    pair.b.docker.stop("web")
    await until(lambda: (found := pair.b.docker.has("lan")) and cluster_id(found) == new, "the new network on b")
    await until(lambda: not pair.b.replicator.problems.all(), "the end of the report")


async def test_one_of_two_networks_wins(pair: Pair) -> None:
    """Made at once on both hosts: the loser's stays, says why, takes no container, and gives way once it is removed."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(pair.a.docker.create("lan", "10.8.0.0/24"))
        tasks.create_task(pair.b.docker.create("lan", "10.9.0.0/24"))
    await until(lambda: pair.a.replicator.problems.all() or pair.b.replicator.problems.all(), "a conflict")
    await settled(pair.a, pair.b)
    loser, winner = (pair.a, pair.b) if pair.a.replicator.problems.all() else (pair.b, pair.a)
    lost, won = loser.docker.has("lan"), winner.docker.has("lan")
    assert lost
    assert won
    assert winner.replicator.problems.all() == []
    assert winner.replicator.problems.admission_error(won.id) == ""
    assert f"which is from host host-{winner.docker.host}: subnets: 10." in loser.replicator.problems.admission_error(
        lost.id
    )
    assert "docker network rm lan" in loser.replicator.problems.admission_error(lost.id)
    await loser.docker.rm("lan")
    await until(lambda: loser.docker.made == ["lan"], "the cluster's network")
    await settled(loser)
    assert loser.replicator.problems.all() == []
    assert winner.docker.has("lan") == won


async def test_a_foreign_network_is_left_alone(pair: Pair) -> None:
    """A bridge, or a network of the time before the cluster: reported, untouched, and replaced once it is removed."""
    bridge = await pair.b.docker.create("lan", driver="bridge")
    own = await pair.b.docker.create("dmz", local_scope=True)
    await pair.a.docker.create("lan")
    await pair.a.docker.create("dmz", "10.9.0.0/24")
    await until(lambda: len(pair.b.replicator.problems.all()) == 2, "two reports")
    dmz, lan = pair.b.replicator.problems.all()
    assert (lan.id, dmz.id, lan.blocks, dmz.blocks) == (bridge, own, False, False)
    assert "this host has a network of driver bridge of that name" in lan.reason
    assert "this host has a local network of that name" in dmz.reason
    await pair.b.docker.rm("lan")
    await until(lambda: pair.b.docker.made == ["lan"], "the cluster's network")


async def test_a_host_that_comes_later() -> None:
    """It gets what is there, and what it has that was removed meanwhile goes."""
    store, clock = MemoryStore(), FakeClock()
    a, b = [await Site.build(name, store.client(), clock) for name in ("a", "b")]
    async with a.runs():
        async with b.runs():
            await a.docker.create("old")
            await until(lambda: b.docker.has("old"), "the network on b")
            await settled(b)
        await a.docker.rm("old")
        await a.docker.create("new", "10.9.0.0/24")
        await settled(a)
        async with b.runs():
            await until(lambda: b.docker.names() == ["new"], "what a has")


async def test_removed_while_the_driver_was_down() -> None:
    """The engine still is the one that had it, so its operator removed it: it goes everywhere, once it is no longer
    young."""
    store, clock = MemoryStore(), FakeClock()
    a, b = [await Site.build(name, store.client(), clock) for name in ("a", "b")]
    async with a.runs():
        async with b.runs():
            await a.docker.create("lan")
            await until(lambda: b.docker.has("lan"), "the network on b")
            await settled(a, b)
        b.docker.driver_runs = False
        await b.docker.rm("lan")
        b.docker.driver_runs = True
        async with b.runs():
            await settled_for_now(b)
            assert a.docker.has("lan")
            assert not b.docker.has("lan")
            clock.advance(120)
            await b.replicator.on_engine_up()
            await until(lambda: not a.docker.has("lan"), "the removal on a")
            await settled(a, b)
            assert not b.docker.has("lan")


async def settled_for_now(site: Site) -> None:
    """Return once the first comparison has begun to look at something."""
    await until(lambda: site.replicator.busy, "a first look")


async def test_an_engine_that_lost_its_data(pair: Pair) -> None:
    """Gets its networks again, the one that was made on it too; nobody takes that for a removal."""
    made = await pair.a.docker.create("lan")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    pair.clock.advance(120)
    pair.a.docker.lose_data()
    await pair.a.replicator.on_engine_up()
    await until(lambda: pair.a.docker.has("lan"), "the network on a")
    await settled(pair.a, pair.b)
    found = pair.a.docker.has("lan")
    assert found
    assert cluster_id(found) == made
    assert pair.b.docker.has("lan")
    assert await pair.a.docker.tables.removed.scan() == []
    [row] = await pair.a.docker.tables.networks.scan()
    assert (row.record.id, row.record.cluster, row.record.published) == (found.id, made, True)


async def test_nothing_is_taken_for_removed_from_another_engine(pair: Pair) -> None:
    """An engine that came back empty and that nobody told us of: its networks are not removed elsewhere."""
    await pair.a.docker.create("lan")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    pair.clock.advance(120)
    pair.a.docker.lose_data()
    watches = _unwatched(pair.a, pair.store)
    [row] = await pair.a.docker.tables.networks.scan()
    outcome = await Executor(pair.a.docker.tables, pair.a.docker, pair.a.docker, *watches).apply(
        decide.WriteTombstone(row.record.id, "it looks removed")
    )
    assert outcome == "later"
    assert await pair.a.docker.tables.removed.scan() == []


def _unwatched(site: Site, store: MemoryStore) -> tuple[MirroredTable[DefinitionRecord], MirroredTable[RemovedRecord]]:
    """Views that saw nothing yet."""
    tables = site.docker.tables
    return (
        MirroredTable(store, tables.definitions, lambda _: None, lambda: None),
        MirroredTable(store, tables.removed, lambda _: None, lambda: None),
    )


async def test_a_lagging_watch_brings_nothing_back(pair: Pair) -> None:
    """A network removed a moment ago is neither created nor published again by a host whose watch lags."""
    await pair.a.docker.create("lan")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    copy = pair.b.docker.has("lan")
    assert copy
    definition = definition_of(copy, "b", 0.0)
    await pair.a.docker.rm("lan")
    await until(lambda: not pair.b.docker.has("lan"), "the removal on b")
    definitions, removed = _unwatched(pair.b, pair.store)
    executor = Executor(pair.b.docker.tables, pair.b.docker, pair.b.docker, definitions, removed)
    assert await executor.apply(decide.Create(definition, "it is defined")) == "again"
    assert await executor.apply(decide.Publish(copy.id, definition, "it is lost")) == "again"
    assert list(pair.b.docker.names()) == []
    assert await pair.b.docker.tables.definitions.scan() == []
    assert definition.id in removed.rows, "it knows now"
    await pair.a.docker.tables.removed.drop(definition.id)
    assert await executor.apply(decide.Create(definition, "it was defined")) == "again"
    assert list(pair.b.docker.names()) == [], "what is no longer defined is not made either"


async def test_a_copy_too_many_goes_quietly(pair: Pair) -> None:
    """A removal of our own is no operator's: the other hosts keep the network."""
    await pair.a.docker.create("lan")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    copy = pair.b.docker.has("lan")
    assert copy
    executor = Executor(pair.b.docker.tables, pair.b.docker, pair.b.docker, *_unwatched(pair.b, pair.store))
    assert await executor.apply(decide.RemoveDuplicate(copy.id, "there are two")) == "again"
    assert await pair.b.docker.tables.removed.scan() == []
    await until(lambda: (again := pair.b.docker.has("lan")) and again.id != copy.id, "the next look at b")
    assert pair.a.docker.has("lan")


async def test_who_loses_the_race_has_not_published(pair: Pair) -> None:
    """The removal of a network that only has the name of the cluster's is nobody else's business."""
    store = pair.store.client()
    c = await Site.build("c", store, pair.clock)
    await c.docker.create("lan", "10.9.0.0/24")
    await pair.a.docker.create("lan", "10.8.0.0/24")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    async with c.runs():
        await until(c.replicator.problems.all, "a conflict")
        await settled(c)
        [row] = await c.docker.tables.networks.scan()
        assert row.record.published is False


async def test_a_definition_that_was_lost_is_written_again(pair: Pair) -> None:
    """The store went back to a time before the network: it is neither removed anywhere nor forgotten."""
    before = pair.store.save()
    made = await pair.a.docker.create("lan")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    pair.store.restore(before)
    await settled(pair.a, pair.b)
    deadline = time.monotonic() + 5
    while (row := await pair.a.docker.tables.definitions.get("lan")) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    assert row.record.id == made
    assert pair.a.docker.has("lan")
    assert pair.b.docker.has("lan")


async def test_a_definition_of_a_removed_network_goes(pair: Pair) -> None:
    """It is a left-over, and nothing is made from it."""
    await pair.a.docker.create("lan")
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await settled(pair.a, pair.b)
    tables = pair.a.docker.tables
    [row] = await tables.definitions.scan()
    await pair.a.docker.rm("lan")
    await until(lambda: not pair.b.docker.has("lan"), "the removal on b")
    await tables.definitions.create(row.record, "lan")
    deadline = time.monotonic() + 5
    while await tables.definitions.get("lan"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
    await settled(pair.a, pair.b)
    assert (list(pair.a.docker.names()), list(pair.b.docker.names())) == ([], [])
    assert pair.b.docker.made == ["lan"]


async def test_what_the_engine_refuses_is_shown_and_tried_again(pair: Pair) -> None:
    """With the engine's words, until it works."""
    pair.b.docker.trouble.refuses = "no usable parent: eth7 is not there"
    await pair.a.docker.create("lan")
    await until(pair.b.replicator.problems.all, "the report of b")
    [problem] = pair.b.replicator.problems.all()
    assert problem.reason == (
        "network lan of the cluster cannot be created on this host: the Docker Engine refuses: no usable parent: eth7 "
        "is not there"
    )
    assert (problem.name, problem.id, problem.blocks) == ("lan", "", False)
    pair.b.docker.trouble.refuses = ""
    await until(lambda: pair.b.docker.has("lan"), "the network on b")
    await until(lambda: not pair.b.replicator.problems.all(), "the end of the report")


async def test_an_engine_that_is_away(pair: Pair) -> None:
    """A network published meanwhile is created when it is back, without another event."""
    pair.b.docker.trouble.away = True
    with pytest.raises(Unavailable):
        await pair.b.replicator.on_engine_up()
    await pair.a.docker.create("lan")
    await until(lambda: pair.b.replicator.busy, "a try")
    pair.b.docker.trouble.away = False
    await until(lambda: pair.b.docker.has("lan"), "the network on b")


async def test_a_store_that_fails_at_every_step() -> None:
    """Any single step of the store may fail, before or after it was done: in the end both hosts have the network."""
    for after in (False, True):
        number = 1
        while await _made_with_fault(number, after=after):
            number += 1
        assert number > 8, "there are steps to fail"


async def _made_with_fault(number: int, *, after: bool) -> bool:
    """Whether the step was reached at all."""
    inner, clock, faults = MemoryStore(), FakeClock(), Faults()
    store = FaultyStore(inner, faults)
    a, b = [await Site.build(name, store, clock) for name in ("a", "b")]
    faults.arm(number, after=after)
    async with a.runs(), b.runs():
        made = await a.docker.create("lan")
        await until(
            lambda: b.docker.has("lan"), f"the network on b though step {faults.taken[number - 1 :][:1]} failed"
        )
        await settled(a, b)
        found = b.docker.has("lan")
        assert found
        assert cluster_id(found) == made
        assert b.docker.made == ["lan"]
        return len(faults.taken) >= number


async def test_old_removals_are_forgotten(pair: Pair) -> None:
    """After ninety days a row tells nobody anything; a younger one stays."""
    tables = pair.a.docker.tables
    old = RemovedRecord(id="11", name="old", host="a", at=pair.clock() - KEEP_TOMBSTONES_SECONDS - 1)
    young = structs.replace(old, id="22", name="young", at=pair.clock() - KEEP_TOMBSTONES_SECONDS + 60)
    await tables.removed.create(old, old.id)
    await tables.removed.create(young, young.id)
    await settled(pair.a, pair.b)
    await pair.a.replicator.on_engine_up()
    deadline = time.monotonic() + 5
    while [row.record.id for row in await tables.removed.scan()] != ["22"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_what_a_newer_version_wrote_is_left_alone(pair: Pair) -> None:
    """Its definition is neither followed nor overwritten, nor is its tombstone guessed at."""
    await pair.store.create("definitions/lan", b'{"v": 99, "id": "77"}')
    await pair.store.create("removed/88", b"no JSON at all")
    await pair.a.docker.create("lan")
    await until(lambda: pair.a.replicator.busy, "a look")
    entry = await pair.store.get("definitions/lan")
    assert entry
    assert entry.value == b'{"v": 99, "id": "77"}'
    assert not pair.b.docker.has("lan")
    assert pair.a.docker.has("lan")


async def test_other_events_change_nothing(pair: Pair) -> None:
    """A container that comes or goes on a network that is in order makes nobody look."""
    await pair.a.docker.create("lan")
    await settled(pair.a, pair.b)
    for action in ("connect", "disconnect"):
        pair.a.replicator.on_network_event(NetworkEvent(action, "aa", "lan"))
        assert not pair.a.replicator.busy
