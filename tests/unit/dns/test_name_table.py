"""Lookups of names, and the names that a change touches."""

import time
import tracemalloc

import msgspec
import pytest

from macvlan_global.dns.resolver.names import NameTable, group_of, row_key, to_wire
from macvlan_global.store.records import NameRecord
from testkit.brief import BRIEF
from tests.unit.dns.names import key, record


def _table(*records: NameRecord) -> NameTable:
    table = NameTable()
    for each in records:
        table.put(key(each), each)
    return table


def _remove(table: NameTable, each: NameRecord) -> set[bytes]:
    return table.remove(group_of(key(each)), row_key(key(each)))


def _addresses(table: NameTable, name: str) -> list[str]:
    return sorted(row.address for row in table.lookup(name.encode()).rows)


@pytest.mark.parametrize(
    "name", ["web", "WEB", "web.", "web.lan", "Web.LAN.", "shop", "shop.lan", "9" + "0" * 11, "9" + "0" * 11 + ".lan"]
)
def test_every_name_of_a_container_leads_to_it(name: str) -> None:
    """Name, alias and short id, alone or on the network, whatever the case and with or without a dot at the end."""
    assert _addresses(_table(record(9, "web", "Shop")), name) == ["10.65.0.9"]


@pytest.mark.parametrize("name", ["we", "web.lan2", "web.lan.lan", "x.web", "lan", "", ".", "web..lan", "_web", "arpa"])
def test_other_names_lead_to_nobody(name: str) -> None:
    """A name is found only as a name of an endpoint, or as that with its own network behind it."""
    table = _table(record(9, "web"), record(10, "db", network="wan"))
    assert not table.lookup(name.encode()).exists
    assert not table.lookup(b"web.wan").exists


def test_one_name_of_several_leads_to_all_of_them() -> None:
    """Across networks; with the network's name only to those on it."""
    table = _table(record(1, "a", "web"), record(2, "b", "web"), record(3, "c", "web", network="wan"))
    assert _addresses(table, "web") == ["10.65.0.1", "10.65.0.2", "10.65.0.3"]
    assert _addresses(table, "web.lan") == ["10.65.0.1", "10.65.0.2"]


def test_a_name_with_a_dot_and_a_name_on_a_network_are_both_found() -> None:
    """A container called `web.lan` and another, `web` on the network `lan`, share what both are called."""
    assert _addresses(_table(record(1, "web.lan"), record(2, "web")), "web.lan") == ["10.65.0.1", "10.65.0.2"]
    assert _addresses(_table(record(1, "web", "web.lan")), "web.lan") == ["10.65.0.1"]


def test_addresses_lead_back() -> None:
    """The reverse names of both addresses are the endpoint's; another version's text in a record is passed over."""
    table = _table(record(9, "web", ipv6=True))
    assert table.lookup(b"9.0.65.10.IN-ADDR.ARPA").reverse[0].full_name == b"web.lan"
    assert table.lookup(b"9." + b"0." * 27 + b"5.6.d.f.ip6.arpa").reverse
    assert not table.lookup(b"8.0.65.10.in-addr.arpa").exists
    broken = _table(msgspec.structs.replace(record(9, "web"), address="fd65::9"))
    assert [row.address for row in broken.lookup(b"web").rows] == [""]


def test_a_port_before_a_name_is_told_apart() -> None:
    """The rest is the name that decides; what is nearly a port is a name like any other."""
    table = _table(record(9, "web", ports=(80,)))
    found = table.lookup(b"_80._TCP.web.lan")
    assert (found.name, found.port, len(found.rows)) == (b"web.lan", (80, b"_tcp"), 1)
    assert [table.lookup(name).port for name in (b"_http._tcp.web", b"80._tcp.web", b"_80._tcp", b"_80.web")] == [
        None
    ] * 4


def test_a_change_touches_the_names_that_it_changes() -> None:
    """Old and new names, on the network too, and reverse names; nothing for a record that says the same."""
    table = _table(record(9, "Web"))
    assert table.put(key(record(9)), record(9, "Web")) == set()
    touched = table.put(key(record(9)), record(9, "db"))
    assert {b"web", b"web.lan", b"db", b"db.lan", b"9.0.65.10.in-addr.arpa"} <= touched
    assert {b"db", b"db.lan"} <= _remove(table, record(9))
    assert _remove(table, record(9)) == set()
    assert (len(table), table.lookup(b"db").exists, table.lookup(b"9.0.65.10.in-addr.arpa").exists) == (0, False, False)


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "x" * 64, ".".join(["x" * 60] * 5), "localhost", "a.localhost", "\ud800"]
)
def test_what_is_no_name_is_left_out(text: str) -> None:
    """A name that the DNS cannot carry, or that is everybody's own, does not harm its container's other names."""
    assert to_wire(text) is None
    assert _addresses(_table(record(9, text, "web")), "web") == ["10.65.0.9"]


def test_the_short_id_on_the_network_is_one_endpoints_alone() -> None:
    """It is the target of SRV records: two hosts may each have a container of one name."""
    table = _table(record(1, "web"), record(2, "web"))
    assert sorted(row.target for row in table.lookup(b"web").rows) == [
        b"1" + b"0" * 11 + b".lan",
        b"2" + b"0" * 11 + b".lan",
    ]


def test_many_records_change_as_fast_as_few() -> None:
    """One record among thousands under one name is replaced in the time that one among 40 takes, give or take."""

    def replaced(count: int) -> float:
        table = _table(*(record(number, "web") for number in range(count)))
        other = record(1, "web", "new")
        begun = time.process_time()
        for _ in range(50 if BRIEF else 200):
            table.put(key(other), other)
            table.put(key(other), record(1, "web"))
        return time.process_time() - begun

    assert replaced(1000 if BRIEF else 4000) < 10 * replaced(40) + 0.05


def test_a_container_with_four_names_takes_less_than_a_kilobyte() -> None:
    """Of Python's memory, with IPv4 and IPv6: there may be 100,000 of them on a host. Today it is 0.81 kB."""
    count = 2_000
    table = NameTable()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            each = record(number, f"web-{number}", f"shop-{number}", f"host-{number}.example", ipv6=True, ports=(80,))
            table.put(key(each), each)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / count < 1000


# ------------------------------------------------- whose name is meant


def _on(host: str, number: int, *names: str, network: str = "lan") -> NameRecord:
    return msgspec.structs.replace(record(number, *names, network=network), host=host)


def _id(network: str) -> str:
    """The id that `record` gives a network of this name."""
    return network * 8


def test_a_plain_name_is_of_the_networks_that_are_used_here() -> None:
    """Another project's `db` is none, even while this one's is down; with its network it is found from anywhere."""
    table = _table(record(1, "db", network="shop"), record(2, "db", network="blog"))
    table.networks_here = frozenset({_id("shop")})
    assert _addresses(table, "db") == ["10.65.0.1"]
    assert _addresses(table, "db.blog") == ["10.65.0.2"]
    _remove(table, record(1, "db", network="shop"))
    assert _addresses(table, "db") == []
    assert not table.lookup(b"_80._tcp.db").exists


def test_a_plain_name_of_two_projects_here_is_nobody_s() -> None:
    """The client's network is not known, and a wrong database is worse than none; each is found with its network."""
    table = _table(record(1, "db", network="shop"), record(2, "db", network="blog"))
    table.networks_here = frozenset({_id("shop"), _id("blog")})
    assert _addresses(table, "db") == []
    assert _addresses(table, "db.shop") == ["10.65.0.1"]
    assert _addresses(table, "db.blog") == ["10.65.0.2"]


def test_a_network_created_anew_is_the_removed_one_that_containers_are_on() -> None:
    """`compose down` and `up` on the other host: names there are found as before, once anybody here is known."""
    new = msgspec.structs.replace(record(1, "db", network="shop"), network="new")
    here, beside = record(2, "web", network="shop"), record(3, "db", network="blog")
    table = _table(new, beside)
    table.networks_here = frozenset({_id("shop")})
    assert _addresses(table, "db") == []
    assert b"db" in table.put(key(here), here), "an answer that was kept is another one now"
    assert _addresses(table, "db") == ["10.65.0.1"]
    old = record(4, "db", network="shop")
    table.put(key(old), old)
    assert _addresses(table, "db") == ["10.65.0.1", "10.65.0.4"]
    _remove(table, old)
    assert b"db" in _remove(table, here)
    assert _addresses(table, "db") == []


def test_a_container_on_several_networks_is_one_container() -> None:
    """Its plain name leads to all its addresses, and so does one that it shares with others of one of the networks."""
    legs = (record(1, network="front"), record(2, network="back"))
    both = [msgspec.structs.replace(each, container="c" * 64, names=["web", "c" * 12]) for each in legs]
    table = _table(*both, record(3, "web", network="front"))
    table.networks_here = frozenset({_id("front"), _id("back")})
    assert _addresses(table, "web") == ["10.65.0.1", "10.65.0.2", "10.65.0.3"]


def test_a_name_with_dots_is_a_plain_name_too() -> None:
    """A hostname such as that of a registry resolves only where its network is used."""
    table = _table(record(1, "registry.example.org", network="blog"))
    table.networks_here = frozenset({_id("shop")})
    assert _addresses(table, "registry.example.org") == []
    assert _addresses(table, "registry.example.org.blog") == ["10.65.0.1"]


@pytest.mark.parametrize("name", ["web", "web.lan", "_80._tcp.web"])
def test_hosts_that_are_gone_come_last(name: str) -> None:
    """Their containers are answered only while no living host has one of that name."""
    dead, living = _on("h1", 1, "web"), _on("h2", 2, "web")
    table = _table(dead, living)
    table.living = frozenset({"h2"})
    assert _addresses(table, name) == ["10.65.0.2"]
    _remove(table, living)
    assert _addresses(table, name) == ["10.65.0.1"]
    table.living = None
    table.put(key(living), living)
    assert _addresses(table, name) == ["10.65.0.1", "10.65.0.2"]


def test_an_address_that_moved_to_a_living_host_is_its_own() -> None:
    """Its reverse name leads to the container that runs."""
    dead, living = _on("h1", 1, "old"), msgspec.structs.replace(_on("h2", 2, "new"), address="10.65.0.1")
    table = _table(dead, living)
    table.living = frozenset({"h2"})
    assert [row.names[0] for row in table.lookup(b"1.0.65.10.in-addr.arpa").reverse] == [b"new"]


def test_a_dead_host_does_not_make_a_name_two_things() -> None:
    """The other network's container is gone, so the name means the one that lives."""
    table = _table(_on("h1", 1, "db", network="shop"), _on("h2", 2, "db", network="blog"))
    table.networks_here = frozenset({_id("shop"), _id("blog")})
    table.living = frozenset({"h2"})
    assert _addresses(table, "db") == ["10.65.0.2"]
