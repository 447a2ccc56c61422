"""Failing on purpose: every step that a store or a kernel takes has a number, and the chosen one fails.

Two kinds of failure matter. A step that fails *before* it was done changed nothing; one that fails *after* it was
done changed something, and only the answer was lost.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar, cast

from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Batch, ClusterStore, Entry, Lease, Store

T = TypeVar("T")


class Faults:
    """Counts steps from 1. Step number `at` fails, before or after it is done; 0 means that none fails."""

    def __init__(self, at: int = 0, *, after: bool = False, error: Exception | None = None) -> None:
        """`error` is what the failing step raises; it may be foreign to us, as a bug would be."""
        self.at = at
        self.after = after
        self.error: Exception = error or Unavailable("failed on purpose")
        self.taken: list[str] = []
        self.away = False
        """Every step fails before it is done while this is set, as with a store that is away."""
        self.refused = ""
        """Every step whose name has this text in it fails before it is done; none for an empty text."""
        self.hangs = False
        """No step that begins while this is set ever ends."""
        self.delay = 0.0
        """Seconds that a step of a store takes."""

    def arm(self, at: int, *, after: bool = False) -> None:
        """Count anew from 1, and let step `at` fail."""
        self.at, self.after, self.taken = at, after, []

    def begin(self, name: str) -> int:
        """A step begins; its number, for `end`."""
        self.taken.append(name)
        number = len(self.taken)
        if self.away or (self.refused and self.refused in name) or (number == self.at and not self.after):
            raise self.error
        return number

    def end(self, number: int) -> None:
        """Step `number` is done, and its answer is on its way."""
        if number == self.at and self.after:
            raise self.error


class FaultyStore:
    """A store in front of another one. Lets other tasks run before each operation, as a real one does.

    In front of a cluster store it is one, too. Each batch of a watch is a step: a watch whose step fails is broken.
    """

    def __init__(self, inner: Store, faults: Faults | None = None) -> None:
        """Without `faults` nothing fails."""
        self._inner = inner
        self._faults = faults or Faults()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        return await self._step(f"get {key}", lambda: self._inner.get(key))

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return await self._step(f"scan {prefix}", lambda: self._inner.scan(prefix))

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._step(f"create {key}", lambda: self._inner.create(key, value))

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        return await self._step(f"replace {entry.key}", lambda: self._inner.replace(entry, value))

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        return await self._step(f"delete {entry.key}", lambda: self._inner.delete(entry))

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""
        inner = await self._step("lease", lambda: self._cluster.lease(seconds))
        return FaultyLease(inner, self._step)

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        inner = lease.inner if isinstance(lease, FaultyLease) else lease
        return await self._step(f"create_with {key}", lambda: self._cluster.create_with(inner, key, value, over))

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`."""
        async with contextlib.aclosing(self._cluster.watch(prefix, after)) as batches:
            async for batch in batches:
                # not a step under way: a watch waits for long, and closing does not wait for it
                self._faults.end(self._faults.begin(f"watch {prefix}"))
                yield batch

    @property
    def _cluster(self) -> ClusterStore:
        return cast("ClusterStore", self._inner)  # who calls this gave us one

    async def close(self) -> None:
        """See `Store.close`."""
        await self._idle.wait()
        await self._inner.close()

    async def _step(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        self._under_way += 1
        self._idle.clear()
        try:
            await asyncio.sleep(self._faults.delay)
            if self._faults.hangs:
                await asyncio.Event().wait()
            number = self._faults.begin(name)
            result = await work()
            self._faults.end(number)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        return result


class _Step(Protocol):
    async def __call__(self, name: str, work: Callable[[], Awaitable[T]]) -> T: ...


class FaultyLease:
    """A lease whose operations are steps of the store it is of."""

    def __init__(self, inner: Lease, step: _Step) -> None:
        """Made by `FaultyStore.lease`."""
        self.inner = inner
        self._step = step

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return await self._step("renew", self.inner.renew)

    async def end(self) -> None:
        """See `Lease.end`."""
        await self._step("end", self.inner.end)
