"""Validation of stored values: a shared store can be written by anyone. Pure.

The contents of a record give the key that it belongs under. A record under another key was copied or mistyped, and
believing it would mean to see an address taken, or a host alive, that is not. Subnets and addresses are read here by
the functions that read them later, so that no record passes which its users stumble over.
"""

from functools import lru_cache

import msgspec

from macvlan_global.errors import Invalid
from macvlan_global.subnets import Subnet, is_within, parse_address, parse_subnet

VERSION = 1


class _Versioned(msgspec.Struct):
    v: int = VERSION


_decoder = msgspec.json.Decoder(_Versioned)


def version_of(value: bytes) -> int:
    """The version of the schema of a value; this version's if the value does not say so."""
    try:
        return _decoder.decode(value).v
    except (msgspec.DecodeError, ValueError, RecursionError):
        return VERSION


def pool_key(space: str, subnet: str, part: str) -> tuple[str, ...]:
    """The parts of the key of a pool. `part` is its range in CIDR, "" for the whole subnet.

    Raises:
        ValueError: these are no subnet and a range of it.
    """
    whole = _subnet(subnet)
    if not part:
        return space, subnet
    if not is_within(_subnet(part), whole):
        raise ValueError(f"{part} is not inside {subnet}")
    return space, f"{subnet}~{part}"


def address_key(space: str, subnet: str, address: str) -> tuple[str, ...]:
    """The parts of the key of an address, which is bare.

    Raises:
        ValueError: it is no address, or its subnet is none.
    """
    _subnet(subnet)
    try:
        found = parse_address(address, "address")
    except Invalid as error:
        raise ValueError(str(error)) from error
    if "/" in address:
        raise ValueError(f"address {address} has a prefix length; the address is {found}")
    return space, address


def id_key(name: str) -> tuple[str, ...]:
    """The key of a record that goes by an id or a name.

    Raises:
        ValueError: there is none.
    """
    if not name:
        raise ValueError("its id or name is empty")
    return (name,)


@lru_cache(1024)
def _subnet(text: str) -> Subnet:
    try:
        return parse_subnet(text, "subnet")
    except Invalid as error:
        raise ValueError(str(error)) from error
