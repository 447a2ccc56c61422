"""Late replies: queries that came before the names are there which would answer them, as those of the first container
of a network on this host. They wait on the event loop, so that the UDP thread goes on.
"""

import asyncio
import logging
import socket
import struct

from macvlan_global.dns.resolver.cache import ResponseCache

log = logging.getLogger(__name__)

WAIT_SECONDS = 2.0
"""Longest wait: the engine and most clients ask again, or somebody else, after five seconds."""
MOST_WAITING = 256


async def names_there(cache: ResponseCache, seconds: float = WAIT_SECONDS) -> None:
    """Wait until the names of all networks that are followed are there, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await cache.names_there.wait()
    except TimeoutError:
        log.debug("a query was answered before all names were there")


class LateReplies:
    """Replies over UDP to queries that waited. `offer` is for the UDP thread, all else for the event loop."""

    def __init__(
        self, cache: ResponseCache, listener: socket.socket, *, seconds: float = WAIT_SECONDS, most: int = MOST_WAITING
    ) -> None:
        """Reply through `listener`, which somebody else closes, after at most `seconds`. At most `most` queries wait.

        It is made on the event loop.
        """
        self.answers = [0] * 256
        """As of `UdpServer`."""
        self.unanswered = 0
        self._cache = cache
        self._socket = listener
        self._seconds = seconds
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._taken = self._done = 0  # each is written by one thread: the UDP thread's and the loop's

    def offer(self, query: bytes, client: bytes) -> bool:
        """Answer a query later; False if too many wait already. `client` is its address as the kernel gave it."""
        if self._taken - self._done >= self._most:
            return False
        try:
            self._loop.call_soon_threadsafe(self._begin, query, client)
        except RuntimeError:  # the loop is closed
            return False
        self._taken += 1
        return True

    async def stop(self) -> None:
        """Answer nobody any more. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, query: bytes, client: bytes) -> None:
        task = self._loop.create_task(self._answer(query, client))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._done += 1

    async def _answer(self, query: bytes, client: bytes) -> None:
        await names_there(self._cache, self._seconds)
        async with self._turn:  # they end at one time, and the loop has other work
            await asyncio.sleep(0)
            try:
                reply = self._cache.respond(query, udp=True)
                if reply is None:
                    self.unanswered += 1
                    return
                self._socket.sendto(reply, socket.MSG_DONTWAIT, _address(self._socket.family, client))
                self.answers[reply[3]] += 1
            except OSError as error:  # no route to its client, or the socket is closed
                log.debug("a late reply was not sent: %s", error)
            except Exception:  # a bug must cost one reply
                log.exception("no reply was built for the query %s", query.hex())


def _address(family: socket.AddressFamily, client: bytes) -> tuple[str, int] | tuple[str, int, int, int]:
    """The client of a struct sockaddr_in or sockaddr_in6."""
    if family == socket.AF_INET:
        return socket.inet_ntop(family, client[4:8]), struct.unpack_from("!H", client, 2)[0]
    (port, flow), (scope,) = struct.unpack_from("!HI", client, 2), struct.unpack_from("=I", client, 24)
    return socket.inet_ntop(family, client[8:24]), port, flow, scope
