"""Watches of a prefix on Consul, on a double: a store that was restored is told from one that forgets tombstones."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from macvlan_global.store.access import StoreAccess
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.ports import ClusterStore, Entry
from macvlan_global.store.remote.consul_watch import WAIT
from testkit.cluster_contract import Mirror
from testkit.fake_consul import FakeConsul
from testkit.fake_http import HttpServer

pytestmark = pytest.mark.virtual_time

PREFIX = "alive/"


@dataclass
class _Lab:
    """A Consul and a client of it."""

    consul: FakeConsul
    store: ClusterStore

    async def create(self, name: str) -> Entry:
        """A key below the prefix, by its last part."""
        entry = await self.store.create(f"{PREFIX}{name}", b"x")
        assert entry is not None
        return entry


@pytest.fixture
async def lab() -> AsyncIterator[_Lab]:
    """An empty store."""
    consul = FakeConsul()
    async with HttpServer(consul.answer) as server:
        store = open_cluster_store(f"consul://{server.address}/test", StoreAccess())
        yield _Lab(consul, store)
        await store.close()


async def test_a_forgotten_tombstone_is_no_restored_store(lab: _Lab) -> None:
    """The index of the prefix falls to that of the key which is left. Nothing is told of that, and what comes later is
    told as always."""
    await lab.create("kept")
    gone = await lab.create("gone")
    async with Mirror(lab.store, PREFIX) as mirror:
        assert await lab.store.delete(gone)
        await mirror.until(lambda: set(mirror.known) == {f"{PREFIX}kept"})
        lab.consul.reap_tombstones()
        await asyncio.sleep(WAIT * 1.5)
        await lab.create("later")
        await mirror.until(lambda: set(mirror.known) == {f"{PREFIX}kept", f"{PREFIX}later"})
        assert [batch.whole for batch in mirror.batches] == [True, False, False]


async def test_a_store_without_what_was_told_was_restored(lab: _Lab) -> None:
    """All that is there is told as one whole batch, also if a tombstone was forgotten before."""
    await lab.create("old")
    copy = lab.consul.save()
    await lab.create("new")
    gone = await lab.create("gone")
    async with Mirror(lab.store, PREFIX) as mirror:
        assert await lab.store.delete(gone)
        await mirror.until(lambda: f"{PREFIX}gone" not in mirror.known)
        lab.consul.reap_tombstones()
        await asyncio.sleep(WAIT * 1.5)
        lab.consul.restore(copy)
        await mirror.until(lambda: set(mirror.known) == {f"{PREFIX}old"})
        assert [batch.whole for batch in mirror.batches] == [True, False, True]


async def test_a_store_in_which_a_deleted_key_is_back_was_restored(lab: _Lab) -> None:
    """Nothing of what was told is newer than the copy, but that key was written before it was told to be gone."""
    await lab.create("kept")
    gone = await lab.create("gone")
    copy = lab.consul.save()
    async with Mirror(lab.store, PREFIX) as mirror:
        assert await lab.store.delete(gone)
        await mirror.until(lambda: set(mirror.known) == {f"{PREFIX}kept"})
        await asyncio.sleep(1)  # it waits for news: a restore ends that, while who comes later waits for the old index
        lab.consul.restore(copy)
        await mirror.until(lambda: set(mirror.known) == {f"{PREFIX}kept", f"{PREFIX}gone"})
        assert [batch.whole for batch in mirror.batches] == [True, False, True]
