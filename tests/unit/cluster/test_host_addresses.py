"""What hosts tell each other of their own addresses, and of static ones that are remembered."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import cast

import msgspec
import pytest

from macvlan_global.cluster.heartbeat import Heartbeat, HostSummary, Member
from macvlan_global.cluster.host_addresses import HostAddressExchange
from macvlan_global.ipam.avoided import Avoided, OnHost
from macvlan_global.ipam.avoided_tables import AvoidedTables
from macvlan_global.store.follow_groups import LINGER_SECONDS
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch, ClusterStore, Entry
from macvlan_global.store.records import HostAddress, RememberedRecord, StaticAddressRecord
from macvlan_global.store.table import AVOIDED, Tables
from testkit.fake_clock import FakeClock
from testkit.faults import FaultyStore

pytestmark = pytest.mark.virtual_time

OWN = HostAddress(address="10.0.0.5", link="eth0")
FIVE = ip_address("10.0.0.5")


class Host:
    """One host's exchange. `own` is what its kernel says."""

    def __init__(self, store: MemoryStore, name: str, way: FaultyStore | None = None) -> None:
        """Nothing runs. Its `way` to the store is a client by default."""
        client = cast("ClusterStore", way) if way else store.client()
        self.tables = Tables(client, client)
        self.avoided = Avoided()
        self.own: tuple[HostAddress, ...] = ()

        async def facts() -> HostSummary:
            return HostSummary()

        async def own() -> tuple[HostAddress, ...]:
            return self.own

        self.heartbeat = Heartbeat(client, self.tables, Member(name, name, "boot1", "run1"), facts)
        self.followed = AvoidedTables(self.tables, self.avoided, name, shared=True, now=FakeClock())
        self.exchange = HostAddressExchange(client, self.tables, self.heartbeat, self.followed, own)


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(300):
        if holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it never came to be")


async def _hear(known: list[OnHost], host: Host) -> None:
    await _until(lambda: host.avoided.on_hosts(FIVE) == known)


def _batch(entry: Entry | None = None, gone: str = "") -> Batch:
    return Batch(False, (entry,) if entry else (), (gone,) if gone else ())


async def test_addresses_are_told_when_they_change_and_followed() -> None:
    """Those that come, and those that go; a host's own come from its kernel, whatever somebody wrote."""
    store = MemoryStore()
    one, other = Host(store, "a"), Host(store, "b")
    await other.heartbeat.announce()
    tasks = [asyncio.ensure_future(each.exchange.run()) for each in (one, other)]
    other.own = (OWN,)
    await _hear([OnHost("b", "eth0")], one)
    assert other.avoided.on_hosts(FIVE) == []
    other.own = (msgspec.structs.replace(OWN, link="eth1"),)
    await _hear([OnHost("b", "eth1")], one)
    other.own = ()
    await _hear([], one)
    for task in tasks:
        task.cancel()


async def test_a_row_that_the_store_lost_or_somebody_changed_is_written_again() -> None:
    """An older copy of the store was put back."""
    store = MemoryStore()
    host = Host(store, "a")
    host.own = (OWN,)
    await host.heartbeat.announce()
    task = asyncio.ensure_future(host.exchange.run())
    table = Tables(store, store).host_addresses
    for number in range(3):
        for _ in range(300):
            row = await table.get("a")
            if row and row.record.addresses == [OWN]:
                break
            await asyncio.sleep(0.1)
        row = await table.get("a")
        assert row
        assert row.record.addresses == [OWN]
        if number:
            await table.delete(row)
        else:
            await table.replace(row, msgspec.structs.replace(row.record, addresses=[]))
    task.cancel()


async def test_names_are_followed_by_network() -> None:
    """Those of networks that containers of the host are on, and for a minute after the last one."""
    store = MemoryStore()
    host = Host(store, "a")
    names = host.followed.names
    table = Tables(store, store).remembered

    def known() -> list[str]:
        return [each.name for each in names.rows()]

    for network, name, last in (("n1", "web", 1), ("n2", "db", 2)):
        record = RememberedRecord(network=network, name=name, space="s", address=f"10.0.0.{last}", host="z", at=0)
        await table.create(record, network, name)
    task = asyncio.ensure_future(host.exchange.run())
    assert not names.is_read
    host.exchange.want(["n1"])
    await _until(lambda: known() == ["web"])
    assert names.is_read
    host.exchange.want(["n1", "n2"])
    assert not names.is_read
    await _until(lambda: known() == ["web", "db"])
    row = await table.get("n1", "web")
    assert row
    await table.replace(row, msgspec.structs.replace(row.record, at=5))
    await _until(lambda: known() == ["db", "web"])
    host.exchange.want(["n2"])
    await asyncio.sleep(LINGER_SECONDS - 5)
    assert known() == ["db", "web"]
    await _until(lambda: known() == ["db"])
    assert not names.has_read("n1")
    task.cancel()


async def test_who_is_not_in_the_cluster_tells_nothing() -> None:
    """It may be a copy of another host, under whose id it would write."""
    host = Host(MemoryStore(), "a")
    host.own = (OWN,)
    await host.exchange.publish()
    assert await host.tables.host_addresses.scan() == []
    await host.heartbeat.announce()
    await host.exchange.publish()
    assert [row.record.addresses for row in await host.tables.host_addresses.scan()] == [[OWN]]


async def test_anybody_may_write_there() -> None:
    """What is no address, or under another key, is left alone, and what goes again never was there."""
    host = Host(MemoryStore(), "a")
    store, followers = host.exchange._followers[0]._store, host.exchange._followers
    for key in (
        "avoided/hosts/b",
        "avoided/hosts/",
        "avoided/static/x/y",
        "avoided/static/x",
        "avoided/other",
        "avoided/",
    ):
        for value in (
            b"",
            b"{}",
            b'{"id":"b","name":"b","addresses":[{"address":"x","link":"y"}],"at":0}',
            b"[" * 100_000,
        ):
            entry = await store.create(key, value)
            assert entry
            for each in followers:
                await each._take(_batch(entry=entry))
            await store.delete(entry)
            for each in followers:
                await each._take(_batch(gone=key))
    assert host.avoided.on_hosts(FIVE) == []


async def test_a_static_address_is_known_on_every_host() -> None:
    """As soon as it is remembered, until it is not."""
    store = MemoryStore()
    one, other = Host(store, "a"), Host(store, "b")
    task = asyncio.ensure_future(one.exchange.run())
    record = StaticAddressRecord(space="s", address="10.0.0.5", host="b", at=0)
    row = await other.tables.static_addresses.create(record, "s", "10.0.0.5")
    assert row
    await _until(lambda: int(FIVE) in one.avoided.static("s", 4))
    await other.tables.static_addresses.delete(row)
    await _until(lambda: not one.avoided.static("s", 4))
    task.cancel()
    assert one.avoided.on_hosts(FIVE) == []


async def test_a_row_that_an_older_copy_of_the_store_does_not_have_is_written_again() -> None:
    """The whole of the store is told anew, without it."""
    store = MemoryStore()
    host = Host(store, "a")
    await host.heartbeat.announce()
    before = store.save()
    host.own = (OWN,)
    task = asyncio.ensure_future(host.exchange.run())
    table = Tables(store, store).host_addresses
    for restored in (False, True):
        if restored:
            store.restore(before)
            assert await table.get("a") is None
        for _ in range(300):
            if row := await table.get("a"):
                break
            await asyncio.sleep(0.1)
        assert row
        assert row.record.addresses == [OWN]
    task.cancel()


class Late(FaultyStore):
    """A way to a store whose answers to what was created come when they are `let`."""

    def __init__(self, store: MemoryStore) -> None:
        """They are not."""
        super().__init__(store)
        self.let, self.asked = asyncio.Event(), asyncio.Event()

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        made = await super().create(key, value)
        if key.startswith(AVOIDED):
            self.asked.set()
            await self.let.wait()
        return made


async def test_a_row_that_is_lost_while_it_is_written_is_written_again() -> None:
    """The store was restored meanwhile: its answer says that the row was written, and it is not there any more."""
    store = MemoryStore()
    way = Late(store.client())
    host = Host(store, "a", way)
    host.own = (OWN,)
    await host.heartbeat.announce()
    task = asyncio.ensure_future(host.exchange.run())
    await way.asked.wait()
    table = Tables(store, store).host_addresses
    await table.drop("a")
    await asyncio.sleep(1)
    way.let.set()
    await asyncio.sleep(60)
    row = await table.get("a")
    assert row
    assert row.record.addresses == [OWN]
    task.cancel()
