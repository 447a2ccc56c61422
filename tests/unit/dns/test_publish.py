"""Publishing a host's names, and making good for missed events."""

import asyncio
from collections.abc import Iterable

from macvlan_global.dns.publish.publisher import NamedEndpoint, Publisher, ReadNames, container_names, name_records
from macvlan_global.errors import Unavailable
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import NameRecord, PortRecord
from macvlan_global.store.table import Table, Tables
from testkit.faults import Faults, FaultyStore
from tests.unit.dns.names import record, until


def _table(store: MemoryStore, faults: Faults | None = None) -> Table[NameRecord]:
    through = FaultyStore(store, faults)
    return Tables(through, through).names


async def _names(store: MemoryStore) -> dict[str, str]:
    rows = await Tables(store, store).names.scan("h1")
    return {row.record.endpoint[-2:]: row.record.names[0] for row in rows}


def _read(*records: NameRecord) -> ReadNames:
    async def read() -> Iterable[NameRecord]:
        return records

    return read


async def _compared(publisher: Publisher, *records: NameRecord) -> bool:
    """Whether a comparison was done."""
    try:
        await publisher.compare(_read(*records))
    except Unavailable:
        assert publisher.due
        return False
    return True


def test_names_have_no_repeats() -> None:
    """The container's own first; aliases often hold the short id, and the hostname is that unless given."""
    identity = "0123456789abcdef"
    assert container_names(identity, "/web", "0123456789ab", ["Web", "shop", "0123456789ab", ""]) == [
        *("web", "shop", "0123456789ab")
    ]
    assert container_names(identity, "web", "web.example.org", []) == ["web", "0123456789ab", "web.example.org"]


def test_a_container_has_a_record_on_each_network() -> None:
    """With that network's aliases and addresses; ports are those of the container."""
    legs = [
        NamedEndpoint("n1", "lan", "e1", "10.0.0.1", "", "02:00:00:00:00:01", ("shop",)),
        NamedEndpoint("n2", "wan", "e2", "", "fd00::1"),
    ]
    ports = [PortRecord(port=443), PortRecord(port=80)]
    first, second = name_records("c" * 64, "web", "c" * 12, legs, ports, host="h1", at=3.0)
    assert (first.names, second.names) == (["web", "shop", "c" * 12], ["web", "c" * 12])
    assert (first.network_name, first.address, second.address6) == ("lan", "10.0.0.1", "fd00::1")
    assert [port.port for port in first.ports] == [80, 443]
    assert {(each.host, each.at, each.container) for each in (first, second)} == {("h1", 3.0, "c" * 64)}


async def test_published_names_are_there_and_withdrawn_ones_are_not() -> None:
    """Again and again, in any state."""
    store = MemoryStore()
    publisher = Publisher(_table(store), "h1")
    for _ in range(2):
        assert await publisher.publish([record(1, "web"), record(2, "db")])
    assert await _names(store) == {"01": "web", "02": "db"}
    assert await publisher.publish([record(1, "new")])
    for _ in range(2):
        assert await publisher.withdraw(record(2).endpoint)
    assert await _names(store) == {"01": "new"}


async def test_a_comparison_makes_good_what_was_missed_and_touches_nobody_else() -> None:
    """Missing, changed and surplus ones of this host; what says the same is not written again."""
    store = MemoryStore()
    others = await Tables(store, store).names.put(record(9, "other"), "h2", record(9).endpoint)
    publisher = Publisher(_table(store), "h1")
    await publisher.publish([record(1, "same"), record(2, "old"), record(3, "surplus")])
    same = await store.get(f"names/h1/{record(1).endpoint}")
    assert publisher.due, "a driver that starts does not know what happened before"
    await publisher.compare(_read(record(1, "same"), record(2, "new"), record(4, "missing")))
    assert not publisher.due
    assert await _names(store) == {"01": "same", "02": "new", "04": "missing"}
    assert await store.get(f"names/h1/{record(1).endpoint}") == same
    assert await store.get(others.entry.key) == others.entry


async def test_a_store_that_is_away_is_no_error_but_a_comparison_to_make() -> None:
    """Any step may fail, before or after the write was done: events raise nothing, and a comparison makes it good."""
    for at in range(1, 8):
        for after in (False, True):
            store, faults = MemoryStore(), Faults()
            publisher = Publisher(_table(store, faults), "h1")
            await publisher.publish([record(1, "old"), record(2, "gone")])
            await publisher.compare(_read(record(1, "old"), record(2, "gone")))
            faults.arm(at, after=after)
            done = await publisher.publish([record(1, "new")])
            done = await publisher.withdraw(record(2).endpoint) and done
            done = await _compared(publisher, record(1, "new")) and done
            assert done is (at > len(faults.taken) or at not in range(1, len(faults.taken) + 1)), (at, after)
            assert publisher.due or await _names(store) == {"01": "new"}
            faults.arm(0)
            await publisher.compare(_read(record(1, "new")))
            assert await _names(store) == {"01": "new"}


async def test_what_happens_during_a_comparison_is_newer_than_it() -> None:
    """A container that starts while the engine is asked is not surplus, and one that ends does not come back."""
    store = MemoryStore()
    publisher = Publisher(_table(store), "h1")
    await publisher.publish([record(2, "ends")])

    async def read() -> Iterable[NameRecord]:
        await publisher.publish([record(1, "starts")])
        await publisher.withdraw(record(2).endpoint)
        return [record(2, "ends")]

    await publisher.compare(read)
    assert await _names(store) == {"01": "starts"}


async def test_writes_about_one_endpoint_keep_their_order() -> None:
    """A name that is withdrawn while it is being published is gone in the end."""
    store = MemoryStore()
    publisher = Publisher(_table(store), "h1")
    await asyncio.gather(publisher.publish([record(1, "web")]), publisher.withdraw(record(1).endpoint))
    assert await _names(store) == {}


async def test_what_is_said_again_is_not_written_again() -> None:
    """A container that starts is heard of several times. What changed, and what comes after an end, is written."""
    store = MemoryStore()
    publisher = Publisher(_table(store), "h1")
    await publisher.publish([record(1, "web")])
    (first,) = await store.scan("names/")
    await publisher.publish([record(1, "web")])
    assert await store.scan("names/") == [first]
    await publisher.publish([record(1, "shop")])
    assert await _names(store) == {"01": "shop"}
    await publisher.withdraw(record(1).endpoint)
    await publisher.publish([record(1, "shop")])
    assert await _names(store) == {"01": "shop"}


async def test_it_compares_when_that_is_due_until_it_is_done() -> None:
    """At the start, and whenever something may have been missed; an engine that is away is asked again."""
    store, faults = MemoryStore(), Faults(1)
    publisher = Publisher(_table(store, faults), "h1")
    running = asyncio.ensure_future(publisher.run(_read(record(1, "web")), retry=0.01))
    await until(lambda: not publisher.due)
    assert await _names(store) == {"01": "web"}
    await store.delete((await store.scan("names/"))[0])
    publisher.resync()
    await until(lambda: not publisher.due)
    assert await _names(store) == {"01": "web"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
