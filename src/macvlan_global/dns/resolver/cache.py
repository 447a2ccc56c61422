"""Response cache: reply templates by query, dropped when their name changes.

The resolver's UDP thread asks, and the event loop for clients over TCP; the feed changes the table on the event loop.
One lock is held while a reply is built and while the table changes, so that no reply built from the old table is cached
after a change. Cached templates are read without it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable
from enum import Enum
from typing import Literal

from macvlan_global.dns.resolver.answer import Reply, ReplyTemplate, build_reply
from macvlan_global.dns.resolver.names import NameTable, OnAddress, RowKey, group_of, row_key
from macvlan_global.store.records import NameRecord

MOST_EXISTING = 16384
MOST_UNKNOWN = 4096
"""Cached templates: of names that an endpoint has, and of all other names, which can so not displace the former."""
MOST_OVER_TCP = 64
"""Cached templates of replies over TCP, of names that an endpoint has: each may have 64 kB."""
PATIENCE_SECONDS = 10.0
"""Names of a network are waited for so long after it began to be followed: a store that is away may be so for hours."""


class Early(Enum):
    """Outcome of a query that came before the names are there which would answer it."""

    WAIT = "wait"


class KeptReplies:
    """Reply templates for one transport. Those of names that an endpoint has, and those of all others, are bounded by
    themselves; the oldest go first."""

    def __init__(self, *, most_existing: int, most_unknown: int) -> None:
        """Empty."""
        self.templates: dict[bytes, ReplyTemplate] = {}
        """By query without its two bytes of id."""
        self._most = {True: most_existing, False: most_unknown}
        self._names: dict[bool, dict[bytes, bytes]] = {True: {}, False: {}}  # by `exists`: query -> name, oldest first
        self._by_name: dict[bytes, set[bytes]] = {}

    def keep(self, query: bytes, reply: Reply) -> None:
        """Keep the reply to a query (without its id), if there may be any of its kind."""
        kept, most = self._names[reply.exists], self._most[reply.exists]
        if not most:
            return
        if len(kept) >= most:
            oldest = next(iter(kept))
            self._drop(oldest, kept.pop(oldest))
        kept[query] = reply.name
        self._by_name.setdefault(reply.name, set()).add(query)
        self.templates[query] = reply.template

    def invalidate(self, names: Iterable[bytes] | None = None) -> None:
        """Drop the replies of these names, or all."""
        for name in list(self._by_name) if names is None else names:
            for query in self._by_name.pop(name, ()):
                self.templates.pop(query, None)
                for kept in self._names.values():
                    kept.pop(query, None)

    def _drop(self, query: bytes, name: bytes) -> None:
        self.templates.pop(query, None)
        queries = self._by_name[name]
        queries.discard(query)
        if not queries:
            del self._by_name[name]


class ResponseCache:
    """The name table and the replies built from it. Safe to use from several threads, but for `names_there`."""

    def __init__(
        self,
        ttl: int,
        host: str = "",
        *,
        most_existing: int = MOST_EXISTING,
        most_unknown: int = MOST_UNKNOWN,
        most_over_tcp: int = MOST_OVER_TCP,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Empty. `ttl` is that of all records, in seconds, `host` the id of this host; the others bound the number of
        templates."""
        self.names_there = asyncio.Event()
        """Set while all names of the networks that are followed are there. For the event loop."""
        self._steady = steady
        self._patient_until = steady() + PATIENCE_SECONDS
        self._ttl = ttl
        self._table = NameTable(own_host=host)
        self._lock = threading.Lock()
        self._over_udp = KeptReplies(most_existing=most_existing, most_unknown=most_unknown)
        # what is refused is built in no time, and not asked for over TCP
        self._over_tcp = KeptReplies(most_existing=most_over_tcp, most_unknown=0)
        self.templates = self._over_udp.templates
        """By query over UDP without its two bytes of id. May be read from any thread."""
        self.templates_over_tcp = self._over_tcp.templates
        """By query over TCP, as `templates`. For the event loop: a template is for one thread."""

    def __len__(self) -> int:
        """Number of endpoints in the table."""
        return len(self._table)

    @property
    def synced(self) -> bool:
        """Whether the names of all networks that are followed are there."""
        return self._table.synced

    def tell_addresses(self, on_address: OnAddress) -> None:
        """Tell of the addresses of endpoints from now on."""
        self._table.on_address = on_address

    def keys_of(self, group: str) -> set[RowKey]:
        """The keys of the rows of a group of keys in the store, as `names/NETWORK`."""
        with self._lock:
            return self._table.keys_of(group)

    def update(self, put: Iterable[tuple[str, NameRecord]] = (), deleted: Iterable[str] = ()) -> None:
        """Add or replace records, and delete others, by their keys in the store."""
        with self._lock:
            for key, record in put:
                self._invalidate(self._table.put(key, record))
            for key in deleted:
                self._invalidate(self._table.remove(group_of(key), row_key(key)))

    def update_own(self, key: str, record: NameRecord | None) -> None:
        """A record of this host is in the store, or None if it is gone: known before a watch tells of it."""
        self.update([(key, record)] if record else (), () if record else (key,))

    def remove(self, group: str, keys: Iterable[RowKey]) -> None:
        """Remove rows of a group."""
        with self._lock:
            for key in keys:
                self._invalidate(self._table.remove(group, key))

    def set_networks_here(self, networks: frozenset[str]) -> None:
        """Answer names without their network from these networks only (ids in the cluster)."""
        with self._lock:
            if networks != self._table.networks_here:
                self._table.networks_here = networks
                self._invalidate()

    def set_living(self, hosts: frozenset[str]) -> None:
        """Answer with endpoints of other hosts than these only where these have none (ids)."""
        with self._lock:
            if hosts != self._table.living:
                self._table.living = hosts
                self._invalidate()

    def set_awaited(self, networks: frozenset[str]) -> None:
        """The names of these networks (ids in the cluster) are followed, and were not all read yet. Those of all others
        that are followed are there: names that are not in the table are refused once none is awaited."""
        with self._lock:
            if networks - (self._table.awaited or frozenset()):  # another one
                self._patient_until = self._steady() + PATIENCE_SECONDS
                self._invalidate()
            self._table.awaited = networks
        if networks:
            self.names_there.clear()
        else:
            self.names_there.set()

    def respond(self, query: bytes, *, udp: bool) -> bytes | None:
        """The reply to a query as far as names are known now; None if none may be sent."""
        with self._lock:
            reply = build_reply(self._table, query, ttl=self._ttl, udp=udp)
            if reply is None:
                return None
            if reply.cacheable:
                (self._over_udp if udp else self._over_tcp).keep(query[2:], reply)
            return query[:2] + reply.template()

    def respond_or_wait(self, query: bytes, *, udp: bool) -> bytes | Literal[Early.WAIT] | None:
        """As `respond`, but for a query that names which are awaited would answer: it is to be asked again a moment
        later."""
        if not self._table.synced and self._steady() < self._patient_until:
            with self._lock:
                reply = build_reply(self._table, query, ttl=self._ttl, udp=udp, own_only=True)
            if reply is None:
                return None
            return Early.WAIT if reply.early else query[:2] + reply.template()
        return self.respond(query, udp=udp)

    def _invalidate(self, names: Collection[bytes] | None = None) -> None:
        for each in (self._over_udp, self._over_tcp):
            each.invalidate(names)
