"""What this host tells the others about its containers' names."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from macvlan_global.errors import Internal, Unavailable
from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.store.records import NameRecord, PortRecord
from macvlan_global.store.table import Row, Table
from macvlan_global.store.validate import VERSION, version_of

log = logging.getLogger(__name__)

SHORT_ID = 12
AT_ONCE = 16
"""How many records are written at once when many are due."""
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """A container's endpoint on one of our networks, as its engine tells it.

    `network` is the network's id in the cluster. Addresses are bare, "" if none; `aliases` may hold names that the
    container has anyway.
    """

    network: str
    network_name: str
    endpoint: str
    address: str = ""
    address6: str = ""
    mac: str = ""
    aliases: tuple[str, ...] = ()


def names_of(container_id: str, name: str, hostname: str, aliases: Iterable[str]) -> list[str]:
    """What a container is called on a network: its name, aliases, short id and hostname, without repeats."""
    found: dict[str, str] = {}
    for each in (name.removeprefix("/"), *aliases, container_id[:SHORT_ID], hostname):
        if each:
            found.setdefault(each.lower(), each)
    return list(found.values())


def records_of(  # noqa: PLR0913  # what an engine says of a container
    container_id: str,
    name: str,
    hostname: str,
    legs: Sequence[NamedEndpoint],
    ports: Sequence[PortRecord],
    *,
    host: str,
    at: float,
) -> list[NameRecord]:
    """The records of a running container, one for each leg. `host` is this host's id, `at` the time."""
    return [
        NameRecord(
            network=leg.network,
            network_name=leg.network_name,
            endpoint=leg.endpoint,
            container=container_id,
            names=names_of(container_id, name, hostname, leg.aliases),
            address=leg.address,
            address6=leg.address6,
            mac=leg.mac,
            ports=sorted(ports, key=lambda port: (port.port, port.protocol)),
            host=host,
            at=at,
        )
        for leg in legs
    ]


Read = Callable[[], Awaitable[Iterable[NameRecord]]]
"""Asks the engine for the records of every container that runs now."""


class Publisher:
    """Writes this host's names into the store. A store that is away is no error: a comparison is due then."""

    def __init__(self, names: Table[NameRecord], host: str) -> None:
        """`host` is this host's id; nobody else writes below it."""
        self._names = names
        self._host = host
        self._turns = KeyedLock()
        self._said: dict[str, NameRecord] = {}  # by endpoint: one start of a container is several events
        self._comparing = asyncio.Lock()
        self._touched: set[str] | None = None  # since a comparison began; None while there is none
        self._due = asyncio.Event()
        self._due.set()  # a driver that starts does not know what happened before

    @property
    def due(self) -> bool:
        """Whether the store may differ from what was published, so that `compare` is needed or under way."""
        return self._due.is_set() or self._comparing.locked()

    def miss(self) -> None:
        """Something may have been missed (a gap in the engine's events): a comparison is due."""
        self._due.set()

    async def publish(self, records: Iterable[NameRecord]) -> bool:
        """Write the records of endpoints that are there now; whether all are in the store."""
        many = [self._publish(record) for record in records]
        # a task of its own would begin later than what is asked next about this endpoint
        return await many[0] if len(many) == 1 else all(await asyncio.gather(*many))

    async def withdraw(self, endpoint: str) -> bool:
        """Take away the name of an endpoint that is gone; whether it is gone from the store."""
        async with self._turns.of(endpoint):
            self._touch(endpoint)
            return await self._say(endpoint, None)

    async def compare(self, read: Read) -> bool:
        """Make the store have what `read` says and nothing else of this host; whether that was done.

        What is published or withdrawn meanwhile is newer than what `read` saw, and is left alone.
        """
        async with self._comparing:
            self._due.clear()
            self._touched = set()
            done = False
            try:
                done = await self._compare(read)
            except (Unavailable, Internal) as error:
                log.warning("names are not compared now, it is tried again: %s", error)
            finally:
                self._touched = None
                if not done:
                    self._due.set()
            return done

    async def run(self, read: Read, *, retry: float = FIRST_RETRY_SECONDS) -> None:
        """Compare whenever that is due, until it is done: again after `retry` seconds, then longer. Never returns."""
        wait = retry
        while True:
            await self._due.wait()
            try:
                done = await self.compare(read)
            except Exception:  # a bug on this side task must not stop the driver that containers rely on
                log.exception("comparing names failed; it is tried again")
                done = False
            if done:
                wait = retry
            else:
                await asyncio.sleep(wait)
                wait = min(wait * 2, LAST_RETRY_SECONDS)

    async def _compare(self, read: Read) -> bool:
        wanted = {record.endpoint: record for record in await read()}
        have: dict[str, Row[NameRecord] | None] = {}
        for entry in await self._names.entries(self._host):  # by their keys: one that cannot be read is replaced
            if version_of(entry.value) <= VERSION:
                have[entry.key.removeprefix(self._names.key(self._host) + "/")] = self._names.read(entry)
        slots = asyncio.Semaphore(AT_ONCE)
        endpoints = wanted.keys() | have.keys()
        settled = (self._settle(slots, each, have.get(each), wanted.get(each)) for each in endpoints)
        return all(await asyncio.gather(*settled))

    def _touch(self, endpoint: str) -> None:
        if self._touched is not None:
            self._touched.add(endpoint)

    async def _publish(self, record: NameRecord) -> bool:
        async with self._turns.of(record.endpoint):
            self._touch(record.endpoint)
            if (said := self._said.get(record.endpoint)) and _same(said, record):
                return True
            return await self._say(record.endpoint, record)

    async def _settle(
        self, slots: asyncio.Semaphore, endpoint: str, have: Row[NameRecord] | None, wanted: NameRecord | None
    ) -> bool:
        async with slots, self._turns.of(endpoint):
            if endpoint in (self._touched or ()) or (have and wanted and _same(have.record, wanted)):
                return True
            return await self._say(endpoint, wanted)

    async def _say(self, endpoint: str, record: NameRecord | None) -> bool:
        """Write the record, or that there is none; whether that is in the store."""
        self._said.pop(endpoint, None)
        try:
            if record:
                await self._names.put(record, self._host, endpoint)
                self._said[endpoint] = record
            else:
                await self._names.drop(self._host, endpoint)
        except Unavailable as error:
            if not self.due:
                log.warning("a name is written once the store is back: %s", error)
            self._due.set()
            return False
        return True


def _same(a: NameRecord, b: NameRecord) -> bool:
    """Whether two records say the same; when they were written is no matter."""
    return msgspec.structs.replace(a, at=0.0) == msgspec.structs.replace(b, at=0.0)
