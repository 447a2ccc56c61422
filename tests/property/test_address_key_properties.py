"""Keys of addresses: they sort as their numbers do, and the prefixes of a subnet cover it and nothing else."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macvlan_global.store.address_keys import covering, padded, unpadded, within
from macvlan_global.subnets import Address, Subnet

NUMBERS = {4: st.integers(0, 2**32 - 1), 6: st.integers(0, 2**128 - 1)}
ADDRESSES = st.one_of(
    st.builds(IPv4Address, NUMBERS[4]),
    st.builds(IPv6Address, NUMBERS[6]),
    st.builds(IPv6Address, st.integers(0, 2**40)),  # zeros, and IPv4 in the last four bytes
)


@st.composite
def subnets(draw: st.DrawFn) -> Subnet:
    """A subnet of either family, with any prefix length."""
    address = draw(ADDRESSES)
    return ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)


@given(ADDRESSES)
def test_a_key_tells_its_address(address: Address) -> None:
    """Both ways, and it has one length in each family."""
    key = padded(str(address))
    assert unpadded(key) == str(address)
    assert len(key) == (15 if address.version == 4 else 39)


@given(st.sampled_from([4, 6]).flatmap(lambda version: st.tuples(NUMBERS[version], NUMBERS[version], st.just(version))))
def test_keys_sort_as_their_addresses(drawn: tuple[int, int, int]) -> None:
    """So a subnet is one stretch of keys."""
    one, other, version = drawn
    kind = IPv4Address if version == 4 else IPv6Address
    assert (padded(str(kind(one))) < padded(str(kind(other)))) == (one < other)


@given(subnets(), ADDRESSES)
def test_prefixes_cover_exactly_the_subnet(subnet: Subnet, address: Address) -> None:
    """Its first and last addresses, their neighbours outside, and any other: in the subnet if and only if covered."""
    starts = covering(subnet)
    assert len(starts) <= 19  # that many has a /2: 64 to 127 in decimal digits
    assert list(starts) == sorted(starts)
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    kind = type(subnet.network_address)
    middle = first + int(address) % (last - first + 1)
    for number in {first - 1, first, middle, last, last + 1}:
        if 0 <= number < 1 << subnet.max_prefixlen:
            each = kind(number)
            key = padded(str(each))
            assert any(key.startswith(start) for start in starts) == (each in subnet)
            low, high = within(subnet)
            assert (low <= key <= high) == (each in subnet)
    covered = any(padded(str(address)).startswith(start) for start in starts)
    if address.version == subnet.version:
        assert covered == (address in subnet)


@pytest.mark.parametrize("length", range(33))
def test_prefixes_do_not_overlap(length: int) -> None:
    """No address is read twice."""
    for base in ("1.0.0.0", "10.8.0.0", "255.255.255.255", "192.168.199.77"):
        starts = covering(ip_network(f"{base}/{length}", strict=False))
        assert not [one for one in starts for other in starts if one != other and one.startswith(other)]


@pytest.mark.parametrize(
    "text",
    [
        *("", "10", "10.8.0", "10.8.0.256", "10.8.0.09", "10.8.0.9/24", " 10.8.0.9", "10.8.0.9\n", "1\u0661.8.0.9"),
        *("10.8..9", "fd00::1%eth0", "FD00::1", "fd00:0::1", "fd00::0001", ":::", "fd00", "fd00::1/64", "fd00::1\x00"),
    ],
)
def test_other_spellings_are_no_addresses(text: str) -> None:
    """One address has one key, and one spelling."""
    with pytest.raises(ValueError, match=r"."):
        padded(text)


@pytest.mark.parametrize("part", ["10.8.0.9", "010.008.000.256", "010.008.000", "0010.8.0.9", "fd00::1", "FD00:0000"])
def test_other_parts_are_no_keys(part: str) -> None:
    """What is under an unpadded key is nobody's."""
    with pytest.raises(ValueError, match=r"."):
        unpadded(part)


def test_ipv4_in_ipv6_has_one_key_however_it_is_written() -> None:
    """Python writes such addresses in either way, by its version."""
    assert padded("::ffff:a08:9") == padded("::ffff:10.8.0.9") == padded(str(ip_address("::ffff:a08:9")))
