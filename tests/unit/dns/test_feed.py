"""The table follows the networks of the store that are wanted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from lab.speed import within
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.feed import Feed
from macvlan_global.store.follow_groups import LINGER_SECONDS
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from testkit.brief import BRIEF
from testkit.faults import Faults, FaultyStore
from testkit.virtual_time import VirtualLoop
from tests.unit.dns.names import ask, key, put, record, texts, until

MANY = 1_000 if BRIEF else 3_000
LAN, WAN = record(1).network, record(1, network="wan").network


@asynccontextmanager
async def _fed(
    store: MemoryStore, faults: Faults | None = None, *wanted: str
) -> AsyncIterator[tuple[ResponseCache, Feed]]:
    cache = ResponseCache(5)
    feed = Feed(FaultyStore(store, faults), Tables(store, store).names, cache, retry=0.01)
    feed.want(wanted or (LAN,))
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
    await put(names, record(1, "web"))
    async with _fed(store) as (cache, feed):
        await _until(cache, "web", ["NOERROR", "10.65.0.1"])
        await put(names, record(2, "db"))
        await _until(cache, "db", ["NOERROR", "10.65.0.2"])
        await put(names, msgspec.structs.replace(record(2, "db"), address="10.65.0.3"))
        await _until(cache, "db", ["NOERROR", "10.65.0.3"])
        await names.drop(LAN, "h1", record(1).endpoint)
        await _until(cache, "web", ["REFUSED"])
        assert feed.following


async def test_hosts_whose_names_come_are_told() -> None:
    """Also of one that nobody else knows."""
    store, told = MemoryStore(), set[str]()
    names = Tables(store, store).names
    await put(names, record(1, "web"))
    feed = Feed(store, names, ResponseCache(5), on_hosts=told.update)
    feed.want([LAN])
    running = asyncio.ensure_future(feed.run())
    await until(lambda: told == {"h1"})
    await put(names, msgspec.structs.replace(record(2, "db"), host="h2"))
    await until(lambda: told == {"h1", "h2"})
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_empty_network_is_known_too() -> None:
    """Names are then refused, and no longer a failure; with no network at all that is so at once."""
    async with _fed(MemoryStore()) as (cache, feed):
        assert texts(ask(cache, "web")) == ["SERVFAIL"]
        await _until(cache, "web", ["REFUSED"])
        feed.want([LAN, WAN])
        assert texts(ask(cache, "web")) == ["SERVFAIL"]
        await _until(cache, "web", ["REFUSED"])
        feed.want([])
        assert texts(ask(cache, "web")) == ["REFUSED"]


def test_a_network_that_is_not_wanted_takes_no_memory() -> None:
    """Names of others are never read; those of a network that was wanted are forgotten a while after."""

    async def story() -> None:
        store = MemoryStore()
        names = Tables(store, store).names
        for each in (record(1, "web"), record(2, "db", network="wan"), record(3, "mail", network="dmz")):
            await put(names, each)
        async with _fed(store, None, LAN, WAN) as (cache, feed):
            await asyncio.sleep(1)
            assert [texts(ask(cache, name))[0] for name in ("web", "db", "mail")] == ["NOERROR", "NOERROR", "REFUSED"]
            assert len(cache) == 2
            feed.want([LAN])
            await asyncio.sleep(LINGER_SECONDS - 1)
            assert len(cache) == 2
            await asyncio.sleep(2)
            assert [texts(ask(cache, name))[0] for name in ("web", "db.wan")] == ["NOERROR", "REFUSED"]
            assert len(cache) == 1
            await put(names, record(4, "late", network="wan"))
            await asyncio.sleep(1)
            assert len(cache) == 1
            feed.want([LAN, WAN])
            assert not cache.synced
            await asyncio.sleep(1)
            assert (cache.synced, texts(ask(cache, "late"))) == (True, ["NOERROR", "10.65.0.4"])

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(story())


async def test_a_store_that_is_away_leaves_what_was_known() -> None:
    """And what happened meanwhile is there when it is back: new, changed, and gone."""
    store, faults = MemoryStore(), Faults()
    names = Tables(store, store).names
    for number in (1, 2):
        await put(names, record(number, f"web{number}"))
    async with _fed(store, faults) as (cache, feed):
        await _until(cache, "web1", ["NOERROR", "10.65.0.1"])
        faults.arm(1)
        await names.drop(LAN, "h1", record(1).endpoint)
        await until(lambda: not feed.following)
        assert texts(ask(cache, "web1")) == ["NOERROR", "10.65.0.1"]
        await put(names, record(3, "web3"))
        await _until(cache, "web3", ["NOERROR", "10.65.0.3"])
        await _until(cache, "web1", ["REFUSED"])
        assert texts(ask(cache, "web2")) == ["NOERROR", "10.65.0.2"]


async def test_what_cannot_be_read_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """A record of a newer version silently, a broken one and one under another's key with a warning; the others are
    there."""
    store = MemoryStore()
    await store.create(f"names/{LAN}/h1/e1", b'{"v": 99}')
    await store.create(f"names/{LAN}/h1/e2", b"{")
    await store.create(f"names/{LAN}/h2/{record(4).endpoint}", msgspec.json.encode(record(4, "moved")))
    await put(Tables(store, store).names, record(3, "web"))
    async with _fed(store) as (cache, _):
        await _until(cache, "web", ["NOERROR", "10.65.0.3"])
        assert len(cache) == 1
    assert caplog.text.count(f"names/{LAN}/h1/e2 in the store cannot be read") == 1
    assert caplog.text.count("it belongs under another key") == 1


async def test_a_large_network_does_not_hold_up_the_loop() -> None:
    """While thousands of names are taken in, others have their turns, and nothing is half known."""
    store = MemoryStore()
    names = Tables(store, store).names
    for number in range(MANY):
        await put(names, record(number, f"web{number}"))
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
    await put(names, record(1, "web"))
    async with _fed(store) as (cache, feed):
        await _until(cache, "web", ["NOERROR", "10.65.0.1"])
        entry = await store.get(key(record(1)))
        assert entry
        assert await store.replace(entry, value)
        await _until(cache, "web", ["REFUSED"])
        await put(names, record(1, "web"))
        await _until(cache, "web", ["NOERROR", "10.65.0.1"])
        assert feed.following
