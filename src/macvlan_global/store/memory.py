"""A store in memory, local or shared by several hosts of one process, held to the same contract suites as the rest."""

import asyncio
import math
from bisect import bisect_left, insort
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Batch, Entry, Lease


@dataclass(slots=True, eq=False)
class _Watcher:
    """Changes below a prefix since its reader last looked. With `whole`, the reader must read everything anew."""

    prefix: str
    seen: dict[str, Entry | None] = field(default_factory=dict)
    whole: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Saved:
    """The contents of a store at one time, to be put back with `restore`."""

    entries: dict[str, Entry]
    revision: int
    leased: dict[str, "MemoryLease"]


class _Contents:
    """The contents of a store, which all its clients share."""

    def __init__(self, now: Callable[[], float] | None) -> None:
        self.entries: dict[str, Entry] = {}
        self._order: list[str] | None = None  # of the keys; None before anybody asked for it
        self.leased: dict[str, MemoryLease] = {}
        self.leases: dict[MemoryLease, None] = {}
        self._soonest = math.inf  # no lease ends before that
        self.revision = 0
        self.watchers: list[_Watcher] = []
        self._now = now

    def now(self) -> float:
        return self._now() if self._now else asyncio.get_running_loop().time()

    def write(self, key: str, value: bytes) -> Entry:
        self.revision += 1
        if key not in self.entries and self._order is not None:
            insort(self._order, key)
        self.entries[key] = entry = Entry(key, value, self.revision, key in self.leased)
        self._notify(key, entry)
        return entry

    def replace_all(self, entries: dict[str, Entry]) -> None:
        self.entries = entries
        self._order = None

    def remove(self, key: str) -> None:
        del self.entries[key]
        if self._order is not None:
            del self._order[bisect_left(self._order, key)]
        self.revision += 1
        lease = self.leased.pop(key, None)
        if lease is not None:
            lease.keys.discard(key)
        self._notify(key, None)

    def _notify(self, key: str, entry: Entry | None) -> None:
        for watcher in self.watchers:
            if key.startswith(watcher.prefix):
                watcher.seen.pop(key, None)  # what happened last comes last
                watcher.seen[key] = entry
                watcher.changed.set()

    def below(self, prefix: str) -> list[Entry]:
        order = self._order = sorted(self.entries) if self._order is None else self._order
        first = last = bisect_left(order, prefix)
        while last < len(order) and order[last].startswith(prefix):
            last += 1
        return [self.entries[key] for key in order[first:last]]

    # --- leases

    def end(self, lease: "MemoryLease") -> None:
        self.leases.pop(lease, None)
        for key in sorted(lease.keys):
            self.remove(key)

    def begin(self, lease: "MemoryLease") -> None:
        self.leases[lease] = None
        self._soonest = min(self._soonest, lease.until)
        self.wake_at_end(lease)

    def expire(self) -> None:
        now = self.now() if self.leases else 0.0
        if now < self._soonest:
            return
        self._soonest = min((lease.until for lease in self.leases if lease.until > now), default=math.inf)
        for lease in [lease for lease in self.leases if lease.until <= now]:
            self.end(lease)

    def wake_at_end(self, lease: "MemoryLease") -> None:
        """On the loop's own clock leases end by themselves; somebody else's clock cannot be waited for."""
        if self._now is not None or lease not in self.leases:
            return
        loop = asyncio.get_running_loop()
        if lease.until <= loop.time():
            self.end(lease)
        else:
            loop.call_at(lease.until, self.wake_at_end, lease)


class MemoryStore:
    """Forgets everything with the process. A local store, or the cluster's if hosts get a `client` each."""

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """Start empty.

        Args:
            now: seconds on a clock that leases go by. The loop's own by default. With another one, leases end at the
                first request after their time, or when the owner of the clock calls `expire`.
        """
        self._contents = _Contents(now)
        self._closed = False
        self._closing: list[_Watcher] = []

    def client(self) -> "MemoryStore":
        """The same store for another host: closing one leaves the others open."""
        other = MemoryStore()
        other._contents = self._contents
        return other

    def expire(self) -> None:
        """End the leases whose time is over."""
        self._contents.expire()

    def seconds_left(self, key: str) -> float:
        """Seconds until the lease of a key expires, 0 if it has none."""
        lease = self._contents.leased.get(key)
        return lease.until - self._contents.now() if lease else 0.0

    def save(self) -> Saved:
        """A snapshot, as an operator takes one."""
        contents = self._contents
        return Saved(dict(contents.entries), contents.revision, dict(contents.leased))

    def restore(self, saved: Saved) -> None:
        """Put a snapshot back: what was written since is lost, and revisions begin again where they were then."""
        contents = self._contents
        contents.replace_all(dict(saved.entries))
        contents.revision, contents.leased = saved.revision, {}
        for lease in contents.leases:
            lease.keys.clear()
        for key, lease in saved.leased.items():
            if lease in contents.leases:
                contents.leased[key] = lease
                lease.keys.add(key)
            else:
                del contents.entries[key]  # its lease ended meanwhile; a real store ends it a little later
        for watcher in contents.watchers:
            watcher.whole = True
            watcher.changed.set()

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        self._begin()
        return self._contents.entries.get(key)

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        self._begin()
        return self._contents.below(prefix)

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        self._begin()
        return None if key in self._contents.entries else self._contents.write(key, value)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        self._begin()
        return self._contents.write(entry.key, value) if self._is_current(entry) else None

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        self._begin()
        if not self._is_current(entry):
            return False
        self._contents.remove(entry.key)
        return True

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""
        self._begin()
        lease = MemoryLease(self._contents, seconds, self._begin)
        self._contents.begin(lease)
        return lease

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        self._begin()
        if key in self._contents.entries if over is None else not self._is_current(over):
            return None
        if not isinstance(lease, MemoryLease) or lease not in self._contents.leases:
            raise Unavailable("the lease has ended")
        if before := self._contents.leased.get(key):
            before.keys.discard(key)
        self._contents.leased[key] = lease
        lease.keys.add(key)
        return self._contents.write(key, value)

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`. It has no positions: each watch begins with everything."""
        self._begin()
        watcher = _Watcher(prefix, whole=True)
        watcher.changed.set()
        self._contents.watchers.append(watcher)
        self._closing.append(watcher)
        try:
            while True:
                await watcher.changed.wait()
                self._begin()
                yield self._batch(watcher)
        finally:
            self._contents.watchers.remove(watcher)
            self._closing.remove(watcher)

    def _batch(self, watcher: _Watcher) -> Batch:
        seen, whole = watcher.seen, watcher.whole
        watcher.seen, watcher.whole = {}, False
        watcher.changed.clear()
        if whole:
            return Batch(True, tuple(self._contents.below(watcher.prefix)))
        changed = tuple(entry for entry in seen.values() if entry is not None)
        return Batch(False, changed, tuple(key for key, entry in seen.items() if entry is None))

    async def close(self) -> None:
        """See `Store.close`."""
        self._closed = True
        for watcher in self._closing:
            watcher.changed.set()

    def _begin(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed: the driver is stopping")
        self._contents.expire()

    def _is_current(self, entry: Entry) -> bool:
        current = self._contents.entries.get(entry.key)
        return current is not None and current.revision == entry.revision


class MemoryLease:
    """See `macvlan_global.store.ports.Lease`: until when it lasts, and the keys that go with it."""

    def __init__(self, contents: _Contents, seconds: float, refuse_if_closed: Callable[[], None]) -> None:
        """Made by `MemoryStore.lease`, for this many seconds."""
        self.until = contents.now() + seconds
        self.keys: set[str] = set()
        self._contents = contents
        self._seconds = seconds
        self._refuse_if_closed = refuse_if_closed

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        self._refuse_if_closed()
        if self not in self._contents.leases:
            return False
        self.until = self._contents.now() + self._seconds
        return True

    async def end(self) -> None:
        """See `Lease.end`."""
        self._refuse_if_closed()
        self._contents.end(self)
