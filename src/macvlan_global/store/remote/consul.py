"""Consul 1.8 and later as a cluster store: its key-value pairs, sessions and blocking queries.

A key is a pair below the prefix, a revision is its `ModifyIndex`. What decides a race is one transaction with
check-and-set, so a write that was done and asked for again does nothing. A lease is a session without node checks: it
ends by its TTL only, and deletes its keys.

Consul tells nobody what changed: whoever waits for a prefix gets all of it again. A watch compares.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess, StoreUrl, tls_context
from macvlan_global.store.ports import Batch, Entry, Lease
from macvlan_global.store.remote.batching import Batcher
from macvlan_global.store.remote.consul_messages import (
    BAD_REQUEST,
    CONFLICT,
    NOT_FOUND,
    OK,
    ConsulPair,
    ConsulTxn,
    Result,
    Session,
    checked,
    decode,
    found,
    has_leader,
    index_of,
    is_folder,
    refused,
)
from macvlan_global.store.remote.members import (
    BULK,
    Answer,
    AnswerLost,
    HealthCheck,
    Members,
    NotAsked,
    OpenSession,
    Request,
    deleted_by_somebody,
)

WAIT = 300
"""Seconds that Consul may keep a watch waiting for news. It then sends everything again, so: long."""

PACE = 10e6
"""Bytes that a watch reads in a second at most: with much below its prefix, what changes soon after waits for that."""

AT_ONCE = 5_000
"""Keys of an answer that are taken apart before the event loop gets its turn: some milliseconds."""

# lower case on purpose: aiohttp sends a "PUT" a second time by itself if the connection breaks, and we must know of it
_PUT = "put"
_DELETE = "delete-cas"

_WAS_THERE = b"index is stale"
"""Part of Consul's refusal of a key that was to be created and exists."""

# What a path must not hold: Consul's HTTP server takes `//`, `/./` and `/../` together.
_UNSAFE = re.compile(r"%|(?<=/)[/.]")


@dataclass(frozen=True, slots=True)
class _Done:
    """The outcome of one write: a result for each operation but deletions, or the refusal of all of them."""

    results: Sequence[Result] = ()
    refusal: Answer | None = None


_Operations = list[dict[str, Any]]


class ConsulStore:
    """See `macvlan_global.store.ports.ClusterStore`. Made by `open_cluster_store`."""

    def __init__(self, url: StoreUrl, access: StoreAccess, *, open_session: OpenSession | None = None) -> None:
        """Know where the members are; nothing is asked yet. Another HTTP client is for tests.

        Raises:
            Invalid: a file of certificates cannot be used.
        """
        self._root = f"{url.prefix}/"
        self._headers = {"X-Consul-Token": access.token} if access.token else None
        health = HealthCheck(Request("GET", "/v1/status/leader"), has_leader)
        self._members = Members(url.endpoints, tls_context(access) if url.tls else None, health, open_session)
        self._writes = Batcher[_Operations, _Done](self._transact)

    # --- keys

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        async with self._members.operation() as until:
            pair = await self._members.read(lambda until: self._pair(key, until), until)
            return self._entry(pair) if pair else None

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return await self._entries(await self._whole(prefix))

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._create(key, value, "")

    async def create_with(self, lease: Lease, key: str, value: bytes) -> Entry | None:
        """See `ClusterStore.create_with`."""
        if not isinstance(lease, ConsulLease):
            raise TypeError(f"{lease!r} is a lease of another store")
        return await self._create(key, value, lease.session)

    async def _create(self, key: str, value: bytes, session: str) -> Entry | None:
        name = self._name(key)
        operations = [{"Verb": "cas", "Key": name, "Value": value, "Index": 0}]
        if session:
            operations.append({"Verb": "lock", "Key": name, "Value": value, "Session": session})

        async def ask(until: float) -> Entry | None:
            done = await self._writes.ask(name, operations, until)
            if done.refusal is None:
                return self._written(key, value, done, leased=bool(session))
            # who was faster may have deleted it since
            if _WAS_THERE not in done.refusal.body and await self._pair(key, until) is None:
                raise refused(done.refusal)
            return None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._pair(key, until)
            # no two writes of different hosts have the same value: it names the host, the run and the time
            ours = pair and (pair.value or b"", pair.session) == (value, session)
            return (self._entry(pair) if pair and ours else None,) if pair else None

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        name = self._name(entry.key)
        operation = {"Verb": "cas", "Key": name, "Value": value, "Index": entry.revision}

        async def ask(until: float) -> Entry | None:
            done = await self._writes.ask(name, [operation], until)
            if done.refusal is None:
                return self._written(entry.key, value, done, leased=entry.leased)
            await self._check_changed(entry, done.refusal, until)
            return None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._pair(entry.key, until)
            if pair and pair.modify_index == entry.revision:
                return None
            return (self._entry(pair) if pair and (pair.value or b"") == value else None,)

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        # check-index too: deleting what is not there is no error for delete-cas
        name = self._name(entry.key)
        operations = [{"Verb": verb, "Key": name, "Index": entry.revision} for verb in ("check-index", _DELETE)]

        async def ask(until: float) -> bool:
            done = await self._writes.ask(name, operations, until)
            if done.refusal is None:
                return True
            await self._check_changed(entry, done.refusal, until)
            return False

        async def settle(until: float) -> tuple[bool] | None:
            pair = await self._pair(entry.key, until)
            if pair and pair.modify_index == entry.revision:
                return None
            raise deleted_by_somebody(entry)

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    async def _check_changed(self, entry: Entry, answer: Answer, until: float) -> None:
        """A refused transaction says why only in words: see whether it is what we expect.

        Raises:
            Unavailable: it is not.
        """
        pair = await self._pair(entry.key, until)
        if pair and pair.modify_index == entry.revision:
            raise refused(answer)

    async def _pair(self, key: str, until: float) -> ConsulPair | None:
        answer = await self._members.ask(self._read_request(key, "consistent"), until)
        if answer.status == NOT_FOUND:
            return None
        if answer.status == BAD_REQUEST and not key.isascii():
            return None  # a character that is newer than Consul: it takes none that its tables do not know as printable
        return next(iter(decode(checked(answer).body, list[ConsulPair])), None)

    async def _transact(self, writes: Sequence[_Operations], until: float) -> Sequence[_Done] | None:
        """Do several writes in one transaction: all of them, or none if one is in the way."""
        body = msgspec.json.encode([{"KV": operation} for operations in writes for operation in operations])
        answer = await self._members.ask(Request(_PUT, "/v1/txn", body, self._headers), until)
        if answer.status != OK and len(writes) > 1:
            return None
        if answer.status == CONFLICT:
            return [_Done(refusal=answer)]
        results = iter(decode(checked(answer).body, ConsulTxn).results or ())
        # a deletion has no result
        counts = (sum(each["Verb"] != _DELETE for each in operations) for operations in writes)
        return [_Done(list(islice(results, count))) for count in counts]

    def _written(self, key: str, value: bytes, done: _Done, *, leased: bool) -> Entry:
        if not done.results or not (pair := done.results[-1].kv) or pair.key != self._name(key):
            raise Unavailable("Consul's answer cannot be parsed: it has no result; is it Consul 1.8 or later?")
        return Entry(key, value, pair.modify_index, leased)

    # --- names

    def _name(self, key: str) -> str:
        """The name of a key in Consul: what a path cannot hold is escaped; prefixes stay prefixes."""
        name = self._root + key
        if not _is_special(name):
            return name
        name = _UNSAFE.sub(lambda found: _escaped(found[0]), name)
        return name if name.isprintable() else "".join(c if c.isprintable() else _escaped(c) for c in name)

    def _key(self, name: str) -> str:
        """The key of a name in Consul. A name that we would not give stays as it is: anybody may write there."""
        if not _is_special(name):
            return name[len(self._root) :]
        key = unquote(name, errors="replace")[len(self._root) :]
        return key if self._name(key) == name else name[len(self._root) :]

    def _read_request(self, key: str, options: str, *, bulk: bool = False) -> Request:
        path = f"/v1/kv/{quote(self._name(key), safe='/')}?{options}"
        return Request("GET", path, headers=self._headers, bulk=bulk)

    def _entry(self, pair: ConsulPair) -> Entry:
        return Entry(self._key(pair.key), pair.value or b"", pair.modify_index, bool(pair.session))

    async def _entries(self, answer: Answer) -> list[Entry]:
        """The entries of an answer, by key. Of many, others have their turn in between."""
        if answer.status == NOT_FOUND:
            return []
        entries = []
        for number, pair in enumerate(decode(checked(answer).body, list[ConsulPair]), 1):
            if not is_folder(pair):
                entries.append(self._entry(pair))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return sorted(entries, key=lambda entry: entry.key)

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
            answer = checked(await self._members.ask(request, until))
            return ConsulLease(self._members, decode(answer.body, Session).id, self._headers)

        async with self._members.operation() as until:
            # one that was made without our knowledge expires
            return await self._members.read(ask, until)

    # --- watches

    async def watch(self, prefix: str) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`."""
        answer = await self._whole(prefix)
        known = {entry.key: entry for entry in await self._entries(answer)}
        index = index_of(answer)
        yield Batch(True, tuple(known.values()))
        while True:
            if answer.status == NOT_FOUND:
                await self._make_folder(prefix)
            answer = await self._next(prefix, index)
            new = {entry.key: entry for entry in await self._entries(answer)}
            went_back = index_of(answer) < index
            batch = Batch(True, tuple(new.values())) if went_back else _difference(known, new)
            known, index = new, index_of(answer)
            if batch.whole or batch.entries or batch.gone:
                yield batch
            await asyncio.sleep(len(answer.body) / PACE)

    async def _make_folder(self, prefix: str) -> None:
        """Put something below an empty prefix, which `scan` and `watch` pass over.

        Whoever waits for a prefix with nothing below it is woken by every write to any other key of the store.
        """
        name = self._name(prefix)
        if name.endswith("/"):
            operation = {"Verb": "cas", "Key": name, "Value": b"", "Index": 0}
            with contextlib.suppress(Unavailable, NotAsked, AnswerLost):  # it spares work, and no more
                async with self._members.operation() as until:
                    await self._writes.ask(name, [operation], until)

    async def _whole(self, prefix: str) -> Answer:
        request = self._read_request(prefix, "recurse&consistent", bulk=True)
        async with self._members.operation() as until:
            return await self._members.read(lambda until: self._members.ask(request, until), until)

    async def _next(self, prefix: str, index: int) -> Answer:
        """The prefix as it is after something changed in it, or after a long time.

        An index that went back says that the store was restored from an older copy. Consul says so only to who asks
        without waiting: it ends what waits during a restore with the state of before, and lets those who come later
        wait for the old index. So that is done after every end of a wait that has brought no news.
        """
        request = self._read_request(prefix, f"recurse&consistent&index={index}&wait={WAIT}s")
        at_once = self._read_request(prefix, "recurse&consistent")
        loop = asyncio.get_running_loop()
        lost_since = 0.0
        while True:
            begun = loop.time()
            try:
                if not lost_since:
                    # Consul adds up to a sixteenth to the time
                    answer = found(await self._members.long(request, WAIT * 1.2))
                    if index_of(answer) != index or loop.time() - begun >= WAIT:
                        return answer
                return found(await self._members.long(at_once, BULK))
            except (NotAsked, AnswerLost):
                lost_since = lost_since or loop.time()
                await self._members.reconnect_delay(lost_since)

    # --- the end

    async def close(self) -> None:
        """See `Store.close`."""
        await self._members.close()


class ConsulLease:
    """See `macvlan_global.store.ports.Lease`: a session of Consul."""

    def __init__(self, members: Members, session: str, headers: Mapping[str, str] | None) -> None:
        """Made by `ConsulStore.lease`; `session` is its id."""
        self.session = session
        self._members = members
        self._headers = headers

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        answer = await self._ask("renew")
        if answer.status != NOT_FOUND:
            checked(answer)
        return answer.status == OK

    async def end(self) -> None:
        """See `Lease.end`."""
        checked(await self._ask("destroy"))

    async def _ask(self, action: str) -> Answer:
        request = Request(_PUT, f"/v1/session/{action}/{self.session}", headers=self._headers)
        async with self._members.operation() as until:
            return await self._members.read(lambda until: self._members.ask(request, until), until)


def _is_special(name: str) -> bool:
    """Whether something in a name is or must be escaped; Consul refuses characters that cannot be printed."""
    return "%" in name or "//" in name or "/." in name or not name.isprintable()


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode(errors="surrogatepass"))


def _difference(known: dict[str, Entry], new: dict[str, Entry]) -> Batch:
    changed = tuple(entry for key, entry in new.items() if known.get(key) != entry)
    return Batch(False, changed, tuple(key for key in known if key not in new))
