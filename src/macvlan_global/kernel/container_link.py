"""A container's link, worked on where it is: each function runs on a thread that is inside the container's network
namespace. What it does is what an engine does for a link that it moves there.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from pathlib import Path

from macvlan_global.errors import Conflict, Invalid
from macvlan_global.kernel.arp_ndp import announcement
from macvlan_global.kernel.ports import InterfaceConfig, MacvlanSpec, MadeInside
from macvlan_global.kernel.rtnl import RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RawLink, RouteSocket
from macvlan_global.subnets import overlap

OWN_NAMESPACE = "/proc/thread-self/ns/net"
SETTINGS = (Path("/proc/sys/net"), Path("/sysctl/net"))
"""Where the kernel's settings are. A managed plugin finds the first place read-only, and is given the second one."""
IPV6_OFF = "ipv6/conf/*/disable_ipv6"
OURS = "mg-"
"""How aliases of ours begin: names of links in the host's namespace."""
MOST_NUMBERS = 1000
WRITABLE_WHERE = "write its service anew (macvlan-global install), or make its plugin anew"


def add(
    inside: RouteSocket, outside: RouteSocket, spec: MacvlanSpec, parent: int, mac: str, leg: InterfaceConfig
) -> MadeInside:
    """See `Kernel.add_in_sandbox`. `parent` is the index of the parent in the host's namespace, where `outside` is."""
    links = inside.dump()
    found = next((each for each in links if each.alias == spec.name), None)
    if found is None:
        taken = {each.fact.name for each in links} - _forget_unfinished(inside, links, mac, leg)
        found = _make(inside, outside, spec, parent, leg, taken)
    index = found.fact.index
    try:
        if not found.alias:
            inside.set_alias(index, spec.name)
        if why_not := _configure(inside, found, leg):
            inside.delete(index=index)
            return MadeInside(why_not=why_not)
        inside.set_up(index=index, up=True)
    except BaseException:
        with contextlib.suppress(OSError):
            inside.delete(index=index)
        raise
    return MadeInside(found.fact.name)


def delete(links: RouteSocket, mac: str, alias: str) -> bool:
    """See `Kernel.delete_in_sandbox`."""
    found = find(links, mac, alias)
    if len(found) != 1:  # of several, on parents of their own, the engine knows which is meant, and moves it back
        return False
    try:
        links.delete(index=found[0].fact.index)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False  # it went between the two requests, with its parent or its container
    return True


def find(links: RouteSocket, mac: str, alias: str) -> list[RawLink]:
    """See `Kernel.find_in_sandbox`."""
    macvlans = [each for each in links.dump() if each.fact.kind == "macvlan"]
    known = [each for each in macvlans if alias and each.alias == alias]
    return known or [each for each in macvlans if each.fact.mac == mac and not each.alias.startswith(OURS)]


def silence(links: RouteSocket, alias: str) -> bool:
    """See `Kernel.silence_in_sandbox`."""
    found = next((each for each in links.dump() if each.alias == alias), None)
    if found is None:
        return False
    for each in links.addresses():
        if each.link == found.fact.index:
            try:
                links.delete_address(each)
            except OSError as error:
                if error.errno not in {errno.EADDRNOTAVAIL, errno.ENODEV}:  # it went with another one, or with the link
                    raise
    return True


def revive(links: RouteSocket, alias: str, leg: InterfaceConfig) -> bool:
    """See `Kernel.revive_in_sandbox`."""
    found = next((each for each in links.dump() if each.alias == alias), None)
    if found is None or found.fact.up:
        return False
    index = found.fact.index
    with contextlib.suppress(OSError):  # the container may end meanwhile
        links.set_up(index=index, up=True)
        _add_addresses(links, index, leg.addresses)
        leads = {each.family for each in links.routes() if each.destination is None}
        for gateway in leg.gateways:
            if (socket.AF_INET if gateway.version == 4 else socket.AF_INET6) not in leads:
                links.add_default_route(index, gateway)
    return True


def announce(links: RouteSocket, mac: str, alias: str) -> bool:
    """See `Kernel.announce`."""
    found = find(links, mac, alias)
    if len(found) != 1 or not found[0].fact.up:
        return False
    index = found[0].fact.index
    addresses = [each for each in links.addresses() if each.link == index and each.scope == RT_SCOPE_UNIVERSE]
    # whether anybody hears it is not a reason to fail: the parent may have no carrier
    with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as out:
        out.bind((found[0].fact.name, 0))
        for each in addresses:
            out.send(announcement(each.interface.ip, bytes.fromhex(found[0].fact.mac.replace(":", ""))))
    return bool(addresses)


def _forget_unfinished(inside: RouteSocket, links: Iterable[RawLink], mac: str, leg: InterfaceConfig) -> set[str]:
    """Delete what a driver left that died right after the kernel had made the link; what that was called."""
    forgotten = set()
    for each in links:
        fact = each.fact
        if (fact.kind, fact.mac, fact.up, each.alias) == ("macvlan", mac, False, "") and fact.name.startswith(leg.name):
            inside.delete(index=fact.index)
            forgotten.add(fact.name)
    return forgotten


def _make(
    inside: RouteSocket, outside: RouteSocket, spec: MacvlanSpec, parent: int, leg: InterfaceConfig, taken: set[str]
) -> RawLink:
    here = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number in range(MOST_NUMBERS):
            name = f"{leg.name}{number}" if leg.numbered else leg.name
            if name in taken and leg.numbered:
                continue
            try:
                outside.add_macvlan(replace(spec, name=name), parent, inside=here)
            except OSError as error:
                if error.errno == errno.EEXIST and leg.numbered:  # an alternative name, or one that came just now
                    continue
                if error.errno == errno.EEXIST:
                    raise Conflict(
                        f"the interface name {name} is taken in this container; use another one, or -o ifname for a "
                        "beginning that is counted"
                    ) from error
                raise
            return inside.get(name)
    finally:
        os.close(here)
    raise Conflict(f"no interface name of the form {leg.name}N is free in this container")


def _configure(inside: RouteSocket, link: RawLink, leg: InterfaceConfig) -> str:
    """All that a leg has but being up; why that cannot be here, "" if it can."""
    index, name = link.fact.index, link.fact.name
    for each in leg.addresses:
        _check_routes(inside, index, each)
    has_ipv6 = any(each.version == 6 for each in leg.addresses)
    why_not = _set(IPV6_OFF, name, "0" if has_ipv6 else "1", must_be=False)
    if has_ipv6 and not why_not:  # as engines before 28 do; newer ones have it on, or give no IPv6 address
        why_not = _set(IPV6_OFF, "lo", "0", must_be=False)
    if why_not:
        return why_not
    _add_addresses(inside, index, leg.addresses)
    for setting, value in leg.settings:
        if why_not := _set(setting, name, value):
            return why_not
    return ""


def _add_addresses(links: RouteSocket, index: int, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
    for each in addresses:
        try:
            links.add_address(index, each)
        except OSError as error:
            if error.errno != errno.EEXIST:  # a request that came again
                raise


def _check_routes(inside: RouteSocket, index: int, address: IPv4Interface | IPv6Interface) -> None:
    """As engines do: what leads elsewhere already would hide the address, or be hidden by it."""
    own = ip_network(address.ip)
    for route in inside.routes():
        there = route.destination
        if there is None or route.link == index or route.table != RT_TABLE_MAIN or there.version != address.version:
            continue
        if overlap(there, own) or overlap(ip_network(there.network_address), address.network):
            raise Conflict(
                f"{address} cannot be set in this container: it conflicts with the route to {there} of another network"
            )


def _set(setting: str, name: str, value: str, *, must_be: bool = True) -> str:
    """Write a setting of an interface, if it is not so already; why that cannot be here, "" if it was done."""
    paths = [root / setting.replace("*", name) for root in SETTINGS]
    path = next((each for each in paths if os.access(each, os.W_OK)), paths[0])
    shown = f"net.{setting.replace('/', '.').replace('*', 'IFNAME')}"
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except FileNotFoundError as error:
        if must_be:
            raise Invalid(f"the kernel has no setting {shown}; see what there is in /proc/sys/net") from error
    except OSError as error:
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            return f"{shown} cannot be written by this driver; {WRITABLE_WHERE}"
        raise Invalid(f"the kernel refuses {shown}={value}: {error.strerror}") from error
    return ""
