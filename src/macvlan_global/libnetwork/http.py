"""HTTP/1.1 on the plugin's socket, as far as an engine speaks it: requests with a body of known length, or in chunks,
and connections that stay.

Each request is handed on when it is whole, in the turn of the event loop in which it came, and the next one of the same
connection is read when it was answered. A connection ends when its peer ends it, or asks for that: an idle one is never
closed from here, since an engine that sends a request at that very moment would take it for lost and cannot repeat it.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import unquote

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
MAX_HEAD = 64 * 1024
MAX_BODY = 16 * 1024 * 1024
"""Bytes of the longest request body. A container that publishes all its ports makes one of seven megabytes."""
MAX_AHEAD = 4 * 1024 * 1024
"""Bytes that are read ahead of the request in hand; then the peer has to wait."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CHUNK_LINE = 128

Reply = Callable[[int, bytes], None]
"""Takes the status and the body of an answer, once."""

Serve = Callable[[str, bytes | None, Reply], None]
"""Takes the path of a request (decoded, without its query), its body, None if that is too long, and where its answer
goes."""

Refuse = Callable[[str], bytes]
"""Gives the body of an answer to what is no request, by the reason."""


class _Malformed(Exception):
    """Bytes that are no request; the text says why."""


class _Head:
    """The head of a request."""

    __slots__ = ("chunked", "closes", "expects", "length", "path")

    def __init__(self, raw: bytes) -> None:
        """Parse it, without the empty line at its end.

        Raises:
            _Malformed: it is none.
        """
        line, *fields = raw.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise _Malformed("it does not begin with a line of HTTP/1.1")
        target = words[1].partition("?")[0]
        self.path = unquote(target) if "%" in target else target
        self.length = -1
        self.chunked = self.expects = False
        self.closes = words[2] == "HTTP/1.0"
        for each in fields:
            name, colon, value = each.partition(":")
            if not colon or name != name.strip():
                raise _Malformed("a header field has no name")
            self._take(name.lower(), value.strip().lower())
        if self.chunked and self.length >= 0:
            raise _Malformed("it has both a Content-Length and a Transfer-Encoding")

    def _take(self, name: str, value: str) -> None:
        if name == "content-length":
            if not (value.isascii() and value.isdigit() and len(value) <= 12 and self.length in {-1, int(value)}):
                raise _Malformed("its Content-Length is no number, or is not the only one")
            self.length = int(value)
        elif name == "transfer-encoding":
            if value != "chunked":
                raise _Malformed("its Transfer-Encoding is not `chunked`")
            self.chunked = True
        elif name == "connection":
            self.closes = "close" in value or (self.closes and "keep-alive" not in value)
        elif name == "expect":
            self.expects = value == "100-continue"


class Connections:
    """The connections of one server."""

    def __init__(self, serve: Serve, refuse: Refuse) -> None:
        """Hand each request to `serve`."""
        self.serve = serve
        self.refuse = refuse
        self._open: set[Connection] = set()

    def accept(self) -> "Connection":
        """The protocol of a new connection."""
        return Connection(self, self._open)

    def close_idle(self) -> None:
        """Close connections without a request in hand now, and the others when it was answered."""
        for each in tuple(self._open):
            each.finish()

    def abort(self) -> None:
        """Close what is open."""
        for each in tuple(self._open):
            each.abort()


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, connections: Connections, opened: "set[Connection]") -> None:
        """Made by `Connections.accept`."""
        self._connections = connections
        self._open = opened
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._head: _Head | None = None
        self._body: bytearray | None = None  # of chunks
        self._too_long = False
        self._busy = False
        self._last = False
        self._paused = False
        self._going = False

    # ------------------------------------------------------------- the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream it is one
        self._transport = transport
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`. A request that is in hand is carried out all the same."""
        self._transport = None
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._last and not self._busy:  # what follows the last request is nobody's
            return
        self._received += data
        if not self._busy:
            self._go_on()
        elif len(self._received) > MAX_AHEAD and self._transport and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    # ---------------------------------------------------------------------- the server

    def finish(self) -> None:
        """Close it now, or when the request in hand was answered."""
        self._last = True
        if not self._busy:
            self.abort()

    def abort(self) -> None:
        """Close it, whatever it is about."""
        if self._transport:
            self._transport.close()

    # -------------------------------------------------------------------------- inside

    def _go_on(self) -> None:
        """Serve what has come, as far as it is whole."""
        if self._going:  # a request that was answered at once: the loop below goes on
            return
        self._going = True
        try:
            while not self._busy and not self._last and self._take():
                pass
        except _Malformed as error:
            self._busy = self._last = True
            self._answer(HTTPStatus.BAD_REQUEST, self._connections.refuse(f"the request is no HTTP: {error}"))
        finally:
            self._going = False

    def _take(self) -> bool:
        """Take the next request, or a part of it, from what has come; False if more must come."""
        if self._head is None:
            return self._take_head()
        head = self._head
        if head.chunked:
            body = self._take_chunks()
            if body is None:
                return False
        else:
            missing = max(head.length, 0)
            if len(self._received) < missing:
                if self._too_long:
                    head.length -= len(self._received)
                    self._received.clear()
                return False
            body = bytes(self._received[:missing])
            del self._received[:missing]
        self._busy, self._head, self._body = True, None, None
        self._last |= head.closes
        whole, self._too_long = (None if self._too_long else body), False
        self._connections.serve(head.path, whole, self._answer)
        return True

    def _take_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or end > MAX_HEAD:
            if len(self._received) > MAX_HEAD:
                raise _Malformed(f"its head is longer than {MAX_HEAD // 1024} KiB")
            return False
        head = self._head = _Head(bytes(self._received[:end]))
        del self._received[: end + 4]
        self._too_long = head.length > MAX_BODY
        if head.expects and self._transport:
            self._transport.write(_CONTINUE)
        return True

    def _take_chunks(self) -> bytes | None:
        """The body, once its last chunk is there (RFC 9112 section 7.1). One that is too long is read and dropped."""
        if self._body is None:
            self._body = bytearray()
        while True:
            end = self._received.find(b"\r\n", 0, _CHUNK_LINE)
            if end < 0 and len(self._received) < _CHUNK_LINE:
                return None
            length = _chunk_size(self._received[: max(end, 0)])
            if not length:
                return self._take_trailer(end)
            if len(self._received) < end + length + 4:
                return None
            if self._received[end + 2 + length : end + 4 + length] != b"\r\n":
                raise _Malformed("a chunk is longer than its size")
            self._too_long |= len(self._body) + length > MAX_BODY
            if not self._too_long:
                self._body += self._received[end + 2 : end + 2 + length]
            del self._received[: end + length + 4]

    def _take_trailer(self, end: int) -> bytes | None:
        """Take what follows the last chunk, whose line ends there: fields that nobody needs, and an empty line."""
        if self._received[end : end + 4] == b"\r\n\r\n":
            last = end
        else:
            last = self._received.find(b"\r\n\r\n", end)
            if last < 0:
                if len(self._received) > MAX_HEAD:
                    raise _Malformed("its trailer is too long")
                return None
        del self._received[: last + 4]
        return bytes(self._body or b"")

    def _answer(self, status: int, body: bytes) -> None:
        self._busy = False
        if self._transport is None:
            return
        closing = "Connection: close\r\n" if self._last else ""
        self._transport.write(
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\n{closing}\r\n".encode()
            + body
        )
        if self._last:
            self._transport.close()
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if self._received:
            self._go_on()


def _chunk_size(line: bytearray) -> int:
    """The size of a chunk by its first line, whose extensions nobody needs.

    Raises:
        _Malformed: it has none, or a chunk is too long.
    """
    size = line.partition(b";")[0].strip()
    try:
        length = int(size, 16)
    except ValueError:
        raise _Malformed("a chunk does not begin with its size") from None
    if not 0 <= length <= MAX_BODY:
        raise _Malformed("a chunk is too long")
    return length
