"""Derived IPv6 in a swarm: the address of each container, and the options that are refused."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macvlan_global.driver.requests import refuse_for_swarm_only
from macvlan_global.driver.swarm_ipv6 import derived_address, derived_subnet, refuse_gateway_of_a_container
from macvlan_global.errors import Invalid
from macvlan_global.options.network import MAX_IPV6_PREFIX, NOT_FOR_CONTAINERS, parse_options
from macvlan_global.store.records import SubnetRecord

LAN = SubnetRecord(space="", subnet="10.65.0.0/24", gateway="10.65.0.1")


def _options(**more: str) -> dict[str, str]:
    return {"ipv6-subnet": "fd00:65::/64"} | {key.replace("_", "-"): value for key, value in more.items()}


@pytest.mark.parametrize(
    ("subnet", "address", "derived"),
    [
        ("fd00:65::/64", "10.65.0.11", "fd00:65::a41:b/64"),
        ("2001:db8:1:2:3:4::/96", "192.0.2.1", "2001:db8:1:2:3:4:c000:201/96"),
        ("fd00::/8", "10.65.0.11", "fd00::a41:b/8"),
    ],
)
def test_the_address_ends_with_the_32_bits(subnet: str, address: str, derived: str) -> None:
    """Whatever the prefix, and with its length."""
    assert str(derived_address(IPv6Network(subnet), IPv4Address(address))) == derived


@given(
    st.integers(0, MAX_IPV6_PREFIX),
    st.integers(0, 2**128 - 1),
    st.lists(st.integers(0, 2**32 - 1).map(IPv4Address), min_size=2, max_size=2, unique=True),
)
def test_two_addresses_are_never_one(length: int, bits: int, addresses: list[IPv4Address]) -> None:
    """Different IPv4 addresses give different IPv6 addresses, all inside the subnet."""
    subnet = IPv6Network((bits >> 128 - length << 128 - length, length))
    found = {derived_address(subnet, each) for each in addresses}
    assert len(found) == 2
    assert all(each.network == subnet for each in found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ipv6-subnet": "10.65.0.0/24"}, "10.65.0.0/24 is not an IPv6 subnet"),
        ({"ipv6-subnet": "fd00:65::1/64"}, "the subnet that holds it is fd00:65::/64"),
        ({"ipv6-subnet": "lots"}, "-o ipv6-subnet 'lots' is not a subnet"),
        ({"ipv6-subnet": "fd00:65::/112"}, "a prefix up to /96, for example fd00:65::/96"),
        *(({"ipv6-subnet": str(each)}, "is reserved, link-local or multicast") for each in NOT_FOR_CONTAINERS),
        ({"ipv6-subnet": "::/0"}, "is reserved, link-local or multicast"),
        (_options(mtu="1279"), "-o mtu=1279 is too small for IPv6"),
        ({"ipv6-gateway": "fd00:65::1"}, "-o ipv6-gateway=fd00:65::1 needs -o ipv6-subnet"),
        (_options(ipv6_gateway="fd00:66::1"), "fd00:66::1 is not a usable address of -o ipv6-subnet=fd00:65::/64"),
        (
            _options(ipv6_gateway="fd00:65::"),
            "-o ipv6-subnet=fd00:65::/64; use for example fd00:65::1",
        ),
        (_options(ipv6_gateway="10.65.0.1"), "10.65.0.1 is not a usable address of -o ipv6-subnet=fd00:65::/64"),
        (_options(ipv6_gateway="router"), "-o ipv6-gateway 'router' is not an IP address"),
    ],
)
def test_what_cannot_be_is_refused(given: Mapping[str, str], said: str) -> None:
    """The text has the option, the value and what would work."""
    with pytest.raises(Invalid) as refused:
        parse_options(given)
    assert said in str(refused.value)


@pytest.mark.parametrize("gateway", ["fd00:65::1", "fd00:65::10.65.0.1", "fd00:65::1:0:0:9", "fd00:65::10.65.1.9"])
def test_a_gateway_that_no_container_can_be(gateway: str) -> None:
    """Below or above all IPv4 addresses, the IPv4 gateway's own, or that of an address outside the network."""
    options = parse_options(_options(ipv6_gateway=gateway))
    refuse_gateway_of_a_container(options, [LAN, *derived_subnet(options)])
    assert [each.gateway for each in derived_subnet(options)] == [options.ipv6_gateway]


def test_a_gateway_that_a_container_may_be() -> None:
    """The swarm may give 10.65.0.9 to a container, whose IPv6 address that is."""
    with pytest.raises(Invalid, match=r"the container with 10\.65\.0\.9; use another one, for example fd00:65::1"):
        refuse_gateway_of_a_container(parse_options(_options(ipv6_gateway="fd00:65::10.65.0.9")), [LAN])


def test_elsewhere_the_engine_has_flags_for_it() -> None:
    """The refusal is the flags, with the values that were given."""
    with pytest.raises(Invalid, match=r"use --ipv6 --subnet fd00:65::/64 --gateway fd00:65::1$"):
        refuse_for_swarm_only(parse_options(_options(ipv6_gateway="fd00:65::1")))
    assert derived_subnet(parse_options({"parent": "eth0"})) == []
