"""A lease of a store, as its holder sees it: an id, and the store that keeps it."""

from typing import Generic, Protocol, TypeVar

K = TypeVar("K")
L_contra = TypeVar("L_contra", contravariant=True)


class Leasing(Protocol[L_contra]):
    """A store that keeps leases by ids of its own kind."""

    async def renew(self, lease: L_contra) -> bool:
        """See `Lease.renew`."""
        ...

    async def end(self, lease: L_contra) -> None:
        """See `Lease.end`."""
        ...


class StoreLease(Generic[K]):
    """See `macvlan_global.store.ports.Lease`."""

    def __init__(self, store: Leasing[K], id: K) -> None:  # noqa: A002 # what stores call it
        """Made by the store."""
        self._store = store
        self.id = id

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return await self._store.renew(self.id)

    async def end(self) -> None:
        """See `Lease.end`."""
        await self._store.end(self.id)


def id_of(lease: object, kind: type[K]) -> K:
    """The id of a lease whose ids are of this kind.

    Raises:
        TypeError: it is a lease of another kind of store.
    """
    if isinstance(lease, StoreLease) and isinstance(lease.id, kind):
        return lease.id
    raise TypeError(f"{lease!r} is a lease of another store")
