"""A lock per key: operations on one object run one at a time, in the order of their arrival."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from macvlan_global.deadline import held


class KeyedLock:
    """A lock for each key, dropped with its last waiter."""

    def __init__(self) -> None:
        """No key is held."""
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def __len__(self) -> int:
        """Number of keys that are held or waited for."""
        return len(self._locks)

    def __contains__(self, key: str) -> bool:
        """Whether a key is held."""
        return key in self._locks

    @asynccontextmanager
    async def of(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of a key within the block; first come, first served."""
        lock, waiting = self._locks.get(key, (asyncio.Lock(), 0))
        self._locks[key] = lock, waiting + 1
        try:
            async with held(lock, "an earlier request about the same object"):
                yield
        finally:
            lock, waiting = self._locks[key]
            if waiting == 1:
                del self._locks[key]
            else:
                self._locks[key] = lock, waiting - 1
