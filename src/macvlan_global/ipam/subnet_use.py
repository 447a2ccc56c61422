"""Subnets in which hosts may have addresses: written before a host's first row in a subnet, deleted when it has none.

Whoever looks for what one host has, the host itself after a crash and the others when it is dead, reads the addresses
of these subnets, and not those of the whole cluster. The rows are in the cluster's store, beside the addresses: so they
are as old as these if it is restored from a copy, and are not lost with the state folder of a host. The host has its
own rows in its state as well. A driver may die right after the store was restored, and before it wrote its rows again:
an address that it had asked for may have arrived there, and the next run must look for it.

A host alone has no such rows: all addresses of its store are its own.
"""

import time
from collections.abc import Callable, Collection, Iterable

from macvlan_global.ipam.owners import network_claims
from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.store.records import AddressRecord, OwnSubnetUseRecord, SubnetUseRecord
from macvlan_global.store.table import Tables

UNUSED_SECONDS = 600.0
"""A row is kept for so long after this process used it, or first read it: a write whose answer was lost may arrive
late, and what it writes must be found."""

SpaceSubnet = tuple[str, str]
"""An address space, and a subnet of it in CIDR."""


class SubnetUse:
    """Reads and writes these rows. One per process."""

    def __init__(
        self, tables: Tables, host: str, *, shared: bool, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """`host` is the id of this host; `shared` says that it shares the store with others."""
        self._table = tables.used
        self._own_table = tables.used_here
        self._host = host
        self.is_kept = shared
        """Whether there are such rows: without them all addresses of the store are this host's."""
        self._steady = steady
        self._noted: set[SpaceSubnet] | None = None  # rows in this host's own state; None before they were read
        self._known: dict[SpaceSubnet, float] = {}  # rows of this host, and when they were used last
        self._lost: set[SpaceSubnet] = set()  # rows of this host that the store was seen to have lost
        self._ended = 0
        self._turns = KeyedLock()

    @property
    def moment(self) -> float:
        """Now, by the clock of `end_unused`."""
        return self._steady()

    async def begin(self, space: str, subnet: str) -> None:
        """This host is about to write a row of an address of a subnet (CIDR). Costs nothing but for the first one.

        Raises:
            Unavailable: the store, or this host's own, does not answer.
        """
        if not self.is_kept:
            return
        key = space, subnet
        if key not in self._known:
            async with self._turns.of("/".join(key)):
                if key not in self._known:
                    # anew, if it is there: a deletion that is still on its way must not find the row that it has read
                    await self._note(key)
                    record = SubnetUseRecord(host=self._host, space=space, subnet=subnet)
                    await self._table.put(record, self._host, space, subnet)
        self._known[key] = self._steady()
        self._lost.discard(key)

    async def own(self) -> list[SpaceSubnet]:
        """The subnets in which this host may have addresses, in this run or an earlier one. What the store has lost of
        these rows is written again with the next claim in the subnet, or by `end_unused`: claims that were lost with it
        must not wait for it.

        Raises:
            Unavailable: the store, or this host's own, does not answer.
        """
        if not self.is_kept:
            return []
        ended = self._ended
        noted = {*await self._read_noted()}
        stored = await self.of(self._host)
        for key in stored:
            await self._note(key)
        self._lost |= (self._known.keys() | noted) - set(stored)
        self._known = {key: used for key, used in self._known.items() if key not in self._lost}
        if ended == self._ended:  # else one of them may be gone by now
            now = self._steady()
            self._known = dict.fromkeys(stored, now) | self._known
        return sorted({*stored, *self._known, *self._lost})

    async def _read_noted(self) -> set[SpaceSubnet]:
        """The rows in this host's own state, which nobody else writes."""
        if self._noted is None:
            rows = await self._own_table.scan(self._host)
            if self._noted is None:  # else somebody has read them meanwhile, and perhaps added to them
                self._noted = {(row.record.space, row.record.subnet) for row in rows}
        return self._noted

    async def _note(self, key: SpaceSubnet) -> None:
        noted = await self._read_noted()
        if key not in noted:
            record = OwnSubnetUseRecord(host=self._host, space=key[0], subnet=key[1])
            await self._own_table.put(record, self._host, *key)
            noted.add(key)

    async def of(self, host: str) -> list[SpaceSubnet]:
        """The subnets in which a host may have addresses.

        Raises:
            Unavailable: the store does not answer.
        """
        return [(row.record.space, row.record.subnet) for row in await self._table.scan(host)]

    async def end_unused(self, unused: Iterable[SpaceSubnet], seen: float) -> None:
        """Delete the rows of subnets in which this host was seen to have nothing, unless it used them shortly before
        or since. `seen` is the `moment` at which that look began.

        Raises:
            Unavailable: the store does not answer.
        """
        for key in sorted(self._lost):
            await self.begin(*key)
        for key in sorted(unused):
            async with self._turns.of("/".join(key)):
                used = self._known.get(key)
                if used is not None and seen - used > UNUSED_SECONDS:
                    del self._known[key]
                    self._ended += 1
                    if row := await self._table.get(self._host, *key):
                        await self._table.delete(row)
                    await self._own_table.drop(self._host, *key)
                    if self._noted:
                        self._noted.discard(key)

    async def end_of(self, host: str, unused: Iterable[SpaceSubnet]) -> None:
        """Delete the rows of a dead host for subnets in which it has nothing. If it comes back it writes them again.

        Raises:
            Unavailable: the store does not answer.
        """
        for space, subnet in sorted(unused):
            if row := await self._table.get(host, space, subnet):
                await self._table.delete(row)


def is_kept_by(record: AddressRecord, host: str, networks: Collection[str]) -> bool:
    """Whether a host has an address, for itself or a container, or as the claim of a network that is none of these
    (ids in the cluster): such a claim is looked for by nobody else. Those of known networks go with their pools."""
    if record.host == host and record.kind in {"reserved", "endpoint", "host"}:
        return True
    return any(each.host == host and each.network not in networks for each in network_claims(record))
