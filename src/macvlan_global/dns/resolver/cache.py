"""Response cache: reply templates by query, dropped when their name changes.

The resolver's UDP thread and the event loop ask; the feed changes the table on the event loop. One lock is held while a
reply is built and while the table changes, so that no reply built from the old table is cached after a change. Cached
templates are read without it.
"""

import threading
from collections.abc import Iterable

from macvlan_global.dns.resolver.answer import ReplyTemplate, build_reply
from macvlan_global.dns.resolver.names import NameTable
from macvlan_global.store.records import NameRecord

MOST_EXISTING = 16384
MOST_UNKNOWN = 4096
"""Cached templates: of names that an endpoint has, and of all other names, which can so not displace the former."""


class ResponseCache:
    """The name table and the replies built from it. Safe to use from several threads."""

    def __init__(self, ttl: int, *, most_existing: int = MOST_EXISTING, most_unknown: int = MOST_UNKNOWN) -> None:
        """Empty. `ttl` is that of all records, in seconds; the others bound the number of templates."""
        self._ttl = ttl
        self._most = {True: most_existing, False: most_unknown}
        self._table = NameTable()
        self._lock = threading.Lock()
        self.templates: dict[bytes, ReplyTemplate] = {}
        """By query over UDP without its two bytes of id. May be read from any thread."""
        self._cached: dict[bool, dict[bytes, bytes]] = {True: {}, False: {}}  # by `exists`: query -> name, oldest first
        self._by_name: dict[bytes, set[bytes]] = {}

    def __len__(self) -> int:
        """Number of endpoints in the table."""
        return len(self._table)

    @property
    def synced(self) -> bool:
        """Whether all names were read from the store once."""
        return self._table.synced

    def keys(self) -> set[str]:
        """The store's keys of all endpoints in the table."""
        with self._lock:
            return self._table.keys()

    def update(self, put: Iterable[tuple[str, NameRecord]] = (), deleted: Iterable[str] = ()) -> None:
        """Add or replace records, and delete others, by their keys in the store."""
        with self._lock:
            for key, record in put:
                self._invalidate(self._table.put(key, record))
            for key in deleted:
                self._invalidate(self._table.remove(key))

    def set_networks_here(self, networks: frozenset[str]) -> None:
        """Answer names without their network from these networks only (ids in the cluster)."""
        with self._lock:
            if networks != self._table.networks_here:
                self._table.networks_here = networks
                self._invalidate(list(self._by_name))

    def set_living(self, hosts: frozenset[str]) -> None:
        """Answer with endpoints of other hosts than these only where these have none (ids)."""
        with self._lock:
            if hosts != self._table.living:
                self._table.living = hosts
                self._invalidate(list(self._by_name))

    def mark_synced(self) -> None:
        """All names were read from the store: names that are not in the table are refused from now on."""
        self._table.synced = True

    def respond(self, query: bytes, *, udp: bool) -> bytes | None:
        """The reply to a query; None if none may be sent."""
        with self._lock:
            reply = build_reply(self._table, query, ttl=self._ttl, udp=udp)
            if reply is None:
                return None
            if udp and reply.cacheable:
                self._cache(query[2:], reply.template, reply.name, exists=reply.exists)
            return query[:2] + reply.template()

    def _cache(self, query: bytes, template: ReplyTemplate, name: bytes, *, exists: bool) -> None:
        cached = self._cached[exists]
        if len(cached) >= self._most[exists]:
            oldest = next(iter(cached))
            self._drop(oldest, cached.pop(oldest))
        cached[query] = name
        self._by_name.setdefault(name, set()).add(query)
        self.templates[query] = template

    def _drop(self, query: bytes, name: bytes) -> None:
        self.templates.pop(query, None)
        queries = self._by_name[name]
        queries.discard(query)
        if not queries:
            del self._by_name[name]

    def _invalidate(self, names: Iterable[bytes]) -> None:
        for name in names:
            for query in self._by_name.pop(name, ()):
                self.templates.pop(query, None)
                for cached in self._cached.values():
                    cached.pop(query, None)
