"""Looks at the engine's networks of other drivers: a request for an address of a pool that nobody has waits for one.

Only the engine knows whether a pool is of such a network. Its list tells that of each request that came before it was
asked for: a network is in it before its first container asks. No I/O; whoever looks says so.
"""

import asyncio
import contextlib
from collections.abc import Callable

LOOK_SECONDS = 2.0
"""The longest that a request waits. The engine is asked at once when one does."""
SILENT_SECONDS = 30.0
"""Time after a request that waited in vain in which the engine counts as silent."""


class EngineLooks:
    """Looks, one after the other, and the requests that wait for them."""

    def __init__(self) -> None:
        """Nobody has looked."""
        self._begun = 0
        self._ended = 0
        self._told = asyncio.Event()  # another one each time
        self._waiting = 0
        self._wanted = asyncio.Event()
        self._silent_since = float("-inf")  # on the loop's clock

    @property
    def are_awaited(self) -> bool:
        """Whether a request waits."""
        return self._waiting > 0

    @property
    def are_in_vain(self) -> bool:
        """Whether a request waited in vain a moment ago."""
        return asyncio.get_running_loop().time() - self._silent_since < SILENT_SECONDS

    async def pause(self, seconds: float) -> None:
        """Wait so many seconds until the next look, or until a request waits for that."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        self._wanted.clear()

    def begin(self) -> int:
        """The engine is about to be asked; the number of this look."""
        self._begun += 1
        return self._begun

    def end(self, look: int) -> None:
        """All is claimed for networks of other drivers that this look has shown."""
        self._ended = max(look, self._ended)
        self._silent_since = float("-inf")
        self.tell()

    def tell(self) -> None:
        """Something is known that may be waited for."""
        told, self._told = self._told, asyncio.Event()
        told.set()

    async def wait_while(self, is_open: Callable[[], bool]) -> bool:
        """Wait while this is open, for a look that begins from now on; False if neither was closed in time."""
        look = self._begun + 1
        self._waiting += 1
        self._wanted.set()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    while is_open() and self._ended < look:
                        await self._told.wait()
        finally:
            self._waiting -= 1
        if is_open() and self._ended < look:
            self._silent_since = asyncio.get_running_loop().time()
            return False
        return True
