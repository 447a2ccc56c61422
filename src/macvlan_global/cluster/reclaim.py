"""The addresses and pools that dead hosts hold, and the probes due before they are given back. Pure.

An address is never taken from a host that only looks dead. So the host must have been gone for the whole grace period
as this process saw it, and nobody on the wire of the network may answer for the address. Hosts do this side by side and
need not agree: each deletes exactly the record that it read. Who begins is chosen by a hash, to spare the wire.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice

from macvlan_global.store.records import AddressRecord, NetworkRecord, PoolRecord

MOST_TURNS = 8
"""Most turns that a host waits for others to reclaim from a dead host."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Addresses that one holder of a dead host has, and the parents on whose wires somebody may answer for them.

    They go together: a container that answers for one of its addresses has them all. `out_of_reach` says why this host
    cannot ask, "" if it can; without a parent to ask on there is nobody to ask, and nothing in the way.
    """

    records: tuple[AddressRecord, ...]
    parents: tuple[str, ...] = ()
    out_of_reach: str = ""


def turn(host: str, dead: str, live: Collection[str]) -> int:
    """The turn of `host` in reclaiming the addresses of `dead`: 0 for the first of the living, and so on."""

    def rank(each: str) -> bytes:
        return hashlib.sha256(f"{each} {dead}".encode()).digest()

    own = rank(host)
    before = (each for each in live if each != host and rank(each) < own)
    return sum(1 for _ in islice(before, MOST_TURNS))  # of thousands only so many are looked for


def due(gone: Mapping[str, float], grace: float, host: str, live: Collection[str]) -> set[str]:
    """The hosts whose things `host` may give back now. `gone` says for how many seconds each has been gone.

    Each turn is a tenth of the grace period: if those before `host` have not the parent, it does what they could not.
    """
    of_age = {dead: seconds - grace for dead, seconds in gone.items() if seconds >= grace}
    return {dead for dead, over in of_age.items() if over >= turn(host, dead, live) * grace / 10}


def plan(
    dead: Collection[str],
    addresses: Sequence[AddressRecord],
    pools: Sequence[PoolRecord],
    networks: Sequence[NetworkRecord],
) -> list[Claim]:
    """The claims of dead hosts and their endpoints, and reservations; gateways and aux addresses belong to the network.

    `networks` are those of this host, with their parents here; the rest is the cluster's.
    """
    parents = {network.shared_id: network.parent for network in networks if network.parent}
    owners: dict[tuple[str, str], set[str]] = {}
    for pool in pools:
        if pool.network:
            owners.setdefault((pool.space, pool.subnet), set()).add(pool.network)
    holders: dict[tuple[str, ...], list[AddressRecord]] = {}
    for record in addresses:
        if record.host in dead and record.kind in {"endpoint", "host"}:
            holders.setdefault((record.host, record.network, record.endpoint), []).append(record)
        elif record.host in dead and record.kind == "reserved":
            holders.setdefault((record.host, record.space, record.address, "reserved"), []).append(record)
    claims = []
    for records in holders.values():
        network = records[0].network
        of_subnets = [owners.get((each.space, each.subnet), set()) for each in records]
        # a reservation does not say for which network it is; a subnet that no network has is on no wire. A removed
        # network has no parent any more, but those that have its subnets now are on its wire
        is_told_by_subnet = not network or (network not in parents and all(of_subnets))
        wanted = set().union(*of_subnets) if is_told_by_subnet else {network}
        claims.append(_claim(tuple(records), wanted, parents))
    return claims


def _claim(records: tuple[AddressRecord, ...], networks: set[str], parents: Mapping[str, str]) -> Claim:
    missing = sorted(network for network in networks if network not in parents)
    if missing:
        return Claim(records, out_of_reach=f"network {missing[0][:12]} has no parent on this host to probe on")
    return Claim(records, tuple(sorted({parents[network] for network in networks})))


def reserved_pools(dead: Collection[str], pools: Sequence[PoolRecord]) -> list[PoolRecord]:
    """Subnets that dead hosts asked for and no network ever claimed: the network was never created."""
    return [pool for pool in pools if pool.host in dead and not pool.network]


def stranded(
    dead: Collection[str], addresses: Sequence[AddressRecord], pools: Sequence[PoolRecord], known: AbstractSet[str]
) -> list[str]:
    """Networks (ids in the cluster) that dead hosts were making, and that nobody heard of before they died.

    `known` are those that the cluster has, or had, and those of this host. A network of which a living host has
    written a pool or an address is that host's to look after.
    """
    written = [(each.network, each.host) for each in pools] + [(each.network, each.host) for each in addresses]
    theirs = {network for network, host in written if host in dead}
    return sorted(theirs - {network for network, host in written if host not in dead} - known - {""})
