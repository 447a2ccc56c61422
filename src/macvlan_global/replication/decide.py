"""Next action for one network name on this host, from observed facts. Pure: facts in, one action with its reason out.

The middle step of observe → decide → apply, and the only one with rules in it. After an action was applied the name is
observed and decided again, until the action is `Settled`. The first rule that fits decides:

1. A definition whose network has a tombstone is a left-over: delete it.
2. A published network that this same engine no longer has was removed by its operator while the driver was down: write
   a tombstone, so that every host removes it. A record younger than `GRACE_SECONDS` is left alone, its network may
   still be in the making. One that this run of the driver saw in the engine was lost by it and not removed: forget the
   record, so that the network is made again (see `replication/seen.py`).
3. A network with a tombstone is removed here too: at once if no container uses it, else with its last container. Until
   then this host remembers the removal itself: the tombstone may go before. If stopped containers refer to it, they
   could never start again, and its removal on another host is taken back.
4. A network of this host that the cluster does not define is published, again if its definition was lost.
5. A name that is taken here by another network is a conflict. Neither network is touched. Of two networks that the
   engine made by racing itself, the one that replication asked for is removed.
6. A network that the cluster defines and this host does not have is created.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from macvlan_global.engine.ports import NO_IPAM, EngineNetwork
from macvlan_global.replication.definition import cluster_id, definition_of, differences
from macvlan_global.store.records import DefinitionRecord, NetworkRecord

GRACE_SECONDS = 60.0
LOST_SECONDS = 10.0
"""Time for which a network is seen to be missing before the engine counts as having lost it: word of its removal may be
on its way."""
STOPPED_SECONDS = 10.0
"""Time for which containers are seen stopped before a removal is taken back for them: `docker run --rm` and `docker rm
-f` stop a container first, and remove it then."""


@dataclass(frozen=True, slots=True)
class ReplicationFacts:
    """Observed state of one network name. `host` is this host's id, `now` seconds since the epoch.

    `definition` is the cluster's, and `publisher` the name of the host that wrote it, "" if not looked up.
    `removed` holds cluster ids of removed networks: tombstones, removals by this host that wait in `pending/`, and
    those that this host remembers, as it kept the network for containers, if they are not defined again.
    `unreadable` says that the definition of this name cannot be read, `unreadable_removals` has ids of tombstones that
    cannot: a newer version wrote them, or anybody. `found` is the engine's network of this name, of any driver, and
    `record` this host's record of it. `missing` is this host's record of a published network of this name that the
    engine does not have, and `lost_for` the seconds for which it was seen to be missing, if this run of the driver saw
    it in the engine and heard of no removal. `kept_for` are the stopped containers for which this host took its removal
    back. `stopped_for` are the seconds for which this host has seen the stopped containers of a removed network.
    """

    name: str
    host: str
    now: float
    definition: DefinitionRecord | None = None
    publisher: str = ""
    removed: AbstractSet[str] = frozenset()
    unreadable: bool = False
    unreadable_removals: AbstractSet[str] = frozenset()
    found: EngineNetwork | None = None
    record: NetworkRecord | None = None
    missing: NetworkRecord | None = None
    lost_for: float | None = None
    kept_for: tuple[str, ...] = ()
    stopped_for: float = 0.0


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing to do: this host agrees with the cluster."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not decidable yet: observe again later."""

    reason: str


@dataclass(frozen=True, slots=True)
class LeaveAlone:
    """Not decidable until a record in the store changes, which the watches tell."""

    reason: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Create the definition if the cluster has none of this name. `network` is the engine's id."""

    verb: ClassVar[str] = "publish"
    network: str
    definition: DefinitionRecord
    reason: str


@dataclass(frozen=True, slots=True)
class SetPublished:
    """Set `published` in this host's record, and the network's name and its id in the cluster; `removed` is cleared.
    `network` is the engine's id."""

    verb: ClassVar[str] = "record as published"
    network: str
    name: str
    reason: str
    cluster: str


@dataclass(frozen=True, slots=True)
class SetRemoved:
    """Set `removed` in this host's record. `network` is the engine's id."""

    verb: ClassVar[str] = "remember the removal of"
    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeleteDefinition:
    """Delete a left-over definition from the store."""

    verb: ClassVar[str] = "delete the definition of"
    definition: DefinitionRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Create:
    """Have the engine create the network that the cluster defines."""

    verb: ClassVar[str] = "create"
    definition: DefinitionRecord
    reason: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Have the engine remove a network that the cluster removed. `network` is the engine's id."""

    verb: ClassVar[str] = "remove"
    network: str
    name: str
    cluster_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class RemoveDuplicate:
    """Have the engine remove the copy that replication created here; the cluster keeps the network."""

    verb: ClassVar[str] = "remove the second copy of"
    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class WriteTombstone:
    """Publish that the network was removed on this host. `network` is the id that this host's engine had for it."""

    verb: ClassVar[str] = "announce the removal of"
    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class ForgetLost:
    """Forget a network that the engine lost, on this host only: the cluster has it. `network` is the id that the engine
    had for it."""

    verb: ClassVar[str] = "make again"
    network: str
    reason: str


@dataclass(frozen=True, slots=True)
class TakeBackRemoval:
    """Delete the tombstone of a network: another host removed it, and `containers` of this host are stopped on it.

    The network is then published again as one whose definition was lost.
    """

    verb: ClassVar[str] = "take back the removal of"
    network: str
    name: str
    cluster_id: str
    containers: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Removed in the cluster, kept here while containers use it; no further container may start on `network`: only as
    many as the `room` may be on it."""

    network: str
    reason: str
    next_step: str
    room: int


@dataclass(frozen=True, slots=True)
class InConflict:
    """The name is taken here by another network. With `blocks`, no further container may start on `network`: only as
    many as the `room` may be on it."""

    network: str
    reason: str
    next_step: str
    blocks: bool
    room: int = 0


Change = (
    Publish
    | SetPublished
    | SetRemoved
    | DeleteDefinition
    | Create
    | Remove
    | RemoveDuplicate
    | WriteTombstone
    | ForgetLost
    | TakeBackRemoval
)
"""Actions that change something. `verb`, followed by "network NAME", is the action in words."""
Action = Settled | Wait | LeaveAlone | Keep | InConflict | Change
"""Closed union: `match` with `assert_never`, so that mypy reports a forgotten one."""


def decide(facts: ReplicationFacts) -> Action:
    """The next action for this name, by the rules above."""
    return (
        _unreadable(facts) or _left_over_definition(facts) or _missing(facts) or _duplicate(facts) or _compared(facts)
    )


def _unreadable(facts: ReplicationFacts) -> Action | None:
    ids = {cluster_id(facts.found)} if facts.found else set()
    if facts.definition:
        ids.add(facts.definition.id)
    if facts.unreadable or facts.unreadable_removals & ids:
        return LeaveAlone("its records in the store cannot be read, a newer macvlan-global may have written them")
    return None


def _left_over_definition(facts: ReplicationFacts) -> Action | None:
    if facts.definition and facts.definition.id in facts.removed:
        return DeleteDefinition(facts.definition, "the network was removed")
    return None


def _missing(facts: ReplicationFacts) -> Action | None:
    missing = facts.missing
    if missing is None or missing.shared_id in facts.removed:
        return None
    if 0 <= facts.now - missing.at < GRACE_SECONDS:
        return Wait(f"the engine does not list it, and it is younger than {GRACE_SECONDS:.0f} seconds")
    if facts.lost_for is not None and facts.lost_for < LOST_SECONDS:
        return Wait(f"the engine no longer lists it, and told of no removal for less than {LOST_SECONDS:.0f} seconds")
    if facts.lost_for is not None:
        return ForgetLost(missing.id, "the engine has lost it, and told of no removal")
    return WriteTombstone(missing.id, "it was removed from this engine while the driver was not running")


def _duplicate(facts: ReplicationFacts) -> Action | None:
    """Engines before 25 can come to have two networks of one name: a user's and the one replication asked for."""
    if facts.found and facts.found.twins:
        for each in (facts.found, *facts.found.twins):
            if cluster_id(each) != each.id and not each.endpoints:
                return RemoveDuplicate(each.id, "the engine created another network of this name at the same moment")
    return None


def _compared(facts: ReplicationFacts) -> Action:
    if facts.found is None:
        if facts.definition is None:
            return Settled("neither the cluster nor this host has it")
        again = f", for its stopped containers {', '.join(kept)}" if (kept := facts.definition.kept_for) else ""
        return Create(facts.definition, f"host {_publisher(facts, facts.definition)} published it{again}")
    if not _is_shared(facts, facts.found):
        return _name_taken(facts, facts.found)
    if facts.record is None:
        return _unrecorded(facts, facts.found)
    return _shared(facts, facts.found, facts.record)


def _unrecorded(facts: ReplicationFacts, found: EngineNetwork) -> Action:
    """The state folder was lost, and repair has not recorded the network again. If it was removed in the cluster
    meanwhile and another one has its pool, repair never can, and without this rule the engine would keep it."""
    if cluster_id(found) in facts.removed and not found.endpoints and not found.referring:
        return _removed(facts, found)
    return Wait("the driver has no record of it yet")


def _shared(facts: ReplicationFacts, found: EngineNetwork, record: NetworkRecord) -> Action:
    own, definition = cluster_id(found), facts.definition
    if own in facts.removed:
        action = _removed(facts, found)
        lasts = isinstance(action, Keep | InConflict)
        return action if record.removed or not lasts else SetRemoved(found.id, "containers use it here")
    if definition is None:
        reason = "the cluster lost its definition" if record.published else "it was created on this host"
        definition = definition_of(found, facts.host, facts.now)
        return Publish(found.id, msgspec.structs.replace(definition, kept_for=list(facts.kept_for)), reason)
    if definition.id != own:
        return _two_of_a_name(facts, found, definition)
    # without IP management no RequestPool names the cluster's id before the network is created
    if not record.published or record.removed or record.cluster != own:
        return SetPublished(found.id, found.name, "the cluster defines it", own)
    if reasons := differences(definition, found):
        return InConflict(
            found.id,
            f"network {found.name} differs on this host from its definition in the cluster: {'; '.join(reasons)}",
            "nothing needs to be done if that is intended; else remove it on any host and create it again",
            blocks=False,
        )
    return Settled("this host has it as the cluster defines it")


def _removed(facts: ReplicationFacts, found: EngineNetwork) -> Action:
    definition = facts.definition
    running = {each.container for each in found.endpoints}
    stopped = tuple(each for each in found.referring if each not in running)
    names = ", ".join(stopped)
    if stopped and facts.stopped_for < STOPPED_SECONDS:
        return Wait(f"stopped containers refer to it, but may be about to be removed: {names}")
    if stopped and definition is None:
        reason = f"it was removed on another host, and stopped containers refer to it here: {names}"
        return TakeBackRemoval(found.id, found.name, cluster_id(found), stopped, reason)
    if stopped:
        return InConflict(
            found.id,
            f"network {found.name} was removed in the cluster, which has another one of that name, and is kept on this "
            f"host for its stopped containers: {names}",
            "remove them (docker rm); then the network is removed, and the other one is created",
            blocks=False,
        )
    if not found.endpoints:
        reason = "it was removed in the cluster, and no container uses it here"
        return Remove(found.id, found.name, cluster_id(found), reason)
    names = ", ".join(sorted(each.container or each.id[:12] for each in found.endpoints))
    return Keep(
        found.id,
        f"network {found.name} was removed in the cluster and is kept on this host for its containers: {names}",
        "stop or disconnect them; the network is removed with the last of them",
        _room(found),
    )


def _is_shared(facts: ReplicationFacts, found: EngineNetwork) -> bool:
    """Whether the cluster shares it: of our driver and our IPAM or none, not the swarm's, and not created in local
    scope."""
    coordinated = found.ipam_driver in {"", NO_IPAM}
    ours = not found.driver and coordinated and found.scope == "local"
    return ours and (facts.record is None or bool(facts.record.cluster))


def _name_taken(facts: ReplicationFacts, found: EngineNetwork) -> Action:
    if facts.definition is None:
        return Settled("it belongs to this host only")
    if facts.record and found.driver:  # the engine called us for it: it is no stranger that could be removed
        return Settled(f"it is ours, by the name {found.driver}, which repair tells")
    what = f"a network of driver {found.driver}" if found.driver else "a local network"
    where = _publisher(facts, facts.definition)
    return InConflict(
        found.id,
        f"the cluster's network {found.name} (from host {where}) cannot be created here: this host has {what} of that "
        "name",
        _remove_here(found),
        blocks=False,
    )


def _two_of_a_name(facts: ReplicationFacts, found: EngineNetwork, definition: DefinitionRecord) -> Action:
    reasons = "; ".join(differences(definition, found)) or "it has the same settings, and addresses of its own"
    where = "this host, earlier" if definition.host == facts.host else f"host {_publisher(facts, definition)}"
    return InConflict(
        found.id,
        f"network {found.name} here is not the cluster's network of that name, which is from {where}: {reasons}",
        _remove_here(found),
        blocks=True,
        room=_room(found),
    )


def _room(found: EngineNetwork) -> int:
    """Count of the containers that are on a network, or refer to it: each may be started again."""
    return len({each.container or each.id for each in found.endpoints} | {*found.referring})


def _remove_here(found: EngineNetwork) -> str:
    return f"remove the one on this host (docker network rm {found.name}), then the cluster's is created"


def _publisher(facts: ReplicationFacts, definition: DefinitionRecord) -> str:
    return facts.publisher or definition.host[:12]
