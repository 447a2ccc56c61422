"""Known keys: what a watch has told of a prefix, to tell what is new. Values are not kept.

Of many, others have their turn of the event loop in between, and what is known changes at once when all is done.
"""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from macvlan_global.store.ports import Entry
from macvlan_global.store.remote.many import AT_ONCE


class Known:
    """Keys that were told, with their revisions."""

    def __init__(self) -> None:
        """None yet."""
        self.revisions: dict[str, int] = {}
        self.order: list[str] = []

    @classmethod
    async def of(cls, entries: Sequence[Entry]) -> "Known":
        """These were told, in the order of their keys."""
        known = cls()
        for first in range(0, len(entries), AT_ONCE):
            some = entries[first : first + AT_ONCE]
            known.revisions |= {entry.key: entry.revision for entry in some}
            known.order += [entry.key for entry in some]
            await asyncio.sleep(0)
        return known

    def __len__(self) -> int:
        """Count of the keys."""
        return len(self.order)

    @property
    def newest(self) -> int:
        """The largest revision among them, 0 if there is none."""
        return max(self.revisions.values(), default=0)

    def below(self, prefix: str) -> list[str]:
        """The keys that begin with a prefix, in order."""
        first = last = bisect_left(self.order, prefix)
        while last < len(self.order) and self.order[last].startswith(prefix):
            last += 1
        return self.order[first:last]

    async def take_all(self, entries: Sequence[Entry]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Take these for all that there is: the entries that are new or changed, and the keys that are gone."""
        new = await Known.of(entries)
        changed: list[Entry] = []
        gone: list[str] = []
        for first in range(0, len(entries), AT_ONCE):
            some = entries[first : first + AT_ONCE]
            changed += [entry for entry in some if self.revisions.get(entry.key) != entry.revision]
            await asyncio.sleep(0)
        for first in range(0, len(self.order), AT_ONCE):
            gone += [key for key in self.order[first : first + AT_ONCE] if key not in new.revisions]
            await asyncio.sleep(0)
        self.revisions, self.order = new.revisions, new.order
        return tuple(changed), tuple(gone)

    def take(self, prefixes: Iterable[str], found: Iterable[Entry]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Take what was found below some prefixes: the entries that are new or changed, and the keys that are gone."""
        there = {entry.key: entry for entry in found}
        changed = tuple(entry for key, entry in there.items() if self.revisions.get(key) != entry.revision)
        gone = {key: None for prefix in prefixes for key in self.below(prefix) if key not in there}
        for entry in changed:
            if entry.key not in self.revisions:
                insort(self.order, entry.key)
            self.revisions[entry.key] = entry.revision
        for key in gone:
            del self.revisions[key]
            del self.order[bisect_left(self.order, key)]
        return changed, tuple(gone)
