"""Consul 1.8 and later as a cluster store: its key-value pairs, sessions and blocking queries.

A key is a pair below the prefix, a revision is its `ModifyIndex`. What decides a race is one transaction with
check-and-set, so a write that was done and asked for again does nothing. A lease is a session without node checks: it
ends by its TTL only, and deletes its keys.

Consul tells nobody what changed: whoever waits for a prefix gets all of it again. A watch compares.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any, TypeVar
from urllib.parse import quote, unquote

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess, StoreUrl, tls_context
from macvlan_global.store.endpoints import Answer, AnswerLost, Endpoints, NotAsked, Request, deleted_by_somebody
from macvlan_global.store.ports import Batch, Entry, Lease

T = TypeVar("T")

WAIT = 300
"""Seconds that Consul may keep a watch waiting for news. It then sends everything again, so: long."""

OK, NOT_FOUND, CONFLICT = 200, 404, 409

# lower case on purpose: aiohttp sends a "PUT" a second time by itself if the connection breaks, and we must know of it
_PUT = "put"

# What a path must not hold: Consul's HTTP server takes `//`, `/./` and `/../` together.
_UNSAFE = re.compile(r"%|(?<=/)[/.]")


class _Pair(msgspec.Struct, rename="pascal"):
    key: str
    value: bytes | None = None
    modify_index: int = 0
    session: str = ""


class _Result(msgspec.Struct):
    kv: _Pair | None = msgspec.field(name="KV", default=None)


class _Txn(msgspec.Struct, rename="pascal"):
    results: list[_Result] | None = None


class _Session(msgspec.Struct):
    id: str = msgspec.field(name="ID")


class ConsulStore:
    """See `macvlan_global.store.ports.ClusterStore`. Made by `open_cluster_store`."""

    def __init__(self, url: StoreUrl, access: StoreAccess) -> None:
        """Know where the members are; nothing is asked yet.

        Raises:
            Invalid: a file of certificates cannot be used.
        """
        self._root = f"{url.prefix}/"
        self._headers = {"X-Consul-Token": access.token} if access.token else None
        pulse = Request("GET", "/v1/status/leader")
        self._endpoints = Endpoints(url.endpoints, tls_context(access) if url.tls else None, pulse, _has_leader)

    # --- keys

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        async with self._endpoints.operation() as until:
            pair = await self._endpoints.read(lambda until: self._pair(key, until), until)
            return self._entry(pair) if pair else None

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        request = self._read_request(prefix, "recurse&consistent", bulk=True)
        async with self._endpoints.operation() as until:
            answer = await self._endpoints.read(lambda until: self._endpoints.ask(request, until), until)
            return self._entries(answer)

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._create(key, value, "")

    async def create_with(self, lease: Lease, key: str, value: bytes) -> Entry | None:
        """See `ClusterStore.create_with`."""
        if not isinstance(lease, ConsulLease):
            raise TypeError(f"{lease!r} is a lease of another store")
        return await self._create(key, value, lease.id)

    async def _create(self, key: str, value: bytes, session: str) -> Entry | None:
        name = self._name(key)
        operations = [{"Verb": "cas", "Key": name, "Value": value, "Index": 0}]
        if session:
            operations.append({"Verb": "lock", "Key": name, "Value": value, "Session": session})

        async def ask(until: float) -> Entry | None:
            answer = await self._txn(operations, until)
            if answer.status == OK:
                return self._written(key, value, answer)
            # somebody was faster, or we ourselves were, if an answer was lost; or Consul has another reason
            settled = await settle(until)
            if settled is None:
                raise _refused(answer)
            return settled[0]

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._pair(key, until)
            # no two writes of different hosts have the same value: it names the host, the run and the time
            ours = pair and (pair.value or b"", pair.session) == (value, session)
            return (self._entry(pair) if pair and ours else None,) if pair else None

        async with self._endpoints.operation() as until:
            return await self._endpoints.write(ask, settle, until)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        operation = {"Verb": "cas", "Key": self._name(entry.key), "Value": value, "Index": entry.revision}

        async def ask(until: float) -> Entry | None:
            answer = await self._txn([operation], until)
            if answer.status == OK:
                return self._written(entry.key, value, answer)
            await self._check_changed(entry, answer, until)
            return None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._pair(entry.key, until)
            if pair and pair.modify_index == entry.revision:
                return None
            return (self._entry(pair) if pair and (pair.value or b"") == value else None,)

        async with self._endpoints.operation() as until:
            return await self._endpoints.write(ask, settle, until)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        # check-index too: deleting what is not there is no error for delete-cas
        operations = [
            {"Verb": verb, "Key": self._name(entry.key), "Index": entry.revision}
            for verb in ("check-index", "delete-cas")
        ]

        async def ask(until: float) -> bool:
            answer = await self._txn(operations, until)
            if answer.status == OK:
                return True
            await self._check_changed(entry, answer, until)
            return False

        async def settle(until: float) -> tuple[bool] | None:
            pair = await self._pair(entry.key, until)
            if pair and pair.modify_index == entry.revision:
                return None
            raise deleted_by_somebody(entry)

        async with self._endpoints.operation() as until:
            return await self._endpoints.write(ask, settle, until)

    async def _check_changed(self, entry: Entry, answer: Answer, until: float) -> None:
        """A refused transaction says why only in words: see whether it is what we expect.

        Raises:
            Unavailable: it is not.
        """
        pair = await self._pair(entry.key, until)
        if pair and pair.modify_index == entry.revision:
            raise _refused(answer)

    async def _pair(self, key: str, until: float) -> _Pair | None:
        answer = await self._endpoints.ask(self._read_request(key, "consistent"), until)
        if answer.status == NOT_FOUND:
            return None
        return _decode(_checked(answer).body, list[_Pair])[0]

    async def _txn(self, operations: list[dict[str, Any]], until: float) -> Answer:
        """All of them or none; status 409 says that none was done."""
        body = msgspec.json.encode([{"KV": operation} for operation in operations])
        answer = await self._endpoints.ask(Request(_PUT, "/v1/txn", body, self._headers), until)
        return answer if answer.status == CONFLICT else _checked(answer)

    def _written(self, key: str, value: bytes, answer: Answer) -> Entry:
        results = _decode(answer.body, _Txn).results
        if not results or not (pair := results[-1].kv):
            raise Unavailable("Consul answers what cannot be understood: no result; is it Consul 1.8 or later?")
        return Entry(key, value, pair.modify_index)

    # --- names

    def _name(self, key: str) -> str:
        """What a key is called in Consul. What a path cannot hold is escaped; prefixes stay prefixes."""
        return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", self._root + key)

    def _key(self, name: str) -> str:
        return unquote(name, errors="strict")[len(self._root) :]

    def _read_request(self, key: str, options: str, *, bulk: bool = False) -> Request:
        path = f"/v1/kv/{quote(self._name(key), safe='/')}?{options}"
        return Request("GET", path, headers=self._headers, bulk=bulk)

    def _entry(self, pair: _Pair) -> Entry:
        return Entry(self._key(pair.key), pair.value or b"", pair.modify_index)

    def _entries(self, answer: Answer) -> list[Entry]:
        if answer.status == NOT_FOUND:
            return []
        pairs = _decode(_checked(answer).body, list[_Pair])
        return sorted((self._entry(pair) for pair in pairs), key=lambda entry: entry.key)

    # --- leases

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""
        session = {
            "Name": "macvlan-global",
            "TTL": f"{seconds:g}s",
            "Behavior": "delete",
            "LockDelay": "0s",
            # a lease ends by its time only: what Consul thinks of the agent that we ask must not matter
            "NodeChecks": [],
            "ServiceChecks": [],
        }
        request = Request(_PUT, "/v1/session/create", msgspec.json.encode(session), self._headers)

        async def ask(until: float) -> Lease:
            answer = _checked(await self._endpoints.ask(request, until))
            return ConsulLease(self, _decode(answer.body, _Session).id)

        async with self._endpoints.operation() as until:
            # one that was made without our knowledge lapses
            return await self._endpoints.read(ask, until)

    async def renew(self, lease: "ConsulLease") -> bool:
        """For `ConsulLease`."""
        answer = await self._of_session("renew", lease)
        if answer.status != NOT_FOUND:
            _checked(answer)
        return answer.status == OK

    async def end(self, lease: "ConsulLease") -> None:
        """For `ConsulLease`."""
        _checked(await self._of_session("destroy", lease))

    async def _of_session(self, action: str, lease: "ConsulLease") -> Answer:
        request = Request(_PUT, f"/v1/session/{action}/{lease.id}", headers=self._headers)
        async with self._endpoints.operation() as until:
            return await self._endpoints.read(lambda until: self._endpoints.ask(request, until), until)

    # --- watches

    async def watch(self, prefix: str) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`."""
        async with self._endpoints.operation() as until:
            request = self._read_request(prefix, "recurse&consistent", bulk=True)
            answer = await self._endpoints.read(lambda until: self._endpoints.ask(request, until), until)
        known = {entry.key: entry for entry in self._entries(answer)}
        index = _index(answer)
        yield Batch(True, tuple(known.values()))
        while True:
            answer = await self._next(prefix, index)
            new = {entry.key: entry for entry in self._entries(answer)}
            # an index that goes back: restored from an older copy
            went_back = _index(answer) < index
            batch = Batch(True, tuple(new.values())) if went_back else _difference(known, new)
            known, index = new, _index(answer)
            if batch.whole or batch.entries or batch.gone:
                yield batch

    async def _next(self, prefix: str, index: int) -> Answer:
        """The prefix as it is after something changed in it, or after a long time."""
        request = self._read_request(prefix, f"recurse&consistent&index={index}&wait={WAIT}s")
        loop = asyncio.get_running_loop()
        lost_since = 0.0
        while True:
            try:
                # Consul adds up to a sixteenth to the time
                return _found(await self._endpoints.long(request, WAIT * 1.2))
            except (NotAsked, AnswerLost):
                lost_since = lost_since or loop.time()
                await self._endpoints.regain(lost_since)

    # --- the end

    async def close(self) -> None:
        """See `Store.close`."""
        await self._endpoints.close()


class ConsulLease:
    """See `macvlan_global.store.ports.Lease`."""

    def __init__(self, store: ConsulStore, id: str) -> None:  # noqa: A002 # what Consul calls it
        """Made by `ConsulStore.lease`."""
        self._store = store
        self.id = id

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return await self._store.renew(self)

    async def end(self) -> None:
        """See `Lease.end`."""
        await self._store.end(self)


def _difference(known: dict[str, Entry], new: dict[str, Entry]) -> Batch:
    changed = tuple(entry for key, entry in new.items() if known.get(key) != entry)
    return Batch(False, changed, tuple(key for key in known if key not in new))


def _index(answer: Answer) -> int:
    try:
        return max(1, int(answer.headers.get("X-Consul-Index", "1")))  # 0 would not wait
    except ValueError:
        return 1


def _has_leader(answer: Answer) -> bool:
    return answer.status == OK and answer.body.strip() not in {b"", b'""'}


def _found(answer: Answer) -> Answer:
    return answer if answer.status == NOT_FOUND else _checked(answer)


def _checked(answer: Answer) -> Answer:
    if answer.status != OK:
        raise _refused(answer)
    return answer


def _refused(answer: Answer) -> Unavailable:
    return Unavailable(f"Consul refuses ({answer.status}): {answer.text}")


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Unavailable(f"Consul answers what cannot be understood ({error}); is it Consul 1.8 or later?") from error
