"""An event loop on which waiting takes no time: when nobody has anything to do, its clock goes on to the next timer.

Nothing comes from outside (no sockets, no threads, no clock), so what runs on it runs the same way each time.
"""

import asyncio
import selectors
from collections.abc import Mapping


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0 and is in seconds. Use with `asyncio.Runner(loop_factory=VirtualLoop)`."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._passed = 0.0
        super().__init__(_Patience(self))

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
