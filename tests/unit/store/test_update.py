"""Changing a record while others change it: no change is lost."""

import asyncio
from collections import Counter

import msgspec
import pytest

from macvlan_global.errors import Internal
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import NetworkRecord
from macvlan_global.store.table import Table, Tables

RECORD = NetworkRecord(id="n1", given={}, at=1.0)


class RivalStore(MemoryStore):
    """A store in which another writer is faster, `times` times for each key: it changes or deletes it first."""

    def __init__(self, *, times: int = 1, rival: NetworkRecord | None) -> None:
        """The rival writes this record, or deletes the key."""
        super().__init__()
        self._rival = rival
        self._left = Counter[str]()
        self._times = times

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """Let the rival go first."""
        if self._left[entry.key] < self._times:
            self._left[entry.key] += 1
            if self._rival is None:
                await super().delete(entry)
            else:
                written = msgspec.structs.replace(self._rival, at=float(self._left[entry.key]))
                await super().replace(entry, msgspec.json.encode(written))
        return await super().replace(entry, value)


def _networks(store: MemoryStore) -> Table[NetworkRecord]:
    return Tables(store, store).networks


def _named(record: NetworkRecord) -> NetworkRecord:
    return msgspec.structs.replace(record, name="lan")


@pytest.mark.parametrize("times", [0, 1, 3])
async def test_a_change_is_made_to_what_a_rival_wrote(times: int) -> None:
    """Both changes hold, however often the race is lost."""
    networks = _networks(RivalStore(times=times, rival=msgspec.structs.replace(RECORD, parent="eth0.20")))
    await networks.create(RECORD, "n1")
    written = await networks.update(_named, "n1")
    assert written is not None
    assert (written.record.name, written.record.parent) == ("lan", "eth0.20" if times else "")
    assert await networks.get("n1") == written


async def test_a_record_that_a_rival_deletes_stays_deleted() -> None:
    """It is not written anew from what was read before."""
    networks = _networks(RivalStore(rival=None))
    await networks.create(RECORD, "n1")
    assert await networks.update(_named, "n1") is None
    assert await networks.scan() == []


async def test_what_is_absent_is_not_made() -> None:
    """A change needs a record."""
    networks = _networks(MemoryStore())
    assert await networks.update(_named, "n1") is None
    assert await networks.scan() == []


async def test_nothing_to_change_is_nothing_written() -> None:
    """The row is the one that was there, with its revision."""
    networks = _networks(MemoryStore())
    row = await networks.create(RECORD, "n1")
    assert await networks.update(lambda _: None, "n1") == row
    assert await networks.update(lambda record: record, "n1") == row
    assert await networks.get("n1") == row


async def test_a_record_of_a_newer_version_is_not_changed() -> None:
    """It is left alone, with the error that reading it gives."""
    store = MemoryStore()
    await store.create("networks/n1", b'{"v":2}')
    with pytest.raises(Internal, match="newer macvlan-global"):
        await _networks(store).update(_named, "n1")


async def test_of_many_changes_at_once_none_is_lost() -> None:
    """Each adds one to a number."""
    networks = _networks(MemoryStore())
    await networks.create(msgspec.structs.replace(RECORD, at=0.0), "n1")

    def add(record: NetworkRecord) -> NetworkRecord:
        return msgspec.structs.replace(record, at=record.at + 1)

    await asyncio.gather(*(networks.update(add, "n1") for _ in range(20)))
    row = await networks.get("n1")
    assert row is not None
    assert row.record.at == 20
