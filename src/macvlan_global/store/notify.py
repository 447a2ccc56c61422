"""Change notification for a store of one host: whoever shows what is in it learns of each write at once.

A cluster store has watches for that; the store of a host alone has no other writer than this process.
"""

from collections.abc import Callable

from macvlan_global.store.ports import Entry, Store

OnChange = Callable[[str, Entry | None], None]


class NotifyingStore:
    """See `macvlan_global.store.ports.Store`. `on_change` gets the key and the entry of each write, None for a deleted
    one, after it is durable and before its caller goes on."""

    def __init__(self, store: Store) -> None:
        """Pass everything on to `store`; nobody is told yet."""
        self._store = store
        self.on_change: OnChange = lambda _key, _entry: None

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        return await self._store.get(key)

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return await self._store.scan(prefix)

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return self._told(key, await self._store.create(key, value))

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        return self._told(entry.key, await self._store.replace(entry, value))

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        deleted = await self._store.delete(entry)
        if deleted:
            self.on_change(entry.key, None)
        return deleted

    async def close(self) -> None:
        """See `Store.close`."""
        await self._store.close()

    def _told(self, key: str, entry: Entry | None) -> Entry | None:
        if entry:
            self.on_change(key, entry)
        return entry
