"""Deadline of a request: the engine gets an answer in time, whatever hangs, and the answer names what was waited for.

Code that may wait for somebody else says so:

    with waiting_for(f"the parent file {path}"):
        ...

A request that is not done in time is cancelled and answered. What it has to undo is undone afterwards, in the
background: that may take long for the same reason.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from macvlan_global.errors import MacvlanGlobalError, Unavailable

log = logging.getLogger(__name__)

REQUEST_SECONDS = 9.0
"""For each request of the engine: with the time to answer, less than the ten seconds that are promised."""

T = TypeVar("T")

_waits: ContextVar[list[str] | None] = ContextVar("_waits", default=None)


class _Waiting:
    """A block within which a request waits for something."""

    __slots__ = ("_waits", "_what")

    def __init__(self, waits: list[str], what: str) -> None:
        self._waits = waits
        self._what = what

    def __enter__(self) -> None:
        self._waits.append(self._what)

    def __exit__(self, *_: object) -> None:
        waits = self._waits
        del waits[len(waits) - 1 - waits[::-1].index(self._what)]  # of several side by side any may end first


_NOBODY = contextlib.nullcontext()


def waiting_for(what: str) -> contextlib.AbstractContextManager[None]:
    """Within the block the request waits for `what`: words for an error, as in "the store"."""
    waits = _waits.get()
    return _NOBODY if waits is None else _Waiting(waits, what)


@contextlib.asynccontextmanager
async def held(lock: asyncio.Lock, what: str) -> AsyncIterator[None]:
    """Hold a lock within the block. `what` are words for those who have it, as in "other requests about parents"."""
    with waiting_for(what):
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Deadline:
    """Runs requests, each for so many seconds at most."""

    def __init__(self, seconds: float = REQUEST_SECONDS) -> None:
        """Nothing runs yet."""
        self._seconds = seconds
        self._running: set[asyncio.Task[None]] = set()

    def begin(
        self, name: str, request: Coroutine[Any, Any, T], answer: Callable[[T | None, Exception | None], None]
    ) -> "asyncio.Task[None]":
        """Run a request called `name` on a task of its own. `answer` is called once, with its result or the exception
        that it ended with: Unavailable if it was not done in time. It is cancelled then, and what it did is undone in
        the background.
        """
        waits: list[str] = []
        token = _waits.set(waits)
        running = _Running(name, waits, answer)
        task = asyncio.ensure_future(running.work(request))
        _waits.reset(token)
        running.timer = asyncio.get_running_loop().call_later(self._seconds, running.expire, task, self._seconds)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def run(self, name: str, request: Coroutine[Any, Any, T]) -> T:
        """The result of a request called `name`. See `begin`.

        Raises:
            Unavailable: it was not done in time.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def answer(result: T | None, error: Exception | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]  # of type T, which may be None

        task = self.begin(name, request, answer)
        try:
            return await done
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def settle(self, seconds: float) -> None:
        """Wait for what is still being done, or undone, so many seconds at most."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    def cancel(self) -> None:
        """Cancel what is still being done."""
        for each in self._running:
            each.cancel()


class _Running(Generic[T]):
    """A request on its way to its one answer."""

    def __init__(self, name: str, waits: list[str], answer: Callable[[T | None, Exception | None], None]) -> None:
        self._name = name
        self._waits = waits
        self._answer: Callable[[T | None, Exception | None], None] | None = answer
        self.timer: asyncio.TimerHandle | None = None

    async def work(self, request: Coroutine[Any, Any, T]) -> None:
        try:
            result = await request
        except asyncio.CancelledError:
            if self._answer:
                self._give(None, Unavailable(f"{self._name} was broken off: the driver is stopping; try again"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            self._give(None, error)
        else:
            self._give(result, None)

    def expire(self, task: "asyncio.Task[None]", seconds: float) -> None:
        what = self._waits[-1] if self._waits else "this host"
        self._give(
            None,
            Unavailable(
                f"{self._name} was not done within {seconds:g} s: it waits for {what}; try again when that answers"
            ),
        )
        task.cancel()

    def _give(self, result: T | None, error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        answer, self._answer = self._answer, None
        if answer:
            answer(result, error)
        elif error:
            # the request was answered, with the deadline; this says what came of it
            kind = logging.INFO if isinstance(error, MacvlanGlobalError) else logging.ERROR
            log.log(kind, "a request that was answered before ended: %s", error)
