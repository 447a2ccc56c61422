"""Metered stores count what is asked; that they answer as the store inside does is their contract's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.metrics.counts import StoreCounts
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.metered import MeteredClusterStore
from macvlan_global.store.ports import Batch
from testkit.fake_clock import FakeClock
from testkit.faults import Faults, FaultyStore


def _tally(counts: StoreCounts, name: str) -> tuple[int, int, int]:
    operation = counts.operations[name]
    return operation.done, operation.lost, operation.unavailable


async def test_operations_are_counted_by_outcome() -> None:
    """A read that finds nothing is done, a write that loses a race is lost, and no answer is counted as that."""
    counts, faults = StoreCounts(), Faults()
    store = MeteredClusterStore(FaultyStore(MemoryStore(), faults), counts)
    assert await store.get("a") is None
    made = await store.create("a", b"1")
    assert made
    assert await store.create("a", b"2") is None
    changed = await store.replace(made, b"2")
    assert changed
    assert await store.replace(made, b"3") is None
    assert not await store.delete(made)
    assert await store.delete(changed)
    assert counts.is_up
    faults.away = True
    for work in (store.get("a"), store.create("a", b"1"), store.delete(changed)):
        with pytest.raises(Unavailable):
            await work
    assert not counts.is_up
    faults.away = False
    await store.scan("")
    assert counts.is_up
    assert {name: _tally(counts, name) for name in ("get", "scan", "create", "replace", "delete")} == {
        "get": (1, 0, 1),
        "scan": (1, 0, 0),
        "create": (1, 1, 1),
        "replace": (1, 1, 0),
        "delete": (1, 1, 1),
    }
    assert len(counts.operations["create"].times) == 2  # a write that was lost took its time too


async def test_the_lease_of_a_heartbeat_is_counted() -> None:
    """Its renewals tell of a store that is away when nothing else is asked."""
    counts, faults = StoreCounts(), Faults()
    store = MeteredClusterStore(FaultyStore(MemoryStore(), faults), counts)
    lease = await store.lease(15)
    assert await store.create_with(lease, "alive/a", b"x")
    assert await lease.renew()
    assert (_tally(counts, "lease"), _tally(counts, "create_with")) == ((2, 0, 0), (1, 0, 0))
    faults.away = True
    with pytest.raises(Unavailable):
        await lease.renew()
    assert not counts.is_up


@contextlib.asynccontextmanager
async def _watched(store: MeteredClusterStore) -> AsyncIterator["_Reader"]:
    async with contextlib.aclosing(store.watch("names/")) as batches:
        reader = _Reader(batches.__anext__)
        await reader.next()
        yield reader


class _Reader:
    def __init__(self, more: Callable[[], Awaitable[Batch]]) -> None:
        self._more = more

    async def next(self) -> Batch:
        async with asyncio.timeout(10):
            return await self._more()


async def test_the_lag_of_a_watch_is_that_of_own_writes() -> None:
    """From the moment a write is sent until the watch brings it; what no watch will bring is not waited for."""
    counts, clock = StoreCounts(), FakeClock()
    store = MeteredClusterStore(MemoryStore(), counts, steady=clock)
    async with _watched(store) as reader:
        watch = counts.watches["names/"]
        assert watch.closed_at is None
        made = await store.create("names/a", b"1")
        await store.create("pools/a", b"1")
        clock.advance(3)
        assert watch.behind(clock()) == 3
        await reader.next()
        assert not watch.waiting
        assert watch.behind(clock()) == 3
        assert made
        clock.advance(100)
        assert await store.replace(made, b"1")  # Consul tells nobody of that
        assert await store.create("names/a", b"2") is None
        short = await store.create("names/short", b"1")
        assert short
        assert await store.delete(short)  # Consul may tell of neither
        assert watch.behind(clock()) == 0
    clock.advance(5)
    assert (watch.behind(clock()), watch.lost) == (0, 0), "its reader ended it"


async def test_a_second_watch_of_a_prefix_may_end() -> None:
    """The page closes its watch when nobody looks: the driver's own goes on. One of another prefix is not shown."""
    counts = StoreCounts()
    store = MeteredClusterStore(MemoryStore(), counts)
    async with _watched(store):
        async with _watched(store):
            pass
        watch = counts.watches["names/"]
        await store.create("names/a", b"1")
        assert (watch.closed_at, list(watch.waiting)) == (None, ["names/a"])
    async with contextlib.aclosing(store.watch("addresses/")) as batches:
        await anext(batches)
        assert list(counts.watches) == ["names/"]


async def test_a_watch_that_breaks_is_counted() -> None:
    """Not one that its reader ends."""
    counts, faults = StoreCounts(), Faults()
    store = MeteredClusterStore(FaultyStore(MemoryStore(), faults), counts)
    faults.away = True
    with pytest.raises(Unavailable):
        await anext(store.watch("names/"))
    watch = counts.watches["names/"]
    assert (watch.lost, watch.closed_at is None) == (1, False)


async def test_watches_of_groups_are_those_of_their_table() -> None:
    """One that is lost is missed though others are open, and one that is not wanted any more is not. Writes elsewhere
    are not waited for."""
    counts, faults, clock = StoreCounts(), Faults(), FakeClock()
    store = MeteredClusterStore(FaultyStore(MemoryStore(), faults), counts, steady=clock)
    async with (
        contextlib.aclosing(store.watch("names/lan/")) as lan,
        contextlib.aclosing(store.watch("names/wan/")) as wan,
    ):
        for each in (lan, wan):
            await anext(each)
        watch = counts.watches["names/"]
        await store.create("names/dmz/a", b"1")
        await store.create("names/wan/a", b"1")
        assert (list(counts.watches), list(watch.waiting), watch.closed_at) == (["names/"], ["names/wan/a"], None)
        await anext(wan)
        faults.arm(2)  # the write, then the batch that tells of it
        await store.create("names/lan/a", b"1")
        with pytest.raises(Unavailable):
            await anext(lan)
        clock.advance(3)
        assert (watch.lost, watch.behind(clock())) == (1, 3)
        faults.arm(0)
        async with contextlib.aclosing(store.watch("names/lan/")) as again:
            await anext(again)
            assert watch.behind(clock()) == 0
        clock.advance(3)
        assert watch.behind(clock()) == 0
