"""etcd 3.4 and later as a cluster store, over its JSON gateway.

A key is a key of etcd below the prefix, a revision is its `mod_revision`. What decides a race is one transaction that
compares that revision, so a write that was done and asked for again does nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess, StoreUrl
from macvlan_global.store.ports import Batch, Entry, Lease
from macvlan_global.store.remote.batching import Batcher
from macvlan_global.store.remote.etcd_gateway import Gateway
from macvlan_global.store.remote.etcd_messages import (
    BAD_REQUEST,
    NOT_FOUND,
    OK,
    EtcdEvent,
    EtcdPair,
    EtcdTxn,
    EtcdWatchResponse,
    Granted,
    Header,
    KeptAlive,
    Range,
    WatchLine,
    checked,
    decode,
)
from macvlan_global.store.remote.many import free
from macvlan_global.store.remote.members import (
    BULK,
    PAUSE,
    AnswerLost,
    NotAsked,
    OpenSession,
    Refused,
    deleted_by_somebody,
)
from macvlan_global.tasks import Crowd

PAGE = 1_000
"""Keys of one answer of a scan: a busy member has them together in time, and they are taken apart in some milliseconds.
All pages are read at the revision of the first."""

READ_AGAIN = 15.0
"""Seconds over which many hosts spread that they read a prefix again, at most."""

MOST_FAILED_PAGES = 6
"""Failures of one page in a row, by whichever member, before a scan begins anew."""

_Transaction = dict[str, Any]


class EtcdStore:
    """See `macvlan_global.store.ports.ClusterStore`. Made by `open_cluster_store`."""

    def __init__(
        self,
        url: StoreUrl,
        access: StoreAccess,
        *,
        open_session: OpenSession | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        """Know where the members are; nothing is asked yet. Another HTTP client is for tests. `crowd` are the hosts
        that use this store.

        Raises:
            Invalid: a file of certificates cannot be used.
        """
        self._root = f"{url.prefix}/".encode()
        self._crowd = crowd or Crowd()
        self._gateway = Gateway(url, access, open_session)
        self._members = self._gateway.members
        self._writes = Batcher[_Transaction, EtcdTxn](self._transact)

    # --- keys

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        async with self._members.operation() as until:
            pair = await self._members.read(lambda until: self._pair(key, until), until)
            return self._entry(pair) if pair else None

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return (await self._whole(prefix))[0]

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._create(key, value, 0)

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        if not isinstance(lease, EtcdLease):
            raise TypeError(f"{lease!r} is a lease of another store")
        return await self._create(key, value, lease.id, over)

    async def _create(self, key: str, value: bytes, lease: int, over: Entry | None = None) -> Entry | None:
        name, before = self._name(key), over.revision if over else 0
        body = {
            "compare": [{"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": before}],
            "success": [{"request_put": {"key": name, "value": value, "lease": lease}}],
        }

        async def ask(until: float) -> Entry | None:
            done = await self._writes.ask(name, body, until)
            return Entry(key, value, done.header.revision, bool(lease)) if done.succeeded else None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._pair(key, until)
            if pair and over and pair.mod_revision == over.revision:
                return None
            # no two writes of different hosts have the same value: it names the host, the run and the time
            ours = pair and (pair.value, pair.lease) == (value, lease)
            return (self._entry(pair) if pair and ours else None,) if pair else None

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        name = self._name(entry.key)
        put = {"key": name, "value": value, "ignore_lease": True}

        async def ask(until: float) -> Entry | None:
            done = await self._writes.ask(name, self._if_current(entry, {"request_put": put}), until)
            return Entry(entry.key, value, done.header.revision, entry.leased) if done.succeeded else None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._pair(entry.key, until)
            if pair and pair.mod_revision == entry.revision:
                return None
            return (self._entry(pair) if pair and pair.value == value else None,)

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        name = self._name(entry.key)
        body = self._if_current(entry, {"request_delete_range": {"key": name}})

        async def ask(until: float) -> bool:
            return (await self._writes.ask(name, body, until)).succeeded

        async def settle(until: float) -> tuple[bool] | None:
            pair = await self._pair(entry.key, until)
            if pair and pair.mod_revision == entry.revision:
                return None
            raise deleted_by_somebody(entry)

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    def _if_current(self, entry: Entry, operation: dict[str, Any]) -> dict[str, Any]:
        name = self._name(entry.key)
        same = {"key": name, "target": "MOD", "result": "EQUAL", "mod_revision": entry.revision}
        return {"compare": [same], "success": [operation]}

    async def _transact(self, writes: Sequence[_Transaction], until: float) -> Sequence[EtcdTxn] | None:
        """Do several writes in one transaction, in which each has its own condition and says for itself what came."""
        if len(writes) == 1:
            return [await self._gateway.post("/v3/kv/txn", writes[0], EtcdTxn, until)]
        answer = await self._gateway.ask("/v3/kv/txn", {"success": [{"request_txn": each} for each in writes]}, until)
        if answer.status != OK:
            return None  # one of them has a lease that ended, say: etcd does none, and does not say which
        done = decode(answer.body, EtcdTxn)
        inner = [each.response_txn for each in done.responses if each.response_txn]
        if len(inner) != len(writes):
            raise Unavailable("etcd's answer cannot be parsed: it lacks results; is it etcd 3.4 or later?")
        return [msgspec.structs.replace(each, header=done.header) for each in inner]

    async def _pair(self, key: str, until: float) -> EtcdPair | None:
        found = await self._gateway.post("/v3/kv/range", {"key": self._name(key)}, Range, until)
        return found.kvs[0] if found.kvs else None

    async def _scan(self, prefix: str, until: float) -> tuple[list[Entry], Header]:
        """All entries below a prefix, and the header that says at which revision."""
        start, end = self._bounds(prefix)
        entries: list[Entry] = []
        header: Header | None = None
        failed = 0
        while True:
            body = {"key": start, "range_end": end, "limit": PAGE, "revision": header.revision if header else 0}
            # while pages come, the store answers: the time of an operation is that of one page
            until = max(until, asyncio.get_running_loop().time() + BULK / 10)
            try:
                # a page may take as long as bytes come: on a slow line, that is many seconds
                answer = await self._gateway.ask("/v3/kv/range", body, until, bulk=True)
            except (NotAsked, AnswerLost):
                failed += 1
                if header is None or failed > MOST_FAILED_PAGES:
                    raise
                await asyncio.sleep(PAUSE)  # the pages before it are read: another member has this one too
                continue
            failed = 0
            if answer.status == BAD_REQUEST and header:
                raise AnswerLost("history was compacted between two pages")
            page = decode(checked(answer).body, Range)
            header = header or page.header
            entries += [self._entry(pair) for pair in page.kvs]
            if not page.more or not page.kvs:
                return entries, header
            start = page.kvs[-1].key + b"\0"

    def _name(self, key: str) -> bytes:
        return self._root + key.encode()

    def _entry(self, pair: EtcdPair) -> Entry:
        return Entry(self._key(pair), pair.value, pair.mod_revision, bool(pair.lease))

    def _key(self, pair: EtcdPair) -> str:
        return pair.key[len(self._root) :].decode(errors="backslashreplace")

    def _bounds(self, prefix: str) -> tuple[bytes, bytes]:
        """The first name below a prefix, and the first one after all of them."""
        start = self._name(prefix)
        return start, start[:-1] + bytes([start[-1] + 1])  # text in UTF-8 never ends with the byte 255

    # --- leases

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""

        async def ask(until: float) -> Lease:
            granted = await self._gateway.post("/v3/lease/grant", {"TTL": max(1, round(seconds))}, Granted, until)
            return EtcdLease(self._gateway, granted.id)

        async with self._members.operation() as until:
            # one that was granted without our knowledge expires
            return await self._members.read(ask, until)

    # --- watches

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`."""
        seen = after if isinstance(after, Header) else None
        resumes, is_first = seen is not None, seen is None
        lost_since = 0.0
        refused = 0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if seen is None or await self._is_another_past(seen):
                    if not is_first:
                        await asyncio.sleep(self._crowd.spread(READ_AGAIN))
                    entries, seen = await self._whole(prefix)
                    resumes = is_first = False
                    yield Batch(True, tuple(entries), position=seen)
                    await free(entries)  # the watch lasts for long
                async with contextlib.aclosing(self._watched(prefix, seen)) as told:
                    async for watched in told:
                        lost_since, refused = 0.0, 0
                        before, seen = seen, _position(watched, seen)
                        # what went on where it was says so, and the position is kept for the next watch
                        if watched.events or resumes or seen is not before:
                            resumes = False
                            yield self._batch(watched.events, seen)
                seen = None  # what we have not seen is forgotten there
            except Refused as error:
                if (refused := refused + 1) > 1:
                    raise Unavailable(f"etcd refuses a watch: {error}") from error
                self._gateway.forget_token()
            except (NotAsked, AnswerLost):
                lost_since = lost_since or loop.time()
                await self._members.reconnect_delay(lost_since)

    async def _whole(self, prefix: str) -> tuple[list[Entry], Header]:
        async with self._members.operation() as until:
            return await self._members.read(lambda until: self._scan(prefix, until), until)

    async def _is_another_past(self, seen: Header) -> bool:
        """Whether the store was restored from an older copy since: its history is not the one that we saw."""
        until = asyncio.get_running_loop().time() + 1.0
        now = await self._gateway.position(until)
        return now.cluster_id != seen.cluster_id or now.raft_term < seen.raft_term or now.revision < seen.revision

    async def _watched(self, prefix: str, seen: Header) -> AsyncGenerator[EtcdWatchResponse, None]:
        """Responses about changes after `seen`, some without events; it ends when these revisions are compacted.

        It is asked from `seen` on and not from what comes next: etcd before 3.4.36 forgets a deletion at the very
        revision up to which history is compacted, and says nothing to who asks from there.

        Raises:
            Refused: we may not watch, or our token is too old.
        """
        start, end = self._bounds(prefix)
        create = {"key": start, "range_end": end, "start_revision": seen.revision, "progress_notify": True}
        rest = b""
        async with contextlib.aclosing(await self._gateway.stream("/v3/watch", {"create_request": create})) as pieces:
            async for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    watched = decode(line, WatchLine).result
                    if watched is None or (watched.canceled and not watched.compact_revision):
                        raise Refused(watched.cancel_reason if watched else line.decode(errors="replace")[:300])
                    if watched.canceled:
                        return
                    news = [event for event in watched.events if event.kv.mod_revision > seen.revision]
                    if news or not watched.events:
                        watched.events = news
                        yield watched

    def _batch(self, events: list[EtcdEvent], position: Header) -> Batch:
        last: dict[str, Entry | None] = {}
        for event in events:
            key = self._key(event.kv)
            last.pop(key, None)
            last[key] = None if event.type == "DELETE" else self._entry(event.kv)
        changed = tuple(entry for entry in last.values() if entry)
        return Batch(False, changed, tuple(key for key, entry in last.items() if not entry), position=position)

    # --- the end

    async def close(self) -> None:
        """See `Store.close`."""
        await self._members.close()


def _position(watched: EtcdWatchResponse, seen: Header) -> Header:
    """The position of a watch after a response. Where little changes etcd tells from time to time that there was
    nothing up to now: history is compacted, and a position that stays would be forgotten there."""
    if watched.events:
        return msgspec.structs.replace(watched.header, revision=watched.events[-1].kv.mod_revision)
    is_progress = not watched.created and watched.header.revision > seen.revision
    return watched.header if is_progress else seen


class EtcdLease:
    """See `macvlan_global.store.ports.Lease`: a lease of etcd."""

    def __init__(self, gateway: Gateway, id: int) -> None:  # noqa: A002 - the name that etcd gives it
        """Made by `EtcdStore.lease`."""
        self.id = id
        self._gateway = gateway

    async def renew(self) -> bool:
        """See `Lease.renew`."""

        async def ask(until: float) -> bool:
            kept = await self._gateway.post("/v3/lease/keepalive", {"ID": self.id}, KeptAlive, until)
            if kept.result is None:  # an error within an answer that had begun
                raise AnswerLost("etcd could not renew a lease")
            return kept.result.ttl > 0

        async with self._gateway.members.operation() as until:
            return await self._gateway.members.read(ask, until)

    async def end(self) -> None:
        """See `Lease.end`."""

        async def ask(until: float) -> None:
            answer = await self._gateway.ask("/v3/lease/revoke", {"ID": self.id}, until)
            if answer.status != NOT_FOUND:
                checked(answer)

        async with self._gateway.members.operation() as until:
            await self._gateway.members.read(ask, until)
