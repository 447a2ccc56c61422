"""Links inside containers that are taken away a moment after the engine was answered.

Deleting a link costs the kernel as long as all else that the end of a container needs, and most of these links need not
be deleted: their namespace ends right after its container, and they with it. Only a driver is not told which it is, the
end of a container or that it leaves a network and goes on. So the link loses its addresses before the engine is
answered, and is looked for again a moment later, when a namespace that ends is gone.

That is for links whose MAC nobody else will have: another one, and passthru, would have to wait for the kernel.
"""

import asyncio
import logging

import msgspec

from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.kernel.ports import Kernel
from macvlan_global.store.records import EndpointRecord
from macvlan_global.store.table import Row, Table

log = logging.getLogger(__name__)

MOMENT = 0.05


class DeferredDeletion:
    """Takes links away on a task of its own, `run`; what a crash interrupts is done by `finish`."""

    def __init__(self, kernel: Kernel, endpoints: Table[EndpointRecord]) -> None:
        """`endpoints` are those of this host."""
        self._kernel = kernel
        self._endpoints = endpoints
        self._jobs: asyncio.Queue[EndpointRecord] = asyncio.Queue()
        self._pending: dict[str, EndpointRecord] = {}
        self._runs = False

    async def begin(self, endpoint: EndpointRecord) -> bool:
        """Take the addresses from the link of an endpoint, and the link itself later; False if nobody would do that."""
        if not self._runs:
            return False
        if endpoint.id not in self._pending and await self._kernel.silence_in_sandbox(endpoint.sandbox, endpoint.link):
            self._pending[endpoint.id] = endpoint
            self._jobs.put_nowait(endpoint)
        return True

    async def retire(self, row: Row[EndpointRecord]) -> bool:
        """Keep the record of an endpoint for as long as its link may be there; False if it is not, or not for long."""
        if row.record.id not in self._pending:
            return False
        leaving = msgspec.structs.replace(row.record, state="leaving", address="", address6="")
        await self._endpoints.replace(row, leaving)
        if row.record.id not in self._pending:
            await self._remove(leaving)
        return True

    async def clear(self, sandbox: str) -> None:
        """Have no link go from a container later: its name is the next one's, and goes now."""
        for each in [each for each in self._pending.values() if each.sandbox == sandbox]:
            await self._delete(each)

    async def finish(self) -> None:
        """Take away what an earlier run of the driver was about to."""
        for row in await self._endpoints.scan():
            if not row.record.is_live and row.record.id not in self._pending:
                await self._try(row.record)

    async def run(self) -> None:
        """Never returns."""
        self._runs = True
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    tasks.create_task(self._soon(await self._jobs.get()))
        finally:
            self._runs = False

    async def _soon(self, endpoint: EndpointRecord) -> None:
        await asyncio.sleep(MOMENT)
        try:
            await self._try(endpoint)
        finally:
            self._pending.pop(endpoint.id, None)

    async def _try(self, endpoint: EndpointRecord) -> None:
        try:
            await self._remove(endpoint)
        except MacvlanGlobalError as error:
            log.warning("link %s: %s; it is tried again at the next repair", endpoint.link, error)

    async def _remove(self, endpoint: EndpointRecord) -> None:
        """Delete the link, and its record once the engine has deleted the endpoint."""
        await self._delete(endpoint)
        self._pending.pop(endpoint.id, None)  # from here on `retire` knows that the record is its own to drop
        row = await self._endpoints.get(endpoint.network, endpoint.id)
        if row and not row.record.is_live:
            await self._endpoints.drop(endpoint.network, endpoint.id)

    async def _delete(self, endpoint: EndpointRecord) -> None:
        await self._kernel.delete_in_sandbox(endpoint.sandbox, endpoint.mac, endpoint.link)
