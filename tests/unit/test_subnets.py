"""Subnet arithmetic."""

from ipaddress import ip_network

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.subnets import dynamic_window, from_number, is_within, overlap, parse_address, parse_subnet, usable


@pytest.mark.parametrize(
    "text", ["", "10.0.0.0/33", "10.0.0.0/-1", "eth0", "fd00::/129", "10.0.0/24", "fe80::%eth0/64"]
)
def test_what_is_no_subnet_is_refused(text: str) -> None:
    """The option and the value are named."""
    with pytest.raises(Invalid, match="--subnet"):
        parse_subnet(text, "--subnet")


def test_host_bits_are_refused_with_the_subnet_that_was_meant() -> None:
    """The error holds what would work."""
    with pytest.raises(Invalid, match=r"192\.168\.1\.0/24"):
        parse_subnet("192.168.1.7/24", "--subnet")


@pytest.mark.parametrize(
    ("text", "address"), [("10.0.0.5", "10.0.0.5"), ("10.0.0.5/24", "10.0.0.5"), ("FD00:0::5/64", "fd00::5")]
)
def test_an_address_may_carry_a_prefix(text: str, address: str) -> None:
    """The prefix is dropped, and the spelling is the shortest."""
    assert str(parse_address(text, "--ip")) == address


@pytest.mark.parametrize("text", ["", "/24", "10.0.0.256", "10.0.0", "010.0.0.1", "fe80::1%eth0", "x"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """Zones too: `fe80::1%a` and `fe80::1` would be one address under two keys."""
    with pytest.raises(Invalid, match="--ip"):
        parse_address(text, "--ip")


@pytest.mark.parametrize(
    ("subnet", "first", "last"),
    [
        ("10.0.0.0/24", "10.0.0.1", "10.0.0.254"),
        ("10.0.0.0/30", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/31", "10.0.0.0", "10.0.0.1"),
        ("10.0.0.7/32", "10.0.0.7", "10.0.0.7"),
        ("fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff"),
        ("fd00::/127", "fd00::", "fd00::1"),
        ("fd00::7/128", "fd00::7", "fd00::7"),
    ],
)
def test_usable_addresses(subnet: str, first: str, last: str) -> None:
    """Network, broadcast and anycast addresses are left out, but not where there is no room for them."""
    net = ip_network(subnet)
    start, stop = usable(net)
    assert (str(from_number(start, net)), str(from_number(stop - 1, net))) == (first, last)


@pytest.mark.parametrize(
    ("part", "first", "last"),
    [
        ("10.0.0.0/25", "10.0.0.1", "10.0.0.127"),
        ("10.0.0.128/25", "10.0.0.128", "10.0.0.254"),
        ("10.0.0.64/26", "10.0.0.64", "10.0.0.127"),
        ("10.0.0.9/32", "10.0.0.9", "10.0.0.9"),
    ],
)
def test_a_range_is_cut_to_what_is_usable(part: str, first: str, last: str) -> None:
    """A range may touch the network or the broadcast address; they are not handed out."""
    net = ip_network("10.0.0.0/24")
    start, stop = dynamic_window(net, ip_network(part))
    assert (str(from_number(start, net)), str(from_number(stop - 1, net))) == (first, last)


@pytest.mark.parametrize("part", ["10.0.1.0/25", "10.0.0.0/23", "fd00::/120"])
def test_a_range_outside_its_subnet_is_refused(part: str) -> None:
    """Wider, elsewhere, or of the other family."""
    with pytest.raises(Invalid, match="not inside"):
        dynamic_window(ip_network("10.0.0.0/24"), ip_network(part))


@pytest.mark.parametrize(
    ("one", "other", "shares"),
    [
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.0.0.0/24", "10.0.1.0/24", False),
        ("10.0.0.0/24", "10.0.0.0/24", True),
        ("0.0.0.0/0", "::/0", False),
    ],
)
def test_overlap_is_the_same_both_ways(one: str, other: str, *, shares: bool) -> None:
    """Families never overlap."""
    assert overlap(ip_network(one), ip_network(other)) is shares
    assert overlap(ip_network(other), ip_network(one)) is shares


def test_within_is_one_way() -> None:
    """A subnet is within itself and within a wider one, not the other way round."""
    wide, narrow = ip_network("10.0.0.0/8"), ip_network("10.0.0.0/24")
    assert is_within(narrow, wide)
    assert is_within(wide, wide)
    assert not is_within(wide, narrow)
