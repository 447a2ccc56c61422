"""Failures of a member of a store, and their meaning for a write and for other operations."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.store.remote.members import Answer, AnswerLost, HealthCheck, Members, NotAsked, Request

pytestmark = pytest.mark.virtual_time


class _Write:
    """A write whose attempts end as told; what is read afterwards, too."""

    def __init__(self, attempts: list[str | Exception | None], found: list[tuple[str | None] | None]) -> None:
        self._attempts = attempts
        self._found = found

    async def ask(self, until: float) -> str | None:
        outcome = self._attempts.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def settle(self, until: float) -> tuple[str | None] | None:
        return self._found.pop(0)

    async def run(self) -> str | None:
        endpoints = Members(["127.0.0.1:1"], None, HealthCheck(lambda: Request("GET", "/"), lambda _: True))
        done = await endpoints.write(self.ask, self.settle, asyncio.get_running_loop().time() + 3)
        assert (self._attempts, self._found) == ([], [])
        return done


async def test_a_write_that_was_done_is_found() -> None:
    """It is not asked for again."""
    assert await _Write([AnswerLost()], [("ours",)]).run() == "ours"


async def test_a_write_that_was_not_done_is_asked_for_again() -> None:
    """The value that was read says that it was not."""
    assert await _Write([AnswerLost(), "ours"], [None]).run() == "ours"


async def test_a_write_that_was_done_late_is_ours() -> None:
    """It was done after we looked, so the second attempt is refused: by ourselves."""
    assert await _Write([AnswerLost(), None], [None, ("ours",)]).run() == "ours"


async def test_a_write_that_lost_to_others_after_a_lost_answer() -> None:
    """The key that is there is somebody else's."""
    assert await _Write([AnswerLost(), None], [None, (None,)]).run() is None


async def test_a_refusal_is_believed_if_no_answer_was_lost() -> None:
    """A member that could not be reached did nothing: there is nothing to look for."""
    assert await _Write([NotAsked(), None], []).run() is None


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer /quick, and nothing else."""
    with contextlib.suppress(asyncio.IncompleteReadError):  # how a connection ends
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"GET /quick "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    writer.close()


@pytest.fixture
async def endpoints() -> AsyncIterator[Members]:
    """A store of one member, which answers some requests."""
    server = await asyncio.start_server(_serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    made = Members([f"127.0.0.1:{port}"], None, HealthCheck(lambda: Request("GET", "/quick"), lambda _: True))
    yield made
    await made.close()
    server.close()


async def _ask(endpoints: Members, path: str) -> Answer:
    async with endpoints.operation() as until:
        return await endpoints.read(lambda until: endpoints.ask(Request("GET", path), until), until)


async def test_one_request_without_an_answer_is_no_store_that_is_away(endpoints: Members) -> None:
    """Others go on if they have answers; they fail at once only if nobody has one."""
    slow = asyncio.ensure_future(_ask(endpoints, "/slow"))
    while not slow.done():
        assert (await _ask(endpoints, "/quick")).status == 200
        await asyncio.wait({slow}, timeout=0.1)
    with pytest.raises(Unavailable, match="does not answer"):
        slow.result()
    assert (await _ask(endpoints, "/quick")).status == 200
    with pytest.raises(Unavailable, match="does not answer"):
        await _ask(endpoints, "/slow")
    with pytest.raises(Unavailable, match="a moment ago"):
        await _ask(endpoints, "/quick")


async def test_a_cancellation_in_the_turn_of_a_timeout_is_not_lost(endpoints: Members) -> None:
    """A driver that stops while the store says nothing: aiohttp's own timeout took the cancellation for its own."""
    await _ask(endpoints, "/quick")
    loop = asyncio.get_running_loop()
    over = loop.time() + 0.5
    asking = asyncio.ensure_future(endpoints.ask(Request("GET", "/slow"), over))
    loop.call_at(over, asking.cancel)
    await asyncio.wait({asking})
    assert asking.cancelled()


class _Late:
    """An HTTP client, and its one answer, which begins in the very turn in which its asker is cancelled."""

    def __init__(self) -> None:
        self.asker: asyncio.Task[bytes] | None = None
        self.status = 200
        self.closed = 0

    async def request(self, *_args: object, **_options: object) -> "_Late":
        assert self.asker is not None
        self.asker.cancel()
        return self

    def close(self) -> None:
        self.closed += 1


async def test_a_watch_that_is_given_up_as_its_answer_begins_leaves_no_connection() -> None:
    """The driver stops just then."""
    http = _Late()
    health = HealthCheck(lambda: Request("GET", "/"), lambda _: True)
    members = Members(["store:1"], None, health, lambda _: cast("aiohttp.ClientSession", http))
    async with contextlib.aclosing(members.stream(Request("GET", "/"))) as stream:
        http.asker = asyncio.ensure_future(anext(stream))
        await asyncio.wait({http.asker})
    assert http.asker.cancelled()
    assert http.closed == 1


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass the health check, and begin to answer anything else with an error that never comes."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            if head.startswith(b"GET /quick "):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            else:
                writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 10\r\n\r\n")
    writer.close()


async def test_a_watch_whose_refusal_never_comes_is_given_up() -> None:
    """A load balancer plays it: the head of an error, and nothing after it. The member passes its health checks."""
    server = await asyncio.start_server(_hang, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    members = Members([f"127.0.0.1:{port}"], None, HealthCheck(lambda: Request("GET", "/quick"), lambda _: True))
    async with asyncio.timeout(60), contextlib.aclosing(members.stream(Request("GET", "/"))) as stream:
        with pytest.raises(AnswerLost):
            await anext(stream)
    await members.close()
    server.close()
