"""Apply one action about a network: to the engine, the store, and this host's records.

The last step of observe → decide → apply. Actions are idempotent. After a lost race the current record is read and the
name is observed again.
"""

import asyncio
import logging
from typing import Literal, Protocol, assert_never

from macvlan_global.engine.ports import Engine
from macvlan_global.errors import Conflict
from macvlan_global.replication.decide import (
    Action,
    Create,
    DeleteDefinition,
    ForgetLost,
    InConflict,
    Keep,
    LeaveAlone,
    Publish,
    Remove,
    RemoveDuplicate,
    SetPublished,
    SetRemoved,
    Settled,
    TakeBackRemoval,
    Wait,
    WriteTombstone,
)
from macvlan_global.replication.definition import to_create
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.store.known_engine import KnownEngine
from macvlan_global.store.records import DefinitionRecord, RemovedRecord
from macvlan_global.store.table import Tables

log = logging.getLogger(__name__)

Outcome = Literal["done", "again", "later"]
"""Whether the name must be observed again: no, at once, or after a back-off."""


class Endings(Protocol):
    """Port to what the engine asked of the driver."""

    def is_ending(self, network_id: str) -> bool:
        """Whether the engine asked for the deletion of this network, and that is not done, or failed."""
        ...


class LocalNetworks(Protocol):
    """Port to the driver's networks on this host."""

    @property
    def leftovers(self) -> Endings:
        """The ends of networks."""
        ...

    async def delete(self, network_id: str, *, everywhere: bool = True) -> None:
        """Forget a network that the engine no longer has; with `everywhere`, write its tombstone too."""
        ...


class Executor:
    """Applies actions. Each may be applied twice."""

    def __init__(
        self,
        tables: Tables,
        engine: Engine,
        networks: LocalNetworks,
        definitions: MirroredTable[DefinitionRecord],
        tombstones: MirroredTable[RemovedRecord],
    ) -> None:
        """`definitions` and `tombstones` get each row that is read or written here before their watches deliver it."""
        self._tables = tables
        self._engine = engine
        self._networks = networks
        self._definitions = definitions
        self._tombstones = tombstones

    async def apply(self, action: Action) -> Outcome:  # noqa: C901, PLR0911, PLR0912 - one for each action
        """Apply one action.

        Raises:
            Unavailable: the engine or the store does not answer; the action may or may not be done.
            Conflict: the engine has a network of the name, or containers joined one that was to be removed.
            Invalid: the engine refuses, in its own words.
        """
        match action:
            case Settled() | LeaveAlone() | InConflict() | Keep():
                return "done"
            case Wait():
                return "later"
            case Publish():
                return await self._publish(action)
            case SetPublished():
                await self._note_published(action.network, action.name, cluster=action.cluster, removed=False)
                return "again"
            case SetRemoved():
                await self._tables.networks.change(action.network, removed=True)
                return "again"
            case DeleteDefinition():
                return await self._delete_definition(action.definition)
            case Create():
                return await self._create(action.definition)
            case Remove():
                return await self._remove(action)
            case RemoveDuplicate():
                await self._note_unpublished(action.network)  # else every host would remove its copy
                return await self._delete_network(action.network)
            case WriteTombstone():
                return await self._write_tombstone(action.network)
            case ForgetLost():
                return await self._forget_lost(action.network)
            case TakeBackRemoval():
                return await self._take_back(action)
            case _:
                assert_never(action)

    async def is_same_engine(self) -> bool:
        """Whether the engine is the one that this host's records are about, with its data."""
        known = await KnownEngine(self._tables).read()
        found = (await self._engine.info()).id
        return bool(found) and known.id == found

    async def _publish(self, action: Publish) -> Outcome:
        definition = action.definition
        with self._definitions.asking(definition.name) as question:
            # recorded before it is written: should the driver end in between, a removal still gets its tombstone
            removed, _ = await asyncio.gather(
                self._has_tombstone(definition.id), self._note_published(action.network, definition.name)
            )
            if removed:
                return "again"
            row = await self._tables.definitions.create(definition, definition.name)
            if row is None:
                row = await self._tables.definitions.get(definition.name)
                if row and row.record.id != definition.id:
                    await self._note_unpublished(action.network)
            self._definitions.put(question, row)
        return "again"

    async def _delete_definition(self, definition: DefinitionRecord) -> Outcome:
        if not await self._is_removed(definition.id):
            return "again"
        with self._definitions.asking(definition.name) as question:
            row = await self._tables.definitions.get(definition.name)
            if row and row.record.id == definition.id and await self._tables.definitions.delete(row):
                row = None
            self._definitions.put(question, row)
        return "again"

    async def _create(self, definition: DefinitionRecord) -> Outcome:
        # a watch may lag: a network that was removed a moment ago must not come back
        with self._definitions.asking(definition.name) as question:
            row, removed = await asyncio.gather(
                self._tables.definitions.get(definition.name), self._has_tombstone(definition.id)
            )
            self._definitions.put(question, row)
        if not removed and row and row.record.id == definition.id:
            await self._engine.add_network(to_create(row.record))
        return "again"

    async def _write_tombstone(self, network_id: str) -> Outcome:
        # every host acts on a tombstone, so ask the engine once more, and check that it is the one that had the network
        if not await self.is_same_engine() or any(each.id == network_id for each in await self._engine.every_network()):
            return "later"
        await self._networks.delete(network_id)
        return "again"

    async def _forget_lost(self, network_id: str) -> Outcome:
        here = await self._engine.every_network()
        # asked last: the engine may have told of the removal meanwhile
        if any(each.id == network_id for each in here) or self._networks.leftovers.is_ending(network_id):
            return "later"
        await self._networks.delete(network_id, everywhere=False)
        return "again"

    async def _take_back(self, action: TakeBackRemoval) -> Outcome:
        # recorded first: a published network that the engine has and the cluster does not define is published again
        await self._note_published(action.network, action.name, removed=False)
        with self._tombstones.asking(action.cluster_id) as question:
            row = await self._tables.removed.get(action.cluster_id)
            if row and not await self._tables.removed.delete(row):
                return "again"
            self._tombstones.put(question, None)
        return "again"

    async def _remove(self, action: Remove) -> Outcome:
        if not await self._is_removed(action.cluster_id) and not await self._stays_removed(action):
            return "again"
        # `published`, so that what it claimed is given back, even if it was created while others removed it
        await self._note_published(action.network, action.name)
        return await self._delete_network(action.network)

    async def _delete_network(self, network_id: str) -> Outcome:
        try:
            await self._engine.delete_network(network_id)
        except Conflict as error:
            log.info("network %s is not removed yet: %s", network_id[:12], error)
            return "later"
        return "again"

    async def _is_removed(self, cluster_id: str) -> bool:
        """Whether the network is removed as far as the store says, or this host has still to tell it.

        A watch may lag, and long after the store was restored from an older copy: a tombstone that it no longer has,
        or that another host took back, ends nothing.
        """
        if await self._has_tombstone(cluster_id):
            return True
        pending = await self._tables.pending.scan()
        return any(each.record.kind == "removal" and each.record.network == cluster_id for each in pending)

    async def _stays_removed(self, action: Remove) -> bool:
        """Whether this host remembers the removal of a network, and nobody has defined it again: see `SetRemoved`."""
        row = await self._tables.networks.get(action.network)
        if row is None or not row.record.removed:
            return False
        with self._definitions.asking(action.name) as question:
            defined = await self._tables.definitions.get(action.name)
            self._definitions.put(question, defined)
        return defined is None or defined.record.id != action.cluster_id

    async def _has_tombstone(self, cluster_id: str) -> bool:
        with self._tombstones.asking(cluster_id) as question:
            row = await self._tables.removed.get(cluster_id)
            self._tombstones.put(question, row)
        return row is not None

    async def _note_published(self, network_id: str, name: str, **fields: object) -> None:
        """Record that the cluster has, or had, the definition of a network. Its removal is found by its name, which the
        engine's event may not have told yet."""
        await self._tables.networks.change(network_id, published=True, name=name, **fields)

    async def _note_unpublished(self, network_id: str) -> None:
        await self._tables.networks.change(network_id, published=False)
