"""From a query to its reply."""

import struct
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.update
import pytest

from macvlan_global.dns.resolver.answer import LONGEST_QUERY, MOST_RECORDS, PAYLOAD
from macvlan_global.dns.resolver.cache import ResponseCache
from testkit.brief import BRIEF
from tests.unit.dns.names import ask, knowing, question, record, texts

WEB = record(9, "web", "shop", ipv6=True, ports=(80,))
DB = record(10, "db")


@pytest.mark.parametrize(
    ("name", "kind", "answers"),
    [
        ("web", "A", ["NOERROR", "10.65.0.9"]),
        ("WEB.lan", "AAAA", ["NOERROR", "fd65::9"]),
        ("db", "AAAA", ["NOERROR"]),
        ("db", "MX", ["NOERROR"]),
        ("db", "ANY", ["NOERROR", "10.65.0.10"]),
        ("9.0.65.10.in-addr.arpa", "PTR", ["NOERROR", "web.lan."]),
        ("9.0.65.10.in-addr.arpa", "A", ["NOERROR"]),
        ("8.0.65.10.in-addr.arpa", "PTR", ["REFUSED"]),
        ("_80._tcp.shop.lan", "SRV", ["NOERROR", "0 0 80 900000000000.lan."]),
        ("_81._tcp.shop", "SRV", ["NOERROR"]),
        ("_80._udp.shop", "SRV", ["NOERROR"]),
        ("_80._tcp.shop", "A", ["NOERROR"]),
        ("_80._tcp.elsewhere", "SRV", ["REFUSED"]),
        ("elsewhere.example", "A", ["REFUSED"]),
        ("web\\.lan", "A", ["REFUSED"]),
        (".", "NS", ["REFUSED"]),
        ("db", "AXFR", ["REFUSED"]),
    ],
)
def test_questions_and_answers(name: str, kind: str, answers: list[str]) -> None:
    """Ours with what they have, foreign ones refused; never "no such name"."""
    reply = ask(knowing(WEB, DB), name, kind)
    assert texts(reply) == answers
    assert bool(reply.flags & dns.flags.AA) == (answers[0] == "NOERROR")
    assert {each.ttl for each in reply.answer} <= {5}


def test_before_the_store_was_read_every_name_fails() -> None:
    """An asker must go on to its next server, and not believe that there is no such name."""
    assert [texts(ask(ResponseCache(5), name)) for name in ("web", "elsewhere.example")] == [["SERVFAIL"]] * 2


def test_the_question_comes_back_as_it_was_asked() -> None:
    """With its case, which some askers check, and with its id."""
    query = question("wEb.LaN")
    reply = knowing(WEB).respond(query, udp=True)
    assert reply is not None
    assert (reply[:2], reply[12:25]) == (query[:2], query[12:25])


def test_several_addresses_take_turns() -> None:
    """Each is the first one in turn, and all are there each time."""
    answers = knowing(*(record(number, "web") for number in (1, 2, 3)))
    replies = [ask(answers, "web").answer[0] for _ in range(6)]
    wires = [dns.message.from_wire(answers.respond(question("web"), udp=True) or b"").answer[0] for _ in range(3)]
    assert {len(each) for each in (*replies, *wires)} == {3}
    kept = answers.templates[question("web")[2:]]
    firsts = [kept()[-48:][12:16] for _ in range(6)]
    assert sorted(firsts[:3]) == [bytes([10, 65, 0, number]) for number in (1, 2, 3)]
    assert firsts[:3] == firsts[3:]


def test_srv_brings_the_addresses_of_its_targets() -> None:
    """One record for each container that has the port, and where each is."""
    reply = ask(
        knowing(record(1, "a", "web", ports=(80,)), record(2, "b", "web", ports=(80, 443))), "_80._tcp.web", "SRV"
    )
    assert texts(reply) == ["NOERROR", f"0 0 80 1{'0' * 11}.lan.", f"0 0 80 2{'0' * 11}.lan."]
    assert sorted(data.to_text() for each in reply.additional for data in each) == ["10.65.0.1", "10.65.0.2"]


def test_edns_is_answered_with_edns() -> None:
    """Our payload, the DO bit as it was asked; no OPT for who sent none; a version that we do not know is told so."""
    answers = knowing(WEB)
    reply = ask(answers, "web", use_edns=0, payload=4096, want_dnssec=True)
    assert (reply.edns, reply.payload, bool(reply.ednsflags & dns.flags.DO)) == (0, PAYLOAD, True)
    assert ask(answers, "web").edns == -1
    assert ask(answers, "web", use_edns=1).rcode() == dns.rcode.BADVERS
    assert texts(
        ask(answers, "web", use_edns=0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")])
    )[1:] == ["10.65.0.9"]


@pytest.mark.parametrize(
    ("edns", "room"), [({}, 512), ({"use_edns": 0, "payload": 300}, 512), ({"use_edns": 0}, PAYLOAD)]
)
def test_what_does_not_fit_is_cut_over_udp_and_whole_over_tcp(edns: dict[str, Any], room: int) -> None:
    """The asker is told, and comes again over TCP."""
    answers = knowing(*(record(number, "web") for number in range(1, 101)))
    cut = answers.respond(question("web", **edns), udp=True)
    assert cut is not None
    assert len(cut) <= room
    assert cut[2] & 0x02
    assert not ask(answers, "web", udp=False, **edns).flags & dns.flags.TC
    assert len(ask(answers, "web", udp=False, **edns).answer[0]) == 100


def test_no_more_than_a_bound_is_told_of_one_name() -> None:
    """A reply has room for it, however many containers share the name."""
    answers = knowing(
        *(record(number, "web", ports=(80,)) for number in range(1, MOST_RECORDS + (100 if BRIEF else 4000)))
    )
    assert len(ask(answers, "web", udp=False).answer[0]) == MOST_RECORDS
    assert len(ask(answers, "_80._tcp.web", "SRV", udp=False).answer[0]) == MOST_RECORDS


@pytest.mark.parametrize("query", [b"", b"\0" * 11, struct.pack("!6H", 1, 0x8000, 1, 0, 0, 0) + b"\x03web\0\0\1\0\1"])
def test_no_reply_to_what_cannot_have_one(query: bytes) -> None:
    """Too short for an id, or itself a reply."""
    assert knowing(WEB).respond(query, udp=True) is None


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (struct.pack("!6H", 7, 0x0100, 0, 0, 0, 0), dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0x0100, 2, 0, 0, 0) + b"\x03web\0\0\1\0\1" * 2, dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\x03we", dns.rcode.FORMERR),
        (struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
        (question("web") + b"junk", dns.rcode.FORMERR),
        (question("web") + b"\0" * LONGEST_QUERY, dns.rcode.FORMERR),
        (dns.update.UpdateMessage("lan", id=4711).to_wire(), dns.rcode.NOTIMP),
    ],
)
def test_what_is_not_a_question_is_told_so(query: bytes, code: dns.rcode.Rcode) -> None:
    """A header comes back with the id and the reason."""
    reply = knowing(WEB).respond(query, udp=True)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert (reply[:2], message.rcode(), len(reply)) == (query[:2], code, 12)


LONG = b"\x01a" * 126 + b"\0\0\1\0\1"
"""A question for a name of 126 labels."""
RP = b"\xc0\x0c" + struct.pack("!HHIH", dns.rdatatype.RP, dns.rdataclass.IN, 0, 4) + b"\xc0\x0c" * 2
"""A record with three names, each of which points to that one."""
OPT = b"\0" + struct.pack("!HHIH", dns.rdatatype.OPT, 1232, 0, 0)


@pytest.mark.parametrize(
    ("counts", "records", "code"),
    [
        ((1, 0, 0, 0), (), dns.rcode.REFUSED),
        ((1, 0, 1, 0), (RP,), dns.rcode.REFUSED),
        ((1, 0, 1, 2), (RP, OPT, RP), dns.rcode.REFUSED),
        ((1, 0, 0, 3), (OPT, RP, RP), dns.rcode.FORMERR),
        ((1, 0, 2, 0), (RP, RP), dns.rcode.FORMERR),
        ((1, 1, 0, 0), (RP,), dns.rcode.FORMERR),
        ((1, 0, 111, 0), (RP,) * 111, dns.rcode.FORMERR),
        ((1, 111, 0, 0), (RP,) * 111, dns.rcode.FORMERR),
    ],
)
def test_more_records_than_a_query_has_are_not_read(
    counts: tuple[int, int, int, int], records: tuple[bytes, ...], code: dns.rcode.Rcode
) -> None:
    """The SOA of an IXFR, OPT and TSIG are all that a query has. Many records that point to a long name, in 2 kB, cost
    the parser a second; their counts are enough to refuse it."""
    query = struct.pack("!6H", 7, 0x0100, *counts) + LONG + b"".join(records)
    assert len(query) < LONGEST_QUERY
    for udp in (True, False):
        reply = knowing(WEB).respond(query, udp=udp)
        assert reply is not None
        assert dns.message.from_wire(reply).rcode() == code


def test_an_incremental_transfer_is_refused_and_not_malformed() -> None:
    """It has a record in its authority section."""
    query = dns.message.make_query("lan", "IXFR")
    query.authority.append(dns.rrset.from_text("lan.", 0, "IN", "SOA", "a. b. 1 2 3 4 5"))
    reply = knowing(WEB).respond(query.to_wire(), udp=False)
    assert reply is not None
    assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED


def test_another_class_is_refused() -> None:
    """`version.bind` and its like are no names of containers."""
    assert ask(knowing(WEB), "web", rdclass="CH").rcode() == dns.rcode.REFUSED
