"""Networks below which this host has written names, kept in its own state.

Names are below their network, so that whoever needs a network reads that and nothing else. What this host has written
there in an earlier run, and may be stale now, is found by this list: a network is on it before the first name is
written there, and until nothing of this host has been there for a day. A write without an answer may arrive late, and
a store that is restored from an older copy has names again that were withdrawn.
"""

import time
from collections.abc import Callable

from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.store.records import PublishedRecord
from macvlan_global.store.table import Table

EMPTY_SECONDS = 86400.0
"""Time for which a network stays on the list after the last name of this host there."""


class PublishedNetworks:
    """The networks, by their ids in the cluster."""

    def __init__(self, table: Table[PublishedRecord], steady: Callable[[], float] = time.monotonic) -> None:
        """`table` is in this host's own store; nothing is read yet. `steady` is a clock that is never set."""
        self._table = table
        self._steady = steady
        self._locks = KeyedLock()
        self._listed: set[str] = set()
        self._empty_since: dict[str, float] = {}

    async def read(self) -> list[str]:
        """All of them, in one order.

        Raises:
            Unavailable: the state file cannot be read.
        """
        self._listed |= {row.record.network for row in await self._table.scan()}
        return sorted(self._listed)

    async def add(self, network: str) -> None:
        """List a network, where a name is written next; it is on the disk when this returns.

        Raises:
            Unavailable: the state file cannot be written.
        """
        self._empty_since.pop(network, None)
        if network in self._listed and network not in self._locks:
            return
        async with self._locks.of(network):
            if network not in self._listed:
                await self._table.put(PublishedRecord(network=network), network)
                self._listed.add(network)

    async def found_empty(self, network: str) -> None:
        """Nothing of this host is there now: take the network off the list, if that has been so for a day.

        Raises:
            Unavailable: the state file cannot be written.
        """
        since = self._empty_since.setdefault(network, self._steady())
        if self._steady() - since < EMPTY_SECONDS:
            return
        async with self._locks.of(network):
            if self._empty_since.pop(network, None) is not None:  # no name was written there meanwhile
                await self._table.drop(network)
                self._listed.discard(network)
