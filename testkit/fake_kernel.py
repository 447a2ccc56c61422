"""A kernel in memory, held to `kernel_contract` like the real one."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import TypeVar

from macvlan_global.errors import Conflict, Invalid, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel import arp_ndp
from macvlan_global.kernel.container_link import OUR_PREFIX
from macvlan_global.kernel.names import OUR_ALIAS
from macvlan_global.kernel.ports import (
    ETH_P_8021Q,
    ContainerLink,
    InterfaceConfig,
    LinkFact,
    MacvlanSpec,
    MadeInside,
    NeighbourFrame,
    RouteFacts,
    Station,
)
from testkit.fake_shims import FakeShims
from testkit.faults import Faults

T = TypeVar("T")

MAX_NAME = 15
ARPHRD_LOOPBACK = 772
ARPHRD_NONE = 0xFFFE
NEIGHBOUR_MAC = "02:00:5e:00:00:01"
"""Of whoever is on a wire."""


class FakeNeighbourSocket:
    """A `NeighbourSocket` whose frames a test puts in. `lost` are those for which there was no room."""

    def __init__(self, kernel: "FakeKernel", parent: str) -> None:
        """Opened on a link by `FakeKernel.watch_neighbours`."""
        self._kernel = kernel
        self._parent = parent
        self._frames: list[NeighbourFrame] = []
        self._due = asyncio.Event()
        self.lost = 0
        self.closed = False

    def put(self, frame: bytes, *, outgoing: bool = False) -> None:
        """A frame passes the link."""
        self._frames.append((frame, outgoing))
        self._due.set()

    def wake(self) -> None:
        """Something happened to the link."""
        self._due.set()

    async def wait(self) -> None:
        """See `NeighbourSocket.wait`."""
        await self._due.wait()

    def take(self, most: int) -> list[NeighbourFrame]:
        """See `NeighbourSocket.take`."""
        link = self._kernel.hosted.get(self._parent)
        if link is None:
            raise NotFound(f"there is no interface {self._parent} on this host")
        if not link.up:
            raise Unavailable(f"interface {self._parent} cannot be watched for conflicts: it is down")
        taken, self._frames = self._frames[:most], self._frames[most:]
        if not self._frames:
            self._due.clear()
        return taken

    def dropped(self) -> int:
        """See `NeighbourSocket.dropped`."""
        lost, self.lost = self.lost, 0
        return lost

    async def close(self) -> None:
        """See `NeighbourSocket.close`."""
        self.closed = True


class FakeKernel:
    """Links live in dicts: `hosted` in the host's namespace, `sandboxed` by namespace path.

    `failing` maps a method's name to the error its next call raises; `faults` numbers every step that changes
    something, to try each that can fail. `altnames` are further names of links. `neighbours` are the addresses that
    others have on the segment of a link, by its name; the host's own are in `route_facts`. `namespaces` are those of
    containers that are there before anything is in them. The configuration of a link that was made inside one is in
    `configs`, by the link's alias; `probed` lists the probes, and `advertised` the names of links whose addresses were
    advertised. `watched` are the latest sockets that receive address resolution, by link.
    """

    def __init__(self, *names: str, routes: RouteFacts | None = None) -> None:
        """Start with `lo` and a plain device, up, for each name."""
        self.hosted: dict[str, LinkFact] = {}
        self.sandboxed: dict[str, dict[str, LinkFact]] = {}
        self.failing: dict[str, BaseException] = {}
        self.faults = Faults()
        self.altnames: dict[str, str] = {}
        self.neighbours: dict[str, set[str]] = {}
        self.probed: list[tuple[str, str]] = []
        self.namespaces: set[str] = set()
        self.configs: dict[str, InterfaceConfig] = {}
        self.advertised: list[str] = []
        self.watched: dict[str, FakeNeighbourSocket] = {}
        self._passthru: set[int] = set()
        self.route_facts = routes or RouteFacts()
        self.shims = FakeShims(self)
        self._last_index = 0
        self._put("lo", loopback=True, mac="00:00:00:00:00:00", mtu=65536, hardware=ARPHRD_LOOPBACK)
        self.hosted["lo"] = replace(self.hosted["lo"], up=True)
        for name in names:
            self.add_device(name)

    def add_device(self, name: str, *, up: bool = True, mtu: int = 1500, **facts: object) -> None:
        """A device appears, a plain one unless `facts` (fields of LinkFact) say otherwise."""
        self._put(name, mtu=mtu, **facts)
        self.hosted[name] = replace(self.hosted[name], up=up)

    def add_operators_vlan(self, name: str, master: str, vlan_id: int) -> None:
        """The operator makes a sub-interface, up."""
        self._add_vlan(name, master, vlan_id)
        self.hosted[name] = replace(self.hosted[name], alias="", up=True)
        del self.altnames[f"macvlan-global-{name}"]

    def set_mtu(self, name: str, mtu: int) -> None:
        """Somebody sets the MTU of a link. Macvlan links on it are lowered with it, and not raised."""
        link = self.hosted[name] = replace(self.hosted[name], mtu=mtu)
        for each in self._on(link.index):
            if each.kind == "macvlan" and each.mtu > mtu and each.name in self.hosted:
                self.hosted[each.name] = replace(each, mtu=mtu)

    def rename(self, name: str, to: str) -> None:
        """Somebody renames a link of the host."""
        self.hosted[to] = replace(self.hosted.pop(name), name=to)

    def enslave(self, name: str, master: str) -> None:
        """Somebody makes a link a port of a bridge or bond, or puts it into a VRF."""
        kind = self.hosted[master].kind
        self.hosted[name] = replace(self.hosted[name], master=master, master_kind=kind)

    def move(self, name: str, sandbox: str, new_name: str = "eth0") -> None:
        """The engine moves a link into a container."""
        link = self.hosted.pop(name)
        self.sandboxed.setdefault(sandbox, {})[new_name] = replace(link, name=new_name)

    def change(self, sandbox: str, link_name: str = "eth0", /, **fields: str) -> None:
        """A container changes its link: `name`, `mac` or `alias`."""
        link = self.sandboxed[sandbox].pop(link_name)
        changed = replace(link, **fields)  # type: ignore[arg-type]  # fields by name
        self.sandboxed[sandbox][changed.name] = changed

    def end_namespace(self, sandbox: str) -> None:
        """A container's namespace goes, and with it the links in it."""
        self.namespaces.discard(sandbox)
        for link in self.sandboxed.pop(sandbox, {}).values():
            self._remove(link.index)

    def move_back(self, sandbox: str, name: str, host_name: str) -> None:
        """The engine moves a link back to the host."""
        self.hosted[host_name] = replace(self.sandboxed[sandbox].pop(name), name=host_name)

    async def link(self, name: str) -> LinkFact | None:
        """See `Kernel.link`."""
        return await self.step("link", lambda: self._named(name))

    async def links(self) -> list[LinkFact]:
        """See `Kernel.links`."""
        return await self.step("links", lambda: list(self.hosted.values()))

    async def routes(self) -> RouteFacts:
        """See `Kernel.routes`."""
        return await self.step("routes", lambda: self.route_facts)

    async def own_addresses(self) -> RouteFacts:
        """See `Kernel.own_addresses`."""
        if error := self.failing.pop("own_addresses", None):
            raise error
        return self.route_facts

    async def add_vlan(self, name: str, master: str, vlan_id: int) -> None:
        """See `Kernel.add_vlan`."""
        await self.step("add_vlan", lambda: self._add_vlan(name, master, vlan_id))

    async def add_dummy(self, name: str) -> None:
        """See `Kernel.add_dummy`."""
        await self.step("add_dummy", lambda: self._add_dummy(name))

    async def add_macvlan(self, spec: MacvlanSpec) -> None:
        """See `Kernel.add_macvlan`."""
        await self.step("add_macvlan", lambda: self.make(spec))

    async def set_up(self, name: str) -> None:
        """See `Kernel.set_up`."""
        await self.step("set_up", lambda: self._set_up(name))

    async def set_down(self, name: str) -> None:
        """See `Kernel.set_down`."""
        await self.step("set_down", lambda: self._set_down(name))

    async def delete(self, name: str) -> bool:
        """See `Kernel.delete`. Links that stand on it go with it, wherever they are."""
        return await self.step("delete", lambda: self._delete(name))

    async def upper_of(self, name: str) -> str:
        """See `Kernel.upper_of`."""
        return await self.step("upper_of", lambda: self._upper_of(name))

    async def add_in_sandbox(self, spec: MacvlanSpec, link: ContainerLink, config: InterfaceConfig) -> MadeInside:
        """See `Kernel.add_in_sandbox`."""
        return await self.step("add_in_sandbox", lambda: self._add_in_sandbox(spec, link.sandbox, config))

    async def delete_in_sandbox(self, link: ContainerLink) -> bool:
        """See `Kernel.delete_in_sandbox`."""
        return await self.step("delete_in_sandbox", lambda: self._delete_in_sandbox(link))

    async def find_in_sandbox(self, link: ContainerLink) -> bool | None:
        """See `Kernel.find_in_sandbox`."""
        return await self.step("find_in_sandbox", lambda: self._find_in_sandbox(link))

    async def mark_in_sandbox(self, link: ContainerLink) -> bool:
        """See `Kernel.mark_in_sandbox`."""
        return await self.step("mark_in_sandbox", lambda: self._mark(link))

    async def flush_addresses(self, link: ContainerLink) -> bool:
        """See `Kernel.flush_addresses`."""
        return await self.step("flush_addresses", lambda: self._flush_addresses(link))

    async def restore(self, link: ContainerLink, config: InterfaceConfig) -> bool:
        """See `Kernel.restore`."""
        return await self.step("restore", lambda: self._restore(link, config))

    async def advertise(self, link: ContainerLink) -> bool:
        """See `Kernel.advertise`. A link that the engine moved is up there."""
        return await self.step("advertise", lambda: self._advertise(link))

    async def probe(self, parent: str, address: str, *, tries: int = 3, wait: float = 1.0) -> Station | None:
        """See `Kernel.probe`. Without waiting; `probed` keeps what was probed."""
        return await self.step("probe", lambda: self._probe(parent, address))

    async def watch_neighbours(self, parent: str) -> FakeNeighbourSocket:
        """See `Kernel.watch_neighbours`."""
        return await self.step("watch_neighbours", lambda: self._watch(parent))

    async def mac_in_sandbox(self, link: ContainerLink) -> str:
        """See `Kernel.mac_in_sandbox`."""
        return await self.step("mac_in_sandbox", lambda: found.mac if (found := self._with_alias(link)) else "")

    async def close(self) -> None:
        """See `Kernel.close`."""

    async def step(self, method: str, work: Callable[[], T]) -> T:
        """One request, which can be made to fail under the name of its method."""
        await asyncio.sleep(0)  # the real one waits for the kernel, and others go on meanwhile
        if error := self.failing.pop(method, None):
            raise error
        number = self.faults.begin(method)
        result = work()
        self.faults.end(number)
        return result

    def _named(self, name: str) -> LinkFact | None:
        return self.hosted.get(name) or self.hosted.get(self.altnames.get(name, ""))

    def _add_vlan(self, name: str, master: str, vlan_id: int) -> None:
        lower = self._need(master)
        if any((link.vlan_id, link.vlan_protocol) == (vlan_id, ETH_P_8021Q) for link in self._on(lower.index)):
            raise Conflict(f"making {name}: {master} has VLAN {vlan_id} already (EEXIST)")
        facts: dict[str, object] = {"lower": lower.index, "mac": lower.mac, "mtu": lower.mtu, "vlan_id": vlan_id}
        self._put(name, kind="vlan", vlan_protocol=ETH_P_8021Q, alias=OUR_ALIAS, **facts)
        self.altnames[f"macvlan-global-{name}"] = name

    def _add_dummy(self, name: str) -> None:
        self._put(name, kind="dummy", alias=OUR_ALIAS)
        self.altnames[f"macvlan-global-{name}"] = name

    def make(self, spec: MacvlanSpec) -> None:
        """Make a macvlan link."""
        lower = self._need(spec.parent)
        if lower.kind == "macvlan":  # a macvlan on a macvlan stands on what that one stands on
            lower = self._by_index(lower.lower) or lower
        on_it = [link for link in self._on(lower.index) if link.kind == "macvlan"]
        if not lower.is_ethernet or lower.kind in {"vrf", "ipvlan"} or spec.mtu > lower.mtu:
            raise Conflict(f"making {spec.name} on {spec.parent}: refused (EINVAL)")
        if lower.master_kind in {"bridge", "bond", "team", "openvswitch"}:
            raise Conflict(f"making {spec.name} on {spec.parent}: it is a port (EBUSY)")
        if on_it and (spec.mode == "passthru" or lower.index in self._passthru):
            raise Conflict(f"making {spec.name}: a passthru parent carries one link only (EINVAL)")
        facts: dict[str, object] = {"kind": "macvlan", "lower": lower.index, "mtu": spec.mtu or lower.mtu}
        facts["alias"] = spec.name
        mac = spec.mac or (lower.mac if spec.mode == "passthru" else "")
        self._put(spec.name, **facts | ({"mac": mac} if mac else {}))
        self._passthru.discard(lower.index)
        if spec.mode == "passthru":
            self._passthru.add(lower.index)

    def _set_up(self, name: str) -> None:
        link = self._need(name)
        lower = self._by_index(link.lower)
        if lower and link.kind == "vlan" and not lower.up:
            raise Unavailable(f"setting {name} up: the link below it is down (ENETDOWN)")
        if link.kind == "macvlan" and lower and lower.index not in self._passthru:
            taken = {other.mac for other in self._on(link.lower) if other.up and other.index != link.index}
            if link.mac in taken | {lower.mac}:
                raise Conflict(f"setting {name} up: the MAC is in use on this parent (EADDRINUSE)")
        self.hosted[link.name] = replace(link, up=True)

    def _set_down(self, name: str) -> None:
        link = self._need(name)
        self.hosted[link.name] = replace(link, up=False)
        if watched := self.watched.get(link.name):
            watched.wake()

    def _delete(self, name: str) -> bool:
        if name not in self.hosted:
            return False
        self._remove(self.hosted[name].index)
        return True

    def _in_sandbox(self, link: ContainerLink) -> list[str]:
        links = self.sandboxed.get(link.sandbox, {})
        known = [name for name, each in links.items() if link.alias and each.alias == link.alias]
        return known or [
            name for name, each in links.items() if each.mac == link.mac and not each.alias.startswith(OUR_PREFIX)
        ]

    def _find_in_sandbox(self, link: ContainerLink) -> bool | None:
        if link.sandbox not in self.namespaces and link.sandbox not in self.sandboxed:
            return None
        return bool(self._in_sandbox(link))

    def _mark(self, link: ContainerLink) -> bool:
        found = self._in_sandbox(link)
        links = self.sandboxed.get(link.sandbox, {})
        if len(found) != 1 or links[found[0]].alias or not link.alias:
            return False
        links[found[0]] = replace(links[found[0]], alias=link.alias)
        return True

    def _delete_in_sandbox(self, link: ContainerLink) -> bool:
        found = self._in_sandbox(link)
        if len(found) != 1:
            return False
        del self.sandboxed[link.sandbox][found[0]]
        return True

    def _add_in_sandbox(self, spec: MacvlanSpec, sandbox: str, config: InterfaceConfig) -> MadeInside:
        self._need(spec.parent)
        if sandbox not in self.namespaces and sandbox not in self.sandboxed:
            return MadeInside(why_not="there is no namespace yet")
        links = self.sandboxed.setdefault(sandbox, {})
        if found := self._in_sandbox(ContainerLink(sandbox, alias=spec.name)):
            return MadeInside(found[0])
        numbered = (f"{config.name}{number}" for number in range(len(links) + 1))
        name = next(each for each in numbered if each not in links) if config.numbered else config.name
        if name in links:
            raise Conflict(f"the interface name {name} is taken in this container")
        self.make(spec)
        try:
            self._set_up(spec.name)
        except MacvlanGlobalError:
            self._delete(spec.name)
            raise
        link = self.hosted.pop(spec.name)
        links[name] = replace(link, name=name)
        self.configs[spec.name] = config
        return MadeInside(name)

    def _with_alias(self, link: ContainerLink) -> LinkFact | None:
        links = self.sandboxed.get(link.sandbox, {}).values()
        return next((each for each in links if link.alias and each.alias == link.alias), None)

    def _flush_addresses(self, link: ContainerLink) -> bool:
        if self._with_alias(link) is None:
            return False
        self.configs[link.alias] = replace(self.configs[link.alias], addresses=())
        return True

    def _restore(self, link: ContainerLink, config: InterfaceConfig) -> bool:
        found = self._with_alias(link)
        if found is None or found.up:
            return False
        self.sandboxed[link.sandbox][found.name] = replace(found, up=True)
        self.configs[link.alias] = config
        return True

    def _advertise(self, link: ContainerLink) -> bool:
        found = self._in_sandbox(link)
        self.advertised += found[:1]
        return bool(found)

    def _watch(self, parent: str) -> FakeNeighbourSocket:
        link = self._need(parent)
        if not link.is_ethernet:
            raise Unavailable(f"interface {parent} cannot be watched for conflicts: it is not Ethernet")
        self.watched[link.name] = opened = FakeNeighbourSocket(self, link.name)
        if not link.up:
            opened.wake()
        return opened

    def _probe(self, parent: str, address: str) -> Station | None:
        link = self._need(parent)
        self.probed.append((link.name, address))
        for own, each in self.route_facts.addresses:
            if str(each.ip) == address and (each.version == 4 or own == link.name):
                return Station(link=own)
        if not link.up:
            raise Unavailable(
                f"interface {parent} cannot be probed for addresses: it is down; set it up (ip link set {parent} up)"
            )
        answers = address in self.neighbours.get(link.name, set())
        if watched := self.watched.get(link.name):
            watched.put(arp_ndp.probe(ip_address(address), _packed(link.mac)), outgoing=True)
            if answers:
                watched.put(arp_ndp.advertisement(ip_address(address), _packed(NEIGHBOUR_MAC)))
        return Station(NEIGHBOUR_MAC) if answers else None

    def _need(self, name: str) -> LinkFact:
        link = self._named(name)
        if link is None:
            raise NotFound(f"there is no interface {name} on this host")
        return link

    def _upper_of(self, name: str) -> str:
        link = self._named(name)
        if link and link.master and link.master_kind != "vrf":
            return f"the {link.master_kind} {link.master}"
        return next((each.name for each in self._on(link.index) if not each.is_shim), "") if link else ""

    def _by_index(self, index: int) -> LinkFact | None:
        return next((link for link in self.hosted.values() if link.index == index), None)

    def _on(self, index: int) -> list[LinkFact]:
        everywhere = [*self.hosted.values(), *(x for links in self.sandboxed.values() for x in links.values())]
        return [link for link in everywhere if index and link.lower == index]

    def _put(self, name: str, **facts: object) -> None:
        if len(name.encode()) > MAX_NAME:
            raise Invalid(f"making {name}: not a name of an interface (ERANGE)")
        if name in self.hosted:
            raise Conflict(f"making {name}: there is one already (EEXIST)")
        self._last_index += 1
        index = self._last_index
        base = LinkFact(name=name, index=index, mac=f"02:00:00:00:00:{index:02x}", mtu=1500, up=False)
        self.hosted[name] = replace(base, **facts)  # type: ignore[arg-type]  # fields by name

    def _remove(self, index: int) -> None:
        for upper in self._on(index):
            self._remove(upper.index)
        for links in (self.hosted, *self.sandboxed.values()):
            for name in [name for name, link in links.items() if link.index == index]:
                del links[name]


def _packed(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
