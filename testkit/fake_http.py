"""A small HTTP/1.1 server on loopback, on the caller's event loop, for doubles of stores and engines."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request. `query` has the last value of each parameter, "" for one without; header names are lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A response: `body` whole, or `pieces` without an end."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: AsyncIterator[bytes] | None = None


class HttpServer:
    """Serves `answer` on a free port of 127.0.0.1, within `async with`."""

    def __init__(self, answer: Callable[[HttpCall], Awaitable[HttpReply]]) -> None:
        """Answer every request by this."""
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """`HOST:PORT` of the listener."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the listener and every connection."""
        assert self._server is not None
        self._server.close()
        for each in self._serving:
            each.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # how a connection ends
            try:
                while True:
                    await _write(writer, await self._answer(await _read(reader)))
            finally:
                writer.close()


async def _read(reader: asyncio.StreamReader) -> HttpCall:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return HttpCall(method.upper(), unquote(parts.path), query, headers, body)


async def _write(writer: asyncio.StreamWriter, reply: HttpReply) -> None:
    headers = {"Content-Type": "application/json", **reply.headers}
    if reply.pieces is None:
        headers["Content-Length"] = str(len(reply.body))
    else:
        headers["Transfer-Encoding"] = "chunked"
    lines = [f"HTTP/1.1 {reply.status} -", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + reply.body)
    await writer.drain()
    if reply.pieces is not None:
        async for piece in reply.pieces:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
