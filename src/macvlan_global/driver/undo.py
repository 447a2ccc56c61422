"""Undo stack: steps are undone in reverse when a later one fails. What may be left all the same is repair's to find.

A failing undo is logged and the others still run. It may fail while the store is away. A request that was broken off
may be undone after the engine's release came. One that comes again once its object was deleted makes that anew, and the
engine never asks for its end. A write whose answer is lost may be done, and nobody asks for the end of what failed, nor
twice for an end. What repair adopts may have been removed while it looked. `Leftovers` is told of each, and repair
looks a grace period later: what is young stays until then.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from macvlan_global.errors import Conflict, Exhausted, Invalid, NotFound

log = logging.getLogger(__name__)

REMEMBERED_MOST = 10_000
"""Deletions that are remembered: a request may come again minutes later, and no host deletes more until then."""


class Leftovers:
    """Suspicions of leftovers of this run of the driver."""

    def __init__(self) -> None:
        """Nothing is suspected."""
        self.suspected = asyncio.Event()
        """Set when repair is to look. Whoever repairs clears it."""
        self._ending: set[str] = set()
        self._deleted: dict[str, None] = {}  # ids, in the order of their deletions

    def suspect(self, what: str) -> None:
        """Have repair look; `what` happened, as in "create network N was broken off"."""
        log.info("%s: repair looks whether something is left over", what)
        self.suspected.set()

    @asynccontextmanager
    async def of(self, operation: str) -> AsyncIterator[None]:
        """An operation that the engine asks for once, whatever becomes of it: suspect if it is broken off, or fails and
        was not refused."""
        try:
            yield
        except (Invalid, NotFound, Conflict, Exhausted):
            raise
        except BaseException:
            self.suspect(f"{operation} failed or was broken off")
            raise

    @asynccontextmanager
    async def ending(self, network_id: str) -> AsyncIterator[None]:
        """The engine asks for the deletion of a network. It drops the network though that fails or takes too long, and
        does not ask again: so it counts as ending until it is deleted."""
        self._ending.add(network_id)
        yield
        self._ending.discard(network_id)

    def is_ending(self, network_id: str) -> bool:
        """Whether the engine asked for the deletion of this network, and that is not done, or failed."""
        return network_id in self._ending

    def deleted(self, object_id: str) -> None:
        """The engine had this network or endpoint deleted."""
        self._ending.discard(object_id)
        self._deleted[object_id] = None
        if len(self._deleted) > REMEMBERED_MOST:
            del self._deleted[next(iter(self._deleted))]

    def created(self, object_id: str, operation: str) -> None:
        """The engine had this network or endpoint created, by an operation such as "create network N"."""
        if object_id in self._deleted:
            del self._deleted[object_id]
            self.suspect(f"{operation} came after the deletion")


class Undo:
    """Steps of one request: `async with Undo("create network N", leftovers) as undo:`, do a step,
    `undo.push("its record", drop)`.

    An exception (cancellation included) that leaves the block undoes every step; a normal end keeps them.
    """

    def __init__(self, operation: str, leftovers: Leftovers) -> None:
        """`operation` is its name in the log; `leftovers` are told if something may be left of it."""
        self._operation = operation
        self._leftovers = leftovers
        self._steps: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def push(self, name: str, undo: Callable[[], Awaitable[object]]) -> None:
        """Add the undo of the step just done."""
        self._steps.append((name, undo))

    async def __aenter__(self) -> Self:
        """Begin with nothing to undo."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Undo in reverse if the block failed."""
        if error is None:
            return
        is_whole = False
        try:
            failed = [name for name, undo in reversed(self._steps) if not await self._try(name, undo, error)]
            # if it was broken off, the engine may have gone on already
            is_whole = not failed and not isinstance(error, asyncio.CancelledError)
        finally:  # and not before: the grace period begins with the last that is written
            if not is_whole:
                self._leftovers.suspect(f"{self._operation} was broken off, or not undone")

    async def _try(self, name: str, undo: Callable[[], Awaitable[object]], error: BaseException) -> bool:
        """Undo one step of a request that failed by this error; whether it was done."""
        try:
            await undo()
        except Exception:  # a bug in one undo must not keep the others from running
            log.exception("%s failed (%s), and so did undoing %s", self._operation, error, name)
            return False
        return True
