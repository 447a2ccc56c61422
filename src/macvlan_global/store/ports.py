"""The port every store is behind.

There is no lock and no transaction over several keys in it, on purpose: what must be exclusive is one key that is
created if absent, and what must be given back is deleted only if it is still what we read. Losing such a race is an
answer (None or False), not an error; errors mean that the store could not be asked.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One key as it was when it was read. `revision` grows with each write of the key, and never repeats."""

    key: str
    value: bytes
    revision: int


class Store(Protocol):
    """Keys are text with `/` between parts; values are bytes. Every answer is durable before it is given.

    Raises (each method):
        Unavailable: the store cannot be reached or cannot write now.
    """

    async def get(self, key: str) -> Entry | None:
        """The entry, or None."""
        ...

    async def scan(self, prefix: str) -> list[Entry]:
        """Every entry whose key begins with `prefix`, in the order of the keys."""
        ...

    async def create(self, key: str, value: bytes) -> Entry | None:
        """Create the key if it is absent; None if it is there."""
        ...

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """Write `value` if the key still is what `entry` says; None if it changed or went."""
        ...

    async def delete(self, entry: Entry) -> bool:
        """Delete the key if it still is what `entry` says; whether it was."""
        ...

    async def close(self) -> None:
        """Finish what was asked, then let go. Idempotent."""
        ...
