"""Entries as this process wrote them last, for a store that nobody else writes: they are read without asking it.

A write that is under way, or whose outcome is not known, makes its key unknown: then the store is asked, behind that
write. Pure but for what it keeps.
"""

from macvlan_global.store.ports import Entry

MOST_KNOWN = 1024
LONGEST_KNOWN = 4096
"""Bytes of the longest value that is kept."""


class KnownEntries:
    """The entries that were written last, `MOST_KNOWN` of them. For one thread."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._known: dict[str, Entry] = {}
        self._writing: dict[str, int] = {}

    def get(self, key: str) -> Entry | None:
        """The entry at a key; None if it is not known, or there is none."""
        return self._known.get(key)

    def is_written(self, key: str) -> bool:
        """Whether a write of this key is under way."""
        return key in self._writing

    def begin(self, key: str) -> None:
        """A write of this key begins; `end` follows."""
        self._known.pop(key, None)
        self._writing[key] = self._writing.get(key, 0) + 1

    def end(self, key: str, entry: Entry | None) -> None:
        """A write of this key has ended: with this entry, or without one, or nobody knows."""
        left = self._writing[key] - 1
        if left:
            self._writing[key] = left
            return
        del self._writing[key]
        if entry is not None and len(entry.value) <= LONGEST_KNOWN:
            if len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[key] = entry
