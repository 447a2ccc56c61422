"""The page's server: the files of the page, its data, and the stream of events. Read only, over HTTP.

Each request passes the same gate: a name that the page may be asked by, and the token where one is needed. Answers
carry a content security policy under which the browser runs, shows and asks nothing but what comes from here.
"""

import asyncio
import gzip
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import NoReturn

import msgspec
from aiohttp import hdrs, web

from macvlan_global.admin.http_listener import HttpListener, split_address
from macvlan_global.admin.messages import Problem
from macvlan_global.admin.server import STATUS
from macvlan_global.errors import Invalid, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.web.access import has_token, is_loopback, may_be_asked_by
from macvlan_global.web.api import ROUTES, DataPath, PageData, encode, openapi
from macvlan_global.web.feed import VIEWERS_MOST, Event, LiveFeed
from macvlan_global.web.sending import send, write

log = logging.getLogger(__name__)

CONNECTIONS_MOST = 128
ANSWERS_MOST = 2
"""Answers of one path that are made at a time; others wait. One of 100,000 addresses has 25 MB."""
SENT_MOST = 16
"""Answers that are sent at a time."""
BEAT_SECONDS = 10.0
"""A stream without events says so often that it is there."""
COMPRESSED_FROM = 4096
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file of the page, and the hash by which a browser knows whether it has it."""

    kind: str
    body: bytes
    tag: str


def load_files() -> dict[str, StaticFile]:
    """The files of the page, by their paths."""
    found = {}
    for each in files("macvlan_global.web").joinpath("static").iterdir():
        kind = KINDS.get(each.name.rpartition(".")[2])
        if kind:
            body = each.read_bytes()
            found[f"/{each.name}"] = StaticFile(kind, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
    return {"/": found["/index.html"], **found}


class PageServer:
    """Serves the page on one address."""

    def __init__(self, data: PageData, feed: LiveFeed, address: str, *, own_name: str, token: str = "") -> None:
        """`address` is HOST:PORT, `own_name` the name of this host; with `token` /api/ asks for it."""
        self._data = data
        self._feed = feed
        self._address = address
        self._host, _ = split_address(address)
        self._own_name = own_name
        self._token = token
        self._files = load_files()

        @web.middleware
        async def gate(request: web.Request, handler: _Handler) -> web.StreamResponse:
            return await self._gate(request, handler)

        app = web.Application(client_max_size=1024, middlewares=[gate])
        for path in self._files:
            app.router.add_get(path, self._file)
        for route in ROUTES:
            app.router.add_get(f"/api/{route.path}", self._answer(route))
        app.router.add_get("/api/events", self._events)
        app.router.add_get("/api/openapi.json", self._openapi)
        app.on_response_prepare.append(_add_headers)
        # a stream whose browser is gone ends at once: with the last one the watches of the store do
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=1,
            keepalive_timeout=30,
            max_headers=64,
        )
        self.listener = HttpListener("the page", address, runner, CONNECTIONS_MOST)
        self._room = asyncio.Semaphore(SENT_MOST)

    async def start(self) -> None:
        """Begin to serve; see `HttpListener.start`."""
        await self.listener.start()

    async def run(self) -> NoReturn:
        """See `HttpListener.run`."""
        await self.listener.run()

    async def stop(self) -> None:
        """Stop. Idempotent."""
        self._feed.end()
        await self.listener.stop()

    async def _gate(self, http: web.Request, handler: _Handler) -> web.StreamResponse:
        asked, shown = http.headers.get(hdrs.HOST, ""), http.headers.get(hdrs.AUTHORIZATION, "")
        if not may_be_asked_by(asked, loopback=is_loopback(self._host), own_name=self._own_name):
            return _refused(421, Invalid("this page is not known by the name that it was asked by; use its address"))
        if self._token and http.path.startswith("/api/") and not has_token(shown, self._token):
            return _refused(401, Invalid("the page needs its token, which macvlan-global page on that host shows"))
        try:
            return await handler(http)
        except web.HTTPNotFound:
            return _refused(404, NotFound(f"there is nothing at {http.path[:80]}; see /api/openapi.json"))
        except web.HTTPMethodNotAllowed:
            return _refused(405, Invalid("the page is read only: GET and HEAD"))

    async def _file(self, http: web.Request) -> web.Response:
        file = self._files[http.path]
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if http.headers.get(hdrs.IF_NONE_MATCH) == file.tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, content_type=file.kind, charset="utf-8", headers=headers)

    async def _openapi(self, _http: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(openapi()), content_type="application/json")

    def _answer(self, route: DataPath) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        free = asyncio.Semaphore(ANSWERS_MOST)

        async def handle(http: web.Request) -> web.StreamResponse:
            async with free:
                try:
                    given = http.query.get(route.takes, "") if route.takes else ""
                    body = await encode(await route.answer(self._data, given))
                except MacvlanGlobalError as error:
                    return _refused(STATUS.get(type(error), 500), error)
                headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
                if len(body) >= COMPRESSED_FROM and "gzip" in http.headers.get(hdrs.ACCEPT_ENCODING, ""):
                    headers["Content-Encoding"] = "gzip"
                    body = await asyncio.to_thread(gzip.compress, body, 1)
                await self._room.acquire()
            try:
                return await send(http, body, headers)
            finally:
                self._room.release()  # the client has it: a long answer that nobody reads takes memory

        return handle

    async def _events(self, http: web.Request) -> web.StreamResponse:
        if self._feed.viewers >= VIEWERS_MOST:
            return _refused(503, Unavailable(f"{VIEWERS_MOST} browsers look at this page already; close one of them"))
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        with self._feed.viewing() as viewer:
            await stream.prepare(http)
            while (event := await _next(viewer.get())) is not None:
                name, body = event
                text = b"event: %s\ndata: %s\n\n" % (name.encode(), body) if name else b":\n\n"
                if not await write(http, stream, text):
                    break
        return stream


async def _next(event: Awaitable[Event | None]) -> Event | None:
    """The next event, or a beat without a name if none comes."""
    try:
        async with asyncio.timeout(BEAT_SECONDS):
            return await event
    except TimeoutError:
        return "", b""


def _refused(status: int, error: MacvlanGlobalError) -> web.Response:
    body = msgspec.json.encode(Problem(kind=type(error).__name__, message=str(error)))
    return web.Response(
        body=body, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )


async def _add_headers(_http: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
