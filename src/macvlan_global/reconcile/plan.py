"""After a crash, a reboot or a lost answer: compare state, kernel and engine, and say what must be corrected. Pure.

Each correction names its reason. What is younger than the grace period is left alone: a request may be under way, and
the engine repeats a broken call for 15 s. Only what is whole already and the store lost is claimed at once.
Without the engine's view only what the kernel alone proves is corrected: a record that is missing proves nothing, it
may have been lost or be of a newer version, and its containers may run.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork
from macvlan_global.ipam.owners import Holder
from macvlan_global.kernel.ports import LinkFact
from macvlan_global.parents.owned import describe, is_what_we_made
from macvlan_global.store.records import (
    AddressRecord,
    EndpointRecord,
    LinkRecord,
    NetworkRecord,
    PoolRecord,
    SubnetRecord,
)
from macvlan_global.subnets import parse_address, parse_subnet

_OUR_LINK = re.compile(r"mg-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Shared:
    """What the hosts of a cluster share; a host alone has pools and addresses of its own. `defined` and `removed` are
    ids in the cluster of networks that it has, and that were removed."""

    pools: tuple[PoolRecord, ...] = ()
    addresses: tuple[AddressRecord, ...] = ()
    defined: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ReconcileFacts:
    """All that a repair rests on. `engine` is None if it did not answer, `shared` if the store did not; times are
    seconds since the epoch, `now` before the rest was read and `later` after it: the clock may be set meanwhile.
    `settled` are the ids of what was there, and whole, before `shared` was read."""

    host: str
    boot: str
    now: float
    grace: float
    networks: tuple[NetworkRecord, ...] = ()
    endpoints: tuple[EndpointRecord, ...] = ()
    owned: tuple[LinkRecord, ...] = ()
    settled: frozenset[str] = frozenset()
    shared: Shared | None = None
    links: Mapping[str, LinkFact] = field(default_factory=dict)
    engine: tuple[EngineNetwork, ...] | None = None
    later: float | None = None

    def is_old(self, at: float) -> bool:
        """Whether something written at this time is beyond the grace period."""
        # the clock may have been ahead when it was written
        return all(abs(each - at) >= self.grace for each in (self.now, self.later or self.now))

    def is_whole(self, record: NetworkRecord | EndpointRecord) -> bool:
        """Whether a network or an endpoint surely has claimed all that is its own."""
        return self.is_old(record.at) or record.id in self.settled

    def living_networks(self, deleted: set[str]) -> set[str]:
        """The ids, here and in the cluster, of networks that the state, the engine or the cluster has, and that are
        not about to be deleted."""
        here = {each.id for each in self.networks} | {each.shared_id for each in self.networks}
        defined = self.shared.defined if self.shared else frozenset()
        return (here | {each.id for each in self.engine or ()}) - deleted | defined

    def engine_endpoints(self) -> dict[str, EngineEndpoint]:
        """Every endpoint that the engine has, by id."""
        return {each.id: each for network in self.engine or () for each in network.endpoints}


@dataclass(frozen=True, slots=True)
class Correction:
    """One thing to put right: what it is about, in words, and why."""

    subject: str
    reason: str

    def is_like(self, other: "Correction") -> bool:
        """Whether it is the same one, planned at another time."""
        return (type(self), self.subject, self.reason) == (type(other), other.subject, other.reason)


@dataclass(frozen=True, slots=True)
class RestoreLink(Correction):
    """Make a parent of ours again."""

    link: LinkRecord


@dataclass(frozen=True, slots=True)
class RemoveLink(Correction):
    """Take away a parent of ours."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteStray(Correction):
    """Delete a container's link that belongs to no endpoint."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteNetwork(Correction):
    """Delete a network that the engine does not have."""

    network: str


@dataclass(frozen=True, slots=True)
class DeleteEndpoint(Correction):
    """Delete an endpoint that nothing uses."""

    network: str
    endpoint: str


@dataclass(frozen=True, slots=True)
class GiveBackAddress(Correction):
    """Give back an address that nobody holds."""

    address: AddressRecord


@dataclass(frozen=True, slots=True)
class GiveBackPool(Correction):
    """Give back a pool that no network has."""

    pool: PoolRecord


@dataclass(frozen=True, slots=True)
class ForgetNetwork(Correction):
    """Let go of the pools and addresses of a network that was removed from the cluster."""

    network: str


@dataclass(frozen=True, slots=True)
class RestorePool(Correction):
    """Write down a pool that a network of this host has and the store lost."""

    pool: PoolRecord


@dataclass(frozen=True, slots=True)
class ClaimAddress(Correction):
    """Claim an address that this host uses and the store does not say so."""

    pool: PoolRecord
    address: str
    holder: Holder


@dataclass(frozen=True, slots=True)
class AdoptNetwork(Correction):
    """Write down a network that the engine has and our state lost."""

    network: EngineNetwork


@dataclass(frozen=True, slots=True)
class AdoptEndpoint(Correction):
    """Write down an endpoint that the engine has and our state lost, and claim its addresses."""

    network: str
    endpoint: EngineEndpoint


def plan(facts: ReconcileFacts) -> list[Correction]:
    """Every correction, in an order in which they can be applied."""
    deleted = {each.network for each in _networks(facts)}
    endpoints = list(_endpoints(facts, deleted))
    corrections: list[Correction] = [
        *_networks(facts),
        *_adoptions(facts),
        *endpoints,
        *_strays(facts),
        *_parents(facts, deleted),
    ]
    if facts.shared:
        ended = {each.endpoint for each in endpoints}
        corrections += _lost(facts, facts.shared, deleted, ended)
        corrections += _addresses(facts, facts.shared, deleted)
        corrections += _pools(facts, facts.shared, deleted)
        corrections += _forgotten(facts.shared)
    return corrections


def _networks(facts: ReconcileFacts) -> list[DeleteNetwork]:
    if facts.engine is None:
        return []
    known = {each.id for each in facts.engine}
    return [
        DeleteNetwork(
            f"network {each.name or each.id[:12]}", "the engine has no such network: it was removed unseen", each.id
        )
        for each in facts.networks
        # what the cluster has is looked after by replication: the engine may only have lost it
        if each.id not in known and facts.is_old(each.at) and not each.published
    ]


def _adoptions(facts: ReconcileFacts) -> Iterator[Correction]:
    # one without its subnets was cut short when it was adopted before
    networks = {each.id: bool(each.subnets) for each in facts.networks}
    endpoints = {each.id for each in facts.endpoints}
    for network in (each for each in facts.engine or () if each.is_made_here):
        if not networks.get(network.id, False) and (network.subnets or network.id not in networks):
            yield AdoptNetwork(f"network {network.name}", "the engine has it, and the state does not", network)
        for endpoint in network.endpoints:
            if endpoint.id and endpoint.id not in endpoints:
                yield AdoptEndpoint(
                    f"endpoint of {endpoint.described}",
                    "the engine has it, and the state does not",
                    network.id,
                    endpoint,
                )


def _endpoints(facts: ReconcileFacts, deleted: set[str]) -> Iterator[DeleteEndpoint]:
    networks = facts.living_networks(deleted)
    in_engine = facts.engine_endpoints()
    for each in facts.endpoints:
        subject = f"endpoint {each.container or each.id[:12]} ({each.address or each.address6 or each.mac})"
        if each.network in deleted:
            continue  # it goes with its network
        if each.boot != facts.boot:
            yield DeleteEndpoint(subject, "it was made before the last boot", each.network, each.id)
        elif not facts.is_old(each.at) or facts.engine is None:
            continue
        elif each.network not in networks:
            yield DeleteEndpoint(subject, "its network is gone", each.network, each.id)
        elif each.id not in in_engine:
            yield DeleteEndpoint(subject, "the engine has no such endpoint", each.network, each.id)


def _strays(facts: ReconcileFacts) -> Iterator[DeleteStray]:
    links = {each.link for each in facts.endpoints}
    for name, link in facts.links.items():
        if _OUR_LINK.fullmatch(name) and link.kind == "macvlan" and name not in links:
            yield DeleteStray(f"link {name}", "no endpoint has it", name)


def _parents(facts: ReconcileFacts, deleted: set[str]) -> Iterator[Correction]:
    users = _users(facts, deleted)
    stood_on = {link.lower for link in facts.links.values()}
    # a network that only the engine has may stand on any of our links
    all_known = facts.engine is not None and {each.id for each in facts.engine} <= {each.id for each in facts.networks}
    # masters first: a sub-interface can be made again only on one that is there
    for record in sorted(facts.owned, key=lambda each: users.get(each.name, (0, ""))):
        link = facts.links.get(record.name)
        if record.name not in users:
            if all_known and facts.is_old(record.at) and not (link and link.index in stood_on):
                yield RemoveLink(describe(record), "no network uses it", record.name)
        elif link is None:
            _, network = users[record.name]
            yield RestoreLink(describe(record), f"network {network} uses it, and it is gone", record)
        elif not link.up and is_what_we_made(link, record):
            yield RestoreLink(describe(record), "it is down", record)


def _users(facts: ReconcileFacts, deleted: set[str]) -> dict[str, tuple[int, str]]:
    """The links that networks stand on, directly or through sub-interfaces of ours: minus how far below, and for whom.

    The deepest one comes first in the order of the values.
    """
    masters = {each.name: each.master for each in facts.owned}
    users: dict[str, tuple[int, str]] = {}
    for network in facts.networks:
        name, depth = ("", 0) if network.id in deleted else (network.parent, 0)
        while name and -depth < len(masters) + 1:  # a bound: records may be wrong, and must not turn us in circles
            found = (depth, network.name or network.id[:12])
            users[name] = min(users.get(name, found), found)
            name, depth = masters.get(name, ""), depth - 1
    return users


def _lost(facts: ReconcileFacts, shared: Shared, deleted: set[str], ended: set[str]) -> Iterator[Correction]:
    """What this host has and the store does not know: a store that was restored from a copy is older than we are."""
    # one that nobody has there is not ours any more: it was only asked for when the copy was made
    pools = {(each.space, each.subnet, each.range) for each in shared.pools if each.network}
    held = {(each.space, each.address): each for each in shared.addresses}
    for network in facts.networks:
        if network.id in deleted or not facts.is_whole(network):
            continue
        name = network.name or network.id[:12]
        used = any(each.network == network.id for each in facts.endpoints)
        for subnet in (each for each in network.subnets if each.space):
            pool = PoolRecord(
                space=subnet.space,
                subnet=subnet.subnet,
                range=subnet.range,
                network=network.shared_id,
                host=facts.host,
                at=facts.now,
            )
            if (pool.space, pool.subnet, pool.range) not in pools and network.shared_id not in shared.removed:
                yield RestorePool(f"pool {pool.subnet}", f"network {name} has it, and the store does not know", pool)
            if network.shared_id not in shared.removed or used:
                yield from _unclaimed(network, pool, subnet, held)
    # however young they are: such a copy lacks the youngest most of all, and others may be given what they have
    here = {each.id: each for each in facts.networks if each.id not in deleted}
    for endpoint in (each for each in facts.endpoints if each.id not in ended and each.network in here):
        for subnet in (each for each in here[endpoint.network].subnets if each.space):
            yield from _unclaimed_by(endpoint, here[endpoint.network], subnet, held, facts)


def _unclaimed(
    network: NetworkRecord, pool: PoolRecord, subnet: SubnetRecord, held: Mapping[tuple[str, str], AddressRecord]
) -> Iterator[ClaimAddress]:
    """The gateway and the aux addresses of a subnet that the store does not say the network has."""
    wanted = [(subnet.gateway, Holder("gateway", network.shared_id))] if subnet.gateway else []
    wanted += [(address, Holder("aux", network.shared_id, label=label)) for label, address in subnet.aux.items()]
    for address, holder in wanted:
        record = held.get((pool.space, address))
        if record is None or not (holder.holds(record) or holder.shares(record)):
            name = network.name or network.id[:12]
            reason = f"it is the {holder.kind} address of network {name}, and the store does not say so"
            yield ClaimAddress(f"address {address}", reason, pool, address, holder)


def _unclaimed_by(
    endpoint: EndpointRecord,
    network: NetworkRecord,
    subnet: SubnetRecord,
    held: Mapping[tuple[str, str], AddressRecord],
    facts: ReconcileFacts,
) -> Iterator[ClaimAddress]:
    """The addresses that an endpoint has in a subnet, and that the store does not say it has."""
    inside = parse_subnet(subnet.subnet, "subnet")
    holder = Holder("endpoint", network.shared_id, endpoint.id)
    pool = PoolRecord(space=subnet.space, subnet=subnet.subnet, range=subnet.range, at=facts.now)
    for address in (endpoint.address, endpoint.address6):
        if not address or parse_address(address, "address") not in inside:
            continue
        record = held.get((pool.space, address))
        reserved = record is not None and (record.kind, record.host) == ("reserved", facts.host)
        if not facts.is_whole(endpoint) or (reserved and not facts.is_old(endpoint.at)):
            continue  # it is just being made
        if record is None or not holder.holds(record) or record.host != facts.host:
            reason = f"{endpoint.container or endpoint.id[:12]} uses it, and the store does not say so"
            yield ClaimAddress(f"address {address}", reason, pool, address, holder)


def _addresses(facts: ReconcileFacts, shared: Shared, deleted: set[str]) -> Iterator[GiveBackAddress]:
    if facts.engine is None:
        return
    networks = facts.living_networks(deleted)
    endpoints = {each.id for each in facts.endpoints}
    in_engine = facts.engine_endpoints()
    used = {address for each in in_engine.values() for address in each.addresses}
    for each in shared.addresses:
        if each.host != facts.host or not facts.is_old(each.at) or each.network in deleted:
            continue
        if each.kind == "reserved":
            if each.address not in used:
                reason = "it was asked for, and no container of the engine has it"
                yield GiveBackAddress(f"address {each.address}", reason, each)
        elif each.kind == "endpoint" and each.endpoint not in endpoints and each.endpoint not in in_engine:
            yield GiveBackAddress(f"address {each.address}", "its endpoint is gone", each)
        elif each.network not in networks | shared.removed and each.kind != "endpoint":
            yield GiveBackAddress(f"address {each.address}", "its network is gone", each)


def _forgotten(shared: Shared) -> Iterator[ForgetNetwork]:
    """Networks that were removed, and whose last endpoint is gone on every host."""
    in_use = {each.network for each in shared.addresses if each.kind == "endpoint"}
    # by its addresses too: a host on which its last containers ran may have claimed them anew after the pools went
    holding = {each.network for each in shared.pools} | {each.network for each in shared.addresses}
    for network in sorted(holding & shared.removed - in_use):
        yield ForgetNetwork(f"network {network[:12]}", "it was removed, and its last endpoint is gone", network)


def _pools(facts: ReconcileFacts, shared: Shared, deleted: set[str]) -> Iterator[GiveBackPool]:
    if facts.engine is None:
        return
    networks = facts.living_networks(deleted)
    claimed = {pool.subnet for pool in shared.pools if pool.network in networks}
    subnets = {subnet.subnet for each in facts.engine for subnet in each.subnets} - claimed
    for pool in shared.pools:
        if not facts.is_old(pool.at) or pool.network in networks or pool.host not in {"", facts.host}:
            continue
        if pool.network in deleted | shared.removed:
            continue  # it goes with its network
        if pool.network:
            yield GiveBackPool(f"pool {pool.subnet}", "its network is gone", pool)
        elif pool.subnet not in subnets:
            yield GiveBackPool(f"pool {pool.subnet}", "it was asked for, and no network of the engine has it", pool)
