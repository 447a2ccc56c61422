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
from collections.abc import AsyncIterator, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

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
        self._unfinished: set[asyncio.Task[Any]] = set()

    async def run(self, name: str, request: Coroutine[Any, Any, T]) -> T:
        """The result of a request called `name`.

        Raises:
            Unavailable: it was not done in time; it is cancelled, and what it did is undone in the background.
        """
        waits: list[str] = []
        token = _waits.set(waits)
        task = asyncio.ensure_future(request)
        _waits.reset(token)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._seconds)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if done:
            return task.result()
        what = waits[-1] if waits else "this host"
        task.cancel()
        self._unfinished.add(task)
        task.add_done_callback(self._finished)
        raise Unavailable(
            f"{name} was not done within {self._seconds:g} s: it waits for {what}; try again when that answers"
        )

    async def settle(self, seconds: float) -> None:
        """Wait for what is still being undone, so many seconds at most."""
        if self._unfinished:
            await asyncio.wait(self._unfinished, timeout=seconds)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._unfinished.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # the request was answered, with the deadline; this says what came of it
            kind = logging.INFO if isinstance(error, MacvlanGlobalError) else logging.ERROR
            log.log(kind, "a request that was answered before ended: %s", error)
