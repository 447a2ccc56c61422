"""Requests: Docker's texts as typed values."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import pytest

from macvlan_global.driver.requests import EndpointRequest, SubnetRequest
from macvlan_global.errors import Invalid


def test_a_subnet_is_typed() -> None:
    """Prefixes of addresses are dropped, and what is not given is None or empty."""
    found = SubnetRequest.read("s", "10.8.0.0/24", "10.8.0.1/24", {"router": "10.8.0.7/24"})
    assert found.subnet == ip_network("10.8.0.0/24")
    assert found.gateway == ip_address("10.8.0.1")
    assert found.aux == {"router": ip_address("10.8.0.7")}
    bare = SubnetRequest.read("", "fd00::/64")
    assert (bare.subnet, bare.gateway, bare.aux) == (ip_network("fd00::/64"), None, {})


@pytest.mark.parametrize(
    ("subnet", "gateway", "aux", "error"),
    [
        ("x", "", {}, "--subnet 'x' is not a subnet"),
        (
            "10.8.0.1/24",
            "",
            {},
            "--subnet .* the subnet that holds it is 10.8.0.0/24",
        ),
        ("10.8.0.0/24", "x", {}, "--gateway 'x' is not an IP address"),
        ("10.8.0.0/24", "10.9.0.1", {}, "--gateway 10.9.0.1 is not in the subnet 10.8.0.0/24"),
        ("10.8.0.0/24", "", {"a": "x"}, "--aux-address 'x' is not an IP address"),
        ("10.8.0.0/24", "", {"a": "fd00::1"}, "--aux-address fd00::1 is not in the subnet 10.8.0.0/24"),
    ],
)
def test_a_malformed_subnet_is_refused(subnet: str, gateway: str, aux: Mapping[str, str], error: str) -> None:
    """The text names the option and the value."""
    with pytest.raises(Invalid, match=error):
        SubnetRequest.read("s", subnet, gateway, aux)


def test_an_endpoint_is_typed() -> None:
    """Addresses bare or in CIDR form, the MAC as the kernel writes it."""
    found = EndpointRequest.read("n", "e", "10.8.0.9/24", "fd00::9", "02-00-00-00-00-AA")
    assert found.addresses == (ip_address("10.8.0.9"), ip_address("fd00::9"))
    assert found.mac == "02:00:00:00:00:aa"
    assert EndpointRequest.read("n", "e").addresses == ()


@pytest.mark.parametrize("texts", [("x", "", ""), ("", "fe80::1%eth0", ""), ("", "", "zz")])
def test_a_malformed_endpoint_is_refused(texts: tuple[str, str, str]) -> None:
    """An address, or a MAC, that is none."""
    with pytest.raises(Invalid):
        EndpointRequest.read("n", "e", *texts)
