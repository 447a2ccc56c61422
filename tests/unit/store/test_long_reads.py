"""Many records are decoded some at a time: meanwhile requests of the engine are answered, and nobody sees a part."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from macvlan_global.cluster.host_list import read_host_list
from macvlan_global.ipam.avoided import Avoided
from macvlan_global.ipam.avoided_tables import AvoidedTables
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.store.address_keys import padded
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch, Entry
from macvlan_global.store.records import (
    AddressRecord,
    AliveRecord,
    DefinitionRecord,
    RemovedRecord,
    StaticAddressRecord,
)
from macvlan_global.store.table import AT_ONCE, Tables

MANY = 4 * AT_ONCE


@pytest.fixture
async def tables() -> Tables:
    """A store with many addresses, and as many tombstones that cannot be read."""
    store = MemoryStore()
    for number in range(MANY):
        address = f"10.8.{number // 250}.{number % 250 + 1}"
        record = AddressRecord(
            space="s", subnet="10.8.0.0/16", address=address, kind="reserved", host="h", incarnation="r", at=0
        )
        await store.create(f"addresses/s/{padded(address)}", msgspec.json.encode(record))
        await store.create(f"removed/{number}", b"{}")
        alive = AliveRecord(id=f"{number}", name="a", boot="b", incarnation="r", at=0)
        lease = await store.lease(60)
        await store.create_with(lease, f"alive/{number}", msgspec.json.encode(alive))
    return Tables(store, MemoryStore())


@contextlib.asynccontextmanager
async def others(look: Callable[[], object] = lambda: None) -> AsyncIterator[list[object]]:
    """Another task of the event loop; what it saw at each of its turns."""
    seen: list[object] = []

    async def turn() -> None:
        while True:
            seen.append(look())
            await asyncio.sleep(0)

    other = asyncio.ensure_future(turn())
    yield seen
    other.cancel()


@pytest.mark.parametrize(
    "read",
    [
        lambda tables: tables.addresses.scan(),
        lambda tables: tables.removed.scan(),
        lambda tables: tables.unreadable(),
        read_host_list,
    ],
    ids=["scan", "scan of what cannot be read", "unreadable", "hosts"],
)
async def test_others_have_their_turn_during_a_long_read(
    tables: Tables, read: Callable[[Tables], Awaitable[object]]
) -> None:
    """A turn for each five hundred records."""
    async with others() as turns:
        await read(tables)
    assert len(turns) >= MANY // AT_ONCE


async def test_nobody_sees_a_part_of_a_mirrored_table() -> None:
    """A name that is not there yet would look like one whose definition was lost."""
    store = MemoryStore()
    tables = Tables(store, MemoryStore())
    for number in range(MANY):
        record = DefinitionRecord(id=f"{number:x}", name=f"n{number}", host="h", at=0)
        await tables.definitions.create(record, record.name)
    resynced = asyncio.Event()
    mirror = MirroredTable(store, tables.definitions, lambda _: None, resynced.set)
    async with others(lambda: len(mirror.rows)) as seen:
        running = asyncio.ensure_future(mirror.run())
        await resynced.wait()
        running.cancel()
    assert set(seen) <= {0, MANY}
    assert len(seen) >= MANY // AT_ONCE


async def test_nobody_sees_a_part_of_what_is_remembered() -> None:
    """An address that is not remembered yet would be given to anybody."""
    avoided = Avoided()
    tables = AvoidedTables(Tables(MemoryStore(), MemoryStore()), avoided, "h")
    entries = []
    for number in range(MANY):
        record = StaticAddressRecord(space="s", address=f"10.8.{number // 250}.{number % 250 + 1}", host="h", at=0)
        value = msgspec.json.encode(record)
        entries.append(Entry(f"avoided/static/s/{padded(record.address)}", value, number, leased=False))
    async with others(lambda: len(avoided.all_static())) as seen:
        await tables.take(Batch(True, tuple(entries)))
    assert set(seen) <= {0, MANY}
    assert len(seen) >= MANY // AT_ONCE


async def test_an_overwritten_tombstone_is_unreadable_however_many_there_are(tables: Tables) -> None:
    """Each of them is named."""
    await tables.removed.create(RemovedRecord(id="ab", name="lan", host="h", at=0), "ab")
    assert len(await tables.removed.unreadable()) == MANY
