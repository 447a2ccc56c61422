"""HTTP on a TCP address, where anybody may connect: so many connections at a time, and no more.

An idle connection costs a file descriptor. Without a bound, whoever opens a thousand takes those that the plugin's
socket needs, and the engine gets no answer.
"""

import asyncio
import socket

from aiohttp import web

WAITING = 16
UNREAD_MILLISECONDS = 20_000
"""The kernel ends the connection of a client that takes nothing for so long (TCP_USER_TIMEOUT, tcp(7))."""


class HttpListener:
    """Serves what a runner has. A connection beyond `most` is closed at once."""

    def __init__(self, runner: web.AppRunner, most: int) -> None:
        """Nothing listens yet. The runner's `keepalive_timeout` ends idle connections, before a first request too."""
        self._runner = runner
        self._most = most
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> None:
        """Begin to serve on `HOST:PORT`.

        Raises:
            OSError: the address cannot be used.
        """
        host, port = split_address(address)
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            # so many are accepted in one turn of the event loop
            self._server = await loop.create_server(self._connect, host, port, backlog=WAITING)
            for each in self._server.sockets:  # what is accepted inherits it
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
        except OSError:
            await self._runner.cleanup()
            raise

    async def stop(self) -> None:
        """Stop. Idempotent."""
        if self._server:
            self._server.close()
        await self._runner.cleanup()

    def _connect(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or len(server.connections) >= self._most:
            return _Refusal()
        return server()


class _Refusal(asyncio.Protocol):
    """Closes a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        transport.close()


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of a valid HOST:PORT."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
