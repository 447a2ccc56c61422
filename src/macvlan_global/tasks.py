"""Tasks that run for as long as the driver: the one rule for what happens when they fail.

The driver must outlive every failure of a side task, since containers rely on it. So each loop without an end is a
`forever`, each consumer of a queue an `each`, and a step that others must not wait for in vain an `attempt`. A failure
is logged, never raised: one of the six classes of `errors` in one line, any other exception is a bug and comes with its
trace. Only a cancellation ends them, and `fatal`, the errors that are meant to stop the driver. Nobody writes
`while True` with an `except` of their own.

A loop that waits for its cause; a failed pass is due again by itself:

    async def _deliver_due(self) -> None:
        async with when(self._something, at_most=60.0):
            await self.deliver()

    await forever("delivering what the store missed", self._deliver_due, first=1.0, last=10.0)

A stream is an async generator; each `yield` says that it works, which resets the back-off. `finally` is where the loss
of the stream is noted:

    async def _follow(self) -> AsyncGenerator[None]:
        try:
            async with aclosing(self._engine.events()) as events:
                async for event in events:
                    await self._take(event)
                    yield
        finally:
            self.following = False

    await forever("following the engine", self._follow, first=0.5, last=2.0, fatal=(Conflict,), level=logging.DEBUG)

State of a failure that others show (a `problem` for `status`) is noted by the work itself, which raises it again.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import NoReturn, TypeVar

from macvlan_global.errors import MacvlanGlobalError

log = logging.getLogger(__name__)

AT_ONCE = 1000
"""Items of a queue that are worked on at a time, unless told otherwise."""

T = TypeVar("T")

Work = Callable[[], Awaitable[object] | AsyncGenerator[object]]
"""One pass of a loop: a coroutine function that returns when the pass is over, or an async generator function, each
item of which says that it works."""


async def forever(
    name: str,
    work: Work,
    *,
    first: float,
    last: float,
    fatal: tuple[type[Exception], ...] = (),
    level: int = logging.WARNING,
) -> NoReturn:
    """Run `work` again and again, until cancelled.

    A pass of a coroutine function is followed by the next one at once: it waits for its cause itself. After a failure,
    or the end of a generator, there is a pause, which doubles from `first` to `last` seconds until something works, and
    is shortened by up to half at random: hosts that lost a store together do not come back to it together.

    `name` says in the log what is done ("following names"). A failure is logged once, at `level` if it is one of
    `errors` and as an error otherwise, and again when it changes or something worked meanwhile.

    Raises:
        fatal: the errors that shall end the loop, and with it the driver.
    """
    failures = _Failures(name, first, last, level)
    while True:
        try:
            running = work()
            if isinstance(running, AsyncGenerator):
                async with contextlib.aclosing(running):
                    async for _ in running:
                        failures.worked()
            else:
                await running
                failures.worked()
                await asyncio.sleep(0)
                continue
        except fatal:
            raise
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            failures.log(error)
        except Exception as error:  # whatever it is, it must not end the driver
            failures.log(error)
            if _is_cancelled():  # what `work` did on its way out failed, and stands in for the cancellation
                raise asyncio.CancelledError from error
        await asyncio.sleep(failures.pause())


async def each(
    queue: asyncio.Queue[T], work: Callable[[T], Awaitable[object]], name: str, *, at_once: int = AT_ONCE
) -> NoReturn:
    """Do `work` for every item of a queue, until cancelled; then what is under way is cancelled too.

    Each item has a task of its own, at most `at_once` at a time; the queue keeps the rest. A failure is logged as
    `attempt` does, and concerns its own item only.
    """
    free = asyncio.Semaphore(at_once)

    async def one(item: T) -> None:
        try:
            await attempt(name, work(item))
        finally:
            free.release()

    async with asyncio.TaskGroup() as group:
        while True:
            await free.acquire()
            group.create_task(one(await queue.get()))


async def attempt(name: str, work: Awaitable[object], *, level: int = logging.WARNING) -> bool:
    """Await `work` once; whether it was done. A failure is logged, at `level` if it is one of `errors`."""
    try:
        await work
    except MacvlanGlobalError as error:
        log.log(level, "%s failed: %s", name, error)
    except Exception:
        log.exception("%s failed", name)
    else:
        return True
    return False


@contextlib.asynccontextmanager
async def when(event: asyncio.Event, *, at_most: float | None = None, settle: float = 0.0) -> AsyncIterator[None]:
    """Wait for an event, clear it, and run the block, which is due again if it fails or is cancelled.

    The block also runs if the event is not set for `at_most` seconds. With `settle`, it runs so many seconds after the
    event: events that come in bursts are answered together.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(at_most):
            await event.wait()
            await asyncio.sleep(settle)
    event.clear()
    try:
        yield
    except BaseException:
        event.set()
        raise


class Crowd:
    """The hosts of the cluster, as far as they do the same at the same time: what each does spreads over a while that
    grows with their number, so that a store that was away is not asked by all of them together."""

    def __init__(self) -> None:
        """Alone, as far as anybody knows."""
        self.hosts = 1

    def spread(self, at_most: float, each: float = 0.02) -> float:
        """Seconds to wait, drawn by lot: up to `each` for every host, and up to `at_most` in all. A host alone does not
        wait."""
        longest = min(at_most, each * self.hosts) if self.hosts > 1 else 0.0
        return random.uniform(0, longest)  # noqa: S311 - it spreads hosts, and guards nothing


class _Failures:
    """The last failure of a loop that was logged, and its back-off."""

    def __init__(self, name: str, first: float, last: float, level: int) -> None:
        self._name = name
        self._first = first
        self._last = last
        self._level = level
        self._next = first
        self._said: tuple[type[BaseException], str] | None = None

    def worked(self) -> None:
        """Note that something was done: the next failure is a new one."""
        if self._said:
            log.log(min(self._level, logging.INFO), "%s works again", self._name)
        self._said = None
        self._next = self._first

    def log(self, error: BaseException) -> None:
        """Log a failure, unless it is the one that was logged before."""
        said, self._said = self._said, (type(error), str(error))
        if said == self._said:
            return
        if isinstance(error, MacvlanGlobalError):
            log.log(self._level, "%s failed, it is tried again: %s", self._name, error)
        else:
            log.error("%s failed, it is tried again", self._name, exc_info=error)

    def pause(self) -> float:
        """Seconds until the next try; the time after that is longer."""
        longest, self._next = self._next, min(self._next * 2, max(self._last, self._first))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads hosts, and guards nothing


def _is_cancelled() -> bool:
    """Whether somebody cancelled this task: a future that was cancelled elsewhere raises the same."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
