"""Listen address of the resolver, as `dns` in the configuration names it."""

import ipaddress
import socket
from dataclasses import dataclass

from macvlan_global.errors import Invalid

PORT = 53
USUAL = "127.0.0.153:53"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """One IP address of this host and a port."""

    ip: str
    port: int = PORT

    def __str__(self) -> str:
        """As in `127.0.0.153:53`."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        """Address family of its sockets."""
        return socket.AF_INET6 if ":" in self.ip else socket.AF_INET


def read_address(text: str) -> ListenAddress:
    """Parse `IP` or `IP:PORT`, IPv6 in brackets if a port follows.

    Raises:
        Invalid: it is no IP address, has no valid port, or is unspecified or multicast.
    """
    ip, _, port = text.rpartition(":") if text.count(":") == 1 or "]:" in text else (text, "", str(PORT))
    try:
        address = ipaddress.ip_address(ip.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise Invalid(f"dns = {text!r} is not an IP address; use for example {USUAL}") from None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise Invalid(f"dns = {text!r} has no valid port (1 to 65535); use for example {USUAL}")
    if address.is_unspecified or address.is_multicast:
        raise Invalid(f"dns = {text!r} is unspecified or multicast; use an address of this host, for example {USUAL}")
    return ListenAddress(str(address), int(port))
