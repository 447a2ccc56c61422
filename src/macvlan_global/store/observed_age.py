"""Age of records in the store, as this host observed it.

A record names the time of the host that wrote it, whose clock may be off by decades. So each host measures for itself,
by a clock that nobody sets: the time that its drivers ran is added up on its disk, and a record is as old as the time
that was added since the host first saw it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet

from macvlan_global.store.records import ObservedRecord
from macvlan_global.store.table import Tables

SAVE_SECONDS = 600.0
"""Observed time that a crash may lose."""
AT_ONCE = 500
"""Rows written together: the disk commits them as one."""
TOTAL = "total"


class ObservedAges:
    """Observed ages of a group of records in the store. `update` before `older_than`."""

    def __init__(
        self, tables: Tables, group: str, *, total: str = TOTAL, steady: Callable[[], float] = time.monotonic
    ) -> None:
        """`group` is the part of the keys on this host's disk, `total` that of the time added up: one for each object
        of this class. `steady` gives seconds on a clock that is never set."""
        self._group = group
        self._total_key = total
        self._table = tables.observed
        self._steady = steady
        self._read_at = 0.0
        self._total = 0.0
        self._saved = 0.0
        self._first: dict[str, float] | None = None  # total when each was first seen; None before the first update

    async def update(self, present: AbstractSet[str]) -> None:
        """Add the time since the last update, and take note of records (by id) that came or went.

        Raises:
            Unavailable: the disk cannot be written.
        """
        first = await self._load() if self._first is None else self._first
        now = self._steady()
        self._total, self._read_at = self._total + max(0.0, now - self._read_at), now
        new, gone = sorted(present - first.keys()), sorted(first.keys() - present)
        if new or self._total - self._saved >= SAVE_SECONDS:
            # before rows that refer to it: a total that went back would make them older than they are
            await self._table.put(ObservedRecord(seconds=self._total), self._total_key)
            self._saved = self._total
        for some in _slices(new):
            record = ObservedRecord(seconds=self._total)
            await asyncio.gather(*(self._table.put(record, self._group, each) for each in some))
            first.update(dict.fromkeys(some, self._total))
        for some in _slices(gone):
            await asyncio.gather(*(self._table.drop(self._group, each) for each in some))
            for each in some:
                del first[each]

    def age(self, record: str) -> float:
        """Age of the record with this id in seconds, 0 if it was not seen yet."""
        return self._total - (self._first or {}).get(record, self._total)

    def older_than(self, seconds: float) -> list[str]:
        """Ids of the records that this host has observed for longer than `seconds`."""
        return [each for each, first in (self._first or {}).items() if self._total - first > seconds]

    async def _load(self) -> dict[str, float]:
        total = await self._table.get(self._total_key)
        self._total = self._saved = total.record.seconds if total else 0.0
        self._read_at = self._steady()
        prefix = self._table.key(self._group) + "/"
        rows = await self._table.scan(self._group)
        self._first = {row.entry.key.removeprefix(prefix): row.record.seconds for row in rows}
        return self._first


def _slices(ids: list[str]) -> Iterable[list[str]]:
    return (ids[at : at + AT_ONCE] for at in range(0, len(ids), AT_ONCE))
