"""Publisher: writes the names of this host's containers into the store, below `names/NETWORK/HOST/`.

Events write single records at once. A comparison of all of them makes good what was missed: it is due at the start,
after a gap in the engine's events, and after every write that failed. It looks below the networks where this host has
written names (`published`), and nowhere else.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NoReturn

import msgspec

from macvlan_global.dns.publish.published import PublishedNetworks
from macvlan_global.dns.resolver.names import MOST_ALIASES
from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.store.records import NameRecord, PortRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.store.validate import VERSION, version_of
from macvlan_global.tasks import attempt, forever

SHORT_ID = 12
AT_ONCE = 16
"""Writes under way at a time during a comparison."""
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """One container's endpoint on a network of the cluster, as the engine shows it.

    `network` is the network's id in the cluster. Addresses are bare, "" if none. `aliases` may repeat the container's
    other names.
    """

    network: str
    network_name: str
    endpoint: str
    address: str = ""
    address6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()


def container_names(container_id: str, name: str, hostname: str, aliases: Iterable[str]) -> list[str]:
    """All names of a container on a network: its name, aliases (64 at most), short id and hostname, without repeats."""
    found: dict[str, str] = {}
    for each in (name.removeprefix("/"), *islice(aliases, MOST_ALIASES), container_id[:SHORT_ID], hostname):
        if each:
            found.setdefault(each.lower(), each)
    return list(found.values())


def name_records(  # noqa: PLR0913  # one for each thing that an engine shows of a container
    container_id: str,
    name: str,
    hostname: str,
    endpoints: Sequence[NamedEndpoint],
    ports: Sequence[PortRecord],
    *,
    host: str,
    at: float,
) -> list[NameRecord]:
    """The records of a running container, one for each endpoint. `host` is this host's id, `at` the time (epoch)."""
    return [
        NameRecord(
            network=each.network,
            network_name=each.network_name,
            endpoint=each.endpoint,
            container=container_id,
            names=container_names(container_id, name, hostname, each.aliases),
            address=each.address,
            address6=each.address6,
            mac=each.mac,
            ports=sorted(ports, key=lambda port: (port.port, port.protocol)),
            host=host,
            at=at,
        )
        for each in endpoints
    ]


ReadNames = Callable[[], Awaitable[Iterable[NameRecord]]]
"""Reads from the engine the records of every container that runs now."""


class Publisher:
    """Writes this host's name records. A store that does not answer raises nothing: a comparison is due then."""

    def __init__(self, tables: Tables, host: str, *, steady: Callable[[], float] = time.monotonic) -> None:
        """`host` is this host's id; no other host writes below it. `steady` is a clock that is never set."""
        self.on_own: Callable[[str, NameRecord | None], None] = lambda _key, _record: None
        """Called with the key of a name of this host and its record once that is in the store, or None."""
        self._names = tables.names
        self._networks = tables.networks
        self._published = PublishedNetworks(tables.published, steady)
        self._looks_everywhere = True  # at a start, and whenever somebody else may have written for this host
        self._host = host
        self._locks = KeyedLock()
        self._written: dict[str, NameRecord] = {}  # by endpoint: one start of a container is several events
        self._network_of: dict[str, str] = {}  # by endpoint, of names that are or may be in the store
        self._comparing = asyncio.Lock()
        self._touched: set[str] | None = None  # endpoints since the comparison began; None while none is under way
        self._due = asyncio.Event()
        self._due.set()  # a driver that starts does not know what happened before

    @property
    def due(self) -> bool:
        """Whether a comparison is due or under way: until then the store may differ from this host."""
        return self._due.is_set() or self._comparing.locked()

    def resync(self) -> None:
        """Request a comparison, as after a gap in the engine's events. It looks below all networks of this host: a
        clone that was this host for a while has left no list of those where it wrote."""
        self._looks_everywhere = True
        self._due.set()

    async def publish(self, records: Iterable[NameRecord]) -> bool:
        """Write the records of endpoints that exist now; whether all are in the store."""
        many = [self._publish(record) for record in records]
        # a task of its own would begin after the next call about this endpoint
        return await many[0] if len(many) == 1 else all(await asyncio.gather(*many))

    async def withdraw(self, endpoint: str) -> bool:
        """Delete the record of an endpoint that was deleted; whether it is gone from the store."""
        async with self._locks.of(endpoint):
            self._touch(endpoint)
            return await self._attempt(endpoint, None)

    async def compare(self, read: ReadNames) -> None:
        """Make the records of this host in the store equal to those of `read`.

        Endpoints that are published or withdrawn meanwhile are newer than what `read` saw, and are left alone. After a
        failure the next comparison is due.

        Raises:
            Unavailable: the engine or the store does not answer.
        """
        async with self._comparing:
            self._due.clear()
            self._touched = set()
            try:
                await self._compare(read)
            except BaseException:
                self._due.set()
                raise
            finally:
                self._touched = None

    async def run(self, read: ReadNames, *, retry: float = FIRST_RETRY_SECONDS) -> NoReturn:
        """Compare whenever that is due, until cancelled. After a failure again in `retry` seconds, then longer."""

        async def compare() -> None:
            await self._due.wait()
            await self.compare(read)

        await forever("publishing the names of this host's containers", compare, first=retry, last=LAST_RETRY_SECONDS)

    async def _compare(self, read: ReadNames) -> None:
        everywhere, self._looks_everywhere = self._looks_everywhere, False
        try:
            await self._compare_below(await self._published.read(), await self._all_here() if everywhere else [], read)
        except BaseException:
            self._looks_everywhere |= everywhere
            raise

    async def _all_here(self) -> list[str]:
        """The networks of the cluster that this host has, by their ids there."""
        return [row.record.shared_id for row in await self._networks.scan() if row.record.cluster]

    async def _compare_below(self, published: list[str], others: list[str], read: ReadNames) -> None:
        wanted = {(record.network, record.endpoint): record for record in await read()}
        stored: dict[tuple[str, str], Row[NameRecord] | None] = {}
        for network in sorted({*published, *others, *(network for network, _ in wanted)}):
            below = self._names.key(network, self._host) + "/"
            for entry in await self._names.entries(network, self._host):  # with unreadable ones, which are replaced
                if version_of(entry.value) <= VERSION:
                    stored[network, entry.key.removeprefix(below)] = self._names.read(entry)
        slots = asyncio.Semaphore(AT_ONCE)
        names = sorted(wanted.keys() | stored.keys())  # in one order, so that a simulated run can be played again
        corrections = (self._correct(slots, *each, stored.get(each), wanted.get(each)) for each in names)
        # all are tried, then the first failure is raised
        for result in await asyncio.gather(*corrections, return_exceptions=True):
            if result:
                raise result
        for network in set(published).difference(network for network, _ in wanted):
            await self._published.found_empty(network)

    def _touch(self, endpoint: str) -> None:
        if self._touched is not None:
            self._touched.add(endpoint)

    async def _publish(self, record: NameRecord) -> bool:
        async with self._locks.of(record.endpoint):
            self._touch(record.endpoint)
            if (written := self._written.get(record.endpoint)) and _same(written, record):
                return True
            return await self._attempt(record.endpoint, record)

    async def _correct(
        self,
        slots: asyncio.Semaphore,
        network: str,
        endpoint: str,
        stored: Row[NameRecord] | None,
        wanted: NameRecord | None,
    ) -> None:
        async with slots, self._locks.of(endpoint):
            if endpoint in (self._touched or ()):
                return
            if wanted is None:
                await self._delete(network, endpoint)
            elif stored and _same(stored.record, wanted):
                self._network_of[endpoint] = network
                self.on_own(stored.entry.key, wanted)
            else:
                await self._put(wanted)

    async def _attempt(self, endpoint: str, record: NameRecord | None) -> bool:
        """Write once; whether that is in the store. After a failure a comparison is due, which makes it good."""
        level = logging.DEBUG if self.due else logging.WARNING  # said once for an outage
        done = await attempt(
            f"publishing the name of endpoint {endpoint[:12]}", self._write(endpoint, record), level=level
        )
        if not done:
            self._due.set()
        return done

    async def _write(self, endpoint: str, record: NameRecord | None) -> None:
        """Write the record, or delete it if None."""
        known = self._network_of.get(endpoint)
        if record is None:  # one of an earlier run may be below any of its networks
            for network in [known] if known else await self._published.read():
                await self._delete(network, endpoint)
            return
        if known and known != record.network:  # the network has another id in the cluster now
            await self._delete(known, endpoint)
        await self._put(record)

    async def _put(self, record: NameRecord) -> None:
        endpoint = record.endpoint
        self._written.pop(endpoint, None)
        await self._published.add(record.network)
        self._network_of[endpoint] = record.network
        await self._names.put(record, record.network, self._host, endpoint)
        self._written[endpoint] = record
        self.on_own(self._names.key(record.network, self._host, endpoint), record)

    async def _delete(self, network: str, endpoint: str) -> None:
        self._written.pop(endpoint, None)
        await self._names.drop(network, self._host, endpoint)
        self.on_own(self._names.key(network, self._host, endpoint), None)
        if self._network_of.get(endpoint) == network:
            del self._network_of[endpoint]


def _same(a: NameRecord, b: NameRecord) -> bool:
    """Whether two records are equal but for the time of writing."""
    return msgspec.structs.replace(a, at=0.0) == msgspec.structs.replace(b, at=0.0)
