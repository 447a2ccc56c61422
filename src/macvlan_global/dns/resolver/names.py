"""Name table: the endpoints on the networks that this host follows, indexed by their DNS names. Pure.

Names are bytes in canonical form: ASCII letters in lower case (RFC 4343), dots between labels, no dot at the end. An
endpoint is found under each of its names, under `NAME.NETWORK` for each, and under the reverse names of its addresses
(`in-addr.arpa`, `ip6.arpa`). A service prefix `_PORT._PROTOCOL` (RFC 2782) asks for a port of the name behind it.

A name without its network is answered from the networks that this host's containers are on, and only if it means one
of them: the client's own networks are not known. Networks of one name are one here: a network that was removed, and
that containers still run on, and the one that was created in its place. Endpoints of hosts that are gone count only
while no living host has the name.

Every change returns the names whose answers it may change, so that cached answers of all others stay valid.

There may be 100,000 endpoints, so each byte of a row counts: numbers instead of addresses as text, a short hash instead
of the key in the store, and one object for what many rows have in common.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

import msgspec

from macvlan_global.store.records import NameRecord

LONGEST_LABEL = 63
LONGEST_NAME = 253
MOST_ALIASES = 64
MOST_PORTS = 64
"""Bounds of one record: whoever starts a container decides how much every host of the cluster keeps of it."""
LOCAL = b"localhost"
"""Reserved for the client itself (RFC 6761), whatever a container calls itself."""


NONE = -1
"""The number of an address that there is not."""

RowKey = bytes
"""A key of the store, shortened to a hash: as a text it would be a quarter of a row."""


def row_key(key: str) -> RowKey:
    """The row's key of a key of the store."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def group_of(key: str) -> str:
    """The first two parts of a key of the store: `names/NETWORK`."""
    end = key.find("/", key.find("/") + 1)
    return key[:end] if end > 0 else key


class NameRow(msgspec.Struct, frozen=True, gc=False):
    """One endpoint: its names as they are spelled, the container's own first, and its network's name.

    `ports` are (number, `_protocol`); `v4` and `v6` are its addresses as numbers, `NONE` if none. `network_id` is the
    network's id in the cluster, `host` the id of its host.
    """

    key: RowKey
    names: tuple[bytes, ...]
    network: bytes
    short_id: bytes
    v4: int
    v6: int
    ports: tuple[tuple[int, bytes], ...]
    network_id: str = ""
    host: str = ""

    @property
    def address(self) -> str:
        """Its IPv4 address, bare; "" if none."""
        return "" if self.v4 == NONE else str(IPv4Address(self.v4))

    @property
    def address6(self) -> str:
        """Its IPv6 address, bare; "" if none."""
        return "" if self.v6 == NONE else str(IPv6Address(self.v6))

    @property
    def target(self) -> bytes:
        """The container's short id on its network, which no other endpoint has. SRV records point to it."""
        return _joined(self.short_id or self.names[0], self.network)

    @property
    def full_name(self) -> bytes:
        """The container's own name on its network. PTR records point to it."""
        return _joined(self.names[0], self.network)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Result of looking up a name. `name` is canonical, without a service prefix: changes of it change the result.

    `rows` have the name itself, `reverse` the address that it spells. `port` is (number, `_protocol`) of the service
    prefix, None if there was none. Both are empty for a name that no endpoint has.
    """

    name: bytes
    rows: tuple[NameRow, ...] = ()
    reverse: tuple[NameRow, ...] = ()
    port: tuple[int, bytes] | None = None

    @property
    def exists(self) -> bool:
        """Whether an endpoint has the name."""
        return bool(self.rows or self.reverse)


OnAddress = Callable[[str, int, int, bool], None]
"""Called with a network's id in the cluster, an IP version, an address as a number, and whether an endpoint there has
got it; it was given up otherwise."""


def _nobody(_network: str, _version: int, _number: int, _here: bool) -> None:
    """Nobody wants to know of addresses."""


@dataclass(slots=True)
class NameTable:
    """Endpoints by their names.

    `networks_here` are the ids of the networks that containers of this host are on, `living` those of the hosts that
    live; None while that is not known, and then all count. `awaited` are the ids of networks that are followed, and
    whose names were not all read yet; None while nobody knows which networks are followed. `own_host` is this host's
    id, and `on_address` is told of addresses.
    """

    networks_here: frozenset[str] | None = None
    living: frozenset[str] | None = None
    awaited: frozenset[str] | None = None
    own_host: str = ""
    on_address: OnAddress = _nobody
    _rows: dict[str, dict[RowKey, NameRow]] = field(default_factory=dict)
    """By the first two parts of their keys in the store."""
    _by_name: "_Index[bytes]" = field(default_factory=dict)
    _by_v4: "_Index[int]" = field(default_factory=dict)
    _by_v6: "_Index[int]" = field(default_factory=dict)
    _networks: dict[bytes, dict[str, int]] = field(default_factory=dict)
    """Numbers of endpoints by network: its canonical name, then its id."""

    def __len__(self) -> int:
        """Number of endpoints."""
        return sum(map(len, self._rows.values()))

    @property
    def synced(self) -> bool:
        """Whether the names of all networks that are followed are there: what is not, has no endpoint."""
        return self.awaited is not None and not self.awaited

    def keys_of(self, group: str) -> set[RowKey]:
        """The keys of all rows of a group of keys in the store, as `names/NETWORK`."""
        return set(self._rows.get(group, ()))

    def put(self, key: str, record: NameRecord) -> set[bytes]:
        """Add or replace the record at this key of the store; the names whose answers may change."""
        new, group = _row(key, record), group_of(key)
        old = self._rows.get(group, {}).get(new.key)
        if new == old:
            return set()
        changed = self.remove(group, new.key)
        if not new.names:
            return changed
        self._rows.setdefault(group, {})[new.key] = new
        network = canonical(new.network)
        ids = self._networks.setdefault(network, {})
        if network and ids and new.network_id not in ids:
            changed |= self._names_on(network)
        ids[new.network_id] = ids.get(new.network_id, 0) + 1
        names = _canonical_names(new)
        for name in names:
            _add(self._by_name, name, new)
        for version, index, number in self._indexed(new):
            _add(index, number, new)
            self.on_address(new.network_id, version, number, True)
        return changed.union(names, _reverse_names(new), _on_network(names, network))

    def remove(self, group: str, key: RowKey) -> set[bytes]:
        """Remove the row of this key in its group, if there is one; the names whose answers may change."""
        rows = self._rows.get(group, {})
        old = rows.pop(key, None)
        if old is None:
            return set()
        if not rows:
            del self._rows[group]
        network = canonical(old.network)
        ids, changed = self._networks[network], set[bytes]()
        ids[old.network_id] -= 1
        if not ids[old.network_id]:
            del ids[old.network_id]
            changed = self._names_on(network) if network and ids else changed
        if not ids:
            del self._networks[network]
        names = _canonical_names(old)
        for name in names:
            _drop(self._by_name, name, old)
        for version, index, number in self._indexed(old):
            _drop(index, number, old)
            self.on_address(old.network_id, version, number, False)
        return {*changed, *names, *_reverse_names(old), *_on_network(names, network)}

    def lookup(self, name: bytes) -> Lookup:
        """Look up a name, in any case, with or without a dot at the end."""
        port, rest = _service(canonical(name))
        return Lookup(rest, self._rows_of(rest), self._of_the_living(self._reversed(rest)), port)

    def certain(self, found: Lookup, *, own_only: bool = False) -> Lookup:
        """The part of a result that is known to be whole while names are awaited: of networks that were read, and of
        this host's own containers; or only of the latter."""
        awaited = None if own_only else self.awaited

        def is_certain(row: NameRow) -> bool:
            return row.host == self.own_host or (awaited is not None and row.network_id not in awaited)

        def keep(rows: Iterable[NameRow]) -> tuple[NameRow, ...]:
            return tuple(filter(is_certain, rows))

        return Lookup(found.name, keep(found.rows), keep(found.reverse), found.port)

    def _indexed(self, row: NameRow) -> "Iterable[tuple[int, _Index[int], int]]":
        if row.v4 != NONE:
            yield 4, self._by_v4, row.v4
        if row.v6 != NONE:
            yield 6, self._by_v6, row.v6

    def _reversed(self, name: bytes) -> Iterable[NameRow]:
        """The endpoints whose address a reverse name spells."""
        version, number = _spelled(name) if name.endswith(b".arpa") else (0, NONE)
        return _at(self._by_v4 if version == 4 else self._by_v6, number)

    def _rows_of(self, name: bytes) -> tuple[NameRow, ...]:
        found = {row.key: row for row in self._without_network(name)}
        at = name.find(b".")
        while at >= 0:  # a container may be called `a.b`, and another `a` on network `b`
            network = name[at + 1 :]
            if network in self._networks:
                named = _at(self._by_name, name[:at])
                found |= {row.key: row for row in named if canonical(row.network) == network}
            at = name.find(b".", at + 1)
        return self._of_the_living(found.values())

    def _without_network(self, name: bytes) -> Iterable[NameRow]:
        """The endpoints of a name that is given without its network."""
        rows = _at(self._by_name, name)
        if self.networks_here is None:
            return rows
        here = self._of_the_living(row for row in rows if self._is_here(row, self.networks_here))
        return here if _mean_one_network(here) else ()

    def _is_here(self, row: NameRow, here: frozenset[str]) -> bool:
        """Whether containers of this host are on the network of an endpoint, or on another one of its name."""
        if row.network_id in here:
            return True
        return bool(row.network) and not here.isdisjoint(self._networks[canonical(row.network)])

    def _names_on(self, network: bytes) -> set[bytes]:
        """Every name on the networks of this canonical name."""
        rows = [row for some in self._rows.values() for row in some.values() if canonical(row.network) == network]
        return {name for row in rows for name in _canonical_names(row)}

    def _of_the_living(self, rows: Iterable[NameRow]) -> tuple[NameRow, ...]:
        """Those of living hosts if there are any, else all."""
        found = tuple(rows)
        if self.living is None:
            return found
        return tuple(row for row in found if row.host in self.living) or found


def canonical(name: bytes) -> bytes:
    """Canonical form: ASCII in lower case (RFC 4343), without the dot at the end."""
    folded = name.lower().removesuffix(b".")
    return name if name == folded else folded  # one object for both: there may be 100,000


def to_wire(text: str) -> bytes | None:
    """A name as a DNS message can carry it, dots between labels; None if it cannot.

    It cannot if a label is empty or longer than 63 bytes, the name longer than 253, or reserved (`localhost`).
    """
    try:
        name = text.strip().removesuffix(".").encode()
    except UnicodeEncodeError:
        return None
    labels = name.split(b".")
    fits = len(name) <= LONGEST_NAME and all(0 < len(label) <= LONGEST_LABEL for label in labels)
    return name if fits and canonical(labels[-1]) != LOCAL else None


def _mean_one_network(rows: Iterable[NameRow]) -> bool:
    """Whether all containers of a name are on one network together, whichever others they are on. Else the name is one
    thing on one network and another thing on the next, and nobody knows which is meant."""
    by_network: dict[bytes, set[bytes]] = {}
    for row in rows:
        network = canonical(row.network) or row.network_id.encode()
        by_network.setdefault(network, set()).add(row.short_id or row.key)
    everybody = set().union(*by_network.values())
    return len(by_network) < 2 or everybody in by_network.values()


K = TypeVar("K", bytes, int)
_Index = dict[K, NameRow | dict[RowKey, NameRow]]
"""Rows by name or address. Most are one endpoint's, and then there is no dictionary for it: at 100,000 it counts."""


def _at(index: _Index[K], name: K) -> Iterable[NameRow]:
    rows = index.get(name)
    if rows is None:
        return ()
    return (rows,) if isinstance(rows, NameRow) else rows.values()


def _add(index: _Index[K], name: K, row: NameRow) -> None:
    rows = index.get(name)
    if rows is None:
        index[name] = row
    elif isinstance(rows, NameRow):
        index[name] = {rows.key: rows, row.key: row}
    else:
        rows[row.key] = row


def _drop(index: _Index[K], name: K, row: NameRow) -> None:
    rows = index[name]
    if isinstance(rows, dict):
        del rows[row.key]
    if isinstance(rows, NameRow) or not rows:
        del index[name]


def _row(key: str, record: NameRecord) -> NameRow:
    network = _network(record.network_name)
    names: dict[bytes, bytes] = {}
    for text in record.names[: MOST_ALIASES + 3]:  # besides aliases: the container's name, short id and hostname
        name = to_wire(text)
        if name and len(name) + 1 + len(network) <= LONGEST_NAME:
            names.setdefault(canonical(name), name)
    return NameRow(
        row_key(key),
        tuple(names.values()),
        network,
        names.get(record.container[:12].encode(), b""),
        _address(record.address, 4),
        _address(record.address6, 6),
        _ports(tuple((port.port, port.protocol) for port in record.ports[:MOST_PORTS])),
        sys.intern(record.network),
        sys.intern(record.host),
    )


@lru_cache(1024)
def _network(text: str) -> bytes:
    """A network's name. Cached, as are ports: many endpoints share one object."""
    return to_wire(text) or b""


@lru_cache(1024)
def _ports(ports: tuple[tuple[int, str], ...]) -> tuple[tuple[int, bytes], ...]:
    return tuple((number, b"_" + protocol.encode()) for number, protocol in ports if 0 <= number < 2**16)


def _address(text: str, version: int) -> int:
    try:
        address = ip_address(text)
    except ValueError:  # none, or not an address: the endpoint still has its other one
        return NONE
    # A and AAAA records have no room for a zone (fe80::1%eth0)
    return int(address) if address.version == version and "%" not in text else NONE


def _joined(name: bytes, network: bytes) -> bytes:
    return b"%s.%s" % (name, network) if network else name


def _canonical_names(row: NameRow) -> list[bytes]:
    return [canonical(name) for name in row.names]


def _on_network(names: Iterable[bytes], network: bytes) -> list[bytes]:
    return [_joined(name, network) for name in names]


def _reverse_names(row: NameRow) -> list[bytes]:
    return [ip_address(each).reverse_pointer.encode() for each in (row.address, row.address6) if each]


def _spelled(name: bytes) -> tuple[int, int]:
    """The IP version and the number of the address that a canonical reverse name spells; (0, `NONE`) if it is none."""
    labels = name.split(b".")
    try:
        if labels[-2] == b"in-addr" and len(labels) == 6:
            return 4, int(IPv4Address(b".".join(labels[3::-1]).decode()))
        if labels[-2] == b"ip6" and len(labels) == 34 and all(len(each) == 1 for each in labels[:32]):
            return 6, int(IPv6Address(bytes.fromhex(b"".join(labels[31::-1]).decode())))
    except ValueError:
        pass
    return 0, NONE


def _service(name: bytes) -> tuple[tuple[int, bytes] | None, bytes]:
    """Split `_80._tcp.web` into its port and the name behind it; None and the name itself without such a prefix."""
    labels = name.split(b".", 2)
    if len(labels) == 3 and labels[0][:1] == b"_" and labels[1] in {b"_tcp", b"_udp", b"_sctp"}:
        digits = labels[0][1:]
        if digits.isdigit() and len(digits) <= 5:
            return (int(digits), labels[1]), labels[2]
    return None, name
