"""HTTP on a TCP address that cannot be used yet: it is tried again."""

import asyncio
import socket

import aiohttp
from aiohttp import web

from macvlan_global.admin.http_listener import HttpListener
from tests.unit.dns.names import until


async def _answer(_http: web.Request) -> web.Response:
    return web.Response(text="here")


async def test_an_address_that_is_free_later_is_served_then() -> None:
    """The run before has it still, or the host gets it when its switch is back."""
    app = web.Application()
    app.router.add_get("/", _answer)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        listener = HttpListener("the page", address, web.AppRunner(app, handle_signals=False), 8, retry=0.05)
        await listener.start()
        assert listener.problem.startswith(f"the page cannot be served on {address}: ")
    running = asyncio.ensure_future(listener.run())
    try:
        await until(lambda: not listener.problem)
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/") as found:
            assert await found.text() == "here"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await listener.stop()
