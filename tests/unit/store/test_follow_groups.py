"""Following a changing set of groups, on virtual time: nothing is missed, and what nobody wants ends after a while."""

import asyncio
from collections.abc import Awaitable, Callable

from macvlan_global.errors import Unavailable
from macvlan_global.store.follow_groups import LINGER_SECONDS, GroupsFollower
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch
from testkit.virtual_time import VirtualLoop
from tests.unit.store.test_follow import BreakingStore


class Reader:
    """A consumer: what it knows of each group, and the groups that it was told to forget."""

    def __init__(self, store: MemoryStore) -> None:
        """Groups are below `k/`."""
        self.known: dict[str, dict[str, bytes]] = {}
        self.forgotten: list[str] = []
        self.failures: list[Exception] = []
        self.groups = GroupsFollower(store, lambda group: f"k/{group}/", self._take, self._forget)

    async def _take(self, group: str, batch: Batch) -> None:
        known = self.known.setdefault(group, {})
        if batch.whole:
            known.clear()
        known |= {entry.key: entry.value for entry in batch.entries}
        for key in batch.gone:
            known.pop(key, None)

    async def _forget(self, group: str) -> None:
        if self.failures:
            raise self.failures.pop()
        self.known.pop(group, None)
        self.forgotten.append(group)


def play(story: Callable[[BreakingStore, Reader], Awaitable[None]]) -> None:
    """Run a story with a reader that follows; afterwards no watch may be open."""

    async def run() -> None:
        store = BreakingStore()
        for key in ("k/a/1", "k/b/1", "k/c/1"):
            await store.create(key, key.encode())
        reader = Reader(store)
        following = asyncio.ensure_future(reader.groups.run(first=1, last=4))
        try:
            await story(store, reader)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        assert store.open == 0

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def test_only_groups_that_are_wanted_are_followed() -> None:
    """Each has all of its keys and its changes, and the others cost nothing."""

    async def story(store: BreakingStore, reader: Reader) -> None:
        await asyncio.sleep(1)
        assert (store.begun, reader.known, reader.groups.live) == (0, {}, True)
        reader.groups.want(["a"])
        assert not reader.groups.has_read("a")
        assert not reader.groups.live
        await asyncio.sleep(1)
        assert reader.known == {"a": {"k/a/1": b"k/a/1"}}
        assert (reader.groups.has_read("a"), reader.groups.has_read("b"), reader.groups.live) == (True, False, True)
        await store.create("k/a/2", b"2")
        await store.create("k/b/2", b"2")
        reader.groups.want(["a", "c"])
        await asyncio.sleep(1)
        assert {group: sorted(keys) for group, keys in reader.known.items()} == {
            "a": ["k/a/1", "k/a/2"],
            "c": ["k/c/1"],
        }
        assert (store.open, store.begun, reader.groups.groups) == (2, 2, frozenset({"a", "c"}))

    play(story)


def test_a_group_that_nobody_wants_is_followed_for_a_while_and_then_forgotten() -> None:
    """Until then its changes are seen, and afterwards its watch is closed and nothing of it is known."""

    async def story(store: BreakingStore, reader: Reader) -> None:
        reader.groups.want(["a", "b"])
        await asyncio.sleep(1)
        reader.groups.want(["b"])
        await asyncio.sleep(LINGER_SECONDS - 2)
        await store.create("k/a/2", b"2")
        await asyncio.sleep(1)
        assert (sorted(reader.known["a"]), reader.forgotten) == (["k/a/1", "k/a/2"], [])
        await asyncio.sleep(2)
        assert (list(reader.known), reader.forgotten, store.open) == (["b"], ["a"], 1)
        assert reader.groups.groups == frozenset({"b"})
        await store.create("k/a/3", b"3")
        await asyncio.sleep(1)
        assert list(reader.known) == ["b"]

    play(story)


def test_a_group_that_is_wanted_again_soon_is_not_read_anew() -> None:
    """The time begins again when it is not wanted for the second time; one that was forgotten is read anew."""

    async def story(store: BreakingStore, reader: Reader) -> None:
        reader.groups.want(["a"])
        await asyncio.sleep(1)
        for _ in range(3):
            reader.groups.want([])
            await asyncio.sleep(LINGER_SECONDS - 1)
            reader.groups.want(["a"])
            await asyncio.sleep(1)
        assert (store.begun, reader.forgotten, reader.groups.has_read("a")) == (1, [], True)
        reader.groups.want([])
        await asyncio.sleep(LINGER_SECONDS + 1)
        assert (store.open, reader.forgotten, reader.groups.has_read("a")) == (0, ["a"], False)
        reader.groups.want(["a"])
        await asyncio.sleep(1)
        assert (store.begun, list(reader.known), reader.groups.has_read("a")) == (2, ["a"], True)

    play(story)


def test_while_the_store_is_away_what_is_known_stays() -> None:
    """Groups that were read are still known; one that came meanwhile is read when the store is back."""

    async def story(store: BreakingStore, reader: Reader) -> None:
        reader.groups.want(["a"])
        await asyncio.sleep(1)
        store.broken = Unavailable("away")
        await store.create("k/a/2", b"2")
        await asyncio.sleep(1)
        reader.groups.want(["a", "b"])
        await asyncio.sleep(20)
        assert list(reader.known["a"]) == ["k/a/1"]
        assert (reader.groups.live, reader.groups.has_read("a"), reader.groups.has_read("b")) == (False, True, False)
        store.broken = None
        await asyncio.sleep(5)
        assert {group: len(keys) for group, keys in reader.known.items()} == {"a": 2, "b": 1}
        assert reader.groups.live

    play(story)


def test_forgetting_is_tried_again_and_a_group_wanted_meanwhile_is_read_after_it() -> None:
    """A consumer that could not forget is asked again; the group is not read into what it still knows."""

    async def story(store: BreakingStore, reader: Reader) -> None:
        reader.groups.want(["a"])
        await asyncio.sleep(1)
        reader.groups.want([])
        reader.failures.append(KeyError("a"))
        await asyncio.sleep(LINGER_SECONDS + 0.1)
        assert (reader.forgotten, reader.failures, store.open) == ([], [], 0)
        reader.groups.want(["a"])
        await asyncio.sleep(5)
        assert (reader.forgotten, list(reader.known), reader.groups.has_read("a")) == (["a"], ["a"], True)

    play(story)
