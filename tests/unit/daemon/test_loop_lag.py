"""Lag of the event loop: measured while it is busy, and not any more after the end."""

import asyncio
import time

from macvlan_global.admin.loop_lag import LoopLag
from macvlan_global.metrics.counts import BOUNDS, TimeBuckets

SLOW = BOUNDS.index(0.05)


async def test_a_busy_loop_is_late() -> None:
    """A timer that was due while the loop was blocked is counted with its delay."""
    times = TimeBuckets()
    lag = LoopLag(times, every=0.001)
    lag.start()
    time.sleep(0.06)  # noqa: ASYNC251 - the loop is to be blocked
    while not times.counts[SLOW + 1 :].count(1):  # noqa: ASYNC110 - timers tell nobody
        await asyncio.sleep(0)
    lag.stop()
    assert times.seconds > 0.05
    counted = len(times)
    await asyncio.sleep(0.01)
    assert len(times) == counted


def test_one_that_was_never_begun_ends() -> None:
    """A server whose address was taken stops it all the same."""
    LoopLag(TimeBuckets()).stop()
