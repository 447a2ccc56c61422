"""What anybody may write below the prefix of the store, by mistake or on purpose."""

import msgspec
import pytest

from macvlan_global.errors import Internal
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import AddressRecord, AliveRecord, DefinitionRecord, PoolRecord, RemovedRecord
from macvlan_global.store.table import Tables
from testkit.cluster_rig import ClusterRig
from testkit.fake_engine import Subnet

TABLES = ("pools", "addresses", "definitions", "removed", "names", "hosts", "alive")
JUNK = {
    "text": b"not json",
    "empty": b"",
    "list": b"[]",
    "null": b"null",
    "newer": b'{"v":2,"id":{}}',
    "types": b'{"id":1,"space":[],"at":"x"}',
    "huge": b'{"id":"x","at":1e999}',
    "nan": b'{"id":"x","at":NaN}',
    "deep": b'{"x":' + b"[" * 100_000,
    "bytes": b"\xff\xfe",
    "large": b'{"name":"' + b"x" * 300_000 + b'"}',
}


async def _litter(store: MemoryStore) -> None:
    for table in TABLES:
        for name, value in JUNK.items():
            await store.create(f"{table}/{name}", value)
            await store.create(f"{table}/macvlan-global/{name} /\n//x", value)


async def test_a_driver_starts_and_works_beside_junk(caplog: pytest.LogCaptureFixture) -> None:
    """It loads, makes a network, starts a container and repairs; the junk stays, is reported, and fills no log."""
    rig = await ClusterRig.build()
    await _litter(rig.shared)
    host = await rig.host("a")
    await host.publish("lan", Subnet("10.8.0.0/24"))
    for _ in range(5):
        await host.mend()
    assert len(await host.driver.pools.all()) == 1
    assert len(await host.driver.tables.unreadable()) == 2 * len(JUNK) * len(TABLES)
    assert len(caplog.records) < 250
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
    await rig.restart("a")


async def test_what_is_under_another_key_is_not_believed() -> None:
    """A copy of a record makes no address taken, no host alive and no network removed."""
    store = MemoryStore()
    tables = Tables(store, store)
    pool = PoolRecord(space="s", subnet="10.8.0.0/24", at=-1e15)
    address = AddressRecord(
        space="s", subnet="10.8.0.0/24", address="10.8.0.9", kind="reserved", host="h", incarnation="i", at=1e15
    )
    await tables.pools.put(pool, "s", "10.9.0.0/24")
    await tables.addresses.put(address, "s", "10.8.0.5")
    await tables.definitions.put(DefinitionRecord(id="1", name="b", host="h", at=0), "a")
    await tables.removed.put(RemovedRecord(id="2", name="b", host="h", at=0), "1")
    other = msgspec.json.encode(AliveRecord(id="h2", name="n", boot="b", incarnation="i", at=0))
    await store.create_with(await store.lease(600), "alive/h1", other)
    for table in (tables.pools, tables.addresses, tables.definitions, tables.removed, tables.alive):
        assert await table.scan() == []
    assert len(await tables.unreadable()) == 5
    with pytest.raises(Internal, match="belongs under another key"):
        await tables.alive.get("h1")


@pytest.mark.parametrize(("subnet", "part"), [("10.8.0.1/24", ""), ("lan", ""), ("", ""), ("10.8.0.0/24", "fd00::/64")])
async def test_a_pool_that_is_no_subnet_does_not_stop_others(subnet: str, part: str) -> None:
    """Neither at the start, nor where a new subnet is compared with all there are."""
    rig = await ClusterRig.build()
    record = PoolRecord(space="macvlan-global", subnet=subnet, range=part, at=0)
    await Tables(rig.shared, rig.shared).pools.put(record, record.space, subnet + ("~" + part if part else ""))
    host = await rig.host("a")
    assert await host.publish("lan", Subnet("10.9.0.0/24"))


async def test_what_cannot_be_told_does_not_hold_up_what_is_behind_it() -> None:
    """A removal whose definition was overwritten waits on; the one behind it is delivered."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    await rig.shared.create("definitions/bad", b"junk")
    rig.reach(away=True)
    for name in ("bad", "good"):
        await host.outbox.remove_network(name * 8, name)
        host.clock.advance(1)
    rig.reach(away=False)
    assert await host.outbox.deliver() == 1
    assert [each.name for each in await host.outbox.waiting()] == ["bad"]
    assert {row.record.name for row in await host.driver.tables.removed.scan()} == {"bad", "good"}


async def test_a_subnet_that_somebody_asked_for_tomorrow_is_in_nobodys_way() -> None:
    """A pool of another space from a host whose clock is far ahead, or from nobody."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    junk = PoolRecord(space="other", subnet="10.8.0.0/24", host="z", at=host.clock() + 1e6)
    await Tables(rig.shared, rig.shared).pools.put(junk, "other", junk.subnet)
    assert await host.publish("lan", Subnet("10.8.0.0/24"))
