"""Exceptions of others, to be raised below a port: none may come out of it as it is.

Each list is walked from the libraries' own trees, so an exception class that a later version adds is in it too.
"""

import asyncio
import errno
import json
import os
import sqlite3
import ssl
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from testkit.brief import BRIEF, SHARE

SOME_NUMBERS = (errno.EPERM, errno.EINTR, errno.EMFILE, errno.ENODEV, errno.ENOBUFS, errno.ENETDOWN)

NOT_UTF8 = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

GARBAGE = (
    b"",
    b"\xff",
    b"<html>Bad gateway</html>",
    b"null",
    b"0",
    b'"text"',
    b"[]",
    b"[null]",
    b"[[]]",
    b"{}",
    b'[{"Key": "\xff"}]',
    b'{"header": null}',
    b'{"result": {"events": [{"kv": {"key": 7}}]}}',
    b"[" * 100_000,
    b"1" * 5000,
)[::SHARE]
"""Bodies that no store and no engine sends: each is taken apart by somebody."""

FOREIGN: tuple[Exception, ...] = (
    OSError(errno.EMFILE, os.strerror(errno.EMFILE)),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ValueError("not an address"),
    KeyError("Id"),
    msgspec.DecodeError("JSON is malformed"),
    msgspec.ValidationError("Expected `str`, got `int`"),
    RuntimeError("can't start new thread"),
)[::SHARE]
"""Exceptions that a port should not let out. If one does, no side task may end by it, nor the driver with it."""


def tree(*roots: type[Exception]) -> list[type[Exception]]:
    """These classes and all below them."""
    found = dict.fromkeys(roots)
    for root in roots:
        found |= dict.fromkeys(tree(*root.__subclasses__()))
    return list(found)


def os_errors() -> list[OSError]:
    """One of each number that the kernel gives, and one without any."""
    numbers = SOME_NUMBERS if BRIEF else sorted(errno.errorcode)
    return [*(OSError(number, os.strerror(number)) for number in numbers), OSError()]


def http_errors() -> list[Exception]:
    """Everything that an HTTP client may raise: of aiohttp, TLS, names, and the system."""
    names = [
        NOT_UTF8,
        UnicodeError("label empty or too long"),
        ValueError("on purpose"),
        asyncio.IncompleteReadError(b"", 1),
    ]
    ours = [_made(kind) for kind in tree(aiohttp.ClientError, HttpProcessingError, ssl.SSLError)]
    return [*ours, *names, TimeoutError(), EOFError(), *os_errors()]


def sqlite_errors() -> list[Exception]:
    """Everything that SQLite may raise, and the system below it."""
    made = [kind("on purpose") for kind in tree(sqlite3.Error, sqlite3.Warning)]
    return [*made, NOT_UTF8, UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), *os_errors()]


def _made(kind: type[Exception]) -> Exception:
    """One of a class of aiohttp, whatever it is made of."""
    where = ConnectionKey("store", 80, False, True, None, None, None)
    request = RequestInfo(URL("http://store"), "GET", CIMultiDictProxy(CIMultiDict()), URL("http://store"))
    system = OSError(errno.ECONNREFUSED, "Connection refused")
    ways: tuple[tuple[Any, ...], ...] = (
        (request, ()),
        ("/socket", where, system),
        (where, system),
        (b"expected", b"got", "store", 80),
        ("http://store", "on purpose"),
        (1, "on purpose"),
        ("on purpose",),
        (),
    )
    for arguments in ways:
        try:
            made = kind(*arguments)
            str(made)
        except (TypeError, AttributeError):
            continue
        return made
    raise AssertionError(f"{kind.__name__} is made of something else: say here of what")


class BrokenHttp:
    """An HTTP client in the place of `aiohttp.ClientSession`, of which one step raises an error.

    `step` is "ask" (the request is refused here), "open" (there is no answer) or "read" (it breaks off). With no error,
    every answer is `body`. The first `good` requests are answered with `status` and `good_body`.
    """

    def __init__(
        self,
        error: Exception | None = None,
        step: str = "read",
        *,
        body: bytes = b"{}",
        status: int = 200,
        good: int = 0,
        good_body: bytes = b"{}",
    ) -> None:
        """Nothing was asked yet."""
        self._error = error
        self._step = step
        self._body = body
        self._status = status
        self._good = good
        self._good_body = good_body

    def request(self, *_: object, **__: object) -> "BrokenReply":
        """See `aiohttp.ClientSession.request`."""
        if self._good > 0:
            self._good -= 1
            return BrokenReply(None, "", self._good_body, 200)
        if self._error and self._step == "ask":
            raise self._error
        return BrokenReply(self._error, self._step, self._body, self._status)

    get = request

    async def close(self) -> None:
        """See `aiohttp.ClientSession.close`."""


class BrokenReply:
    """The answer of `BrokenHttp`, in the place of `aiohttp.ClientResponse` and of the wait for it."""

    headers: Mapping[str, str] = {"X-Consul-Index": "5"}

    def __init__(self, error: Exception | None, step: str, body: bytes, status: int) -> None:
        """See `BrokenHttp`."""
        self._error = error
        self._step = step
        self._body = body
        self.status = status
        self.content = self

    async def __aenter__(self) -> Self:
        """Open, which takes a while."""
        await asyncio.sleep(0.5)
        self._raise_at("open")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""

    def __await__(self) -> Generator[Any, None, Self]:
        """Open."""
        return self.__aenter__().__await__()

    async def read(self) -> bytes:
        """All of it."""
        self._raise_at("read")
        return self._body

    async def json(self, **_: object) -> Any:
        """All of it, taken apart as aiohttp does."""
        return json.loads((await self.read()).decode())

    async def readany(self) -> bytes:
        """A piece of it, the whole."""
        await asyncio.sleep(0.5)
        return await self.read() + b"\n"

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Piece by piece."""
        yield await self.read()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Line by line."""
        yield await self.read()

    def raise_for_status(self) -> None:
        """See `aiohttp.ClientResponse.raise_for_status`."""
        if self.status >= 400:
            raise _made(aiohttp.ClientResponseError)

    def close(self) -> None:
        """See `aiohttp.ClientResponse.close`."""

    def _raise_at(self, step: str) -> None:
        if self._error and self._step == step:
            raise self._error


def broken_http(*, few: bool = False) -> Iterator[tuple[Exception, str]]:
    """Errors and the steps of `BrokenHttp` at which they are raised: each class at each step, each number at one.

    With `few`, one for each way in which errors are taken apart, at the step where most of them come.
    """
    if few or BRIEF:
        kinds = (aiohttp.ClientConnectorError, aiohttp.ClientPayloadError, HttpProcessingError, ssl.SSLError)
        yield from ((each, "open") for each in (*map(_made, kinds), NOT_UTF8, EOFError(), OSError(errno.EMFILE, "")))
        return
    seen = set[type[Exception]]()
    for error in http_errors():
        yield from ((error, step) for step in (("read",) if type(error) in seen else ("ask", "open", "read")))
        seen.add(type(error))
