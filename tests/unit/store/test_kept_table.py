"""A kept table has its records in memory, as they are in the store."""

from collections.abc import Awaitable, Callable

import msgspec

from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import LinkRecord
from macvlan_global.store.table import Tables


def _link(name: str, vlan: int = 7) -> LinkRecord:
    return LinkRecord(name=name, kind="vlan", master="eth1", vlan_id=vlan, boot="b", at=0)


async def test_what_is_written_is_kept() -> None:
    """Created, put, changed, deleted and dropped records."""
    store = MemoryStore()
    links = Tables(store, store).links
    await links.create(_link("eth1.7"), "eth1.7")
    row = await links.put(_link("eth1.8"), "eth1.8")
    await links.put(_link("eth1.9"), "eth1.9")
    await links.update(lambda record: msgspec.structs.replace(record, vlan_id=70), "eth1.7")
    assert await links.delete(row)
    await links.drop("eth1.9")
    assert [(each.name, each.vlan_id) for each in links.kept] == [("eth1.7", 70)]
    assert [each.record for each in await links.scan()] == list(links.kept)


async def test_a_lost_race_changes_nothing() -> None:
    """Neither what was not created, replaced or deleted."""
    store = MemoryStore()
    links = Tables(store, store).links
    old = await links.put(_link("eth1.7"), "eth1.7")
    await links.put(_link("eth1.7", 8), "eth1.7")
    assert await links.create(_link("eth1.7"), "eth1.7") is None
    assert await links.replace(old, _link("eth1.7", 9)) is None
    assert not await links.delete(old)
    assert [each.vlan_id for each in links.kept] == [8]


async def test_a_read_of_all_finds_what_an_earlier_run_wrote() -> None:
    """A read of a part does not stand for the whole."""
    store = MemoryStore()
    await Tables(store, store).links.put(_link("eth1.7"), "eth1.7")
    links = Tables(store, store).links
    await links.scan("eth1.7")
    assert not links.kept
    await links.scan()
    assert [each.name for each in links.kept] == ["eth1.7"]


class Overtaken(MemoryStore):
    """A store that answers a read of all with what there was before a write that was answered meanwhile."""

    def __init__(self, inside: MemoryStore, write: Callable[[], Awaitable[object]]) -> None:
        """`write` happens while the first read is under way."""
        super().__init__()
        self._inside = inside
        self._write: Callable[[], Awaitable[object]] | None = write

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        found = await self._inside.scan(prefix)
        write, self._write = self._write, None
        if write:
            await write()
        return found


async def test_a_read_that_a_write_overtook_is_passed_over() -> None:
    """Its answer may be older than the write; the next read stands again."""
    store = MemoryStore()
    await Tables(store, store).links.put(_link("eth1.7"), "eth1.7")
    overtaken = Overtaken(store, lambda: links.put(_link("eth1.8"), "eth1.8"))
    links = Tables(overtaken, overtaken).links
    await links.scan()
    assert [each.name for each in links.kept] == ["eth1.8"]
    await links.scan()
    assert [each.name for each in links.kept] == ["eth1.7"]
