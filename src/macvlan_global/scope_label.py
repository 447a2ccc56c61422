"""The scope that the engine's labels ask for (`dockerd --label macvlan-global.scope=global`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from macvlan_global.config import scope_of_labels
from macvlan_global.engine.ports import Engine, EngineEvent
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.store.known_engine import KnownEngine

log = logging.getLogger(__name__)

ASK_SECONDS = 1.0


class ScopeLabel:
    """The label in force. It is remembered: an engine that starts waits for the driver, and cannot be asked then."""

    def __init__(self, known: KnownEngine, engine: Engine) -> None:
        """`known` remembers the label of `engine`."""
        self._known = known
        self._engine = engine
        self._in_force = ""

    async def ask(self) -> str:
        """`local`, `global` or "": what the engine's labels ask for, or asked for when it last answered."""
        try:
            async with asyncio.timeout(ASK_SECONDS):
                self._in_force = scope_of_labels((await self._engine.info()).labels)
            await self._known.remember_label(self._in_force)
        except (Unavailable, TimeoutError):
            self._in_force = (await self._known.read()).label
        return self._in_force

    def listen(self, configured: str) -> Callable[[EngineEvent | None], Awaitable[None]]:
        """A listener for the engine's events: if its label is another one by now, the driver must start anew.

        It does nothing if a scope is `configured`, which is stronger. It raises Conflict if the driver must stop.
        """

        async def on_event(event: EngineEvent | None) -> None:
            if event is not None or configured:
                return
            found = scope_of_labels((await self._engine.info()).labels)
            if found == self._in_force:
                return
            await self._known.remember_label(found)
            raise Conflict(
                f"the engine's label sets scope {found or 'by the store'}, but the driver runs with scope "
                f"{self._in_force or 'by the store'}; restart the driver (systemd does so by itself)"
            )

        return on_event
