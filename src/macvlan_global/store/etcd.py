"""etcd 3.4 and later as a cluster store, over its JSON gateway.

A key is a key of etcd below the prefix, a revision is its `mod_revision`. What decides a race is one transaction that
compares that revision, so a write that was done and asked for again does nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess, StoreUrl, tls_context
from macvlan_global.store.endpoints import (
    BULK,
    Answer,
    AnswerLost,
    Endpoints,
    NotAsked,
    Refused,
    Request,
    deleted_by_somebody,
)
from macvlan_global.store.ports import Batch, Entry, Lease

T = TypeVar("T")

PAGE = 10_000
"""Keys of one answer of a scan. All pages are read at the revision of the first."""

OK, BAD_REQUEST, UNAUTHORIZED, NOT_FOUND = 200, 400, 401, 404


class _Header(msgspec.Struct, frozen=True):
    cluster_id: int = 0
    revision: int = 0
    raft_term: int = 0


class _Pair(msgspec.Struct):
    key: bytes
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class _Range(msgspec.Struct):
    header: _Header
    kvs: list[_Pair] = []
    more: bool = False


class _Response(msgspec.Struct):
    response_range: _Range | None = None


class _Txn(msgspec.Struct):
    header: _Header
    succeeded: bool = False
    responses: list[_Response] = []


class _Granted(msgspec.Struct):
    id: int = msgspec.field(name="ID", default=0)


class _Kept(msgspec.Struct):
    ttl: int = msgspec.field(name="TTL", default=0)


class _KeptAlive(msgspec.Struct):
    result: _Kept | None = None


class _Token(msgspec.Struct):
    token: str = ""


class _Status(msgspec.Struct):
    leader: int = 0


class _Event(msgspec.Struct):
    kv: _Pair
    type: str = "PUT"


class _Watched(msgspec.Struct):
    header: _Header = _Header()
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: int = 0
    events: list[_Event] = []


class _WatchLine(msgspec.Struct):
    result: _Watched | None = None


class EtcdStore:
    """See `macvlan_global.store.ports.ClusterStore`. Made by `open_cluster_store`."""

    def __init__(self, url: StoreUrl, access: StoreAccess) -> None:
        """Know where the members are; nothing is asked yet.

        Raises:
            Invalid: a file of certificates cannot be used.
        """
        self._root = f"{url.prefix}/".encode()
        self._user, self._password = access.user, access.password
        self._token = ""
        self._renewing = asyncio.Lock()
        pulse = Request("POST", "/v3/maintenance/status", b"{}")
        self._endpoints = Endpoints(url.endpoints, tls_context(access) if url.tls else None, pulse, _has_leader)

    # --- keys

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        async with self._endpoints.operation() as until:
            pair = await self._endpoints.read(lambda until: self._pair(key, until), until)
            return self._entry(pair) if pair else None

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return (await self._whole(prefix))[0]

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._create(key, value, 0)

    async def create_with(self, lease: Lease, key: str, value: bytes) -> Entry | None:
        """See `ClusterStore.create_with`."""
        if not isinstance(lease, EtcdLease):
            raise TypeError(f"{lease!r} is a lease of another store")
        return await self._create(key, value, lease.id)

    async def _create(self, key: str, value: bytes, lease: int) -> Entry | None:
        name = self._name(key)
        body = {
            "compare": [{"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": 0}],
            "success": [{"request_put": {"key": name, "value": value, "lease": lease}}],
            "failure": [{"request_range": {"key": name}}],
        }

        def ours(pair: _Pair | None) -> Entry | None:
            # no two writes of different hosts have the same value: it names the host, the run and the time
            return self._entry(pair) if pair and (pair.value, pair.lease) == (value, lease) else None

        repeated = False

        async def ask(until: float) -> Entry | None:
            nonlocal repeated
            again, repeated = repeated, True
            done = await self._post("/v3/kv/txn", body, _Txn, until)
            if done.succeeded:
                return Entry(key, value, done.header.revision)
            there = done.responses[0].response_range if done.responses else None
            return ours(there.kvs[0]) if again and there and there.kvs else None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._pair(key, until)
            return (ours(pair),) if pair else None

        async with self._endpoints.operation() as until:
            return await self._endpoints.write(ask, settle, until)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        put = {"key": self._name(entry.key), "value": value, "ignore_lease": True}

        async def ask(until: float) -> Entry | None:
            done = await self._post("/v3/kv/txn", self._if_current(entry, {"request_put": put}), _Txn, until)
            return Entry(entry.key, value, done.header.revision) if done.succeeded else None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._pair(entry.key, until)
            if pair and pair.mod_revision == entry.revision:
                return None
            return (self._entry(pair) if pair and pair.value == value else None,)

        async with self._endpoints.operation() as until:
            return await self._endpoints.write(ask, settle, until)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        body = self._if_current(entry, {"request_delete_range": {"key": self._name(entry.key)}})

        async def ask(until: float) -> bool:
            return (await self._post("/v3/kv/txn", body, _Txn, until)).succeeded

        async def settle(until: float) -> tuple[bool] | None:
            pair = await self._pair(entry.key, until)
            if pair and pair.mod_revision == entry.revision:
                return None
            raise deleted_by_somebody(entry)

        async with self._endpoints.operation() as until:
            return await self._endpoints.write(ask, settle, until)

    def _if_current(self, entry: Entry, operation: dict[str, Any]) -> dict[str, Any]:
        name = self._name(entry.key)
        same = {"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": entry.revision}
        return {"compare": [same], "success": [operation]}

    async def _pair(self, key: str, until: float) -> _Pair | None:
        found = await self._post("/v3/kv/range", {"key": self._name(key)}, _Range, until)
        return found.kvs[0] if found.kvs else None

    async def _scan(self, prefix: str, until: float) -> tuple[list[Entry], _Header]:
        """All entries below a prefix, and the header that says at which revision."""
        start, end = self._bounds(prefix)
        entries: list[Entry] = []
        header: _Header | None = None
        while True:
            body = {"key": start, "range_end": end, "limit": PAGE, "revision": header.revision if header else 0}
            # while pages come, the store answers: the time of an operation is that of one page
            until = max(until, asyncio.get_running_loop().time() + BULK / 10)
            answer = await self._authorized("/v3/kv/range", body, until)
            if answer.status == BAD_REQUEST and header:
                raise AnswerLost("history was compacted between two pages")
            page = _decode(_checked(answer).body, _Range)
            header = header or page.header
            entries += [self._entry(pair) for pair in page.kvs]
            if not page.more:
                return entries, header
            start = page.kvs[-1].key + b"\0"

    def _name(self, key: str) -> bytes:
        return self._root + key.encode()

    def _entry(self, pair: _Pair) -> Entry:
        return Entry(self._key(pair), pair.value, pair.mod_revision)

    def _key(self, pair: _Pair) -> str:
        return pair.key[len(self._root) :].decode()

    def _bounds(self, prefix: str) -> tuple[bytes, bytes]:
        """The first name below a prefix, and the first one after all of them."""
        start = self._name(prefix)
        return start, start[:-1] + bytes([start[-1] + 1])  # text in UTF-8 never ends with the byte 255

    # --- leases

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""

        async def ask(until: float) -> Lease:
            granted = await self._post("/v3/lease/grant", {"TTL": max(1, round(seconds))}, _Granted, until)
            return EtcdLease(self, granted.id)

        async with self._endpoints.operation() as until:
            # one that was granted without our knowledge lapses
            return await self._endpoints.read(ask, until)

    async def renew(self, lease: "EtcdLease") -> bool:
        """For `EtcdLease`."""

        async def ask(until: float) -> bool:
            kept = await self._post("/v3/lease/keepalive", {"ID": lease.id}, _KeptAlive, until)
            if kept.result is None:  # an error within an answer that had begun
                raise AnswerLost("etcd could not renew a lease")
            return kept.result.ttl > 0

        async with self._endpoints.operation() as until:
            return await self._endpoints.read(ask, until)

    async def end(self, lease: "EtcdLease") -> None:
        """For `EtcdLease`."""

        async def ask(until: float) -> None:
            answer = await self._authorized("/v3/lease/revoke", {"ID": lease.id}, until)
            if answer.status != NOT_FOUND:
                _checked(answer)

        async with self._endpoints.operation() as until:
            await self._endpoints.read(ask, until)

    # --- watches

    async def watch(self, prefix: str) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`."""
        seen: _Header | None = None
        lost_since = 0.0
        refused = 0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if seen is None or await self._is_another_past(seen):
                    entries, seen = await self._whole(prefix)
                    yield Batch(True, tuple(entries))
                async with contextlib.aclosing(self._watched(prefix, seen)) as told:
                    async for watched in told:
                        lost_since, refused = 0.0, 0
                        if watched.events:
                            last = watched.events[-1].kv.mod_revision
                            seen = msgspec.structs.replace(watched.header, revision=last)
                            yield self._batch(watched.events)
                seen = None  # what we have not seen is forgotten there
            except Refused as error:
                if (refused := refused + 1) > 1:
                    raise Unavailable(f"etcd refuses a watch: {error}") from error
                self._token = ""  # it may have been too old
            except (NotAsked, AnswerLost):
                lost_since = lost_since or loop.time()
                await self._endpoints.regain(lost_since)

    async def _whole(self, prefix: str) -> tuple[list[Entry], _Header]:
        async with self._endpoints.operation() as until:
            return await self._endpoints.read(lambda until: self._scan(prefix, until), until)

    async def _is_another_past(self, seen: _Header) -> bool:
        """Whether the store was restored from an older copy since: its history is not the one that we saw."""
        until = asyncio.get_running_loop().time() + 1.0
        found = await self._post("/v3/kv/range", {"key": self._root, "count_only": True}, _Range, until)
        now = found.header
        return now.cluster_id != seen.cluster_id or now.raft_term < seen.raft_term or now.revision < seen.revision

    async def _watched(self, prefix: str, seen: _Header) -> AsyncGenerator[_Watched, None]:
        """What the store tells of what came after `seen`; ends when that is forgotten.

        Raises:
            Refused: we may not watch, or our token is too old.
        """
        start, end = self._bounds(prefix)
        create = {"key": start, "range_end": end, "start_revision": seen.revision + 1}
        request = await self._request("/v3/watch", {"create_request": create})
        rest = b""
        async with contextlib.aclosing(self._endpoints.stream(request)) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    watched = _decode(line, _WatchLine).result
                    if watched is None or (watched.canceled and not watched.compact_revision):
                        raise Refused(watched.cancel_reason if watched else line.decode(errors="replace")[:300])
                    if watched.canceled:
                        return
                    yield watched

    def _batch(self, events: list[_Event]) -> Batch:
        last: dict[str, Entry | None] = {}
        for event in events:
            key = self._key(event.kv)
            last.pop(key, None)
            last[key] = None if event.type == "DELETE" else self._entry(event.kv)
        changed = tuple(entry for entry in last.values() if entry)
        return Batch(False, changed, tuple(key for key, entry in last.items() if not entry))

    # --- requests

    async def _post(self, path: str, body: object, kind: type[T], until: float) -> T:
        return _decode(_checked(await self._authorized(path, body, until)).body, kind)

    async def _authorized(self, path: str, body: object, until: float) -> Answer:
        """Ask with our token, and with a new one if that is refused."""
        token = self._token
        answer = await self._endpoints.ask(await self._request(path, body), until)
        # 401 is a token that a member does not know (any more), 400 may be one from before users were changed
        if self._user and answer.status in {BAD_REQUEST, UNAUTHORIZED}:
            await self._renew_token(token or self._token)
            answer = await self._endpoints.ask(await self._request(path, body), until)
        return answer

    async def _request(self, path: str, body: object) -> Request:
        if self._user and not self._token:
            await self._renew_token("")
        headers = {"Authorization": self._token} if self._token else None
        return Request("POST", path, msgspec.json.encode(body), headers)

    async def _renew_token(self, refused: str) -> None:
        if not self._user:
            return
        async with self._renewing:
            if self._token == refused:
                body = msgspec.json.encode({"name": self._user, "password": self._password})
                until = asyncio.get_running_loop().time() + 1.0
                answer = await self._endpoints.ask(Request("POST", "/v3/auth/authenticate", body), until)
                if answer.status == OK:
                    self._token = _decode(answer.body, _Token).token
                elif answer.status == BAD_REQUEST:
                    raise Unavailable(f"etcd does not accept user {self._user!r} and its password: {_words(answer)}")
                else:
                    _checked(answer)

    # --- the end

    async def close(self) -> None:
        """See `Store.close`."""
        await self._endpoints.close()


class EtcdLease:
    """See `macvlan_global.store.ports.Lease`."""

    def __init__(self, store: EtcdStore, id: int) -> None:  # noqa: A002 # what etcd calls it
        """Made by `EtcdStore.lease`."""
        self._store = store
        self.id = id

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return await self._store.renew(self)

    async def end(self) -> None:
        """See `Lease.end`."""
        await self._store.end(self)


def _has_leader(answer: Answer) -> bool:
    return answer.status == OK and _decode(answer.body, _Status).leader != 0


def _checked(answer: Answer) -> Answer:
    if answer.status != OK:
        raise Unavailable(f"etcd refuses ({answer.status}): {_words(answer)}")
    return answer


class _Refusal(msgspec.Struct):
    message: str = ""


def _words(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.body, type=_Refusal).message or answer.text
    except msgspec.DecodeError:
        return answer.text


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        # its 64-bit numbers are text in JSON
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.DecodeError as error:
        raise Unavailable(f"etcd answers what cannot be understood ({error}); is it etcd 3.4 or later?") from error
