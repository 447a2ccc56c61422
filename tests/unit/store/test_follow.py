"""Following a prefix of the cluster store, on virtual time: nothing is missed, and no watch is left open."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace

from macvlan_global.errors import Unavailable
from macvlan_global.store.follow import PrefixFollower
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch
from testkit.virtual_time import VirtualLoop


class BreakingStore(MemoryStore):
    """A store whose watches can be broken, and which counts those that are open."""

    def __init__(self) -> None:
        """Nothing is broken yet."""
        super().__init__()
        self.open = 0
        self.begun = 0
        self.broken: Exception | None = None

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch, None]:
        """Raise what the store is broken with, at the next batch."""
        self.open += 1
        self.begun += 1
        try:
            async for batch in super().watch(prefix, after):
                if self.broken:
                    raise self.broken
                yield batch
        finally:
            self.open -= 1


class Reader:
    """A consumer: keys and values, and how often it was told that they may be old."""

    def __init__(self, store: BreakingStore) -> None:
        """Follow `k/`."""
        self.known: dict[str, bytes] = {}
        self.lost = 0
        self.failures: list[Exception] = []
        self.follower = PrefixFollower(store, "k/", self._take, on_lost=self._on_lost)

    def _on_lost(self) -> None:
        self.lost += 1

    async def _take(self, batch: Batch) -> None:
        if self.failures:
            raise self.failures.pop()
        if batch.whole:
            self.known.clear()
        self.known |= {entry.key: entry.value for entry in batch.entries}
        for key in batch.gone:
            del self.known[key]


def play(story: Callable[[BreakingStore, Reader], Awaitable[None]]) -> None:
    """Run a story with a reader that follows; afterwards no watch may be open."""

    async def run() -> None:
        store = BreakingStore()
        reader = Reader(store)
        following = asyncio.ensure_future(reader.follower.run(first=1, last=4))
        try:
            await story(store, reader)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        assert store.open == 0
        assert not reader.follower.live

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_everything_below_the_prefix_is_seen_and_nothing_else() -> None:
    """Keys that were there, came, changed and went."""

    async def story(store: BreakingStore, reader: Reader) -> None:
        await store.create("k/1", b"1")
        await store.create("other/1", b"x")
        await asyncio.sleep(1)
        assert (reader.known, reader.follower.live) == ({"k/1": b"1"}, True)
        entry = await store.create("k/2", b"2")
        assert entry is not None
        await asyncio.sleep(1)
        await store.replace(entry, b"3")
        first = await store.get("k/1")
        assert first is not None
        await store.delete(first)
        await asyncio.sleep(1)
        assert reader.known == {"k/2": b"3"}
        assert store.begun == 1

    play(story)


def test_what_happened_in_a_gap_is_seen_after_it() -> None:
    """While the store is away what was known stays; then all is read anew."""

    async def story(store: BreakingStore, reader: Reader) -> None:
        entry = await store.create("k/1", b"1")
        assert entry is not None
        await asyncio.sleep(1)
        store.broken = Unavailable("away")
        await store.delete(entry)
        await asyncio.sleep(20)
        assert (reader.known, reader.follower.live) == ({"k/1": b"1"}, False)
        assert reader.lost == store.begun > 3
        await store.create("k/2", b"2")
        store.broken = None
        await asyncio.sleep(4)
        assert (reader.known, reader.follower.live) == ({"k/2": b"2"}, True)

    play(story)


def test_a_bug_of_the_consumer_or_the_store_does_not_end_it() -> None:
    """Everything is read anew, with the batch that the consumer stumbled over."""

    async def story(store: BreakingStore, reader: Reader) -> None:
        await asyncio.sleep(1)
        reader.failures.append(KeyError("k"))
        await store.create("k/1", b"1")
        await asyncio.sleep(4)
        assert reader.known == {"k/1": b"1"}
        store.broken = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        await store.create("k/2", b"2")
        await asyncio.sleep(1)
        store.broken = None
        await asyncio.sleep(4)
        assert reader.known == {"k/1": b"1", "k/2": b"2"}

    play(story)


class PlacedStore(BreakingStore):
    """A store whose watches go on where they are told to."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        super().__init__()
        self.afters: list[object] = []

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch, None]:
        """Batches that say where they are."""
        self.afters.append(after)
        number = 0
        async for batch in super().watch(prefix, after):
            number += 1
            yield replace(batch, position=f"watch {len(self.afters)}, batch {number}")


def test_a_watch_begins_where_the_one_before_it_was() -> None:
    """After the last batch that was taken; after one that the consumer failed on, it begins with everything."""

    async def story() -> None:
        store = PlacedStore()
        reader = Reader(store)
        following = asyncio.ensure_future(reader.follower.run(first=1, last=4))
        await asyncio.sleep(1)
        await store.create("k/a", b"1")
        await asyncio.sleep(1)
        store.broken = Unavailable("away")
        await store.create("k/b", b"1")
        await asyncio.sleep(10)
        assert set(store.afters[1:]) == {"watch 1, batch 2"}, "each try goes on there, as long as nothing came"
        store.broken = None
        await asyncio.sleep(10)
        begun = len(store.afters)
        reader.failures.append(Unavailable("the consumer"))
        await store.create("k/c", b"1")
        await asyncio.sleep(10)
        assert store.afters[begun:] == [None]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


def test_a_consumer_that_wants_everything_each_time_gets_it() -> None:
    """Its watches have no place."""

    async def story() -> None:
        store = PlacedStore()
        follower = PrefixFollower(store, "k/", Reader(store)._take, resumes=False)
        following = asyncio.ensure_future(follower.run(first=1, last=4))
        await asyncio.sleep(1)
        store.broken = Unavailable("away")
        await store.create("k/a", b"1")
        await asyncio.sleep(10)
        assert set(store.afters) == {None}
        assert len(store.afters) > 1
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())
