"""Observe the facts about network names: the mirrored tables of the cluster, this host's records, and its engine.

The first step of observe → decide → apply. Reads only.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from macvlan_global.engine.ports import Engine, EngineNetwork
from macvlan_global.errors import Internal, Unavailable
from macvlan_global.replication.decide import ReplicationFacts
from macvlan_global.replication.definition import cluster_id
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.replication.seen import SeenNetworks
from macvlan_global.store.records import DefinitionRecord, NetworkRecord, RemovedRecord
from macvlan_global.store.table import Tables


@dataclass(frozen=True, slots=True)
class LocalState:
    """This host's records: its networks by the engine's id, and cluster ids of removals that are not delivered yet.
    `kept` are those of the networks that the cluster removed while containers used them here."""

    networks: Mapping[str, NetworkRecord]
    pending_removals: frozenset[str]
    kept: tuple[NetworkRecord, ...]


class Observer:
    """Collects `ReplicationFacts`, of one name or of all."""

    def __init__(  # noqa: PLR0913 - each of another owner
        self,
        tables: Tables,
        engine: Engine,
        definitions: MirroredTable[DefinitionRecord],
        tombstones: MirroredTable[RemovedRecord],
        *,
        host: str,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        is_ending: Callable[[str], bool] = lambda _network: False,
    ) -> None:
        """`host` is this host's id, `now` gives seconds since the epoch, `steady` those of a clock that nobody sets.
        `is_ending` says whether the engine asked the driver to delete a network."""
        self._tables = tables
        self._engine = engine
        self._definitions = definitions
        self._tombstones = tombstones
        self._host = host
        self._now = now
        self._steady = steady
        self._stopped: dict[str, tuple[frozenset[str], float]] = {}  # and since when, by the engine's id of a network
        self.seen = SeenNetworks(is_ending, steady)
        """The networks of this host's records that were seen in the engine."""
        self.kept_for: dict[str, tuple[str, ...]] = {}
        """Stopped containers for which removals were taken back here, by the network's id in the cluster."""

    async def observe(self, name: str) -> ReplicationFacts:
        """The facts about one name, with the endpoints of its network.

        Raises:
            Unavailable: the engine does not answer.
        """
        # records before the engine: a network that it creates meanwhile is then never taken for missing
        local = await self.local()
        facts = self._facts(name, local, await self._engine.named(name))
        if facts.found and self._asks_for_containers(facts, facts.found):
            found = replace(facts.found, referring=tuple(await self._engine.referring(facts.found)))
            facts = replace(facts, found=found, stopped_for=self._stopped_for(found))
        return replace(facts, publisher=await self._publisher(facts.definition))

    def _asks_for_containers(self, facts: ReplicationFacts, found: EngineNetwork) -> bool:
        """Whether stopped containers of a network matter: it was removed, or the cluster has another of its name."""
        own, definition = cluster_id(found), facts.definition
        return own in facts.removed or (definition is not None and facts.record is not None and definition.id != own)

    def _stopped_for(self, found: EngineNetwork) -> float:
        """Seconds for which the same containers of a network have been seen stopped."""
        stopped = frozenset(found.referring) - {each.container for each in found.endpoints}
        seen, since = self._stopped.get(found.id, (frozenset(), 0.0))
        if not stopped:
            self._stopped.pop(found.id, None)
            return 0.0
        if seen != stopped:
            since = self._steady()
            self._stopped[found.id] = stopped, since
        return self._steady() - since

    async def observe_all(self) -> list[ReplicationFacts]:
        """The facts about every name that the cluster or this host has a network of, without endpoints and publishers.

        Raises:
            Unavailable: the engine does not answer.
        """
        local = await self.local()
        found: dict[str, EngineNetwork] = {}
        for each in await self._engine.every_network():
            before = found.get(each.name)
            found[each.name] = replace(each, twins=(*before.twins, before)) if before else each
        ours = {name for name, each in found.items() if not all(one.driver for one in (each, *each.twins))}
        recorded = {each.name for each in local.networks.values() if each.published and each.name}
        self.seen.keep(local.networks)
        names = ours | recorded | self._definitions.rows.keys()
        return [self._facts(name, local, found.get(name)) for name in sorted(names)]

    async def local(self) -> LocalState:
        """This host's records."""
        networks = {row.record.id: row.record for row in await self._tables.networks.scan()}
        pending = [row.record for row in await self._tables.pending.scan()]
        removals = frozenset(each.network for each in pending if each.kind == "removal")
        return LocalState(networks, removals, tuple(each for each in networks.values() if each.removed))

    async def _publisher(self, definition: DefinitionRecord | None) -> str:
        """The name of the host that published a definition, "" if it cannot be told: only words for people need it."""
        if definition is None or definition.host == self._host:
            return ""
        try:
            row = await self._tables.hosts.get(definition.host)
        except (Unavailable, Internal):
            return ""
        return row.record.name if row else ""

    def _facts(self, name: str, local: LocalState, found: EngineNetwork | None) -> ReplicationFacts:
        defined = self._definitions.rows.get(name)
        definition = defined.record if defined else None
        known = {name, definition.id if definition else name}
        missing = [
            each
            for each in local.networks.values()
            if each.published and {each.name, each.cluster} & known and (found is None or found.id != each.id)
        ]
        if found and found.id in local.networks:
            self.seen.saw(found.id)
        return ReplicationFacts(
            name=name,
            host=self._host,
            now=self._now(),
            definition=definition,
            removed=self._tombstones.rows.keys() | local.pending_removals | self._remembered(local),
            unreadable=name in self._definitions.unreadable,
            unreadable_removals=self._tombstones.unreadable,
            found=found,
            record=local.networks.get(found.id) if found else None,
            missing=missing[0] if missing else None,
            lost_for=self.seen.lost_for(missing[0].id) if missing else None,
            kept_for=self.kept_for.get(cluster_id(found), ()) if found else (),
        )

    def _remembered(self, local: LocalState) -> set[str]:
        """The networks that stay removed without a tombstone: a definition of one says that its removal was taken
        back."""
        rows = self._definitions.rows
        return {
            each.shared_id
            for each in local.kept
            if each.name not in rows or rows[each.name].record.id != each.shared_id
        }
