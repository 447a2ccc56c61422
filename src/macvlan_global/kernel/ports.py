"""What we ask of the kernel, in our words. Names are interface names as `ip link` shows them."""

from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal, Protocol

from macvlan_global.subnets import Address, Subnet

MacvlanMode = Literal["bridge", "private", "vepa", "passthru"]


@dataclass(frozen=True, slots=True)
class LinkFact:
    """A network interface as it is now.

    `kind` is the kernel's ("vlan", "dummy", "macvlan", "veth"…, "" for a plain device); `master` names the bridge or
    bond it is a port of; `lower` is the index of the link it stands on (0 if none); `up` is the administrative state.
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


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """Where this host can already go: destinations, addresses by interface, and the default route's interface."""

    destinations: tuple[Subnet, ...] = ()
    addresses: tuple[tuple[str, IPv4Interface | IPv6Interface], ...] = ()
    default_link: str = ""


@dataclass(frozen=True, slots=True)
class MacvlanSpec:
    """A macvlan link to be made on `parent`, down; `name` is the one that it has in the host's namespace."""

    name: str
    parent: str
    mode: MacvlanMode
    mac: str
    mtu: int = field(default=0)


@dataclass(frozen=True, slots=True)
class InterfaceConfig:
    """What a link has inside a container's namespace, if it is made there.

    `name` is its name, or with `numbered` how its name begins, and the lowest free number follows. `settings` are those
    of the kernel for this interface alone: paths below /proc/sys/net with `*` for its name, and values. `gateways` are
    what its default routes lead to, if they must be made again.
    """

    name: str
    numbered: bool = False
    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    gateways: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class MadeInside:
    """How making a link in a container's namespace ended: its name there, or `name` "" and why it could not be."""

    name: str = ""
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Station:
    """Who has an address: somebody on a wire, with this MAC, or this host itself, on this interface."""

    mac: str = ""
    link: str = ""


class Kernel(Protocol):
    """Links of the host's network namespace.

    Raises (each method that changes something):
        NotFound: a link named is not there.
        Conflict: the name, the MAC or the parent is taken.
        Unavailable: the kernel cannot do it here (a module is missing, a link is down).
        Internal: any other refusal; the text holds the kernel's errno.
    """

    async def link(self, name: str) -> LinkFact | None:
        """The link of this name or alternative name, or None."""
        ...

    async def links(self) -> list[LinkFact]:
        """Every link. Costs a dump; not for a path that a container start waits on."""
        ...

    async def routes(self) -> RouteFacts:
        """Routes and addresses of the host. Costs two dumps."""
        ...

    async def add_vlan(self, name: str, master: str, vlan_id: int) -> None:
        """Make an 802.1Q sub-interface, down."""
        ...

    async def add_dummy(self, name: str) -> None:
        """Make a dummy link, down."""
        ...

    async def add_macvlan(self, spec: MacvlanSpec) -> None:
        """Make a macvlan link, down."""
        ...

    async def set_up(self, name: str) -> None:
        """Set a link up."""
        ...

    async def set_down(self, name: str) -> None:
        """Set a link down."""
        ...

    async def delete(self, name: str) -> bool:
        """Delete a link; False if it is not there."""
        ...

    async def add_in_sandbox(self, spec: MacvlanSpec, mac: str, sandbox: str, leg: InterfaceConfig) -> MadeInside:
        """Make a macvlan link inside a container's namespace, with all that a leg has, and set it up.

        `spec.name` becomes its alias (`ip link` shows it): by that it is known, whatever happens to its name or MAC. A
        request that comes again finds what is there. `mac` is the one it then has, also if `spec` leaves it to the
        kernel. Nothing is left of what failed.

        Raises:
            Conflict: the name is taken in there, a route in there leads to one of its addresses already; see above.
            Invalid: a setting that the kernel does not have, or not with this value.
        """
        ...

    async def delete_in_sandbox(self, sandbox: str, mac: str, alias: str = "") -> bool:
        """Delete the macvlan link with this alias inside a container's namespace, or else that with this MAC and no
        alias of ours; False if neither is there, or if several have this MAC: it is not known then which is meant."""
        ...

    async def find_in_sandbox(self, sandbox: str, mac: str, alias: str = "") -> bool:
        """Whether the namespace at this path exists and holds a macvlan link with this alias, or with this MAC.

        Raises:
            Unavailable: it exists and cannot be looked into, so nobody knows.
        """
        ...

    async def silence_in_sandbox(self, sandbox: str, alias: str) -> bool:
        """Take all addresses from a link that was made inside a container's namespace, so that it answers for none any
        more; False if it is not there. That is quick, and deleting it is not."""
        ...

    async def revive_in_sandbox(self, sandbox: str, alias: str, leg: InterfaceConfig) -> bool:
        """Set a link up again that was made inside a container's namespace and that somebody set down there, with its
        addresses, and with a default route by its gateways where there is none; whether it was down."""
        ...

    async def announce(self, sandbox: str, mac: str, alias: str = "") -> bool:
        """Tell the wire which addresses a link in a container's namespace has (gratuitous ARP, unsolicited neighbour
        advertisement); False if it is not there, or not up yet. Nobody need hear it: the wire may be away. The kernel
        takes milliseconds for it; not for a path that a container start waits on."""
        ...

    async def who_has(self, parent: str, address: str, *, tries: int = 3, wait: float = 1.0) -> Station | None:
        """Who on the wire of the link `parent` has the IPv4 or IPv6 address (bare text), or this host; None if nobody.

        Asks up to `tries` times, and waits `wait` seconds for an answer each time. Links that stand on `parent`
        themselves do not hear it (a macvlan and its parent do not see each other), so a container of this host does
        not answer: whoever asks must know its own endpoints. An address of this host counts if this host answers for
        it on that wire: an IPv6 one of the link itself or of a macvlan on it, an IPv4 one of any link (arp_ignore).

        Raises:
            NotFound: there is no such link.
            Unavailable: it is down, has no carrier or is no Ethernet, so nobody knows.
        """
        ...

    async def close(self) -> None:
        """Let go of the sockets. Idempotent."""
        ...
