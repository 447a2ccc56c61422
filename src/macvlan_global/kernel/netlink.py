"""The kernel port over rtnetlink (rtnetlink(7)), by pyroute2, and by hand where a container waits (see `rtnl`)."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from macvlan_global.errors import Conflict, Internal, Invalid, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel.ports import LinkFact, MacvlanSpec, RouteFacts
from macvlan_global.kernel.rtnl import LinkSocket, RawLink
from macvlan_global.kernel.sandbox import Sandboxes
from macvlan_global.subnets import Subnet

ALTIFNAMSIZ = 127  # less the closing NUL
RT_TABLE_LOCAL = 255
RTN_UNICAST = 1

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


@asynccontextmanager
async def _asking(what: str) -> AsyncIterator[None]:
    try:
        yield
    except NetlinkError as error:
        hint = _HINTS.get(error.code, str(error.args[-1]))
        raise _CLASSES.get(error.code, Internal)(
            f"{what}: {hint} ({errno.errorcode.get(error.code, error.code)})"
        ) from error


class NetlinkKernel:
    """See `macvlan_global.kernel.ports.Kernel`. Two rtnetlink sockets for the host, threads for sandboxes."""

    def __init__(self) -> None:
        """Nothing is opened before the first request."""
        self._route: Any = None
        self._opening = asyncio.Lock()
        self._links: LinkSocket | None = None
        self._sandboxes = Sandboxes()

    async def link(self, name: str) -> LinkFact | None:
        """See `Kernel.link`. RTM_GETLINK by name finds alternative names too."""
        found = await self._get(name)
        if found is None:
            return None
        if not found.master:
            return found.fact
        async with _asking(f"reading the bridge or bond of {name}"):
            return replace(found.fact, master=self._direct().get(index=found.master).fact.name)

    async def links(self) -> list[LinkFact]:
        """See `Kernel.links`."""
        async with _asking("listing links"):
            found = self._direct().dump()
        names = {link.fact.index: link.fact.name for link in found}
        return [replace(link.fact, master=names.get(link.master, "")) if link.master else link.fact for link in found]

    async def routes(self) -> RouteFacts:
        """See `Kernel.routes`."""
        route = await self._socket()
        async with _asking("listing addresses and routes"):
            names = {link["index"]: link.get("ifname") async for link in await route.link("dump")}
            addresses = [
                (names.get(item["index"], ""), ip_interface(f"{item.get('address')}/{item['prefixlen']}"))
                async for item in await route.addr("dump")
            ]
            found = [item async for item in await route.route("dump")]
        unicast = [item for item in found if item["type"] == RTN_UNICAST and item.get("table") != RT_TABLE_LOCAL]
        defaults = sorted(
            (item for item in unicast if not item.get("dst") and item.get("oif")),
            key=lambda item: (item["family"], item.get("priority") or 0),
        )
        return RouteFacts(
            destinations=tuple(_destination(item) for item in unicast if item.get("dst")),
            addresses=tuple(addresses),
            default_link=names.get(defaults[0].get("oif"), "") if defaults else "",
        )

    async def add_vlan(self, name: str, master: str, vlan_id: int) -> None:
        """See `Kernel.add_vlan`."""
        index = await self._index(master)
        async with _asking(f"making the sub-interface {name} (VLAN {vlan_id}) on {master}"):
            await (await self._socket()).link("add", ifname=name, kind="vlan", link=index, vlan_id=vlan_id)

    async def add_dummy(self, name: str) -> None:
        """See `Kernel.add_dummy`."""
        async with _asking(f"making the dummy link {name}"):
            await (await self._socket()).link("add", ifname=name, kind="dummy")

    async def add_macvlan(self, spec: MacvlanSpec) -> None:
        """See `Kernel.add_macvlan`."""
        index = await self._index(spec.parent)
        async with _asking(f"making a macvlan link in mode {spec.mode} on {spec.parent}"):
            self._direct().add_macvlan(spec, index)

    async def set_up(self, name: str) -> None:
        """See `Kernel.set_up`."""
        async with _asking(f"setting {name} up"):
            await (await self._socket()).link("set", ifname=name, state="up")

    async def set_down(self, name: str) -> None:
        """See `Kernel.set_down`."""
        async with _asking(f"setting {name} down"):
            await (await self._socket()).link("set", ifname=name, state="down")

    async def delete(self, name: str) -> bool:
        """See `Kernel.delete`."""
        try:
            async with _asking(f"deleting {name}"):
                self._direct().delete(name)
        except NotFound:
            return False
        return True

    async def delete_in_sandbox(self, sandbox: str, mac: str) -> bool:
        """See `Kernel.delete_in_sandbox`."""
        return await self._sandboxes.delete_macvlan(sandbox, mac)

    async def find_in_sandbox(self, sandbox: str, mac: str) -> bool:
        """See `Kernel.find_in_sandbox`."""
        return await self._sandboxes.has_macvlan(sandbox, mac)

    async def close(self) -> None:
        """See `Kernel.close`."""
        self._sandboxes.close()
        if self._route is not None:
            self._route.close()
            self._route = None
        if self._links is not None:
            self._links.close()
            self._links = None

    def _direct(self) -> LinkSocket:
        if self._links is None:
            self._links = LinkSocket()
        return self._links

    async def _socket(self) -> Any:
        async with self._opening:
            if self._route is None:
                route = AsyncIPRoute()
                # two first requests at once would each set it up, and one would wait for answers that the other reads
                await route.setup_endpoint()
                self._route = route
        return self._route

    async def _get(self, name: str) -> RawLink | None:
        if not 0 < len(name.encode()) <= ALTIFNAMSIZ or "\0" in name:
            return None
        try:
            async with _asking(f"looking for {name}"):
                return self._direct().get(name)
        except NotFound:
            return None

    async def _index(self, name: str) -> int:
        found = await self._get(name)
        if found is None:
            raise NotFound(f"there is no interface {name} on this host")
        return found.fact.index


def _destination(route: Any) -> Subnet:
    return ip_network(f"{ip_address(route.get('dst'))}/{route['dst_len']}")
