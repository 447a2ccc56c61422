"""Publishing a host's names, and making good for missed events."""

import asyncio
from collections.abc import Iterable

import msgspec

from macvlan_global.dns.publish.published import EMPTY_SECONDS
from macvlan_global.dns.publish.publisher import NamedEndpoint, Publisher, ReadNames, container_names, name_records
from macvlan_global.errors import Unavailable
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import NameRecord, NetworkRecord, PortRecord
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock
from testkit.faults import Faults, FaultyStore
from tests.unit.dns.names import key, put, record, until

LAN = record(1).network
OTHERS = msgspec.structs.replace(record(9, "other"), host="h2")


def _tables(store: MemoryStore, faults: Faults | None = None) -> Tables:
    return Tables(FaultyStore(store, faults), MemoryStore())


async def _names(store: MemoryStore) -> dict[str, str]:
    rows = [row.record for row in await Tables(store, store).names.scan()]
    return {each.endpoint[-2:]: each.names[0] for each in rows if each.host == "h1"}


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
    publisher = Publisher(_tables(store), "h1")
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
    others = await Tables(store, store).names.put(OTHERS, LAN, "h2", OTHERS.endpoint)
    publisher = Publisher(_tables(store), "h1")
    await publisher.publish([record(1, "same"), record(2, "old"), record(3, "surplus")])
    same = await store.get(key(record(1)))
    assert publisher.due, "a driver that starts does not know what happened before"
    await publisher.compare(_read(record(1, "same"), record(2, "new"), record(4, "missing")))
    assert not publisher.due
    assert await _names(store) == {"01": "same", "02": "new", "04": "missing"}
    assert await store.get(key(record(1))) == same
    assert await store.get(others.entry.key) == others.entry


async def test_a_store_that_is_away_is_no_error_but_a_comparison_to_make() -> None:
    """Any step may fail, before or after the write was done: events raise nothing, and a comparison makes it good."""
    for at in range(1, 8):
        for after in (False, True):
            store, faults = MemoryStore(), Faults()
            publisher = Publisher(_tables(store, faults), "h1")
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
    publisher = Publisher(_tables(store), "h1")
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
    publisher = Publisher(_tables(store), "h1")
    await asyncio.gather(publisher.publish([record(1, "web")]), publisher.withdraw(record(1).endpoint))
    assert await _names(store) == {}


async def test_what_is_said_again_is_not_written_again() -> None:
    """A container that starts is heard of several times. What changed, and what comes after an end, is written."""
    store = MemoryStore()
    publisher = Publisher(_tables(store), "h1")
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
    publisher = Publisher(_tables(store, faults), "h1")
    running = asyncio.ensure_future(publisher.run(_read(record(1, "web")), retry=0.01))
    await until(lambda: not publisher.due)
    assert await _names(store) == {"01": "web"}
    await store.delete((await store.scan("names/"))[0])
    publisher.resync()
    await until(lambda: not publisher.due)
    assert await _names(store) == {"01": "web"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _on(network: str, number: int, name: str) -> NameRecord:
    return record(number, name, network=network)


async def test_names_of_an_earlier_run_are_found_without_reading_those_of_the_cluster() -> None:
    """Its networks are in this host's own state. What other hosts have there, and on other networks, is not read."""
    store, local, faults = MemoryStore(), MemoryStore(), Faults()
    earlier = Publisher(Tables(store, local), "h1")
    await earlier.publish([_on("lan", 1, "stays"), _on("lan", 2, "ends"), _on("wan", 3, "ends too")])
    await Tables(store, local).names.put(OTHERS, LAN, "h2", OTHERS.endpoint)
    tables = Tables(FaultyStore(store, faults), local)
    await Publisher(tables, "h1").compare(_read(_on("lan", 1, "stays"), _on("new", 4, "new")))
    assert await _names(store) == {"01": "stays", "04": "new"}
    assert await store.get(f"names/{LAN}/h2/{OTHERS.endpoint}")
    read = {each for each in faults.taken if each.startswith("scan")}
    assert read == {f"scan names/{network * 8}/h1/" for network in ("lan", "new", "wan")}


async def test_names_that_a_clone_left_go_though_this_host_never_wrote_there() -> None:
    """The clone was this host for a while, and its list of networks went with it. So a comparison looks below all
    networks here: at a start, and again when one is requested."""
    store, local = MemoryStore(), MemoryStore()
    tables = Tables(store, local)
    network = NetworkRecord(id="here", cluster=8 * "n1", given={}, at=0)
    await tables.networks.create(network, network.id)
    publisher = Publisher(tables, "h1")
    for _ in range(2):
        await Publisher(Tables(store, MemoryStore()), "h1").publish([_on("n1", 1, "clone")])
        assert await _names(store)
        assert await _compared(publisher)
        assert await _names(store) == {}
        publisher.resync()


async def _published(local: MemoryStore) -> set[str]:
    return {row.record.network[:3] for row in await Tables(local, local).published.scan()}


async def test_a_network_is_known_before_its_first_name_and_for_a_day_after_the_last() -> None:
    """A write without an answer may arrive late, and a store that is restored has withdrawn names again."""
    store, local, faults, clock = MemoryStore(), MemoryStore(), Faults(), FakeClock(0)
    publisher = Publisher(Tables(FaultyStore(store, faults), local), "h1", steady=clock)
    faults.arm(1)
    assert not await publisher.publish([_on("lan", 1, "lost")])
    assert await _published(local) == {"lan"}
    faults.arm(0)
    await publisher.compare(_read(_on("wan", 2, "web")))
    clock.advance(EMPTY_SECONDS - 1)
    await publisher.compare(_read(_on("wan", 2, "web")))
    assert await _published(local) == {"lan", "wan"}
    await put(Tables(store, local).names, _on("lan", 1, "late"))
    await publisher.compare(_read(_on("wan", 2, "web")))
    assert await _names(store) == {"02": "web"}
    clock.advance(2)
    await publisher.compare(_read(_on("wan", 2, "web")))
    assert await _published(local) == {"wan"}


async def test_a_network_where_a_name_is_written_again_stays_known() -> None:
    """The day begins anew, also if that name is written while it is over."""
    store, local, clock = MemoryStore(), MemoryStore(), FakeClock(0)
    publisher = Publisher(Tables(store, FaultyStore(local)), "h1", steady=clock)
    await publisher.publish([_on("lan", 1, "web")])
    await publisher.compare(_read())
    clock.advance(EMPTY_SECONDS + 1)
    await asyncio.gather(publisher.compare(_read()), publisher.publish([_on("lan", 2, "new")]))
    assert (await _published(local), await _names(store)) == ({"lan"}, {"02": "new"})
    await publisher.compare(_read())
    clock.advance(EMPTY_SECONDS - 1)
    await publisher.compare(_read())
    assert await _published(local) == {"lan"}


async def test_a_name_of_an_earlier_run_is_withdrawn_before_anything_is_compared() -> None:
    """Its network is looked for among those where this host has names."""
    store, local = MemoryStore(), MemoryStore()
    await Publisher(Tables(store, local), "h1").publish([_on("lan", 1, "web"), _on("wan", 2, "db")])
    assert await Publisher(Tables(store, local), "h1").withdraw(_on("wan", 2, "db").endpoint)
    assert await _names(store) == {"01": "web"}


async def test_a_network_that_gets_another_id_takes_its_names_along() -> None:
    """As when a host takes over the definition of the cluster: no name stays below the old id."""
    store = MemoryStore()
    publisher = Publisher(_tables(store), "h1")
    await publisher.publish([_on("old", 1, "web"), _on("old", 2, "db")])
    await publisher.publish([_on("new", 1, "web")])
    assert sorted(each.key[:13] for each in await store.scan("names/")) == ["names/newnewn", "names/oldoldo"]
    await publisher.compare(_read(_on("new", 1, "web"), _on("new", 2, "db")))
    assert [each.key[:13] for each in await store.scan("names/")] == ["names/newnewn"] * 2
