"""rtnetlink(7), as far as a macvlan driver needs it: messages packed and parsed by hand, and a socket for them.

The kernel carries a request out while it is sent, on the thread that sends it; what is received afterwards is its
answer, which is there already. Most requests take it less than a millisecond. Deleting a link or setting it down takes
about twenty, since the kernel waits for its other CPUs there: see `netlink.NetlinkKernel` for the thread that does it.

A dump is read to its end before anything of it is used. If the kernel says that what it lists changed meanwhile
(NLM_F_DUMP_INTR), entries may be missing, and the dump is requested again. Messages that do not parse raise ValueError,
`struct.error` or LookupError here; `netlink.kernel_errors` translates them.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from itertools import count
from typing import Protocol

from macvlan_global.kernel.ports import LinkFact, MacvlanMode, MacvlanSpec
from macvlan_global.subnets import Address, Subnet

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index of the link
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, to, from, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg: family, index of the link, state, flags, type
_NAMESPACE = struct.Struct("=Bxxx")  # struct rtgenmsg: family
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops, index of the link
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_ERRNO = struct.Struct("=i")

NLMSG_ERROR, NLMSG_DONE, NLMSG_MIN_TYPE = 2, 3, 0x10
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWLINKPROP = 108
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 21, 22, 24, 26
RTM_GETNEIGH, RTM_GETNSID = 30, 90
RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = 0x10, 0x40, 0x100, 0x400
RTMGRP_LINK = 0x1
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_DUMP, NLM_F_CREATE = 0x1, 0x4, 0x200, 0x300, 0x400
NLM_F_DUMP_INTR = 0x10  # in answers
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_IFALIAS, IFLA_NET_NS_FD, IFLA_CARRIER, IFLA_LINK_NETNSID, IFLA_ALT_IFNAME = 20, 28, 33, 37, 53
IFLA_NEW_NETNSID = 45
IFLA_PROP_LIST = 52 | 0x8000  # NLA_F_NESTED
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND = 1, 2, 4
IFLA_VLAN_PROTOCOL = 5
IFLA_VLAN_ID = IFLA_MACVLAN_MODE = 1
NDA_LLADDR, NETNSA_NSID, NETNSA_FD = 2, 1, 3
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD, RT_SCOPE_UNIVERSE = 0x02, 0
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE, RTA_VIA = 1, 4, 5, 6, 9, 15, 18
RT_TABLE_MAIN, RT_TABLE_LOCAL, RTN_UNICAST, RTPROT_BOOT = 254, 255, 1, 3
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
IFNAMSIZ = 16  # linux/if.h, with the closing NUL
_TYPE_MASK = 0x3FFF  # above it: NLA_F_NESTED, NLA_F_NET_BYTEORDER
_MODES: dict[MacvlanMode, int] = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_MESSAGE_BYTES = 1 << 18
"""Room for any message: the kernel cuts off what does not fit."""
ANSWER_SECONDS = 5.0
"""The longest wait for each part of an answer. It is there when sending returns; this is for a kernel that lost it."""
MOST_DUMPS = 20
"""Attempts at a dump that comes back interrupted. With a thousand links and one of them made and deleted in a loop
nearly each one does; a burst of containers is over sooner."""


class MessageSocket(Protocol):
    """A connected socket that keeps message boundaries: AF_NETLINK, or in tests a pair of AF_UNIX."""

    def send(self, data: bytes, /) -> int:
        """Send one request."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Receive one datagram of the answer; TimeoutError if there is none in time."""
        ...

    def close(self) -> None:
        """Close it. Idempotent."""
        ...


def open_netlink() -> MessageSocket:
    """An rtnetlink socket in the network namespace of the calling thread, which waits `ANSWER_SECONDS` for answers."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.settimeout(ANSWER_SECONDS)
    return opened


@dataclass(frozen=True, slots=True)
class RawLink:
    """RTM_NEWLINK: a link, and the index of the bridge or bond that it is a port of (0 if none). `below` is the link it
    stands on if that is in another namespace: its index there, and that namespace's id in this one. `moved` says of an
    RTM_DELLINK that the link went to another namespace."""

    fact: LinkFact
    master: int
    below: tuple[int, int] | None = None
    moved: bool = False

    @property
    def alias(self) -> str:
        """Its alias, "" if it has none."""
        return self.fact.alias


@dataclass(frozen=True, slots=True)
class RawAddress:
    """RTM_NEWADDR: an address, the index of the link that has it, and its scope (rtnetlink(7), RT_SCOPE_*)."""

    link: int
    interface: IPv4Interface | IPv6Interface
    scope: int


@dataclass(frozen=True, slots=True)
class RawRoute:
    """RTM_NEWROUTE: a unicast route of any table but the local one. `destination` is None for a default route, which is
    of the main table; the one with the lowest `metric` counts. `hops` are its gateways, each with the index of its
    link: several of a multipath route, none of a route to a link."""

    family: int
    link: int
    metric: int
    destination: Subnet | None
    table: int
    hops: tuple[tuple[int, Address], ...] = ()


class RouteSocket:
    """One rtnetlink socket, in the network namespace of the thread that makes it. For one thread at a time.

    After an answer that did not come, broke off or made no sense it is closed: what is left of it would be in the way
    of the next request.

    Raises (each method):
        OSError: the kernel refused, with its errno. EINTR: what a dump lists kept changing. TimeoutError: no answer.
        ValueError, struct.error, LookupError: the answer does not parse.
    """

    def __init__(self, open_socket: Callable[[], MessageSocket] = open_netlink) -> None:
        """Open it."""
        self._socket = open_socket()
        self._numbers = count(1)
        self.closed = False

    def close(self) -> None:
        """Close it. Idempotent."""
        self.closed = True
        self._socket.close()

    def get(self, name: str = "", *, index: int = 0) -> RawLink:
        """The link of this name, alternative name or index."""
        try:
            answer = self._request(RTM_GETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _sought(name))
        except OSError as error:
            if error.errno == errno.EINVAL and name and not _is_short(name):
                # kernels before 5.5 have no alternative names: they have read no name, and no index
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error
            raise
        return parse_link(answer[0])

    def dump(self) -> list[RawLink]:
        """Every link."""
        return [parse_link(payload) for payload in self.dump_raw(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0))]

    def add_macvlan(self, spec: MacvlanSpec, parent: int, *, inside: int | None = None) -> None:
        """Make a macvlan link, down, on the link with the index `parent`; in the namespace of a descriptor, if one is
        given."""
        wanted = attribute(IFLA_LINK, _U32.pack(parent))
        if inside is not None:
            wanted += attribute(IFLA_NET_NS_FD, _U32.pack(inside))
        if spec.mac:
            wanted += attribute(IFLA_ADDRESS, bytes.fromhex(spec.mac.replace(":", "")))
        if spec.mtu:
            wanted += attribute(IFLA_MTU, _U32.pack(spec.mtu))
        self._add(spec.name, b"macvlan", wanted, attribute(IFLA_MACVLAN_MODE, _U32.pack(_MODES[spec.mode])))

    def add_vlan(self, name: str, master: int, vlan_id: int) -> None:
        """Make an 802.1Q sub-interface, down, on the link with the index `master`."""
        wanted = attribute(IFLA_LINK, _U32.pack(master))
        self._add(name, b"vlan", wanted, attribute(IFLA_VLAN_ID, _U16.pack(vlan_id)))

    def add_dummy(self, name: str) -> None:
        """Make a dummy link, down."""
        self._add(name, b"dummy")

    def set_up(self, name: str = "", *, index: int = 0, up: bool) -> None:
        """Set a link up or down."""
        self.do(RTM_SETLINK, 0, _LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP) + _named(name))

    def set_mtu(self, name: str, mtu: int) -> None:
        """Set a link's MTU."""
        self.do(RTM_SETLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _named(name) + attribute(IFLA_MTU, _U32.pack(mtu)))

    def set_alias(self, alias: str, *, name: str = "", index: int = 0) -> None:
        """Set a link's alias (IFLA_IFALIAS), which `ip link` shows."""
        wanted = attribute(IFLA_IFALIAS, alias.encode())
        self.do(RTM_SETLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _named(name) + wanted)

    def add_altname(self, index: int, name: str) -> None:
        """Give a link an alternative name. Linux 5.5 and later."""
        names = attribute(IFLA_PROP_LIST, attribute(IFLA_ALT_IFNAME, name.encode() + b"\0"))
        self.do(RTM_NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL, _LINK.pack(0, 0, index, 0, 0) + names)

    def add_address(self, index: int, interface: IPv4Interface | IPv6Interface) -> None:
        """Give a link an address as an engine does: with the broadcast address of its subnet, and without duplicate
        address detection."""
        packed = interface.ip.packed
        wanted = attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
        network = interface.network
        if isinstance(interface, IPv6Interface):
            wanted += attribute(IFA_FLAGS, _U32.pack(IFA_F_NODAD))
        elif network.prefixlen < 31:  # RFC 3021
            wanted += attribute(IFA_BROADCAST, network.broadcast_address.packed)
        message = _ADDRESS.pack(family_of(interface), network.prefixlen, 0, RT_SCOPE_UNIVERSE, index)
        self.do(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, message + wanted)

    def delete_address(self, address: RawAddress) -> None:
        """Remove an address from its link."""
        interface = address.interface
        message = _ADDRESS.pack(family_of(interface), interface.network.prefixlen, 0, address.scope, address.link)
        self.do(RTM_DELADDR, 0, message + attribute(IFA_LOCAL, interface.ip.packed))

    def fdb(self) -> list[tuple[int, str]]:
        """Forwarding databases of all links (`bridge fdb`): the index of a link, and a MAC that it receives frames
        for."""
        found = self.dump_raw(RTM_GETNEIGH, _NEIGHBOUR.pack(socket.AF_BRIDGE, 0, 0, 0, 0))
        entries = ((_NEIGHBOUR.unpack_from(each)[1], attributes(each[_NEIGHBOUR.size :])) for each in found)
        return [(index, values[NDA_LLADDR].hex(":")) for index, values in entries if values.get(NDA_LLADDR)]

    def namespace_id(self, namespace: int) -> int:
        """The id that the namespace of a descriptor has in this one, negative if it has none."""
        wanted = attribute(NETNSA_FD, _U32.pack(namespace))
        answer = self._request(RTM_GETNSID, 0, _NAMESPACE.pack(socket.AF_UNSPEC) + wanted)
        value = attributes(answer[0][_NAMESPACE.size :])[NETNSA_NSID]
        return int.from_bytes(value, sys.byteorder, signed=True)

    def add_default_route(self, index: int, gateway: Address) -> None:
        """Add a default route by a gateway that is reached through this link."""
        kind = (family_of(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0)
        wanted = attribute(RTA_GATEWAY, gateway.packed) + attribute(RTA_OIF, _U32.pack(index))
        self.do(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _ROUTE.pack(*kind) + wanted)

    def addresses(self) -> list[RawAddress]:
        """Every IPv4 and IPv6 address."""
        found = self.dump_raw(RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0))
        return [_parse_address(payload) for payload in found if payload[0] in {socket.AF_INET, socket.AF_INET6}]

    def routes(self) -> list[RawRoute]:
        """Unicast routes, without local ones, blackholes, and default routes of policy routing."""
        request = _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)
        found = (_parse_route(payload) for payload in self.dump_raw(RTM_GETROUTE, request))
        return [route for route in found if route]

    def delete(self, name: str = "", *, index: int = 0) -> None:
        """Delete a link."""
        self.do(RTM_DELLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _named(name))

    def _add(self, name: str, kind: bytes, wanted: bytes = b"", data: bytes = b"") -> None:
        info = attribute(IFLA_INFO_KIND, kind) + (attribute(IFLA_INFO_DATA, data) if data else b"")
        payload = _LINK.pack(0, 0, 0, 0, 0) + _named(name) + wanted + attribute(IFLA_LINKINFO, info)
        self.do(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, payload)

    def do(self, kind: int, flags: int, payload: bytes) -> None:
        """Have a request carried out that has no answer but its acknowledgement."""
        self._request(kind, flags | NLM_F_ACK, payload)

    def dump_raw(self, kind: int, payload: bytes) -> list[bytes]:
        """The payload of each message of a dump during which nothing changed."""
        for _ in range(MOST_DUMPS):
            answer = self._exchange(kind, NLM_F_DUMP, payload)
            if not answer.interrupted:
                return answer.payloads
        raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

    def _request(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        return self._exchange(kind, flags, payload).payloads

    def _exchange(self, kind: int, flags: int, payload: bytes) -> "_Answer":
        """Send a request and read its whole answer, before any of it is parsed."""
        number = next(self._numbers)
        length = _HEADER.size + len(payload)
        answer = _Answer(one=flags & (NLM_F_DUMP | NLM_F_ACK) == 0)
        try:
            self._socket.send(_HEADER.pack(length, kind, flags | NLM_F_REQUEST, number, 0) + payload)
            while not answer.complete:
                for message in _messages(self._socket.recv(_MESSAGE_BYTES)):
                    if message.sequence == number:
                        answer.take(message)
        except BaseException:
            self.close()
            raise
        if answer.error:
            raise OSError(answer.error, os.strerror(answer.error))
        return answer


class _Answer:
    """An answer while it is received: payloads, the errno it ended with, and whether a dump was interrupted."""

    def __init__(self, *, one: bool) -> None:
        """With `one` it is a single message, without NLMSG_DONE or an acknowledgement behind it."""
        self.payloads: list[bytes] = []
        self.error = 0
        self.interrupted = False
        self.complete = False
        self._one = one

    def take(self, message: "_Message") -> None:
        """Add the next message."""
        self.interrupted |= bool(message.flags & NLM_F_DUMP_INTR)
        if message.kind == NLMSG_ERROR or (message.kind == NLMSG_DONE and len(message.payload) >= _ERRNO.size):
            # behind NLMSG_DONE too: a dump that the kernel could not go on with ends so
            self.error = -_ERRNO.unpack_from(message.payload)[0]
            self.complete = True
        elif message.kind == NLMSG_DONE:
            self.complete = True
        elif message.kind >= NLMSG_MIN_TYPE:
            self.payloads.append(message.payload)
            self.complete = self._one


@dataclass(frozen=True, slots=True)
class _Message:
    kind: int
    flags: int
    sequence: int
    payload: bytes


def _messages(received: bytes) -> Iterator[_Message]:
    """The messages of a datagram (NLMSG_OK of netlink(3)).

    Raises:
        ValueError: it is empty, or a message is longer than what is left of it, as when the kernel cut it off.
    """
    if len(received) < _HEADER.size:
        raise ValueError(f"a netlink datagram of {len(received)} bytes")
    at = 0
    while at + _HEADER.size <= len(received):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(received, at)
        if not _HEADER.size <= length <= len(received) - at:
            raise ValueError(f"a netlink message of {length} bytes, where {len(received) - at} are left")
        yield _Message(kind, flags, sequence, received[at + _HEADER.size : at + length])
        at += _padded(length)


def parts(received: bytes) -> list[tuple[int, bytes]]:
    """The messages of a datagram: types (RTM_*) and payloads.

    Raises:
        ValueError: it does not parse.
    """
    return [(message.kind, message.payload) for message in _messages(received)]


def parse_link(payload: bytes) -> RawLink:
    """The link of a message (struct ifinfomsg and attributes)."""
    _, hardware, index, flags, _ = _LINK.unpack_from(payload)
    found = attributes(payload[_LINK.size :])
    info = attributes(found.get(IFLA_LINKINFO, b""))
    kind = _text(info.get(IFLA_INFO_KIND, b""))
    data = attributes(info.get(IFLA_INFO_DATA, b"")) if kind == "vlan" else {}
    lower, elsewhere = _number(found.get(IFLA_LINK, b"")), found.get(IFLA_LINK_NETNSID)
    fact = LinkFact(
        name=_text(found.get(IFLA_IFNAME, b"")),
        index=index,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(IFLA_MTU, b"")),
        up=bool(flags & IFF_UP),
        loopback=bool(flags & IFF_LOOPBACK),
        kind=kind,
        # with a namespace of its own beside it, the index is that of a link there: the other end of a veth pair
        lower=lower if elsewhere is None else 0,
        vlan_id=_number(data.get(IFLA_VLAN_ID, b"")),
        vlan_protocol=int.from_bytes(data.get(IFLA_VLAN_PROTOCOL, b""), "big"),
        master_kind=_text(info.get(IFLA_INFO_SLAVE_KIND, b"")),
        carrier=found.get(IFLA_CARRIER, b"\1") != b"\0",
        hardware=hardware,
        alias=_text(found.get(IFLA_IFALIAS, b"")),
    )
    below = None if elsewhere is None else (lower, int.from_bytes(elsewhere, sys.byteorder, signed=True))
    return RawLink(fact, _number(found.get(IFLA_MASTER, b"")), below, IFLA_NEW_NETNSID in found)


def _parse_address(payload: bytes) -> RawAddress:
    _, prefix, _, scope, index = _ADDRESS.unpack_from(payload)
    found = attributes(payload[_ADDRESS.size :])
    # on a point-to-point link IFA_ADDRESS is the other end, and IFA_LOCAL ours (linux/if_addr.h)
    address = ip_address(found.get(IFA_LOCAL) or found[IFA_ADDRESS])
    return RawAddress(index, ip_interface(f"{address}/{prefix}"), scope)


def _parse_route(payload: bytes) -> RawRoute | None:
    family, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(payload)
    found = attributes(payload[_ROUTE.size :])
    table = _number(found[RTA_TABLE]) if RTA_TABLE in found else table
    if family not in {socket.AF_INET, socket.AF_INET6} or kind != RTN_UNICAST or table == RT_TABLE_LOCAL:
        return None
    destination = ip_network((found[RTA_DST], prefix)) if RTA_DST in found else None
    if destination is None and table != RT_TABLE_MAIN:  # of policy routing, for some packets only
        return None
    metric = _number(found.get(RTA_PRIORITY, b""))
    hops = _next_hops(found) if destination is None else ()
    return RawRoute(family, _first_link(found), metric, destination, table, hops)


def _first_link(route: dict[int, bytes]) -> int:
    """The outgoing link of a route; of a multipath route, the first next hop's."""
    if RTA_MULTIPATH in route:
        return int(_NEXT_HOP.unpack_from(route[RTA_MULTIPATH])[3])
    return _number(route.get(RTA_OIF, b""))


def _next_hops(route: dict[int, bytes]) -> tuple[tuple[int, Address], ...]:
    """The gateways of a route, with the indices of their links."""
    raw = route.get(RTA_MULTIPATH, b"")
    hops = [(_number(route.get(RTA_OIF, b"")), route)]
    while len(raw) >= _NEXT_HOP.size:
        length, _, _, link = _NEXT_HOP.unpack_from(raw)
        if not _NEXT_HOP.size <= length <= len(raw):
            raise ValueError(f"a next hop of {length} bytes, where {len(raw)} are left")
        hops.append((link, attributes(raw[_NEXT_HOP.size : length])))
        raw = raw[_padded(length) :]
    return tuple((link, gateway) for link, found in hops if (gateway := _gateway(found)))


def _gateway(hop: dict[int, bytes]) -> Address | None:
    """RTA_GATEWAY, or RTA_VIA (struct rtvia: family, address) for a gateway of the other family."""
    if RTA_GATEWAY in hop:
        return ip_address(hop[RTA_GATEWAY])
    return ip_address(hop[RTA_VIA][2:]) if RTA_VIA in hop else None


def family_of(address: Address) -> int:
    """AF_INET or AF_INET6."""
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def attributes(raw: bytes) -> dict[int, bytes]:
    """Attributes by type (RTA_OK of rtnetlink(3)); ValueError if one is longer than what is left."""
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, at)
        if not _ATTRIBUTE.size <= length <= len(raw) - at:
            raise ValueError(f"a netlink attribute of {length} bytes, where {len(raw) - at} are left")
        found[kind & _TYPE_MASK] = raw[at + _ATTRIBUTE.size : at + length]
        at += _padded(length)
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute (struct rtattr), padded."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_padded(length) - length)


def _named(name: str) -> bytes:
    return attribute(IFLA_IFNAME, name.encode() + b"\0") if name else b""


def _sought(name: str) -> bytes:
    """The attribute to find a link by its name or, if it is longer, by its alternative name."""
    if _is_short(name):
        return _named(name)
    return attribute(IFLA_ALT_IFNAME, name.encode() + b"\0")


def _is_short(name: str) -> bool:
    return len(name.encode()) < IFNAMSIZ


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)
