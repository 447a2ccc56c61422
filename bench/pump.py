"""Asks a server over several connections at once, each with one request under way, as leanly as Python can.

One loop over readiness and nothing else: what is measured with it is the server, not the asking.
"""

import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

_PIECE = 65536


@dataclass(frozen=True, slots=True)
class Pumped:
    """Times of the first request and the last answer, in seconds of the machine's clock; and the answers."""

    begun: float
    ended: float
    bodies: list[bytes]


def pump(connections: list[socket.socket], request: Callable[[int], bytes], count: int) -> Pumped:
    """Ask `count` times in all; `request` gives the bytes of a whole HTTP request by its number.

    Raises:
        RuntimeError: an answer has another status than 200.
        ConnectionResetError: the server closed a connection.
    """
    bodies: list[bytes] = []
    received = dict.fromkeys(connections, b"")
    numbers = iter(range(count))
    begun = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for connection, number in zip(connections, numbers, strict=False):
            connection.sendall(request(number))
            selector.register(connection, selectors.EVENT_READ, connection)
        while selector.get_map():
            for key, _ in selector.select():
                connection = key.data
                chunk = connection.recv(_PIECE)
                if not chunk:
                    raise ConnectionResetError("the server closed the connection")
                body = _body(received[connection] + chunk)
                if body is None:
                    received[connection] += chunk
                    continue
                received[connection] = b""
                bodies.append(body)
                if (following := next(numbers, None)) is None:
                    selector.unregister(connection)
                else:
                    connection.sendall(request(following))
    return Pumped(begun, time.monotonic(), bodies)


def post(path: str, body: bytes, method: str = "POST") -> bytes:
    """A whole HTTP request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _body(received: bytes) -> bytes | None:
    """The body of a whole answer, None if it is not whole yet."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(received.decode(errors="replace"))
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return body if len(body) >= length else None
