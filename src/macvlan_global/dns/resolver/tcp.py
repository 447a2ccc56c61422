"""DNS over TCP (RFC 7766), for replies that do not fit into a datagram. On the event loop, with limits."""

import asyncio
import contextlib
import logging
import socket
import struct

from macvlan_global.dns.resolver.answer import LONGEST_QUERY
from macvlan_global.dns.resolver.cache import Early, ResponseCache
from macvlan_global.dns.resolver.late import names_there

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 128
IDLE_SECONDS = 10.0


class TcpServer:
    """Answers queries on one listening socket until `stop`."""

    def __init__(self, cache: ResponseCache, *, most: int = MOST_CONNECTIONS, idle: float = IDLE_SECONDS) -> None:
        """At most `most` connections at once; one is closed that sends or reads nothing for `idle` seconds."""
        self._cache = cache
        self._most = most
        self._idle = idle
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._turn = asyncio.Lock()
        self.queries = 0
        """Queries received."""
        self.answers, self.unanswered = [0] * 256, 0
        """As of `UdpServer`."""

    async def start(self, listener: socket.socket) -> None:
        """Serve on `listener`, a listening TCP socket, which `stop` closes."""
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=LONGEST_QUERY)

    async def stop(self) -> None:
        """Stop serving and close every connection. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for writer in self._connections:
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._most:
            writer.close()
            return
        self._connections.add(writer)
        writer.transport.set_write_buffer_limits(0)  # `drain` waits until the kernel has all of a reply
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                while await self._one(reader, writer):
                    pass
        except Exception:  # a bug must cost one connection and not the server
            log.exception("no reply was built for a query over TCP")
        finally:
            self._connections.discard(writer)
            # a transport that is closed waits until its buffer is empty: for ever, if the client does not read
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            else:
                writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one query; whether more may come."""
        async with asyncio.timeout(self._idle):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            if length >= LONGEST_QUERY:
                return False
            query = await reader.readexactly(length)
        self.queries += 1
        reply = self._kept(query) or await self._built(query)
        if reply is None:
            self.unanswered += 1
            return False
        self.answers[reply[3]] += 1
        writer.write(struct.pack("!H", len(reply)) + reply)
        async with asyncio.timeout(self._idle):  # a client that does not read gets no more
            await writer.drain()
        await asyncio.sleep(0)  # a client that sends many queries at once must not keep the event loop
        return True

    async def _built(self, query: bytes) -> bytes | None:
        """A reply that is not kept yet; None if none may be sent.

        A long one takes milliseconds, and the event loop has other work: in each of its rounds it builds one.
        """
        async with self._turn:
            await asyncio.sleep(0)
            reply = self._kept(query) or self._cache.respond_or_wait(query, udp=False)
        if reply is Early.WAIT:
            await names_there(self._cache)
            async with self._turn:
                await asyncio.sleep(0)
                reply = self._kept(query) or self._cache.respond(query, udp=False)
        return reply

    def _kept(self, query: bytes) -> bytes | None:
        template = self._cache.templates_over_tcp.get(query[2:])
        return query[:2] + template() if template else None
