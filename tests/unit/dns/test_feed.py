"""The table follows the store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lab.speed import within
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.feed import Feed
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from testkit.brief import BRIEF
from testkit.faults import Faults, FaultyStore
from tests.unit.dns.names import ask, record, texts, until

MANY = 1_000 if BRIEF else 3_000


@asynccontextmanager
async def _fed(store: MemoryStore, faults: Faults | None = None) -> AsyncIterator[tuple[ResponseCache, Feed]]:
    cache = ResponseCache(5)
    through = FaultyStore(store, faults)
    feed = Feed(through, Tables(store, store).names, cache, retry=0.01)
    running = asyncio.ensure_future(feed.run())
    try:
        yield cache, feed
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def _until(cache: ResponseCache, name: str, expected: list[str]) -> None:
    await until(lambda: texts(ask(cache, name)) == expected)


async def test_names_come_and_go_with_the_store() -> None:
    """Records that were there, new, changed and deleted ones."""
    store = MemoryStore()
    names = Tables(store, store).names
    await names.put(record(1, "web"), "h1", "e1")
    async with _fed(store) as (cache, feed):
        await _until(cache, "web", ["NOERROR", "10.65.0.1"])
        await names.put(record(2, "db"), "h2", "e2")
        await _until(cache, "db", ["NOERROR", "10.65.0.2"])
        await names.put(record(3, "db"), "h2", "e2")
        await _until(cache, "db", ["NOERROR", "10.65.0.3"])
        await names.drop("h1", "e1")
        await _until(cache, "web", ["REFUSED"])
        assert feed.following


async def test_an_empty_store_is_known_too() -> None:
    """Names are then refused, and no longer a failure."""
    async with _fed(MemoryStore()) as (cache, _):
        await _until(cache, "web", ["REFUSED"])


async def test_a_store_that_is_away_leaves_what_was_known() -> None:
    """And what happened meanwhile is there when it is back: new, changed, and gone."""
    store, faults = MemoryStore(), Faults()
    names = Tables(store, store).names
    for number in (1, 2):
        await names.put(record(number, f"web{number}"), "h1", f"e{number}")
    async with _fed(store, faults) as (cache, feed):
        await _until(cache, "web1", ["NOERROR", "10.65.0.1"])
        faults.arm(1)
        await names.drop("h1", "e1")
        await until(lambda: not feed.following)
        assert texts(ask(cache, "web1")) == ["NOERROR", "10.65.0.1"]
        await names.put(record(3, "web3"), "h1", "e3")
        await _until(cache, "web3", ["NOERROR", "10.65.0.3"])
        await _until(cache, "web1", ["REFUSED"])
        assert texts(ask(cache, "web2")) == ["NOERROR", "10.65.0.2"]


async def test_what_cannot_be_read_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A record of a newer version silently, a broken one with a warning; the others are there."""
    store = MemoryStore()
    await store.create("names/h1/e1", b'{"v": 99}')
    await store.create("names/h1/e2", b"{")
    await Tables(store, store).names.put(record(3, "web"), "h1", "e3")
    async with _fed(store) as (cache, _):
        await _until(cache, "web", ["NOERROR", "10.65.0.3"])
        assert len(cache) == 1
    assert caplog.text.count("names/h1/e2 in the store cannot be read") == 1


async def test_a_large_store_does_not_hold_up_the_loop() -> None:
    """While thousands of names are taken in, others have their turns, and nothing is half known."""
    store = MemoryStore()
    names = Tables(store, store).names
    for number in range(MANY):
        await names.create(record(number, f"web{number}"), "h1", f"e{number}")
    async with _fed(store) as (cache, _):
        turns = 0
        async with within(20):
            while not cache.synced:
                await asyncio.sleep(0)
                turns += 1
        assert len(cache) == MANY
        assert turns >= MANY // 300


@pytest.mark.parametrize("value", [b'{"v": 99}', b"{", b"", b"[]"], ids=["newer", "half", "empty", "list"])
async def test_a_record_that_was_overwritten_is_no_answer(value: bytes) -> None:
    """The name is gone as soon as the watch tells of it, and there again with a record that can be read."""
    store = MemoryStore()
    names = Tables(store, store).names
    row = await names.put(record(1, "web"), "h1", "e1")
    async with _fed(store) as (cache, feed):
        await _until(cache, "web", ["NOERROR", "10.65.0.1"])
        assert await store.replace(row.entry, value)
        await _until(cache, "web", ["REFUSED"])
        await names.put(record(2, "web"), "h1", "e1")
        await _until(cache, "web", ["NOERROR", "10.65.0.2"])
        assert feed.following
