"""From a query to its reply, as bytes. Pure: the table and the query decide it alone.

* A name that nobody has is refused, so that the asker goes on to its next server. "No such name" (NXDOMAIN) would be
  believed, and is never said.
* A name that somebody has, asked for something that it has not, is answered with nothing (NODATA), with authority:
  a resolver would take an answer of nothing without authority for a referral, and go on.
* Nothing is known before the store was read: every name then is a failure of the server (SERVFAIL), and the asker goes
  on, too.
* Whatever bytes come in, a reply or None (no reply) comes out. Queries of which no reply can be made are: those too
  short to have an id, and replies, which would go back and forth for ever.
"""

import itertools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.rdata import Rdata
from dns.rdtypes.ANY import PTR
from dns.rdtypes.IN import AAAA, SRV, A

from macvlan_global.dns.resolver.names import Found, NameRow, NameTable

PAYLOAD = 1232
"""The largest reply over UDP: what passes every link unfragmented (the size that DNS software agreed on in 2020)."""
LONGEST_QUERY = 2048
MOST_RECORDS = 256
"""How many of one name are told at most."""
MOST_OVER_TCP = 65535

_HEADER = 12
_CLASSES = {dns.rdataclass.IN, dns.rdataclass.ANY}
_TRANSFERS = range(249, 255)  # TKEY, TSIG, IXFR, AXFR, MAILB, MAILA: not questions about a name
_FIXED_SIZE = {dns.rdatatype.A: 16, dns.rdatatype.AAAA: 28}
"""Bytes of a record whose owner is a pointer to the question."""

_Factory = Callable[..., Rdata]
_A: _Factory = A.A
_AAAA: _Factory = AAAA.AAAA
_PTR: _Factory = PTR.PTR
_SRV: _Factory = SRV.SRV

_MALFORMED = (dns.exception.DNSException, ValueError, struct.error, IndexError)

Maker = Callable[[], bytes]
"""Gives a reply without its id; each call gives the next one, if replies take turns."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a query is answered with for as long as nothing changes about `name`.

    `keep` says that equal queries may get it, too.
    """

    make: Maker
    name: bytes = b""
    ours: bool = False
    keep: bool = False


def prepare(table: NameTable, query: bytes, *, ttl: int, udp: bool) -> Prepared | None:
    """The reply to a query; None if there is none. `ttl` in seconds is how long the asker may keep it."""
    if len(query) < _HEADER or query[2] & 0x80:
        return None
    if query[2] & 0x78:
        return _bare(query, dns.rcode.NOTIMP)
    if len(query) >= LONGEST_QUERY:
        return _bare(query, dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(query)
    except _MALFORMED:
        return _bare(query, dns.rcode.FORMERR)
    if len(message.question) != 1:
        return _bare(query, dns.rcode.FORMERR)
    return _answered(table, message, ttl, _room(message, udp=udp))


def _bare(query: bytes, code: int) -> Prepared:
    """A header and nothing else, for a query whose question cannot be told."""
    flags = 0x8000 | (query[2] & 0x79) << 8 | code
    return Prepared(itertools.repeat(struct.pack("!HHHHH", flags, 0, 0, 0, 0)).__next__)


def _room(message: dns.message.Message, *, udp: bool) -> int:
    if not udp:
        return MOST_OVER_TCP
    return min(max(message.payload, 512), PAYLOAD) if message.edns >= 0 else 512


def _answered(table: NameTable, message: dns.message.Message, ttl: int, room: int) -> Prepared:
    reply = dns.message.make_response(message, our_payload=PAYLOAD)
    if message.edns >= 0:
        reply.ednsflags = (reply.ednsflags & ~dns.flags.DO) | (message.ednsflags & dns.flags.DO)
    question = message.question[0]
    if message.edns > 0:
        reply.set_rcode(dns.rcode.BADVERS)
        return Prepared(_maker(reply, room))
    if question.rdclass not in _CLASSES or question.rdtype in _TRANSFERS:
        reply.set_rcode(dns.rcode.REFUSED)
        return Prepared(_maker(reply, room))
    if not table.known:
        reply.set_rcode(dns.rcode.SERVFAIL)
        return Prepared(_maker(reply, room))
    found = table.find(_text(question.name))
    if found.ours:
        reply.flags |= dns.flags.AA
        _fill(reply, found, ttl)
    else:
        reply.set_rcode(dns.rcode.REFUSED)
    return Prepared(_maker(reply, room), found.key, found.ours, keep=not message.options)


def _text(name: dns.name.Name) -> bytes:
    """The name with dots between labels; b"" for one that no container can have."""
    labels = name.labels[:-1]
    return b"" if any(b"." in label for label in labels) else b".".join(labels)


def _fill(reply: dns.message.Message, found: Found, ttl: int) -> None:
    """Put in what the name has of what was asked for."""
    question = reply.question[0]
    rows = found.rows[:MOST_RECORDS] if found.port is None else ()
    kinds = {
        dns.rdatatype.A: [_a(row) for row in rows if row.address],
        dns.rdatatype.AAAA: [_aaaa(row) for row in rows if row.address6],
        dns.rdatatype.PTR: [_ptr(row) for row in found.reverse[:MOST_RECORDS] if found.port is None],
    }
    if found.port is not None:
        having = [row for row in found.rows if found.port in row.ports][:MOST_RECORDS]
        kinds[dns.rdatatype.SRV] = [_srv(row, found.port[0]) for row in having]
        if question.rdtype == dns.rdatatype.SRV:
            for row in having:
                _add_addresses(reply, row, ttl)
    wanted = kinds if question.rdtype == dns.rdatatype.ANY else {question.rdtype: kinds.get(question.rdtype, [])}
    for records in wanted.values():
        if records:
            reply.answer.append(dns.rrset.from_rdata_list(question.name, ttl, records))


def _add_addresses(reply: dns.message.Message, row: NameRow, ttl: int) -> None:
    name = _name(row.target)
    if row.address:
        reply.additional.append(dns.rrset.from_rdata(name, ttl, _a(row)))
    if row.address6:
        reply.additional.append(dns.rrset.from_rdata(name, ttl, _aaaa(row)))


def _a(row: NameRow) -> Rdata:
    return _A(dns.rdataclass.IN, dns.rdatatype.A, row.address)


def _aaaa(row: NameRow) -> Rdata:
    return _AAAA(dns.rdataclass.IN, dns.rdatatype.AAAA, row.address6)


def _ptr(row: NameRow) -> Rdata:
    return _PTR(dns.rdataclass.IN, dns.rdatatype.PTR, _name(row.full_name))


def _srv(row: NameRow, port: int) -> Rdata:
    return _SRV(dns.rdataclass.IN, dns.rdatatype.SRV, 0, 0, port, _name(row.target))


def _name(text: bytes) -> dns.name.Name:
    return dns.name.Name([*text.split(b"."), b""])


def _maker(reply: dns.message.Message, room: int) -> Maker:
    """Of a reply, its bytes without the id; several addresses take turns in being the first."""
    wire = reply.to_wire(max_size=room, prefer_truncation=True)[2:]
    answer: Sequence[dns.rrset.RRset] = reply.answer
    size = _FIXED_SIZE.get(answer[0].rdtype, 0) if len(answer) == 1 else 0
    count = struct.unpack_from("!H", wire, 4)[0]
    if size and count > 1:
        begin = _HEADER - 2 + len(reply.question[0].name.to_wire() or b"") + 4
        end = begin + count * size
        return _Turns(wire[:begin], wire[begin:end], wire[end:], size).next
    return itertools.repeat(wire).__next__


@dataclass(slots=True)
class _Turns:
    """Replies with the same records of one size, each beginning with another one."""

    head: bytes
    records: bytes
    tail: bytes
    size: int
    at: int = 0

    def next(self) -> bytes:
        at, records = self.at, self.records
        self.at = (at + self.size) % len(records)
        return b"%b%b%b%b" % (self.head, records[at:], records[:at], self.tail)
