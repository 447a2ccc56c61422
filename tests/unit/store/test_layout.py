"""The layout of the cluster store: a driver of another one writes nothing there."""

import asyncio

import pytest

from macvlan_global.errors import Conflict
from macvlan_global.store.layout import KEY, StoreLayout
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from testkit.faults import Faults, FaultyStore

OURS = b'{"v":1,"layout":"1.0"}'


async def _value(store: MemoryStore) -> bytes | None:
    entry = await store.get(KEY)
    return entry.value if entry else None


async def test_the_first_driver_of_a_cluster_says_which_layout_it_has() -> None:
    """Those that come later find it, with hosts beside it, and so do two that come at once."""
    store = MemoryStore()
    await asyncio.gather(*(StoreLayout(FaultyStore(store)).check() for _ in range(2)))
    assert await _value(store) == OURS
    await store.create("hosts/a", b"{}")
    await StoreLayout(store).check()


async def test_a_store_with_hosts_and_no_layout_is_of_an_earlier_release() -> None:
    """Nothing is written there. The text says what to do."""
    store = MemoryStore()
    await store.create("hosts/a", b"{}")
    with pytest.raises(
        Conflict, match=r"of an earlier release: .* consul kv delete -recurse macvlan-global/, or etcdctl"
    ):
        await StoreLayout(store).check()
    assert [each.key for each in await store.scan("")] == ["hosts/a"]


async def test_a_host_that_begins_while_the_first_one_does_is_not_refused() -> None:
    """It found no layout, then the first driver wrote it and its row."""
    store, faults = MemoryStore(), Faults()

    class Behind(FaultyStore):
        async def scan(self, prefix: str) -> list[Entry]:
            await StoreLayout(store).check()
            await store.create("hosts/a", b"{}")
            return await super().scan(prefix)

    await StoreLayout(Behind(store, faults)).check()
    assert faults.taken == ["get layout", "scan hosts/", "get layout"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'{"v":1,"layout":"2.0"}', "the store has layout '2.0' .* and this driver needs 1.0; stop the drivers of all"),
        (b'{"v":2,"layout":[]}', "was written by a newer macvlan-global; install that release"),
        (b"junk", 'the key layout in the store is no layout: .* write {"v":1,"layout":"1.0"} there; else stop'),
        (b"", "the key layout in the store is no layout"),
    ],
)
async def test_what_is_there_instead_is_told_and_left_alone(
    value: bytes, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A driver that begins is refused. One that runs says so once and goes on."""
    store = MemoryStore()
    await store.create(KEY, value)
    with pytest.raises(Conflict, match=text):
        await StoreLayout(store).check()
    running = StoreLayout(store)
    for _ in range(3):
        await running.keep()
    assert caplog.text.count("no driver can start in this cluster: ") == 1
    assert await _value(store) == value


async def test_a_driver_that_runs_writes_it_again() -> None:
    """A store that lost its data, or was restored from a copy of before."""
    store = MemoryStore()
    await store.create("hosts/a", b"{}")
    await StoreLayout(store).keep()
    assert await _value(store) == OURS
