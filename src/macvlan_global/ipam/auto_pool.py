"""Default address pools: subnets for networks that name none. Pure.

Docker's `default-address-pools`, in our configuration. Apart from `pools`, as the configuration needs only this.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from macvlan_global.subnets import Subnet, from_number, is_within, overlap


@dataclass(frozen=True, slots=True)
class AutoPool:
    """A default address pool: subnets of this prefix length, cut from `base`."""

    base: Subnet
    prefix: int


DEFAULT_AUTO_POOLS = (
    AutoPool(ip_network("10.201.0.0/16"), 24),
    AutoPool(ip_network("fd6d:6163:766c::/48"), 64),
)


def candidates(pools: Sequence[AutoPool], avoid: Sequence[Subnet], *, version: int) -> Iterator[Subnet]:
    """Subnets of this IP version that overlap none of `avoid`, in the order in which they are tried."""
    for pool in pools:
        if pool.base.version != version:
            continue
        near = [subnet for subnet in avoid if overlap(subnet, pool.base)]
        step = 1 << (pool.base.max_prefixlen - pool.prefix)
        number, stop = int(pool.base.network_address), int(pool.base.broadcast_address)
        while number <= stop:
            candidate = ip_network(f"{from_number(number, pool.base)}/{pool.prefix}")
            clash = next((subnet for subnet in near if overlap(subnet, candidate)), None)
            if clash is None:
                yield candidate
                number += step
            elif is_within(candidate, clash):  # leap over a large subnet in one step
                number = int(clash.broadcast_address) + 1
            else:
                number += step
