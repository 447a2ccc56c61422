"""Event loops on which waiting takes no time: when nobody has anything to do, the clock goes on to the next timer.

On `VirtualLoop` nothing comes from outside (no sockets, no threads, no clock), so what runs on it runs the same way
each time; `LeanLoop` does the same with less work. On `LoopbackLoop` there are sockets besides; both ends of each must
be on it.
"""

import asyncio
import heapq
import selectors
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from contextvars import Context, copy_context
from typing import Any, TypeVar, TypeVarTuple, Unpack

import msgspec

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0 and is in seconds. Use with `asyncio.Runner(loop_factory=VirtualLoop)`."""

    def __init__(self, selector: "selectors.BaseSelector | None" = None) -> None:
        """Nothing has happened yet."""
        self._passed = 0.0
        super().__init__(selector or _Patience(self))

    def time(self) -> float:
        """See `asyncio.AbstractEventLoop.time`."""
        return self._passed

    def pass_time(self, seconds: float) -> None:
        """For the selector: nobody has anything to do for so long."""
        self._passed += seconds


class _Turn(msgspec.Struct):
    """A handle that is made in a third of the time. Who has one may cancel it; nobody asks it for anything else."""

    callback: Callable[..., object] | None
    args: tuple[Any, ...]
    context: Context

    def cancel(self) -> None:
        """See `asyncio.Handle.cancel`: it stays where it is, and is passed over."""
        self.callback, self.args = None, ()


class _NumberedTask(asyncio.Task[T]):
    """A task whose place in a set follows from when it was made: a TaskGroup cancels its tasks in the order of a set,
    which otherwise is that of their addresses in memory."""

    __slots__ = ("_number",)

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
        number: int,
    ) -> None:
        self._number = number
        super().__init__(coroutine, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._number


class LeanLoop(VirtualLoop):
    """A virtual loop for a simulation, where turns and timers are much of the work: it never asks a selector."""

    _ready: deque[_Turn]
    _stopping: bool

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._timers: list[tuple[float, int, _Turn]] = []
        self._number = 0
        super().__init__()
        self.set_task_factory(self._make_task)

    def _make_task(
        self,
        _loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        /,
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        self._number += 1
        return _NumberedTask(coroutine, self, context, self._number)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> _Turn:
        """See `asyncio.AbstractEventLoop.call_soon`."""
        turn = _Turn(callback, args, copy_context() if context is None else context)
        self._ready.append(turn)
        return turn

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is one thread

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> _Turn:
        """See `asyncio.AbstractEventLoop.call_at`. Timers of one time end in the order in which they were set."""
        turn = _Turn(callback, args, copy_context() if context is None else context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, turn))
        return turn

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> _Turn:
        """See `asyncio.AbstractEventLoop.call_later`."""
        turn = _Turn(callback, args, copy_context() if context is None else context)
        self._number += 1
        heapq.heappush(self._timers, (self._passed + delay, self._number, turn))
        return turn

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any]) -> None:
        """For asyncio, which keeps a list of generators to close at the end: whoever made one here closes it."""

    def _run_once(self) -> None:
        """For asyncio: turns of the loop, until it is to stop."""
        ready, timers = self._ready, self._timers
        while True:
            if not ready:
                while timers and timers[0][2].callback is None:
                    heapq.heappop(timers)
                if not timers:
                    raise RuntimeError("everybody waits, and nothing will ever happen")
                self._passed = max(self._passed, timers[0][0])
            while timers and timers[0][0] <= self._passed:
                ready.append(heapq.heappop(timers)[2])
            for _ in range(len(ready)):
                turn = ready.popleft()
                if turn.callback is not None:
                    try:
                        turn.context.run(turn.callback, *turn.args)
                    except BaseException as error:  # noqa: BLE001 - as `asyncio.Handle._run` does
                        self._failed(turn, error)
            if self._stopping:
                return

    def _failed(self, turn: _Turn, error: BaseException) -> None:
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise error
        self.call_exception_handler({"message": f"Exception in {turn!r}", "exception": error})


class _Patience(selectors.BaseSelector):
    """Waits for nothing but time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._keys: dict[object, selectors.SelectorKey] = {}

    def register(self, fileobj: object, events: int, data: object = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else getattr(fileobj, "fileno")()  # noqa: B009 - any with a number
        self._keys[fileobj] = key = selectors.SelectorKey(fileobj, number, events, data)  # type: ignore[arg-type]
        return key

    def unregister(self, fileobj: object) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[object, selectors.SelectorKey]:  # type: ignore[override]  # by file of any kind
        return self._keys

    def get_key(self, fileobj: object) -> selectors.SelectorKey:
        return self._keys[fileobj]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        if timeout > 0:
            self._loop.pass_time(timeout)
        return []


class LoopbackLoop(VirtualLoop):
    """A virtual loop with real sockets between tasks of this process; nothing may be done in threads."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        super().__init__(_PollThenPass(self.pass_time))


class _PollThenPass(selectors.DefaultSelector):
    """Lets time pass once no socket has anything to read or to write."""

    GRACE = 0.001
    """Real seconds for the kernel to deliver what was sent on loopback."""
    STUCK = 5.0
    """Real seconds without any event and any timer after which nothing will ever happen."""

    def __init__(self, pass_time: Callable[[float], None]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        ready = super().select(self.STUCK if timeout is None else self.GRACE)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        self._pass_time(timeout)
        return []
