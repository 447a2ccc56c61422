"""Validation of stored values: a shared store can be written by anyone. Pure.

The contents of a record give the key that it belongs under. A record under another key was copied or mistyped, and
believing it would mean to see an address taken, or a host alive, that is not. Subnets and addresses are read here by
the functions that read them later, so that no record passes which its users stumble over.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from macvlan_global.errors import Invalid
from macvlan_global.subnets import Address, Subnet, is_within, parse_address, parse_subnet

VERSION = 1

MOST_SHOWN = 200
MOST_NAME = 1000


class _Versioned(msgspec.Struct):
    v: int = VERSION


_decoder = msgspec.json.Decoder(_Versioned)


def shown(key: str) -> str:
    """A key as a log line or an error shows it: control characters escaped, and cut off where it is very long."""
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in key[:MOST_SHOWN])
    return text if len(key) <= MOST_SHOWN else text + "…"


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
    """The parts of the key of an address. The table of addresses checks that it is one, and is in its usual spelling.

    Raises:
        ValueError: its subnet is none, or is of the other family.
    """
    _subnet(subnet)
    if (":" in address) != (":" in subnet):
        raise ValueError(f"{address} cannot be in {subnet}")
    return space, address


def use_key(host: str, space: str, subnet: str) -> tuple[str, ...]:
    """The parts of the key of a subnet in which a host may have addresses.

    Raises:
        ValueError: there is no host, or no subnet.
    """
    _subnet(subnet)
    return (*id_key(host), space, subnet)


def bare_address(address: str) -> str:
    """The text of an address without a prefix length.

    Raises:
        ValueError: it is none.
    """
    found = _address(address)
    if "/" in address:
        raise ValueError(f"address {address} has a prefix length; the address is {found}")
    return address


def host_key(host: str, addresses: Iterable[str]) -> tuple[str, ...]:
    """The key of the addresses (bare) that a host has itself.

    Raises:
        ValueError: it has no id, or one of them is no address.
    """
    for each in addresses:
        bare_address(each)
    return id_key(host)


def remembered_key(network: str, name: str, *addresses: str) -> tuple[str, ...]:
    """The parts of the key of the addresses (bare, "" if none) that a container of this name had on a network.

    Raises:
        ValueError: there is no network or no name, an address is none, or each is "".
    """
    for each in filter(None, addresses):
        bare_address(each)
    if not any(addresses):
        raise ValueError("it has no address")
    return id_key(network) + id_key(name)


def network_key(network: str, subnets: Iterable[str]) -> tuple[str, ...]:
    """The key of a network of this host.

    Raises:
        ValueError: a subnet is none.
    """
    for each in subnets:
        _subnet(each)
    return (network,)


def endpoint_key(network: str, endpoint: str, *addresses: str) -> tuple[str, ...]:
    """The parts of the key of an endpoint of this host. Addresses are bare, "" if none.

    Raises:
        ValueError: an address is none.
    """
    for each in filter(None, addresses):
        _address(each)
    return network, endpoint


def escape_name(name: str) -> str:
    """A name that users choose, as a part of a key: `/` is `%2F`. Reversible with `unescape_name`."""
    return re.sub("%(?=2F|25)", "%25", name).replace("/", "%2F")


def unescape_name(part: str) -> str:
    """The name of a part of a key. See `escape_name`."""
    return part.replace("%2F", "/").replace("%25", "%")


def id_key(name: str) -> tuple[str, ...]:
    """The key of a record that goes by an id or a name.

    Raises:
        ValueError: there is none, or none that anything can be called by.
    """
    if not name:
        raise ValueError("its id or name is empty")
    if len(name) > MOST_NAME:
        raise ValueError(f"its id or name has more than {MOST_NAME} characters")
    return (name,)


def _address(text: str) -> Address:
    try:
        return parse_address(text, "address")
    except Invalid as error:
        raise ValueError(str(error)) from error


@lru_cache(1024)
def _subnet(text: str) -> Subnet:
    try:
        return parse_subnet(text, "subnet")
    except Invalid as error:
        raise ValueError(str(error)) from error
