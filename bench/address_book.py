"""Pools and addresses over a state file on the disk, as the driver has them, with nothing around them."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.cache import ParsedPool, PoolCache
from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, pool_id
from macvlan_global.ipam.pools import Pools
from macvlan_global.store.sqlite import open_sqlite
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Address

IDENTITY = Identity("bench", "0")


@dataclass(frozen=True, slots=True)
class AddressBook:
    """Pools and addresses on one store. Nothing is loaded yet."""

    tables: Tables
    pools: Pools
    addresses: Addresses

    async def reserve_pool(self, subnet: str) -> ParsedPool:
        """A pool of this subnet."""
        return await self.pools.find(pool_id(await self.pools.reserve(DEFAULT_SPACE, ip_network(subnet))))

    async def take(self, pool: ParsedPool) -> Address:
        """Reserve the next free address."""
        return (await self.addresses.reserve_next(pool)).address

    async def release(self, pool: ParsedPool, address: Address) -> None:
        """Give an address back."""
        await self.addresses.release(pool.record.space, address)


@asynccontextmanager
async def address_book(folder: Path, now: Callable[[], float] = time.time) -> AsyncIterator[AddressBook]:
    """The book over `folder`/state.db."""
    store = open_sqlite(folder / "state.db")
    tables = Tables(store, store)
    cache = PoolCache(host=IDENTITY.host, shared=False)
    addresses = Addresses(tables, cache, IDENTITY, now=now)
    try:
        yield AddressBook(tables, Pools(tables, cache, addresses, IDENTITY, now=now), addresses)
    finally:
        await store.close()
