"""Answers that are made once and kept until something changes about their name.

The resolver's threads ask, the feed changes what is known. A lock stands between a change and the making of an answer,
so that no answer made of what was known before is kept after the change. Kept ones are read without it.
"""

import threading
from collections.abc import Iterable

from macvlan_global.dns.resolver.answer import Maker, prepare
from macvlan_global.dns.resolver.names import NameTable
from macvlan_global.store.records import NameRecord

MOST_OURS = 16384
MOST_FOREIGN = 4096
"""How many answers are kept: of names in the table, and of others, so that these cannot drive those out."""


class Answers:
    """The table, and what was made of it. Safe to use from several threads."""

    def __init__(self, ttl: int, *, most_ours: int = MOST_OURS, most_foreign: int = MOST_FOREIGN) -> None:
        """Know nothing yet. `ttl` in seconds is how long askers may keep an answer, the others how many are kept."""
        self._ttl = ttl
        self._most = {True: most_ours, False: most_foreign}
        self._table = NameTable()
        self._lock = threading.Lock()
        self.ready: dict[bytes, Maker] = {}
        """By query without its id (over UDP): calling it gives the reply without its id. Read it from any thread."""
        self._kept: dict[bool, dict[bytes, bytes]] = {True: {}, False: {}}  # ours or not: query -> name, oldest first
        self._by_name: dict[bytes, set[bytes]] = {}

    def __len__(self) -> int:
        """How many endpoints are known."""
        return len(self._table)

    @property
    def known(self) -> bool:
        """Whether the store was read once."""
        return self._table.known

    def keys(self) -> set[str]:
        """The store's keys of the endpoints that are known."""
        with self._lock:
            return self._table.keys()

    def change(self, put: Iterable[tuple[str, NameRecord]] = (), gone: Iterable[str] = ()) -> None:
        """Take records in and forget others, by their keys in the store."""
        with self._lock:
            for key, record in put:
                self._forget(self._table.put(key, record))
            for key in gone:
                self._forget(self._table.remove(key))

    def all_known(self) -> None:
        """The store was read: from now on what is not in the table is nobody's."""
        self._table.known = True

    def answer(self, query: bytes, *, udp: bool) -> bytes | None:
        """The reply to a query; None if it gets none."""
        with self._lock:
            prepared = prepare(self._table, query, ttl=self._ttl, udp=udp)
            if prepared is None:
                return None
            if udp and prepared.keep:
                self._keep(query[2:], prepared.make, prepared.name, ours=prepared.ours)
            return query[:2] + prepared.make()

    def _keep(self, query: bytes, make: Maker, name: bytes, *, ours: bool) -> None:
        kept = self._kept[ours]
        if len(kept) >= self._most[ours]:
            oldest = next(iter(kept))
            self._drop(oldest, kept.pop(oldest))
        kept[query] = name
        self._by_name.setdefault(name, set()).add(query)
        self.ready[query] = make

    def _drop(self, query: bytes, name: bytes) -> None:
        self.ready.pop(query, None)
        queries = self._by_name[name]
        queries.discard(query)
        if not queries:
            del self._by_name[name]

    def _forget(self, names: Iterable[bytes]) -> None:
        for name in names:
            for query in self._by_name.pop(name, ()):
                self.ready.pop(query, None)
                for kept in self._kept.values():
                    kept.pop(query, None)
