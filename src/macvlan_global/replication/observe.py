"""Gathers the facts about one name, or about all: from the store's watches, this host's records and its engine."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from macvlan_global.engine.ports import Engine, EngineNetwork
from macvlan_global.replication.decide import OUR_DRIVER, ReplicationFacts
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.store.records import DefinitionRecord, NetworkRecord, RemovedRecord
from macvlan_global.store.table import Tables


@dataclass(frozen=True, slots=True)
class Local:
    """What this host keeps: its networks by id, and the ids in the cluster whose removal is not told yet."""

    networks: Mapping[str, NetworkRecord]
    leaving: frozenset[str]


class Observer:
    """Reads; changes nothing."""

    def __init__(
        self,
        tables: Tables,
        engine: Engine,
        definitions: MirroredTable[DefinitionRecord],
        removed: MirroredTable[RemovedRecord],
        *,
        host: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`host` is this host's id."""
        self._tables = tables
        self._engine = engine
        self._definitions = definitions
        self._removed = removed
        self._host = host
        self._now = now
        self._hosts: dict[str, str] = {}

    async def about(self, name: str) -> ReplicationFacts:
        """The facts about one name, with the endpoints of its network.

        Raises:
            Unavailable: the engine does not answer.
        """
        # what we keep is read before the engine is asked: what it has just made is then never taken for missing
        local = await self.local()
        return self._facts(name, local, await self._engine.named(name))

    async def everything(self) -> list[ReplicationFacts]:
        """The facts about every name that the cluster or this host has a network of, without endpoints.

        Raises:
            Unavailable: the engine or the store does not answer.
        """
        self._hosts = {row.record.id: row.record.name for row in await self._tables.hosts.scan()}
        local = await self.local()
        found: dict[str, EngineNetwork] = {}
        for each in await self._engine.every_network():
            before = found.get(each.name)
            found[each.name] = replace(each, twins=(*before.twins, before)) if before else each
        ours = {
            name for name, each in found.items() if any(one.driver in {"", OUR_DRIVER} for one in (each, *each.twins))
        }
        kept = {each.name for each in local.networks.values() if each.published and each.name}
        names = ours | kept | self._definitions.rows.keys()
        return [self._facts(name, local, found.get(name)) for name in sorted(names)]

    async def local(self) -> Local:
        """What this host keeps."""
        networks = {row.record.id: row.record for row in await self._tables.networks.scan()}
        pending = [row.record for row in await self._tables.pending.scan()]
        return Local(networks, frozenset(each.network for each in pending if each.kind == "removal"))

    def _facts(self, name: str, local: Local, found: EngineNetwork | None) -> ReplicationFacts:
        defined = self._definitions.rows.get(name)
        definition = defined.record if defined else None
        known = {name, definition.id if definition else name}
        missing = [
            each
            for each in local.networks.values()
            if each.published and {each.name, each.cluster} & known and (found is None or found.id != each.id)
        ]
        return ReplicationFacts(
            name=name,
            host=self._host,
            now=self._now(),
            definition=definition,
            removed=self._removed.rows.keys() | local.leaving,
            unreadable=self._definitions.unreadable | self._removed.unreadable,
            found=found,
            record=local.networks.get(found.id) if found else None,
            missing=missing[0] if missing else None,
            hosts=self._hosts,
        )
