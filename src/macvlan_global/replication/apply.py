"""Carries out one action about one network: on the engine, in the store, in this host's records."""

import asyncio
import logging
from functools import singledispatchmethod
from typing import Literal, Protocol

import msgspec

from macvlan_global.engine.ports import Engine
from macvlan_global.errors import Conflict, Internal
from macvlan_global.replication import decide
from macvlan_global.replication.definition import to_create
from macvlan_global.replication.mirror import MirroredTable
from macvlan_global.store.records import DefinitionRecord, RemovedRecord
from macvlan_global.store.table import Tables

log = logging.getLogger(__name__)

Outcome = Literal["done", "again", "later"]
"""Nothing is left to do, or something was done and the name is to be looked at again, at once or in a moment."""


class NetworksHere(Protocol):
    """What is wanted of the driver's networks."""

    async def delete(self, network_id: str, *, everywhere: bool = True) -> None:
        """Forget a network that the engine no longer has; with `everywhere`, the other hosts remove it too."""
        ...


class Executor:
    """Every action may be carried out twice. Who lost a race learns what is, and has it looked at again."""

    def __init__(
        self,
        tables: Tables,
        engine: Engine,
        networks: NetworksHere,
        definitions: MirroredTable[DefinitionRecord],
        removed: MirroredTable[RemovedRecord],
    ) -> None:
        """What is learnt on the way is put into `definitions` and `removed`."""
        self._tables = tables
        self._engine = engine
        self._networks = networks
        self._definitions = definitions
        self._removed = removed

    @singledispatchmethod
    async def carry_out(self, action: decide.Action) -> Outcome:
        """Do it.

        Raises:
            Unavailable: the engine or the store does not answer; it may or may not be done.
            Conflict: the engine has a network of the name, or containers came onto one that was to go.
            Invalid: the engine refuses, in its own words.
        """
        raise Internal(f"no way to carry out {type(action).__name__}")

    @carry_out.register
    async def _(self, _action: decide.Settled | decide.InConflict | decide.Keep) -> Outcome:
        return "done"

    @carry_out.register
    async def _(self, _action: decide.Wait) -> Outcome:
        return "later"

    @carry_out.register
    async def _(self, action: decide.Publish) -> Outcome:
        definition = action.definition
        # noted first: should we end in between, its removal is told all the same
        gone, _ = await asyncio.gather(
            self._learn_removed(definition.id), self._note_published(action.network, published=True)
        )
        if gone:
            return "again"
        row = await self._tables.definitions.create(definition, definition.name)
        if row is None:
            row = await self._tables.definitions.get(definition.name)
            if row and row.record.id != definition.id:
                await self._note_published(action.network, published=False)
        self._definitions.learn(definition.name, row)
        return "again"

    @carry_out.register
    async def _(self, action: decide.NotePublished) -> Outcome:
        await self._note_published(action.network, published=True)
        return "again"

    @carry_out.register
    async def _(self, action: decide.Withdraw) -> Outcome:
        row = await self._tables.definitions.get(action.definition.name)
        if row and row.record.id == action.definition.id and await self._tables.definitions.delete(row):
            row = None
        self._definitions.learn(action.definition.name, row)
        return "again"

    @carry_out.register
    async def _(self, action: decide.Create) -> Outcome:
        definition = action.definition
        # a watch may lag: what was removed a moment ago must not come back
        row, gone = await asyncio.gather(
            self._tables.definitions.get(definition.name), self._learn_removed(definition.id)
        )
        self._definitions.learn(definition.name, row)
        if not gone and row and row.record.id == definition.id:
            await self._engine.add_network(to_create(row.record))
        return "again"

    @carry_out.register
    async def _(self, action: decide.Remove) -> Outcome:
        # so that what it claimed goes with it, even if it was made here while the others removed it
        await self._note_published(action.network, published=True)
        return await self._delete(action.network)

    @carry_out.register
    async def _(self, action: decide.Unmake) -> Outcome:
        await self._note_published(action.network, published=False)  # else all hosts would remove theirs
        return await self._delete(action.network)

    @carry_out.register
    async def _(self, action: decide.MarkRemoved) -> Outcome:
        # this goes to every host, so the engine is asked once more, and whether it is the one that had the network
        if not await self.is_same_engine() or any(
            each.id == action.network for each in await self._engine.every_network()
        ):
            return "later"
        await self._networks.delete(action.network)
        return "again"

    async def _delete(self, network_id: str) -> Outcome:
        try:
            await self._engine.delete_network(network_id)
        except Conflict as error:
            log.info("network %s stays for now: %s", network_id[:12], error)
            return "later"
        return "again"

    async def is_same_engine(self) -> bool:
        """Whether the engine is the one that this host's records are about, with its data."""
        row = await self._tables.identity.get("this")
        found = (await self._engine.info()).id
        return bool(row and found and row.record.engine == found)

    async def _learn_removed(self, cluster_id: str) -> bool:
        row = await self._tables.removed.get(cluster_id)
        if row:
            self._removed.learn(cluster_id, row)
        return row is not None

    async def _note_published(self, network_id: str, *, published: bool) -> None:
        row = await self._tables.networks.get(network_id)
        if row and row.record.published != published:
            await self._tables.networks.replace(row, msgspec.structs.replace(row.record, published=published))
