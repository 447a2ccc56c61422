"""Subnet arithmetic: what may be handed out of a pool, in numbers. Pure.

Addresses travel as text at the edges and as `ipaddress` objects inside; only the chooser counts in whole numbers.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network

from macvlan_global.errors import Invalid

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network


_NO_UNICAST = tuple(
    (ip_network(block), reason)
    for block, reason in (
        ("127.0.0.0/8", "loopback addresses, which never leave a host (RFC 1122)"),
        ("224.0.0.0/4", "multicast addresses, which no interface may have (RFC 5771)"),
        ("::1/128", "the loopback address, which never leaves a host (RFC 4291)"),
        ("ff00::/8", "multicast addresses, which no interface may have (RFC 4291)"),
    )
)


def parse_subnet(text: str, what: str) -> Subnet:
    """Read `text` (CIDR, host bits zero) as a subnet.

    Raises:
        Invalid: it is none; the message names `what` (the option it came from), the value and the nearest good one.
    """
    try:
        return ip_network(_without_zone(text))
    except ValueError as error:
        raise Invalid(f"{what} {text!r} is not a subnet in CIDR form{_nearest(text)}") from error


def refuse_no_unicast(subnet: Subnet, what: str) -> None:
    """Refuse a subnet of addresses that no interface on a wire can have. `what` is the option that it came from.

    Raises:
        Invalid: it is within the loopback or the multicast addresses.
    """
    for block, reason in _NO_UNICAST:
        if is_within(subnet, block):
            raise Invalid(
                f"{what} {subnet} holds {reason}; use a subnet of your LAN, or a private one as 192.168.1.0/24"
            )


def _without_zone(text: str) -> str:
    """`text`, unless it has a zone (`fe80::1%eth0`, RFC 4007): one address must not have two spellings."""
    if "%" in text:
        raise ValueError(text)
    return text


def _nearest(text: str) -> str:
    try:
        return f"; the subnet that holds it is {ip_interface(_without_zone(text)).network}"
    except ValueError:
        return ", for example 192.168.1.0/24 or fd18::/64"


def parse_address(text: str, what: str) -> Address:
    """Read `text` as an address; a `/prefix` behind it is allowed and dropped.

    Raises:
        Invalid: it is none.
    """
    try:
        return _bare(text.partition("/")[0])
    except ValueError as error:
        raise Invalid(f"{what} {text!r} is not an IP address") from error


@lru_cache(4096)
def _bare(text: str) -> Address:
    return ip_address(_without_zone(text))


def usable(subnet: Subnet) -> tuple[int, int]:
    """The addresses of `subnet` that an interface may have, as `[first, stop)`.

    IPv4 leaves out the network and the broadcast address (RFC 1122 3.2.1.3) except in /31 (RFC 3021) and /32; IPv6
    leaves out the subnet-router anycast address (RFC 4291 2.6.1) except in /127 (RFC 6164) and /128.
    """
    first = int(subnet.network_address)
    stop = int(subnet.broadcast_address) + 1
    if subnet.max_prefixlen - subnet.prefixlen <= 1:
        return first, stop
    return (first + 1, stop - 1) if subnet.version == 4 else (first + 1, stop)


def dynamic_window(subnet: Subnet, allocation_range: Subnet | None) -> tuple[int, int]:
    """The numbers `[first, stop)` that may be handed out unasked: the range, cut to what is usable in the subnet.

    Raises:
        Invalid: the range is not inside the subnet.
    """
    first, stop = usable(subnet)
    if allocation_range is None:
        return first, stop
    if not is_within(allocation_range, subnet):
        raise Invalid(f"--ip-range {allocation_range} is not inside --subnet {subnet}")
    return (
        max(first, int(allocation_range.network_address)),
        min(stop, int(allocation_range.broadcast_address) + 1),
    )


def is_within(inner: Subnet, outer: Subnet) -> bool:
    """Whether every address of `inner` is in `outer`; never so across families."""
    return inner.version == outer.version and inner.network_address in outer and inner.prefixlen >= outer.prefixlen


def overlap(one: Subnet, other: Subnet) -> bool:
    """Whether two subnets share an address."""
    return is_within(one, other) or is_within(other, one)


def from_number(number: int, subnet: Subnet) -> Address:
    """The address with this number in the family of `subnet`."""
    return IPv4Address(number) if subnet.version == 4 else IPv6Address(number)


def with_prefix(address: Address, subnet: Subnet) -> str:
    """CIDR text of an address in its subnet, as Docker's protocol wants it."""
    return f"{address}/{subnet.prefixlen}"
