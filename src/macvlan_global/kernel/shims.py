"""Shims: macvlan links of the host itself, by which it reaches containers on a parent and they reach it.

A shim takes no part in ARP for the host: `arp_filter` has it answer those only that the host reaches through it, which
are containers of this host, so that to all others the parent alone answers, with its own MAC. The host never asks for a
container's MAC either: its question would be a broadcast with the host's address and the shim's MAC, and others on the
wire would believe it (RFC 826). Each container is a permanent neighbour entry instead, and `mcast_solicit=0` keeps the
host silent if one is missing. There is no such filter for neighbour discovery, so IPv6 is off unless the shim has an
address of its own, and then it has no link-local one and heeds no router.

All requests run on a thread of their own, in the host's network namespace.
"""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from ipaddress import ip_address, ip_interface
from typing import TypeVar

from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.kernel import rtnl
from macvlan_global.kernel.container_link import IPV6_OFF, hide, read_setting, write_setting
from macvlan_global.kernel.names import shim_name
from macvlan_global.kernel.ports import HostPath, LinkFact, MacvlanSpec, Shim
from macvlan_global.kernel.rtnl import RawAddress, RouteSocket, attribute, attributes, family_of
from macvlan_global.subnets import Address

T = TypeVar("T")

FIXED_SETTINGS = (
    ("ipv4/conf/*/arp_filter", "1"),
    ("ipv4/conf/*/arp_ignore", "0"),
    ("ipv4/conf/*/proxy_arp", "0"),
    ("ipv4/neigh/*/mcast_solicit", "0"),
)
"""Sysctls without which a shim must not be up: it would answer for others on the wire, not answer containers, or ask in
the host's name. A new link has those of `conf/default`."""
IPV6_SETTINGS = (
    ("ipv6/conf/*/accept_ra", "0"),
    ("ipv6/conf/*/autoconf", "0"),
    ("ipv6/conf/*/addr_gen_mode", "1"),  # IN6_ADDR_GEN_MODE_NONE, linux/if_link.h
    ("ipv6/conf/*/dad_transmits", "0"),
    ("ipv6/neigh/*/mcast_solicit", "0"),
)
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, to, from, tos, table, protocol, scope, type, flags
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg: family, index of the link, state, flags, type
_U32 = struct.Struct("=I")
RTM_DELROUTE, RTM_NEWNEIGH, RTM_DELNEIGH = 25, 28, 29
RTPROT_STATIC, RT_SCOPE_LINK, RTA_PREFSRC = 4, 253, 7
NLM_F_REPLACE, NUD_PERMANENT, NDA_DST = 0x100, 0x80, 1
RTMGRP_LINK = 0x1
CHANGES = (
    RTMGRP_LINK | rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV4_ROUTE | rtnl.RTMGRP_IPV6_IFADDR | rtnl.RTMGRP_IPV6_ROUTE
)
_BYTES = 1 << 16
_GONE = {errno.ENODEV, errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL}
"""Refusals to delete something that is gone already."""


class NetlinkShims:
    """See `macvlan_global.kernel.ports.Shims`."""

    def __init__(
        self, open_socket: Callable[[], RouteSocket], errors: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        """`errors` translates the kernel's errors; nothing is opened before the first request."""
        self._open = open_socket
        self._errors = errors
        self._socket: RouteSocket | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shims")
        self._indices: frozenset[int] = frozenset()  # of the shims that were seen

    async def all(self) -> list[Shim]:
        """See `Shims.all`."""
        with self._errors("reading the host's own macvlan links"):
            found = await self._run(_observe)
        self._indices = frozenset(found)
        return list(found.values())

    async def add(self, parent: str, *, mac: str, ipv6: bool) -> str:
        """See `Shims.add`."""
        with self._errors(f"making the host's own macvlan link on {parent}"):
            made = await self._run(lambda links: _add(links, parent, mac, ipv6=ipv6))
        self._indices |= {made.index}
        return made.name

    async def settle(self, name: str, *, ipv6: bool) -> None:
        """See `Shims.settle`."""
        with self._errors(f"setting {name} up"):
            await self._run(lambda links: _settle(links, name, ipv6=ipv6))

    async def delete(self, name: str) -> None:
        """See `Shims.delete`."""
        with self._errors(f"deleting {name}"), _unless_gone():
            await self._run(lambda links: links.delete(name))

    async def add_address(self, name: str, address: Address) -> None:
        """See `Shims.add_address`."""
        with self._errors(f"setting {address} on {name}"):
            await self._run(lambda links: _add_address(links, name, address))

    async def delete_address(self, name: str, address: Address) -> None:
        """See `Shims.delete_address`."""
        with self._errors(f"removing {address} from {name}"), _unless_gone():
            await self._run(lambda links: _delete_address(links, name, address))

    async def add_path(self, name: str, path: HostPath) -> None:
        """See `Shims.add_path`."""
        with self._errors(f"setting the host's route to {path.address} over {name}"):
            await self._run(lambda links: _add_path(links, name, path))

    async def delete_path(self, name: str, address: Address) -> None:
        """See `Shims.delete_path`."""
        with self._errors(f"removing the host's route to {address} over {name}"):
            await self._run(lambda links: _delete_path(links, name, address))

    async def changes(self) -> AsyncGenerator[None]:
        """See `Shims.changes`."""
        with self._errors("following changes of links, addresses and routes"):
            following = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            with following:
                following.setblocking(False)
                following.bind((0, CHANGES))
                yield
                while True:
                    try:
                        received = await asyncio.get_running_loop().sock_recv(following, _BYTES)
                    except OSError as error:
                        if error.errno != errno.ENOBUFS:  # changes were dropped, for want of room
                            raise
                        yield
                        continue
                    if self._concerns(received):
                        yield

    def close(self) -> None:
        """Close the socket and let the thread end. Idempotent."""
        with contextlib.suppress(RuntimeError):  # closed already
            self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _concerns(self, received: bytes) -> bool:
        """Whether a datagram of changes is about more than routes of other links, or links of containers."""
        try:
            return any(self._matters(kind, payload) for kind, payload in rtnl.parts(received))
        except (ValueError, LookupError, struct.error):  # not to be parsed, so a change of whatever
            return True

    def _matters(self, kind: int, payload: bytes) -> bool:
        if kind in {rtnl.RTM_NEWROUTE, RTM_DELROUTE}:
            found = attributes(payload[_ROUTE.size :]).get(rtnl.RTA_OIF, b"")
            return bool(found) and _U32.unpack(found)[0] in self._indices
        if kind in {rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK}:
            link = rtnl.parse_link(payload).fact
            return link.is_shim or link.kind not in {"macvlan", "veth"}
        return True

    async def _run(self, work: Callable[[RouteSocket], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._opened()))

    def _opened(self) -> RouteSocket:
        if self._socket is None or self._socket.closed:
            self._socket = self._open()
        return self._socket

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Take a refusal to delete something that is gone for done."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise


def _observe(links: RouteSocket) -> dict[int, Shim]:
    """Every shim, by its index."""
    dumped = [each.fact for each in links.dump()]
    lower = {each.index: each for each in dumped}
    addresses, routes, macs = links.addresses(), _routes(links), _neighbours(links)
    found = {}
    for link in (each for each in dumped if each.is_shim):
        leads = {(address, source) for index, address, source in routes if index == link.index}
        paths = {
            HostPath(address, macs[link.index, address], source)
            for address, source in leads
            if source and (link.index, address) in macs
        }
        found[link.index] = Shim(
            name=link.name,
            parent=lower[link.lower].name if link.lower in lower else "",
            mac=link.mac,
            settled=link.up
            and (link.lower not in lower or link.mtu == lower[link.lower].mtu)
            and all(read_setting(each, link.name) == value for each, value in FIXED_SETTINGS),
            ipv6=read_setting(IPV6_OFF, link.name) == "0",
            addresses=frozenset(each.interface.ip for each in addresses if each.link == link.index),
            paths=frozenset(paths),
            unfinished=frozenset({address for address, _ in leads} - {each.address for each in paths}),
        )
    return found


def _routes(links: RouteSocket) -> list[tuple[int, Address, Address | None]]:
    """Host routes that somebody added: the index of the link, the destination, and the preferred source address."""
    found: list[tuple[int, Address, Address | None]] = []
    for payload in links.dump_raw(rtnl.RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        family, prefix, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(payload)
        if (prefix, kind, protocol) != (_bits(family), rtnl.RTN_UNICAST, RTPROT_STATIC):
            continue
        values = attributes(payload[_ROUTE.size :])
        if rtnl.RTA_DST in values and rtnl.RTA_OIF in values:
            source = ip_address(values[RTA_PREFSRC]) if RTA_PREFSRC in values else None
            found.append((_U32.unpack(values[rtnl.RTA_OIF])[0], ip_address(values[rtnl.RTA_DST]), source))
    return found


def _neighbours(links: RouteSocket) -> dict[tuple[int, Address], str]:
    """MACs of permanent neighbour entries, by the index of the link and the address."""
    found = {}
    for payload in links.dump_raw(rtnl.RTM_GETNEIGH, _NEIGHBOUR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        family, index, state, _, _ = _NEIGHBOUR.unpack_from(payload)
        values = attributes(payload[_NEIGHBOUR.size :])
        if state & NUD_PERMANENT and _bits(family) and NDA_DST in values and rtnl.NDA_LLADDR in values:
            found[index, ip_address(values[NDA_DST])] = values[rtnl.NDA_LLADDR].hex(":")
    return found


def _bits(family: int) -> int:
    return {int(socket.AF_INET): 32, int(socket.AF_INET6): 128}.get(family, 0)


def _add(links: RouteSocket, parent: str, mac: str, *, ipv6: bool) -> LinkFact:
    name = shim_name(parent)
    spec, on = MacvlanSpec(name, parent, "bridge", mac), links.get(parent).fact
    try:
        links.add_macvlan(spec, on.index)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        if not _is_half_made(links.get(name).fact, mac, on):
            raise Conflict(
                f"there is an interface {name} already (EEXIST); if nobody needs it, delete it (ip link delete {name})"
            ) from error
        links.delete(name)
        links.add_macvlan(spec, on.index)
    try:
        hide(links, name)
        _settle(links, name, ipv6=ipv6)
        return links.get(name).fact
    except BaseException:
        with contextlib.suppress(OSError):
            links.delete(name)
        raise


def _is_half_made(link: LinkFact, mac: str, parent: LinkFact) -> bool:
    """Whether a link is a shim of a driver that ended before it could mark it as ours: it has the MAC that we give."""
    # a macvlan that is made on a macvlan stands on the device below (macvlan_common_newlink)
    lower = parent.lower if parent.kind == "macvlan" else parent.index
    return (link.kind, link.alias, link.up, link.mac, link.lower) == ("macvlan", "", False, mac, lower)


def _settle(links: RouteSocket, name: str, *, ipv6: bool) -> None:
    settings = [*FIXED_SETTINGS, (IPV6_OFF, "0" if ipv6 else "1"), *IPV6_SETTINGS]
    fixed = {setting for setting, _ in FIXED_SETTINGS}
    link = links.get(name).fact
    # it went down with its parent's, and does not go up again (macvlan_device_event in drivers/net/macvlan.c)
    mtu = {each.fact.index: each.fact.mtu for each in links.dump()}.get(link.lower, link.mtu)
    if mtu != link.mtu:
        links.set_mtu(name, mtu)
    for setting, value in settings:
        if why_not := write_setting(setting, name, value, must_be=setting in fixed):
            raise Unavailable(why_not)
    links.set_up(name, up=True)


def _add_address(links: RouteSocket, name: str, address: Address) -> None:
    try:
        links.add_address(links.get(name).fact.index, ip_interface(address))
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def _delete_address(links: RouteSocket, name: str, address: Address) -> None:
    index = links.get(name).fact.index
    links.delete_address(RawAddress(index, ip_interface(address), rtnl.RT_SCOPE_UNIVERSE))


def _add_path(links: RouteSocket, name: str, path: HostPath) -> None:
    index = links.get(name).fact.index
    mac = attribute(rtnl.NDA_LLADDR, bytes.fromhex(path.mac.replace(":", "")))
    # first: without it the host would ask the wire for the container's MAC
    links.do(RTM_NEWNEIGH, rtnl.NLM_F_CREATE | NLM_F_REPLACE, _neighbour(index, path.address) + mac)
    route = _route(index, path.address) + attribute(RTA_PREFSRC, path.source.packed)
    try:
        links.do(rtnl.RTM_NEWROUTE, rtnl.NLM_F_CREATE | rtnl.NLM_F_EXCL, route)
    except OSError as error:
        sources = {source for at, address, source in _routes(links) if (at, address) == (index, path.address)}
        if error.errno != errno.EEXIST or not sources:  # of the operator, which stays as it is
            raise
        if sources != {path.source}:
            links.do(RTM_DELROUTE, 0, _route(index, path.address))
            links.do(rtnl.RTM_NEWROUTE, rtnl.NLM_F_CREATE | rtnl.NLM_F_EXCL, route)


def _delete_path(links: RouteSocket, name: str, address: Address) -> None:
    with _unless_gone():
        index = links.get(name).fact.index
        with _unless_gone():
            links.do(RTM_DELROUTE, 0, _route(index, address))
        links.do(RTM_DELNEIGH, 0, _neighbour(index, address))


def _route(index: int, address: Address) -> bytes:
    scope = RT_SCOPE_LINK if address.version == 4 else rtnl.RT_SCOPE_UNIVERSE
    table, family = rtnl.RT_TABLE_MAIN, family_of(address)
    head = _ROUTE.pack(family, address.max_prefixlen, 0, 0, table, RTPROT_STATIC, scope, rtnl.RTN_UNICAST, 0)
    return head + attribute(rtnl.RTA_DST, address.packed) + attribute(rtnl.RTA_OIF, _U32.pack(index))


def _neighbour(index: int, address: Address) -> bytes:
    return _NEIGHBOUR.pack(family_of(address), index, NUD_PERMANENT, 0, 0) + attribute(NDA_DST, address.packed)
