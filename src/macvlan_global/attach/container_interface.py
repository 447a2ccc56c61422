"""An endpoint's record in the kernel's terms: its container link and its interface configuration. Pure."""

from ipaddress import ip_interface

from macvlan_global.kernel.ports import ContainerLink, InterfaceConfig
from macvlan_global.options.endpoint import settings_of
from macvlan_global.options.network import NetworkOptions
from macvlan_global.store.records import EndpointRecord, NetworkRecord

PREFIX = "mv"
"""Prefix of interface names inside a container, unless the network or the endpoint has another one."""


def container_link(endpoint: EndpointRecord) -> ContainerLink:
    """The link of an endpoint inside its container; `sandbox` is "" if it never joined."""
    return ContainerLink(endpoint.sandbox, endpoint.mac, endpoint.link)


def interface_config(network: NetworkRecord, endpoint: EndpointRecord, options: NetworkOptions) -> InterfaceConfig:
    """The configuration of the interface that an endpoint has in its container."""
    lengths = {each: subnet.prefix.prefixlen for each in endpoint.addresses if (subnet := network.subnet_of(each))}
    return InterfaceConfig(
        endpoint.ifname_asked or options.ifname or PREFIX,
        numbered=not endpoint.ifname_asked,
        addresses=tuple(ip_interface((each, length)) for each, length in lengths.items()),
        settings=settings_of(endpoint.sysctls),
        gateways=tuple(gateway for each in endpoint.addresses if (gateway := network.gateway_of(each))),
    )
