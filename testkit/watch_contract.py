"""The promises of every cluster store about following groups of keys, as checks that run against any of them.

Each takes two clients of one empty store, as two hosts have them. A followed group (`store.followed`) is what hosts
watch for as long as they run, and what many of them write to at once.
"""

import asyncio
import contextlib

from macvlan_global.store.ports import Batch, ClusterStore, Entry
from testkit.brief import BRIEF
from testkit.cluster_contract import PATIENCE, Check, Mirror

GROUP, OTHER = "names/n1/", "names/n2/"
WRITERS, WRITES = 8, 10 if BRIEF else 50
"""Tasks that write to one group at once, and writes of each."""
BURST = 150 if BRIEF else 300
"""Writes of one task without a pause: more than any ring or history of what changed last is to hold."""
GROUPS = 10 if BRIEF else 40


async def _create(store: ClusterStore, key: str, value: bytes = b"x") -> Entry:
    entry = await store.create(key, value)
    assert entry is not None, key
    return entry


async def _taken(store: ClusterStore, prefix: str, after: object = None) -> Batch:
    """The first batch of a watch, which is left again."""
    async with contextlib.aclosing(store.watch(prefix, after)) as batches:
        return await anext(batches)


def _is_in_order(batches: list[Batch]) -> bool:
    last: dict[str, int] = {}
    for each in (entry for batch in batches for entry in batch.entries):
        if each.revision <= last.get(each.key, 0):
            return False
        last[each.key] = each.revision
    return True


async def a_group_is_followed(one: ClusterStore, two: ClusterStore) -> None:
    """Created, replaced, deleted, with leases or without; below its prefix only, and never as a whole again."""
    first = await _create(one, f"{GROUP}h/e1", b"1")
    async with Mirror(two, GROUP) as mirror, Mirror(one, OTHER) as other:
        assert mirror.batches == [Batch(True, (first,))]
        second = await one.replace(first, b"2")
        assert second is not None
        await mirror.until(lambda: mirror.known == {f"{GROUP}h/e1": b"2"})
        assert mirror.batches[-1] == Batch(False, (second,))
        odd = f"{GROUP}ключ %/" + "e" * 200
        await _create(two, odd, b"3")
        await _create(two, odd + "f", b"4")
        await _create(two, f"{GROUP}h/e10", b"5")
        await mirror.until(lambda: set(mirror.known.values()) == {b"2", b"3", b"4", b"5"})
        assert await two.delete(second)
        await mirror.until(lambda: set(mirror.known.values()) == {b"3", b"4", b"5"})
        assert mirror.batches[-1] == Batch(False, (), (f"{GROUP}h/e1",))
        assert [batch.whole for batch in mirror.batches] == [True] + [False] * (len(mirror.batches) - 1)
        assert other.batches == [Batch(True)]
        assert await one.scan(GROUP) == await two.scan(GROUP)
        assert [entry.key for entry in await two.scan("")] == sorted(mirror.known)


async def many_who_write_to_a_group_lose_nothing(one: ClusterStore, two: ClusterStore) -> None:
    """Tasks of both hosts at once: each write is done once, and told to all who follow, for each key in order."""

    async def write(store: ClusterStore, task: int) -> None:
        entry = await _create(store, f"{GROUP}h{task}/e", b"0")
        for number in range(1, WRITES):
            if number % 7 == 6:
                assert await store.delete(entry)
                entry = await _create(store, entry.key, b"%d" % number)
            else:
                changed = await store.replace(entry, b"%d" % number)
                assert changed is not None
                entry = changed

    async with Mirror(one, GROUP) as mirror, Mirror(two, GROUP) as other:
        await asyncio.gather(*(write((one, two)[task % 2], task) for task in range(WRITERS)))
        there = {entry.key: entry.value for entry in await two.scan(GROUP)}
        assert there == {f"{GROUP}h{task}/e": b"%d" % (WRITES - 1) for task in range(WRITERS)}
        for each in (mirror, other):
            await each.until(lambda each=each: each.known == there)  # type: ignore[misc]
            assert _is_in_order(each.batches)


async def a_burst_is_told_to_its_end(one: ClusterStore, two: ClusterStore) -> None:
    """One host writes many keys of a group without a pause, and deletes them again."""
    async with Mirror(two, GROUP) as mirror:
        made = await asyncio.gather(*(_create(one, f"{GROUP}h/{number:04}") for number in range(BURST)))
        await mirror.until(lambda: len(mirror.known) == BURST)
        assert await _all_deleted(one, made[1:])
        await mirror.until(lambda: set(mirror.known) == {made[0].key})
        assert _is_in_order(mirror.batches)


async def _all_deleted(store: ClusterStore, entries: list[Entry]) -> bool:
    return all(await asyncio.gather(*(store.delete(each) for each in entries)))


async def groups_do_not_meet(one: ClusterStore, two: ClusterStore) -> None:
    """Each has its own followers, who hear of its changes and of no others."""
    async with contextlib.AsyncExitStack() as stack:
        groups = [f"names/n{number}/" for number in range(GROUPS)]
        mirrors = [await stack.enter_async_context(Mirror(two, each)) for each in groups]
        await asyncio.gather(*(_create(one, f"{each}h/e") for each in groups))
        for group, mirror in zip(groups, mirrors, strict=True):
            await mirror.until(lambda mirror=mirror: bool(mirror.known))  # type: ignore[misc]
            assert list(mirror.known) == [f"{group}h/e"]


async def of_many_who_write_a_key_of_a_group_one_wins(one: ClusterStore, two: ClusterStore) -> None:
    """The others hear that they lost, however many write other keys of the group at the same time."""
    there = await _create(one, f"{GROUP}h/there")
    creations, deletions, others = await asyncio.gather(
        asyncio.gather(*(store.create(f"{GROUP}h/new", b"%d" % n) for n in range(10) for store in (one, two))),
        asyncio.gather(*(store.delete(there) for _ in range(10) for store in (one, two))),
        asyncio.gather(*(_create(store, f"{GROUP}{n}/{n}") for n, store in enumerate([one, two] * 10))),
    )
    (winner,) = [each for each in creations if each]
    assert deletions.count(True) == 1
    assert await one.scan(GROUP) == sorted([*others, winner], key=lambda entry: entry.key)


async def a_watch_goes_on_where_another_ended(one: ClusterStore, two: ClusterStore) -> None:
    """With its position: nothing is lost, and if the store still knows what happened since, it is told and no more.

    A store that does not tells everything.
    """
    kept, doomed = await _create(one, f"{GROUP}h/kept"), await _create(one, f"{GROUP}h/doomed")
    first = await _taken(two, GROUP)
    assert first == Batch(True, (doomed, kept))
    nothing = await _taken(two, GROUP, first.position)
    assert nothing == (Batch(True, (doomed, kept)) if nothing.whole else Batch(False))
    new = await _create(one, f"{GROUP}h/new")
    assert await one.delete(doomed)
    known = {kept.key: kept, doomed.key: doomed}
    async with asyncio.timeout(PATIENCE), contextlib.aclosing(two.watch(GROUP, nothing.position)) as batches:
        async for batch in batches:
            known = {} if batch.whole else known
            known |= {entry.key: entry for entry in batch.entries}
            for key in batch.gone:
                del known[key]
            if first.position is not None:
                assert not batch.whole
                assert kept not in batch.entries
            if known == {kept.key: kept, new.key: new}:
                return


WATCH_CONTRACT: tuple[Check, ...] = (
    a_group_is_followed,
    many_who_write_to_a_group_lose_nothing,
    a_burst_is_told_to_its_end,
    groups_do_not_meet,
    of_many_who_write_a_key_of_a_group_one_wins,
    a_watch_goes_on_where_another_ended,
)
