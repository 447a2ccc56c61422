"""Names and MACs of links. Pure, but for the random source given."""

import hashlib
import re
from collections.abc import Callable
from ipaddress import ip_address

from macvlan_global.errors import Invalid

OUR_ALIAS = "macvlan-global"
"""Alias (IFLA_IFALIAS) of links that we make on the host for good (sub-interfaces, dummies, shims), and, with their
name behind it, their alternative name. The files of `cli/units` match both."""
SHIM_PREFIX = "mgh-"
NAME_MOST = 15  # IFNAMSIZ less the closing NUL
DERIVED_MAC = "02:42:"
"""The beginning of a MAC that is derived from an address."""
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def link_name(endpoint_id: str) -> str:
    """The name of a container's link in the host's namespace, derived from the endpoint's id: a repeated Join finds
    the link that the first one made. 15 characters, the longest name of the kernel (IFNAMSIZ)."""
    return f"mg-{endpoint_id[:12]}"


def shim_name(parent: str) -> str:
    """The name of the host's own macvlan link on a parent."""
    name = f"{SHIM_PREFIX}{parent}"
    if len(name.encode()) <= NAME_MOST:
        return name
    return f"{SHIM_PREFIX}{hashlib.sha256(parent.encode()).hexdigest()}"[:NAME_MOST]


def parse_mac(text: str) -> str:
    """A unicast MAC in lower case with colons.

    Raises:
        Invalid: not a MAC, multicast, or all zeros.
    """
    mac = text.strip().lower().replace("-", ":")
    if not _MAC.fullmatch(mac):
        raise Invalid(f"--mac-address {text!r} is not a MAC address such as 02:42:c0:a8:01:0a")
    if int(mac[:2], 16) & 1:
        raise Invalid(f"--mac-address {text!r} is a multicast address; the first byte must be even")
    if mac == "00:00:00:00:00:00":
        raise Invalid(f"--mac-address {text!r} is no MAC of an interface; use for example 02:42:c0:a8:01:0a")
    return mac


def random_mac(random_bytes: Callable[[int], bytes]) -> str:
    """A locally administered unicast MAC (IEEE 802 sections 8.2.2 and 8.4)."""
    return _local_unicast(random_bytes(6))


def mac_from_name(network: str, name: str) -> str:
    """A MAC derived from a network's id in the cluster and the name of a container there: a locally administered
    unicast one, the same on every host."""
    digest = hashlib.sha256(f"{network} {name}".encode(errors="surrogatepass")).digest()
    return _local_unicast(digest[:6])


def mac_from_text(text: str) -> str:
    """A locally administered unicast MAC, the same for the same text."""
    return random_mac(lambda size: hashlib.sha256(text.encode()).digest()[:size])


def mac_from_address(address: str) -> str:
    """A MAC derived from a bare address: 02:42 and its last four bytes, as engines before 28 did."""
    return (b"\x02\x42" + ip_address(address).packed[-4:]).hex(":")


def _local_unicast(six: bytes) -> str:
    octets = bytearray(six)
    octets[0] = octets[0] & 0b11111100 | 0b10
    return octets.hex(":")
