"""The engine as this host last saw it: one row on this host's disk, and its only writer.

An engine that starts asks for links while it cannot be asked itself, so what it said of itself is remembered. Each
field is set by one room: `label` by `scope_label`, `version` and `live_restore` by `attach.engine_quirks`, `id` by
`replication`. Earlier drivers kept them in the row of the identity, where they are read as long as there is no
row of the engine.
"""

from collections.abc import Callable

import msgspec

from macvlan_global.store.records import EngineRecord
from macvlan_global.store.table import Tables

ROW = "this"


class KnownEngine:
    """The row of the engine."""

    def __init__(self, tables: Tables) -> None:
        """Only tables of this host are used."""
        self._identity = tables.identity
        self._engine = tables.engine

    async def read(self) -> EngineRecord:
        """The engine as last seen; all of it is empty if none was.

        The row of another host is passed over: this state folder is a copy of that host's, which has another engine.
        """
        identity = await self._identity.get(ROW)
        host = identity.record.id if identity else ""
        row = await self._engine.get(ROW)
        if row and row.record.host == host:
            return row.record
        old = identity.record if identity else None
        if old is None:
            return EngineRecord(host=host)
        return EngineRecord(
            host=host, id=old.engine, label=old.label, version=old.engine_version, live_restore=old.live_restore
        )

    async def remember_label(self, label: str) -> None:
        """The scope that the engine's label asks for, "" if it has none."""
        await self._update(lambda known: msgspec.structs.replace(known, label=label))

    async def remember_quirks(self, version: str, *, live_restore: bool) -> None:
        """The engine's version, and whether its containers outlive it."""
        await self._update(lambda known: msgspec.structs.replace(known, version=version, live_restore=live_restore))

    async def remember_id(self, engine: str) -> None:
        """The id of the engine's data: the networks of this host are about this engine from now on."""
        await self._update(lambda known: msgspec.structs.replace(known, id=engine))

    async def _update(self, change: Callable[[EngineRecord], EngineRecord]) -> None:
        known = await self.read()

        def changed(found: EngineRecord) -> EngineRecord:
            return change(found if found.host == known.host else known)

        while await self._engine.update(changed, ROW) is None:
            if await self._engine.create(changed(known), ROW):
                return
