"""Whole reads of etcd: each page has as long as bytes come, and one that fails is asked for again by itself."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.store.open import open_cluster_store
from testkit.fake_http import HttpCall, HttpReply, HttpServer

pytestmark = pytest.mark.virtual_time

PAGES = 4


class Paged:
    """Three members of an etcd with four keys, one on each page. Bytes of a page come over `seconds`; each of the
    pages in `failing` fails so often."""

    def __init__(self, seconds: float = 0.0, failing: dict[int, int] | None = None) -> None:
        """`failing` counts down."""
        self.asked: list[int] = []
        self._seconds = seconds
        self._failing = dict(failing or {})
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> str:
        """The address of the store."""
        servers = [await self._stack.enter_async_context(HttpServer(self._answer)) for _ in range(3)]
        return f"etcd://{','.join(each.address for each in servers)}/test"

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._stack.aclose()

    async def _answer(self, call: HttpCall) -> HttpReply:
        if not call.path.endswith("/kv/range"):
            return HttpReply(200, b'{"leader": "1", "header": {}}')
        start = base64.b64decode(json.loads(call.body)["key"])
        page = int(start[len(b"test/names/") :].rstrip(b"\0") or b"-1") + 1
        self.asked.append(page)
        if self._failing.get(page, 0):
            self._failing[page] -= 1
            return HttpReply(500, b"{}")
        key, value = base64.b64encode(f"test/names/{page}".encode()).decode(), base64.b64encode(b"x").decode()
        shown = {"header": {"revision": "5"}, "kvs": [{"key": key, "value": value, "mod_revision": "3"}]}
        body = json.dumps({**shown, "more": page < PAGES - 1}).encode()
        return HttpReply(pieces=self._slowly(body)) if self._seconds else HttpReply(200, body)

    async def _slowly(self, body: bytes) -> AsyncIterator[bytes]:
        size = len(body) // 20 + 1
        for at in range(0, len(body), size):
            await asyncio.sleep(self._seconds / 20)
            yield body[at : at + size]


async def _scan(url: str) -> list[str]:
    store = open_cluster_store(url)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        return [entry.key for entry in await store.scan("names/")]


WHOLE = [f"names/{page}" for page in range(PAGES)]


async def test_a_page_may_take_as_long_as_bytes_come() -> None:
    """On a slow line, with three members: eight seconds each, though an operation has three."""
    paged = Paged(seconds=8.0)
    async with paged as url:
        assert await _scan(url) == WHOLE
    assert paged.asked == [0, 1, 2, 3]


async def test_a_page_that_fails_is_asked_for_again() -> None:
    """By another member; the pages before it are read once."""
    paged = Paged(failing={2: 2})
    async with paged as url:
        assert await _scan(url) == WHOLE
    assert paged.asked == [0, 1, 2, 2, 2, 3]


async def test_a_page_that_fails_for_good_is_an_error() -> None:
    """In time, and not for ever."""
    async with Paged(failing={1: 10_000}) as url:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(Unavailable):
            await _scan(url)
        assert loop.time() - began < 10
