"""Lag of the event loop: the delay of a timer. A loop that is busy answers the engine as late."""

import asyncio

from macvlan_global.metrics.counts import TimeBuckets

EVERY_SECONDS = 1.0


class LoopLag:
    """Measures once a second, from `start` to `stop`. A timer and no task: it cannot fail, and costs nothing else."""

    def __init__(self, times: TimeBuckets, *, every: float = EVERY_SECONDS) -> None:
        """Delays are added to `times`; `every` is in seconds."""
        self._times = times
        self._every = every
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._set(asyncio.get_running_loop())

    def stop(self) -> None:
        """End. Idempotent."""
        if self._timer:
            self._timer.cancel()

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._every
        self._timer = loop.call_at(due, self._measure, loop, due)

    def _measure(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._times.add(max(0.0, loop.time() - due))
        self._set(loop)
