"""A way to package registries for programs in a network of their own: an HTTP proxy there, which asks out here.

So apt and pip on a host of the lab fetch what the machine itself could fetch, while the host's network stays as it is:
no route, no address and no link of the machine is shared.
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import cast
from urllib.parse import urlsplit

from lab.hosts import Host

PORT = 3128
_PIECE = 65536
_HEAD = 65536
_CONNECT_SECONDS = 60.0
_STILL_SECONDS = 300.0
"""A connection that carried nothing for so long is ended."""


@contextlib.contextmanager
def registries(host: Host) -> Iterator[str]:
    """Within the block, the proxy serves on the host's loopback; its URL."""
    with host.in_network():  # of this thread: the socket is the host's, and what the proxy opens is the machine's
        server = _Server(("127.0.0.1", PORT), _Asked)
    thread = threading.Thread(target=server.serve_forever, name="registries")
    thread.start()
    try:
        yield f"http://127.0.0.1:{PORT}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False


class _Asked(socketserver.BaseRequestHandler):
    """One connection to the proxy: a tunnel (CONNECT), or one plain request."""

    def handle(self) -> None:
        """Find out where to, connect, and carry bytes both ways."""
        client = cast("socket.socket", self.request)
        client.settimeout(_STILL_SECONDS)
        with contextlib.suppress(OSError, ValueError):
            head = _read_head(client)
            address, first = wanted(head)
            try:
                there = socket.create_connection(address, timeout=_CONNECT_SECONDS)
            except OSError:
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return
            there.settimeout(_STILL_SECONDS)
            with there:
                if first:
                    there.sendall(first)
                else:
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_carry, args=(there, client), daemon=True)
                back.start()
                _carry(client, there)
                back.join()


def wanted(head: bytes) -> tuple[tuple[str, int], bytes]:
    """Host and port that a request to a proxy is for, and what to send there first: nothing for a tunnel.

    A plain request is sent on as to the server itself, and as the last of its connection: the next may be for another.

    Raises:
        ValueError: this is no such request.
    """
    lines = head.split(b"\r\n")
    method, target, version = lines[0].decode("latin-1").split(" ")
    if method == "CONNECT":
        name, _, port = target.rpartition(":")
        return (name.strip("[]"), int(port)), b""
    parts = urlsplit(target)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"a request for {target!r}; a proxy is asked for http://…, or to CONNECT")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    kept = [line for line in lines[1:] if not line.lower().startswith((b"connection:", b"proxy-"))]
    first = [f"{method} {path} {version}".encode("latin-1"), b"Connection: close", *kept]
    return (parts.hostname, parts.port or 80), b"\r\n".join(first)


def _read_head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(_PIECE)
        if not piece or len(head) > _HEAD:
            raise ValueError("the request has no end")
        head += piece
    return head


def _carry(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes, to its end, and tell the other side of the end."""
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
