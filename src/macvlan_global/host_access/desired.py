"""Shims, addresses and routes that the host must have to reach its containers. Pure.

An IPv4 container is reached from the host's own address in the subnet, if it has one: the shim answers in its name (see
`kernel.shims`), so no address is spent. Elsewhere the host is given an address of the pool. So it always is for IPv6,
since nothing keeps a link from answering neighbour solicitations for its own addresses only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal

from macvlan_global.kernel.ports import HostPath, Shim
from macvlan_global.store.records import EndpointRecord, NetworkRecord, SubnetRecord
from macvlan_global.subnets import Address, usable


@dataclass(frozen=True, slots=True)
class HostAccessFacts:
    """Observed state. `networks` are those that want host access, `endpoints` all of this host; `own` are the host's
    addresses by interface, without those of shims; `given` the addresses of pools that the host was given, by network
    and subnet; `boot` is this boot's id, and `configured` are addresses that the operator chose for the host."""

    networks: Sequence[NetworkRecord]
    endpoints: Sequence[EndpointRecord]
    own: Sequence[tuple[str, IPv4Interface | IPv6Interface]]
    given: Mapping[tuple[str, str], Address]
    boot: str
    configured: Sequence[Address] = ()


@dataclass(frozen=True, slots=True)
class AddressNeed:
    """A subnet of our pools in which the host needs an address: `address`, or any if that is None."""

    network: NetworkRecord
    subnet: SubnetRecord
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class WantedShim:
    """The shim that must be on a parent, with its own addresses and its paths to containers."""

    parent: str
    addresses: frozenset[Address] = frozenset()
    paths: frozenset[HostPath] = frozenset()

    @property
    def ipv6(self) -> bool:
        """Whether IPv6 must be on."""
        return any(each.version == 6 for each in self.addresses)


@dataclass(frozen=True, slots=True)
class HostReach:
    """The addresses (bare) at which containers of a network reach the host, "" if there is none of that family."""

    network: NetworkRecord
    address: str = ""
    address6: str = ""


@dataclass(frozen=True, slots=True)
class Desired:
    """`shims` by parent, `reach` for each network, and `problems`, each a sentence about a container that the host does
    not reach."""

    shims: Mapping[str, WantedShim]
    problems: tuple[str, ...] = ()
    reach: tuple[HostReach, ...] = ()


@dataclass(frozen=True, slots=True)
class ShimStep:
    """A change of a shim: `add` or `delete` an address of its own, `lead` to an address by a path, or `lead away`."""

    verb: Literal["add", "delete", "lead", "lead away"]
    address: Address
    path: HostPath | None = None


@dataclass(slots=True)
class _Shim:
    addresses: set[Address] = field(default_factory=set)
    paths: set[HostPath] = field(default_factory=set)


def own_source(
    subnet: SubnetRecord, parent: str, own: Iterable[tuple[str, IPv4Interface | IPv6Interface]]
) -> Address | None:
    """The host's own IPv4 address in a subnet, that of the parent first; None if it has none, or for IPv6."""
    if subnet.prefix.version == 6:
        return None
    found = [(link != parent, each.ip) for link, each in own if each.ip in subnet.prefix]
    return min(found, key=lambda each: each[0])[1] if found else None


def configured_in(subnet: SubnetRecord, configured: Iterable[Address]) -> Address | None:
    """The address that the operator chose for the host in a subnet, the first one; None if there is none."""
    return next(iter(_all_configured_in(subnet, configured)), None)


def needs(facts: HostAccessFacts) -> Iterator[AddressNeed]:
    """Subnets of our pools in which the host has no address, and was not given the one it must have: a configured one
    from the network's beginning, so that no container gets it, any other once a container runs."""
    seen = set()
    for network in facts.networks:
        for each in network.subnets:
            address = configured_in(each, facts.configured)
            wanted = each.space and address and own_source(each, network.parent, facts.own) is None
            if wanted and _given(each, network, facts) != address:
                yield AddressNeed(network, each, address)
    for network, _, address in _containers(facts):
        subnet = network.subnet_of(address)
        if subnet is None or not subnet.space or (key := (network.id, subnet.subnet)) in facts.given or key in seen:
            continue
        if configured_in(subnet, facts.configured) is None and own_source(subnet, network.parent, facts.own) is None:
            seen.add(key)
            yield AddressNeed(network, subnet)


def desired(facts: HostAccessFacts) -> Desired:
    """The shims of this host as they must be."""
    shims = {each.parent: _Shim() for each in facts.networks if each.parent}
    problems: dict[str, None] = {}
    for network in (each for each in facts.networks if each.parent):
        for each in network.subnets:
            shims[network.parent].addresses |= _addresses_in(each, network, facts)
            problems |= dict.fromkeys(_wrong_configuration(each, network, facts))
    reached: dict[Address, NetworkRecord] = {}
    for network, endpoint, address in _containers(facts):
        subnet = network.subnet_of(address)
        if subnet is None:
            continue
        other = reached.setdefault(address, network)
        if other.id != network.id:
            problems[_same_address(address, network, other)] = None
            continue
        source = _source(subnet, network, facts)
        if source is None:
            problems[_no_source(network, subnet)] = None
        else:
            shims[network.parent].paths.add(HostPath(address, endpoint.mac, source))
    wanted = {
        parent: WantedShim(parent, frozenset(each.addresses), frozenset(each.paths)) for parent, each in shims.items()
    }
    return Desired(wanted, tuple(problems), tuple(_reach(each, facts) for each in facts.networks if each.parent))


def steps(wanted: WantedShim, found: Shim) -> list[ShimStep]:
    """The changes that make a shim the wanted one, in an order in which each can be done."""
    leading = {each.address for each in wanted.paths}
    ended = {each.address for each in found.paths} | set(found.unfinished)
    paths = sorted(wanted.paths - found.paths, key=lambda each: str(each.address))
    return [
        *(ShimStep("lead away", each) for each in _sorted(ended - leading)),
        *(ShimStep("add", each) for each in _sorted(wanted.addresses - found.addresses)),
        *(ShimStep("lead", each.address, each) for each in paths),
        *(ShimStep("delete", each) for each in _sorted(found.addresses - wanted.addresses)),
    ]


def _given(subnet: SubnetRecord, network: NetworkRecord, facts: HostAccessFacts) -> Address | None:
    """The address of our pool that the host was given in a subnet; None if there is none. A configured one has one
    holder, so that of another network counts if it is on the same shim: in the same space, on the same parent."""
    address = configured_in(subnet, facts.configured)
    if address and subnet.space:
        on_shim = (each for each in facts.networks if each.parent == network.parent)
        there = ((each.id, other.subnet) for each in on_shim for other in each.subnets if other.space == subnet.space)
        if address in (facts.given.get(key) for key in there):
            return address
    return facts.given.get((network.id, subnet.subnet))


def _addresses_in(subnet: SubnetRecord, network: NetworkRecord, facts: HostAccessFacts) -> set[Address]:
    """The addresses that the shim has in a subnet. One that was given stays if the host has one of its own now."""
    found = facts.given.get((network.id, subnet.subnet)), _unclaimed(subnet, network, facts)
    return {each for each in found if each}


def _wrong_configuration(subnet: SubnetRecord, network: NetworkRecord, facts: HostAccessFacts) -> Iterator[str]:
    """Mistakes in the configured addresses of a subnet. One of our pools is refused by its claim instead."""
    if len(several := _all_configured_in(subnet, facts.configured)) > 1:
        yield _one_only(subnet, several)
    address = configured_in(subnet, facts.configured)
    if address and not subnet.space and (why := _unusable(address, subnet, facts)):
        yield f"the host gets no address of {subnet.subnet} on network {network.shown}: {why}"


def _source(subnet: SubnetRecord, network: NetworkRecord, facts: HostAccessFacts) -> Address | None:
    """The address from which the host reaches containers in a subnet; None if it has none."""
    found = own_source(subnet, network.parent, facts.own) or _given(subnet, network, facts)
    return found or _unclaimed(subnet, network, facts)


def _unclaimed(subnet: SubnetRecord, network: NetworkRecord, facts: HostAccessFacts) -> Address | None:
    """The configured address of the host in a subnet of another IPAM driver, whose books we cannot write; None if it
    has none, or needs none."""
    address = None if subnet.space else configured_in(subnet, facts.configured)
    unusable = address is None or own_source(subnet, network.parent, facts.own) or _unusable(address, subnet, facts)
    return None if unusable else address


def _all_configured_in(subnet: SubnetRecord, configured: Iterable[Address]) -> list[Address]:
    """The addresses that the operator chose in a subnet; none in that of `--ipam-driver null`, which holds any."""
    return [each for each in configured if subnet.prefix.prefixlen and each in subnet.prefix]


def _unusable(address: Address, subnet: SubnetRecord, facts: HostAccessFacts) -> str:
    """The reason why the host cannot have a configured address in a subnet of another IPAM driver, "" if it can."""
    first, stop = usable(subnet.prefix)
    held = next((f"interface {link} of this host" for link, each in facts.own if each.ip == address), "")
    held = held or next(
        (f"a container of network {each.shown}" for each, _, at in _containers(facts) if at == address), ""
    )
    if str(address) == subnet.gateway:  # an aux address may be: it is the way to keep one from containers
        held = "the network as its gateway"
    if held:
        return f"{address} of host_access_addresses is in use by {held}; choose another"
    if not first <= int(address) < stop:
        return f"{address} of host_access_addresses is the network or broadcast address; choose another"
    return ""


def _reach(network: NetworkRecord, facts: HostAccessFacts) -> HostReach:
    found: dict[int, str] = {}
    for each in network.subnets:
        if source := _source(each, network, facts):
            found.setdefault(source.version, str(source))
    return HostReach(network, found.get(4, ""), found.get(6, ""))


def _containers(facts: HostAccessFacts) -> Iterator[tuple[NetworkRecord, EndpointRecord, Address]]:
    """Addresses of containers that run, each with its endpoint and network."""
    networks = {each.id: each for each in facts.networks if each.parent}
    for endpoint in facts.endpoints:
        if endpoint.network in networks and endpoint.is_live and endpoint.sandbox and endpoint.boot == facts.boot:
            for address in endpoint.addresses:
                yield networks[endpoint.network], endpoint, address


def _sorted(addresses: Iterable[Address]) -> list[Address]:
    return sorted(addresses, key=lambda each: (each.version, int(each)))


def _same_address(address: Address, network: NetworkRecord, other: NetworkRecord) -> str:
    return (
        f"the host does not reach {address} of network {network.shown}: a container of network {other.shown}, in "
        "another address space, has the same address"
    )


def _one_only(subnet: SubnetRecord, configured: Sequence[Address]) -> str:
    first, *others = map(str, configured)
    return (
        f"the host has one address in each subnet, {first} in {subnet.subnet}; take {', '.join(others)} out of "
        "host_access_addresses"
    )


def _no_source(network: NetworkRecord, subnet: SubnetRecord) -> str:
    if subnet.space:
        return f"the host does not reach network {network.shown}: it was given no address of {subnet.subnet} yet"
    if subnet.prefix.version == 6:
        return (
            f"the host does not reach the IPv6 addresses of network {network.shown}: it needs an address of "
            f"{subnet.subnet} for itself; give it one by host_access_addresses, or use --ipam-driver macvlan-global"
        )
    return (
        f"the host does not reach network {network.shown}: it has no address in {subnet.subnet}; give it one on "
        f"{network.parent} or by host_access_addresses, or use --ipam-driver macvlan-global"
    )
