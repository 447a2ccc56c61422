"""Addresses that containers had, by network and name: read when the driver starts, followed in a cluster, and written.

A row is a preference and no reservation: the next container of that name gets these addresses if nobody has them. It
also decides who is the one container of a name: two hosts may start one of the same name at a time, and only the one
whose row it is has the MAC that is derived from the name.

Nobody's clock counts: rows are in the order of their writes to the store, by revision, and grow old by observation
(`driver.name_memory`).
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address

from msgspec.structs import replace

from macvlan_global.ipam.avoided import Avoided
from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import RememberedRecord
from macvlan_global.store.table import Row, Tables

NAMES_MOST = 4096
"""The most names that are remembered for a network. A pool has at most one for each address; of IPv6 there are more."""
READ_SECONDS = 10.0
"""Time for which names that were read are taken for current: soon after that they are followed, or not needed."""
TRIES = 3
"""Writes of a row that may be lost to other hosts."""

Name = tuple[str, str]
"""A network's id in the cluster, and the name of a container."""


async def not_known(_endpoint: str) -> str:
    """For those who know no names of containers."""
    return ""


class RememberedNames:
    """Reads and writes the rows, and keeps `Avoided` up to date. One per process."""

    def __init__(
        self,
        tables: Tables,
        avoided: Avoided,
        host: str,
        *,
        shared: bool = True,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`host` is the id of this host, `steady` a clock that is never set. `shared` says that other hosts write the
        store too."""
        self._shared = shared
        self._steady = steady
        self._table = tables.remembered
        self._addresses = tables.addresses
        self._avoided = avoided
        self._host = host
        self._rows: dict[str, Row[RememberedRecord]] = {}
        self._used: dict[str, tuple[int, int]] = {}  # by key, sorts by the last use
        self._macs: Counter[str] = Counter()  # rows with a MAC
        self._latest = 0, 0
        self._read: dict[str, float | None] = {}  # prefixes: when they were read, None while they are followed
        self._reading = KeyedLock()
        self.wanted: frozenset[str] | None = None
        """The networks whose names are followed, or are about to be; None if that is not known yet."""
        self.name_of: Callable[[str], Awaitable[str]] = not_known
        """Reads the name of the container of an endpoint (id) of this host; "" if it is not known."""
        self.prefix = tables.remembered.prefix
        self.count = 0
        """Number of remembered addresses."""

    # --------------------------------------------------------------- reading

    def rows(self) -> list[RememberedRecord]:
        """Every record that is known, the longest unused first."""
        return [self._rows[key].record for key in sorted(self._rows, key=self._used.__getitem__)]

    def get(self, name: Name) -> RememberedRecord | None:
        """The record of a name, if there is one."""
        row = self._rows.get(self._table.key(*name))
        return row.record if row else None

    async def entries(self) -> list[Entry]:
        """All that the store has of these rows.

        Raises:
            Unavailable: the store does not answer.
        """
        return await self._table.entries()

    async def all(self) -> list[RememberedRecord]:
        """Every record of the cluster, read from the store, the longest unused first: for an operator who asks for it.

        Raises:
            Unavailable: the store does not answer.
        """
        rows = sorted(await self._table.scan(), key=lambda row: row.entry.revision)
        return [row.record for row in rows]

    def prefix_of(self, network: str) -> str:
        """The prefix of the keys of the names of a network."""
        return self._table.key(network) + "/"

    def has_read(self, network: str) -> bool:
        """Whether all names of a network are known, and kept up to date."""
        return any(self._read.get(each, 0.0) is None for each in (self.prefix, self.prefix_of(network)))

    @property
    def is_read(self) -> bool:
        """Whether all names are known that are followed."""
        if self._read.get(self.prefix, 0.0) is None:
            return True
        return self.wanted is not None and all(self.has_read(each) for each in self.wanted)

    def begin(self, prefix: str) -> None:
        """All that the store has below a prefix is told anew, and followed from now on."""
        self._drop(prefix)
        if self.prefix.startswith(prefix):
            self._read = {self.prefix: None}
        elif prefix.startswith(self.prefix):
            self._read[prefix] = None

    def end(self, network: str) -> None:
        """The names of a network are not followed any longer."""
        self._drop(self.prefix_of(network))
        self._read.pop(self.prefix_of(network), None)

    async def ensure(self, network: str) -> None:
        """Read the names of a network, if they are not known, or were read a while ago.

        Raises:
            Unavailable: the store does not answer.
        """
        async with self._reading.of(network):
            read = self._read.get(self.prefix_of(network), -READ_SECONDS)
            if self.has_read(network) or (read is not None and self._steady() - read < READ_SECONDS):
                return
            rows = await self.read(await self._table.entries(network))
            if not self.has_read(network):
                self._drop(self.prefix_of(network))
                for row in sorted(rows, key=lambda each: each.entry.revision):
                    self.take(row)
                self._read[self.prefix_of(network)] = self._steady()

    async def read(self, entries: Iterable[Entry]) -> list[Row[RememberedRecord]]:
        """The rows of entries that were seen, without those that cannot be read."""
        return [row for _, row in await self._table.read_all(entries) if row]

    def take(self, row: Row[RememberedRecord]) -> None:
        """A row of the store was seen. One that is older than the one that is known came late."""
        if row.entry.revision >= (known.entry.revision if (known := self._known(row.record)) else 0):
            self._keep(row)

    def gone(self, key: str) -> None:
        """The row with this key was deleted."""
        self._used.pop(key, None)
        if row := self._rows.pop(key, None):
            self._index(row.record, key, drop=True)

    # --------------------------------------------------------------- writing

    async def own(self, mine: RememberedRecord) -> bool:
        """Write that the one container of a name is this host's; False if another one of that name has its addresses.

        In a cluster this writes even if the row says so already: the row that is known may be an old one, and another
        host that looks at the addresses of this one, just before they are claimed, must lose its write.

        Raises:
            Unavailable: the store does not answer.
            Internal: the row cannot be read; it is left alone.
        """
        name = mine.network, mine.name
        row = self._known(mine)
        for _ in range(TRIES):
            if row is None:
                written = await self._table.create(mine, *name)
            else:
                was = row.record
                same = (was.host, was.space, was.addresses) == (mine.host, mine.space, mine.addresses)
                if same and not self._shared:
                    return True
                if any([await self._is_held(was, each) for each in was.addresses if each not in mine.addresses]):
                    return False
                written = await self._table.replace(row, mine)
            if written:
                self._keep(written)
                return True
            row = await self._table.get(*name)
        return False

    async def touch(self, record: RememberedRecord, at: float) -> None:
        """Write that the addresses of a record were in use just now, unless it is another one by now.

        Raises:
            Unavailable: the store does not answer.
            Internal: the row cannot be read.
        """

        def used(now: RememberedRecord) -> RememberedRecord | None:
            same = (now.host, now.addresses) == (record.host, record.addresses)
            return replace(now, at=at) if same else None

        if written := await self._table.update(used, record.network, record.name):
            self._keep(written)

    async def forget(self, record: RememberedRecord, address: str) -> None:
        """Forget an address (bare) of the name of a record, and its row with the last one, unless its container has it.

        Raises:
            Unavailable: the store does not answer.
            Internal: the row cannot be read.
        """

        def without(now: RememberedRecord) -> RememberedRecord | None:
            fields = {each: "" for each in ("address", "address6") if getattr(now, each) == address}
            rest = replace(now, **fields)
            return rest if rest.addresses else None

        known = self.get((record.network, record.name)) or record
        if await self._is_held(known, address):  # it may have it again by now
            return
        if row := await self._table.update(without, record.network, record.name):
            if row.record.addresses == (address,) and await self._table.delete(row):
                self.gone(row.entry.key)
            else:
                self.take(row)

    async def expire(self, record: RememberedRecord) -> None:
        """Forget exactly this record, unless it was written anew, or its container has its addresses all the same.

        Raises:
            Unavailable: the store does not answer.
        """
        row = self._known(record)
        if any([await self._is_held(record, each) for each in record.addresses]):
            return
        if row and row.record == record and await self._table.delete(row):
            self.gone(row.entry.key)

    async def forget_network(self, network: str) -> None:
        """Forget all names of a network that is gone.

        Raises:
            Unavailable: the store does not answer.
        """
        for row in await self._table.scan(network):
            await self._table.delete(row)
        for key in [key for key, row in self._rows.items() if row.record.network == network]:
            self.gone(key)

    def surplus(self) -> list[RememberedRecord]:
        """The longest unused records of networks that have more than `NAMES_MOST`, and those of which other names have
        had all addresses since: a write that was to say so may be lost with a driver."""
        by_network: dict[str, list[RememberedRecord]] = {}
        for record in self.rows():
            by_network.setdefault(record.network, []).append(record)
        surplus = [each for those in by_network.values() for each in those[: max(0, len(those) - NAMES_MOST)]]
        had_since: set[tuple[str, str]] = set()
        for record in reversed(self.rows()):
            addresses = {(record.space, each) for each in record.addresses}
            if addresses and addresses <= had_since:
                surplus.append(record)
            had_since |= addresses
        return surplus

    def others(self, space: str, addresses: Iterable[str], name: Name | None) -> list[tuple[RememberedRecord, str]]:
        """The records of other names that have one of these addresses, with the address."""
        own = self._table.key(*name) if name else ""
        return [
            (row.record, address)
            for address in addresses
            for reason in self._reasons(space, address)
            if reason != own and (row := self._rows.get(reason))
        ]

    def another_has(self, name: Name, mac: str) -> bool:
        """Whether the row of another name has this MAC."""
        own = self.get(name)
        return self._macs[mac] > (1 if own and own.mac == mac else 0)

    def moved_up(self, name: Name) -> None:
        """The addresses of a name were in use just now: `touch` will write it."""
        if row := self._rows.get(self._table.key(*name)):
            self._keep(row, now=True)

    # ---------------------------------------------------------------- inside

    async def _is_held(self, record: RememberedRecord, address: str) -> bool:
        """Whether the container of a record has an address of it, or one is about to have it there."""
        row = await self._addresses.get(record.space, address)
        if row is None or row.record.host != record.host:
            return False
        if row.record.kind == "reserved":
            return True
        # with mac=address, whoever has the address has the MAC
        same = (row.record.kind, row.record.mac) == ("endpoint", record.mac)
        return same and await self.name_of(row.record.endpoint) in {"", record.name}

    def _reasons(self, space: str, address: str) -> frozenset[str]:
        found = ip_address(address)
        return self._avoided.remembered(space, found.version).reasons(int(found))

    def _known(self, record: RememberedRecord) -> Row[RememberedRecord] | None:
        return self._rows.get(self._table.key(record.network, record.name))

    def _keep(self, row: Row[RememberedRecord], *, now: bool = False) -> None:
        """Keep a row, as one that was used when it was written, or just `now`."""
        key, revision = row.entry.key, row.entry.revision
        self.gone(key)
        self._used[key] = (self._latest[0], self._latest[1] + 1) if now else (revision, 0)
        self._latest = max(self._latest, self._used[key])
        self._rows[key] = row
        self._index(row.record, key, None if now else revision)

    def _drop(self, prefix: str) -> None:
        for key in [each for each in self._rows if each.startswith(prefix)]:
            self.gone(key)

    def _index(self, record: RememberedRecord, key: str, revision: int | None = None, *, drop: bool = False) -> None:
        self.count += -len(record.addresses) if drop else len(record.addresses)
        self._macs[record.mac] += -1 if drop else 1
        if not self._macs[record.mac]:
            del self._macs[record.mac]
        for each in record.addresses:
            found = ip_address(each)
            remembered = self._avoided.remembered(record.space, found.version)
            if drop:
                remembered.drop(int(found), key)
            else:
                remembered.add(int(found), key, revision)
