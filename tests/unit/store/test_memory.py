"""The store in memory beyond the contracts: a clock from outside, snapshots, clients."""

import asyncio

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch
from testkit.cluster_contract import Mirror
from testkit.fake_clock import FakeClock
from testkit.faults import Faults, FaultyStore


async def test_a_lease_ends_by_the_clock_that_was_given() -> None:
    """At the first request after its time, and not before."""
    clock = FakeClock()
    store = MemoryStore(clock)
    lease = await store.lease(15)
    assert await store.create_with(lease, "a", b"x")
    clock.advance(14.9)
    assert await lease.renew()
    clock.advance(14.9)
    assert await store.get("a")
    clock.advance(0.1)
    assert await store.get("a") is None
    assert not await lease.renew()


async def test_who_moves_the_clock_can_end_leases_at_once() -> None:
    """Watchers hear of it without a request."""
    clock = FakeClock()
    store = MemoryStore(clock)
    async with Mirror(store, "") as mirror:
        assert await store.create_with(await store.lease(15), "a", b"x")
        await mirror.until(lambda: "a" in mirror.known)
        clock.advance(15)
        store.expire()
        await mirror.until(lambda: not mirror.known)


async def test_leases_end_by_the_clock_of_the_loop() -> None:
    """By themselves, and watchers hear of it."""
    store = MemoryStore()
    loop = asyncio.get_running_loop()
    lease = await store.lease(0.05)
    begun = loop.time()
    async with Mirror(store, "") as mirror:
        assert await store.create_with(lease, "a", b"x")
        await mirror.until(lambda: bool(mirror.known))
        await mirror.until(lambda: not mirror.known)
    assert loop.time() - begun >= 0.045


async def test_a_snapshot_is_put_back() -> None:
    """Keys of then with revisions of then, in one whole batch for each watcher; leases go on."""
    store = MemoryStore()
    lease = await store.lease(15)
    kept, held = await store.create("a/kept", b"1"), await store.create_with(lease, "a/held", b"x")
    assert kept
    assert held
    saved = store.save()
    await store.create("a/late", b"x")
    await store.replace(kept, b"2")
    async with Mirror(store, "a/") as mirror:
        store.restore(saved)
        await mirror.until(lambda: len(mirror.batches) == 2)
        assert mirror.batches[1] == Batch(True, (held, kept))
    await lease.end()
    assert await store.scan("") == [kept]


async def test_a_lease_that_ended_since_the_snapshot_is_not_put_back() -> None:
    """Its keys neither."""
    store = MemoryStore()
    lease = await store.lease(15)
    assert await store.create_with(lease, "a", b"x")
    saved = store.save()
    await lease.end()
    store.restore(saved)
    assert await store.scan("") == []


async def test_closing_a_client_closes_no_other() -> None:
    """Nor the store that it is a client of."""
    store = MemoryStore()
    client = store.client()
    await client.close()
    with pytest.raises(Unavailable):
        await client.get("a")
    assert await store.create("a", b"x")
    assert await store.client().get("a")


async def test_a_watch_breaks_when_its_step_fails() -> None:
    """A fault falls upon a batch as upon any other step, and the next watch begins anew."""
    faults = Faults()
    store = FaultyStore(MemoryStore(), faults)
    faults.arm(3)  # the first batch, the key, and then the batch that tells of it
    async with Mirror(store, "") as mirror:
        await store.create("a", b"x")
        with pytest.raises(Unavailable, match="on purpose"):
            await mirror.until(lambda: bool(mirror.known))
    async with Mirror(store, "") as mirror:
        assert set(mirror.known) == {"a"}
