"""The page's stream of server-sent events, as a browser of a host gets it."""

import http.client
import json
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from lab.hosts import Host
from lab.process import wait_until
from lab.speed import patience


class PageEvents:
    """Everything that one host's page told since it was opened, read by a thread. Use as a context manager."""

    def __init__(self, host: Host, address: str) -> None:
        """Open the stream of the page at `address` (HOST:PORT) of a host; returns when changes of all hosts are told.

        Raises:
            LabError: the watches of the store did not open.
        """
        connection = http.client.HTTPConnection(address, timeout=patience(60))
        with host.in_network():
            connection.connect()
        self._socket: socket.socket = connection.sock
        connection.request("GET", "/api/events")
        self._stream = connection.getresponse()
        self._live = self._is_closing = False
        self._hosts: dict[str, str] = {}
        self._problems: dict[str, list[str]] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        try:
            wait_until(lambda: self._live, "the watches of the page", seconds=30)
        except BaseException:
            self.close()
            raise

    def host_of(self, address: str) -> str:
        """Name of the host whose container has an address, as told last; "" if none was, or it is free again."""
        return self._hosts.get(address, "")

    def problems_of(self, host: str) -> list[str]:
        """Problems in the latest report of a host; [] if none came."""
        return self._problems.get(host, [])

    def close(self) -> None:
        """End the stream."""
        self._is_closing = True
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._stream.close()
        self._socket.close()

    def __enter__(self) -> Self:
        """Nothing to do: it reads since it was made."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _read(self) -> None:
        try:
            self._take_all()
        except (OSError, http.client.HTTPException):
            if not self._is_closing:  # the server may be telling something as we close, and its kernel resets that
                raise

    def _take_all(self) -> None:
        name = ""
        for line in iter(self._stream.readline, b""):
            name = line[7:].decode().strip() if line.startswith(b"event: ") else name
            if line.startswith(b"data: "):
                self._take(name, json.loads(line[6:]))

    def _take(self, name: str, data: Mapping[str, Any]) -> None:
        if name == "hello":
            self._live |= data["live"]
        elif name == "report":
            self._problems[data["name"]] = data["problems"]
        elif name == "addresses":
            for each in data["gone"]:
                self._hosts.pop(each["address"], None)
            for each in data["put"]:
                if each["kind"] == "endpoint":
                    self._hosts[each["address"]] = each["host"]
