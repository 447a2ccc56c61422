"""An endpoint's record in the kernel's terms: its container link and its interface configuration. Pure."""

from ipaddress import ip_interface

from macvlan_global.attach.endpoint_options import settings_of
from macvlan_global.attach.options import NetworkOptions
from macvlan_global.kernel.ports import ContainerLink, InterfaceConfig
from macvlan_global.store.records import EndpointRecord, NetworkRecord, SubnetRecord
from macvlan_global.subnets import parse_address, parse_subnet

PREFIX = "mv"
"""Prefix of interface names inside a container, unless the network or the endpoint has another one."""


def container_link(endpoint: EndpointRecord) -> ContainerLink:
    """The link of an endpoint inside its container; `sandbox` is "" if it never joined."""
    return ContainerLink(endpoint.sandbox, endpoint.mac, endpoint.link)


def interface_config(network: NetworkRecord, endpoint: EndpointRecord, options: NetworkOptions) -> InterfaceConfig:
    """The configuration of the interface that an endpoint has in its container."""
    given = [each for each in (endpoint.address, endpoint.address6) if each]
    prefixes = {each: subnet.subnet.partition("/")[2] for each in given if (subnet := subnet_of(network, each))}
    return InterfaceConfig(
        endpoint.ifname_asked or options.ifname or PREFIX,
        numbered=not endpoint.ifname_asked,
        addresses=tuple(ip_interface(f"{each}/{prefix}") for each, prefix in prefixes.items()),
        settings=settings_of(endpoint.sysctls),
        gateways=tuple(parse_address(gateway, "gateway") for each in given if (gateway := gateway_of(network, each))),
    )


def subnet_of(network: NetworkRecord, address: str) -> SubnetRecord | None:
    """The subnet of a network that holds a bare address."""
    parsed = parse_address(address, "address")
    return next((each for each in network.subnets if parsed in parse_subnet(each.subnet, "subnet")), None)


def gateway_of(network: NetworkRecord, address: str) -> str:
    """The gateway (bare address) of the subnet that holds a bare address, "" if there is none. Each subnet has its
    own; an internal network has none."""
    subnet = subnet_of(network, address) if address else None
    return subnet.gateway if subnet and not network.internal else ""
