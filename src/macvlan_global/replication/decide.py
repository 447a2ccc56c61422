"""What is to be done about one name of a network on this host. Pure: facts in, an action with its reason out.

The rules, the first that fits:

1. A definition of a network that was removed is a left-over: it goes.
2. A network that the cluster had, and that this very engine no longer has, was removed by its operator while nobody
   looked: so it is told to all. What is young is left alone, it may be in the making.
3. A network that was removed in the cluster goes here too: at once, or with its last container.
4. A network of this host that the cluster does not have is published, again if its definition was lost.
5. A name that something else has here is a conflict. Nothing is touched: not the network here, not the cluster's. If
   an engine made both, ours goes.
6. A network that the cluster has and this host does not is made.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from macvlan_global.engine.ports import EngineNetwork
from macvlan_global.replication.definition import cluster_id, definition_of, differs
from macvlan_global.store.records import DefinitionRecord, NetworkRecord

OUR_DRIVER = "macvlan-global"
GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ReplicationFacts:
    """All that bears on one name. Times are seconds since the epoch.

    `found` is the engine's network of this name, of any driver, and `record` what our driver keeps about it;
    `missing` is what our driver keeps about a published network of this name that this engine had and no longer has.
    `removed` holds the ids in the cluster of removed networks; `unreadable` the names of definitions, and the ids of
    removed networks, that a newer version wrote. `hosts` are names of hosts by their ids.
    """

    name: str
    host: str
    now: float
    definition: DefinitionRecord | None = None
    removed: AbstractSet[str] = frozenset()
    unreadable: AbstractSet[str] = frozenset()
    found: EngineNetwork | None = None
    record: NetworkRecord | None = None
    missing: NetworkRecord | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settled:
    """All is as it should be."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """It cannot be told yet: look again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Write the definition if the cluster has none of this name. `network` is the id here."""

    network: str
    definition: DefinitionRecord
    reason: str


@dataclass(frozen=True, slots=True)
class NotePublished:
    """Remember here that the cluster has this network."""

    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Delete a definition that is left over."""

    definition: DefinitionRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Create:
    """Have the engine make it."""

    definition: DefinitionRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Have the engine remove it."""

    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unmake:
    """Have the engine remove the copy that we had it make; the cluster's network is what it was."""

    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class MarkRemoved:
    """Tell the cluster that it was removed here. `network` is the id that it had here."""

    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """It was removed, and stays until its last container goes."""

    network: str
    reason: str
    next_step: str


@dataclass(frozen=True, slots=True)
class InConflict:
    """Something else has the name here. With `blocks`, no container may start on `network`."""

    network: str
    reason: str
    next_step: str
    blocks: bool


Action = (
    Settled | Wait | Publish | NotePublished | Withdraw | Create | Remove | Unmake | MarkRemoved | Keep | InConflict
)


def decide(facts: ReplicationFacts) -> Action:
    """The next thing to do about this name; once it is done, ask again."""
    return _unclear(facts) or _left_over(facts) or _missed(facts) or _doubled(facts) or _as_it_is(facts)


def _unclear(facts: ReplicationFacts) -> Action | None:
    ids = {cluster_id(facts.found)} if facts.found else set()
    if facts.unreadable & {facts.name, *ids}:
        return Wait("a newer macvlan-global wrote about it; this one leaves it alone")
    return None


def _left_over(facts: ReplicationFacts) -> Action | None:
    if facts.definition and facts.definition.id in facts.removed:
        return Withdraw(facts.definition, "its network was removed")
    return None


def _missed(facts: ReplicationFacts) -> Action | None:
    missing = facts.missing
    if missing is None or missing.shared_id in facts.removed:
        return None
    if 0 <= facts.now - missing.at < GRACE_SECONDS:
        return Wait("it is not among the engine's networks, and too young to be missed")
    return MarkRemoved(missing.id, "it was removed from this engine while the driver did not look")


def _doubled(facts: ReplicationFacts) -> Action | None:
    """An engine that can have two networks of a name got a second one while it made ours."""
    if facts.found and facts.found.twins:
        for each in (facts.found, *facts.found.twins):
            if cluster_id(each) != each.id and not each.endpoints:
                return Unmake(each.id, "another network of this name was made here at the same moment")
    return None


def _as_it_is(facts: ReplicationFacts) -> Action:
    if facts.found is None:
        if facts.definition is None:
            return Settled("there is none")
        return Create(facts.definition, f"host {_host(facts, facts.definition)} published it")
    if _is_foreign(facts, facts.found):
        return _beside_foreign(facts, facts.found)
    if facts.record is None:
        return Wait("the driver does not know it yet")
    return _about_ours(facts, facts.found, facts.record)


def _about_ours(facts: ReplicationFacts, found: EngineNetwork, record: NetworkRecord) -> Action:
    own, definition = cluster_id(found), facts.definition
    if own in facts.removed:
        return _let_go(found)
    if definition is None:
        again = "the cluster has lost its definition" if record.published else "it was made on this host"
        return Publish(found.id, definition_of(found, facts.host, facts.now), again)
    if definition.id != own:
        return _clash(facts, found, definition)
    if not record.published:
        return NotePublished(found.id, "the cluster has it")
    if reasons := differs(definition, found):
        return InConflict(
            found.id,
            f"network {found.name} is not here as the cluster defines it: {'; '.join(reasons)}",
            "nothing must be done if that is meant; else remove it once, on any host, and create it again",
            blocks=False,
        )
    return Settled("it is here as the cluster defines it")


def _let_go(found: EngineNetwork) -> Action:
    if not found.endpoints:
        return Remove(found.id, "it was removed in the cluster, and nothing uses it here")
    names = ", ".join(sorted(each.container or each.id[:12] for each in found.endpoints))
    return Keep(
        found.id,
        f"network {found.name} was removed in the cluster and stays here for its containers: {names}",
        "it goes with the last of them: stop or disconnect them when you can",
    )


def _is_foreign(facts: ReplicationFacts, found: EngineNetwork) -> bool:
    """Whether it is none of those that the cluster shares: another driver's, the swarm's, or made for this host."""
    ours = found.driver in {"", OUR_DRIVER} and found.ipam_driver == OUR_DRIVER and found.scope == "local"
    return not ours or (facts.record is not None and not facts.record.cluster)


def _beside_foreign(facts: ReplicationFacts, found: EngineNetwork) -> Action:
    if facts.definition is None:
        return Settled("it is this host's own")
    what = f"one of driver {found.driver}" if found.driver not in {"", OUR_DRIVER} else "one of its own"
    where = _host(facts, facts.definition)
    return InConflict(
        found.id,
        f"the cluster's network {found.name}, from host {where}, is not here: this host has {what} by that name",
        f"remove the one here (docker network rm {found.name}) and the cluster's is made",
        blocks=False,
    )


def _clash(facts: ReplicationFacts, found: EngineNetwork, definition: DefinitionRecord) -> Action:
    reasons = "; ".join(differs(definition, found)) or "it looks the same, and has addresses of its own"
    where = "this host, earlier" if definition.host == facts.host else f"host {_host(facts, definition)}"
    return InConflict(
        found.id,
        f"network {found.name} here is not the cluster's network of that name, which is from {where}: {reasons}",
        f"remove the one here (docker network rm {found.name}) and the cluster's is made",
        blocks=True,
    )


def _host(facts: ReplicationFacts, definition: DefinitionRecord) -> str:
    return facts.hosts.get(definition.host, definition.host[:12])
