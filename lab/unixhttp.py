"""HTTP over unix sockets: how the engine's API and a plugin are asked without a command line between."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

SECONDS = 60.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("lab", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


def ask(server: Path, method: str, path: str, body: bytes = b"", content_type: str = "") -> tuple[int, Any]:
    """Make one request; the status, and the reply parsed (None if it is empty).

    Raises:
        OSError: nobody listens there.
    """
    connection = _Connection(server)
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        response = connection.getresponse()
        reply = response.read()
        return response.status, json.loads(reply) if reply else None
    finally:
        connection.close()
