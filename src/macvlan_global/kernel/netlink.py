"""The kernel port over rtnetlink(7).

No request is made on the event loop: the kernel carries it out under a lock of its own (rtnl), and whoever ends a
container with thousands of links holds that for seconds. Requests that take well under a millisecond otherwise have one
thread: looking at a link, making one, setting it up. The others have threads of their own: setting down (about twenty
milliseconds, in which the kernel waits for its other CPUs) and dumps (the longer, the more links there are), deleting
(as long, but answered much earlier: see `deletion`), and all work inside containers.

Every method raises one of the six classes of `errors.py` and nothing else: `kernel_errors` is around each request.
"""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from macvlan_global.deadline import waiting_for
from macvlan_global.errors import Conflict, Internal, Invalid, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel import arp_probe, container_link, uppers
from macvlan_global.kernel.address_changes import AddressChanges, ChangeSocket, open_change_socket
from macvlan_global.kernel.deletion import Deletion, LinkEvents, open_link_events
from macvlan_global.kernel.neighbour_watch import PacketNeighbourSocket, open_watch_socket
from macvlan_global.kernel.netns import NamespacePool, entered
from macvlan_global.kernel.ports import (
    ContainerLink,
    InterfaceConfig,
    LinkFact,
    MacvlanSpec,
    MadeInside,
    NeighbourSocket,
    RouteFacts,
    Station,
)
from macvlan_global.kernel.rtnl import ANSWER_SECONDS, RawLink, RouteSocket
from macvlan_global.kernel.shims import NetlinkShims
from macvlan_global.kernel.workers import Workers
from macvlan_global.subnets import Address, parse_address

T = TypeVar("T")

log = logging.getLogger(__name__)

ALTIFNAMSIZ = 127  # less the closing NUL
DELETING_MOST = 16
"""Deletions at a time: the kernel has those that wait for the CPUs together wait once (rcu_barrier)."""

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
    errno.EMFILE: Unavailable,
    errno.ENFILE: Unavailable,
    errno.ENOMEM: Unavailable,
    errno.ENOBUFS: Unavailable,
    errno.EINTR: Unavailable,
    errno.ETIMEDOUT: Unavailable,
}

_HINTS = {
    errno.EOPNOTSUPP: "the kernel has no such kind of link; load its module (modprobe 8021q dummy macvlan)",
    errno.EPERM: "CAP_NET_ADMIN is missing; run the driver as root",
    errno.EEXIST: "there is one already",
    errno.EBUSY: "device or resource busy: the MAC is in use on this parent, or the parent is a port of a bridge or "
    "carries ipvlan links",
    errno.EADDRINUSE: "the MAC is in use on this parent",
    errno.EINVAL: "the kernel refused the combination: a passthru parent carries one link only, the MTU must not be "
    "above the parent's, and not every kind of interface can be a parent",
    errno.ERANGE: "not the name of an interface",
    errno.ENETDOWN: "the link below it is down",
    errno.EMFILE: arp_probe.NO_DESCRIPTOR,
    errno.ENFILE: "this host has no file descriptor left; raise fs.file-max (sysctl)",
    errno.EINTR: "the list changed while it was read, each time; try again",
    errno.ETIMEDOUT: f"the kernel did not answer within {ANSWER_SECONDS:g} s; try again",
}


@contextlib.contextmanager
def kernel_errors(doing: str) -> Iterator[None]:
    """Translate what a request to the kernel may raise into one of the six classes, `doing` in front.

    Other exceptions are bugs and pass.
    """
    try:
        yield
    except OSError as error:
        number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or 0
        hint = _HINTS.get(number, os.strerror(number))
        name = errno.errorcode.get(number, str(number))
        raise _CLASSES.get(number, Internal)(f"{doing}: {hint} ({name})") from error
    except RuntimeError as error:
        raise Unavailable(f"{doing}: no thread can be started for it ({error}); try again") from error
    except UnicodeEncodeError as error:
        raise Invalid(f"{doing}: not the name of an interface") from error
    except (ValueError, ArithmeticError, LookupError, struct.error) as error:
        raise Internal(f"{doing}: the answer of the kernel is malformed ({error})") from error


@dataclass(frozen=True, slots=True)
class Sockets:
    """Doors to the kernel: an rtnetlink socket in the thread's namespace, a packet socket on the link of a name,
    entering the namespace at a path, paths to all other namespaces, a socket that tells of changes of addresses or
    of routes, a packet socket that receives address resolution on the link of a name, and a socket that tells of
    changes of links in the thread's namespace. Tests play them."""

    route: Callable[[], RouteSocket] = RouteSocket
    packet: Callable[[str], socket.socket] = arp_probe.open_packet_socket
    enter: Callable[[str], AbstractContextManager[None]] = entered
    namespaces: Callable[[], list[str]] = uppers.namespaces
    changes: Callable[[int], ChangeSocket] = open_change_socket
    watch: Callable[[str, bool], socket.socket] = open_watch_socket
    events: Callable[[], LinkEvents] = open_link_events


class _HostThread:
    """Requests in the host's namespace, on one thread and one after the other. The thread's rtnetlink socket is opened
    before the first one, and again after it broke."""

    def __init__(self, route: Callable[[], RouteSocket], name: str) -> None:
        self._route = route
        self._thread = Workers(name, at_end=self._close)
        self._opened: RouteSocket | None = None

    async def run(self, work: Callable[[RouteSocket], T]) -> T:
        """Make requests. If the caller is cancelled while they are under way, this waits for their end all the same:
        only then is it known what there is to undo."""
        with waiting_for("the kernel"):
            return await self._thread.run(lambda: work(self._socket()), to_the_end=True)

    def close(self) -> None:
        """Close the socket and let the thread end. Idempotent."""
        self._thread.close()

    def _socket(self) -> RouteSocket:
        if self._opened is None or self._opened.closed:
            self._opened = self._route()
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()


class NetlinkKernel:
    """See `macvlan_global.kernel.ports.Kernel`. Two rtnetlink sockets for the host, each with its thread, one for quick
    requests and one for slow ones, and threads for deletions and for the namespaces of containers."""

    def __init__(self, sockets: Sockets | None = None) -> None:
        """Nothing is opened before the first request."""
        self._sockets = sockets or Sockets()
        self._quick = _HostThread(self._sockets.route, "rtnetlink quick")
        self._slow = _HostThread(self._sockets.route, "rtnetlink slow")
        # a deletion that was answered keeps its thread for twenty milliseconds more, and nobody is to wait for that
        self._deleting = Workers("rtnetlink deleting", DELETING_MOST)
        self._deleting_inside = NamespacePool(DELETING_MOST, route=self._sockets.route, enter=self._sockets.enter)
        self._namespaces = NamespacePool(route=self._sockets.route, enter=self._sockets.enter)
        # closing a packet socket waits for all CPUs, and what an engine waits for is not to stand behind that
        self._advertising = NamespacePool(1, route=self._sockets.route, enter=self._sockets.enter)
        self._changes = AddressChanges(self._sockets.changes)
        self._own = RouteFacts()
        self._reading_own = asyncio.Lock()
        self.shims = NetlinkShims(self._sockets.route, kernel_errors)

    async def link(self, name: str) -> LinkFact | None:
        """See `Kernel.link`. RTM_GETLINK by name finds alternative names too."""
        found = await self._get(name)
        if found is None:
            return None
        if not found.master:
            return found.fact
        try:
            with kernel_errors(f"reading the bridge or bond of {name}"):
                master = await self._quick.run(lambda links: links.get(index=found.master))
        except NotFound:  # it was deleted a moment ago, so the link is in none
            return found.fact
        return replace(found.fact, master=master.fact.name)

    async def links(self) -> list[LinkFact]:
        """See `Kernel.links`."""
        with kernel_errors("listing links"):
            found = await self._slow.run(lambda links: links.dump())
        names = {link.fact.index: link.fact.name for link in found}
        return [replace(link.fact, master=names.get(link.master, "")) if link.master else link.fact for link in found]

    async def routes(self) -> RouteFacts:
        """See `Kernel.routes`."""
        with kernel_errors("listing addresses and routes"):
            return await self._slow.run(_route_facts)

    async def own_addresses(self) -> RouteFacts:
        """See `Kernel.own_addresses`."""
        async with self._reading_own:  # whoever comes while a dump is under way waits for its end
            with kernel_errors("reading the addresses of this host"):
                if self._changes.begin():
                    try:
                        self._own = await self._slow.run(_route_facts)
                    except BaseException:
                        self._changes.fail()
                        raise
                    self._changes.end()
            return self._own

    async def add_vlan(self, name: str, master: str, vlan_id: int) -> None:
        """See `Kernel.add_vlan`."""

        def make(links: RouteSocket) -> str:
            links.add_vlan(name, _index(links, master), vlan_id)
            return container_link.make_hostless(links, name)

        with kernel_errors(f"making the sub-interface {name} (VLAN {vlan_id}) on {master}"):
            _warn_of_ipv6(name, await self._quick.run(make))

    async def add_dummy(self, name: str) -> None:
        """See `Kernel.add_dummy`."""

        def make(links: RouteSocket) -> str:
            links.add_dummy(name)
            return container_link.make_hostless(links, name)

        with kernel_errors(f"making the dummy link {name}"):
            _warn_of_ipv6(name, await self._quick.run(make))

    async def add_macvlan(self, spec: MacvlanSpec) -> None:
        """See `Kernel.add_macvlan`."""

        def make(links: RouteSocket) -> None:
            links.add_macvlan(spec, _index(links, spec.parent))
            try:
                links.set_alias(spec.name, name=spec.name)
            except Exception:
                with contextlib.suppress(Exception), contextlib.closing(self._sockets.route()) as other:
                    other.delete(spec.name)
                raise

        with kernel_errors(f"making a macvlan link in mode {spec.mode} on {spec.parent}"):
            await self._quick.run(make)

    async def set_up(self, name: str) -> None:
        """See `Kernel.set_up`."""
        with kernel_errors(f"setting {name} up"):
            await self._quick.run(lambda links: links.set_up(name, up=True))

    async def set_down(self, name: str) -> None:
        """See `Kernel.set_down`."""
        with kernel_errors(f"setting {name} down"):
            await self._slow.run(lambda links: links.set_up(name, up=False))

    async def delete(self, name: str) -> bool:
        """See `Kernel.delete`."""
        deletion = Deletion(self._sockets.events)

        def work() -> None:
            with contextlib.closing(self._sockets.route()) as links:
                deletion.delete(links, name)

        try:
            with kernel_errors(f"deleting {name}"), waiting_for("the kernel"):
                await deletion.told(self._deleting.run(work, to_the_end=True), None)
        except NotFound:
            return False
        return True

    async def upper_of(self, name: str) -> str:
        """See `Kernel.upper_of`."""
        link = await self.link(name)
        if link is None:
            return ""
        if link.master and link.master_kind != "vrf":  # which only chooses its routes
            return f"the {link.master_kind or 'link'} {link.master}, of which it is a port,"
        links = await self.links()
        above = [each for each in links if each.lower == link.index and each.kind != "veth"]  # it is its other end
        if named := [each.name for each in above if not each.is_shim]:
            return named[0]
        return await self._upper_elsewhere(name, link, links)

    async def _upper_elsewhere(self, name: str, link: LinkFact, links: Sequence[LinkFact]) -> str:
        """See `upper_of`: one in another namespace. `links` are those of the host."""
        shims = {each.mac for each in links if each.is_shim}
        with kernel_errors(f"looking for links that stand on {name}"):
            if mac := await self._slow.run(lambda links: uppers.in_fdb(links, link.index, shims)):
                return f"a macvlan with the MAC {mac} in another network namespace"
            for path in await self._slow.run(lambda _links: self._sockets.namespaces()):
                try:
                    found = await self._namespaces.run(path, lambda inside: uppers.inside(inside, link.index))
                except Unavailable as error:  # there may be one
                    return f"perhaps a link ({error})"
                if found:
                    return f"{found} in the network namespace {path}"
        return ""

    async def add_in_sandbox(self, spec: MacvlanSpec, link: ContainerLink, config: InterfaceConfig) -> MadeInside:
        """See `Kernel.add_in_sandbox`."""

        def make(inside: RouteSocket, outside: RouteSocket, parent: int) -> MadeInside:
            return container_link.add(inside, outside, spec, parent, link, config)

        with kernel_errors(f"making a macvlan link in mode {spec.mode} on {spec.parent} in a container"):
            made = await self._namespaces.run_with_both(
                link.sandbox, lambda outside: _index(outside, spec.parent), make
            )
        return made or MadeInside(why_not="the engine makes the container's network namespace only afterwards")

    async def delete_in_sandbox(self, link: ContainerLink) -> bool:
        """See `Kernel.delete_in_sandbox`."""
        deletion = Deletion(self._sockets.events)
        with kernel_errors("deleting a link in a container"):
            request = self._deleting_inside.run(
                link.sandbox, lambda inside: container_link.delete(inside, link, deletion)
            )
            return await deletion.told(request, gone=True) or False

    async def find_in_sandbox(self, link: ContainerLink) -> bool | None:
        """See `Kernel.find_in_sandbox`."""
        with kernel_errors("looking for a link in a container"):
            found = await self._namespaces.run(link.sandbox, lambda inside: container_link.find(inside, link))
        return None if found is None else bool(found)

    async def mark_in_sandbox(self, link: ContainerLink) -> bool:
        """See `Kernel.mark_in_sandbox`."""
        with kernel_errors("setting the alias of a link in a container"):
            return await self._namespaces.run(link.sandbox, lambda inside: container_link.mark(inside, link)) or False

    async def flush_addresses(self, link: ContainerLink) -> bool:
        """See `Kernel.flush_addresses`."""
        with kernel_errors("removing the addresses of a link in a container"):
            done = await self._namespaces.run(link.sandbox, lambda inside: container_link.flush_addresses(inside, link))
        return done or False

    async def restore(self, link: ContainerLink, config: InterfaceConfig) -> bool:
        """See `Kernel.restore`."""
        with kernel_errors("setting a link in a container up again"):
            done = await self._namespaces.run(link.sandbox, lambda inside: container_link.restore(inside, link, config))
        return done or False

    async def advertise(self, link: ContainerLink) -> bool:
        """See `Kernel.advertise`."""
        with kernel_errors("advertising the addresses of a container"):
            done = await self._advertising.run(link.sandbox, lambda inside: container_link.advertise(inside, link))
        return done or False

    async def probe(self, parent: str, address: str, *, tries: int = 3, wait: float = 1.0) -> Station | None:
        """See `Kernel.probe`. The host's own addresses are looked up: it does not receive its own replies."""
        probed = parse_address(address, "address")
        on = (await self._need(parent)).fact
        with kernel_errors(f"probing for {address} on {parent}"):
            if own := await self._own_link(on, probed):
                return Station(link=own)
            mac = await arp_probe.probe(on.name, probed, tries=tries, wait=wait, open_socket=self._sockets.packet)
        return Station(mac) if mac else None

    async def watch_neighbours(self, parent: str) -> NeighbourSocket:
        """See `Kernel.watch_neighbours`."""
        on = (await self._need(parent)).fact
        with kernel_errors(f"watching {parent} for conflicts"):
            return await arp_probe.open_on_thread(
                lambda: PacketNeighbourSocket(on.name, self._sockets.watch), PacketNeighbourSocket.abandon
            )

    async def mac_in_sandbox(self, link: ContainerLink) -> str:
        """See `Kernel.mac_in_sandbox`."""
        with kernel_errors("reading the MAC of a link in a container"):
            found = await self._namespaces.run(link.sandbox, lambda inside: container_link.mac_of(inside, link))
        return found or ""

    async def close(self) -> None:
        """See `Kernel.close`."""
        self._quick.close()
        self._slow.close()
        self._deleting.close()
        self._deleting_inside.close()
        self._namespaces.close()
        self._advertising.close()
        self._changes.close()
        self.shims.close()

    async def _own_link(self, on: LinkFact, address: Address) -> str:
        """The link by which this host answers for an address on the segment of the link `on`, "" if it does not."""

        def holders(links: RouteSocket) -> list[LinkFact]:
            indices = {each.link for each in links.addresses() if each.interface.ip == address}
            return [each.fact for each in links.dump() if each.fact.index in indices] if indices else []

        found = await self._slow.run(holders)
        return next((each.name for each in found if arp_probe.answers_on(on, each, address)), "")

    async def _get(self, name: str) -> RawLink | None:
        if not _may_be_name(name):
            return None
        try:
            with kernel_errors(f"looking for {name}"):
                return await self._quick.run(lambda links: links.get(name))
        except NotFound:
            return None

    async def _need(self, name: str) -> RawLink:
        found = await self._get(name)
        if found is None:
            raise _no_link(name)
        return found


def _may_be_name(name: str) -> bool:
    """Whether the kernel can have a link of this name, or of this alternative name."""
    try:
        return 0 < len(name.encode()) <= ALTIFNAMSIZ and "\0" not in name
    except UnicodeEncodeError:  # a lone surrogate, which JSON can hold and no interface name
        return False


def _index(links: RouteSocket, name: str) -> int:
    """The index of the link of this name or alternative name; NotFound if there is none."""
    if not _may_be_name(name):
        raise _no_link(name)
    try:
        return links.get(name).fact.index
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise _no_link(name) from error
        raise


def _no_link(name: str) -> NotFound:
    return NotFound(f"there is no interface {name} on this host")


def _warn_of_ipv6(name: str, why_not: str) -> None:
    if why_not:
        log.warning("the host may get IPv6 addresses on %s, which is for containers only: %s", name, why_not)


def _route_facts(links: RouteSocket) -> RouteFacts:
    dumped = [link.fact for link in links.dump()]
    names = {link.index: link.name for link in dumped}
    shims = {link.index for link in dumped if link.is_shim}
    addresses = [each for each in links.addresses() if each.link not in shims]
    routes = [each for each in links.routes() if each.link not in shims]
    defaults = sorted(
        (route for route in routes if route.destination is None and route.link in names),
        key=lambda route: (route.family, route.metric),
    )
    default_links = tuple(dict.fromkeys(names[route.link] for route in defaults))
    named = {*default_links, *(names.get(each.link, "") for each in addresses)}
    return RouteFacts(
        destinations=tuple(route.destination for route in routes if route.destination),
        addresses=tuple((names.get(each.link, ""), each.interface) for each in addresses),
        default_link=default_links[0] if default_links else "",
        further_defaults=default_links[1:],
        wireless=frozenset(name for name in named if name and Path("/sys/class/net", name, "phy80211").exists()),
        gateways=tuple((names.get(link, ""), gateway) for route in defaults for link, gateway in route.hops),
    )
