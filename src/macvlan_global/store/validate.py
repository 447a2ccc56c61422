"""What makes a value in the store one to work with: anybody may have written it. Pure.

Where a record belongs is told by its own contents. One that is under another key was copied or mistyped, and believing
it would mean to see an address taken, or a host alive, that is not.
"""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

VERSION = 1


class _Versioned(msgspec.Struct):
    v: int = VERSION


_decoder = msgspec.json.Decoder(_Versioned)


def version_of(value: bytes) -> int:
    """The version of the schema that a value is of; this one's if it does not say so."""
    try:
        return _decoder.decode(value).v
    except (msgspec.DecodeError, ValueError, RecursionError):
        return VERSION


def place_of_pool(space: str, subnet: str, part: str) -> tuple[str, ...]:
    """The key of a pool with this range ("" for all of it), in parts.

    Raises:
        ValueError: these are no subnet and a range of it.
    """
    whole = _subnet(subnet)
    if not part:
        return space, subnet
    inside = _subnet(part)
    if not (inside.version == whole.version and inside.prefixlen >= whole.prefixlen and inside[0] in whole):
        raise ValueError(f"{part} is not inside {subnet}")
    return space, f"{subnet}~{part}"


def place_of_address(space: str, subnet: str, address: str) -> tuple[str, ...]:
    """The key of an address, in parts.

    Raises:
        ValueError: one of them is none.
    """
    _subnet(subnet)
    ip_address(address)
    return space, address


def place_of(name: str) -> tuple[str, ...]:
    """The key of what goes by an id or a name.

    Raises:
        ValueError: there is none.
    """
    if not name:
        raise ValueError("its id or name is empty")
    return (name,)


@lru_cache(1024)
def _subnet(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)
