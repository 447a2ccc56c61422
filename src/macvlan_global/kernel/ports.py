"""What we ask of the kernel, in our words. Names are interface names as `ip link` shows them."""

from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal, Protocol

from macvlan_global.subnets import Subnet

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
    """A macvlan link to be made on `parent`, down, in the host's namespace."""

    name: str
    parent: str
    mode: MacvlanMode
    mac: str
    mtu: int = field(default=0)


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

    async def delete_in_sandbox(self, sandbox: str, mac: str) -> bool:
        """Delete the macvlan link with this MAC inside a container's namespace; False if either is not there, or if
        several have this MAC: it is not known then which is meant."""
        ...

    async def find_in_sandbox(self, sandbox: str, mac: str) -> bool:
        """Whether the namespace at this path exists and holds a macvlan link with this MAC.

        Raises:
            Unavailable: it exists and cannot be looked into, so nobody knows.
        """
        ...

    async def answers(self, parent: str, address: str, *, tries: int = 3, wait: float = 1.0) -> bool:
        """Whether somebody on the wire of the link `parent` has the IPv4 or IPv6 address (bare text), or this host.

        Asks up to `tries` times, and waits `wait` seconds for an answer each time. Links that stand on `parent`
        themselves do not hear it (a macvlan and its parent do not see each other), so a container of this host does
        not answer: whoever asks must know its own endpoints.

        Raises:
            NotFound: there is no such link.
            Unavailable: it is down, has no carrier or is no Ethernet, so nobody knows.
        """
        ...

    async def close(self) -> None:
        """Let go of the sockets. Idempotent."""
        ...
