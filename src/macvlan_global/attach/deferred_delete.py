"""Deferred deletion of container interfaces, a moment after the engine has its reply.

Deleting a link costs the kernel as long as all else that the end of a container needs, and most of these links need not
be deleted: their namespace ends right after its container, and they with it. Only a driver is not told which it is, the
end of a container or that it leaves a network and goes on. So the link loses its addresses before the engine has its
reply, and is looked for again a moment later, when a namespace that ends is gone.

That is for links whose MAC nobody else will have: another one, and passthru, would have to wait for the kernel.
"""

import asyncio

from msgspec.structs import replace

from macvlan_global import tasks
from macvlan_global.attach.container_interface import container_link
from macvlan_global.kernel.ports import Kernel
from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.store.records import EndpointRecord
from macvlan_global.store.table import Row, Table

DELAY_SECONDS = 0.05


class DeferredDeletion:
    """Deletes links on tasks of its own, see `run`. Deletions that a crash prevented are done by `resume`."""

    def __init__(self, kernel: Kernel, endpoints: Table[EndpointRecord]) -> None:
        """`endpoints` are those of this host."""
        self._kernel = kernel
        self._endpoints = endpoints
        self._jobs: asyncio.Queue[EndpointRecord] = asyncio.Queue()
        self._pending: dict[str, EndpointRecord] = {}
        self._turns = KeyedLock()
        self._runs = False

    async def defer(self, endpoint: EndpointRecord) -> bool:
        """Take the addresses from an endpoint's link now, and delete it later; False if `run` is not running."""
        if not self._runs:
            return False
        if endpoint.id not in self._pending and await self._kernel.flush_addresses(container_link(endpoint)):
            self._pending[endpoint.id] = endpoint
            self._jobs.put_nowait(endpoint)
        return True

    async def keep_record(self, row: Row[EndpointRecord]) -> bool:
        """Keep the record until the deferred deletion is done; False if none is pending."""
        if row.record.id not in self._pending:
            return False
        key = (row.record.network, row.record.id)
        await self._endpoints.update(lambda record: replace(record, state="leaving", address="", address6=""), *key)
        if row.record.id not in self._pending:
            await self._remove(row.record)
        return True

    async def delete_now(self, sandbox: str) -> None:
        """Delete this sandbox's pending interfaces now, so the next one can reuse their names."""
        for each in [each for each in self._pending.values() if each.sandbox == sandbox]:
            async with self._turns.of(each.id):
                if self._pending.get(each.id) is each:
                    await self._remove(each)

    async def resume(self) -> None:
        """Delete the links whose deletion an earlier run of the driver had deferred, and their records."""
        for row in await self._endpoints.scan():
            if not row.record.is_live and row.record.id not in self._pending:
                await self._try(row.record)

    async def run(self) -> None:
        """Do the work, until cancelled."""
        self._runs = True
        try:
            # all at once: each waits for the same moment
            await tasks.each(self._jobs, self._later, "deleting the link of a container")
        finally:
            self._runs = False

    async def _later(self, endpoint: EndpointRecord) -> None:
        try:
            await asyncio.sleep(DELAY_SECONDS)
            async with self._turns.of(endpoint.id):
                # else `delete_now` has done it, and the endpoint may have another link by now, of the same alias
                if self._pending.get(endpoint.id) is endpoint:
                    await self._try(endpoint)
        finally:
            if self._pending.get(endpoint.id) is endpoint:
                del self._pending[endpoint.id]

    async def _try(self, endpoint: EndpointRecord) -> None:
        await tasks.attempt(f"deleting link {endpoint.link} (the next repair tries again)", self._remove(endpoint))

    async def _remove(self, endpoint: EndpointRecord) -> None:
        """Delete the link, and its record once the engine has deleted the endpoint."""
        await self._kernel.delete_in_sandbox(container_link(endpoint))
        self._pending.pop(endpoint.id, None)  # from here on `keep_record` knows that the record is its own to drop
        row = await self._endpoints.get(endpoint.network, endpoint.id)
        if row and not row.record.is_live:
            await self._endpoints.drop(endpoint.network, endpoint.id)
