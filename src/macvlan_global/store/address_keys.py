"""Keys of addresses that sort by their numbers: a subnet is a few prefixes of them. Pure.

An IPv4 address is written with three digits for each byte, an IPv6 address with all of its 32 nibbles:
`010.008.000.009`, `fd00:0000:0000:0000:0000:0000:0000:0009`. `ipaddress` takes ten times as long as what is done here,
and a host may read the addresses of a whole subnet at once.
"""

from ipaddress import IPv6Address, ip_address
from socket import AF_INET6, inet_ntop, inet_pton  # two functions of the C library that compute, and do nothing else

from macvlan_global.subnets import Subnet

_BYTES = {str(byte): f"{byte:03}" for byte in range(256)}
"""Each byte of an IPv4 address as addresses and as keys have it. Python takes no leading zeros in addresses."""


def padded(address: str) -> str:
    """A bare address, in its usual spelling, as the last part of its key.

    Raises:
        ValueError: it is no address, or not in its usual spelling.
    """
    if ":" in address:
        return _padded6(address)
    try:
        a, b, c, d = address.split(".")
        return f"{_BYTES[a]}.{_BYTES[b]}.{_BYTES[c]}.{_BYTES[d]}"
    except (ValueError, KeyError):
        raise ValueError(f"{address!r} is not an IP address") from None


def unpadded(part: str) -> str:
    """The bare address of the last part of a key. The inverse of `padded`.

    Raises:
        ValueError: it is not the part of a key of an address.
    """
    fours = ".".join(each.lstrip("0") or "0" for each in part.split("."))
    address = str(IPv6Address(part)) if ":" in part else fours
    if padded(address) != part:
        raise ValueError(f"{part!r} is not an address as keys have it")
    return address


def covering(subnet: Subnet) -> tuple[str, ...]:
    """The prefixes of the keys of all addresses of a subnet: 19 at most, in the order of the keys.

    A subnet of less than a byte (or of no nibble) of IPv4 may share a prefix with addresses of IPv6. `within` tells.
    """
    first = padded(str(subnet.network_address))
    if subnet.version == 6:
        nibbles, rest = divmod(subnet.prefixlen, 4)
        start = first[: nibbles + nibbles // 4]  # with the colon behind each whole group
        if not rest:
            return (first if nibbles == 32 else start,)
        low = int(first[len(start)], 16)
        return tuple(f"{start}{nibble:x}" for nibble in range(low, low + (1 << (4 - rest))))
    whole, rest = divmod(subnet.prefixlen, 8)
    start = first[: 4 * whole]
    if not rest and whole:
        return (first if whole == 4 else start,)
    low = subnet.network_address.packed[whole]
    return tuple(start + digits for digits in _decimals(low, low + (1 << (8 - rest))))


def within(subnet: Subnet) -> tuple[str, str]:
    """The first and the last key of the addresses of a subnet, as `padded` gives them: those between them, as texts
    of the same length, are its own."""
    return padded(str(subnet.network_address)), padded(str(subnet.broadcast_address))


def _padded6(address: str) -> str:
    try:
        packed = inet_pton(AF_INET6, address)
    except (OSError, ValueError):
        raise ValueError(f"{address!r} is not an IP address") from None
    # versions of the C library and of Python differ about where the last four bytes are written as IPv4
    if "." in address or inet_ntop(AF_INET6, packed) != address:
        usual = ip_address(packed)
        if address not in {str(usual), usual.compressed, inet_ntop(AF_INET6, packed)}:
            raise ValueError(f"{address!r} is {usual} in its usual spelling")
    return packed.hex(":", 2)


def _decimals(low: int, stop: int) -> list[str]:
    """The shortest starts of three-digit numbers that cover exactly `[low, stop)`; there is none above 255."""
    if (low, stop) == (0, 256):
        return ["0", "1", "2"]
    found = []
    while low < stop:
        width = next(each for each in (100, 10, 1) if low % each == 0 and (low + each <= stop or stop == 256))
        found.append(f"{low:03}"[: {100: 1, 10: 2, 1: 3}[width]])
        low += width
    return found
