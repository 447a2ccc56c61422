"""Build the reply to a DNS query from the name table, bytes to bytes. Pure.

The resolver stands first in the client's resolv.conf and knows the names of containers only. So its answer codes are
chosen by what a stub resolver does next:

* **REFUSED** for a name that no endpoint has: the client asks its next server. NXDOMAIN would end the search, and is
  never sent.
* **NOERROR with an empty answer (NODATA)** for a name that exists without a record of the type asked for. The AA flag
  is set: some resolvers take an empty answer without authority for a referral, and go on.
* **SERVFAIL** for a name that nobody is known to have while names are awaited: the client asks its next server.
* **FORMERR, NOTIMP, BADVERS** for a message that is no query for one name, or an EDNS version above 0.

Any bytes give a reply, or None where none may be sent: messages too short to have an id, and replies, which two
resolvers would send each other for ever.
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

from macvlan_global.dns.resolver.names import Lookup, NameRow, NameTable

PAYLOAD = 1232
"""Largest reply over UDP in bytes: passes every link unfragmented (DNS flag day 2020)."""
LONGEST_QUERY = 2048
MOST_RECORDS = 256
"""Most records of one name in a reply."""
LARGEST_OVER_TCP = 65535

_HEADER = 12
_COUNTS = 4
"""Offset of the four counts of records in the header (RFC 1035 4.1.1)."""
_MOST_AUTHORITY = 1
"""The SOA record of an IXFR (RFC 1995)."""
_MOST_ADDITIONAL = 2
"""OPT (RFC 6891) and TSIG or SIG(0) (RFC 8945, RFC 2931)."""
_NOBODYS = b".invalid"
"""No name below it will ever come (RFC 6761): whoever asks for one wants to know whether names are there."""
_CLASSES = {dns.rdataclass.IN, dns.rdataclass.ANY}
_TRANSFERS = range(249, 255)  # TKEY, TSIG, IXFR, AXFR, MAILB, MAILA: not questions about a name
_FIXED_SIZE = {dns.rdatatype.A: 16, dns.rdatatype.AAAA: 28}
"""Bytes of a record whose owner name is a compression pointer to the question."""

_Factory = Callable[..., Rdata]
_A: _Factory = A.A
_AAAA: _Factory = AAAA.AAAA
_PTR: _Factory = PTR.PTR
_SRV: _Factory = SRV.SRV

_MALFORMED = (dns.exception.DNSException, ValueError, struct.error, IndexError)

ReplyTemplate = Callable[[], bytes]
"""Gives a reply without its two bytes of id. Each call rotates the records, if there are several."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Reply to one query, valid until the name table reports a change of `name`.

    `exists` says whether an endpoint has the name; `cacheable` that equal queries may get the same template; `early`
    that names are awaited, one of which may be this one.
    """

    template: ReplyTemplate
    name: bytes = b""
    exists: bool = False
    cacheable: bool = False
    early: bool = False


def build_reply(table: NameTable, query: bytes, *, ttl: int, udp: bool, own_only: bool = False) -> Reply | None:
    """The reply to a query, or None if none may be sent. `ttl` is that of its records, in seconds. While names are
    awaited, it tells of networks that were read, or with `own_only` of this host's own containers alone."""
    if len(query) < _HEADER or query[2] & 0x80:
        return None
    if query[2] & 0x78:
        return _bare(query, dns.rcode.NOTIMP)
    if len(query) >= LONGEST_QUERY or not _is_small(query):
        return _bare(query, dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(query)
    except _MALFORMED:
        return _bare(query, dns.rcode.FORMERR)
    return _answered(table, message, ttl, _room(message, udp=udp), own_only=own_only)


def _is_small(query: bytes) -> bool:
    """Whether a query announces one question, and no more records than one may have.

    Names in records may point to a name of 126 labels: a hundred records in 2 kB took the parser a second.
    """
    counts: tuple[int, int, int, int] = struct.unpack_from("!4H", query, _COUNTS)
    questions, answers, authority, additional = counts
    return questions == 1 and answers == 0 and authority <= _MOST_AUTHORITY and additional <= _MOST_ADDITIONAL


def _bare(query: bytes, code: int) -> Reply:
    """A header only, for a query whose question cannot be read."""
    flags = 0x8000 | (query[2] & 0x79) << 8 | code
    return Reply(itertools.repeat(struct.pack("!HHHHH", flags, 0, 0, 0, 0)).__next__)


def _room(message: dns.message.Message, *, udp: bool) -> int:
    if not udp:
        return LARGEST_OVER_TCP
    return min(max(message.payload, 512), PAYLOAD) if message.edns >= 0 else 512


def _answered(table: NameTable, message: dns.message.Message, ttl: int, room: int, *, own_only: bool) -> Reply:
    reply = dns.message.make_response(message, our_payload=PAYLOAD)
    if message.edns >= 0:
        reply.ednsflags = (reply.ednsflags & ~dns.flags.DO) | (message.ednsflags & dns.flags.DO)
    question = message.question[0]
    if message.edns > 0:
        reply.set_rcode(dns.rcode.BADVERS)
        return Reply(_template(reply, room))
    if question.rdclass not in _CLASSES or question.rdtype in _TRANSFERS:
        reply.set_rcode(dns.rcode.REFUSED)
        return Reply(_template(reply, room))
    synced, found = table.synced, table.lookup(_text(question.name))
    if not synced:
        found = table.certain(found, own_only=own_only)
    if found.exists:
        reply.flags |= dns.flags.AA
        _fill(reply, found, ttl)
    else:
        reply.set_rcode(dns.rcode.REFUSED if synced else dns.rcode.SERVFAIL)
    early = not (synced or found.exists or found.name.endswith(_NOBODYS))
    cacheable = synced and not message.options
    return Reply(_template(reply, room), found.name, found.exists, cacheable=cacheable, early=early)


def _text(name: dns.name.Name) -> bytes:
    """The name with dots between labels; b"" for one with a dot inside a label, which no container can have."""
    labels = name.labels[:-1]
    return b"" if any(b"." in label for label in labels) else b".".join(labels)


def _fill(reply: dns.message.Message, found: Lookup, ttl: int) -> None:
    """Add the records of the type asked for; with SRV records also the addresses of their targets."""
    question = reply.question[0]
    rows = found.rows[:MOST_RECORDS] if found.port is None else ()
    kinds = {
        dns.rdatatype.A: [_a(row) for row in rows if row.address],
        dns.rdatatype.AAAA: [_aaaa(row) for row in rows if row.address6],
        dns.rdatatype.PTR: [_ptr(row) for row in found.reverse[:MOST_RECORDS] if found.port is None],
    }
    if found.port is not None:
        listening = [row for row in found.rows if found.port in row.ports][:MOST_RECORDS]
        kinds[dns.rdatatype.SRV] = [_srv(row, found.port[0]) for row in listening]
        if question.rdtype == dns.rdatatype.SRV:
            for row in listening:
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


def _template(reply: dns.message.Message, room: int) -> ReplyTemplate:
    """The template of a reply of at most `room` bytes; several addresses are rotated, so that clients share them."""
    wire = reply.to_wire(max_size=room, prefer_truncation=True)[2:]
    answer: Sequence[dns.rrset.RRset] = reply.answer
    size = _FIXED_SIZE.get(answer[0].rdtype, 0) if len(answer) == 1 else 0
    count = struct.unpack_from("!H", wire, 4)[0]
    if size and count > 1:
        begin = _HEADER - 2 + len(reply.question[0].name.to_wire() or b"") + 4
        end = begin + count * size
        return _RoundRobin(wire[:begin], wire[begin:end], wire[end:], size).next
    return itertools.repeat(wire).__next__


@dataclass(slots=True)
class _RoundRobin:
    """Replies with the same records, each of `size` bytes, rotated by one at each call."""

    head: bytes
    records: bytes
    tail: bytes
    size: int
    at: int = 0

    def next(self) -> bytes:
        at, records = self.at, self.records
        self.at = (at + self.size) % len(records)
        return b"%b%b%b%b" % (self.head, records[at:], records[:at], self.tail)
