"""The ports every store is behind: `Store` for what one host keeps, `ClusterStore` for what hosts share.

There is no lock and no transaction over several keys in it, on purpose: what must be exclusive is one key that is
created if absent, and what must be given back is deleted only if it is still what we read. Losing such a race is an
answer (None or False), not an error; errors mean that the store could not be asked.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

import msgspec


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One key as it was when it was read. `revision` grows with each write of the key, and never repeats. `leased`
    says that it goes with a lease.

    The collector of garbage passes entries over (`gc=False`): there may be 100,000, and none is in a cycle.
    """

    key: str
    value: bytes
    revision: int
    leased: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that a watch saw, for each key in the order in which they happened.

    `whole` says that `entries` is all there is below the prefix: whatever else the reader knew of is gone. Otherwise
    `entries` were created or changed, and the keys of `gone` were deleted.

    `position` is where the watch is after this batch, for `ClusterStore.watch` and nobody else. None has none: a later
    watch reads everything.
    """

    whole: bool
    entries: tuple[Entry, ...] = ()
    gone: tuple[str, ...] = ()
    position: object = field(default=None, compare=False, repr=False)


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


class Lease(Protocol):
    """A lease: it expires unless it is renewed in time, and the keys that were created with it are deleted with it."""

    async def renew(self) -> bool:
        """Start its time anew; False if it has expired, and its keys are deleted or about to be.

        Raises:
            Unavailable: the store cannot be reached now.
        """
        ...

    async def end(self) -> None:
        """End it now, and with it its keys. Idempotent.

        Raises:
            Unavailable: the store cannot be reached now.
        """
        ...


class ClusterStore(Store, Protocol):
    """A store that several hosts use at once. Reads are linearizable: they see every write that was answered.

    No method waits longer than a few seconds for a store that does not answer; then it raises.

    Raises (each method):
        Unavailable: the store cannot be reached or has no leader now.
    """

    async def lease(self, seconds: float) -> Lease:
        """A new lease; it ends `seconds` (10 at least) after its last renewal, or up to twice that."""
        ...

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """Create the key if it is absent, to go with the lease; None if it is there. `replace` keeps it so.

        With `over`, an entry of this key, it takes that one's place if it is still current: at no time is there none.
        """
        ...

    def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch]:
        """Changes below a prefix: all that is there first, as one whole batch, then changes as they come.

        A watch that lost its place (history compacted, store restored from an older copy) gives a whole batch again.
        It never ends by itself, and raises when the store cannot be reached for a few seconds. Whoever reads it closes
        it (`contextlib.aclosing`). `store.follow` begins a new one whenever that is needed.

        `after` is the position of the last batch that was taken of an earlier watch of this prefix, which has ended: if
        nothing was lost since, the first batch has what changed after it, which may be nothing, and is not whole. A
        position is good for one watch.
        """
        ...
