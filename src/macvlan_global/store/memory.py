"""A store in memory, held to the same contract suite as the real ones."""

from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Entry


class MemoryStore:
    """Forgets everything with the process."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[str, Entry] = {}
        self._revision = 0
        self._closed = False

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        self._check_open()
        return self._entries.get(key)

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        self._check_open()
        return [self._entries[key] for key in sorted(self._entries) if key.startswith(prefix)]

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        self._check_open()
        return None if key in self._entries else self._write(key, value)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        self._check_open()
        return self._write(entry.key, value) if self._is_current(entry) else None

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        self._check_open()
        if not self._is_current(entry):
            return False
        del self._entries[entry.key]
        return True

    async def close(self) -> None:
        """See `Store.close`."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable("the store is closed: the driver is stopping")

    def _write(self, key: str, value: bytes) -> Entry:
        self._revision += 1
        self._entries[key] = Entry(key, value, self._revision)
        return self._entries[key]

    def _is_current(self, entry: Entry) -> bool:
        current = self._entries.get(entry.key)
        return current is not None and current.revision == entry.revision
