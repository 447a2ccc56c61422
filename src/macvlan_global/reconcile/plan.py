"""Plan of a reconciliation: the differences between records, kernel and engine, as corrections. Pure: facts in, a list
of corrections out, each with its reason.

A crash, a reboot, a lost answer or a restored store make them differ. `plan` goes through them in the order in which
corrections can be applied: networks that the engine removed, networks and endpoints of the engine without a record
(adopted), endpoints that nothing uses, container links without an endpoint, parents, and at last the shared records:
claims that the store lost, addresses and pools that nobody holds any more.

Three rules keep it from doing harm. What is younger than the grace period is left alone: a request may be under way,
and the engine repeats a broken call for 15 s; only a claim that the store lost is written at once. Without the engine's
view only what the kernel alone proves is corrected: a missing record proves nothing, it may be lost or of a newer
version, and its containers may run. A correction that takes something away is checked once more when it is applied.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork, EngineSubnet
from macvlan_global.ipam.owners import Holder, network_claims
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, SPACE_OPTION
from macvlan_global.kernel.ports import LinkFact
from macvlan_global.parents.owned import describe, is_what_we_made
from macvlan_global.reconcile.corrections import (
    AdoptEndpoint,
    AdoptNetwork,
    ClaimAddress,
    Correction,
    DeleteEndpoint,
    DeleteNetwork,
    DeleteStray,
    ForgetNetwork,
    GiveBackAddress,
    GiveBackPool,
    HoldAddress,
    RemoveLink,
    RestoreLink,
    RestorePool,
)
from macvlan_global.store.records import (
    AddressRecord,
    EndpointRecord,
    LinkRecord,
    NetworkRecord,
    PoolRecord,
    SubnetRecord,
)
from macvlan_global.subnets import Address

_OUR_LINK = re.compile(r"mg-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Shared:
    """Records that the hosts of a cluster share; a host alone has pools and addresses of its own. `defined` and
    `removed` are the cluster's ids of the networks that have a definition, and of those that have a tombstone, or whose
    removal this host remembers; with `some_unreadable` there are others that cannot be read.

    `addresses` are all of the subnets in `seen` (spaces and CIDR), and some others; without it they are all there are.
    """

    pools: tuple[PoolRecord, ...] = ()
    addresses: tuple[AddressRecord, ...] = ()
    defined: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    some_unreadable: bool = False
    seen: frozenset[tuple[str, str]] | None = None

    def sees(self, pool: PoolRecord) -> bool:
        """Whether `addresses` has all that there are in the subnet of a pool."""
        return self.seen is None or (pool.space, pool.subnet) in self.seen


def unknown_subnets(
    pools: Iterable[PoolRecord], networks: Iterable[NetworkRecord], host: str
) -> frozenset[tuple[str, str]]:
    """The subnets of a host's pools whose networks it does not have: they are its to give back, and only their
    addresses tell whether other hosts have containers there."""
    known = {"", *(each.shared_id for each in networks)}
    return frozenset((each.space, each.subnet) for each in pools if each.network not in known and is_own(each, host))


def is_own(pool: PoolRecord, host: str) -> bool:
    """Whether a host asked for a pool, or none is known that did: then it may give it back."""
    return pool.host in {"", host}


@dataclass(frozen=True, slots=True)
class ReconcileFacts:
    """Observed state. `engine` is None if it did not answer, `shared` if the store did not; times are seconds since the
    epoch, `now` read before everything else and `later` after it: the clock may be set meanwhile. With `clock_set` it
    was set just before: then nothing is known to be old. `settled` holds the ids of the networks and endpoints that
    were recorded, and complete, before `shared` was read; `stood_on` the names of parents of ours on which a link of
    another network namespace stands, `unreadable` those of links whose endpoint's record cannot be read. `host_access`
    are the addresses that this host was given (space, bare address), `on_shims` those that it has on a shim besides;
    with `host_access_known` these are all. `foreign` are the engine's networks of other drivers that have addresses of
    ours; `misnamed` those of `engine` that it shows under another driver's name, with that name. `engine_links` are the
    names of the links of all endpoints that the engine has, of any driver, None if it was not asked; `stray_since` the
    times at which links were first seen without an endpoint."""

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
    stood_on: frozenset[str] = frozenset()
    unreadable: frozenset[str] = frozenset()
    host_access: frozenset[tuple[str, str]] = frozenset()
    on_shims: frozenset[str] = frozenset()
    host_access_known: bool = False
    engine: tuple[EngineNetwork, ...] | None = None
    foreign: tuple[EngineNetwork, ...] = ()
    misnamed: tuple[EngineNetwork, ...] = ()
    engine_links: frozenset[str] | None = None
    stray_since: Mapping[str, float] = field(default_factory=dict)
    later: float | None = None
    clock_set: bool = False

    def is_old(self, at: float) -> bool:
        """Whether something written at this time is beyond the grace period."""
        # the clock may have been ahead when it was written
        return not self.clock_set and all(abs(each - at) >= self.grace for each in (self.now, self.later or self.now))

    def is_whole(self, record: NetworkRecord | EndpointRecord) -> bool:
        """Whether the request that made a network or an endpoint is surely over: all its claims were written."""
        return self.is_old(record.at) or record.id in self.settled

    def living_networks(self, deleted: set[str]) -> set[str]:
        """Ids, local and of the cluster, of networks with a record, in the engine or with a definition, without those
        that this plan deletes; and of those on which other hosts have addresses, or may have some that were not read,
        whatever became of the definition."""
        here = {each.id for each in self.networks} | {each.shared_id for each in self.networks}
        here |= {each.id for each in (*(self.engine or ()), *self.foreign)}
        return here - deleted | self._living_elsewhere()

    def _living_elsewhere(self) -> set[str]:
        if self.shared is None:
            return set()
        held = (each for each in self.shared.addresses if each.kind in {"endpoint", "host"})
        # one that goes while this host looks is seen the next time: see `unknown_subnets`
        unseen = {each.network for each in self.shared.pools if each.network and not self.shared.sees(each)}
        return {each.network for each in held if each.host != self.host} | self.shared.defined | unseen

    def engine_endpoints(self) -> dict[str, EngineEndpoint]:
        """Every endpoint that the engine has, by id."""
        networks = (*(self.engine or ()), *self.foreign)
        return {each.id: each for network in networks for each in network.endpoints}


def plan(facts: ReconcileFacts) -> list[Correction]:
    """All corrections, in an order in which they can be applied."""
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
        corrections += plan_foreign(facts.foreign, facts.shared, facts.host, facts.now)
        corrections += _lost_claims(facts, facts.shared, deleted, ended)
        corrections += _addresses(facts, facts.shared, deleted)
        corrections += _pools(facts, facts.shared, deleted)
        corrections += _forgotten(facts.shared)
    return corrections


def space_of(network: EngineNetwork) -> str:
    """The address space of a network that the engine has."""
    return network.ipam_options.get(SPACE_OPTION, DEFAULT_SPACE)


def plan_foreign(networks: Iterable[EngineNetwork], shared: Shared, host: str, now: float) -> Iterator[Correction]:
    """Claims of networks of other drivers on their pools, gateways and aux addresses, and their containers' addresses:
    no CreateNetwork and no CreateEndpoint tells of them, so the engine is asked."""
    pools = {(each.space, each.subnet, each.range): each for each in shared.pools}
    held = {(each.space, each.address): each for each in shared.addresses}
    for network in networks:
        space = space_of(network)
        for subnet in network.subnets:
            part = _range_of(subnet)
            pool = PoolRecord(
                space=space,
                subnet=subnet.subnet,
                range=part,
                network=network.id,
                host=host,
                at=now,
                driver=network.driver,
                name=network.name,
            )
            known = pools.get((space, subnet.subnet, part))
            if known is None or known.network != network.id:
                reason = f"network {network.name} (driver {network.driver}) has it, and the store does not say so"
                yield RestorePool(f"pool {subnet.subnet}", reason, pool, network.id)
            record = SubnetRecord(space=space, subnet=subnet.subnet, gateway=subnet.gateway, aux=subnet.aux)
            yield from _unclaimed(NetworkRecord(id=network.id, name=network.name, given={}, at=now), pool, record, held)
            for address in (each for one in network.endpoints for each in one.addresses if _is_in(each, record)):
                found = held.get((space, address))
                if found is None or (found.kind, found.network) != ("reserved", network.id):
                    reason = f"a container on network {network.name} has it, and the store does not say so"
                    yield HoldAddress(f"address {address}", reason, pool, address)


def parts_with(networks: Iterable[EngineNetwork], pools: Iterable[PoolRecord]) -> list[EngineNetwork]:
    """Those of the networks that have subnets of these pools, with these subnets only."""
    wanted = {(each.space, each.subnet, each.range) for each in pools}
    parts = []
    for network in networks:
        space = space_of(network)
        subnets = tuple(each for each in network.subnets if (space, each.subnet, _range_of(each)) in wanted)
        if subnets:
            parts.append(replace(network, subnets=subnets))
    return parts


def plan_nameless(
    networks: Collection[EngineNetwork], nameless: Iterable[tuple[PoolRecord, Address]]
) -> Iterator[HoldAddress]:
    """Addresses that are to be in the name of these networks, of other drivers: containers asked for them before it was
    known whose pools they are from. The networks asked for their gateways and aux addresses in the same way."""
    here = {each.id for each in networks}
    fixed = {
        (space_of(network), address)
        for network in networks
        for subnet in network.subnets
        for address in (subnet.gateway, *subnet.aux.values())
    }
    for pool, address in nameless:
        if pool.network in here and (pool.space, str(address)) not in fixed:
            reason = f"it was requested for a container before network {pool.name} was known"
            yield HoldAddress(f"address {address}", reason, pool, str(address))


def _range_of(subnet: EngineSubnet) -> str:
    """The range as a pool has it."""
    return "" if subnet.range == subnet.subnet else subnet.range


def _is_in(address: str, subnet: SubnetRecord) -> bool:
    return ip_address(address) in subnet.prefix


def _networks(facts: ReconcileFacts) -> list[DeleteNetwork]:
    if facts.engine is None:
        return []
    known = {each.id for each in (*facts.engine, *facts.foreign)}
    removed = facts.shared.removed if facts.shared else frozenset()
    used = {each.network for each in facts.endpoints}
    return [
        DeleteNetwork(
            f"network {each.shown}", "the engine has no such network: it was removed while the driver was down", each.id
        )
        for each in facts.networks
        # a published network is replication's to remove: the engine may only have lost it. Of one that was removed
        # elsewhere nothing is left to tell; its endpoints go first, each with its claims
        if each.id not in known
        and facts.is_old(each.at)
        and (not each.published or (each.shared_id in removed and each.id not in used))
    ]


def _adoptions(facts: ReconcileFacts) -> Iterator[Correction]:
    # one without its subnets is an adoption that was interrupted
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
        subject = f"endpoint {each.shown} ({each.address or each.address6 or each.mac})"
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


def without_endpoint(facts: ReconcileFacts) -> list[LinkFact]:
    """Container links on the host of which this driver has no endpoint."""
    known = {each.link for each in facts.endpoints} | facts.unreadable
    ours = (each for name, each in facts.links.items() if _OUR_LINK.fullmatch(name) and name not in known)
    return [each for each in ours if each.kind == "macvlan"]


def _strays(facts: ReconcileFacts) -> Iterator[DeleteStray]:
    for name in (each.name for each in without_endpoint(facts)):
        # it may be another driver's on this host, and its container is just being started
        unused = facts.engine_links is not None and name not in facts.engine_links
        if unused and facts.is_old(facts.stray_since.get(name, facts.now)):
            yield DeleteStray(f"link {name}", "no endpoint has it", name)


def _parents(facts: ReconcileFacts, deleted: set[str]) -> Iterator[Correction]:
    users = _users(facts, deleted)
    lower = {link.lower for link in facts.links.values() if not link.is_shim}
    stood_on = facts.stood_on | {name for name, link in facts.links.items() if link.index in lower}
    # a network that only the engine has may stand on any of our links
    all_known = facts.engine is not None and {each.id for each in facts.engine} <= {each.id for each in facts.networks}
    # masters first: a sub-interface can be made again only on one that is there
    for record in sorted(facts.owned, key=lambda each: users.get(each.name, (0, ""))):
        link = facts.links.get(record.name)
        if record.name not in users:
            if all_known and facts.is_old(record.at) and record.name not in stood_on:
                yield RemoveLink(describe(record), "no network uses it", record.name)
        elif link is None:
            _, network = users[record.name]
            yield RestoreLink(describe(record), f"network {network} uses it, and it is gone", record)
        elif not link.up and is_what_we_made(link, record):
            yield RestoreLink(describe(record), "it is down", record)


def _users(facts: ReconcileFacts, deleted: set[str]) -> dict[str, tuple[int, str]]:
    """Parents in use, directly or as the master of a sub-interface of ours, by name: minus the depth, and the network
    that uses it. The values sort masters first."""
    masters = {each.name: each.master for each in facts.owned}
    users: dict[str, tuple[int, str]] = {}
    for network in facts.networks:
        name, depth = ("", 0) if network.id in deleted else (network.parent, 0)
        while name and -depth < len(masters) + 1:  # a bound: records may be wrong, and must not turn us in circles
            found = (depth, network.shown)
            users[name] = min(users.get(name, found), found)
            name, depth = masters.get(name, ""), depth - 1
    return users


def _lost_claims(facts: ReconcileFacts, shared: Shared, deleted: set[str], ended: set[str]) -> Iterator[Correction]:
    """Claims of this host that a store restored from an older copy lacks."""
    # a pool without a network is not ours any more: it was only reserved when the copy was made
    owners: dict[tuple[str, str, str], set[str]] = {}
    for each in (each for each in shared.pools if each.network):
        owners.setdefault((each.space, each.subnet, each.range), set()).add(each.network)
    held = {(each.space, each.address): each for each in shared.addresses}
    for network in facts.networks:
        if network.id in deleted or not facts.is_whole(network):
            continue
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
            # if another one has it, the operator is told so, but for networks that are not the cluster's: each host may
            # have one of before, with the same subnet
            there = owners.get((pool.space, pool.subnet, pool.range), set())
            lost = network.shared_id not in there if network.cluster else not there
            if lost and network.shared_id not in shared.removed:
                reason = f"network {network.shown} has it, and the store does not know"
                yield RestorePool(f"pool {pool.subnet}", reason, pool, network.id)
            if network.shared_id not in shared.removed or used:
                yield from _unclaimed(network, pool, subnet, held)
    # also young ones: an older copy lacks the youngest first, and their addresses could be given to others
    here = {each.id: each for each in facts.networks if each.id not in deleted}
    for endpoint in (each for each in facts.endpoints if each.id not in ended and each.network in here):
        for subnet in (each for each in here[endpoint.network].subnets if each.space):
            yield from _unclaimed_by(endpoint, here[endpoint.network], subnet, held, facts)


def _unclaimed(
    network: NetworkRecord, pool: PoolRecord, subnet: SubnetRecord, held: Mapping[tuple[str, str], AddressRecord]
) -> Iterator[ClaimAddress]:
    """The gateway and aux addresses of a subnet that the store does not have as the network's claims."""
    wanted = [(subnet.gateway, Holder("gateway", network.shared_id))] if subnet.gateway else []
    wanted += [(address, Holder("aux", network.shared_id, label=label)) for label, address in subnet.aux.items()]
    for address, holder in wanted:
        record = held.get((pool.space, address))
        if record is None or not holder.holds(record):
            reason = f"it is the {holder.kind} address of network {network.shown}, and the store does not say so"
            yield ClaimAddress(f"address {address}", reason, pool, address, holder, network.id)


def _unclaimed_by(
    endpoint: EndpointRecord,
    network: NetworkRecord,
    subnet: SubnetRecord,
    held: Mapping[tuple[str, str], AddressRecord],
    facts: ReconcileFacts,
) -> Iterator[ClaimAddress]:
    """The addresses of an endpoint in a subnet that the store does not have as its claims, or with another MAC than it
    was given."""
    holder = Holder("endpoint", network.shared_id, endpoint.id)
    pool = PoolRecord(space=subnet.space, subnet=subnet.subnet, range=subnet.range, at=facts.now)
    for address in (str(each) for each in endpoint.addresses if each in subnet.prefix):
        record = held.get((pool.space, address))
        reserved = record is not None and (record.kind, record.host) == ("reserved", facts.host)
        if not facts.is_whole(endpoint) or (reserved and not facts.is_old(endpoint.at)):
            continue  # it is just being made
        if record is None or not holder.holds(record) or record.host != facts.host:
            reason = f"{endpoint.shown} uses it, and the store does not say so"
            yield ClaimAddress(f"address {address}", reason, pool, address, holder, network.id)
        elif "" not in {endpoint.mac, record.mac} and endpoint.mac != record.mac:  # older releases wrote none
            reason = f"{endpoint.shown} has the MAC {endpoint.mac}, and the store says {record.mac}"
            yield ClaimAddress(f"address {address}", reason, pool, address, holder, network.id)


def _addresses(facts: ReconcileFacts, shared: Shared, deleted: set[str]) -> Iterator[GiveBackAddress]:
    if facts.engine is None:
        return
    networks = facts.living_networks(deleted)
    in_engine = facts.engine_endpoints()
    endpoints = {each.id for each in facts.endpoints} | in_engine.keys()
    used = {(space, address) for space, each in _by_space(facts) for address in each.addresses}
    for each in shared.addresses:
        if not facts.is_old(each.at):
            continue
        for claim in network_claims(each) if not shared.some_unreadable else ():
            if claim.host == facts.host and claim.network not in networks | shared.removed | deleted:
                yield GiveBackAddress(f"address {each.address}", "its network is gone", each, claim.network)
        if each.host != facts.host or each.network in deleted:
            continue
        if reason := _unused(each, endpoints, used, facts):
            yield GiveBackAddress(f"address {each.address}", reason, each)


def _by_space(facts: ReconcileFacts) -> Iterator[tuple[str, EngineEndpoint]]:
    """Every endpoint that the engine has, with the address space of its network."""
    for network in (*(facts.engine or ()), *facts.foreign):
        yield from ((space_of(network), each) for each in network.endpoints)


def _unused(
    record: AddressRecord, endpoints: AbstractSet[str], used: AbstractSet[tuple[str, str]], facts: ReconcileFacts
) -> str:
    """The reason why no container of this host has an address that it holds for an endpoint or for itself, nor it
    itself; "" if one has, or may have. `endpoints` are ids, `used` the addresses of the engine's containers, with their
    spaces."""
    if (record.space, record.address) in facts.host_access or record.address in facts.on_shims:
        return ""  # whatever its record says: it is off the shim first
    if record.kind == "endpoint":
        return "" if record.endpoint in endpoints else "its endpoint is gone"
    if record.kind == "reserved" and (record.space, record.address) not in used:
        return "it is reserved, and no container of the engine has it"
    if record.kind == "host" and facts.host_access_known:
        return "this host does not use it any more"
    return ""


def _forgotten(shared: Shared) -> Iterator[ForgetNetwork]:
    """Networks that were removed from the cluster and on which no endpoint of any host, and no host, has an address."""
    in_use = {each.network for each in shared.addresses if each.kind in {"endpoint", "host"}}
    # pools of which this host has not seen the addresses are those of other hosts to forget
    holding: dict[str, set[tuple[str, str]]] = {each.network: set() for each in shared.pools if shared.sees(each)}
    # by its addresses too: a host on which its last containers ran may have claimed them anew after the pools went
    for each in shared.addresses:
        for network in (each.network, *(claim.network for claim in each.sharers)):
            holding.setdefault(network, set()).add((each.space, each.subnet))
    for network in sorted(holding.keys() & shared.removed - in_use):
        reason = "it was removed, and its last endpoint is gone"
        yield ForgetNetwork(f"network {network[:12]}", reason, network, frozenset(holding[network]))


def _pools(facts: ReconcileFacts, shared: Shared, deleted: set[str]) -> Iterator[GiveBackPool]:
    if facts.engine is None:
        return
    networks = facts.living_networks(deleted)
    claimed = {pool.subnet for pool in shared.pools if pool.network in networks}
    subnets = {subnet.subnet for each in (*facts.engine, *facts.foreign) for subnet in each.subnets} - claimed
    for pool in shared.pools:
        if not facts.is_old(pool.at) or pool.network in networks or not is_own(pool, facts.host):
            continue
        if pool.network in deleted | shared.removed:
            continue  # it goes with its network
        if pool.network and shared.some_unreadable:
            continue
        if pool.network:
            yield GiveBackPool(f"pool {pool.subnet}", "its network is gone", pool)
        elif pool.subnet not in subnets:
            yield GiveBackPool(f"pool {pool.subnet}", "it is reserved, and no network of the engine has it", pool)
