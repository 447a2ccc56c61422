"""HTTP over unix sockets: asks an engine's API or a plugin without a command line between."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

SECONDS = 60.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float = SECONDS) -> None:
        """Connect to the socket at `path` with the first request; `timeout` in seconds for each step."""
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        """See `HTTPConnection.connect`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(server: Path, method: str, path: str, body: bytes = b"", content_type: str = "") -> tuple[int, Any]:
    """Make one request; the status, and the reply parsed (None if it is empty).

    Raises:
        OSError: nobody listens there.
    """
    connection = UnixConnection(server)
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        response = connection.getresponse()
        reply = response.read()
        return response.status, json.loads(reply) if reply else None
    finally:
        connection.close()
