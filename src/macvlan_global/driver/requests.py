"""A network as Docker asks for it, and what of that is refused before anything is touched. Pure."""

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
    """A subnet as Docker hands it over. `space` is the engine's address space; gateway and aux may carry a prefix."""

    space: str
    subnet: str
    gateway: str = ""
    aux: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkRequest:
    """A network as Docker asks for it."""

    id: str
    options: dict[str, str]
    internal: bool = False
    subnets: tuple[SubnetRequest, ...] = ()


def refuse_in_swarm(network: NetworkRecord) -> None:
    """Refuse a container for what would have kept a network from being made elsewhere.

    Raises:
        Invalid: an option cannot be.
        Conflict: addresses would not be unique.
    """
    options = parse_options(network.options)
    if options.probe:
        raise Invalid(PROBE_IN_SWARM)
    # the option brings one, and the other ones are the engine's
    if sum(":" in each.subnet for each in network.subnets) > bool(options.ipv6_subnet):
        raise Conflict(IPV6_IN_SWARM)
    refuse_gateway_of_a_container(options, network.subnets)


def refuse_for_swarm_only(options: NetworkOptions) -> None:
    """Where no managers give the addresses, the engine has flags for both families.

    Raises:
        Invalid: an option is for networks of a swarm; the text has the flags.
    """
    if options.ipv6_subnet:
        gateway = f" --gateway {options.ipv6_gateway}" if options.ipv6_gateway else ""
        raise Invalid(
            f"-o ipv6-subnet={options.ipv6_subnet} is for networks of a swarm; use --ipv6 --subnet "
            f"{options.ipv6_subnet}{gateway}"
        )


def refuse_other_ipam(wanted: NetworkRequest) -> None:
    """No other IPAM driver gives addresses that are unique in the cluster.

    Raises:
        Invalid: another one gave the pools; the text is the command that works.
    """
    if wanted.subnets and all(each.space == DEFAULT_SPACE for each in wanted.subnets):
        return
    words = ["docker network create -d macvlan-global --ipam-driver macvlan-global"]
    for each in wanted.subnets:
        words.append(f"--subnet={each.subnet}")
        words += [f"--gateway={each.gateway.partition('/')[0]}"] if each.gateway else []
        words += [f'--aux-address="{name}={text.partition("/")[0]}"' for name, text in each.aux.items()]
    words += ["--internal"] if wanted.internal else []
    words += [f'-o {key}="{value}"' for key, value in wanted.options.items()]
    raise Invalid(
        "in global scope addresses come from our own IPAM driver, for no other knows those of the other hosts; use: "
        + " ".join([*words, "NAME"])
    )


def refuse_blind_probe(wanted: NetworkRequest) -> None:
    """Another IPAM driver does not ask us before it gives an address to a container.

    Raises:
        Invalid: another one gave the pools.
    """
    if any(each.space != DEFAULT_SPACE for each in wanted.subnets):
        raise Invalid("-o probe=true works with our own IPAM driver: add --ipam-driver macvlan-global")
