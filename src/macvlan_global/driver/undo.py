"""An undo stack: what was done is undone in reverse when a later step fails.

An undo that fails is logged and the others still run: the repair at the next start finds what is left.
"""

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)


class Undo:
    """`async with Undo("create network N") as undo:` do a step, then `undo.push("its name", how to undo it)`.

    Leaving the block by an exception (cancellation included) undoes every step; leaving it normally keeps them.
    """

    def __init__(self, what: str) -> None:
        """`what` is named in the log."""
        self._what = what
        self._steps: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    def push(self, name: str, undo: Callable[[], Awaitable[object]]) -> None:
        """Remember how to undo the step that was just done."""
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
                log.exception("%s failed (%s), and so did undoing %s", self._what, error, name)
