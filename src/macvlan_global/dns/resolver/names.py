"""Who is called what: the names of the cluster's endpoints, and what each name stands for. Pure.

A name is a key of bytes: ASCII letters in lower case, labels with dots between, no dot at the end. An endpoint is found
under each of its names, under `NAME.NETWORK` for each, and under the reverse names of its addresses. `_PORT._PROTOCOL`
before a name asks for a port of those who have that name.

Every change answers with the names whose answers it may change, so that what was made ready for others can stay.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address

from macvlan_global.store.records import NameRecord

LONGEST_LABEL = 63
LONGEST_NAME = 253
LOCAL = b"localhost"
"""Never anybody's but the asker's own (RFC 6761), whatever a container calls itself."""


@dataclass(frozen=True, slots=True)
class NameRow:
    """One endpoint: its names as they are spelled, the container's own first, and its network's name.

    `key` is its record's in the store; `ports` are (number, protocol); addresses are bare, "" if none.
    """

    key: str
    names: tuple[bytes, ...]
    network: bytes
    short_id: bytes
    address: str
    address6: str
    ports: tuple[tuple[int, bytes], ...]

    @property
    def target(self) -> bytes:
        """The one name that is this endpoint's alone: its container's short id on its network."""
        return _joined(self.short_id or self.names[0], self.network)

    @property
    def full_name(self) -> bytes:
        """The container's own name on its network."""
        return _joined(self.names[0], self.network)


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for. `key` is the name whose change would change it.

    `rows` have the name itself; `reverse` have the address that it spells; `port` is what was asked before the name,
    None if nothing was. A name that is nobody's has neither rows nor reverse.
    """

    key: bytes
    rows: tuple[NameRow, ...] = ()
    reverse: tuple[NameRow, ...] = ()
    port: tuple[int, bytes] | None = None

    @property
    def ours(self) -> bool:
        """Whether somebody has it."""
        return bool(self.rows or self.reverse)


@dataclass(slots=True)
class NameTable:
    """Every endpoint of the cluster by its names. `known` is false until the store was read once."""

    known: bool = False
    _rows: dict[str, NameRow] = field(default_factory=dict)
    _by_name: "_Index" = field(default_factory=dict)
    _by_reverse: "_Index" = field(default_factory=dict)
    _networks: dict[bytes, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many endpoints there are."""
        return len(self._rows)

    def keys(self) -> set[str]:
        """The store's keys of all that is in it."""
        return set(self._rows)

    def put(self, key: str, record: NameRecord) -> set[bytes]:
        """Take a record in, instead of the one that had this key; the names whose answers may change."""
        new = _row(key, record)
        old = self._rows.get(key)
        if new == old:
            return set()
        changed = self.remove(key)
        if not new.names:
            return changed
        self._rows[key] = new
        folded = fold(new.network)
        self._networks[folded] = self._networks.get(folded, 0) + 1
        names, reverse = _folded_names(new), _reverse_names(new)
        for name in names:
            _add(self._by_name, name, new)
        for name in reverse:
            _add(self._by_reverse, name, new)
        return changed.union(names, reverse, _on_network(names, folded))

    def remove(self, key: str) -> set[bytes]:
        """Forget the record of this key, if there is one; the names whose answers may change."""
        old = self._rows.pop(key, None)
        if old is None:
            return set()
        folded = fold(old.network)
        self._networks[folded] -= 1
        if not self._networks[folded]:
            del self._networks[folded]
        names, reverse = _folded_names(old), _reverse_names(old)
        for name in names:
            _drop(self._by_name, name, old)
        for name in reverse:
            _drop(self._by_reverse, name, old)
        return {*names, *reverse, *_on_network(names, folded)}

    def find(self, name: bytes) -> Found:
        """What a name stands for, whatever its case and whether or not it ends in a dot."""
        folded = fold(name)
        port, rest = _port_of(folded)
        reverse = _at(self._by_reverse, rest) if rest.endswith(b".arpa") else ()
        return Found(rest, self._having(rest), tuple(reverse), port)

    def _having(self, name: bytes) -> tuple[NameRow, ...]:
        found = {row.key: row for row in _at(self._by_name, name)}
        at = name.find(b".")
        while at >= 0:  # a container may be called `a.b`, and another `a` on network `b`
            network = name[at + 1 :]
            if network in self._networks:
                having = _at(self._by_name, name[:at])
                found |= {row.key: row for row in having if fold(row.network) == network}
            at = name.find(b".", at + 1)
        return tuple(found.values())


def fold(name: bytes) -> bytes:
    """The key of a name: ASCII in lower case (RFC 4343), without the dot at the end."""
    folded = name.lower().removesuffix(b".")
    return name if name == folded else folded  # one object for both: there may be 100,000


def spelled(text: str) -> bytes | None:
    """A name as the DNS can carry it, or None if it cannot: a label is too long or empty, or it is not a name."""
    try:
        name = text.strip().removesuffix(".").encode()
    except UnicodeEncodeError:
        return None
    labels = name.split(b".")
    fits = len(name) <= LONGEST_NAME and all(0 < len(label) <= LONGEST_LABEL for label in labels)
    return name if fits and fold(labels[-1]) != LOCAL else None


_Index = dict[bytes, NameRow | dict[str, NameRow]]
"""Rows by name. Most names are one endpoint's, and then there is no dictionary for it: at 100,000 it counts."""


def _at(index: _Index, name: bytes) -> Iterable[NameRow]:
    have = index.get(name)
    if have is None:
        return ()
    return (have,) if isinstance(have, NameRow) else have.values()


def _add(index: _Index, name: bytes, row: NameRow) -> None:
    have = index.get(name)
    if have is None:
        index[name] = row
    elif isinstance(have, NameRow):
        index[name] = {have.key: have, row.key: row}
    else:
        have[row.key] = row


def _drop(index: _Index, name: bytes, row: NameRow) -> None:
    have = index[name]
    if isinstance(have, dict):
        del have[row.key]
    if isinstance(have, NameRow) or not have:
        del index[name]


def _row(key: str, record: NameRecord) -> NameRow:
    network = _network(record.network_name)
    names: dict[bytes, bytes] = {}
    for text in record.names:
        name = spelled(text)
        if name and len(name) + 1 + len(network) <= LONGEST_NAME:
            names.setdefault(fold(name), name)
    return NameRow(
        key,
        tuple(names.values()),
        network,
        names.get(record.container[:12].encode(), b""),
        _address(record.address, 4),
        _address(record.address6, 6),
        _ports(tuple((port.port, port.protocol) for port in record.ports)),
    )


@lru_cache(1024)
def _network(text: str) -> bytes:
    """A network's name. Kept, as is what follows: many endpoints have the same one."""
    return spelled(text) or b""


@lru_cache(1024)
def _ports(ports: tuple[tuple[int, str], ...]) -> tuple[tuple[int, bytes], ...]:
    return tuple((number, b"_" + protocol.encode()) for number, protocol in ports if 0 <= number < 2**16)


def _address(text: str, version: int) -> str:
    try:
        address = ip_address(text)
    except ValueError:  # none, or a mistake: the name still has its other address
        return ""
    # with a zone (fe80::1%eth0) it is no address that the DNS can carry
    return str(address) if address.version == version and "%" not in text else ""


def _joined(name: bytes, network: bytes) -> bytes:
    return b"%s.%s" % (name, network) if network else name


def _folded_names(row: NameRow) -> list[bytes]:
    return [fold(name) for name in row.names]


def _on_network(names: Iterable[bytes], network: bytes) -> list[bytes]:
    return [_joined(name, network) for name in names]


def _reverse_names(row: NameRow) -> list[bytes]:
    return [ip_address(each).reverse_pointer.encode() for each in (row.address, row.address6) if each]


def _port_of(name: bytes) -> tuple[tuple[int, bytes] | None, bytes]:
    """The port and protocol that a name such as `_80._tcp.web` asks for, and the rest; None if it asks for none."""
    labels = name.split(b".", 2)
    if len(labels) == 3 and labels[0][:1] == b"_" and labels[1] in {b"_tcp", b"_udp", b"_sctp"}:
        digits = labels[0][1:]
        if digits.isdigit() and len(digits) <= 5:
            return (int(digits), labels[1]), labels[2]
    return None, name
