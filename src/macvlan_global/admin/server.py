"""The admin socket: JSON over HTTP on a unix socket."""

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TypedDict

import msgspec
from aiohttp import web

from macvlan_global.admin.messages import Problem
from macvlan_global.admin.views import Views
from macvlan_global.errors import A_BUG, Conflict, Internal, Invalid, MacvlanGlobalError, NotFound, Unavailable

log = logging.getLogger(__name__)

STATUS: dict[type[MacvlanGlobalError], int] = {Invalid: 400, NotFound: 404, Conflict: 409, Unavailable: 503}


class AdminServer:
    """Answers `macvlan-global status` and its kin."""

    def __init__(self, views: Views) -> None:
        """Answer from these views."""
        self._views = views
        app = web.Application(client_max_size=64 * 1024)
        app.router.add_get("/status", self._with(lambda _: views.status()))
        app.router.add_get("/networks", self._with(lambda _: views.networks()))
        app.router.add_get("/addresses", self._with(lambda http: views.addresses(http.query.get("network", ""))))
        app.router.add_get(
            "/addresses/remembered", self._with(lambda http: views.remembered(http.query.get("network", "")))
        )
        app.router.add_post(
            "/addresses/forget", self._with(lambda http: views.forget_address(http.query.get("address", "")))
        )
        app.router.add_get("/parents", self._with(lambda http: views.parents(http.query.get("network", ""))))
        app.router.add_post("/repair", self._with(lambda http: views.repair(**_repair_arguments(http.query))))
        app.router.add_get("/hosts", self._with(lambda _: views.hosts()))
        app.router.add_post("/hosts/remove", self._with(lambda http: views.remove_host(**_host_arguments(http.query))))
        app.router.add_get("/conflicts", self._with(lambda _: views.conflicts()))
        app.router.add_get("/page", self._with(lambda _: _at_once(views.page)))
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=5)

    async def start(self, listener: socket.socket) -> None:
        """Begin to serve on a listening unix socket."""
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Stop."""
        await self._runner.cleanup()

    def _with(
        self, answer: Callable[[web.Request], Awaitable[object]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(http: web.Request) -> web.Response:
            try:
                body, status = await answer(http), 200
            except MacvlanGlobalError as error:
                body = Problem(kind=type(error).__name__, message=str(error))
                status = STATUS.get(type(error), 500)
            except Exception:  # the edge: a bug is told as one
                log.exception("a bug in the answer to %s", http.path)
                body, status = Problem(kind=Internal.__name__, message=A_BUG), 500
            return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")

        return handle


async def _at_once(view: Callable[[], object]) -> object:
    return view()


class _RepairArguments(TypedDict):
    dry_run: bool
    grace: float | None


def _repair_arguments(query: Mapping[str, str]) -> _RepairArguments:
    try:
        grace = float(query["grace"]) if "grace" in query else None
    except ValueError:
        raise Invalid(f"grace={query['grace']} is not a number of seconds") from None
    return _RepairArguments(dry_run=query.get("dry_run") == "1", grace=grace)


class _HostArguments(TypedDict):
    name: str
    force: bool


def _host_arguments(query: Mapping[str, str]) -> _HostArguments:
    return _HostArguments(name=query.get("name", ""), force=query.get("force") == "1")
