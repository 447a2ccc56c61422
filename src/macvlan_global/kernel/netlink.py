"""The kernel port over rtnetlink(7)."""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from macvlan_global.errors import Conflict, Internal, Invalid, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel import arp_probe, container_link
from macvlan_global.kernel.netns import NamespacePool
from macvlan_global.kernel.ports import InterfaceConfig, LinkFact, MacvlanSpec, MadeInside, RouteFacts, Station
from macvlan_global.kernel.rtnl import RawLink, RouteSocket
from macvlan_global.subnets import Address

ALTIFNAMSIZ = 127  # less the closing NUL

_CLASSES: dict[int, type[MacvlanGlobalError]] = {
    errno.ENODEV: NotFound,
    errno.EEXIST: Conflict,
    errno.EBUSY: Conflict,
    errno.EADDRINUSE: Conflict,
    errno.EADDRNOTAVAIL: Conflict,
    errno.EINVAL: Conflict,  # the kernel's answer to a second link on a passthru parent
    errno.EOPNOTSUPP: Unavailable,
    errno.ENETDOWN: Unavailable,
    errno.EPERM: Unavailable,
    errno.EACCES: Unavailable,
    errno.ERANGE: Invalid,
}

_HINTS = {
    errno.EOPNOTSUPP: "the kernel has no such kind of link; load its module (modprobe 8021q dummy macvlan)",
    errno.EPERM: "CAP_NET_ADMIN is missing; run the driver as root",
    errno.EBUSY: "device or resource busy: the MAC is in use on this parent, or the parent is a port of a bridge or "
    "carries ipvlan links",
    errno.EADDRINUSE: "the MAC is in use on this parent",
    errno.EINVAL: "the kernel refused the combination: a passthru parent carries one link only, the MTU must not be "
    "above the parent's, and not every kind of interface can be a parent",
    errno.ERANGE: "not the name of an interface",
    errno.ENETDOWN: "the link below it is down",
}


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        hint = _HINTS.get(number, os.strerror(number))
        name = errno.errorcode.get(number, str(number))
        raise _CLASSES.get(number, Internal)(f"{what}: {hint} ({name})") from error


class NetlinkKernel:
    """See `macvlan_global.kernel.ports.Kernel`. One rtnetlink socket for the host, threads for sandboxes."""

    def __init__(self) -> None:
        """Nothing is opened before the first request."""
        self._opened: RouteSocket | None = None
        self._sandboxes = NamespacePool()
        # closing a packet socket waits for all processors, and what an engine waits for is not to stand behind that
        self._announcing = NamespacePool(threads=1)

    async def link(self, name: str) -> LinkFact | None:
        """See `Kernel.link`. RTM_GETLINK by name finds alternative names too."""
        found = await self._get(name)
        if found is None:
            return None
        if not found.master:
            return found.fact
        with _asking(f"reading the bridge or bond of {name}"):
            return replace(found.fact, master=self._socket().get(index=found.master).fact.name)

    async def links(self) -> list[LinkFact]:
        """See `Kernel.links`."""
        with _asking("listing links"):
            found = self._socket().dump()
        names = {link.fact.index: link.fact.name for link in found}
        return [replace(link.fact, master=names.get(link.master, "")) if link.master else link.fact for link in found]

    async def routes(self) -> RouteFacts:
        """See `Kernel.routes`."""
        with _asking("listing addresses and routes"):
            names = {link.fact.index: link.fact.name for link in self._socket().dump()}
            addresses = self._socket().addresses()
            routes = self._socket().routes()
        defaults = sorted(
            (route for route in routes if route.destination is None and route.link in names),
            key=lambda route: (route.family, route.metric),
        )
        return RouteFacts(
            destinations=tuple(route.destination for route in routes if route.destination),
            addresses=tuple((names.get(each.link, ""), each.interface) for each in addresses),
            default_link=names[defaults[0].link] if defaults else "",
        )

    async def add_vlan(self, name: str, master: str, vlan_id: int) -> None:
        """See `Kernel.add_vlan`."""
        index = await self._index(master)
        with _asking(f"making the sub-interface {name} (VLAN {vlan_id}) on {master}"):
            self._socket().add_vlan(name, index, vlan_id)

    async def add_dummy(self, name: str) -> None:
        """See `Kernel.add_dummy`."""
        with _asking(f"making the dummy link {name}"):
            self._socket().add_dummy(name)

    async def add_macvlan(self, spec: MacvlanSpec) -> None:
        """See `Kernel.add_macvlan`."""
        index = await self._index(spec.parent)
        with _asking(f"making a macvlan link in mode {spec.mode} on {spec.parent}"):
            self._socket().add_macvlan(spec, index)

    async def set_up(self, name: str) -> None:
        """See `Kernel.set_up`."""
        with _asking(f"setting {name} up"):
            self._socket().set_up(name, up=True)

    async def set_down(self, name: str) -> None:
        """See `Kernel.set_down`."""
        with _asking(f"setting {name} down"):
            self._socket().set_up(name, up=False)

    async def delete(self, name: str) -> bool:
        """See `Kernel.delete`."""
        try:
            with _asking(f"deleting {name}"):
                self._socket().delete(name)
        except NotFound:
            return False
        return True

    async def add_in_sandbox(self, spec: MacvlanSpec, mac: str, sandbox: str, leg: InterfaceConfig) -> MadeInside:
        """See `Kernel.add_in_sandbox`."""
        parent = await self._index(spec.parent)
        what = f"making a macvlan link in mode {spec.mode} on {spec.parent} in a container"
        # a socket of its own: the loop's is for its thread alone
        with _asking(what), contextlib.closing(RouteSocket()) as outside:
            made = await self._sandboxes.run(
                sandbox, lambda inside: container_link.add(inside, outside, spec, parent, mac, leg)
            )
        return made or MadeInside(why_not="the engine makes the container's network namespace only afterwards")

    async def delete_in_sandbox(self, sandbox: str, mac: str, alias: str = "") -> bool:
        """See `Kernel.delete_in_sandbox`."""
        return await self._sandboxes.run(sandbox, lambda links: container_link.delete(links, mac, alias)) or False

    async def find_in_sandbox(self, sandbox: str, mac: str, alias: str = "") -> bool:
        """See `Kernel.find_in_sandbox`."""
        return await self._sandboxes.run(sandbox, lambda links: bool(container_link.find(links, mac, alias))) or False

    async def silence_in_sandbox(self, sandbox: str, alias: str) -> bool:
        """See `Kernel.silence_in_sandbox`."""
        with _asking("taking the addresses from a link in a container"):
            return await self._sandboxes.run(sandbox, lambda links: container_link.silence(links, alias)) or False

    async def revive_in_sandbox(self, sandbox: str, alias: str, leg: InterfaceConfig) -> bool:
        """See `Kernel.revive_in_sandbox`."""
        return await self._sandboxes.run(sandbox, lambda links: container_link.revive(links, alias, leg)) or False

    async def announce(self, sandbox: str, mac: str, alias: str = "") -> bool:
        """See `Kernel.announce`."""
        return await self._announcing.run(sandbox, lambda links: container_link.announce(links, mac, alias)) or False

    async def who_has(self, parent: str, address: str, *, tries: int = 3, wait: float = 1.0) -> Station | None:
        """See `Kernel.who_has`. What this host has itself it does not hear itself say."""
        asked = ip_address(address)
        on = (await self._need(parent)).fact
        if own := self._own_link(on, asked):
            return Station(link=own)
        mac = await arp_probe.who_has(on.name, asked, tries=tries, wait=wait)
        return Station(mac) if mac else None

    async def close(self) -> None:
        """See `Kernel.close`."""
        self._sandboxes.close()
        self._announcing.close()
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _own_link(self, on: LinkFact, address: Address) -> str:
        """The link with which this host itself has an address on the wire of the link `on`, "" if it has it not."""
        with _asking("listing addresses"):
            having = {each.link for each in self._socket().addresses() if each.interface.ip == address}
            links = [each.fact for each in self._socket().dump()] if having else []
        found = [each for each in links if each.index in having]
        return next((each.name for each in found if arp_probe.speaks_on(on, each, address)), "")

    def _socket(self) -> RouteSocket:
        if self._opened is None:
            self._opened = RouteSocket()
        return self._opened

    async def _get(self, name: str) -> RawLink | None:
        if not 0 < len(name.encode()) <= ALTIFNAMSIZ or "\0" in name:
            return None
        try:
            with _asking(f"looking for {name}"):
                return self._socket().get(name)
        except NotFound:
            return None

    async def _index(self, name: str) -> int:
        return (await self._need(name)).fact.index

    async def _need(self, name: str) -> RawLink:
        found = await self._get(name)
        if found is None:
            raise NotFound(f"there is no interface {name} on this host")
        return found
