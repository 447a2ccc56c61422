"""The promises of every cluster store beyond `STORE_CONTRACT`, as checks that run against any of them.

Each takes two clients of one empty store, as two hosts have them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Self, TypeVar

from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Batch, ClusterStore, Entry
from testkit.brief import BRIEF

T = TypeVar("T")
Check = Callable[[ClusterStore, ClusterStore], Awaitable[None]]

PATIENCE = 10.0
"""Seconds that a check waits for an event that must come."""

LEASE = 10.0
"""The shortest lease that all of them allow, in seconds."""

LAPSE = 2.0
"""One that the stores of the lab are set up to allow. The slowest ends it within twice that."""

LARGE = 100 if BRIEF else 600
"""Keys below a large prefix."""

UNDER_WAY = 20
"""Writes under way at a time where many are made: a store on a busy machine answers each within its deadline."""


class Mirror:
    """The knowledge of a reader of a watch, kept up to date by a task."""

    def __init__(self, store: ClusterStore, prefix: str, *, persistent: bool = False) -> None:
        """Read `prefix` of `store`, once entered; a `persistent` reader begins again after a watch broke."""
        self._store, self._prefix, self._persistent = store, prefix, persistent
        self.known: dict[str, bytes] = {}
        self.batches: list[Batch] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Return when the first batch is there."""
        self._task = asyncio.ensure_future(self._read())
        await self.until(lambda: bool(self.batches))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop reading."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            try:
                await self._follow()
            except Unavailable:
                if not self._persistent:
                    raise
                await asyncio.sleep(0.1)

    async def _follow(self) -> None:
        async for batch in self._store.watch(self._prefix):
            if batch.whole:
                self.known.clear()
            for key in batch.gone:
                self.known.pop(key, None)
            self.known.update({entry.key: entry.value for entry in batch.entries})
            self.batches.append(batch)
            self._changed.set()

    async def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Return when the condition holds; it is looked at after each batch.

        Raises:
            AssertionError: it did not hold in time, or the watch broke.
        """
        assert self._task is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not condition():
                    self._changed.clear()
                    waiter = asyncio.ensure_future(self._changed.wait())
                    await asyncio.wait({waiter, self._task}, return_when=asyncio.FIRST_COMPLETED)
                    waiter.cancel()
                    if self._task.done():
                        self._task.result()
        assert condition(), f"not within {patience:g} s; last known: {self.known}"


async def _create(store: ClusterStore, key: str, value: bytes = b"x") -> Entry:
    entry = await store.create(key, value)
    assert entry is not None
    return entry


async def _in_turns(writes: Iterable[Awaitable[T]]) -> list[T]:
    """All of them, `UNDER_WAY` at a time."""
    turns = asyncio.Semaphore(UNDER_WAY)

    async def one(write: Awaitable[T]) -> T:
        async with turns:
            return await write

    return await asyncio.gather(*(one(each) for each in writes))


async def _gone(store: ClusterStore, key: str, patience: float) -> None:
    async with asyncio.timeout(patience):
        while await store.get(key):  # noqa: ASYNC110 # the store is elsewhere: nothing of ours tells when
            await asyncio.sleep(0.1)


# ---------------------------------------------------------------- two clients


async def a_write_is_seen_by_the_other_at_once(one: ClusterStore, two: ClusterStore) -> None:
    """Reads are linearizable: what was answered to one is read by the other."""
    for number in range(20):
        entry = await _create(one, f"k/{number:02}", b"%d" % number)
        assert await two.get(entry.key) == entry
    assert await two.scan("k/") == await one.scan("k/")
    changed = await two.replace(entry, b"new")
    assert changed is not None
    assert await one.get(entry.key) == changed
    assert await one.delete(changed)
    assert await two.get(entry.key) is None


async def of_two_clients_one_wins(one: ClusterStore, two: ClusterStore) -> None:
    """A key is created by one of them, replaced by one of them, deleted by one of them."""
    for number in range(10):
        made = await asyncio.gather(one.create(f"{number}", b"1"), two.create(f"{number}", b"2"))
        assert [made[0] is None, made[1] is None].count(True) == 1
        entry = made[0] or made[1]
        assert entry is not None
        written = await asyncio.gather(one.replace(entry, b"3"), two.replace(entry, b"4"))
        last = written[0] or written[1]
        assert last is not None
        assert [written[0] is None, written[1] is None].count(True) == 1
        assert sorted(await asyncio.gather(one.delete(last), two.delete(last))) == [False, True]


async def closing_one_client_leaves_the_other(one: ClusterStore, two: ClusterStore) -> None:
    """A host stops, the others go on; a watch of the one that closed ends with the reason."""
    async with Mirror(one, "") as mirror:
        await one.close()
        try:
            await mirror.until(lambda: False)
        except Unavailable:
            pass
        else:
            raise AssertionError("the watch of a closed store went on")
    entry = await _create(two, "a")
    assert await two.get("a") == entry


# ---------------------------------------------------------------- leases


async def a_key_goes_when_its_lease_is_ended(one: ClusterStore, two: ClusterStore) -> None:
    """With all keys of that lease, and no others; ending twice is fine, and it cannot be renewed any more."""
    lease, other = await one.lease(LEASE), await one.lease(LEASE)
    for key in ("a/1", "a/2"):
        assert await one.create_with(lease, key, b"x")
    assert await one.create_with(other, "a/3", b"x")
    await _create(one, "a/4")
    assert await lease.renew()
    await lease.end()
    await lease.end()
    assert [entry.key for entry in await two.scan("a/")] == ["a/3", "a/4"]
    assert not await lease.renew()
    assert await other.renew()
    await other.end()


async def a_leased_key_is_created_only_if_it_is_absent(one: ClusterStore, two: ClusterStore) -> None:
    """Whether a lease holds what is there or not; and what is there stays as it is."""
    plain, lease, other = await _create(one, "plain"), await one.lease(LEASE), await two.lease(LEASE)
    assert await one.create_with(lease, "plain", b"y") is None
    held = await one.create_with(lease, "held", b"1")
    assert held is not None
    assert await two.create_with(other, "held", b"2") is None
    assert await two.create("held", b"3") is None
    assert await one.create_with(lease, "held", b"4") is None
    await other.end()
    assert await two.get("held") == held
    await lease.end()
    assert await two.get("held") is None
    assert await two.get("plain") == plain


async def a_leased_key_takes_the_place_of_another(one: ClusterStore, two: ClusterStore) -> None:
    """If that is current, leased or not; the other lease has nothing to do with it any more."""
    first, second = await one.lease(LEASE), await two.lease(LEASE)
    held = await one.create_with(first, "a", b"1")
    assert held
    async with Mirror(one, "a") as mirror:
        taken = await two.create_with(second, "a", b"2", held)
        assert taken
        assert taken.leased
        await mirror.until(lambda: mirror.known.get("a") == b"2")
        assert [entry.value for batch in mirror.batches for entry in batch.entries] == [b"1", b"2"]
    assert await one.create_with(first, "a", b"3", held) is None
    await first.end()
    assert await one.get("a") == taken
    plain = await _create(one, "b")
    assert await two.create_with(second, "b", b"2", plain)
    await second.end()
    assert await one.scan("") == []
    assert await two.create_with(await two.lease(LEASE), "a", b"4", taken) is None
    assert await one.get("a") is None


async def replacing_a_leased_key_keeps_the_lease(one: ClusterStore, two: ClusterStore) -> None:
    """Whoever replaces it."""
    lease = await one.lease(LEASE)
    entry = await one.create_with(lease, "a", b"1")
    assert entry is not None
    by_owner = await one.replace(entry, b"2")
    assert by_owner is not None
    by_other = await two.replace(by_owner, b"3")
    assert by_other is not None
    assert await one.get("a") == by_other
    await lease.end()
    assert await one.get("a") is None


async def an_entry_says_whether_it_goes_with_a_lease(one: ClusterStore, two: ClusterStore) -> None:
    """However it was read, and after it was replaced."""
    lease = await one.lease(LEASE)
    held = await one.create_with(lease, "k/held", b"1")
    plain = await _create(one, "k/plain")
    assert held is not None
    assert (held.leased, plain.leased) == (True, False)
    held, plain = await two.replace(held, b"2"), await two.replace(plain, b"2")  # type: ignore[assignment]
    assert await one.get("k/held") == held
    assert await one.scan("k/") == [held, plain]
    async with Mirror(two, "k/") as mirror:
        assert mirror.batches[0].entries == (held, plain)
        more = await one.create_with(lease, "k/more", b"1")
        await mirror.until(lambda: "k/more" in mirror.known)
        assert mirror.batches[-1].entries == (more,)
        assert more is not None
        assert more.leased
    await lease.end()


async def a_leased_key_can_be_deleted_and_made_anew(one: ClusterStore, two: ClusterStore) -> None:
    """It is then whose it was made by: the old lease has nothing to do with it any more."""
    lease = await one.lease(LEASE)
    entry = await one.create_with(lease, "a", b"1")
    assert entry is not None
    assert await two.delete(entry)
    again = await _create(two, "a", b"2")
    await lease.end()
    assert await one.get("a") == again


async def nothing_is_created_with_a_lease_that_ended(one: ClusterStore, two: ClusterStore) -> None:
    """It is an error, and not an answer: the key is not there."""
    lease = await one.lease(LEASE)
    await lease.end()
    try:
        await one.create_with(lease, "a", b"x")
    except Unavailable:
        assert await two.get("a") is None
    else:
        raise AssertionError("a key was created with a lease that has ended")


async def what_is_refused_hinders_nobody_else(one: ClusterStore, two: ClusterStore) -> None:
    """Writes that are asked for at the same time have each an answer of their own: done, lost to others, an error."""
    lease, ended = await one.lease(LEASE), await one.lease(LEASE)
    await ended.end()
    old, doomed = await _create(one, "changed", b"1"), await _create(one, "doomed", b"1")
    new = await two.replace(old, b"2")
    made, there, refused, leased, late, deleted = await asyncio.gather(
        asyncio.gather(*(_create(one, f"k/{number}") for number in range(10))),
        one.create("changed", b"3"),
        one.create_with(ended, "refused", b"x"),
        one.create_with(lease, "leased", b"x"),
        one.replace(old, b"4"),
        one.delete(doomed),
        return_exceptions=True,
    )
    assert made == await two.scan("k/")
    assert (there, late, deleted) == (None, None, True)
    assert isinstance(refused, Unavailable)
    assert leased == await two.get("leased")
    assert new == await two.get("changed")
    assert [entry.key for entry in await two.scan("") if not entry.key.startswith("k/")] == ["changed", "leased"]
    await lease.end()


async def a_lease_lapses_and_takes_its_keys(one: ClusterStore, two: ClusterStore) -> None:
    """Not before its time, and a renewed one not at all; watchers hear of it."""
    loop = asyncio.get_running_loop()
    left, kept = await one.lease(LAPSE), await one.lease(LAPSE)
    async with Mirror(two, "a/") as mirror:
        assert await one.create_with(left, "a/left", b"x")
        assert await one.create_with(kept, "a/kept", b"x")
        begun = loop.time()
        deadline = begun + 2.5 * LAPSE

        async def renew() -> None:
            while loop.time() < deadline:
                assert await kept.renew()
                await asyncio.sleep(LAPSE / 5)

        renewing = asyncio.ensure_future(renew())
        try:
            await _gone(two, "a/left", 2.5 * LAPSE)
            assert loop.time() - begun >= LAPSE * 0.9
            await mirror.until(lambda: set(mirror.known) == {"a/kept"})
            assert not await left.renew()
            assert await two.get("a/kept")
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
    await kept.end()


# ---------------------------------------------------------------- watches


async def a_watch_begins_with_all_that_is_there(one: ClusterStore, two: ClusterStore) -> None:
    """In one batch, in order, with values and revisions; also if nothing is there."""
    entries = [await _create(one, key) for key in ("a/1", "a/2", "a/ü", "a/3")]
    await _create(one, "b")
    async with Mirror(two, "a/") as mirror, Mirror(two, "none/") as empty:
        assert mirror.batches == [Batch(True, tuple(sorted(entries, key=lambda entry: entry.key)))]
        assert empty.batches == [Batch(True)]


async def a_watch_sees_what_others_do(one: ClusterStore, two: ClusterStore) -> None:
    """Created, replaced, deleted; below its prefix only, and never as a whole again."""
    first = await _create(one, "a/1", b"1")
    async with Mirror(two, "a/") as mirror:
        second = await one.replace(first, b"2")
        assert second is not None
        await mirror.until(lambda: mirror.known == {"a/1": b"2"})
        assert mirror.batches[-1].entries == (second,)
        await _create(one, "ab", b"not below")
        await _create(one, "a/ключ %", b"3")
        await mirror.until(lambda: mirror.known == {"a/1": b"2", "a/ключ %": b"3"})
        assert await one.delete(second)
        await mirror.until(lambda: mirror.known == {"a/ключ %": b"3"})
        assert mirror.batches[-1].gone == ("a/1",)
        assert [batch.whole for batch in mirror.batches] == [True] + [False] * (len(mirror.batches) - 1)


async def a_watch_sees_what_its_own_client_does(one: ClusterStore, two: ClusterStore) -> None:
    """And what was done with leases, and what goes with one."""
    async with Mirror(one, "a/") as mirror:
        lease = await one.lease(LEASE)
        assert await one.create_with(lease, "a/1", b"x")
        await _create(two, "a/2")
        await mirror.until(lambda: set(mirror.known) == {"a/1", "a/2"})
        await lease.end()
        await mirror.until(lambda: set(mirror.known) == {"a/2"})


async def what_a_watch_tells_of_a_key_is_in_order(one: ClusterStore, two: ClusterStore) -> None:
    """Revisions of a key only grow, and the last one comes."""
    async with Mirror(two, "a/") as mirror:
        entry = await _create(one, "a/1", b"0")
        for number in range(1, 50):
            changed = await one.replace(entry, b"%d" % number)
            assert changed is not None
            entry = changed
        await mirror.until(lambda: mirror.known == {"a/1": b"49"})
        revisions = [each.revision for batch in mirror.batches for each in batch.entries]
        assert revisions == sorted(set(revisions))


async def a_key_made_anew_is_seen_anew(one: ClusterStore, two: ClusterStore) -> None:
    """However soon: the reader ends with the value that is there."""
    async with Mirror(two, "a/") as mirror:
        for number in range(20):
            entry = await _create(one, "a/1", b"%d" % number)
            if number < 19:
                assert await one.delete(entry)
        await mirror.until(lambda: mirror.known == {"a/1": b"19"})


async def many_watchers_see_the_same(one: ClusterStore, two: ClusterStore) -> None:
    """All of them, all that happens, beside many writers."""
    async with contextlib.AsyncExitStack() as stack:
        mirrors = [await stack.enter_async_context(Mirror(store, "a/")) for store in (one, two) for _ in range(5)]
        await _in_turns(_create(store, f"a/{id(store)}/{n}") for store in (one, two) for n in range(50))
        there = {entry.key for entry in await one.scan("a/")}
        assert len(there) == 100
        for mirror in mirrors:
            await mirror.until(lambda mirror=mirror: set(mirror.known) == there)  # type: ignore[misc]


async def a_watch_can_be_left_and_begun_again(one: ClusterStore, two: ClusterStore) -> None:
    """The new one begins with all that is there by then."""
    async with Mirror(two, "") as mirror:
        await _create(one, "a")
        await mirror.until(lambda: "a" in mirror.known)
    await _create(one, "b")
    async with Mirror(two, "") as mirror:
        assert set(mirror.known) == {"a", "b"}
        await _create(one, "c")
        await mirror.until(lambda: "c" in mirror.known)


async def a_large_prefix_is_watched_and_read_whole(one: ClusterStore, two: ClusterStore) -> None:
    """More than fits into one answer or one piece of it."""
    value = b"v" * 2000
    await _in_turns(_create(one, f"a/{number:04}", value) for number in range(LARGE))
    async with Mirror(two, "a/") as mirror:
        assert len(mirror.known) == LARGE
        entries = await two.scan("a/")
        assert all(await _in_turns(one.replace(entry, value + b"2") for entry in entries))
        await mirror.until(lambda: set(mirror.known.values()) == {value + b"2"})


async def an_iterator_that_was_not_begun_costs_nothing(one: ClusterStore, two: ClusterStore) -> None:
    """Closing needs no reader."""
    watches: list[AsyncIterator[Batch]] = [one.watch(""), two.watch("a")]
    await one.close()
    assert len(watches) == 2
    assert await two.scan("") == []


CLUSTER_CONTRACT: tuple[Check, ...] = (
    a_write_is_seen_by_the_other_at_once,
    of_two_clients_one_wins,
    closing_one_client_leaves_the_other,
    a_key_goes_when_its_lease_is_ended,
    a_leased_key_is_created_only_if_it_is_absent,
    replacing_a_leased_key_keeps_the_lease,
    an_entry_says_whether_it_goes_with_a_lease,
    a_leased_key_can_be_deleted_and_made_anew,
    nothing_is_created_with_a_lease_that_ended,
    what_is_refused_hinders_nobody_else,
    a_watch_begins_with_all_that_is_there,
    a_watch_sees_what_others_do,
    a_watch_sees_what_its_own_client_does,
    what_a_watch_tells_of_a_key_is_in_order,
    a_key_made_anew_is_seen_anew,
    many_watchers_see_the_same,
    a_watch_can_be_left_and_begun_again,
    a_large_prefix_is_watched_and_read_whole,
    an_iterator_that_was_not_begun_costs_nothing,
)

LAPSE_CONTRACT: tuple[Check, ...] = (a_lease_lapses_and_takes_its_keys,)
"""Takes up to twice `LAPSE`: wait for all stores side by side."""
