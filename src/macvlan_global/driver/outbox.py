"""What the cluster store must be told and could not be, because it was away. Kept on this host's disk until it can."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from macvlan_global.errors import Internal, MacvlanGlobalError, Unavailable
from macvlan_global.ipam.pools import Pools
from macvlan_global.store.records import PendingRecord, RemovedRecord
from macvlan_global.store.table import Row, Tables

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Outbox:
    """Releases of addresses and removals of networks, delivered as soon as the store answers. Each may come twice."""

    def __init__(self, tables: Tables, host: str, *, now: Callable[[], float] = time.time) -> None:
        """`host` is the id of this host. Nothing is delivered before `attach`."""
        self._tables = tables
        self._host = host
        self._now = now
        self._pools: Pools | None = None
        self._something = asyncio.Event()
        self._something.set()  # of an earlier run of the driver
        self._delivering = asyncio.Lock()
        self._said: set[str] = set()

    def attach(self, pools: Pools) -> None:
        """Deliver to this address book, which in turn hands over what it could not do."""
        self._pools = pools

    async def add(self, record: PendingRecord) -> None:
        """Keep something for later. It is on the disk when this returns."""
        await self._tables.pending.put(record, f"{record.at:020.6f}-{secrets.token_hex(4)}")
        self._something.set()

    async def remove_network(self, network: str, name: str) -> None:
        """Tell the cluster that a network was removed here: now if the store answers, else as soon as it does."""
        await self.add(PendingRecord(kind="removal", network=network, name=name, at=self._now()))
        try:
            await self.deliver()
        except Unavailable as error:
            log.warning("the removal of network %s is told to the other hosts later: %s", name or network[:12], error)

    async def waiting(self) -> list[PendingRecord]:
        """What is not delivered yet, oldest first."""
        return [row.record for row in await self._tables.pending.scan()]

    async def deliver(self) -> int:
        """Deliver all that waits, but what a record that cannot be read is in the way of; how much it was.

        Raises:
            Unavailable: the store does not answer; what is left waits on.
        """
        async with self._delivering:
            done = 0
            for row in await self._tables.pending.scan():
                try:
                    await self._deliver(row)
                    done += 1
                except Internal as error:  # about a record that is left alone: what comes behind must not wait for it
                    if row.entry.key not in self._said:
                        log.warning("something for the store is kept until it can be done: %s", error)
                    self._said.add(row.entry.key)
            return done

    async def run(self) -> None:
        """Never returns."""
        told = False
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                done = await self.deliver()
                if done and told:
                    log.info("the store answers again: %d releases and removals were delivered", done)
                told = False
            except Unavailable as error:
                if not told:
                    log.warning("releases and removals are kept until the store answers: %s", error)
                told = True
                await asyncio.sleep(RETRY_SECONDS)
                self._something.set()
            except MacvlanGlobalError:
                log.exception("what is kept for the store could not be delivered")

    async def _deliver(self, row: Row[PendingRecord]) -> None:
        record = row.record
        if record.kind == "removal":
            await self._remove(record)
        elif self._pools:
            await self._pools.settle(record)
        await self._tables.pending.delete(row)

    async def _remove(self, record: PendingRecord) -> None:
        # the mark comes first: a definition that is missing without it is taken for lost, and written again
        removed = RemovedRecord(id=record.network, name=record.name, host=self._host, at=record.at)
        await self._tables.removed.create(removed, record.network)
        definition = await self._tables.definitions.get(record.name)
        if definition and definition.record.id == record.network:
            await self._tables.definitions.delete(definition)
        if self._pools:
            await self._pools.drop_network(record.network, if_empty=True)
