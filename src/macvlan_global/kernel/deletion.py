"""Deletion of a link that is answered as soon as the link is gone.

The kernel carries RTM_DELLINK out while it is sent. Within a millisecond the link is down, and name and MAC are free;
it tells whoever listens (RTM_DELLINK to RTNLGRP_LINK, `unregister_netdevice_many_notify` in net/core/dev.c) and gives
up its lock, rtnl. Then the sender waits until no CPU can hold a pointer to the link any more (`rcu_barrier` in
`netdev_run_todo`): fifteen to twenty milliseconds, which only the memory of the link needs. So the request has a
thread, and the event loop listens.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from macvlan_global.kernel.rtnl import RTM_DELLINK, RTMGRP_LINK, RouteSocket, parse_link, parts

T = TypeVar("T")

_BYTES = 1 << 16


class LinkEvents(Protocol):
    """A socket at which changes of links are queued; it never blocks."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...

    def recv(self, size: int, /) -> bytes:
        """The next datagram; BlockingIOError if there is none."""
        ...

    def close(self) -> None:
        """Close it. Idempotent."""
        ...


def open_link_events() -> LinkEvents:
    """A multicast socket of rtnetlink that is told of links, in the network namespace of the calling thread."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        opened.setblocking(False)
        opened.bind((0, RTMGRP_LINK))
    except BaseException:
        opened.close()
        raise
    return opened


class Deletion:
    """One deletion: `delete` makes the request on a thread, `told` waits for its end on the event loop.

    What is heard only hastens the answer: without it, that of the request counts.
    """

    def __init__(self, listen: Callable[[], LinkEvents] = open_link_events) -> None:
        """Call it on the event loop. `listen` opens the socket, in the namespace of the link."""
        self._listen = listen
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._events: LinkEvents | None = None
        self._over = False

    def delete(self, links: RouteSocket, name: str = "", *, index: int = 0) -> None:
        """Delete the link of this name or index, on the thread of `links`.

        Raises:
            OSError, ValueError, LookupError, struct.error: see `RouteSocket`.
        """
        events: LinkEvents | None = None
        # without a descriptor left, or with the loop closed, nobody listens
        with contextlib.suppress(OSError, RuntimeError):
            events = self._listen()
            self._loop.call_soon_threadsafe(self._hear, events, name, index)
            events = None
        if events is not None:
            events.close()
        links.delete(name, index=index)

    async def told(self, request: Awaitable[T], gone: T) -> T:
        """The result of the request which calls `delete`; `gone` as soon as the kernel tells that the link is.

        A caller that is cancelled waits for either all the same, if the request is under way.
        """
        done = asyncio.ensure_future(request)
        try:
            await self._either(done)
        except asyncio.CancelledError:
            done.cancel()
            await self._either(done)
            raise
        finally:
            self._end()
        if not self._gone.done():
            return await done
        done.add_done_callback(_look_at)
        return gone

    async def _either(self, done: "asyncio.Future[T]") -> None:
        both: set[asyncio.Future[Any]] = {done, self._gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)

    def _hear(self, events: LinkEvents, name: str, index: int) -> None:
        if self._over:
            events.close()
            return
        self._events = events
        self._loop.add_reader(events.fileno(), self._read, events, name, index)

    def _read(self, events: LinkEvents, name: str, index: int) -> None:
        try:
            while not self._gone.done():
                for kind, payload in parts(events.recv(_BYTES)):
                    # the first byte is the family: with AF_BRIDGE a port has left its bridge
                    if kind == RTM_DELLINK and payload[0] == socket.AF_UNSPEC:
                        told = parse_link(payload)
                        is_it = told.fact.index == index if index else told.fact.name == name
                        if is_it and not told.moved and not self._gone.done():
                            self._gone.set_result(None)
        except BlockingIOError:
            return
        except (OSError, ValueError, LookupError, ArithmeticError):  # what was lost, the request will say
            self._end()

    def _end(self) -> None:
        self._over = True
        if self._events is not None:
            self._loop.remove_reader(self._events.fileno())
            self._events.close()
            self._events = None


def _look_at(done: "asyncio.Future[T]") -> None:
    """Nobody waits for the rest any more, nor for an error in it."""
    if not done.cancelled():
        done.exception()
