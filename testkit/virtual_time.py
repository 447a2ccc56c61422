"""Event loops on which waiting takes no time: when nobody has anything to do, the clock goes on to the next timer.

On `VirtualLoop` nothing comes from outside (no sockets, no threads, no clock), so what runs on it runs the same way
each time. On `LoopbackLoop` there are sockets besides; both ends of each must be on it.
"""

import asyncio
import selectors
from collections.abc import Callable, Mapping


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
