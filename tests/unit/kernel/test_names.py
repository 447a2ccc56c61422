"""Names and MACs of links."""

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.kernel.names import link_name, mac_from_address, parse_mac, random_mac


def test_a_links_name_comes_from_its_endpoint_and_fits() -> None:
    """Fifteen characters, and the same at every call."""
    assert link_name("0123456789abcdef" * 4) == "mg-0123456789ab"


@pytest.mark.parametrize("text", ["02:42:C0:a8:01:0A", "02-42-c0-a8-01-0a", " 02:42:c0:a8:01:0a\n"])
def test_a_mac_has_one_spelling(text: str) -> None:
    """Lower case, with colons."""
    assert parse_mac(text) == "02:42:c0:a8:01:0a"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a MAC"),
        ("02:42:c0:a8:01", "not a MAC"),
        ("02:42:c0:a8:01:0a:ff", "not a MAC"),
        ("0242.c0a8.010a", "not a MAC"),
        ("02:42:c0:a8:01:0g", "not a MAC"),
        ("01:00:5e:00:00:01", "multicast"),
        ("ff:ff:ff:ff:ff:ff", "multicast"),
        ("00:00:00:00:00:00", "is no MAC of an interface"),
    ],
)
def test_what_no_link_can_have_is_refused(text: str, why: str) -> None:
    """The error names the option."""
    with pytest.raises(Invalid, match=why) as refused:
        parse_mac(text)
    assert "--mac-address" in str(refused.value)


def test_a_random_mac_is_local_and_unicast() -> None:
    """Whatever the random bytes."""
    assert random_mac(lambda count: b"\xff" * count) == "fe:ff:ff:ff:ff:ff"
    assert random_mac(lambda count: b"\x00" * count) == "02:00:00:00:00:00"


def test_a_mac_derived_from_an_address() -> None:
    """As engines before 28 did for IPv4; the last four bytes of an IPv6 address."""
    assert mac_from_address("192.168.1.10") == "02:42:c0:a8:01:0a"
    assert mac_from_address("fd00::c0a8:10a") == "02:42:c0:a8:01:0a"
