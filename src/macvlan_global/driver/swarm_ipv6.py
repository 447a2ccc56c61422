"""Derived IPv6 in a swarm: a container's IPv6 address is computed from the IPv4 address that the managers gave. Pure.

A swarm's managers give IPv4 addresses only, each to one container of the swarm. Its 32 bits at the end of a prefix make
an IPv6 address that is unique in the swarm too, without coordination between nodes. `fd00:65::/64` and `10.65.0.11`
give `fd00:65::a41:b`, also written `fd00:65::10.65.0.11` (RFC 4291 section 2.2).
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network

from macvlan_global.errors import Invalid
from macvlan_global.options.network import NetworkOptions
from macvlan_global.store.records import SubnetRecord

_IPV4_BITS = 32


def derived_address(subnet: IPv6Network, address: IPv4Address) -> IPv6Interface:
    """The IPv6 address of the container with this IPv4 address."""
    return IPv6Interface((int(subnet.network_address) | int(address), subnet.prefixlen))


def derived_subnet(options: NetworkOptions) -> list[SubnetRecord]:
    """The subnet of `-o ipv6-subnet`, if given: not a pool, as its addresses are derived and not allocated."""
    if options.ipv6_subnet is None:
        return []
    return [SubnetRecord(space="", subnet=str(options.ipv6_subnet), gateway=options.ipv6_gateway)]


def refuse_gateway_of_a_container(options: NetworkOptions, subnets: Iterable[SubnetRecord]) -> None:
    """Check that the IPv6 gateway is not derived from an IPv4 address that a container may get.

    Raises:
        Invalid: it is; the text names both addresses, and a gateway that works.
    """
    if options.ipv6_subnet is None or not options.ipv6_gateway:
        return
    number = int(IPv6Address(options.ipv6_gateway)) - int(options.ipv6_subnet.network_address)
    if number >> _IPV4_BITS:
        return
    same = IPv4Address(number)
    for each in subnets:
        if same in each.prefix and same != each.gateway_address:
            raise Invalid(
                f"-o ipv6-gateway={options.ipv6_gateway} is the IPv6 address of the container with {same}; use another "
                f"one, for example {options.ipv6_subnet.network_address + 1}"
            )
