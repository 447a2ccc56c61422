"""A line that many share, on virtual time: whatever is carried at one time has an equal share of its rate."""

import asyncio
import heapq
from typing import Any


class SharedLine:
    """Carries bytes between hosts and a store, as a switch with fair queues does. `carried` counts them."""

    def __init__(self, rate: float) -> None:
        """`rate` is in bytes a second."""
        self.carried = 0
        self._rate = rate
        self._served = 0.0  # bytes that each of those under way has had since the beginning of the line
        self._at = 0.0
        self._under_way: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    async def carry(self, size: int) -> None:
        """Return when so many bytes are over. Whoever is cancelled leaves his share to the others."""
        loop = asyncio.get_running_loop()
        self._go_on(loop.time())
        self._number += 1
        done: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._under_way, (self._served + size, self._number, done))
        self.carried += size
        self._set_timer(loop)
        await done

    def _go_on(self, now: float) -> None:
        if self._under_way:
            self._served += (now - self._at) * self._rate / len(self._under_way)
        self._at = now

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if self._under_way:
            left = max(self._under_way[0][0] - self._served, 0.0)
            self._timer = loop.call_at(self._at + left * len(self._under_way) / self._rate, self._arrive, loop)

    def _arrive(self, loop: Any) -> None:
        self._go_on(loop.time())
        self._served = max(self._served, self._under_way[0][0])  # what the clock cannot tell apart has arrived
        while self._under_way and (self._under_way[0][0] <= self._served or self._under_way[0][2].cancelled()):
            done = heapq.heappop(self._under_way)[2]
            if not done.done():
                done.set_result(None)
        self._set_timer(loop)
