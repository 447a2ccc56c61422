"""Undo stack: steps are undone in reverse when a later one fails.

A failing undo is logged and the others still run: reconciliation at the next start finds what is left.
"""

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)


class Undo:
    """Steps of one request: `async with Undo("create network N") as undo:`, do a step, `undo.push("its record", drop)`.

    An exception (cancellation included) that leaves the block undoes every step; a normal end keeps them.
    """

    def __init__(self, operation: str) -> None:
        """`operation` is its name in the log."""
        self._operation = operation
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
        for name, undo in reversed(self._steps):
            try:
                await undo()
            except Exception:  # a bug in one undo must not keep the others from running
                log.exception("%s failed (%s), and so did undoing %s", self._operation, error, name)
