"""The outbox: writes to the cluster store that failed because it was away, kept on this host's disk until it is back.

Two kinds are kept: releases of addresses, and removals of networks. They are delivered in the order in which they were
added, as soon as the store answers. Each may be delivered twice, and changes nothing the second time.
"""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

from macvlan_global.errors import Internal, Unavailable
from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.pools import Pools
from macvlan_global.ipam.subnet_use import SpaceSubnet
from macvlan_global.store.records import PendingRecord, RemovedRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import Address
from macvlan_global.tasks import forever, when

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
BLOCKED_SECONDS = 60.0
PUBLISH_SECONDS = 4.0
"""Time for which the engine's DeleteNetwork waits for the store; it may wait for a moment on this host besides."""


class Outbox:
    """Releases and removals that wait for the cluster store."""

    def __init__(
        self, tables: Tables, pools: Pools, addresses: Addresses, host: str, *, now: Callable[[], float] = time.time
    ) -> None:
        """`host` is the id of this host."""
        self._tables = tables
        self._pools = pools
        self._addresses = addresses
        self._host = host
        self._now = now
        self._something = asyncio.Event()
        self._numbers = itertools.count()
        self._something.set()  # of an earlier run of the driver
        self._delivering = asyncio.Lock()
        self._said: set[str] = set()
        self._is_blocked = False  # something waits for a record that cannot be read

    async def release_later(self, space: str, address: Address, *, network: str = "", endpoint: str = "") -> None:
        """Release an address when the store is back: this endpoint's claim, or without one this host's reservation,
        also in the name of this network of another driver."""
        run = self._addresses.late.begin(space, str(address), endpoint)
        await self._add(
            PendingRecord(
                kind="release",
                network=network,
                endpoint=endpoint,
                space=space,
                address=str(address),
                incarnation=run,
                at=self._now(),
            )
        )

    async def remove_network(self, network: str, name: str, subnets: Iterable[SpaceSubnet] = ()) -> None:
        """Keep the removal of a network by its operator, to tell the cluster. `publish` does it at once."""
        at = self._now()
        await self._add(PendingRecord(kind="removal", network=network, name=name, subnets=list(subnets), at=at))

    async def publish(self, network: str) -> None:
        """Deliver now whatever waits of one network, if the store answers soon; otherwise `run` delivers it.

        It does not wait for what others left here: after an outage that may be thousands of releases.
        """
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                for row in await self._tables.pending.scan():
                    if row.record.network == network:
                        await self._deliver(row)
        except (Unavailable, Internal, TimeoutError) as error:
            reason = str(error) or "the store is slow"
            log.warning("the removal of network %s is published to the other hosts later: %s", network[:12], reason)

    async def waiting(self) -> list[PendingRecord]:
        """Everything that is not delivered yet, oldest first."""
        return [row.record for row in await self._tables.pending.scan()]

    async def deliver(self) -> int:
        """Deliver everything that waits; how much it was. An item blocked by an unreadable record stays.

        Raises:
            Unavailable: the store does not answer; the rest waits on.
        """
        async with self._delivering:
            done, self._is_blocked = 0, False
            for row in await self._tables.pending.scan():
                try:
                    await self._deliver(row)
                    done += 1
                except Internal as error:  # an unreadable record: what comes behind must not wait for it
                    if row.entry.key not in self._said:
                        log.warning("a release or removal stays queued: %s", error)
                    self._said.add(row.entry.key)
                    self._is_blocked = True
            return done

    async def run(self) -> NoReturn:
        """Deliver whenever something was added, until cancelled."""
        await forever("delivering releases and removals", self._deliver_added, first=RETRY_SECONDS, last=RETRY_SECONDS)

    async def _deliver_added(self) -> None:
        # what an unreadable record blocks is tried again, as somebody may have deleted that
        async with when(self._something, at_most=BLOCKED_SECONDS if self._is_blocked else None):
            await self.deliver()

    async def _add(self, record: PendingRecord) -> None:
        """Keep something. It is on the disk when this returns."""
        # what was added at one time goes out in that order; after a start the numbers begin anew, beside older keys
        key = f"{record.at:020.6f}-{next(self._numbers):06d}-{secrets.token_hex(4)}"
        await self._tables.pending.put(record, key)
        self._something.set()

    async def _deliver(self, row: Row[PendingRecord]) -> None:
        if row.record.kind == "removal":
            await self._remove(row.record)
        else:
            await self._addresses.settle(row.record)
        await self._tables.pending.delete(row)

    async def _remove(self, record: PendingRecord) -> None:
        # the tombstone comes first: a definition that is missing without it is taken for lost, and written again
        removed = RemovedRecord(id=record.network, name=record.name, host=self._host, at=record.at)
        await self._tables.removed.create(removed, record.network)
        definition = await self._tables.definitions.get(record.name)
        if definition and definition.record.id == record.network:
            await self._tables.definitions.delete(definition)
        await self._pools.drop_network(record.network, if_empty=True, ends_here=True, subnets=record.subnets)
