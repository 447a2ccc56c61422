"""Port to the kernel: links, routes, and probing a segment for addresses. Names are interface names as `ip link` shows
them; MACs are lower case with colons.

The host's own links are asked for by name. A container's link is a `ContainerLink`: it is in another network namespace,
under a name and with a MAC that others may have changed, so it is known by its alias; by its MAC if it has none.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal, Protocol

from macvlan_global.kernel.names import OUR_ALIAS, SHIM_PREFIX
from macvlan_global.subnets import Address, Subnet

MacvlanMode = Literal["bridge", "private", "vepa", "passthru"]

ARPHRD_ETHER = 1  # linux/if_arp.h
ETH_P_8021Q = 0x8100  # linux/if_ether.h


@dataclass(frozen=True, slots=True)
class LinkFact:
    """A network interface as it is now.

    `kind` is the kernel's ("vlan", "dummy", "macvlan", "veth"…, "" for a plain device); `master` names the bridge, bond
    or VRF it is a port of, and `master_kind` is the kernel's kind of that ("" if it has none); `lower` is the index of
    the link it stands on (0 if none); `up` is the administrative state, `carrier` the state of the wire, which counts
    only while it is up. `hardware` is ARPHRD_*. `vlan_protocol` is the EtherType of a VLAN's tag, 0 for other links.
    `alias` is its IFLA_IFALIAS.
    """

    name: str
    index: int
    mac: str
    mtu: int
    up: bool
    kind: str = ""
    loopback: bool = False
    lower: int = 0
    master: str = ""
    vlan_id: int = 0
    master_kind: str = ""
    carrier: bool = True
    hardware: int = ARPHRD_ETHER
    vlan_protocol: int = 0
    alias: str = ""

    @property
    def is_ethernet(self) -> bool:
        """Whether frames with MACs go over it. Tunnels, PPP and the loopback are not Ethernet."""
        return self.hardware == ARPHRD_ETHER

    @property
    def is_shim(self) -> bool:
        """Whether it is a macvlan link that we made for the host itself: see `Shims`."""
        return self.kind == "macvlan" and self.alias == OUR_ALIAS and self.name.startswith(SHIM_PREFIX)


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """Unicast destinations of this host's routes, its addresses by interface, and the default route's interface; all
    without those of shims.

    `further_defaults` are the interfaces of default routes that count less, the next one first; `wireless` those of
    Wi-Fi among all that are named here. `gateways` are the next hops of default routes by interface, the preferred one
    first.
    """

    destinations: tuple[Subnet, ...] = ()
    addresses: tuple[tuple[str, IPv4Interface | IPv6Interface], ...] = ()
    default_link: str = ""
    further_defaults: tuple[str, ...] = ()
    wireless: frozenset[str] = frozenset()
    gateways: tuple[tuple[str, Address], ...] = ()


@dataclass(frozen=True, slots=True)
class MacvlanSpec:
    """A macvlan link to make on `parent`. `name` is its name in the host's namespace; without a `mac` the kernel
    chooses one, with an `mtu` of 0 it has the parent's."""

    name: str
    parent: str
    mode: MacvlanMode
    mac: str
    mtu: int = field(default=0)


@dataclass(frozen=True, slots=True)
class ContainerLink:
    """Identity of a macvlan link inside a container: the path of the container's network namespace (Docker's sandbox
    key), the MAC it was made with, and its alias (IFLA_IFALIAS): its name on the host. Plain links of earlier
    versions have none."""

    sandbox: str
    mac: str = ""
    alias: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """Configuration of an interface inside a container.

    `name` is its name; with `numbered` the name's prefix, and the lowest free number follows. `settings` are sysctls of
    this interface: paths below /proc/sys/net with `*` for its name, and values. `gateways` are the next hops of default
    routes, for `restore`.
    """

    name: str
    numbered: bool = False
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    gateways: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class MadeInside:
    """Result of making a link inside a container: its name there, or `name` "" and the reason in `why_not`."""

    name: str = ""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Station:
    """Holder of a probed address: a neighbour's MAC, or the interface of this host that has the address."""

    mac: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class HostPath:
    """The host's way to an address of a container over a shim: a host route with `source` as its preferred source
    address, and a permanent neighbour entry with the container's `mac`."""

    address: Address
    mac: str
    source: Address


@dataclass(frozen=True, slots=True)
class Shim:
    """A macvlan link of the host itself, as it is. `parent` is the name of the link it stands on; `settled` says that
    it is up and has the MTU of that link and the sysctls that it must have, `ipv6` that IPv6 is on. Routes without a
    neighbour entry are no paths, and are in `unfinished`."""

    name: str
    parent: str
    mac: str
    settled: bool = True
    ipv6: bool = False
    addresses: frozenset[Address] = frozenset()
    paths: frozenset[HostPath] = frozenset()
    unfinished: frozenset[Address] = frozenset()


class Shims(Protocol):
    """The host's own macvlan links, one for each parent: by a shim the host reaches containers on that parent.

    Nothing on the wire sees them: a shim answers ARP for those only to whom the host's route leads through it, and asks
    for nobody. For errors see `Kernel`.
    """

    async def all(self) -> list[Shim]:
        """Every shim. Costs four dumps."""
        ...

    async def add(self, parent: str, *, mac: str, ipv6: bool) -> str:
        """Make a shim on a parent with this MAC, in mode bridge, settled; its name. Network managers leave it alone, as
        other links of ours. Nothing is left of what failed.

        Raises:
            Unavailable: its sysctls cannot be written here.
        """
        ...

    async def settle(self, name: str, *, ipv6: bool) -> None:
        """Give a shim the MTU of what it stands on and the sysctls that it must have, with IPv6 on or off, and set it
        up. Idempotent."""
        ...

    async def delete(self, name: str) -> None:
        """Delete a shim, if it is there."""
        ...

    async def add_address(self, name: str, address: Address) -> None:
        """Give a shim an address, as /32 or /128, without duplicate address detection. Idempotent."""
        ...

    async def delete_address(self, name: str, address: Address) -> None:
        """Remove an address from a shim, if it has it."""
        ...

    async def add_path(self, name: str, path: HostPath) -> None:
        """Lead the host to an address over a shim; a path that leads to it already is replaced. Idempotent.

        Raises:
            NotFound: there is no such shim.
            Conflict: the host does not have the source address.
        """
        ...

    async def delete_path(self, name: str, address: Address) -> None:
        """Remove the path to an address, or the part of it that is there."""
        ...

    def changes(self) -> AsyncGenerator[None]:
        """An item at once, and one after each change of the host's links, of its addresses, or of routes over shims.
        Links of containers do not count."""
        ...


NeighbourFrame = tuple[bytes, bool]
"""A frame of ARP or neighbour discovery, cut to what matters, and whether this host or a container on it sent it."""


class NeighbourSocket(Protocol):
    """Receives ARP, neighbour solicitations and advertisements of a link's segment, and nothing else.

    Raises (`take` and `dropped`):
        NotFound: the link is gone.
        Unavailable: it went down; open another socket later.
    """

    async def wait(self) -> None:
        """Wait until there is something to take: a frame, or an error."""
        ...

    def take(self, most: int) -> list[NeighbourFrame]:
        """The frames that have come, `most` at most."""
        ...

    def dropped(self) -> int:
        """Count of frames that were lost for want of room since the last question."""
        ...

    async def close(self) -> None:
        """Close it. Idempotent."""
        ...


class Kernel(Protocol):
    """Links of the host's network namespace, and of containers.

    Raises (every method):
        Unavailable: the kernel cannot do it now or here (a module is missing, a link is down, no descriptor is left, it
            did not answer, or a list changed each time while it was read).
        Internal: any other refusal; the text holds the kernel's errno.

    Raises (each method that changes something):
        NotFound: a link named is not there.
        Conflict: the name, the MAC or the parent is taken.
        Invalid: a name that no interface can have.
    """

    @property
    def shims(self) -> Shims:
        """The host's own macvlan links."""
        ...

    async def link(self, name: str) -> LinkFact | None:
        """The link of this name or alternative name, or None."""
        ...

    async def links(self) -> list[LinkFact]:
        """Every link, at one moment. Costs a dump; not for a path that a container start waits on."""
        ...

    async def routes(self) -> RouteFacts:
        """Routes and addresses of the host. Costs three dumps."""
        ...

    async def own_addresses(self) -> RouteFacts:
        """`routes()` as of now, cheap enough for each request: dumped again only after the kernel has told of a change.

        An address that was added before the call is always seen. Changes of routes may be seen seconds later on a host
        whose routing table takes long to dump.
        """
        ...

    async def add_vlan(self, name: str, master: str, vlan_id: int) -> None:
        """Make an 802.1Q sub-interface, down. It is for containers: the host has no IPv6 on it, and by its alias
        `macvlan-global` and the alternative name `macvlan-global-NAME` network managers know it."""
        ...

    async def add_dummy(self, name: str) -> None:
        """Make a dummy link, down, which is for containers as a sub-interface is."""
        ...

    async def add_macvlan(self, spec: MacvlanSpec) -> None:
        """Make a macvlan link, down. Its name becomes its alias too, by which it is known wherever it is moved."""
        ...

    async def set_up(self, name: str) -> None:
        """Set a link up."""
        ...

    async def set_down(self, name: str) -> None:
        """Set a link down. Takes about twenty milliseconds."""
        ...

    async def delete(self, name: str) -> bool:
        """Delete a link; False if it is not there. Answered once nobody finds it, and its name and MAC are free; the
        kernel goes on freeing it for about twenty milliseconds."""
        ...

    async def upper_of(self, name: str) -> str:
        """A link that stands on this one, in whichever network namespace, or the bridge or bond of which it is a port.
        In words for a log; "" if there is none but a shim or a VRF. The kernel would delete the former together with
        this one, and the latter would lose its port. In a namespace that cannot be entered there may be one. It may
        enter every namespace, which takes a millisecond for each."""
        ...

    async def add_in_sandbox(self, spec: MacvlanSpec, link: ContainerLink, config: InterfaceConfig) -> MadeInside:
        """Make a macvlan link inside a container's namespace, configure it, and set it up. Idempotent.

        `spec.name` becomes its alias, which is that of `link`: it identifies the link whatever happens to its name or
        MAC. `link.mac` is the MAC it then has, also if `spec` leaves it to the kernel. Nothing is left of a link that
        could not be finished. One that is there with this alias is never deleted: if it is up and has one of the
        addresses it stays as it is, else it is configured again.

        Raises:
            Unavailable: a setting of a link that is there cannot be written here; see above.
            Conflict: the name is taken in there, a route in there leads to one of its addresses already; see above.
            Invalid: a setting that the kernel does not have, or not with this value.
        """
        ...

    async def delete_in_sandbox(self, link: ContainerLink) -> bool:
        """Delete a container's link: the one with this alias, or else the one with this MAC and no alias of ours.
        Answered as `delete` is.

        False if neither is there, or if several have this MAC: it is not known then which is meant.
        """
        ...

    async def find_in_sandbox(self, link: ContainerLink) -> bool | None:
        """Whether the namespace holds a macvlan link with this alias, or with this MAC and no alias of ours; None if
        there is no such namespace.

        False does not prove that the link is gone: a container may have changed MAC and alias, or moved it on.

        Raises:
            Unavailable: it exists and cannot be entered, so nothing is known.
        """
        ...

    async def mark_in_sandbox(self, link: ContainerLink) -> bool:
        """Give its alias to the container's link that has this MAC and no alias; False if there is not exactly one."""
        ...

    async def flush_addresses(self, link: ContainerLink) -> bool:
        """Remove all addresses from the container's link with this alias, so that it answers for none any more; False
        if there is no such link. Quick, unlike deleting it."""
        ...

    async def restore(self, link: ContainerLink, config: InterfaceConfig) -> bool:
        """Set the container's link with this alias up again, with its addresses, and default routes by its gateways for
        families that have none; False if it was up or is not there."""
        ...

    async def advertise(self, link: ContainerLink) -> bool:
        """Advertise the addresses of a container's link on its segment: gratuitous ARP (RFC 5227 2.3), unsolicited
        neighbour advertisement (RFC 4861 7.2.6). False if the link is not there, or not up yet. It is not known whether
        anybody receives it. Takes milliseconds; not for a path that a container start waits on."""
        ...

    async def probe(self, parent: str, address: str, *, tries: int = 3, wait: float = 1.0) -> Station | None:
        """Probe the segment of the link `parent` for an IPv4 or IPv6 address (bare): its holder, which may be this
        host, or None if nobody answers.

        Sends up to `tries` probes, and waits `wait` seconds for an answer to each. Links that stand on `parent`
        themselves do not receive them (a macvlan and its parent do not see each other), so containers of this host do
        not answer: the caller must know its own endpoints. An address of this host counts if this host answers for it
        on that segment: an IPv6 one of the link itself or of a macvlan on it, an IPv4 one of any link (arp_ignore).

        Raises:
            NotFound: there is no such link.
            Invalid: not an address.
            Unavailable: it is down, has no carrier or is not Ethernet, so nothing is known.
        """
        ...

    async def watch_neighbours(self, parent: str) -> NeighbourSocket:
        """Open a socket that receives address resolution on the segment of the link `parent`. It sends nothing.

        Raises:
            NotFound: there is no such link.
            Unavailable: it is not Ethernet, or the right for such sockets is missing.
        """
        ...

    async def mac_in_sandbox(self, link: ContainerLink) -> str:
        """The MAC that the container's link with this alias has now, "" if it is not seen there."""
        ...

    async def close(self) -> None:
        """Close the sockets and let the threads end. Idempotent."""
        ...
