"""A Consul of one member in memory: its key-value pairs, transactions, sessions and blocking queries.

Held to the contracts of stores like the real one (tests/contract). Sessions end by the loop's clock.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from testkit.fake_http import HttpCall, HttpReply

MOST_STEPS = 64
"""Steps of a transaction."""


@dataclass(frozen=True, slots=True)
class _Pair:
    value: bytes
    index: int
    session: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of the keys of a `FakeConsul`, and the index at which each was written or deleted last."""

    pairs: Mapping[str, _Pair]
    touched: Mapping[str, int]


class _Refused(Exception):
    """An operation of a transaction cannot be done."""


class FakeConsul:
    """Give `answer` to an `HttpServer`. `failing` is a status with which the next requests are answered, 0 for none.
    `before_transaction` happens before each transaction of who comes over HTTP and writes."""

    def __init__(self) -> None:
        """Nothing is stored."""
        self.failing = 0
        self.before_transaction: Callable[[], Awaitable[None]] | None = None
        self._pairs: dict[str, _Pair] = {}
        self._touched: dict[str, int] = {}
        self._sessions: dict[str, tuple[float, float]] = {}
        self._index = 1
        self._made = 0
        self._restores = 0
        self._changed = asyncio.Event()

    async def answer(self, call: HttpCall) -> HttpReply:
        """One request."""
        self._lapse()
        if self.failing:
            return HttpReply(self.failing, b"No cluster leader")
        if call.path == "/v1/status/leader":
            return _reply("127.0.0.1:8300")
        if call.path.startswith("/v1/kv/"):
            return await self._read(call.path.removeprefix("/v1/kv/"), call)
        if call.path == "/v1/txn":
            if self.before_transaction and b"cas" in call.body and call.headers:
                await self.before_transaction()
            return self._transact([each["KV"] for each in json.loads(call.body)])
        if call.path == "/v1/session/create":
            return self._create_session(float(json.loads(call.body)["TTL"].removesuffix("s")))
        action, _, session = call.path.removeprefix("/v1/session/").partition("/")
        return self._renew(session) if action == "renew" else self._destroy(session)

    def names(self) -> list[str]:
        """Names of all keys, in order."""
        return sorted(self._pairs)

    def value_of(self, name: str) -> bytes:
        """The value of a key."""
        return self._pairs[name].value

    def index_of(self, name: str) -> int:
        """The index at which a key was written last, 0 if it is not there."""
        return self._pairs[name].index if name in self._pairs else 0

    def reap_tombstones(self) -> None:
        """Forget what was deleted, as Consul does 15 minutes later: indexes of prefixes may become smaller."""
        self._touched = {name: index for name, index in self._touched.items() if name in self._pairs}

    def save(self) -> Snapshot:
        """A copy of all keys."""
        return Snapshot(dict(self._pairs), dict(self._touched))

    def restore(self, copy: Snapshot) -> None:
        """Put back a copy of all keys, whose indexes are those of then; history itself goes on. Ends what waits."""
        self._pairs, self._touched = dict(copy.pairs), dict(copy.touched)
        self._index += 1
        self._restores += 1
        self._tell()

    async def _read(self, name: str, call: HttpCall) -> HttpReply:
        below = "recurse" in call.query or "keys" in call.query
        if "index" in call.query:
            index_of = partial(self._index_below if below else self._index_of, name)
            await self._wait(index_of, int(call.query["index"]), float(call.query["wait"].removesuffix("s")))
        pairs = {key: pair for key, pair in self._pairs.items() if key == name or (below and key.startswith(name))}
        found = [_shown(key, pair) for key, pair in sorted(pairs.items())]
        headers = {"X-Consul-Index": str(self._index_below(name) if below else self._index_of(name))}
        if "keys" in call.query:
            separator = call.query.get("separator", "")
            ends = {key: key.find(separator, len(name)) + 1 if separator else 0 for key in pairs}
            names = sorted({key[:end] if end else key for key, end in ends.items()})
            return replace(_reply(names), headers=headers) if names else HttpReply(404, b"", headers)
        return replace(_reply(found), headers=headers) if found else HttpReply(404, b"", headers)

    async def _wait(self, index_of: Callable[[], int], index: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until, restores = loop.time() + seconds, self._restores
        while index_of() <= index and restores == self._restores and (left := until - loop.time()) > 0:
            self._changed.clear()
            sessions = [end - loop.time() for _, end in self._sessions.values()]
            try:
                async with asyncio.timeout(max(0.01, min([left, *sessions]))):
                    await self._changed.wait()
            except TimeoutError:
                self._lapse()

    def _index_below(self, name: str) -> int:
        """The index of the last change below a prefix; of the whole store if nothing was ever there."""
        return max((index for key, index in self._touched.items() if key.startswith(name)), default=self._index)

    def _index_of(self, name: str) -> int:
        """The index of the last change of a key; of the whole store if it is not there."""
        return self._pairs[name].index if name in self._pairs else self._index

    def _transact(self, operations: list[dict[str, Any]]) -> HttpReply:
        pairs, index = dict(self._pairs), self._index + 1
        results, errors = [], []
        for number, each in enumerate(operations):
            if each["Verb"] == "get-tree":
                below = sorted(key for key in pairs if key.startswith(each["Key"]))
                results += [{"KV": _shown(key, pairs[key])} for key in below]
                continue
            try:
                pair = self._operate(pairs, each, index)
            except _Refused as error:
                errors.append({"OpIndex": number, "What": str(error)})
                continue
            if pair:
                results.append({"KV": _shown(each["Key"], pair)})
        if errors:
            return _reply({"Results": None, "Errors": errors}, 409)
        if len(operations) > MOST_STEPS:
            return HttpReply(413, b"Transaction contains too many operations")
        if all(each["Verb"] == "get-tree" for each in operations):
            return _reply({"Results": results, "Errors": None})
        for key in pairs.keys() | self._pairs.keys():
            if pairs.get(key) != self._pairs.get(key):
                self._touched[key] = index
        self._pairs, self._index = pairs, index
        self._tell()
        return _reply({"Results": results, "Errors": None})

    def _operate(self, pairs: dict[str, _Pair], operation: dict[str, Any], index: int) -> _Pair | None:
        key, verb, before = operation["Key"], operation["Verb"], pairs.get(operation["Key"])
        if verb == "lock":
            if operation["Session"] not in self._sessions:
                raise _Refused(f"invalid session {operation['Session']!r}")
            pairs[key] = _Pair(base64.b64decode(operation["Value"]), index, operation["Session"])
            return pairs[key]
        if (before.index if before else 0) != operation["Index"]:
            raise _Refused(f"key {key!r}: current modify index differs, index is stale")
        if verb == "cas":
            session = before.session if before else ""
            pairs[key] = _Pair(base64.b64decode(operation["Value"] or ""), index, session)
            return pairs[key]
        if verb == "delete-cas":
            pairs.pop(key, None)
            return None
        return before

    def _create_session(self, seconds: float) -> HttpReply:
        self._made += 1
        name = f"session-{self._made}"
        self._sessions[name] = seconds, asyncio.get_running_loop().time() + seconds
        self._tell()  # whoever waits looks when this one ends
        return _reply({"ID": name})

    def _renew(self, session: str) -> HttpReply:
        if session not in self._sessions:
            return HttpReply(404, f"Session id '{session}' not found".encode())
        seconds, _ = self._sessions[session]
        self._sessions[session] = seconds, asyncio.get_running_loop().time() + seconds
        return _reply([{"ID": session}])

    def _destroy(self, session: str) -> HttpReply:
        self._sessions.pop(session, None)
        held = [key for key, pair in self._pairs.items() if pair.session == session]
        if held:
            self._index += 1
        for key in held:
            del self._pairs[key]
            self._touched[key] = self._index
        self._tell()
        return _reply(True)

    def _lapse(self) -> None:
        now = asyncio.get_running_loop().time()
        for session in [name for name, (_, end) in self._sessions.items() if end <= now]:
            self._destroy(session)

    def _tell(self) -> None:
        self._changed.set()


def _shown(key: str, pair: _Pair) -> dict[str, Any]:
    value = base64.b64encode(pair.value).decode() if pair.value else None
    held = {"Session": pair.session} if pair.session else {}
    return {"Key": key, "Value": value, "ModifyIndex": pair.index, "Flags": 0, **held}


def _reply(answer: object, status: int = 200) -> HttpReply:
    return HttpReply(status, json.dumps(answer).encode())
