"""Who holds an address, and what may be asked about them. Pure."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from macvlan_global.store.records import AddressRecord, PoolRecord


@dataclass(frozen=True, slots=True)
class Identity:
    """Which run of which host's driver this is, and during which boot; written beside what is taken.

    `host` is the host's id, which no rename changes; `name` is what operators call it, "" if that is its id.
    """

    host: str
    incarnation: str
    boot: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims an address. `label` names an aux address."""

    kind: Literal["gateway", "aux", "endpoint"]
    network: str
    endpoint: str = ""
    label: str = ""

    def holds(self, record: AddressRecord) -> bool:
        """Whether `record` already is this claim."""
        return record.kind == self.kind and record.network == self.network and record.endpoint == self.endpoint

    def shares(self, record: AddressRecord) -> bool:
        """Whether `record` is another claim of its network on the same address: a gateway may be an aux address too."""
        return self.kind != "endpoint" and record.kind in {"gateway", "aux"} and record.network == self.network


class Peers(Protocol):
    """What the address book asks about those who hold addresses."""

    async def is_stale(self, address: AddressRecord) -> bool:
        """Whether the endpoint that claims an address is known to be dead."""
        ...

    async def network_name(self, network: str) -> str:
        """A network as the operator knows it: its name if it is known, else the beginning of its id."""
        ...

    async def endpoint_name(self, address: AddressRecord) -> str:
        """Which endpoint has an address, as the operator knows it: its container, else the beginning of its id."""
        ...

    def host_name(self, host: str) -> str:
        """The host with this id as the operator knows it."""
        ...


InUse = Callable[[PoolRecord, str], Awaitable[str]]
"""Who on the wire of a pool's network has a bare address that the books have free, in words that follow "in use on the
wire:"; "" if nobody has, if nobody can be asked, or if nobody is to be."""


async def ask_nobody(_pool: PoolRecord, _address: str) -> str:
    """The `InUse` of those who believe their books."""
    return ""


def is_our_earlier_request(record: AddressRecord, identity: Identity) -> bool:
    """Whether this host asked for this very address before, and nothing came of it yet."""
    return record.kind == "reserved" and record.asked and record.host == identity.host


async def describe_holder(peers: Peers, record: AddressRecord) -> str:
    """Who has an address, in words that follow "in use"."""
    if record.kind == "reserved":
        return "by a container that is just being started"
    if record.kind == "endpoint":
        name = await peers.endpoint_name(record)
        return f"by {name} on host {peers.host_name(record.host)}"
    what = "its gateway" if record.kind == "gateway" else f"its aux address {record.label}"
    return f"by network {await peers.network_name(record.network)} as {what}"


async def describe_overlap(peers: Peers, wanted: PoolRecord, other: PoolRecord) -> str:
    """Why a pool cannot be beside another one, and what would work."""
    name = other.network and await peers.network_name(other.network)
    holder = f"network {name} has it" if name else "a network is being created with it"
    part = f" (range {other.range})" if other.range else ""
    return (
        f"--subnet {wanted.subnet} overlaps with {other.subnet}{part} in address space {other.space}: {holder}. "
        "Use another subnet, a --ip-range of its own for each, or --ipam-opt space=NAME for a VLAN that reuses "
        "addresses"
    )


async def describe_taken_pool(peers: Peers, taken: PoolRecord | None, subnet: str) -> str:
    """Why no pool with this subnet can be claimed: somebody has it (`taken`), or it was released meanwhile."""
    if taken:
        return f"--subnet {subnet} is in use by network {await peers.network_name(taken.network)}; use another subnet"
    # a release that came late, or of another create of the same subnet, which failed
    return f"--subnet {subnet} was released while the network was being created; try again"
