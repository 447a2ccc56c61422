"""Consul 1.8 and later as a cluster store: its key-value pairs, sessions and blocking queries.

A key is a pair below the prefix, a revision is its `ModifyIndex`. What decides a race is one transaction with
check-and-set, so a write that was done and asked for again does nothing. A lease is a session without node checks: it
ends by its TTL only, and deletes its keys.

Consul tells nobody what changed: whoever waits for a prefix gets all of it again. So what many hosts follow has bells
(`bell`), which tell what changed.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from functools import partial

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.access import StoreAccess, StoreUrl, tls_context
from macvlan_global.store.followed import group_of, is_group
from macvlan_global.store.ports import Batch, Entry, Lease
from macvlan_global.store.remote.batching import Batcher
from macvlan_global.store.remote.consul_keys import ConsulKeys
from macvlan_global.store.remote.consul_messages import (
    CONFLICT,
    NOT_FOUND,
    OK,
    TOO_MANY_REQUESTS,
    ConsulTxn,
    Session,
    checked,
    decode,
    has_leader,
    refused,
    refuses_key,
)
from macvlan_global.store.remote.consul_ringing import (
    DELETE,
    PUT,
    Bells,
    Done,
    Operations,
    Write,
    done_each,
    share_of,
)
from macvlan_global.store.remote.consul_watch import WATCHES, GroupWatch, PrefixWatch
from macvlan_global.store.remote.members import (
    Answer,
    HealthCheck,
    Members,
    OpenSession,
    Request,
    deleted_by_somebody,
)
from macvlan_global.tasks import Crowd

_WAS_THERE = b"index is stale"
"""Part of Consul's refusal of a key that was to be created and exists."""


class ConsulStore:
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
        health = HealthCheck(partial(Request, "GET", "/v1/status/leader"), has_leader)
        self._crowd = crowd or Crowd()
        self._members = Members(
            url.endpoints,
            tls_context(access) if url.tls else None,
            health,
            open_session,
            watches=WATCHES,
            busy=TOO_MANY_REQUESTS,
            refuses=refuses_key,
        )
        self._keys = ConsulKeys(self._members, url.prefix, access.token)
        self._bells = Bells(self._keys)
        self._writes = Batcher[Write, Done](self._transact, share=share_of)

    # --- keys

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        async with self._members.operation() as until:
            pair = await self._members.read(lambda until: self._keys.pair(key, until), until)
            return self._keys.entry(pair) if pair else None

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return (await self._keys.whole(prefix))[0]

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._create(key, value, "")

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        if not isinstance(lease, ConsulLease):
            raise TypeError(f"{lease!r} is a lease of another store")
        return await self._create(key, value, lease.session, over)

    async def _create(self, key: str, value: bytes, session: str, over: Entry | None = None) -> Entry | None:
        name = self._keys.name(key)
        operations = self._deletion(over) if over else []  # another session's key cannot be locked
        operations.append({"Verb": "cas", "Key": name, "Value": value, "Index": 0})
        if session:
            operations.append({"Verb": "lock", "Key": name, "Value": value, "Session": session})

        async def ask(until: float) -> Entry | None:
            done = await self._write(key, operations, until)
            if done.refusal is None:
                return self._written(key, value, done, leased=bool(session))
            if over:
                await self._check_changed(over, done.refusal, until)
            # who was faster may have deleted it since
            elif _WAS_THERE not in done.refusal.body and await self._keys.pair(key, until) is None:
                raise refused(done.refusal)
            return None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._keys.pair(key, until)
            if pair and over and pair.modify_index == over.revision:
                return None
            # no two writes of different hosts have the same value: it names the host, the run and the time
            ours = pair and (pair.value or b"", pair.session) == (value, session)
            return (self._keys.entry(pair) if pair and ours else None,) if pair else None

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        name = self._keys.name(entry.key)
        operation = {"Verb": "cas", "Key": name, "Value": value, "Index": entry.revision}

        async def ask(until: float) -> Entry | None:
            done = await self._write(entry.key, [operation], until)
            if done.refusal is None:
                return self._written(entry.key, value, done, leased=entry.leased)
            await self._check_changed(entry, done.refusal, until)
            return None

        async def settle(until: float) -> tuple[Entry | None] | None:
            pair = await self._keys.pair(entry.key, until)
            if pair and pair.modify_index == entry.revision:
                return None
            return (self._keys.entry(pair) if pair and (pair.value or b"") == value else None,)

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        operations = self._deletion(entry)

        async def ask(until: float) -> bool:
            done = await self._write(entry.key, operations, until)
            if done.refusal is None:
                return True
            await self._check_changed(entry, done.refusal, until)
            return False

        async def settle(until: float) -> tuple[bool] | None:
            pair = await self._keys.pair(entry.key, until)
            if pair and pair.modify_index == entry.revision:
                return None
            raise deleted_by_somebody(entry)

        async with self._members.operation() as until:
            return await self._members.write(ask, settle, until)

    def _deletion(self, entry: Entry) -> Operations:
        """Operations that delete an entry if it is current."""
        # check-index too: deleting what is not there is no error for delete-cas
        name = self._keys.name(entry.key)
        return [{"Verb": verb, "Key": name, "Index": entry.revision} for verb in ("check-index", DELETE)]

    async def _check_changed(self, entry: Entry, answer: Answer, until: float) -> None:
        """A refused transaction says why only in words: see whether it is what we expect.

        Raises:
            Unavailable: it is not.
        """
        pair = await self._keys.pair(entry.key, until)
        if pair and pair.modify_index == entry.revision:
            raise refused(answer)

    async def _write(self, key: str, operations: Operations, until: float) -> Done:
        """Do the operations of one write, all on this key, and ring the bell of its group if it has one."""
        write = Write(key, operations)
        if group := group_of(key):
            return await self._bells.write(group, write, until)
        return await self._writes.ask(key, write, until)

    async def _transact(self, writes: Sequence[Write], until: float) -> Sequence[Done] | None:
        """Do several writes in one transaction: all of them, or none if one is in the way."""
        body = msgspec.json.encode([{"KV": operation} for write in writes for operation in write.operations])
        answer = await self._members.ask(Request(PUT, "/v1/txn", body, self._keys.headers), until)
        if answer.status != OK and len(writes) > 1:
            return None
        if answer.status == CONFLICT:
            return [Done(refusal=answer)]
        return done_each(writes, decode(checked(answer).body, ConsulTxn).results or ())

    def _written(self, key: str, value: bytes, done: Done, *, leased: bool) -> Entry:
        if not done.results or not (pair := done.results[-1].kv) or pair.key != self._keys.name(key):
            raise Unavailable("Consul's answer cannot be parsed: it has no result; is it Consul 1.8 or later?")
        return Entry(key, value, pair.modify_index, leased)

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
        request = Request(PUT, "/v1/session/create", msgspec.json.encode(session), self._keys.headers)

        async def ask(until: float) -> Lease:
            answer = checked(await self._members.ask(request, until))
            return ConsulLease(self._members, decode(answer.body, Session).id, self._keys.headers)

        async with self._members.operation() as until:
            # one that was made without our knowledge expires
            return await self._members.read(ask, until)

    # --- watches

    def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch]:
        """See `ClusterStore.watch`."""
        if is_group(prefix):
            return GroupWatch(self._keys, self._bells, prefix, self._crowd).run(after)
        return PrefixWatch(self._keys, prefix, self._crowd).run()

    # --- the end

    async def close(self) -> None:
        """See `Store.close`."""
        await self._bells.close()
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
        # Consul's words since 1.8 (SessionRenew in agent/session_endpoint.go); a proxy that has lost it says others
        if answer.status == NOT_FOUND and answer.text == f"Session id '{self.session}' not found":
            return False
        checked(answer)
        return True

    async def end(self) -> None:
        """See `Lease.end`."""
        checked(await self._ask("destroy"))

    async def _ask(self, action: str) -> Answer:
        request = Request(PUT, f"/v1/session/{action}/{self.session}", headers=self._headers)
        async with self._members.operation() as until:
            return await self._members.read(lambda until: self._members.ask(request, until), until)
