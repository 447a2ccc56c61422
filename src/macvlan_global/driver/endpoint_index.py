"""Endpoint rows by endpoint id and by sandbox, although their keys begin with the network's id.

One scan fills the index, and each write of this process keeps it: nobody else writes endpoints of this host. A row that
it names is read from the table all the same, so that an entry left behind by a deletion does no harm.
"""

from macvlan_global.store.records import EndpointRecord
from macvlan_global.store.table import Row, Table


class EndpointIndex:
    """Finds rows of a table of endpoints without a scan."""

    def __init__(self, table: Table[EndpointRecord]) -> None:
        """Nothing is read before the first question."""
        self._table = table
        self._networks: dict[str, str] = {}
        self._sandboxes: dict[str, set[str]] = {}  # endpoint ids
        self._is_filled = False

    def add(self, record: EndpointRecord) -> None:
        """Call this before the record is written: an answer of the store may be lost."""
        self._networks[record.id] = record.network
        if record.sandbox:
            self._sandboxes.setdefault(record.sandbox, set()).add(record.id)

    def discard(self, record: EndpointRecord) -> None:
        """The endpoint is deleted."""
        self._networks.pop(record.id, None)
        ids = self._sandboxes.get(record.sandbox, set())
        ids.discard(record.id)
        if not ids:
            self._sandboxes.pop(record.sandbox, None)

    async def by_id(self, endpoint_id: str) -> Row[EndpointRecord] | None:
        """The row of an endpoint, None if there is none."""
        await self._fill()
        network = self._networks.get(endpoint_id)
        return await self._table.get(network, endpoint_id) if network else None

    async def find(self, endpoint_id: str) -> EndpointRecord | None:
        """The endpoint with this id, None if there is none or the engine has deleted it."""
        row = await self.by_id(endpoint_id)
        return row.record if row and row.record.is_live else None

    async def in_sandbox(self, sandbox: str) -> list[Row[EndpointRecord]]:
        """The rows of the endpoints that joined this network namespace, in the order of their keys."""
        await self._fill()
        keys = sorted(
            (self._networks[each], each) for each in self._sandboxes.get(sandbox, ()) if each in self._networks
        )
        rows = [await self._table.get(*key) for key in keys]
        return [row for row in rows if row and row.record.sandbox == sandbox]

    async def _fill(self) -> None:
        if self._is_filled:
            return
        for row in await self._table.scan():
            if row.record.id not in self._networks:  # what was written meanwhile is newer
                self.add(row.record)
        self._is_filled = True
