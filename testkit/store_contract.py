"""The promises of every store, as checks that run against any of them.

Each takes an empty, open store. Run them all with `for check in STORE_CONTRACT`.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Entry, Store
from macvlan_global.store.records import PoolRecord
from macvlan_global.store.table import Tables
from testkit.brief import BRIEF

Check = Callable[[Store], Awaitable[None]]

CALLERS = 16 if BRIEF else 100
CHANGERS = 6 if BRIEF else 20


async def _create(store: Store, key: str, value: bytes = b"x") -> Entry:
    entry = await store.create(key, value)
    assert entry is not None
    return entry


async def a_key_that_is_absent_is_none(store: Store) -> None:
    """Not an error."""
    assert await store.get("a") is None
    assert await store.scan("") == []


async def what_was_created_is_read(store: Store) -> None:
    """Key, value and revision; any bytes, none included; any text as a key."""
    for key, value in (
        ("a/b", b"\x00\xff"),
        ("empty", b""),
        ("ключ/%~ '\"", b"{}"),
        ("control/\x00\n\x1f\x85\u2028 \u00a0", b"{}"),
        ("long/" + "k" * 300, b"v" * 70_000),
    ):
        entry = await _create(store, key, value)
        assert (entry.key, entry.value) == (key, value)
        assert await store.get(key) == entry


async def a_key_is_created_only_if_it_is_absent(store: Store) -> None:
    """The loser changes nothing."""
    entry = await _create(store, "a", b"first")
    assert await store.create("a", b"second") is None
    assert await store.get("a") == entry


async def of_many_who_create_a_key_one_wins(store: Store) -> None:
    """All at once, and the winner's value is what is there."""
    made = await asyncio.gather(*(store.create("a", b"%d" % number) for number in range(CALLERS)))
    winners = [entry for entry in made if entry]
    assert len(winners) == 1
    assert await store.get("a") == winners[0]


async def of_many_who_replace_a_key_one_wins(store: Store) -> None:
    """Each read the same entry."""
    entry = await _create(store, "a")
    made = await asyncio.gather(*(store.replace(entry, b"%d" % number) for number in range(CALLERS)))
    winners = [new for new in made if new]
    assert len(winners) == 1
    assert await store.get("a") == winners[0]


async def of_many_who_delete_a_key_one_did_it(store: Store) -> None:
    """The others hear that they did not."""
    entry = await _create(store, "a")
    done = await asyncio.gather(*(store.delete(entry) for _ in range(CALLERS)))
    assert done.count(True) == 1
    assert await store.get("a") is None


async def many_callers_write_many_keys(store: Store) -> None:
    """Nobody waits for ever, and nothing is lost."""
    made = await asyncio.gather(*(_create(store, f"k/{number:03}", b"%d" % number) for number in range(CALLERS)))
    assert await store.scan("k/") == made


async def many_callers_count_without_losing_one(store: Store) -> None:
    """Read, compare, write, and again if somebody was faster."""
    await _create(store, "count", b"0")

    async def add() -> None:
        while True:
            entry = await store.get("count")
            assert entry is not None
            if await store.replace(entry, b"%d" % (int(entry.value) + 1)):
                return

    await asyncio.gather(*(add() for _ in range(CHANGERS)))
    entry = await store.get("count")
    assert entry is not None
    assert entry.value == b"%d" % CHANGERS


async def records_are_changed_without_losing_a_change(store: Store) -> None:
    """As above, by `Table.update`, which is how everybody changes a record."""
    table = Tables(store, store).pools
    await table.create(PoolRecord(space="s", subnet="10.0.0.0/24", at=0.0), "s", "10.0.0.0/24")

    def add(record: PoolRecord) -> PoolRecord:
        return msgspec.structs.replace(record, at=record.at + 1)

    await asyncio.gather(*(table.update(add, "s", "10.0.0.0/24") for _ in range(CHANGERS)))
    row = await table.get("s", "10.0.0.0/24")
    assert row is not None
    assert row.record.at == CHANGERS


async def only_the_current_entry_can_be_replaced_or_deleted(store: Store) -> None:
    """An entry that was read before a change is stale."""
    old = await _create(store, "a", b"1")
    new = await store.replace(old, b"2")
    assert new is not None
    assert await store.replace(old, b"3") is None
    assert not await store.delete(old)
    assert await store.get("a") == new
    assert await store.delete(new)
    assert not await store.delete(new)
    assert await store.replace(new, b"4") is None
    assert await store.get("a") is None


async def revisions_grow_and_never_repeat(store: Store) -> None:
    """Not even for a key that was deleted and made anew: an old entry never matches the new key."""
    first = await _create(store, "a")
    second = await store.replace(first, b"2")
    assert second is not None
    assert await store.delete(second)
    third = await _create(store, "a")
    assert first.revision < second.revision < third.revision
    assert not await store.delete(first)
    assert not await store.delete(second)
    assert await store.replace(second, b"x") is None
    assert await store.get("a") == third


async def a_scan_is_in_the_order_of_the_keys(store: Store) -> None:
    """Whatever the order they were made in; by code point, as text compares."""
    keys = ["b", "a/2", "a/10", "a", "a/é", "a/z", "a/\U0001f600", "B"]
    for key in keys:
        await _create(store, key)
    assert [entry.key for entry in await store.scan("")] == sorted(keys)
    assert [entry.key for entry in await store.scan("a/")] == ["a/10", "a/2", "a/z", "a/é", "a/\U0001f600"]


async def a_scan_is_exact(store: Store) -> None:
    """Keys that begin with the prefix and nothing else: wildcards and case mean nothing."""
    for key in ("a/1/x", "a/10/x", "A/1/x", "a/1", "a_1/x", "b%/x", "bb/x", "c*", "cc"):
        await _create(store, key)
    found = {prefix: [entry.key for entry in await store.scan(prefix)] for prefix in ("a/1/", "a/1", "a_", "b%", "c*")}
    assert found == {
        "a/1/": ["a/1/x"],
        "a/1": ["a/1", "a/1/x", "a/10/x"],
        "a_": ["a_1/x"],
        "b%": ["b%/x"],
        "c*": ["c*"],
    }
    assert await store.scan("none/") == []


async def a_closed_store_says_so(store: Store) -> None:
    """Closing twice is fine; asking it afterwards is not."""
    entry = await _create(store, "a")
    await store.close()
    await store.close()
    asks: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: store.get("a"),
        lambda: store.scan(""),
        lambda: store.create("b", b""),
        lambda: store.replace(entry, b""),
        lambda: store.delete(entry),
    )
    for ask in asks:
        try:
            await ask()
        except Unavailable:
            continue
        raise AssertionError("a closed store answered")


async def what_was_asked_before_closing_is_answered(store: Store) -> None:
    """Closing finishes it first."""
    asked = [asyncio.ensure_future(store.create(f"{number}", b"")) for number in range(CALLERS)]
    await asyncio.sleep(0)  # all have begun
    await store.close()
    assert all(await asyncio.gather(*asked))


STORE_CONTRACT: tuple[Check, ...] = (
    a_key_that_is_absent_is_none,
    what_was_created_is_read,
    a_key_is_created_only_if_it_is_absent,
    of_many_who_create_a_key_one_wins,
    of_many_who_replace_a_key_one_wins,
    of_many_who_delete_a_key_one_did_it,
    many_callers_write_many_keys,
    many_callers_count_without_losing_one,
    records_are_changed_without_losing_a_change,
    only_the_current_entry_can_be_replaced_or_deleted,
    revisions_grow_and_never_repeat,
    a_scan_is_in_the_order_of_the_keys,
    a_scan_is_exact,
    a_closed_store_says_so,
    what_was_asked_before_closing_is_answered,
)
