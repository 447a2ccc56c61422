"""Known keys: what a watch has told of a prefix, to tell what is new. Pure. Values are not kept."""

from bisect import bisect_left, insort
from collections.abc import Iterable

from macvlan_global.store.ports import Entry


class Known:
    """Keys that were told, with their revisions."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """These were told, in the order of their keys."""
        self._revisions = {entry.key: entry.revision for entry in entries}
        self._order = sorted(self._revisions)

    def __len__(self) -> int:
        """Count of the keys."""
        return len(self._order)

    def below(self, prefix: str) -> list[str]:
        """The keys that begin with a prefix, in order."""
        first = last = bisect_left(self._order, prefix)
        while last < len(self._order) and self._order[last].startswith(prefix):
            last += 1
        return self._order[first:last]

    def take(self, prefixes: Iterable[str], found: Iterable[Entry]) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
        """Take what was found below some prefixes: the entries that are new or changed, and the keys that are gone."""
        there = {entry.key: entry for entry in found}
        changed = tuple(entry for key, entry in there.items() if self._revisions.get(key) != entry.revision)
        gone = {key: None for prefix in prefixes for key in self.below(prefix) if key not in there}
        for entry in changed:
            if entry.key not in self._revisions:
                insort(self._order, entry.key)
            self._revisions[entry.key] = entry.revision
        for key in gone:
            del self._revisions[key]
            del self._order[bisect_left(self._order, key)]
        return changed, tuple(gone)
