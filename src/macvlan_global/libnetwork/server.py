"""The plugin's socket: HTTP over a unix socket that only root may use."""

import logging
import socket
import time

from aiohttp import web

from macvlan_global.deadline import REQUEST_SECONDS, Deadline
from macvlan_global.errors import Invalid, MacvlanGlobalError
from macvlan_global.libnetwork.codec import MAX_BODY, decode, encode, encode_error
from macvlan_global.libnetwork.handlers import Route
from macvlan_global.metrics.counts import Metrics, Outcome

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
INTERNAL = "an internal error of macvlan-global; its log says more"
STOP_SECONDS = 3.0
"""Time at the end for what was answered late and is being undone."""


class PluginServer:
    """Serves the routes. Each request is logged with its outcome and duration."""

    def __init__(self, routes: dict[str, Route], metrics: Metrics, *, seconds: float = REQUEST_SECONDS) -> None:
        """Serve these paths, each request within `seconds`."""
        self._routes = routes
        self._deadline = Deadline(seconds)
        self._metrics = metrics
        self._runner: web.ServerRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Begin to serve on a listening unix socket."""
        # no aiohttp.web.Application: its router and signals cost more than a whole request here
        server = web.Server(self._answer, access_log=None)
        self._runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=10)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Finish the requests under way, then stop."""
        if self._runner:
            await self._runner.cleanup()
            await self._deadline.settle(STOP_SECONDS)

    async def _answer(self, http: web.BaseRequest) -> web.Response:
        route = self._routes.get(http.path)
        if route is None:
            return _reply(404, encode_error(f"{http.path} is not known to macvlan-global", ipam=False))
        ipam = http.path.startswith("/IpamDriver.")
        started = time.perf_counter()
        try:
            body = await http.read()
        except web.HTTPRequestEntityTooLarge:
            text = f"the request is larger than {MAX_BODY // 1024} KiB"
            return _reply(413, encode_error(text, ipam=ipam))
        status, reply, problem = await self._handle(http.path[1:], route, body, ipam=ipam)
        seconds = time.perf_counter() - started
        outcome: Outcome = "answered" if not problem else "failed" if problem is INTERNAL else "refused"
        self._metrics.observe(http.path[1:], seconds, outcome)
        if problem:
            log.warning("%s refused in %.1f ms: %s", http.path[1:], seconds * 1000, problem)
        else:
            log.debug("%s %s -> %s in %.1f ms", http.path[1:], body, reply, seconds * 1000)
        return _reply(status, reply)

    async def _handle(self, name: str, route: Route, body: bytes, *, ipam: bool) -> tuple[int, bytes, str]:
        try:
            request = decode(body, route.request)
        except Invalid as error:
            return 400, encode_error(str(error), ipam=ipam), str(error)
        try:
            return 200, encode(await route.answer(request, name, self._deadline)), ""
        except MacvlanGlobalError as error:
            return 200, encode_error(str(error), ipam=ipam), str(error)
        except Exception:  # the edge: a bug must not take the engine down with it, nor leak into Err
            log.exception("a bug in the handling of %s", route.request.__name__)
            return 200, encode_error(INTERNAL, ipam=ipam), INTERNAL


def _reply(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type=CONTENT_TYPE)
