"""The plugin's socket: HTTP over a unix socket that only root may use."""

import asyncio
import logging
import socket
import time
from http import HTTPStatus

from macvlan_global.deadline import REQUEST_SECONDS, Deadline
from macvlan_global.errors import A_BUG, Invalid, MacvlanGlobalError
from macvlan_global.libnetwork.codec import decode, encode, encode_error
from macvlan_global.libnetwork.handlers import Route
from macvlan_global.libnetwork.http import MAX_BODY, Connections, Reply
from macvlan_global.libnetwork.messages import Message
from macvlan_global.metrics.counts import Metrics, Outcome

log = logging.getLogger(__name__)

WAITING = 1024
"""Connections that wait to be accepted."""
ACCEPTED_AT_ONCE = 16
"""Connections that are accepted in one turn of the event loop (asyncio's `backlog` is that, too). Without a file
descriptor each of them would fail, and be logged, in each turn."""
FINISH_SECONDS = 10.0
"""Time at the end for requests under way."""
STOP_SECONDS = 3.0
"""Time at the end for what was answered late and is being undone."""


class PluginServer:
    """Serves the routes. Each request is logged with its outcome and duration."""

    def __init__(self, routes: dict[str, Route], metrics: Metrics, *, seconds: float = REQUEST_SECONDS) -> None:
        """Serve these paths, each request within `seconds`."""
        self._routes = routes
        self._deadline = Deadline(seconds)
        self._metrics = metrics
        self._connections = Connections(self.serve, lambda text: encode_error(text, ipam=False))
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Begin to serve on a listening unix socket."""
        loop = asyncio.get_running_loop()
        loop.call_soon(listener.listen, WAITING)  # right after asyncio, which listens with its own `backlog`
        self._server = await loop.create_server(self._connections.accept, sock=listener, backlog=ACCEPTED_AT_ONCE)

    async def stop(self) -> None:
        """Finish the requests under way, then stop."""
        if self._server:
            self._server.close()
            self._connections.close_idle()
            await self._deadline.settle(FINISH_SECONDS)
            self._deadline.cancel()
            await self._deadline.settle(STOP_SECONDS)
            self._connections.abort()

    def serve(self, path: str, body: bytes | None, reply: Reply) -> None:
        """Have a request answered: `reply` gets status and body. Without a `body` it was too long."""
        ipam = path.startswith("/IpamDriver.")
        route = self._routes.get(path)
        if route is None:
            reply(HTTPStatus.NOT_FOUND, encode_error(f"{path} is not known to macvlan-global", ipam=False))
            return
        if body is None:
            text = f"the request is larger than {MAX_BODY // 1024**2} MiB"
            reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, encode_error(text, ipam=ipam))
            return
        name, started = path[1:], time.perf_counter()
        try:
            request = decode(body, route.request)
        except Invalid as error:
            self._done(name, started, str(error))
            reply(HTTPStatus.BAD_REQUEST, encode_error(str(error), ipam=ipam))
            return

        def answer(message: Message | None, error: Exception | None) -> None:
            problem = ""
            if isinstance(error, MacvlanGlobalError):
                problem = str(error)
            elif error or message is None:  # the edge: a bug must not take the engine down with it, nor leak into Err
                log.error("a bug in the handling of %s", name, exc_info=error)
                problem = A_BUG
            content = encode(message) if message is not None and not problem else encode_error(problem, ipam=ipam)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("%s %s -> %s in %.1f ms", name, body, content, (time.perf_counter() - started) * 1000)
            self._done(name, started, problem)
            reply(HTTPStatus.OK, content)

        self._deadline.begin(name, route.handle(request), answer)

    def _done(self, name: str, started: float, problem: str) -> None:
        seconds = time.perf_counter() - started
        outcome: Outcome = "answered" if not problem else "failed" if problem is A_BUG else "refused"
        self._metrics.observe(name, seconds, outcome)
        if problem:
            log.warning("%s refused in %.1f ms: %s", name, seconds * 1000, problem)
