"""Endpoint records of this host: by key, and by endpoint id and sandbox, although keys begin with the network's id.

One scan fills the index, and each write of this process keeps it: nobody else writes endpoints of this host. A record
that it names is read from the table all the same, so an entry left behind by a deletion does no harm.
"""

import msgspec

from macvlan_global.errors import NotFound
from macvlan_global.store.records import EndpointRecord
from macvlan_global.store.table import Row, Table


class EndpointTable:
    """The table of endpoints with an index. Records that the engine deleted are found by their key only."""

    def __init__(self, table: Table[EndpointRecord]) -> None:
        """Nothing is read before the first question."""
        self._table = table
        self._networks: dict[str, str] = {}
        self._sandboxes: dict[str, set[str]] = {}  # endpoint ids
        self._is_indexed = False

    async def get(self, network_id: str, endpoint_id: str) -> Row[EndpointRecord] | None:
        """The row at this key, in whichever state."""
        return await self._table.get(network_id, endpoint_id)

    async def need(self, network_id: str, endpoint_id: str) -> EndpointRecord:
        """The endpoint at this key, in whichever state.

        Raises:
            NotFound: there is none.
        """
        row = await self._table.get(network_id, endpoint_id)
        if row is None:
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
        ids = self._sandboxes.get(endpoint.sandbox, set())
        ids.discard(endpoint.id)
        if not ids:
            self._sandboxes.pop(endpoint.sandbox, None)

    def _add(self, record: EndpointRecord) -> None:
        """Called before the record is written: the store's answer may be lost."""
        self._networks[record.id] = record.network
        if record.sandbox:
            self._sandboxes.setdefault(record.sandbox, set()).add(record.id)

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
