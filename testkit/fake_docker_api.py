"""Docker's API by HTTP in memory: fixed answers by path, and a record of what was asked for."""

import json
from collections.abc import AsyncIterator
from typing import Any

from testkit.fake_http import HttpCall, HttpReply


class FakeDockerApi:
    """Give `answer` to an `HttpServer`. Paths are without the version.

    `found` are the answers of `GET` by path, what is not in it is 404; `done` are status and answer of other requests,
    by method and path. `asked` keeps method, path and body of each request but `GET`, `events` are the lines of the
    stream, which then ends.
    """

    def __init__(self, **found: Any) -> None:
        """An engine without networks and containers; `found` by name of the first part of the path."""
        info = {
            "ServerVersion": "28.5.2",
            "OperatingSystem": "Debian",
            "Plugins": {"Network": ["bridge", "macvlan-global"]},
            "Swarm": {"LocalNodeState": "inactive"},
            "LiveRestoreEnabled": True,
            "Labels": ["zone=a"],
        }
        self.found: dict[str, Any] = {"/info": info, "/networks": [], "/plugins": [], "/containers/json": []}
        self.found |= {f"/{name}": value for name, value in found.items()}
        self.done: dict[tuple[str, str], tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.versions: set[str] = set()
        self.events: list[dict[str, Any]] = []

    async def answer(self, call: HttpCall) -> HttpReply:
        """One request."""
        version, _, rest = call.path.removeprefix("/").partition("/")
        path = f"/{rest}"
        self.versions.add(version)
        if path == "/events":
            return HttpReply(pieces=self._stream())
        if call.method == "GET":
            if path not in self.found:
                return _reply(404, {"message": f"no such object: {path}"})
            value = self.found[path]
            return _reply(*value) if isinstance(value, tuple) else _reply(200, value)
        self.asked.append((call.method, path, json.loads(call.body or b"null")))
        status, answer = self.done.get((call.method, path), (404, {"message": "no such network"}))
        return _reply(status, answer) if answer is not None else HttpReply(status)

    async def _stream(self) -> AsyncIterator[bytes]:
        for each in self.events:
            yield json.dumps(each).encode() + b"\n"


def _reply(status: int, answer: Any) -> HttpReply:
    return HttpReply(status, json.dumps(answer).encode())
