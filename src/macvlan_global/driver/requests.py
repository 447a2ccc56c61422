"""A CreateNetwork request, and the checks that refuse it before anything is changed. Pure."""

from dataclasses import dataclass, field

from macvlan_global.attach.options import NetworkOptions, parse_options
from macvlan_global.driver.swarm_ipv6 import refuse_gateway_of_a_container
from macvlan_global.errors import Conflict, Invalid
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.store.records import NetworkRecord

IPV6_IN_SWARM = (
    "in a swarm each node gives IPv6 addresses by itself, so containers on two nodes would get the same one; create "
    "the network again without --ipv6 and its subnet, and with -o ipv6-subnet=fd00:65::/64 (a prefix of yours), where "
    "each container's IPv6 address follows from its IPv4 address"
)
PROBE_IN_SWARM = (
    "-o probe=true works where our own IPAM driver gives the addresses; in a swarm its managers do, so leave it out"
)


@dataclass(frozen=True, slots=True)
class SubnetRequest:
    """A subnet of the request, CIDR. `space` is the address space; gateway and aux addresses may carry a prefix."""

    space: str
    subnet: str
    gateway: str = ""
    aux: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """A CreateNetwork request. `id` is the engine's, `options` the user's `-o` as given."""

    id: str
    options: dict[str, str]
    internal: bool = False
    subnets: tuple[SubnetRequest, ...] = ()


def refuse_in_swarm(network: NetworkRecord) -> None:
    """Check in a swarm, at Join, for which outside a swarm CreateNetwork is refused.

    Raises:
        Invalid: an option is unknown or malformed, or does not work in a swarm.
        Conflict: IPv6 addresses would not be unique in the swarm.
    """
    options = parse_options(network.options)
    if options.probe:
        raise Invalid(PROBE_IN_SWARM)
    # -o ipv6-subnet adds one; any other IPv6 subnet is the engine's
    if sum(":" in each.subnet for each in network.subnets) > bool(options.ipv6_subnet):
        raise Conflict(IPV6_IN_SWARM)
    refuse_gateway_of_a_container(options, network.subnets)


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
    """Check in global scope that the pools are ours: no other IPAM driver has cluster-wide unique addresses.

    Raises:
        Invalid: another IPAM driver gave the pools; the text is the command that works.
    """
    if request.subnets and all(each.space == DEFAULT_SPACE for each in request.subnets):
        return
    words = ["docker network create -d macvlan-global --ipam-driver macvlan-global"]
    for each in request.subnets:
        words.append(f"--subnet={each.subnet}")
        words += [f"--gateway={each.gateway.partition('/')[0]}"] if each.gateway else []
        words += [f'--aux-address="{name}={text.partition("/")[0]}"' for name, text in each.aux.items()]
    words += ["--internal"] if request.internal else []
    words += [f'-o {key}="{value}"' for key, value in request.options.items()]
    raise Invalid(
        "in global scope addresses come from our own IPAM driver, for no other knows those of the other hosts; use: "
        + " ".join([*words, "NAME"])
    )


def refuse_blind_probe(request: NetworkRequest) -> None:
    """Check for `probe` that the pools are ours: addresses of another IPAM driver never pass our probe.

    Raises:
        Invalid: another IPAM driver gave the pools.
    """
    if any(each.space != DEFAULT_SPACE for each in request.subnets):
        raise Invalid("-o probe=true works with our own IPAM driver: add --ipam-driver macvlan-global")
