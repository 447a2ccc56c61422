"""Worker threads for requests to the kernel, which may wait for its locks: the event loop hands work over and goes on.

A request takes the kernel less time than the way to its thread and back. So that way is short: a queue there, and one
wake-up of the event loop back. `concurrent.futures` puts locks and further futures on it: half as much again.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ThreadLost(Exception):
    """A call has left its thread in a state in which it must do nothing else. The caller gets the cause of this."""


class Workers:
    """Up to `most` threads, which do work in the order in which it came. Each is started when it is needed."""

    def __init__(self, name: str, most: int = 1, *, at_end: Callable[[], None] = lambda: None) -> None:
        """No thread yet. Each calls `at_end` before it ends."""
        self._name = name
        self._most = most
        self._at_end = at_end
        self._asked: queue.SimpleQueue[_Work[Any] | None] = queue.SimpleQueue()
        self._threads = 0
        self._unanswered = 0
        self._closed = False
        self._waited_for: set[_Work[Any]] = set()

    async def run(self, call: Callable[[], T], *, to_the_end: bool = False) -> T:
        """The result of a call on one of the threads.

        If the caller is cancelled before a thread has begun with it, it is not made. Once begun it goes on by itself;
        with `to_the_end` the caller waits for its end all the same, however often it is cancelled, until `close`.

        Raises:
            RuntimeError: there is no thread for it, and none can be started; or they have ended.
        """
        if self._closed:
            raise RuntimeError("the threads have ended")
        if self._unanswered >= self._threads and self._threads < self._most:
            self._start()
        work = _Work(call, asyncio.get_running_loop(), self._answered)
        self._unanswered += 1
        self._asked.put(work)
        try:
            return await work.answer
        except asyncio.CancelledError:
            if work.take():  # no thread has begun with it, and none will
                self._answered()
            elif to_the_end and not self._closed:
                self._waited_for.add(work)
                try:
                    await work.end()
                finally:
                    self._waited_for.discard(work)
            raise

    def close(self) -> None:
        """Let the threads end after what was asked. Idempotent. Call it on the event loop.

        Whoever was cancelled ends now: a kernel that keeps a thread must not keep the process, and what was begun is
        found by the next start.
        """
        if not self._closed:
            self._closed = True
            for _ in range(self._threads):
                self._asked.put(None)
            for work in self._waited_for:
                work.let_go()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._serve, name=f"{self._name} {self._threads}", daemon=True).start()
        except RuntimeError:
            if not self._threads:
                raise
        else:
            self._threads += 1

    def _answered(self, *, lost: bool = False) -> None:
        self._unanswered -= 1
        if lost:
            self._threads -= 1
            if self._unanswered > self._threads:
                self._replace()

    def _replace(self) -> None:
        """Start a thread in place of a lost one. Without any, nobody waits for what is left."""
        try:
            self._start()
        except RuntimeError as error:
            with contextlib.suppress(queue.Empty):
                while True:
                    work = self._asked.get_nowait()
                    if work and work.take():
                        work.refuse(error)

    def _serve(self) -> None:
        lost = False
        while not lost and (work := self._asked.get()) is not None:
            if work.take():
                lost = work.do()
            del work  # nor what it holds, while there is nothing to do
        self._at_end()


class _Work(Generic[T]):
    """A call, and the future of who waits for it."""

    def __init__(self, call: Callable[[], T], loop: asyncio.AbstractEventLoop, answered: Callable[..., None]) -> None:
        self._call = call
        self._loop = loop
        self._answered = answered
        self._ticket = [None]
        self._given = False
        self._let_go = False
        self._ended: asyncio.Future[None] | None = None
        self.answer: asyncio.Future[T] = loop.create_future()

    def take(self) -> bool:
        """Take it, to do it or to have it dropped; False if somebody has. Called from both threads."""
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

    def do(self) -> bool:
        """Make the call, on a worker thread; whether this thread is lost."""
        result: T | None = None
        failed: BaseException | None = None
        lost = False
        try:
            result = self._call()
        except ThreadLost as error:
            failed, lost = error.__cause__ or error, True
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            self._loop.call_soon_threadsafe(self._give, result, failed, lost)
        return lost

    def refuse(self, error: BaseException) -> None:
        """No thread will do it; called on the loop's thread."""
        self._give(None, error, lost=False)

    async def end(self) -> None:
        """Wait until it is done, though its answer was cancelled, or until `let_go`. A further cancellation does not
        end this."""
        while not self._given and not self._let_go:
            self._ended = self._loop.create_future()
            # the caller raises the first one; after a second one, too, nothing may be undone beside what is under way
            with contextlib.suppress(asyncio.CancelledError):
                await self._ended
        if self._given and not self.answer.cancelled():
            self.answer.exception()  # nobody else looks at it

    def let_go(self) -> None:
        """Have nobody wait for its end any more; called on the loop's thread."""
        self._let_go = True
        self._wake()

    def _give(self, result: T | None, failed: BaseException | None, lost: bool) -> None:
        self._given = True
        self._answered(lost=lost)
        self._wake()
        if self.answer.done():
            return
        if failed is None:
            self.answer.set_result(result)  # type: ignore[arg-type]  # of type T, which may be None
        else:
            self.answer.set_exception(failed)

    def _wake(self) -> None:
        if self._ended and not self._ended.done():
            self._ended.set_result(None)
