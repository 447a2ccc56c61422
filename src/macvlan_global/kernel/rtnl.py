"""rtnetlink(7), as far as a macvlan driver needs it: messages put together by hand, and a socket that sends them.

The kernel has done what was asked when sending returns, so there is nothing to await.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from itertools import count

from macvlan_global.kernel.ports import LinkFact, MacvlanMode, MacvlanSpec
from macvlan_global.subnets import Address, Subnet

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index of the link
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, to, from, tos, table, protocol, scope, type, flags
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops, index of the link
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_ERRNO = struct.Struct("=i")

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 21, 22, 24, 26
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x300, 0x400
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_LINK_NETNSID, IFLA_ALT_IFNAME = 20, 28, 37, 53
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_VLAN_ID = IFLA_MACVLAN_MODE = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD, RT_SCOPE_UNIVERSE = 0x02, 0
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE = 1, 4, 5, 6, 9, 15
RT_TABLE_MAIN, RT_TABLE_LOCAL, RTN_UNICAST, RTPROT_BOOT = 254, 255, 1, 3
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFNAMSIZ = 16  # linux/if.h, with the closing NUL
_TYPE_MASK = 0x3FFF  # above it: NLA_F_NESTED, NLA_F_NET_BYTEORDER
_MODES: dict[MacvlanMode, int] = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_MESSAGE_BYTES = 1 << 18
"""Room for any message: the kernel cuts off what does not fit."""


@dataclass(frozen=True, slots=True)
class RawLink:
    """A link, the index of the bridge or bond that it is a port of (0 if none), and its alias ("" if none)."""

    fact: LinkFact
    master: int
    alias: str


@dataclass(frozen=True, slots=True)
class RawAddress:
    """An address, the index of the link that has it, and the scope that the kernel gives it."""

    link: int
    interface: IPv4Interface | IPv6Interface
    scope: int


@dataclass(frozen=True, slots=True)
class RawRoute:
    """A unicast route of any table but the local one. `destination` is None for a default one, which is
    of the main table, ordered by `metric`."""

    family: int
    link: int
    metric: int
    destination: Subnet | None
    table: int


class RouteSocket:
    """One rtnetlink socket, in the network namespace of the thread that makes it. For one thread at a time.

    Raises (each method):
        OSError: the kernel refused, with its errno.
    """

    def __init__(self) -> None:
        """Open it."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._numbers = count(1)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._socket.close()

    def get(self, name: str = "", *, index: int = 0) -> RawLink:
        """The link of this name, alternative name or index."""
        for payload in self._ask(RTM_GETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _sought(name)):
            return _parse(payload)
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def dump(self) -> list[RawLink]:
        """Every link."""
        return [_parse(payload) for payload in self._ask(RTM_GETLINK, NLM_F_DUMP, _LINK.pack(0, 0, 0, 0, 0))]

    def add_macvlan(self, spec: MacvlanSpec, parent: int, *, inside: int | None = None) -> None:
        """Make a macvlan link, down, on the link with the index `parent`; in the namespace of a descriptor, if one is
        given."""
        wanted = _attribute(IFLA_LINK, _U32.pack(parent))
        if inside is not None:
            wanted += _attribute(IFLA_NET_NS_FD, _U32.pack(inside))
        if spec.mac:
            wanted += _attribute(IFLA_ADDRESS, bytes.fromhex(spec.mac.replace(":", "")))
        if spec.mtu:
            wanted += _attribute(IFLA_MTU, _U32.pack(spec.mtu))
        self._add(spec.name, b"macvlan", wanted, _attribute(IFLA_MACVLAN_MODE, _U32.pack(_MODES[spec.mode])))

    def add_vlan(self, name: str, master: int, vlan_id: int) -> None:
        """Make an 802.1Q sub-interface, down, on the link with the index `master`."""
        wanted = _attribute(IFLA_LINK, _U32.pack(master))
        self._add(name, b"vlan", wanted, _attribute(IFLA_VLAN_ID, _U16.pack(vlan_id)))

    def add_dummy(self, name: str) -> None:
        """Make a dummy link, down."""
        self._add(name, b"dummy")

    def set_up(self, name: str = "", *, index: int = 0, up: bool) -> None:
        """Set a link up or down."""
        self._do(RTM_SETLINK, 0, _LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP) + _named(name))

    def set_alias(self, index: int, alias: str) -> None:
        """Give a link a text of ours, which `ip link` shows."""
        self._do(RTM_SETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _attribute(IFLA_IFALIAS, alias.encode()))

    def add_address(self, index: int, interface: IPv4Interface | IPv6Interface) -> None:
        """Give a link an address as an engine does: with the broadcast address of its subnet, and without duplicate
        address detection."""
        packed = interface.ip.packed
        wanted = _attribute(IFA_LOCAL, packed) + _attribute(IFA_ADDRESS, packed)
        network = interface.network
        if isinstance(interface, IPv6Interface):
            wanted += _attribute(IFA_FLAGS, _U32.pack(IFA_F_NODAD))
        elif network.prefixlen < 31:  # RFC 3021
            wanted += _attribute(IFA_BROADCAST, network.broadcast_address.packed)
        message = _ADDRESS.pack(_family(interface), network.prefixlen, 0, RT_SCOPE_UNIVERSE, index)
        self._do(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message + wanted)

    def delete_address(self, address: RawAddress) -> None:
        """Take an address from its link."""
        interface = address.interface
        message = _ADDRESS.pack(_family(interface), interface.network.prefixlen, 0, address.scope, address.link)
        self._do(RTM_DELADDR, 0, message + _attribute(IFA_LOCAL, interface.ip.packed))

    def add_default_route(self, index: int, gateway: Address) -> None:
        """Send everything else to a gateway that is reached by this link."""
        kind = (_family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0)
        wanted = _attribute(RTA_GATEWAY, gateway.packed) + _attribute(RTA_OIF, _U32.pack(index))
        self._do(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _ROUTE.pack(*kind) + wanted)

    def addresses(self) -> list[RawAddress]:
        """Every IPv4 and IPv6 address."""
        found = list(self._ask(RTM_GETADDR, NLM_F_DUMP, _ADDRESS.pack(0, 0, 0, 0, 0)))
        return [_parse_address(payload) for payload in found if payload[0] in {socket.AF_INET, socket.AF_INET6}]

    def routes(self) -> list[RawRoute]:
        """Where packets go, but for addresses of this host and what is thrown away."""
        asked = _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)
        found = (_parse_route(payload) for payload in self._ask(RTM_GETROUTE, NLM_F_DUMP, asked))
        return [route for route in found if route]

    def delete(self, name: str = "", *, index: int = 0) -> None:
        """Delete a link."""
        self._do(RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _named(name))

    def _add(self, name: str, kind: bytes, wanted: bytes = b"", data: bytes = b"") -> None:
        info = _attribute(IFLA_INFO_KIND, kind) + (_attribute(IFLA_INFO_DATA, data) if data else b"")
        payload = _LINK.pack(0, 0, 0, 0, 0) + _named(name) + wanted + _attribute(IFLA_LINKINFO, info)
        self._do(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload)

    def _do(self, kind: int, flags: int, payload: bytes) -> None:
        for _ in self._ask(kind, flags | NLM_F_ACK, payload):
            pass

    def _ask(self, kind: int, flags: int, payload: bytes) -> Iterator[bytes]:
        """The payload of each message of the answer."""
        number = next(self._numbers)
        length = _HEADER.size + len(payload)
        self._socket.send(_HEADER.pack(length, kind, flags | NLM_F_REQUEST, number, 0) + payload)
        while True:
            received = self._socket.recv(_MESSAGE_BYTES)
            for kind_of_answer, sequence, body in _messages(received):
                if sequence != number:  # the rest of an answer that nobody read to its end
                    continue
                if kind_of_answer == NLMSG_DONE:
                    return
                if kind_of_answer == NLMSG_ERROR:
                    code = -_ERRNO.unpack_from(body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return
                yield body
                if flags & (NLM_F_DUMP | NLM_F_ACK) == 0:
                    return


def _messages(received: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(received):
        length, kind, _, sequence, _ = _HEADER.unpack_from(received, at)
        yield kind, sequence, received[at + _HEADER.size : at + length]
        at += _padded(length)


def _parse(payload: bytes) -> RawLink:
    _, _, index, flags, _ = _LINK.unpack_from(payload)
    found = _attributes(payload[_LINK.size :])
    info = _attributes(found.get(IFLA_LINKINFO, b""))
    kind = _text(info.get(IFLA_INFO_KIND, b""))
    data = _attributes(info.get(IFLA_INFO_DATA, b"")) if kind == "vlan" else {}
    fact = LinkFact(
        name=_text(found.get(IFLA_IFNAME, b"")),
        index=index,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(IFLA_MTU, b"")),
        up=bool(flags & IFF_UP),
        loopback=bool(flags & IFF_LOOPBACK),
        kind=kind,
        # with a namespace of its own beside it, the index is that of a link there: the other end of a veth pair
        lower=0 if IFLA_LINK_NETNSID in found else _number(found.get(IFLA_LINK, b"")),
        vlan_id=_number(data.get(IFLA_VLAN_ID, b"")),
    )
    return RawLink(fact, _number(found.get(IFLA_MASTER, b"")), _text(found.get(IFLA_IFALIAS, b"")))


def _parse_address(payload: bytes) -> RawAddress:
    _, prefix, _, scope, index = _ADDRESS.unpack_from(payload)
    found = _attributes(payload[_ADDRESS.size :])
    # on a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL ours (linux/if_addr.h)
    address = ip_address(found.get(IFA_LOCAL) or found[IFA_ADDRESS])
    return RawAddress(index, ip_interface(f"{address}/{prefix}"), scope)


def _parse_route(payload: bytes) -> RawRoute | None:
    family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(payload)
    found = _attributes(payload[_ROUTE.size :])
    table = _number(found[RTA_TABLE]) if RTA_TABLE in found else table
    if family not in {socket.AF_INET, socket.AF_INET6} or kind != RTN_UNICAST or table == RT_TABLE_LOCAL:
        return None
    destination = ip_network((found[RTA_DST], prefix)) if RTA_DST in found else None
    if destination is None and table != RT_TABLE_MAIN:  # of policy routing, for some packets only
        return None
    return RawRoute(family, _first_link(found), _number(found.get(RTA_PRIORITY, b"")), destination, table)


def _first_link(route: dict[int, bytes]) -> int:
    """The link that a route leads to; of several at once, the first."""
    if RTA_MULTIPATH in route:
        return int(_NEXT_HOP.unpack_from(route[RTA_MULTIPATH])[3])
    return _number(route.get(RTA_OIF, b""))


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _attributes(raw: bytes) -> dict[int, bytes]:
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = raw[at + _ATTRIBUTE.size : at + length]
        at += _padded(length)
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def _named(name: str) -> bytes:
    return _attribute(IFLA_IFNAME, name.encode() + b"\0") if name else b""


def _sought(name: str) -> bytes:
    """As `_named`, but for an alternative name, which may be longer and has an attribute of its own."""
    if len(name.encode()) < IFNAMSIZ:
        return _named(name)
    return _attribute(IFLA_ALT_IFNAME, name.encode() + b"\0")


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)
