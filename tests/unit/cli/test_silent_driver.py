"""A driver that does not answer a command: one that hangs, and one that takes its time."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from macvlan_global.admin.client import AdminClient
from macvlan_global.errors import Unavailable
from macvlan_global.listening import listen


def test_a_driver_that_hangs_is_told_after_seconds(tmp_path: Path) -> None:
    """It is asked whether it is alive, and accepts nothing; the text says what to do."""
    path = tmp_path / "admin.sock"
    with listen(path, what="the admin socket"), pytest.raises(Unavailable, match=r"does not answer at .* restart it"):
        AdminClient(str(path), silence=0.05).status()


def test_a_driver_that_is_given_less_time_is_not_asked_whether_it_is_alive(tmp_path: Path) -> None:
    """A key press waits no longer than it says."""
    path = tmp_path / "admin.sock"
    with listen(path, what="the admin socket"), pytest.raises(Unavailable, match="did not answer in time"):
        AdminClient(str(path), timeout=0.05).status()


async def test_a_driver_that_is_alive_may_take_its_time(tmp_path: Path) -> None:
    """The answer comes after it was asked twice."""
    asked: asyncio.Queue[None] = asyncio.Queue()

    async def alive(_http: web.Request) -> web.Response:
        asked.put_nowait(None)
        raise web.HTTPNotFound

    async def networks(_http: web.Request) -> web.Response:
        for _ in range(2):
            await asked.get()
        return web.json_response([])

    app = web.Application()
    app.router.add_get("/", alive)
    app.router.add_get("/networks", networks)
    runner = web.AppRunner(app)
    await runner.setup()
    path = tmp_path / "admin.sock"
    await web.SockSite(runner, listen(path, what="the admin socket")).start()
    assert await asyncio.to_thread(AdminClient(str(path), silence=0.5).networks) == []
    await runner.cleanup()
