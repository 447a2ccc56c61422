"""Records, their keys and their versions."""

import pytest

from macvlan_global.errors import Internal
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import PoolRecord
from macvlan_global.store.table import LONGEST_KEPT, Table, Tables


@pytest.fixture
def store() -> MemoryStore:
    """Empty."""
    return MemoryStore()


@pytest.fixture
def pools(store: MemoryStore) -> Table[PoolRecord]:
    """The table of pools."""
    return Tables(store, store).pools


def _pool(subnet: str = "10.0.0.0/24", space: str = "s") -> PoolRecord:
    return PoolRecord(space=space, subnet=subnet, at=1.5)


async def test_a_record_comes_back_as_it_was(pools: Table[PoolRecord]) -> None:
    """Slashes in a part do not make it two."""
    await pools.create(_pool(), "s", "10.0.0.0/24")
    row = await pools.get("s", "10.0.0.0/24")
    assert row is not None
    assert row.record == _pool()
    assert row.entry.key == "pools/s/10.0.0.0_24"


async def test_a_record_that_has_not_changed_is_parsed_once_and_a_long_value_is_not_kept(
    pools: Table[PoolRecord],
) -> None:
    """Anybody may write below our prefix: values of half a megabyte stay in nobody's memory."""
    made = await pools.create(_pool(), "s", "10.0.0.0/24")
    assert made
    padded = Entry(made.entry.key, made.entry.value + b" " * LONGEST_KEPT, made.entry.revision)
    for entry, kept in ((made.entry, True), (padded, False)):
        first, again = pools.read(entry), pools.read(entry)
        assert first
        assert again
        assert first.record == again.record == _pool()
        assert (first.record is again.record) is kept


async def test_a_scan_sees_one_space_only(pools: Table[PoolRecord]) -> None:
    """`a` is not `ab`."""
    for space in ("a", "ab"):
        await pools.create(_pool(space=space), space, "10.0.0.0/24")
    assert [row.record.space for row in await pools.scan("a")] == ["a"]
    assert len(await pools.scan()) == 2


async def test_put_and_drop_need_not_know_what_is_there(pools: Table[PoolRecord]) -> None:
    """For keys that only we write."""
    for network in ("n1", "n2"):
        await pools.put(PoolRecord(space="s", subnet="10.0.0.0/24", network=network, at=1.5), "s", "10.0.0.0/24")
    row = await pools.get("s", "10.0.0.0/24")
    assert row is not None
    assert row.record.network == "n2"
    for _ in range(2):
        await pools.drop("s", "10.0.0.0/24")
    assert await pools.scan() == []


async def test_a_newer_record_is_left_alone_and_reported(store: MemoryStore, pools: Table[PoolRecord]) -> None:
    """Passed over in a scan, refused when it is needed, never guessed at."""
    await store.create("pools/s/k", b'{"v":2,"space":{"new":"shape"}}')
    assert await pools.scan() == []
    assert await Tables(store, store).unreadable() == ["pools/s/k"]
    with pytest.raises(Internal, match="newer macvlan-global"):
        await pools.get("s", "k")


@pytest.mark.parametrize("value", [b"", b"x", b"{}", b'{"v":1}', b'{"v":"x"}', b"\xff"])
async def test_a_record_that_cannot_be_read_is_an_error_that_names_its_key(
    store: MemoryStore, pools: Table[PoolRecord], value: bytes
) -> None:
    """Not a crash."""
    await store.create("pools/s/k", value)
    with pytest.raises(Internal, match="pools/s/k"):
        await pools.get("s", "k")


async def test_a_field_of_a_later_version_of_the_same_schema_is_ignored(
    store: MemoryStore, pools: Table[PoolRecord]
) -> None:
    """New optional fields do not need a new version."""
    await store.create("pools/s/10.0.0.0_24", b'{"v":1,"space":"s","subnet":"10.0.0.0/24","at":1,"new":1}')
    row = await pools.get("s", "10.0.0.0/24")
    assert row is not None
    assert row.record.space == "s"
