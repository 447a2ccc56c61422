"""Tables: records of one kind below one prefix of a store.

A record of a newer version is left alone and reported, never guessed at, and so is a record that cannot be read or is
under a key that is not its own: anybody can write below the prefix of a store that hosts share.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from functools import cached_property, lru_cache
from ipaddress import ip_address
from typing import Generic, TypeVar, cast

import msgspec

from macvlan_global.deadline import waiting_for
from macvlan_global.errors import Internal
from macvlan_global.store import record_keys
from macvlan_global.store.address_keys import covering, padded, within
from macvlan_global.store.ports import ClusterStore, Entry, Lease, Store
from macvlan_global.store.records import (
    AddressRecord,
    AliveRecord,
    DefinitionRecord,
    EndpointRecord,
    EngineRecord,
    HostAccessRecord,
    HostAddressesRecord,
    HostRecord,
    IdentityRecord,
    LinkRecord,
    NameRecord,
    NetworkRecord,
    ObservedRecord,
    OwnSubnetUseRecord,
    PendingRecord,
    PoolRecord,
    PublishedRecord,
    Record,
    RememberedRecord,
    RemovedRecord,
    ReportRecord,
    StaticAddressRecord,
    SubnetUseRecord,
    decode_endpoint,
)
from macvlan_global.store.unreadable import UnreadableLog
from macvlan_global.store.validate import VERSION, escape_name, shown, unescape_name, version_of
from macvlan_global.subnets import Subnet

AT_ONCE = 500
"""Records that are decoded before the event loop gets its turn: some milliseconds, of the seconds that all may take."""

ROWS_KEPT = 256
"""Records of each table that are kept as they were read, and not read again while their value is the same."""

LONGEST_KEPT = 4096
"""Bytes of the longest value that is kept so: anybody may write values of half a megabyte."""

AVOIDED = "avoided/"
"""Addresses that are not given out unasked are below this prefix, so that one watch follows them all."""

R = TypeVar("R", bound=Record)


class Row(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A record and the entry it was read from, which is needed to change or delete it."""

    record: R
    entry: Entry


class Table(Generic[R]):
    """Records of one kind, below one prefix of a store."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        kind: type[R],
        key_of: Callable[[R], tuple[str, ...]] | None = None,
        *,
        decode: Callable[[bytes], R] | None = None,
        by_name: bool = False,
    ) -> None:
        """Keep records of `kind` under `prefix` (no slash at the end).

        `key_of` gives the parts of the key that a record belongs under, or raises ValueError if it makes no sense. What
        is under another key cannot be read. Without `key_of` any key will do.
        `decode` is for kinds that older releases wrote in another form. With `by_name` rows go by names that users
        choose, which may have a slash in them: in keys it is escaped. Elsewhere it is `_`, which nobody takes back.
        """
        self._store = store
        self._prefix = prefix
        self._key_of = key_of
        self._unreadable = UnreadableLog(self.prefix)
        self._waits_for = f"the store ({self.prefix})"
        self._decode = decode or msgspec.json.Decoder(kind).decode
        self._encoder = msgspec.json.Encoder()
        self._by_name = by_name

    @cached_property
    def _parsed(self) -> Callable[[str, bytes], R | None]:
        """`_parse`, which remembers: repair and the loops of a cluster read the same rows again and again, and mostly
        nothing has changed."""
        return lru_cache(ROWS_KEPT)(self._parse)

    @property
    def prefix(self) -> str:
        """The prefix of the key of every row, for a watch."""
        return self._prefix + "/"

    def read(self, entry: Entry) -> Row[R] | None:
        """The row of an entry that was seen; None if a newer version wrote it or it cannot be read."""
        return self._read(entry, self._record)

    async def read_all(self, entries: Iterable[Entry]) -> list[tuple[Entry, Row[R] | None]]:
        """Entries that were seen, each with its row as `read` gives it. Of many, others have their turn in between:
        while they are decoded no request of the engine would be answered, and no answer of the store be in time."""
        seen = list(entries)
        return list(zip(seen, await self._read_each(seen), strict=True))

    async def get(self, *parts: str) -> Row[R] | None:
        """The row at this key, or None."""
        entry = await self.entry(*parts)
        return self._row(entry) if entry and self.may_be_row(entry) else None

    async def find(self, *parts: str) -> Row[R] | None:
        """The row at this key, or None; also if a newer version wrote it or it cannot be read."""
        entry = await self.entry(*parts)
        return self.read(entry) if entry and self.may_be_row(entry) else None

    async def scan(self, *parts: str) -> list[Row[R]]:
        """Every row below these parts of the key, but those that are left alone (see `unreadable`)."""
        return await self._rows(await self.entries(*parts))

    async def unreadable(self) -> list[str]:
        """Keys of records that are left alone: a newer version wrote them, they cannot be read, or lack a lease."""
        rows = await self.read_all(await self._entries())
        return [entry.key for entry, row in rows if row is None or not self.may_be_row(entry)]

    async def left_alone(self) -> list[str]:
        """The same as far as they were seen when something was read: for this nothing is read but these, once more."""
        for key in self._unreadable.noticed:
            if "\\" in key:  # what is shown of a key that cannot be printed: nobody finds it by that
                continue
            entry = await self._store.get(key)
            if entry is None or (self.read(entry) and self.may_be_row(entry)):
                self._unreadable.forget(key)
        return self._unreadable.noticed

    def is_beside(self, other: "Table[IdentityRecord]") -> bool:
        """Whether both tables are in one store."""
        return self._store is other._store  # noqa: SLF001 - of one class

    async def entry(self, *parts: str) -> Entry | None:
        """Whatever is at this key."""
        with self._waiting():
            return await self._store.get(self._key(parts))

    async def entries(self, *parts: str) -> list[Entry]:
        """Whatever there is below these parts of the key, and may be a row."""
        return [entry for entry in await self._entries(*parts) if self.may_be_row(entry)]

    async def _entries(self, *parts: str) -> list[Entry]:
        with self._waiting():
            found = await self._store.scan(self._key(parts) + "/")
        if not parts:
            self._unreadable.begin()
        return found

    def may_be_row(self, entry: Entry) -> bool:
        """Whether an entry has what every row of this table has, whatever its value is. If not, it is left alone."""
        return True

    def key(self, *parts: str) -> str:
        """The key in the store of the row at these parts."""
        return self._key(parts)

    def name_of(self, key: str) -> str:
        """The name or id that a key of this table is for, the first part of it being all."""
        part = key.removeprefix(self.prefix)
        return unescape_name(part) if self._by_name else part

    async def create(self, record: R, *parts: str) -> Row[R] | None:
        """Create the record if the key is absent; None if it is there."""
        with self._waiting():
            entry = await self._store.create(self._key(parts), self._encoder.encode(record))
        return Row(record, entry) if entry else None

    async def update(self, change: Callable[[R], R | None], *parts: str) -> Row[R] | None:
        """Change the record at this key, whatever others change about it meanwhile; None if there is none.

        `change` gives the new record, or None if there is nothing to change about this one, and must be pure: after a
        lost race it is called again, with what is there then. The row that is returned is the one that holds.

        Raises:
            Internal: a newer version wrote the record, or it cannot be read; it is left alone.
        """
        while row := await self.get(*parts):
            changed = change(row.record)
            if changed is None or changed == row.record:
                return row
            if written := await self.replace(row, changed):
                return written
        return None

    async def change(self, *parts: str, **fields: object) -> Row[R] | None:
        """Set these fields of the record at this key, and no others; None if there is none. See `update`."""
        return await self.update(lambda record: msgspec.structs.replace(record, **fields), *parts)

    async def replace(self, row: Row[R], record: R) -> Row[R] | None:
        """Write `record` if the row is still current; None if not. For those to whom a lost race is an answer.

        A record that only changes is changed with `update`.
        """
        with self._waiting():
            entry = await self._store.replace(row.entry, self._encoder.encode(record))
        return Row(record, entry) if entry else None

    async def delete(self, row: Row[R]) -> bool:
        """Delete the row if it is still current; whether it was."""
        with self._waiting():
            return await self._store.delete(row.entry)

    async def drop(self, *parts: str) -> None:
        """Delete whatever is at this key, if anything. Only for keys that nobody else writes."""
        entry = await self._store.get(self._key(parts))
        while entry and not await self._store.delete(entry):
            entry = await self._store.get(self._key(parts))

    async def put(self, record: R, *parts: str) -> Row[R]:
        """Write the record, whatever was there. Only for keys that nobody else writes."""
        while True:
            row = await self.create(record, *parts)
            if row:
                return row
            entry = await self._store.get(self._key(parts))
            if entry and (written := await self._store.replace(entry, self._encoder.encode(record))):
                return Row(record, written)

    def _waiting(self) -> AbstractContextManager[None]:
        return waiting_for(self._waits_for)

    def _key(self, parts: tuple[str, ...]) -> str:
        escape = escape_name if self._by_name else _without_slash
        return "/".join((self._prefix, *map(escape, parts)))

    def _right_key(self, parts: tuple[str, ...]) -> str:
        """The key of a record that has these parts; ValueError if one of them is not as records have it."""
        return self._key(parts)

    def _row(self, entry: Entry) -> Row[R]:
        record = self._record(entry)
        if record is None:
            raise Internal(f"{shown(entry.key)} was written by a newer macvlan-global; this one leaves it alone")
        return Row(record, entry)

    async def _rows(self, entries: list[Entry]) -> list[Row[R]]:
        return [row for row in await self._read_each(entries) if row]

    async def _read_each(self, entries: list[Entry]) -> list[Row[R] | None]:
        """The row of each entry. Others have their turn in between."""
        # of so many none is still kept when it is read again
        record = self._record if len(entries) <= ROWS_KEPT else self._record_anew
        found: list[Row[R] | None] = []
        for start in range(0, len(entries), AT_ONCE):
            found += [self._read(entry, record) for entry in entries[start : start + AT_ONCE]]
            if start + AT_ONCE <= len(entries):
                await asyncio.sleep(0)
        return found

    def _read(self, entry: Entry, record_of: Callable[[Entry], R | None]) -> Row[R] | None:
        try:
            record = record_of(entry)
        except Internal as error:
            self._unreadable.warn(entry.key, error)
            record = None
        if record is None:
            self._unreadable.notice(entry.key)
            return None
        self._unreadable.forget(entry.key)
        return Row(record, entry)

    def _record_anew(self, entry: Entry) -> R | None:
        return self._parse(entry.key, entry.value)

    def _record(self, entry: Entry) -> R | None:
        parse = self._parsed if len(entry.value) <= LONGEST_KEPT else self._parse
        return parse(entry.key, entry.value)

    def _parse(self, key: str, value: bytes) -> R | None:
        """The record of a value at a key; None if a newer version wrote it.

        Raises:
            Internal: it cannot be read.
        """
        try:
            record = self._decode(value)
            if record.v > VERSION:
                return None
            if self._key_of and self._right_key(self._key_of(record)) != key:
                raise ValueError("it belongs under another key")
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            if version_of(value) > VERSION:
                return None
            raise Internal(f"{shown(key)} in the store cannot be read: {shown(str(error))}") from error
        return record


def _without_slash(part: str) -> str:
    return part.replace("/", "_")


class AddressTable(Table[R]):
    """A table whose rows go by an address space and a bare address, with keys that sort by the numbers of these."""

    async def scan_within(self, space: str, subnet: Subnet) -> list[Row[R]]:
        """Every row of a subnet of a space, but those that are left alone: no row of another subnet is read."""
        return await self._rows(await self.entries_within(space, subnet))

    async def entries_within(self, space: str, subnet: Subnet) -> list[Entry]:
        """Whatever there is of a subnet of a space."""
        start = self._key((space, ""))
        with self._waiting():
            parts = await asyncio.gather(*(self._store.scan(start + each) for each in covering(subnet)))
        first, last = (start + each for each in within(subnet))
        found = [entry for part in parts for entry in part]
        return [each for each in found if len(each.key) == len(first) and first <= each.key <= last]

    def _key(self, parts: tuple[str, ...]) -> str:
        if len(parts) < 2 or not parts[1]:
            return super()._key(parts)
        try:
            return self._right_key(parts)
        except ValueError:  # others may have written it in another spelling
            return self._right_key((parts[0], str(ip_address(parts[1]))))

    def _right_key(self, parts: tuple[str, ...]) -> str:
        space, address = parts
        return f"{self._prefix}/{_without_slash(space)}/{padded(address)}"


class LeasedTable(Table[R]):
    """A table whose rows go with a lease. A key without one is no row: it would never expire."""

    def may_be_row(self, entry: Entry) -> bool:
        """See `Table.may_be_row`."""
        if not entry.leased:
            self._unreadable.notice(entry.key)
        return entry.leased

    async def create_with(self, lease: Lease, record: R, *parts: str, over: Row[R] | None = None) -> Row[R] | None:
        """Create the record to go with a lease, in the place of the row `over` if there is one. See `ClusterStore`."""
        store = cast("ClusterStore", self._store)  # no other one has leases
        before = over.entry if over else None
        entry = await store.create_with(lease, self._key(parts), self._encoder.encode(record), before)
        return Row(record, entry) if entry else None


class KeptTable(Table[R]):
    """A table that only this process writes, with its records in memory too: metrics look at them and ask no store.

    What is kept is what this process wrote, and what the last read of the whole table found. A write whose answer was
    lost is missing until the next one.
    """

    def __init__(
        self, store: Store, prefix: str, kind: type[R], key_of: Callable[[R], tuple[str, ...]] | None = None
    ) -> None:
        """As `Table`."""
        super().__init__(store, prefix, kind, key_of)
        self._kept: dict[str, R] = {}
        self._writes = 0

    @property
    def kept(self) -> Collection[R]:
        """The records, as far as they are known."""
        return self._kept.values()

    async def scan(self, *parts: str) -> list[Row[R]]:
        """See `Table.scan`."""
        before = self._writes
        rows = await super().scan(*parts)
        if not parts and self._writes == before:  # a write that was answered meanwhile may be newer
            self._kept = {row.entry.key: row.record for row in rows}
        return rows

    async def create(self, record: R, *parts: str) -> Row[R] | None:
        """See `Table.create`."""
        return self._keep(await super().create(record, *parts))

    async def replace(self, row: Row[R], record: R) -> Row[R] | None:
        """See `Table.replace`."""
        return self._keep(await super().replace(row, record))

    async def put(self, record: R, *parts: str) -> Row[R]:
        """See `Table.put`."""
        row = await super().put(record, *parts)
        self._keep(row)
        return row

    async def delete(self, row: Row[R]) -> bool:
        """See `Table.delete`."""
        if deleted := await super().delete(row):
            self._drop(row.entry.key)
        return deleted

    async def drop(self, *parts: str) -> None:
        """See `Table.drop`."""
        await super().drop(*parts)
        self._drop(self.key(*parts))

    def _keep(self, row: Row[R] | None) -> Row[R] | None:
        if row:
            self._writes += 1
            self._kept[row.entry.key] = row.record
        return row

    def _drop(self, key: str) -> None:
        self._writes += 1
        self._kept.pop(key, None)


class Tables:
    """Every table, by the store it is kept in. A test compares the writers named here with the code."""

    def __init__(self, shared: Store, local: Store) -> None:
        """`shared` holds what hosts agree on, `local` what is true of this host; they may be one store."""
        self.pools = Table(shared, "pools", PoolRecord, record_keys.of_pool)
        """Subnets in use: created if absent, by whoever asks first. Writers: ipam.pools."""
        self.addresses = AddressTable(shared, "addresses", AddressRecord, record_keys.of_address)
        """Addresses and their holders: created if absent, by whoever asks first. Writers: ipam.addresses."""
        self.used = Table(shared, "used", SubnetUseRecord, record_keys.of_use)
        """Subnets in which hosts may have addresses, by host. Writers: ipam.subnet_use."""
        self.host_addresses = Table(shared, AVOIDED + "hosts", HostAddressesRecord, record_keys.of_host_addresses)
        """Addresses that hosts have themselves: each writes its own row; a removed one's is dropped by the host where
        an operator removes it. Writers: cluster.host_addresses, cluster.reclaimer."""
        self.static_addresses = AddressTable(shared, AVOIDED + "static", StaticAddressRecord, record_keys.of_static)
        """Addresses that users chose for containers: kept when these go. Writers: ipam.avoided_tables."""
        self.remembered = Table(shared, AVOIDED + "names", RememberedRecord, record_keys.of_remembered, by_name=True)
        """Addresses that containers had, by network and name: kept when these go. Writers: ipam.remembered_names."""
        self.definitions = Table(shared, "definitions", DefinitionRecord, record_keys.of_definition, by_name=True)
        """Networks of the cluster, by name: created by the host that has the network first. The outbox deletes one
        whose removal waited for the store. Writers: replication.apply, driver.outbox."""
        self.removed = Table(shared, "removed", RemovedRecord, record_keys.by_id)
        """Tombstones of networks: created before a definition goes, deleted months later, or taken back.
        Writers: driver.outbox, replication.replicator, replication.apply."""
        self.names = Table(shared, "names", NameRecord, record_keys.of_name)
        """Names of containers: each host writes its own. Writers: dns.publish.publisher, cluster.reclaimer."""
        self.hosts = Table(shared, "hosts", HostRecord, record_keys.by_id)
        """Hosts that are or were: each writes its own row. Writers: cluster.heartbeat, cluster.reclaimer."""
        self.reports = Table(shared, "reports", ReportRecord, record_keys.by_id)
        """Reports of hosts for the page, written like `host_addresses`. Writers: web.reporter, cluster.reclaimer."""
        self.alive = LeasedTable(shared, "alive", AliveRecord, record_keys.by_id)
        """Hosts that live: each creates its own row, with a lease. Writers: cluster.heartbeat."""
        self.networks = KeptTable(local, "networks", NetworkRecord, record_keys.of_network)
        """Networks of this host. Replication sets `published`, `removed`, `name` and `cluster` only.
        Writers: driver.networks, replication.apply."""
        self.endpoints = Table(local, "endpoints", EndpointRecord, record_keys.of_endpoint, decode=decode_endpoint)
        """Endpoints of this host. Writers: driver.endpoint_table, attach.deferred_delete."""
        self.links = KeptTable(local, "links", LinkRecord)
        """Parents that we made. Writers: parents.owned."""
        self.host_access = Table(local, "host_access", HostAccessRecord, record_keys.of_host_access)
        """Addresses of pools that this host has itself, by network and subnet. Writers: host_access.access."""
        self.identity = Table(local, "identity", IdentityRecord)
        """One row, "this". Writers: cluster.identity."""
        self.engine = Table(local, "engine", EngineRecord)
        """One row, "this". Writers: store.known_engine."""
        self.published = Table(local, "published", PublishedRecord, record_keys.of_published)
        """Networks below which this host has written names. Writers: dns.publish.published."""
        self.used_here = Table(local, "used_here", OwnSubnetUseRecord, record_keys.of_use)
        """Rows of `used` of this host, on its own disk. Writers: ipam.subnet_use."""
        self.pending = KeptTable(local, "pending", PendingRecord)
        """Operations that wait for the store, by their time. Writers: driver.outbox."""
        self.observed = Table(local, "observed", ObservedRecord)
        """Observation times of this host, as read when something was first seen. Writers: store.observed_age."""

    async def unreadable(self) -> list[str]:
        """Keys of records that are left alone: a newer version wrote them, or they cannot be read."""
        return [key for table in vars(self).values() for key in await table.unreadable()]

    async def left_alone(self) -> list[str]:
        """The same of all records of this host; of those that hosts share as far as they were seen."""
        found: list[str] = []
        for table in vars(self).values():
            found += await (table.unreadable() if table.is_beside(self.identity) else table.left_alone())
        return found
