"""The one thing that engines from 29.0 on do and those of the lab do not: they tell the IPAM driver a container's name.

It stands between the engine and the driver, whose plugin socket is elsewhere, and passes everything on.
"""

import contextlib
import http.server
import json
import socketserver
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.unixhttp import UnixConnection
from macvlan_global.libnetwork.handlers import NAME_KEY, REQUEST_TYPE


class NameTeller:
    """A plugin socket that adds `name` to each request for a container's address. Use as a context manager.

    Whoever starts a container says its name before: engines of the lab tell nobody.
    """

    def __init__(self, listens: Path, driver: Path) -> None:
        """Listen at one socket for the driver at another one."""
        self.name = ""
        listens.parent.mkdir(parents=True, exist_ok=True)
        self._server = _Server(str(listens), _handler(self, driver))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def told(self, path: str, body: bytes) -> bytes:
        """The request as an engine that tells names would make it."""
        if path != "/IpamDriver.RequestAddress" or not self.name:
            return body
        request: dict[str, Any] = json.loads(body)
        options = request["Options"] or {}
        if REQUEST_TYPE in options:  # a gateway's
            return body
        return json.dumps({**request, "Options": {**options, NAME_KEY: self.name}}).encode()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End; requests that are under way come to their end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _handler(teller: NameTeller, driver: Path) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def address_string(self) -> str:
            return "engine"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has
            """Say nothing."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with contextlib.closing(UnixConnection(driver)) as connection:
                kind = {"Content-Type": self.headers.get("Content-Type", "")}
                connection.request("POST", self.path, teller.told(self.path, body), kind)
                response = connection.getresponse()
                answer = response.read()
            self.send_response(response.status)
            for name in ("Content-Type",):
                self.send_header(name, response.headers.get(name, ""))
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    return Handler
