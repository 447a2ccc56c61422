"""Following the engine: what starts a reconciliation, and that no failure ends it. Time is virtual."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from macvlan_global.engine.ports import ContainerEvent, EngineContainer, EngineEvent, EngineInfo, EngineNetwork
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.metrics.counts import Metrics
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.corrections import AdoptNetwork, Correction
from macvlan_global.reconcile.engine_follower import (
    AGAIN_SECONDS,
    APART_SECONDS,
    TOGETHER_SECONDS,
    EngineFollower,
    Listener,
)
from testkit.brief import BRIEF
from testkit.fake_engine import OUR_IPAM, FakeEngine, Subnet, engine_id
from testkit.plugin_calls import InProcess
from testkit.rig import Rig
from testkit.virtual_time import VirtualLoop

FOREIGN = OSError(24, "Too many open files")
GRACE = 60.0


class StreamingEngine(FakeEngine):
    """Its stream of events stays open. `broken` names what fails for now, and how."""

    def __init__(self, rig: Rig) -> None:
        """The engine of this rig's driver."""
        super().__init__(InProcess(rig.driver), rig.kernel)
        self.broken: dict[str, Exception] = {}
        self.closed = asyncio.Event()
        self.told: asyncio.Queue[EngineEvent] = asyncio.Queue()

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        self._fail("networks")
        return await super().networks()

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        self._fail("info")
        return await super().info()

    async def container(self, container_id: str) -> EngineContainer | None:
        """See `Engine.container`."""
        self._fail("container")
        self._fail(container_id)
        return await super().container(container_id)

    async def events(self) -> AsyncGenerator[EngineEvent | None]:
        """See `Engine.events`: what is `told`, until `closed`."""
        self._fail("events")
        yield None
        closed = asyncio.ensure_future(self.closed.wait())
        while True:
            told = asyncio.ensure_future(self.told.get())
            try:
                await asyncio.wait({closed, told}, return_when=asyncio.FIRST_COMPLETED)
                if not told.done():
                    return
                yield told.result()
            finally:
                told.cancel()

    def _fail(self, name: str) -> None:
        if name in self.broken:
            raise self.broken[name]


class CountingReconciler(Reconciler):
    """Counts its work, which fails while `error` is set, and corrects what is in `done`."""

    error: Exception | None = None
    done: tuple[Correction, ...] = ()
    times: int = 0
    claims: int = 0
    sees_store: bool = True
    young: frozenset[tuple[str, str]] | None = frozenset()

    async def reconcile(
        self, engine: object, grace: float | None = None, *, needs_store: bool = False
    ) -> list[Correction]:
        """See `Reconciler.reconcile`."""
        self.times += 1
        if self.error:
            raise self.error
        if needs_store and not self.sees_store:
            raise Unavailable("the store does not answer")
        return list(self.done)

    def passed_over(self) -> frozenset[tuple[str, str]] | None:
        """See `Reconciler.passed_over`."""
        return self.young

    async def claim_again(self) -> None:
        """See `Reconciler.claim_again`."""
        self.claims += 1
        if self.error:
            raise self.error


class Followed:
    """A follower that runs, and what it stands on."""

    def __init__(self, rig: Rig, *listeners: Listener) -> None:
        """Nothing runs yet."""
        self.rig = rig
        self.engine = StreamingEngine(rig)
        self.reconciler = CountingReconciler(rig.driver, grace=GRACE, now=rig.clock)
        self.store_read = asyncio.Event()
        self.follower = EngineFollower(
            rig.driver, self.engine, self.reconciler, Metrics(), *listeners, store_read=self.store_read
        )

    async def name(self) -> str:
        """The name that is recorded of the network."""
        return (await self.rig.driver.networks.get(engine_id("lan"))).name


def _on_virtual_time(story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await story()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def _follow(stack: AsyncExitStack, *listeners: Listener, broken: str = "") -> tuple[Followed, asyncio.Task[None]]:
    rig = await Rig.build("eth0")
    followed = Followed(rig, *listeners)
    await followed.engine.create_network("lan", Subnet("10.8.0.0/24"), options={"parent": "eth0"})
    if broken:
        followed.engine.broken[broken] = FOREIGN
    task = asyncio.create_task(followed.follower.run())
    stack.callback(task.cancel)
    return followed, task


@pytest.mark.parametrize("broken", ["events", "info", "networks"])
def test_a_foreign_exception_of_the_engine_ends_nothing(broken: str) -> None:
    """The follower tries again, and learns the names once the engine's client works."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, task = await _follow(stack, broken=broken)
            await asyncio.sleep(20)
            assert not task.done()
            assert await followed.name() == ""
            followed.engine.broken.clear()
            await asyncio.sleep(5)
            assert not task.done()
            assert followed.follower.following
            assert await followed.name() == "lan"

    _on_virtual_time(story)


def test_a_container_that_cannot_be_inspected_keeps_the_names_of_no_others_from_us() -> None:
    """It takes long to start, say, and the engine answers too late. Its own name is learnt later."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, task = await _follow(stack)
            await asyncio.sleep(5)  # all names of that time are learnt
            for name in ("web", "db", "queue"):
                await followed.engine.run(name, "lan")
            slow = min(each.id for each in followed.engine.containers.values())
            followed.engine.broken[slow] = Unavailable("the engine does not answer")
            for each in list(followed.engine.containers.values()):
                followed.engine.told.put_nowait(ContainerEvent("rename", each.id, each.name))
            await asyncio.sleep(5)
            names = {each.container for each in await followed.rig.driver.endpoints.all()}
            assert len(names & {"web", "db", "queue"}) == 2
            followed.engine.broken.clear()
            await asyncio.sleep(40)
            assert not task.done()
            assert {each.container for each in await followed.rig.driver.endpoints.all()} == {"web", "db", "queue"}

    _on_virtual_time(story)


@pytest.mark.parametrize("broken", [FOREIGN, Unavailable("the engine is slow")], ids=["foreign", "unavailable"])
def test_a_name_that_could_not_be_learnt_is_learnt_later(broken: Exception) -> None:
    """Nothing tells of it a second time: the engine was not away."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, task = await _follow(stack)
            await asyncio.sleep(5)  # all names of that time are learnt
            await followed.engine.run("web", "lan")
            [here] = followed.engine.containers.values()
            followed.engine.broken["container"] = broken
            followed.engine.told.put_nowait(ContainerEvent("rename", here.id, "web"))
            await asyncio.sleep(20)
            followed.engine.broken.clear()
            await asyncio.sleep(20)
            assert not task.done()
            assert [each.container for each in await followed.rig.driver.endpoints.all()] == ["web"]

    _on_virtual_time(story)


def test_a_foreign_exception_of_a_reconciliation_ends_nothing() -> None:
    """Neither the one that follows the engine's return, nor that of the store, nor the retried claims."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, task = await _follow(stack)
            followed.reconciler.error = FOREIGN
            followed.store_read.set()
            await asyncio.sleep(300)
            assert not task.done()
            assert not followed.follower.following
            assert followed.reconciler.claims > 50
            followed.reconciler.error = None
            await asyncio.sleep(5)
            assert not task.done()
            assert followed.follower.following

    _on_virtual_time(story)


def test_a_reconciliation_follows_when_nothing_is_young_any_more() -> None:
    """One when the engine comes, one after the grace period, then one an hour; and one when the store comes back."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, _ = await _follow(stack)
            await asyncio.sleep(1)
            assert followed.reconciler.times == 1
            await asyncio.sleep(TOGETHER_SECONDS + GRACE + 1)
            assert followed.reconciler.times == 2
            await asyncio.sleep(AGAIN_SECONDS - 10)
            assert followed.reconciler.times == 2
            followed.store_read.set()
            followed.store_read.set()
            await asyncio.sleep(1)
            assert followed.reconciler.times == 3
            await asyncio.sleep(TOGETHER_SECONDS + GRACE + 1)
            assert followed.reconciler.times == 4

    _on_virtual_time(story)


def test_claims_that_were_lost_are_due_until_the_store_has_answered() -> None:
    """The store plays it: it tells that it lost them, and is away at that moment."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, _ = await _follow(stack)
            await asyncio.sleep(2 * (TOGETHER_SECONDS + GRACE))  # all that follows a start is over
            followed.reconciler.sees_store = False
            followed.store_read.set()
            await asyncio.sleep(2 * APART_SECONDS)
            assert followed.reconciler.times > 20  # nothing is read in these
            followed.reconciler.sees_store = True
            await asyncio.sleep(3)
            done = followed.reconciler.times
            await asyncio.sleep(APART_SECONDS / 2)
            assert followed.reconciler.times == done
            await asyncio.sleep(TOGETHER_SECONDS + GRACE + 1)  # that comes after each such repair
            assert followed.reconciler.times == done + 1

    _on_virtual_time(story)


@pytest.mark.parametrize("cause", ["store read", "pool missed"])
def test_a_store_that_refuses_what_repair_writes_is_asked_once_a_minute(cause: str) -> None:
    """The store plays it, with a disk that is full, or by its rights: it answers reads. It is not asked at once again,
    by every host, and what it lost is written when it takes it."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, _ = await _follow(stack)
            await asyncio.sleep(2 * (TOGETHER_SECONDS + GRACE))  # all that follows a start is over
            followed.reconciler.broken_off = "etcd refused: no space"
            before = followed.reconciler.times
            (followed.store_read if cause == "store read" else followed.rig.driver.ipam.missed).set()
            await asyncio.sleep(10 * (GRACE + 1))
            assert before + 8 < followed.reconciler.times <= before + 12
            followed.reconciler.broken_off = ""
            await asyncio.sleep(2 * (GRACE + 1))
            done = followed.reconciler.times
            await asyncio.sleep(5 * GRACE)
            assert followed.reconciler.times == done

    _on_virtual_time(story)


def test_engine_and_store_that_come_together_have_one_later_repair() -> None:
    """As at a start of the driver."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, _ = await _follow(stack)
            await asyncio.sleep(1)
            followed.store_read.set()
            await asyncio.sleep(1)
            assert followed.reconciler.times == 2
            await asyncio.sleep(3 * GRACE)
            assert followed.reconciler.times == 3

    _on_virtual_time(story)


def test_what_is_adopted_later_is_told_to_the_listeners() -> None:
    """They did without the record of the network, so the names of its containers were passed over."""

    async def story() -> None:
        heard: list[EngineEvent | None] = []

        async def listener(event: EngineEvent | None) -> None:
            heard.append(event)

        async with AsyncExitStack() as stack:
            followed, _ = await _follow(stack, listener)
            await asyncio.sleep(1)
            followed.store_read.set()
            await asyncio.sleep(1)
            assert heard == [None]
            network = EngineNetwork(engine_id("lan"), "lan", OUR_IPAM)
            followed.reconciler.done = (AdoptNetwork("network lan", "the state has it not", network),)
            followed.store_read.set()
            await asyncio.sleep(1)
            assert heard == [None, None]

    _on_virtual_time(story)


def test_leftovers_are_looked_for_once_nothing_of_them_is_young() -> None:
    """Not before, and again for as long as the store does not answer; what repair adopts is a reason, too."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, task = await _follow(stack)
            await asyncio.sleep(2 * (TOGETHER_SECONDS + GRACE))  # all that follows a start is over
            before = followed.reconciler.times
            followed.reconciler.sees_store = False
            followed.rig.driver.networks.leftovers.suspect("a test")
            await asyncio.sleep(GRACE)
            assert followed.reconciler.times == before
            await asyncio.sleep(2)
            assert followed.reconciler.times == before + 1
            await asyncio.sleep(2 * (GRACE + 3))
            assert followed.reconciler.times == before + 3
            followed.reconciler.sees_store = True
            await asyncio.sleep(GRACE + 3)
            network = EngineNetwork(engine_id("lan"), "lan", OUR_IPAM)
            followed.reconciler.done = (AdoptNetwork("network lan", "the state has it not", network),)
            followed.store_read.set()
            await asyncio.sleep(1)
            followed.reconciler.done = ()
            assert followed.reconciler.times == before + 5
            await asyncio.sleep(2 * (TOGETHER_SECONDS + GRACE))
            assert followed.reconciler.times == before + 7  # one of them follows the store's return
            assert not task.done()

    _on_virtual_time(story)


def test_leftovers_are_looked_for_until_the_engine_answered_and_nothing_looks_young() -> None:
    """The engine plays it, which does not answer, and the clock, which is set. What is young at one look only is what a
    busy host has under way."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, _ = await _follow(stack)
            await asyncio.sleep(2 * (TOGETHER_SECONDS + GRACE))  # all that follows a start is over
            looks = followed.reconciler.times
            followed.rig.driver.networks.leftovers.suspect("a test")
            seen = (None, {"a", "b"}, None, {"a", "b"}, {"a", "c"}, {"a", "d"}, {"d", "e"})
            for number, young in enumerate(seen, start=1):
                subjects = None if young is None else frozenset(("GiveBackAddress", each) for each in young)
                followed.reconciler.young = subjects
                await asyncio.sleep(GRACE + 1.01)
                assert followed.reconciler.times == looks + number
            await asyncio.sleep(AGAIN_SECONDS / 2)
            assert followed.reconciler.times == looks + len(seen)

    _on_virtual_time(story)


def test_an_engine_that_is_away_is_waited_for() -> None:
    """Whether it is followed is known at each moment."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, task = await _follow(stack)
            await asyncio.sleep(1)
            assert followed.follower.following
            followed.engine.broken["events"] = Unavailable("the engine does not answer")
            followed.engine.closed.set()
            await asyncio.sleep(10)
            assert not followed.follower.following
            followed.engine.broken.clear()
            followed.engine.closed.clear()
            await asyncio.sleep(3)
            assert followed.follower.following
            assert not task.done()

    _on_virtual_time(story)


def test_only_a_listener_that_refuses_to_go_on_ends_it() -> None:
    """A bug of a listener is logged, and the stream is opened anew; Conflict stops the driver."""
    heard: list[EngineEvent | None] = []
    errors: list[Exception] = [FOREIGN, KeyError("x"), Conflict("the label asks for another scope")]

    async def listener(event: EngineEvent | None) -> None:
        heard.append(event)
        raise errors[len(heard) - 1]

    async def story() -> None:
        async with AsyncExitStack() as stack:
            _, task = await _follow(stack, listener)
            with pytest.raises(ExceptionGroup) as caught:
                await task
            assert caught.group_contains(Conflict)
            assert heard == [None, None, None]

    _on_virtual_time(story)


def test_an_interrupted_stream_costs_one_repair_a_minute() -> None:
    """However often it is opened again; the repair that was left out follows."""

    async def story() -> None:
        async with AsyncExitStack() as stack:
            followed, _ = await _follow(stack)
            await asyncio.sleep(1)
            followed.engine.closed.set()  # each stream ends at once
            await asyncio.sleep(50)
            assert followed.reconciler.times == 1
            followed.engine.closed.clear()
            await asyncio.sleep(GRACE + 5)
            assert followed.reconciler.times == 2
            await asyncio.sleep(3 * APART_SECONDS)
            before = followed.reconciler.times
            followed.engine.closed.set()
            await asyncio.sleep(1)
            assert followed.reconciler.times == before + 1

    _on_virtual_time(story)


@pytest.mark.parametrize("networks", [1, 25 if BRIEF else 250])
def test_a_start_costs_the_engine_as_much_with_hundreds_of_networks(networks: int) -> None:
    """One question about each container that started, and none about other networks."""

    async def story() -> None:
        rig = await Rig.build("eth0")
        engine = rig.engine
        for number in range(networks):
            await engine.create_network(f"n{number}", Subnet(f"10.{number}.0.0/24"), options={"parent": "eth0"})
        reconciler = CountingReconciler(rig.driver, grace=GRACE, now=rig.clock)
        follower = EngineFollower(rig.driver, engine, reconciler, Metrics())
        running = asyncio.ensure_future(follower.run())
        await asyncio.sleep(5)
        engine.asked.clear()
        container = await engine.run("web", "n0")
        await asyncio.sleep(5)
        assert dict(engine.asked) == {"container": 1}
        found = await rig.driver.endpoints.find(container.endpoint)
        assert found
        assert found.container == "web"
        running.cancel()
        await asyncio.wait([running])

    _on_virtual_time(story)
