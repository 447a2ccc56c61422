"""The resolver: any bytes get a reply or none, and the table is what a plain model says after any changes."""

import random
import struct

import dns.message
import dns.rcode
from hypothesis import given, settings
from hypothesis import strategies as st

from macvlan_global.dns.resolvconf.text import add_block, remove_block
from macvlan_global.dns.resolver.answer import PAYLOAD
from macvlan_global.dns.resolver.names import NameTable, canonical, group_of, row_key, to_wire
from macvlan_global.store.records import NameRecord
from tests.property.examples import examples
from tests.unit.dns.names import knowing, question, record

NAMES = ["web", "WEB", "db", "a.lan", "x" * 63, "", "lan"]
ASKED = [
    "web",
    "Web.lan",
    "web.wan",
    "a.lan",
    "a.lan.lan",
    "db",
    "1.0.65.10.in-addr.arpa",
    "_80._tcp.web",
    "nobody",
    ".",
]
CACHE = knowing(
    *(record(number, "web", "db", ipv6=True, ports=(80,)) for number in range(1, 41)), record(50, "one", network="wan")
)
QUERIES = st.builds(
    lambda name, kind, edns, payload, more: question(name, kind, use_edns=edns, payload=payload) + more,
    st.sampled_from([*ASKED, "one"]),
    st.sampled_from(["A", "AAAA", "PTR", "SRV", "ANY", "TXT", "NS", "IXFR"]),
    st.sampled_from([-1, 0, 1]),
    st.integers(0, 65535),
    st.binary(max_size=3),
)


def _mutated(query: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(query)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed[: len(changed) - cut])


NEARLY_QUERIES = st.builds(
    _mutated, QUERIES, st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4), st.integers(0, 8)
)


@settings(max_examples=examples(1500))
@given(st.binary(max_size=80) | QUERIES | NEARLY_QUERIES, st.booleans())
def test_any_bytes_get_a_reply_that_fits_or_none(query: bytes, udp: bool) -> None:
    """With the query's id and the mark of a reply, within bounds, readable, and never "no such name"."""
    for _ in range(2):
        reply = CACHE.respond(query, udp=udp)
        if len(query) < 12 or query[2] & 0x80:
            assert reply is None
            return
        assert reply is not None
        assert (reply[:2], reply[2] & 0x80) == (query[:2], 0x80)
        assert len(reply) <= (PAYLOAD if udp else 65535)
        assert dns.message.from_wire(reply).rcode() != dns.rcode.NXDOMAIN


@given(st.binary(min_size=12, max_size=80))
def test_replies_are_never_answered(query: bytes) -> None:
    """Two resolvers do not talk to each other for ever."""
    reply = CACHE.respond(query, udp=True)
    assert reply is None or CACHE.respond(reply, udp=True) is None


RECORDS = st.builds(
    lambda number, names, network: record(number, *names, network=network),
    st.integers(1, 5),
    st.lists(st.sampled_from(NAMES), max_size=3),
    st.sampled_from(["lan", "wan", "lan.lan"]),
)
CHANGES = st.lists(st.tuples(st.integers(0, 3), st.none() | RECORDS), max_size=12)


def _key(slot: int, each: NameRecord | None) -> str:
    """A key with the network of its record, as all have; an end is one on the first network."""
    return f"names/{each.network if each else 'lan' * 8}/h/{slot}"


def _model(records: dict[str, NameRecord], asked: str) -> set[str]:
    """The keys of those whom a name leads to, the slow way."""
    wanted = canonical(asked.encode())
    found = set()
    for key, each in records.items():
        names = {canonical(name) for text in each.names if (name := to_wire(text))}
        if wanted in names | {name + b"." + each.network_name.encode() for name in names}:
            found.add(key)
    return found


@given(CHANGES)
def test_the_table_is_what_a_plain_model_says(changes: list[tuple[int, NameRecord | None]]) -> None:
    """After any changes, and each change tells every name whose answer it changed."""
    table, records = NameTable(), dict[str, NameRecord]()
    for slot, each in changes:
        key = _key(slot, each)
        before = {name: table.lookup(name.encode()) for name in ASKED}
        if each is None:
            records.pop(key, None)
            touched = table.remove(group_of(key), row_key(key))
        else:
            records[key] = each
            touched = table.put(key, each)
        for name in ASKED:
            found = table.lookup(name.encode())
            assert {row.key for row in found.rows} == set(map(row_key, _model(records, name.removeprefix("_80._tcp."))))
            assert found == before[name] or found.name in touched
    for key in list(records):
        table.remove(group_of(key), row_key(key))
    assert table == NameTable()


@given(st.lists(st.sampled_from(["web", "db", "elsewhere"]), min_size=1, max_size=8), CHANGES, st.integers())
def test_kept_answers_are_those_that_would_be_made(
    asked: list[str], changes: list[tuple[int, NameRecord | None]], seed: int
) -> None:
    """In any order of questions and changes: what is ready says the same as a resolver that keeps nothing."""
    order = random.Random(seed)  # noqa: S311
    cache = knowing()
    records: dict[str, NameRecord] = {}
    for slot, each in changes:
        key = _key(slot, each)
        if each is None:
            records.pop(key, None)
            cache.update(deleted=[key])
        else:
            records[key] = each
            cache.update(put=[(key, each)])
        for name in order.choices(asked, k=2):
            query = question(name)
            cache.respond(query, udp=True)
            fresh = knowing(*())
            fresh.update(put=records.items())
            made = dns.message.from_wire(fresh.respond(query, udp=True) or b"")
            kept = dns.message.from_wire(query[:2] + cache.templates[query[2:]]())
            assert kept == made
            assert struct.unpack_from("!H", query)[0] == kept.id


@given(st.text(max_size=200), st.sampled_from(["127.0.0.153", "::1"]))
def test_resolv_conf_comes_back_whatever_it_was(text: str, address: str) -> None:
    """Put in and taken out is as it was, but for a text that has our own marks."""
    assert remove_block(add_block(text, address), "f")[0] == text
