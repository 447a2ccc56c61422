"""Endpoint records of this host: by key, and by endpoint id and sandbox, although keys begin with the network's id.

One scan fills the index, and each write of this process keeps it: nobody else writes endpoints of this host. A record
that it names is read from the table all the same, so an entry left behind by a deletion does no harm.
"""

from collections import deque
from dataclasses import dataclass

import msgspec

from macvlan_global.errors import NotFound
from macvlan_global.store.records import EndpointRecord
from macvlan_global.store.table import Row, Table

MACS_MOST = 4096
"""The most MACs that are kept for whoever asks for the latest."""


@dataclass(slots=True)
class EndpointCounts:
    """Counts of endpoints on one network of this host: all, those with an address of each family, and those whose
    container has a link, by attach mode."""

    endpoints: int = 0
    ipv4: int = 0
    ipv6: int = 0
    plain: int = 0
    direct: int = 0


_Shape = tuple[str, int, int, str]
"""The part of an endpoint that is counted: its network, whether it has an IPv4 and an IPv6 address, and its attach mode
("" if its container has no link)."""


class EndpointTable:
    """The table of endpoints with an index. Records that the engine deleted are found by their key only."""

    def __init__(self, table: Table[EndpointRecord]) -> None:
        """Nothing is read before the first question."""
        self._table = table
        self._networks: dict[str, str] = {}
        self._sandboxes: dict[str, set[str]] = {}  # endpoint ids
        self._macs: dict[str, str] = {}  # by endpoint id
        self._shapes: dict[str, _Shape] = {}  # of those that are counted
        self._counts: dict[str, EndpointCounts] = {}  # by network
        self._latest_macs: deque[str] = deque(maxlen=MACS_MOST)
        self._is_indexed = False

    async def get(self, network_id: str, endpoint_id: str) -> Row[EndpointRecord] | None:
        """The row at this key, in whichever state."""
        return await self._table.get(network_id, endpoint_id)

    async def need(self, network_id: str, endpoint_id: str) -> EndpointRecord:
        """The endpoint at this key.

        Raises:
            NotFound: there is none, or the engine deleted it, and only its link is still to go.
        """
        row = await self._table.get(network_id, endpoint_id)
        if row is None or not row.record.is_live:
            raise _unknown(endpoint_id)
        return row.record

    async def all(self, *network_id: str) -> list[EndpointRecord]:
        """All endpoints, or those of one network."""
        return [row.record for row in await self._table.scan(*network_id) if row.record.is_live]

    async def find(self, endpoint_id: str) -> EndpointRecord | None:
        """The endpoint with this id, in whichever network."""
        await self._index()
        network = self._networks.get(endpoint_id)
        row = await self._table.get(network, endpoint_id) if network else None
        return row.record if row and row.record.is_live else None

    async def in_sandbox(self, sandbox: str) -> list[EndpointRecord]:
        """The endpoints that joined this network namespace, in the order of their keys."""
        await self._index()
        ids = self._sandboxes.get(sandbox, set()) & self._networks.keys()
        rows = [await self._table.get(*key) for key in sorted((self._networks[each], each) for each in ids)]
        return [row.record for row in rows if row and row.record.is_live and row.record.sandbox == sandbox]

    async def with_mac(self, mac: str) -> list[EndpointRecord]:
        """The endpoints with a MAC, on whichever network, from memory but for those that have it."""
        await self._index()
        keys = [(self._networks[each], each) for each, its in self._macs.items() if its == mac]
        rows = [await self._table.get(*key) for key in keys]
        return [row.record for row in rows if row and row.record.is_live and row.record.mac == mac]

    async def load(self) -> None:
        """Read all rows once, as the first question does that needs the index."""
        await self._index()

    def counts(self, network_id: str) -> EndpointCounts:
        """Counts of a network's endpoints, from memory: right once `load` or a question has filled the index."""
        return self._counts.get(network_id) or EndpointCounts()

    def take_macs(self) -> list[str]:
        """MACs of endpoints that were made, changed or first read since the last call, the latest `MACS_MOST`. Some of
        these endpoints are gone."""
        taken = [*self._latest_macs]
        self._latest_macs.clear()
        return taken

    async def put(self, record: EndpointRecord) -> None:
        """Write a new record."""
        self._add(record)
        await self._table.put(record, record.network, record.id)

    async def change(self, endpoint: EndpointRecord, **fields: object) -> EndpointRecord:
        """Change fields of a record, and no others; the record as it is then.

        Raises:
            NotFound: the endpoint was deleted meanwhile, with its network.
        """
        self._add(msgspec.structs.replace(endpoint, **fields))
        row = await self._table.change(endpoint.network, endpoint.id, **fields)
        if row is None or not row.record.is_live:
            self.forget(endpoint)
        if row is None:
            raise _unknown(endpoint.id)
        return row.record

    async def drop(self, endpoint: EndpointRecord) -> None:
        """Delete a record. Idempotent."""
        await self._table.drop(endpoint.network, endpoint.id)
        self.forget(endpoint)

    def forget(self, endpoint: EndpointRecord) -> None:
        """Drop an endpoint from the index: the engine deleted it, and its record is dropped by somebody else."""
        self._networks.pop(endpoint.id, None)
        self._macs.pop(endpoint.id, None)
        self._count(endpoint.id, None)
        ids = self._sandboxes.get(endpoint.sandbox, set())
        ids.discard(endpoint.id)
        if not ids:
            self._sandboxes.pop(endpoint.sandbox, None)

    def _add(self, record: EndpointRecord) -> None:
        """Called before the record is written: the store's answer may be lost."""
        self._networks[record.id] = record.network
        self._macs[record.id] = record.mac
        self._latest_macs.append(record.mac)
        if record.sandbox:
            self._sandboxes.setdefault(record.sandbox, set()).add(record.id)
        if record.is_live:
            link = ("direct" if record.is_inside else "plain") if record.sandbox else ""
            self._count(record.id, (record.network, bool(record.address), bool(record.address6), link))

    def _count(self, endpoint_id: str, shape: _Shape | None) -> None:
        """Count an endpoint as it is now, and no longer as it was; None if it is gone."""
        before = self._shapes.get(endpoint_id)
        if before == shape:
            return
        for each, sign in ((before, -1), (shape, 1)):
            if each:
                network, ipv4, ipv6, link = each
                counts = self._counts.setdefault(network, EndpointCounts())
                counts.endpoints += sign
                counts.ipv4 += sign * ipv4
                counts.ipv6 += sign * ipv6
                counts.plain += sign * (link == "plain")
                counts.direct += sign * (link == "direct")
                if not counts.endpoints:
                    del self._counts[network]
        if shape:
            self._shapes[endpoint_id] = shape
        else:
            self._shapes.pop(endpoint_id, None)

    async def _index(self) -> None:
        if self._is_indexed:
            return
        for row in await self._table.scan():
            if row.record.id not in self._networks:  # a record that was written meanwhile is newer
                self._add(row.record)
        self._is_indexed = True


def _unknown(endpoint_id: str) -> NotFound:
    return NotFound(
        f"endpoint {endpoint_id[:12]} is not known to macvlan-global on this host; start the container again"
    )
