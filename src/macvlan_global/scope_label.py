"""The scope that the engine's labels ask for, as the seed's `dockerd --label` does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from macvlan_global.config import scope_of_labels
from macvlan_global.engine.ports import Engine, EngineEvent
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.store.records import IdentityRecord
from macvlan_global.store.table import Table

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0


class ScopeLabel:
    """Asks the engine, and remembers: an engine that starts waits for the driver, and cannot be asked by then."""

    def __init__(self, table: Table[IdentityRecord], engine: Engine) -> None:
        """`table` holds this host's identity, which must be there."""
        self._table = table
        self._engine = engine
        self._in_force = ""

    async def ask(self) -> str:
        """`local`, `global` or "": what the engine's labels ask for, or asked for when it last answered."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                self._in_force = scope_of_labels((await self._engine.info()).labels)
            await self._remember(self._in_force)
        except (Unavailable, TimeoutError):
            row = await self._table.get("this")
            self._in_force = row.record.label if row else ""
        return self._in_force

    def listen(self, configured: str) -> Callable[[EngineEvent | None], Awaitable[None]]:
        """What to tell when the engine comes: if its label is another one by now, the driver must start anew.

        Nothing is done if a scope is `configured`, for that is stronger.
        """

        async def hear(event: EngineEvent | None) -> None:
            if event is not None or configured:
                return
            found = scope_of_labels((await self._engine.info()).labels)
            if found == self._in_force:
                return
            await self._remember(found)
            raise Conflict(
                f"the engine's label asks for scope {found or 'by the store'} by now, and the driver runs with "
                f"{self._in_force or 'what fits the store'}: start it again (as a service it starts again by itself)"
            )

        return hear

    async def _remember(self, label: str) -> None:
        await self._table.update(lambda known: msgspec.structs.replace(known, label=label), "this")
