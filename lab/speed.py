"""Speed of this machine just now, and limits that follow it.

A limit says how long something may take on the machine that limits were written on: two cores, nothing else to do.
Here it lasts as many times longer as this machine is slower, or busier, while it runs: what somebody waits for on a
processor that five others want takes five times as long, and nothing is wrong with it.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

SLOWNESS_VARIABLE = "MACVLAN_GLOBAL_LAB_SLOWNESS"
SLOWNESS = float(os.environ.get(SLOWNESS_VARIABLE, "1"))
"""Factor by which all things are slower here, whatever else is going on. The guest kernel sets it."""
WORK_SECONDS = 0.004
"""Seconds that `_work` takes on the machine that limits were written on."""
_LOOK_SECONDS = 1.0
_MOST = 10.0
"""Largest factor: longer than that, nobody waits for a processor."""


def pace(*, load: float, runnable: int, processors: int, work: float) -> float:
    """Factor by which things take longer than where limits were written; 1 to 10.

    Args:
        load: processes that wanted a processor or a disk in the last minute, on average (proc_loadavg(5)).
        runnable: those that want a processor now: the average is late to tell.
        processors: how many of them there are.
        work: seconds that a piece of work took just now, of which `WORK_SECONDS` is usual.
    """
    return min(max(1.0, max(load, runnable) / processors, work / WORK_SECONDS), _MOST)


def read_load(text: str) -> tuple[float, int]:
    """The load of the last minute, and how many processes want a processor now: what /proc/loadavg says."""
    words = text.split()
    return float(words[0]), int(words[3].partition("/")[0])


def _work() -> float:
    """Do a small piece of work; how long that took."""
    begun = time.perf_counter()
    for _ in range(10):
        sum(range(20_000))
    return time.perf_counter() - begun


class _Machine:
    """The factor that was seen last; measured anew when that is older than a second."""

    def __init__(self) -> None:
        self._seen = float("-inf")
        self._pace = 1.0

    def pace(self) -> float:
        now = time.monotonic()
        if now - self._seen >= _LOOK_SECONDS:
            with contextlib.suppress(OSError):  # a test may have taken all descriptors: then the last look counts
                load, runnable = read_load(Path("/proc/loadavg").read_text())
                self._pace = pace(load=load, runnable=runnable, processors=len(os.sched_getaffinity(0)), work=_work())
            self._seen = time.monotonic()
        return self._pace


_machine = _Machine()


def pace_now() -> float:
    """The `pace` of this machine, never older than a second."""
    return _machine.pace()


def patience(seconds: float) -> float:
    """A limit for who cannot look while it runs, as a socket or `asyncio.timeout`: longer where things are slow."""
    return seconds * SLOWNESS * pace_now()


class Allowance:
    """A limit that is used up as fast as the machine is. It begins when it is made."""

    def __init__(
        self, seconds: float, *, clock: Callable[[], float] = time.monotonic, pace: Callable[[], float] = pace_now
    ) -> None:
        """`seconds` are those of the machine that limits were written on (times `SLOWNESS`)."""
        self.seconds = seconds * SLOWNESS
        self._clock = clock
        self._pace = pace
        self.begin_again()

    def begin_again(self) -> None:
        """Let nothing be used up: there was progress."""
        self._left = self.seconds
        self._begun = self._looked = self._clock()

    @property
    def over(self) -> bool:
        """Whether all of it is used up. The pace counts that is seen at each look, so look often."""
        now = self._clock()
        self._left -= (now - self._looked) / self._pace()
        self._looked = now
        return self._left <= 0

    @property
    def left(self) -> float:
        """Rest at the last look, in seconds of an idle machine: never longer than it will really last."""
        return max(self._left, 0.0)

    def __str__(self) -> str:
        """The limit, and how long it really was if that is longer."""
        took = self._looked - self._begun
        busy = f" (here {took:.0f} s, as this machine is slow or busy)" if took > 1.5 * self.seconds + 1 else ""
        return f"{self.seconds:g} s{busy}"


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout` with a limit that follows the machine's speed. For loops that keep real time.

    Raises:
        TimeoutError: the block was not done in time.
    """
    limit, loop = Allowance(seconds), asyncio.get_running_loop()
    async with asyncio.timeout(None) as timeout:
        waiting: list[asyncio.TimerHandle] = []

        def look() -> None:
            if limit.over:
                timeout.reschedule(loop.time())
            else:
                waiting[:] = [loop.call_later(max(min(limit.left, 1.0), 0.01), look)]

        look()
        try:
            yield
        finally:
            for handle in waiting:
                handle.cancel()
