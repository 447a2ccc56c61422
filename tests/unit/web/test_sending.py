"""Clients that do not read what they asked for, that read slowly, and that want the head only."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from lab.speed import patience, within
from macvlan_global.web.sending import send

LONG = bytes(24 << 20)
"""Longer than what sockets hold for a client that does not read."""


@asynccontextmanager
async def serving(body: bytes, *, seconds: float) -> AsyncIterator[tuple[web.Server, int]]:
    """A server with one answer, and its port."""

    async def handle(http: web.Request) -> web.StreamResponse:
        return await send(http, body, {}, seconds=seconds)

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert runner.server
        yield runner.server, runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """It is there still, and holds nothing of the server any more: no connection, no memory."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with serving(LONG, seconds=0.2) as (server, port):
            client.connect(("127.0.0.1", port))
            client.send(b"GET / HTTP/1.1\r\nHost: page\r\n\r\n")
            async with within(30):
                while not server.requests_count or server.connections:  # noqa: ASYNC110 - nothing tells of its end
                    await asyncio.sleep(0.01)


async def test_a_client_that_asks_on_and_does_not_read_is_cut_off_too() -> None:
    """Its questions come all at once; the answers are short, and wait for it one by one."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with serving(bytes(60_000), seconds=0.2) as (server, port):
            client.connect(("127.0.0.1", port))
            client.send(b"GET / HTTP/1.1\r\nHost: page\r\n\r\n" * 1000)
            async with within(30):
                while not server.requests_count or server.connections:  # noqa: ASYNC110 - nothing tells of its end
                    await asyncio.sleep(0.01)
            assert server.requests_count < 500


async def test_a_client_that_hangs_up_at_once_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A port check, or a page that is loaded anew."""
    async with serving(b"[1]", seconds=5) as (server, port), within(30):
        for number in range(1, 11):
            with socket.socket() as client:
                client.connect(("127.0.0.1", port))
                client.send(b"GET / HTTP/1.1\r\nHost: page\r\n\r\n")
            while server.requests_count < number or server.connections:  # noqa: ASYNC110 - nothing tells of its end
                await asyncio.sleep(0.001)
    assert caplog.records == []


async def test_a_client_that_reads_slowly_gets_all() -> None:
    """Each piece has its own time: a whole answer may take longer than one."""
    limit = patience(0.5)
    async with serving(LONG, seconds=limit) as (_, port), within(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: page\r\nConnection: close\r\n\r\n")
        begun = asyncio.get_running_loop().time()
        received = 0
        while piece := await reader.read(1 << 20):
            received += len(piece)
            if asyncio.get_running_loop().time() < begun + 2 * limit:
                await asyncio.sleep(limit / 10)
        assert received > len(LONG)
        writer.close()


async def test_a_question_for_the_head_gets_the_length_and_no_body() -> None:
    """As of a page that a script looks for."""
    async with serving(b"[1]", seconds=5) as (_, port), within(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HEAD / HTTP/1.1\r\nHost: page\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        assert b"Content-Length: 3\r\n" in answer
        assert answer.endswith(b"\r\n\r\n")
        writer.close()
