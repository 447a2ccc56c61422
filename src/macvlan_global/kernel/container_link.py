"""Work on a container's link inside the container's network namespace: make, configure, find, restore and delete it.

Each function runs on a thread that is in that namespace (see `netns`), with an rtnetlink socket there, and gives a link
what an engine gives one that it moves there.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Collection, Iterable
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_network
from pathlib import Path

from macvlan_global.errors import Conflict, Invalid, Unavailable
from macvlan_global.kernel.arp_ndp import advertisement
from macvlan_global.kernel.deletion import Deletion
from macvlan_global.kernel.names import OUR_ALIAS
from macvlan_global.kernel.ports import ContainerLink, InterfaceConfig, MacvlanSpec, MadeInside
from macvlan_global.kernel.rtnl import RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RawLink, RouteSocket
from macvlan_global.subnets import overlap

OWN_NAMESPACE = "/proc/thread-self/ns/net"
SETTINGS = (Path("/proc/sys/net"), Path("/sysctl/net"))
"""Roots of the kernel's sysctls. A managed plugin finds the first one read-only, and is given the second one."""
IPV6_OFF = "ipv6/conf/*/disable_ipv6"
OUR_PREFIX = "mg-"
"""Prefix of our aliases, which are names of links in the host's namespace."""
HOSTLESS_SETTINGS = (
    (IPV6_OFF, "1"),
    ("ipv6/conf/*/accept_ra", "0"),
    ("ipv6/conf/*/autoconf", "0"),
    ("ipv6/conf/*/addr_gen_mode", "1"),  # IN6_ADDR_GEN_MODE_NONE, linux/if_link.h
)
MOST_NUMBERS = 1000
WRITABLE_WHERE = "write its service anew (macvlan-global install), or make its plugin anew"


def add(
    inside: RouteSocket,
    outside: RouteSocket,
    spec: MacvlanSpec,
    parent: int,
    link: ContainerLink,
    config: InterfaceConfig,
) -> MadeInside:
    """See `Kernel.add_in_sandbox`. `parent` is the index of the parent in the host's namespace, where `outside` is."""
    links = inside.dump()
    if found := next((each for each in links if each.alias == spec.name), None):
        return _add_again(inside, found, config)
    taken = {each.fact.name for each in links} - _delete_unfinished(inside, links, link.mac, config)
    made = _make(inside, outside, spec, parent, config, taken)
    index = made.fact.index
    try:
        inside.set_alias(spec.name, index=index)
        if why_not := _configure(inside, made, config):
            inside.delete(index=index)
            return MadeInside(why_not=why_not)
        inside.set_up(index=index, up=True)
    except BaseException:
        with contextlib.suppress(OSError):
            inside.delete(index=index)
        raise
    return MadeInside(made.fact.name)


def _add_again(inside: RouteSocket, found: RawLink, config: InterfaceConfig) -> MadeInside:
    """The link that an earlier request made. Whatever fails, it stays: a container may run with it."""
    # one that is up was finished, and what its container changed since is the container's own; but without any address
    # it may be one that `flush_addresses` took them from, before a driver died that was to delete it
    if not found.fact.up or _has_none(inside, found.fact.index, config.addresses):
        if why_not := _configure(inside, found, config):
            raise Unavailable(why_not)  # not a plain one: the container would have two
        inside.set_up(index=found.fact.index, up=True)
    return MadeInside(found.fact.name)


def _has_none(links: RouteSocket, index: int, addresses: Collection[IPv4Interface | IPv6Interface]) -> bool:
    """Whether a link has none of these addresses, if there are any."""
    there = {each.interface.ip for each in links.addresses() if each.link == index}
    return bool(addresses) and there.isdisjoint(each.ip for each in addresses)


def delete(links: RouteSocket, link: ContainerLink, deletion: Deletion) -> bool:
    """See `Kernel.delete_in_sandbox`."""
    found = find(links, link)
    if len(found) != 1:  # of several, on parents of their own, the engine knows which is meant, and moves it back
        return False
    try:
        deletion.delete(links, index=found[0].fact.index)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False  # it went between the two requests, with its parent or its container
    return True


def find(links: RouteSocket, link: ContainerLink) -> list[RawLink]:
    """The links that may be meant: see `Kernel.find_in_sandbox`."""
    macvlans = [each for each in links.dump() if each.fact.kind == "macvlan"]
    known = [each for each in macvlans if link.alias and each.alias == link.alias]
    return known or [each for each in macvlans if each.fact.mac == link.mac and not each.alias.startswith(OUR_PREFIX)]


def mark(links: RouteSocket, link: ContainerLink) -> bool:
    """See `Kernel.mark_in_sandbox`."""
    found = find(links, link)
    if len(found) != 1 or found[0].alias or not link.alias:
        return False
    links.set_alias(link.alias, index=found[0].fact.index)
    return True


def flush_addresses(links: RouteSocket, link: ContainerLink) -> bool:
    """See `Kernel.flush_addresses`."""
    found = _with_alias(links, link.alias)
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


def mac_of(links: RouteSocket, link: ContainerLink) -> str:
    """See `Kernel.mac_in_sandbox`."""
    found = _with_alias(links, link.alias)
    return found.fact.mac if found else ""


def restore(links: RouteSocket, link: ContainerLink, config: InterfaceConfig) -> bool:
    """See `Kernel.restore`."""
    found = _with_alias(links, link.alias)
    if found is None or found.fact.up:
        return False
    index = found.fact.index
    with contextlib.suppress(OSError):  # the container may end meanwhile
        links.set_up(index=index, up=True)
        _add_addresses(links, index, config.addresses)
        leads = {each.family for each in links.routes() if each.destination is None}
        for gateway in config.gateways:
            if (socket.AF_INET if gateway.version == 4 else socket.AF_INET6) not in leads:
                links.add_default_route(index, gateway)
    return True


def advertise(links: RouteSocket, link: ContainerLink) -> bool:
    """See `Kernel.advertise`."""
    found = find(links, link)
    if len(found) != 1 or not found[0].fact.up:
        return False
    index = found[0].fact.index
    addresses = [each for each in links.addresses() if each.link == index and each.scope == RT_SCOPE_UNIVERSE]
    # whether anybody hears it is not a reason to fail: the parent may have no carrier
    with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as out:
        out.bind((found[0].fact.name, 0))
        for each in addresses:
            out.send(advertisement(each.interface.ip, bytes.fromhex(found[0].fact.mac.replace(":", ""))))
    return bool(addresses)


def _with_alias(links: RouteSocket, alias: str) -> RawLink | None:
    return next((each for each in links.dump() if alias and each.alias == alias), None)


def _delete_unfinished(inside: RouteSocket, links: Iterable[RawLink], mac: str, config: InterfaceConfig) -> set[str]:
    """Delete links that a driver left behind which died right after the kernel had made them; their names."""
    deleted = set()
    for each in links:
        fact = each.fact
        if (fact.kind, fact.mac, fact.up, each.alias) == ("macvlan", mac, False, "") and fact.name.startswith(
            config.name
        ):
            inside.delete(index=fact.index)
            deleted.add(fact.name)
    return deleted


def _make(
    inside: RouteSocket, outside: RouteSocket, spec: MacvlanSpec, parent: int, config: InterfaceConfig, taken: set[str]
) -> RawLink:
    here = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for number in range(MOST_NUMBERS):
            name = f"{config.name}{number}" if config.numbered else config.name
            if name in taken and config.numbered:
                continue
            try:
                outside.add_macvlan(replace(spec, name=name), parent, inside=here)
            except OSError as error:
                if error.errno == errno.EEXIST and config.numbered:  # an alternative name, or one that came just now
                    continue
                if error.errno == errno.EEXIST:
                    raise Conflict(
                        f"the interface name {name} is taken in this container; use another one, or a prefix "
                        "with -o ifname"
                    ) from error
                raise
            return inside.get(name)
    finally:
        os.close(here)
    raise Conflict(f"no interface name of the form {config.name}N is free in this container")


def _configure(inside: RouteSocket, link: RawLink, config: InterfaceConfig) -> str:
    """Configure a link, but for setting it up. The reason for which that is not possible here, "" if it was done."""
    index, name = link.fact.index, link.fact.name
    for each in config.addresses:
        _check_routes(inside, index, each)
    has_ipv6 = any(each.version == 6 for each in config.addresses)
    why_not = write_setting(IPV6_OFF, name, "0" if has_ipv6 else "1", must_be=False)
    if has_ipv6 and not why_not:  # as engines before 28 do; newer ones have it on, or give no IPv6 address
        why_not = write_setting(IPV6_OFF, "lo", "0", must_be=False)
    if why_not:
        return why_not
    _add_addresses(inside, index, config.addresses)
    for setting, value in config.settings:
        if why_not := write_setting(setting, name, value):
            return why_not
    return ""


def _add_addresses(links: RouteSocket, index: int, addresses: Iterable[IPv4Interface | IPv6Interface]) -> None:
    for each in addresses:
        try:
            links.add_address(index, each)
        except OSError as error:
            if error.errno != errno.EEXIST:  # a request that came again
                raise


def hide(links: RouteSocket, name: str) -> None:
    """Give a link on the host our alias, by which udev and NetworkManager leave it alone, and our alternative name, by
    which systemd-networkd does.

    Raises:
        OSError: the link is gone.
    """
    index = links.get(name).fact.index
    links.set_alias(OUR_ALIAS, index=index)
    with contextlib.suppress(OSError):  # a kernel before 5.5; or somebody gave the name to another link
        links.add_altname(index, f"{OUR_ALIAS}-{name}")


def make_hostless(links: RouteSocket, name: str) -> str:
    """Keep the host off a link that was made on it, before it is up: its alias has udev and NetworkManager leave it
    alone, its alternative name systemd-networkd, and IPv6 is off.

    IPv6 stays off the link, too, if somebody switches it on for all: no address is generated, no router is heeded.

    Returns the reason for which IPv6 could not be switched off, "" if it was.

    Raises:
        OSError: the link is gone.
    """
    hide(links, name)
    for setting, value in HOSTLESS_SETTINGS:
        try:
            if why_not := write_setting(setting, name, value, must_be=False):
                return why_not
        except Invalid as error:
            return str(error)
    return ""


def _check_routes(inside: RouteSocket, index: int, address: IPv4Interface | IPv6Interface) -> None:
    """Raise Conflict if a route in the container overlaps with the subnet of an address, as engines do: one of the two
    would not be reachable."""
    own = ip_network(address.ip)
    for route in inside.routes():
        there = route.destination
        if there is None or route.link == index or route.table != RT_TABLE_MAIN or there.version != address.version:
            continue
        if overlap(there, own) or overlap(ip_network(there.network_address), address.network):
            raise Conflict(
                f"{address} cannot be set in this container: it conflicts with the route to {there} of another network"
            )


def write_setting(setting: str, name: str, value: str, *, must_be: bool = True) -> str:
    """Write a sysctl of an interface unless it has this value. The reason for which that is not possible here, "" if it
    was done."""
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


def read_setting(setting: str, name: str) -> str:
    """A sysctl of an interface, "" if the kernel has none."""
    try:
        return (SETTINGS[0] / setting.replace("*", name)).read_text().strip()
    except OSError:
        return ""
