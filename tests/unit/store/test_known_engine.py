"""The engine as it was last seen, and where earlier drivers kept it."""

import asyncio

import msgspec
import pytest

from macvlan_global.cluster.identity import load_identity
from macvlan_global.store.known_engine import KnownEngine
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import EngineRecord, IdentityRecord
from macvlan_global.store.table import Tables

OLD = IdentityRecord(id="h", machine="m1", engine="E1", label="global", engine_version="28.0", live_restore=True)


@pytest.fixture
def tables() -> Tables:
    """Empty ones."""
    store = MemoryStore()
    return Tables(store, store)


async def test_each_room_sets_its_own_fields(tables: Tables) -> None:
    """At once, and in any order; nothing else is touched."""
    await load_identity(tables.identity, "m1", draw=lambda: "h")
    assert await KnownEngine(tables).read() == EngineRecord(host="h")
    known = KnownEngine(tables)
    await asyncio.gather(
        known.remember_label("local"), known.remember_quirks("28.5.2", live_restore=True), known.remember_id("E1")
    )
    expected = EngineRecord(host="h", id="E1", label="local", version="28.5.2", live_restore=True)
    assert await KnownEngine(tables).read() == expected


async def test_a_state_file_of_an_earlier_driver_is_read(tables: Tables) -> None:
    """Its row of the identity has it all, and keeps it: the earlier driver may be started again."""
    await tables.identity.put(OLD, "this")
    expected = EngineRecord(host="h", id="E1", label="global", version="28.0", live_restore=True)
    assert await KnownEngine(tables).read() == expected
    await KnownEngine(tables).remember_quirks("29.7", live_restore=True)
    assert await KnownEngine(tables).read() == msgspec.structs.replace(expected, version="29.7")
    await load_identity(tables.identity, "m1")
    row = await tables.identity.get("this")
    assert row is not None
    assert row.record == OLD


async def test_a_copied_state_folder_has_not_met_its_engine(tables: Tables) -> None:
    """The original's row is about another engine; then this host's own is remembered."""
    await tables.identity.put(OLD, "this")
    await KnownEngine(tables).remember_id("E2")
    await load_identity(tables.identity, "m2", draw=lambda: "copy")
    assert await KnownEngine(tables).read() == EngineRecord(host="copy")
    await KnownEngine(tables).remember_id("E3")
    assert await KnownEngine(tables).read() == EngineRecord(host="copy", id="E3")
