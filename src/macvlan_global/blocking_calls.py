"""Blocking calls that may hang: a file on a mount that is gone, a resolver of names, /proc.

The default threads of asyncio are few and are everybody's: a handful of calls that hang would stop all others, and the
end of the process waits for them. So each call here has a thread of its own, which nobody waits for longer than told.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class BlockingCalls(Generic[T]):
    """Calls of one function, by key. Requests for a key share the call under way; one that hangs is not repeated."""

    def __init__(self, call: Callable[[str], T], *, most: int) -> None:
        """Call `call` with the key. `most` calls may hang at a time."""
        self._call = call
        self._most = most
        self._running: dict[str, Future[T]] = {}

    async def result(self, key: str, seconds: float) -> T:
        """The result of the call for this key, or its exception.

        Raises:
            TimeoutError: it takes longer than `seconds`, or too many others hang.
        """
        self._running = {each: future for each, future in self._running.items() if not future.done()}
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= self._most:
                raise TimeoutError(f"{self._most} calls hang")
            running = self._running[key] = on_thread(lambda: self._call(key))
        async with asyncio.timeout(seconds):
            return await asyncio.shield(asyncio.wrap_future(running))


def on_thread(work: Callable[[], T]) -> Future[T]:
    """Begin `work` on a thread of its own, which does not keep the process from ending.

    Raises:
        RuntimeError: no thread can be started.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            future.set_exception(error)

    threading.Thread(target=run, name="blocking call", daemon=True).start()
    return future


async def briefly(work: Callable[[], T], seconds: float) -> T | None:
    """The result of `work` on a thread of its own; None if it takes longer than `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await asyncio.shield(asyncio.wrap_future(on_thread(work)))
    return None
