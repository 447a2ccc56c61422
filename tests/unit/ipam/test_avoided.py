"""Addresses that are avoided, as a process knows them."""

from ipaddress import ip_address

import pytest

from macvlan_global.ipam.avoided import HOST_MOST, Avoided
from macvlan_global.store.records import HostAddress


def test_of_one_host_so_many_addresses_are_kept() -> None:
    """Whatever wrote its record: anybody may write into the store."""
    avoided = Avoided()
    many = [HostAddress(address=f"10.{number // 250}.0.{number % 250 + 1}", link="eth0") for number in range(1000)]
    avoided.set_host("a", many)
    assert len(avoided.numbers(4)) == HOST_MOST
    avoided.replace_hosts({"b": many})
    assert (len(avoided.numbers(4)), avoided.of_host("a"), len(avoided.of_host("b"))) == (HOST_MOST, (), HOST_MOST)


@pytest.mark.parametrize(("passes", "kept"), [(1, 1), (299, 1), (300, 0), (-86400, 0)])
def test_an_address_that_was_seen_is_avoided_for_minutes_whatever_the_clock_says(passes: float, kept: int) -> None:
    """A clock that is set back by years must not keep it from containers for years."""
    avoided, address = Avoided(), ip_address("10.8.0.9")
    avoided.see("s", address, 1000.0 + 300)
    avoided.expire(1000.0 + passes)
    assert len(avoided.seen("s", 4)) == kept
