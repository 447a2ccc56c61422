"""Requests for networks and endpoints, and the checks that refuse one before anything is changed. Pure.

Docker's texts become typed values here, with `read`: nothing below parses a request again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Self

from macvlan_global.driver.swarm_ipv6 import refuse_gateway_of_a_container
from macvlan_global.errors import Conflict, Invalid
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.kernel.names import DERIVED_MAC, mac_from_address, parse_mac
from macvlan_global.options.endpoint import EndpointOptions
from macvlan_global.options.engine_keys import check_families
from macvlan_global.options.network import NetworkOptions, parse_options
from macvlan_global.store.records import NetworkRecord, PoolRecord
from macvlan_global.subnets import Address, Subnet, parse_address, parse_subnet

IPV6_IN_SWARM = (
    "--ipv6 cannot be used in a swarm, where each node assigns IPv6 addresses by itself, so that two containers would "
    "get the same one; create the network again without --ipv6 and its subnet, and with -o ipv6-subnet=fd00:65::/64 (a "
    "prefix of yours), which derives each container's IPv6 address from its IPv4 address"
)
PROBE_IN_SWARM = "-o probe=true cannot be used in a swarm, whose managers assign the addresses; leave it out"


@dataclass(frozen=True, slots=True)
class SubnetRequest:
    """A subnet of the request. `space` is its address space, `aux` its aux addresses by name. `adopted` is its pool if
    the engine has the network already, and the state lost it."""

    space: str
    subnet: Subnet
    gateway: Address | None = None
    aux: Mapping[str, Address] = field(default_factory=dict)
    adopted: PoolRecord | None = None

    @classmethod
    def read(cls, space: str, subnet: str, gateway: str = "", aux: Mapping[str, str] | None = None) -> Self:
        """Parse the texts of a subnet: CIDR, and addresses that may carry a prefix, "" for no gateway.

        Raises:
            Invalid: one is malformed, or an address is not in the subnet.
        """
        prefix = parse_subnet(subnet, "--subnet")
        return cls(
            space,
            prefix,
            _address_in(prefix, gateway, "--gateway") if gateway else None,
            {name: _address_in(prefix, text, "--aux-address") for name, text in (aux or {}).items()},
        )


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """A CreateNetwork request. `id` is the engine's, `options` the user's `-o` as given. If the engine has the network
    already and the state lost it, it is `adopted`, and of the network `cluster` of the cluster ("" for one of its own).
    """

    id: str
    options: dict[str, str]
    internal: bool = False
    subnets: tuple[SubnetRequest, ...] = ()
    adopted: bool = False
    cluster: str = ""

    @property
    def prefixes(self) -> list[str]:
        """The subnets in CIDR."""
        return [str(each.subnet) for each in self.subnets]

    @property
    def places(self) -> list[tuple[str, str]]:
        """The address space of each subnet, and the subnet in CIDR."""
        return [(each.space, str(each.subnet)) for each in self.subnets]


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """A CreateEndpoint request. `mac` is "" if the user gave none."""

    network: str
    id: str
    address: Address | None = None
    address6: Address | None = None
    mac: str = ""
    options: EndpointOptions = field(default_factory=EndpointOptions)

    @classmethod
    def read(
        cls,
        network: str,
        endpoint: str,
        address: str = "",
        address6: str = "",
        mac: str = "",
        options: EndpointOptions | None = None,
    ) -> Self:
        """Parse the texts of an endpoint: addresses bare or in CIDR form, "" for none.

        Raises:
            Invalid: one is malformed.
        """
        return cls(
            network,
            endpoint,
            parse_address(address, "address") if address else None,
            parse_address(address6, "address") if address6 else None,
            parse_mac(mac) if mac else "",
            options or EndpointOptions(),
        )

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses that are given, IPv4 first."""
        return tuple(each for each in (self.address, self.address6) if each)


def is_no_subnet(space: str, subnet: str) -> bool:
    """Whether a subnet (CIDR) of an address space stands for none: it is 0.0.0.0/0 or ::/0, and not of our IPAM driver.
    Such are those of --ipam-driver null."""
    return subnet in {"0.0.0.0/0", "::/0"} and space != DEFAULT_SPACE


def refuse_in_swarm(network: NetworkRecord) -> None:
    """Check in a swarm, at Join, for which outside a swarm CreateNetwork is refused.

    Raises:
        Invalid: an option is unknown or malformed, or does not work in a swarm.
        Conflict: IPv6 addresses would not be unique in the swarm.
    """
    options = parse_options(network.given)
    if options.probe:
        raise Invalid(PROBE_IN_SWARM)
    # -o ipv6-subnet adds one; any other IPv6 subnet is the engine's
    if sum(each.prefix.version == 6 for each in network.subnets) > bool(options.ipv6_subnet):
        raise Conflict(IPV6_IN_SWARM)
    refuse_gateway_of_a_container(options, network.subnets)


def refuse_outside_swarm(request: NetworkRequest, options: NetworkOptions, *, joined: bool, shared: bool) -> None:
    """Check that options can work in global scope (`shared`), or on a host alone. A network that is `joined` was
    accepted where it was created.

    Raises:
        Invalid: one cannot.
    """
    refuse_for_swarm_only(options)
    if not joined:
        versions = {each.subnet.version for each in request.subnets}
        check_families(request.options, ipv4=4 in versions, ipv6=6 in versions)
    if shared:
        refuse_other_ipam(request)
    if options.probe:
        refuse_blind_probe(request)


def refuse_for_swarm_only(options: NetworkOptions) -> None:
    """Check outside a swarm that no option is for swarms only: the engine has flags for both address families.

    Raises:
        Invalid: `ipv6-subnet` is given; the text has the flags that work.
    """
    if options.ipv6_subnet:
        gateway = f" --gateway {options.ipv6_gateway}" if options.ipv6_gateway else ""
        raise Invalid(
            f"-o ipv6-subnet={options.ipv6_subnet} is for networks of a swarm; use --ipv6 --subnet "
            f"{options.ipv6_subnet}{gateway}"
        )


def refuse_other_ipam(request: NetworkRequest) -> None:
    """Check in global scope that the pools are ours: no other IPAM driver has cluster-wide unique addresses. A network
    without subnets (--ipam-driver null) has none to be unique.

    Raises:
        Invalid: another IPAM driver gave the pools; the text is the command that works.
    """
    if all(each.space == DEFAULT_SPACE for each in request.subnets):
        return
    words = ["docker network create -d macvlan-global --ipam-driver macvlan-global"]
    for each in request.subnets:
        words.append(f"--subnet={each.subnet}")
        words += [f"--gateway={each.gateway}"] if each.gateway else []
        words += [f'--aux-address="{name}={address}"' for name, address in each.aux.items()]
    words += ["--internal"] if request.internal else []
    words += [f'-o {key}="{value}"' for key, value in request.options.items()]
    raise Invalid(
        "global scope needs --ipam-driver macvlan-global, for other IPAM drivers do not know the addresses of other "
        "hosts; use: " + " ".join([*words, "NAME"])
    )


def refuse_blind_probe(request: NetworkRequest) -> None:
    """Check for `probe` that the pools are ours: addresses of another IPAM driver never pass our probe.

    Raises:
        Invalid: another IPAM driver gave the pools.
    """
    if any(each.space != DEFAULT_SPACE for each in request.subnets):
        raise Invalid("-o probe=true needs --ipam-driver macvlan-global; add it")


def _address_in(subnet: Subnet, text: str, option: str) -> Address:
    address = parse_address(text, option)
    if address not in subnet:
        raise Invalid(f"{option} {address} is not in the subnet {subnet}")
    return address


def refuse_derived_mac(network: NetworkRecord, request: EndpointRequest) -> None:
    """Raise Conflict if a MAC of the user's is one that another address of the network gets by -o mac=address."""
    given = request.mac
    if network.options.mac != "address" or not given.startswith(DERIVED_MAC):
        return
    if request.addresses and given == mac_from_address(str(request.addresses[0])):
        return
    number = ip_address(bytes.fromhex(given.replace(":", ""))[2:])
    derived_from_6 = not any(each.prefix.version == 4 for each in network.subnets)
    if derived_from_6 or any(number in each.prefix for each in network.subnets):
        raise Conflict(
            f"--mac-address {given} is in use on network {network.shown}: with -o mac=address a MAC that begins with "
            f"{DERIVED_MAC} belongs to an address; use another"
        )
