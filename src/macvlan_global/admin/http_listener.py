"""HTTP on a TCP address, where anybody may connect: so many connections at a time, and no more.

An idle connection costs a file descriptor. Without a bound, whoever opens a thousand takes those that the plugin's
socket needs, and the engine gets no answer.

An address that cannot be used does not keep the driver from its work: containers need it. After a power cut, say, the
switch comes back later than the host, and with it the host's address.
"""

import asyncio
import contextlib
import logging
import socket
from typing import NoReturn

from aiohttp import web

from macvlan_global.errors import Unavailable
from macvlan_global.tasks import forever

log = logging.getLogger(__name__)

RETRY_SECONDS = 10.0
WAITING = 16
UNREAD_MILLISECONDS = 20_000
"""The kernel ends the connection of a client that takes nothing for so long (TCP_USER_TIMEOUT, tcp(7))."""


class HttpListener:
    """Serves what a runner has. A connection beyond `most` is closed at once."""

    def __init__(
        self, what: str, address: str, runner: web.AppRunner, most: int, *, retry: float = RETRY_SECONDS
    ) -> None:
        """Nothing listens yet. `what` is served, in words, on `address` (HOST:PORT), which is tried again every `retry`
        seconds. The runner's `keepalive_timeout` ends idle connections, before a first request too."""
        self._what = what
        self._address = address
        self._runner = runner
        self._most = most
        self._retry = retry
        self._server: asyncio.Server | None = None
        self.problem = ""
        """Reason why the address cannot be used, "" if it can."""

    async def start(self) -> None:
        """Begin to serve. If the address cannot be used, `run` tries it again."""
        await self._runner.setup()
        with contextlib.suppress(Unavailable):  # it is logged when it is tried again, at once
            await self._listen()

    async def run(self) -> NoReturn:
        """Try the address again until it can be used; until cancelled."""
        await forever(f"serving {self._what}", self._keep, first=self._retry, last=self._retry, level=logging.ERROR)

    async def _keep(self) -> None:
        if self._server is None:
            await self._listen()
        await asyncio.Event().wait()

    async def _listen(self) -> None:
        host, port = split_address(self._address)
        try:
            # so many are accepted in one turn of the event loop
            self._server = await asyncio.get_running_loop().create_server(self._connect, host, port, backlog=WAITING)
        except OSError as error:
            self.problem = f"{self._what} cannot be served on {self._address}: {error}"
            raise Unavailable(self.problem) from error
        for each in self._server.sockets:  # what is accepted inherits it
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MILLISECONDS)
        self.problem = ""
        log.info("serving %s at http://%s/", self._what, self._address)

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
