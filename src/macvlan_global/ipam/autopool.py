"""Where pools come from that nobody named. Apart from the pools themselves: the configuration needs only this."""

from dataclasses import dataclass
from ipaddress import ip_network

from macvlan_global.subnets import Subnet


@dataclass(frozen=True, slots=True)
class AutoPool:
    """Subnets of this prefix length, cut from `base`."""

    base: Subnet
    prefix: int


DEFAULT_AUTO_POOLS = (
    AutoPool(ip_network("10.201.0.0/16"), 24),
    AutoPool(ip_network("fd6d:6163:766c::/48"), 64),
)
