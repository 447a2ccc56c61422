"""A host's place in the cluster, and which others live: two or three hosts on one store in memory."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import msgspec
import pytest

from macvlan_global.cluster.fence import FencedStore
from macvlan_global.cluster.heartbeat import Clocks, Heartbeat, HostSummary, Member
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.store.layout import StoreLayout
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch
from macvlan_global.store.records import AliveRecord, HostRecord
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock
from testkit.faults import Faults, FaultyStore

pytestmark = pytest.mark.virtual_time

TTL = 0.3
A = Member("a" * 32, "anna", "boot1", "run1", "9.9")
B = Member("b" * 32, "bert", "boot1", "run1", "9.9")
LIKE_ANNA = msgspec.json.encode(AliveRecord(id=A.id, name=A.name, boot="boot0", incarnation="run0", at=0))


class Outage(Faults):
    """While `away`, no step is done."""

    away = False

    def begin(self, name: str) -> int:
        """A step begins, or fails."""
        if self.away:
            raise Unavailable("the store is away on purpose")
        return super().begin(name)


class SilentStore(FaultyStore):
    """A store whose watches tell nothing after their first batch."""

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`."""
        async with contextlib.aclosing(super().watch(prefix, after)) as batches:
            yield await anext(batches)
            await asyncio.Event().wait()


async def host_facts() -> HostSummary:
    """A host with nothing on it."""
    return HostSummary()


@dataclass
class Site:
    """A store, and hosts on it. `clock` is the steady one of all of them."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=lambda: FakeClock(0))
    outage: Outage = field(default_factory=Outage)
    lease_clock: FakeClock = field(default_factory=FakeClock)
    facts: HostSummary = field(default_factory=HostSummary)
    running: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)
    told: dict[str, list[frozenset[str]]] = field(default_factory=dict)

    @property
    def tables(self) -> Tables:
        """The contents of the store, read beside the hosts."""
        return Tables(self.store, self.store)

    def make(self, member: Member) -> Heartbeat:
        """A host that does nothing yet."""

        async def facts() -> HostSummary:
            return self.facts

        store = FaultyStore(self.store.client(), self.outage)
        clocks = Clocks(wall=lambda: 1_000_000.0, steady=self.clock)
        heartbeat = Heartbeat(store, Tables(store, store), member, facts, ttl=TTL, clocks=clocks)
        heartbeat.tell(self.told.setdefault(member.name, []).append)
        return heartbeat

    async def start(self, member: Member) -> Heartbeat:
        """A host that lives, and sees itself."""
        heartbeat = self.make(member)
        await heartbeat.announce()
        self.run(heartbeat)
        return heartbeat

    def run(self, heartbeat: Heartbeat) -> "asyncio.Task[None]":
        """Let it run."""
        task: asyncio.Task[None] = asyncio.ensure_future(heartbeat.run())
        self.running[heartbeat.member.id + heartbeat.member.incarnation] = task
        return task

    async def pass_leases(self) -> None:
        """Let the time of several leases go by, and a renewal come within each."""
        for _ in range(5):
            before = self.outage.taken.count("renew")
            await until(lambda before=before: self.outage.taken.count("renew") > before)  # type: ignore[misc]
            self.lease_clock.advance(0.7 * TTL)

    async def crash(self, heartbeat: Heartbeat) -> None:
        """Its process ends without a word."""
        task = self.running.pop(heartbeat.member.id + heartbeat.member.incarnation)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Everything that runs on it is stopped after the test."""
    site = Site()
    yield site
    for task in site.running.values():
        task.cancel()
    await asyncio.gather(*site.running.values(), return_exceptions=True)


@pytest.fixture
async def slow_site(site: Site) -> Site:
    """Leases go by a clock that stands still until the test moves it."""
    site.store = MemoryStore(site.lease_clock)
    return site


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 10) -> None:
    """Wait for something that other tasks do."""
    for _ in range(int(seconds * 100)):
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")


async def test_hosts_know_whether_one_of_them_serves_the_page(site: Site) -> None:
    """For as long as it lives, and itself at once; a store that is away changes nothing."""
    anna = await site.start(A)
    assert not anna.pages.is_set()
    bert = site.make(replace(B, page=True))
    assert bert.pages.is_set()
    await bert.announce()
    site.run(bert)
    await until(anna.pages.is_set)
    site.store.restore(site.store.save())
    await until(lambda: len(anna.live()) == 2)
    assert anna.pages.is_set()
    await site.crash(bert)
    await bert.leave()
    await until(lambda: not anna.pages.is_set())


async def test_hosts_see_each_other_come(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """By name, and the log says how many there are, as it always did."""
    caplog.set_level(logging.INFO)
    anna = await site.start(A)
    await until(lambda: A.id in anna.live())
    bert = await site.start(B)
    for heartbeat in (anna, bert):
        await until(lambda heartbeat=heartbeat: set(heartbeat.live()) == {A.id, B.id})  # type: ignore[misc]
        assert (heartbeat.name_of(A.id), heartbeat.name_of(B.id)) == ("anna", "bert")
        assert heartbeat.is_live(A.id)
        assert heartbeat.is_live(B.id)
    assert {"host bert joined", "watch triggered with 2 hosts"} <= {each.getMessage() for each in caplog.records}
    assert anna.name_of("c" * 32) == "c" * 12


async def test_a_crashed_host_is_gone_after_its_lease(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """The others see it, count the time from then on, and still know its name."""
    caplog.set_level(logging.INFO)
    anna, bert = await site.start(A), await site.start(B)
    await until(lambda: set(anna.live()) == {A.id, B.id})
    await site.crash(bert)
    assert anna.gone_for(B.id) is None
    await until(lambda: not anna.is_live(B.id), 10 * TTL)
    site.clock.advance(61)
    assert anna.gone_for(B.id) == 61
    assert anna.name_of(B.id) == "bert"
    assert {"host bert left", "watch triggered with 1 hosts"} <= {each.getMessage() for each in caplog.records}


async def test_who_lives_is_told_to_those_who_want_to_know(site: Site) -> None:
    """When a host comes and when its lease is out; this host is always one of them."""
    one = await site.start(A)
    other = await site.start(B)
    await until(lambda: site.told["anna"][-1:] == [frozenset({A.id, B.id})])
    assert one.crowd.hosts == 2
    await site.crash(other)
    await until(lambda: site.told["anna"][-1:] == [frozenset({A.id})])


async def test_a_host_that_leaves_is_gone_at_once(site: Site) -> None:
    """Its lease ends with it; its row stays, for those who want to know what it was."""
    anna, bert = await site.start(A), await site.start(B)
    await until(lambda: set(anna.live()) == {A.id, B.id})
    await site.crash(bert)
    await bert.leave()
    assert await site.tables.alive.get(B.id) is None
    assert await site.tables.hosts.get(B.id) is not None
    await bert.leave()


async def test_a_living_host_keeps_its_lease(slow_site: Site) -> None:
    """For many times its length, without its key being written anew."""
    await slow_site.start(A)
    first = await slow_site.tables.alive.get(A.id)
    await slow_site.pass_leases()
    assert first is not None
    assert await slow_site.tables.alive.get(A.id) == first


async def test_a_name_in_use_is_refused(site: Site) -> None:
    """By a living host, in whatever case; nothing of the refused one is left in the store."""
    await site.start(A)
    second = site.make(replace(B, name="Anna"))
    with pytest.raises(
        Conflict, match=r"a living host of the cluster is called anna already \(id aaaaaaaaaaaa\); give"
    ):
        await second.announce()
    assert [row.record.id for row in await site.tables.hosts.scan()] == [A.id]
    assert [row.record.id for row in await site.tables.alive.scan()] == [A.id]


async def test_a_dead_hosts_name_may_be_used(site: Site) -> None:
    """A machine that was set up anew."""
    await StoreLayout(site.store).check()
    await site.tables.hosts.put(HostRecord(id=A.id, name="bert", seen=0), A.id)
    await site.make(B).announce()
    assert await site.tables.alive.get(B.id) is not None


async def test_of_two_with_one_name_that_come_at_once_one_stays(site: Site) -> None:
    """Whatever the order in which their steps come."""
    members = [A, replace(B, name="anna")]
    found = await asyncio.gather(*(site.make(each).announce() for each in members), return_exceptions=True)
    assert sorted(type(each).__name__ for each in found) == ["Conflict", "NoneType"]
    assert len(await site.tables.alive.scan()) == 1


async def test_a_restart_within_a_boot_takes_over_at_once(slow_site: Site) -> None:
    """The lock of the state folder says that the earlier run is over; its lease, which goes on, takes nothing away."""
    first = await slow_site.start(A)
    await slow_site.crash(first)
    again = await slow_site.start(replace(A, incarnation="run2", name="anna-new"))
    row = await slow_site.tables.alive.get(A.id)
    assert row is not None
    assert (row.record.incarnation, row.record.name) == ("run2", "anna-new")
    await slow_site.pass_leases()
    assert await slow_site.tables.alive.get(A.id) == row
    assert again.name_of(A.id) == "anna-new"
    assert [row.record.name for row in await slow_site.tables.hosts.scan()] == ["anna-new"]


async def test_a_restart_leaves_a_clone_no_moment_without_a_key(slow_site: Site) -> None:
    """The new run's key takes the place of the earlier one's. A clone of the host, which waits for that, stays out."""
    await slow_site.crash(await slow_site.start(A))
    seconds_left: list[float] = []

    class Looks(Outage):
        def end(self, number: int) -> None:
            seconds_left.append(slow_site.store.seconds_left(f"alive/{A.id}"))
            super().end(number)

    slow_site.outage = Looks()
    again = await slow_site.start(replace(A, incarnation="run2"))
    assert again.has_entered
    assert len(seconds_left) > 3
    assert min(seconds_left) > 0


async def test_after_a_reboot_the_old_lease_is_waited_for(site: Site) -> None:
    """Before the driver serves: it could be that of a host whose clone this one is. Then it is in the cluster again."""
    await site.crash(await site.start(A))
    again = site.make(replace(A, boot="boot2", incarnation="run2"))
    announced = asyncio.ensure_future(again.announce())
    await asyncio.sleep(TTL / 3)
    assert not announced.done()
    assert "another run of this host is in the cluster (anna, id aaaaaaaaaaaa)" in again.why_not_member()
    await announced
    assert again.why_not_member() == ""
    row = await site.tables.alive.get(A.id)
    assert row is not None
    assert row.record.boot == "boot2"


async def test_a_copied_state_folder_is_refused(site: Site) -> None:
    """Its original goes on living for longer than any lease: two machines have one identity."""
    await site.start(A)
    copy = site.make(replace(A, boot="boot2", incarnation="run2", name="copy"))
    announced = asyncio.ensure_future(copy.announce())
    await asyncio.sleep(2 * TTL)
    assert not announced.done()
    site.clock.advance(2 * TTL + 5.1)
    with pytest.raises(Conflict, match=r"another machine lives in the cluster as this host \(anna, id aaaaaaaaaaaa\)"):
        await announced


async def test_a_copy_of_a_state_folder_on_the_same_boot_is_refused_too(site: Site) -> None:
    """Hosts may share a kernel. The folder's own earlier run is taken over from at once, as after a crash."""
    await site.start(A)
    copy = site.make(replace(A, incarnation="run3", earlier=("run0", "run2")))
    announced = asyncio.ensure_future(copy.announce())
    await asyncio.sleep(2 * TTL)
    assert not announced.done()
    announced.cancel()
    await site.make(replace(A, incarnation="run4", earlier=("run0", "run1"))).announce()
    assert [row.record.incarnation for row in await site.tables.alive.scan()] == ["run4"]


async def test_a_clone_that_starts_without_the_store_writes_nothing_when_that_is_back(site: Site) -> None:
    """It serves what it can, as any host does; once it sees its original, it knows that it is not this host."""
    await site.start(A)
    copy = site.make(replace(A, boot="boot2", incarnation="run2"))
    store = FencedStore(site.store.client(), copy)
    site.outage.away = True
    await copy.announce()
    running = site.run(copy)
    with pytest.raises(Unavailable, match="this host is not in the cluster yet"):
        await store.create("addresses/x", b"{}")
    site.outage.away = False
    await until(lambda: "a machine of which this one is a clone" in copy.why_not_member())
    entry = await site.store.create("addresses/y", b"{}")
    assert entry
    for write in (
        store.create("addresses/x", b"{}"),
        store.replace(entry, b"[]"),
        store.delete(entry),
        store.create_with(await store.lease(15), "addresses/x", b"{}"),
    ):
        with pytest.raises(Unavailable, match="until that is known nothing is written"):
            await write
    assert [each.value for each in await store.scan("addresses/")] == [b"{}"]
    site.clock.advance(2 * TTL + 5.1)
    with pytest.raises(Conflict, match="another machine lives in the cluster as this host"):
        await running


async def test_a_host_that_another_run_was_faster_than_leaves_no_lease(site: Site) -> None:
    """It tries each second; what it was granted ends at once."""
    store = site.store.client()
    tables = Tables(store, store)

    async def meanwhile() -> HostSummary:
        if not await store.get(tables.alive.key(A.id)):
            other = AliveRecord(id=A.id, name=A.name, boot="boot9", incarnation="run9", at=0)
            await store.create_with(await store.lease(1e6), tables.alive.key(A.id), msgspec.json.encode(other))
        return HostSummary()

    counted = FaultyStore(store, site.outage)
    heartbeat = Heartbeat(counted, tables, A, meanwhile, ttl=TTL, clocks=Clocks(steady=site.clock))
    entering = asyncio.ensure_future(heartbeat.announce())
    await until(lambda: "another run of this host is in the cluster" in heartbeat.why_not_member())
    assert [row.record.incarnation for row in await tables.alive.scan()] == ["run9"]
    assert site.outage.taken.count("end") == site.outage.taken.count("lease") == 1
    entering.cancel()


async def test_a_store_that_is_away_says_so_itself_to_a_host_that_is_not_in_the_cluster(site: Site) -> None:
    """To try again in a few seconds would be no advice."""
    copy = site.make(A)
    store = FencedStore(FaultyStore(site.store.client(), site.outage), copy)
    site.outage.away = True
    with pytest.raises(Unavailable, match="the store is away on purpose"):
        await store.create("addresses/x", b"{}")


async def test_a_host_that_is_in_the_cluster_writes(site: Site) -> None:
    """Also while it does not know whether its lease lasts: its store is away, then."""
    anna = await site.start(A)
    store = FencedStore(FaultyStore(site.store.client(), site.outage), anna)
    entry = await store.create("addresses/x", b"{}")
    assert entry
    assert await store.get("addresses/x") == entry
    site.outage.away = True
    await asyncio.sleep(3 * TTL)
    with pytest.raises(Unavailable, match="the store is away on purpose"):
        await store.delete(entry)
    site.outage.away = False
    assert await store.delete(entry)


async def test_a_key_of_a_newer_version_in_our_place_is_waited_for(site: Site) -> None:
    """A newer run of this host may be over, and its lease ends."""
    lease = await site.store.lease(600)
    await site.store.create_with(lease, f"alive/{A.id}", b'{"v":2}')
    anna = site.make(A)
    announced = asyncio.ensure_future(anna.announce())
    await asyncio.sleep(2 * TTL)
    assert not announced.done()
    await lease.end()
    await announced
    assert [row.record.incarnation for row in await site.tables.alive.scan()] == ["run1"]


async def test_a_machine_of_a_newer_version_that_lives_as_this_host_keeps_its_key(site: Site) -> None:
    """This one is its clone, or the other way round: who came later stops."""
    lease = await site.store.lease(600)
    entry = await site.store.create_with(lease, f"alive/{A.id}", b'{"v":2}')
    anna = site.make(A)
    announced = asyncio.ensure_future(anna.announce())
    await asyncio.sleep(2 * TTL)
    site.clock.advance(2 * TTL + 5.1)
    with pytest.raises(Conflict, match="another machine lives in the cluster as this host"):
        await announced
    assert await site.store.get(f"alive/{A.id}") == entry


async def test_a_run_that_finds_a_newer_version_in_its_place_writes_nothing_and_stops(
    site: Site,
) -> None:
    """It was cut off, and a clone came in meanwhile."""
    anna = site.make(A)
    await anna.announce()
    task = site.run(anna)
    (own,) = await site.store.scan("alive/")
    await site.store.delete(own)
    entry = await site.store.create_with(await site.store.lease(600), f"alive/{A.id}", b'{"v":2}')
    await asyncio.sleep(2 * TTL)
    assert "another run of this host is in the cluster" in anna.why_not_member()
    site.clock.advance(2 * TTL + 5.1)
    with pytest.raises(Conflict, match="another machine lives in the cluster as this host"):
        await task
    assert await site.store.get(f"alive/{A.id}") == entry


@pytest.mark.parametrize("value", [b'{"v":2}', LIKE_ANNA, b"junk"])
async def test_a_heartbeat_without_a_lease_is_none(site: Site, value: bytes) -> None:
    """An operator put `alive/` back from a copy of the store, where keys lost their leases: they would never go. It
    keeps no host out, not by its name either, and the dead do not live by it."""
    for host in (A.id, B.id):
        await site.store.create(f"alive/{host}", value.replace(A.id.encode(), host.encode()))
    anna = await site.start(A)
    await until(lambda: set(anna.live()) == {A.id})
    assert await site.tables.alive.unreadable() == [f"alive/{B.id}"]
    assert [row.record.incarnation for row in await site.tables.alive.scan()] == ["run1"]


async def test_a_running_host_comes_in_again_where_its_key_lost_its_lease(site: Site) -> None:
    """The copy is put back while it runs; to others it is gone until then."""
    anna, bert = await site.start(A), await site.start(B)
    await until(lambda: A.id in bert.live())
    (entry,) = [entry for entry in await site.store.scan("alive/") if entry.key.endswith(A.id)]
    await site.store.delete(entry)
    await site.store.create(entry.key, entry.value)

    async def has_a_lease() -> bool:
        found = await site.store.get(entry.key)
        return found is not None and found.leased

    await until(has_a_lease)
    await until(lambda: A.id in bert.live() and A.id in anna.live())


async def test_who_finds_its_key_taken_by_a_copy_stops_too(site: Site) -> None:
    """Of two copies on one machine the second takes over, as after a restart: the first must not fight it."""
    first = site.make(A)
    await first.announce()
    running = site.run(first)
    await until(lambda: A.id in first.live())
    await site.start(replace(A, incarnation="run2"))
    await until(lambda: first.live()[A.id].incarnation == "run2")
    deadline = asyncio.get_running_loop().time() + 10
    while not running.done() and asyncio.get_running_loop().time() < deadline:
        site.clock.advance(1)
        await asyncio.sleep(0.02)
    with pytest.raises(Conflict, match="another machine lives"):
        await running


async def test_a_store_that_is_away_at_the_start_is_waited_for(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Announcing does not fail; the host comes in when the store does; the log says it once."""
    site.outage.away = True
    anna = site.make(A)
    await anna.announce()
    site.run(anna)
    await asyncio.sleep(2 * TTL)
    assert anna.is_live(B.id)
    assert anna.gone_for(B.id) is None
    site.outage.away = False
    await until(lambda: A.id in anna.live())
    said = [each for each in caplog.records if "announcing this host" in each.getMessage()]
    assert len(said) == 1


async def test_a_name_in_use_stops_a_driver_that_started_without_the_store(site: Site) -> None:
    """The refusal comes out of `run`."""
    late = site.make(replace(B, name="anna"))
    site.outage.away = True
    await late.announce()
    site.outage.away = False
    await site.make(A).announce()
    with pytest.raises(Conflict, match="is called anna already"):
        await late.run()


async def test_what_is_lost_is_made_again(site: Site) -> None:
    """The key alone (a store restored from an older copy), or the lease (a store that was away for long)."""
    anna = await site.start(A)
    await until(lambda: A.id in anna.live())
    row = await site.tables.alive.get(A.id)
    assert row is not None
    await site.tables.alive.delete(row)

    async def key_is_there() -> bool:
        return await site.tables.alive.get(A.id) is not None

    await until(key_is_there)
    site.outage.away = True
    await until(lambda: site.store.expire() or not site.store.save().leased)  # type: ignore[func-returns-value]
    site.outage.away = False
    await until(key_is_there)


@pytest.mark.parametrize("meanwhile", ["nothing", "reclaimed", "removed"])
async def test_a_host_that_was_away_is_told_if_others_gave_back_what_it_had(site: Site, meanwhile: str) -> None:
    """They took it for dead, or an operator removed it. If nobody did, nothing is read again after an outage."""
    anna, lost = await site.start(A), asyncio.Event()
    anna.tell(lambda _living: None, lost.set)
    await until(lambda: A.id in anna.live())
    site.outage.away = True
    await until(lambda: site.store.expire() or not site.store.save().leased)  # type: ignore[func-returns-value]
    if meanwhile == "reclaimed":
        await site.tables.hosts.change(A.id, reclaimed=True)
    elif meanwhile == "removed":
        await site.tables.hosts.drop(A.id)
    site.outage.away = False

    async def is_back() -> bool:
        row = await site.tables.hosts.get(A.id)
        return await site.tables.alive.get(A.id) is not None and row is not None and not row.record.reclaimed

    await until(is_back)
    renewed = site.outage.taken.count("renew")
    await until(lambda: site.outage.taken.count("renew") > renewed)
    assert lost.is_set() == (meanwhile != "nothing")


async def test_a_host_is_told_though_the_answer_to_its_last_word_about_it_is_lost(site: Site) -> None:
    """The villain is the store: it writes that the host knows now that others gave back what it had, and breaks off."""

    class LosesAnswer(Outage):
        is_noted = False

        def end(self, number: int) -> None:
            if self.is_noted and b'"reclaimed":true' not in site.store.save().entries[f"hosts/{A.id}"].value:
                self.is_noted = False
                raise Unavailable("the answer was lost")
            super().end(number)

    site.outage = outage = LosesAnswer()
    anna, lost = site.make(A), asyncio.Event()
    anna.tell(lambda _living: None, lost.set)
    await anna.announce()
    await site.tables.hosts.change(A.id, reclaimed=True)
    outage.is_noted = True
    site.run(anna)
    await asyncio.wait_for(lost.wait(), 10)
    assert not outage.is_noted


async def test_a_host_whose_row_goes_while_it_lives_is_told(site: Site) -> None:
    """The villain is an operator, who removes a host that is just coming back: its row goes last of all."""
    anna, lost = await site.start(A), asyncio.Event()
    anna.tell(lambda _living: None, lost.set)
    renewed = site.outage.taken.count("renew")
    await until(lambda: site.outage.taken.count("renew") > renewed + 1)
    assert not lost.is_set()
    await site.tables.hosts.drop(A.id)
    site.clock.advance(100)
    anna.on_change()
    await asyncio.wait_for(lost.wait(), 10)
    assert await site.tables.hosts.get(A.id) is not None


async def test_a_host_s_row_keeps_what_others_note_in_it(site: Site) -> None:
    """Until it has seen that it was taken for dead, in whichever order the two are written."""
    anna = site.make(A)
    await anna.announce()
    await site.tables.hosts.change(A.id, reclaimed=True)
    site.facts = HostSummary(networks=7)
    lost = asyncio.Event()
    anna.tell(lambda _living: None, lost.set)
    site.run(anna)
    await asyncio.wait_for(lost.wait(), 10)

    async def is_described() -> bool:
        row = await site.tables.hosts.get(A.id)
        return row is not None and row.record.networks == 7 and not row.record.reclaimed

    anna.on_change()
    await until(is_described)


async def test_a_deletion_that_no_watch_tells_is_noticed(site: Site) -> None:
    """`consul kv delete -recurse` of the whole store wakes nobody who follows a prefix of it. The host comes in again,
    and says that anything may be missing."""
    store = SilentStore(site.store.client())
    anna = Heartbeat(store, Tables(store, store), A, host_facts, ttl=TTL)
    lost = asyncio.Event()
    anna.tell(lambda _living: None, lost.set)
    await anna.announce()
    site.run(anna)
    await until(lambda: A.id in anna.live())
    row = await site.tables.alive.get(A.id)
    assert row is not None
    assert not lost.is_set()
    await site.tables.alive.delete(row)
    await asyncio.wait_for(lost.wait(), 10)

    async def key_is_there() -> bool:
        return await site.tables.alive.get(A.id) is not None

    await until(key_is_there)


async def test_a_running_host_is_not_stopped_for_its_name(site: Site) -> None:
    """Somebody took the name while it was cut off: containers run here, and ids keep them apart."""
    anna = await site.start(A)
    await until(lambda: A.id in anna.live())
    site.outage.away = True
    await until(lambda: site.store.expire() or not site.store.save().leased)  # type: ignore[func-returns-value]
    record = AliveRecord(id=B.id, name="anna", boot="x", incarnation="y", at=0)
    await site.store.create_with(await site.store.lease(600), f"alive/{B.id}", msgspec.json.encode(record))
    site.outage.away = False
    await until(lambda: set(anna.live()) == {A.id, B.id})
    assert not site.running[A.id + A.incarnation].done()


async def test_the_row_tells_what_is_on_the_host(site: Site) -> None:
    """It is written when the host comes in, and again when something changed or a minute went by."""
    site.facts = HostSummary("28.5.2", 1, 2)
    anna = await site.start(A)
    row = await site.tables.hosts.get(A.id)
    assert row is not None
    assert (row.record.name, row.record.version, row.record.engine) == ("anna", "9.9", "28.5.2")
    assert (row.record.networks, row.record.endpoints, row.record.seen) == (1, 2, 1_000_000.0)
    site.facts = HostSummary("28.5.2", 1, 3)
    anna.on_change()

    async def three_endpoints() -> bool:
        found = await site.tables.hosts.get(A.id)
        return found is not None and found.record.endpoints == 3

    await until(three_endpoints)
    await site.tables.hosts.drop(A.id)
    await asyncio.sleep(2 * TTL)
    assert await site.tables.hosts.get(A.id) is None
    site.clock.advance(60)
    await until(three_endpoints)


async def test_a_host_of_a_newer_version_lives(site: Site) -> None:
    """Although what it wrote cannot be read."""
    anna = await site.start(A)
    lease = await site.store.lease(600)
    await site.store.create_with(lease, f"alive/{B.id}", b'{"v":99,"who":"knows"}')
    await site.store.create_with(lease, "alive/garbage", b"\xff")
    await until(lambda: {B.id, "garbage"} <= set(anna.live()))
    assert anna.name_of(B.id) == "b" * 12
    assert not site.running[A.id + A.incarnation].done()


# --------------------------------------------------------------- the layout of the store


async def test_a_store_of_an_earlier_release_is_refused_and_nothing_is_written(site: Site) -> None:
    """Before anything else: its keys would be misread."""
    await site.tables.hosts.put(HostRecord(id=B.id, name="bert", seen=0), B.id)
    before = await site.store.scan("")
    with pytest.raises(Conflict, match="the store is of an earlier release"):
        await site.make(A).announce()
    assert await site.store.scan("") == before


async def test_a_host_that_runs_writes_the_layout_again_before_its_row(site: Site) -> None:
    """A store that lost everything has no row of a host without it, so that others can start; junk stops nobody."""
    heartbeat = await site.start(A)
    for each in await site.store.scan(""):
        await site.store.delete(each)
    heartbeat.on_change()
    async with contextlib.aclosing(site.store.watch("")) as batches:
        keys: list[str] = []
        async for batch in batches:
            keys += [each.key for each in batch.entries]
            if f"hosts/{A.id}" in keys:
                break
    assert keys.index("layout") < keys.index(f"hosts/{A.id}")
    entry = await site.store.get("layout")
    assert entry
    await site.store.replace(entry, b"junk")
    await heartbeat._write_row(HostSummary("28", 1, 1))
    assert await site.tables.hosts.get(A.id)
    with pytest.raises(Conflict, match="the key layout in the store is no layout"):
        await site.make(B).announce()
