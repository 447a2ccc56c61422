"""Keys of hosts that somebody wrote by hand."""

import pytest

from macvlan_global.cluster.heartbeat import Heartbeat, HostSummary, Member
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables

OWN = "a" * 32


async def _facts() -> HostSummary:
    return HostSummary()


@pytest.mark.parametrize("value", [b"", b"junk", b'{"id":"x"}'])
async def test_junk_at_our_own_key_goes(value: bytes) -> None:
    """It has no lease: left there it would keep this host out, and show it alive for ever."""
    store = MemoryStore()
    tables = Tables(store, store)
    await store.create(f"alive/{OWN}", value)
    heartbeat = Heartbeat(store, tables, Member(OWN, "anna", "boot1", "run1"), _facts)
    await heartbeat.announce()
    assert [row.record.incarnation for row in await tables.alive.scan()] == ["run1"]
    await heartbeat.leave()
    assert await tables.alive.entries() == []
