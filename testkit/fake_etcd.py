"""An etcd of one member in memory, by its JSON gateway: keys, transactions, leases and watches.

Held to the contracts of stores like the real one (tests/contract). Leases end by the loop's clock.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from testkit.fake_http import HttpCall, HttpReply


@dataclass(frozen=True, slots=True)
class _Pair:
    value: bytes
    revision: int
    lease: int = 0


class _Refused(Exception):
    """A lease has ended."""


class FakeEtcd:
    """Give `answer` to an `HttpServer`.

    With `user` and `password` set, who shows no token is refused, and nobody is root; `forget_tokens` makes those given
    out invalid. `has_leader` is for what needs one: reads, writes and new watches.
    """

    def __init__(self, user: str = "", password: str = "") -> None:
        """Nothing is stored."""
        self.has_leader = True
        self._login = {"name": user, "password": password}
        self._token = 0
        self._pairs: dict[bytes, _Pair] = {}
        self._history: list[tuple[int, bytes, _Pair | None]] = []
        self._leases: dict[int, tuple[float, float]] = {}
        self._revision = 1
        self._made = 0
        self._changed = asyncio.Event()
        self._compacted = 0
        self._watches = 0  # those that began before are ended when this grows
        self._progress = 0

    def compact(self) -> None:
        """Forget all history up to now."""
        self._compacted = self._revision

    def end_watches(self) -> None:
        """End the answers of all watches, as when a member stops."""
        self._watches += 1
        self._changed.set()

    def tell_progress(self) -> None:
        """Tell the watches that want it up to where they were told everything, as etcd does every ten minutes."""
        self._progress += 1
        self._changed.set()

    def forget_tokens(self) -> None:
        """Every token that was given out is too old."""
        self._token += 1

    async def answer(self, call: HttpCall) -> HttpReply:
        """One request."""
        self._lapse()
        body = json.loads(call.body)
        if call.path == "/v3/maintenance/status":
            return self._status()
        if not self.has_leader:  # which etcd looks for before it looks at the token
            return _reply({"message": "etcdserver: no leader"}, 503)
        if call.path == "/v3/auth/authenticate":
            return self._authenticate(body)
        if self._login["name"] and call.headers.get("authorization") != f"token{self._token}":
            return _reply({"message": "invalid auth token"}, 401)
        return self._permitted(call.path, body)

    def _status(self) -> HttpReply:
        """As etcd from 3.6.0 on: with users, for root only."""
        if self._login["name"]:
            return _reply({"message": "etcdserver: permission denied"}, 403)
        return _reply({"leader": "1" if self.has_leader else "0"})

    def _permitted(self, path: str, body: dict[str, Any]) -> HttpReply:
        if path == "/v3/watch":
            return HttpReply(pieces=self._watch(body["create_request"]))
        if path == "/v3/kv/txn":
            return self._transact(body)
        if path.startswith("/v3/lease/"):
            return self._of_lease(path.removeprefix("/v3/lease/"), body)
        return _reply(self._range(body))

    def _authenticate(self, login: dict[str, str]) -> HttpReply:
        if login != self._login:
            return _reply({"message": "authentication failed, invalid user ID or password"}, 400)
        return _reply({"token": f"token{self._token}"})

    def _range(self, body: dict[str, Any]) -> dict[str, Any]:
        start, end = base64.b64decode(body["key"]), base64.b64decode(body.get("range_end") or "")
        at = body.get("revision") or self._revision
        pairs = self._pairs if at == self._revision else self._as_of(at)
        names = sorted(name for name in pairs if (start <= name < end if end else name == start))
        limit = body.get("limit") or len(names)
        shown = [] if body.get("count_only") else [_shown(name, pairs[name]) for name in names[:limit]]
        return {"header": self._header(), "kvs": shown, "more": len(names) > limit, "count": str(len(names))}

    def _as_of(self, revision: int) -> dict[bytes, _Pair]:
        pairs: dict[bytes, _Pair] = {}
        for at, name, pair in self._history:
            if at <= revision:
                pairs.pop(name, None)
                pairs |= {name: pair} if pair else {}
        return pairs

    def _transact(self, body: dict[str, Any]) -> HttpReply:
        pairs, revision = dict(self._pairs), self._revision + 1
        try:
            done = self._run(pairs, body, revision)
        except _Refused as error:
            return _reply({"message": str(error)}, 404)
        changed = [name for name in {**self._pairs, **pairs} if pairs.get(name) != self._pairs.get(name)]
        if changed:
            self._revision = revision
            self._history += [(revision, name, pairs.get(name)) for name in changed]
            self._pairs = pairs
            self._changed.set()
        return _reply({**done, "header": self._header()})

    def _run(self, pairs: dict[bytes, _Pair], body: dict[str, Any], revision: int) -> dict[str, Any]:
        """A transaction, and those within it. Comparisons see what was there before any of them."""
        for each in body.get("compare", ()):
            before = self._pairs.get(base64.b64decode(each["key"]))
            if (before.revision if before else 0) != each["mod_revision"]:
                return {"succeeded": False, "responses": []}
        responses = []
        for step in body["success"]:
            if inner := step.get("request_txn"):
                responses.append({"response_txn": self._run(pairs, inner, revision)})
            elif put := step.get("request_put"):
                self._put(pairs, put, revision)
                responses.append({"response_put": {}})
            else:
                pairs.pop(base64.b64decode(step["request_delete_range"]["key"]), None)
                responses.append({"response_delete_range": {}})
        return {"succeeded": True, "responses": responses}

    def _put(self, pairs: dict[bytes, _Pair], put: dict[str, Any], revision: int) -> None:
        name, lease = base64.b64decode(put["key"]), put.get("lease", 0)
        if put.get("ignore_lease"):
            lease = pairs[name].lease
        if lease and lease not in self._leases:
            raise _Refused("etcdserver: requested lease not found")
        pairs[name] = _Pair(base64.b64decode(put.get("value") or ""), revision, lease)

    def _of_lease(self, action: str, body: dict[str, Any]) -> HttpReply:
        now = asyncio.get_running_loop().time()
        if action == "grant":
            self._made += 1
            self._leases[self._made] = body["TTL"], now + body["TTL"]
            self._changed.set()  # whoever waits looks when this one ends
            return _reply({"ID": str(self._made), "TTL": str(body["TTL"])})
        lease = body["ID"]
        if action == "revoke":
            known = lease in self._leases
            self._end(lease)
            return _reply({}) if known else _reply({"message": "requested lease not found"}, 404)
        seconds, _ = self._leases.get(lease, (0.0, 0.0))
        if seconds:
            self._leases[lease] = seconds, now + seconds
        return _reply({"result": {"ID": str(lease), "TTL": str(int(seconds))}})

    def _end(self, lease: int) -> None:
        self._leases.pop(lease, None)
        held = [name for name, pair in self._pairs.items() if pair.lease == lease]
        if held:
            self._revision += 1
        for name in held:
            del self._pairs[name]
            self._history.append((self._revision, name, None))
        self._changed.set()

    def _lapse(self) -> None:
        now = asyncio.get_running_loop().time()
        for lease in [each for each, (_, end) in self._leases.items() if end <= now]:
            self._end(lease)

    async def _watch(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        start, end = base64.b64decode(body["key"]), base64.b64decode(body["range_end"])
        told = body["start_revision"] - 1
        began, progress = self._watches, self._progress
        yield _line({"header": self._header(), "created": True})
        if body["start_revision"] < self._compacted:
            yield _line({"header": self._header(), "canceled": True, "compact_revision": str(self._compacted)})
            return
        while self._watches == began:
            news = [each for each in self._history if each[0] > told and start <= each[1] < end]
            told = self._revision
            if news:
                yield _line({"header": self._header(), "events": [_event(*each) for each in news]})
            elif self._progress != progress and body.get("progress_notify"):
                yield _line({"header": self._header()})
            progress = self._progress
            await self._wait()

    async def _wait(self) -> None:
        """Until something may have changed, which the end of a lease does."""
        changed, now = self._changed, asyncio.get_running_loop().time()
        soonest = min((until - now for _, until in self._leases.values()), default=3600.0)
        try:
            async with asyncio.timeout(max(0.01, soonest)):
                await changed.wait()
            await asyncio.sleep(0)
        except TimeoutError:
            self._lapse()
        changed.clear()

    def _header(self) -> dict[str, str]:
        return {"cluster_id": "1", "member_id": "1", "revision": str(self._revision), "raft_term": "2"}


def _event(revision: int, name: bytes, pair: _Pair | None) -> dict[str, Any]:
    if pair is None:
        return {"type": "DELETE", "kv": {"key": base64.b64encode(name).decode(), "mod_revision": str(revision)}}
    return {"kv": _shown(name, pair)}


def _shown(name: bytes, pair: _Pair) -> dict[str, Any]:
    shown = {"key": base64.b64encode(name).decode(), "value": base64.b64encode(pair.value).decode()}
    return {**shown, "mod_revision": str(pair.revision), "lease": str(pair.lease)}


def _line(watched: dict[str, Any]) -> bytes:
    return json.dumps({"result": watched}).encode() + b"\n"


def _reply(answer: object, status: int = 200) -> HttpReply:
    return HttpReply(status, json.dumps(answer).encode())
