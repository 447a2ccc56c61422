"""Docker's API by HTTP in memory: fixed answers by path, and a record of what was asked for."""

import json
from collections.abc import AsyncIterator
from typing import Any

from testkit.fake_http import HttpCall, HttpReply


class FakeDockerApi:
    """Give `answer` to an `HttpServer`. Paths are without the version, of which the engine takes those from
    `oldest` to `newest`.

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
        self.oldest, self.newest = "1.24", "1.52"

    async def answer(self, call: HttpCall) -> HttpReply:
        """One request."""
        if call.path == "/version":  # without a version: who asks does not know which to speak
            return _reply(200, {"ApiVersion": self.newest, "MinAPIVersion": self.oldest})
        version, _, rest = call.path.removeprefix("/").partition("/")
        path = f"/{rest}"
        self.versions.add(version)
        if refusal := self._refusal(version.removeprefix("v")):
            return _reply(400, {"message": refusal})
        if path == "/events" and path not in self.found:
            return HttpReply(pieces=self._stream())
        if call.method == "GET":
            if path not in self.found:
                return _reply(404, {"message": f"no such object: {path}"})
            value = self.found[path]
            return _reply(*value) if isinstance(value, tuple) else _reply(200, value)
        self.asked.append((call.method, path, json.loads(call.body or b"null")))
        status, answer = self.done.get((call.method, path), (404, {"message": "no such network"}))
        return _reply(status, answer) if answer is not None else HttpReply(status)

    def _refusal(self, version: str) -> str:
        if _numbers(version) < _numbers(self.oldest):
            text = f"client version {version} is too old. Minimum supported API version is {self.oldest}"
            return f"{text}, please upgrade your client to a newer version"
        if _numbers(version) > _numbers(self.newest):
            return f"client version {version} is too new. Maximum supported API version is {self.newest}"
        return ""

    async def _stream(self) -> AsyncIterator[bytes]:
        for each in self.events:
            yield json.dumps(each).encode() + b"\n"


def _reply(status: int, answer: Any) -> HttpReply:
    return HttpReply(status, json.dumps(answer).encode())


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
