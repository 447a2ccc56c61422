"""An address book over a state file on the disk, as the driver has it, with nothing around it."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pools import Pools
from macvlan_global.store.records import AddressRecord
from macvlan_global.store.sqlite import open_sqlite
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Subnet

IDENTITY = Identity("bench", "0")


class _Nobody:
    """Answers about holders: here there are none."""

    async def is_stale(self, address: AddressRecord) -> bool:
        return False

    async def network_name(self, network: str) -> str:
        return network

    async def endpoint_name(self, address: AddressRecord) -> str:
        return address.endpoint

    def host_name(self, host: str) -> str:
        return host


async def _no_routes() -> list[Subnet]:
    return []


@asynccontextmanager
async def address_book(folder: Path, now: Callable[[], float] = time.time) -> AsyncIterator[tuple[Pools, Tables]]:
    """The book over `folder`/state.db, and the tables below it. The book is not loaded yet."""
    store = open_sqlite(folder / "state.db")
    tables = Tables(store, store)
    try:
        yield Pools(tables, IDENTITY, routes=_no_routes, peers=_Nobody(), now=now), tables
    finally:
        await store.close()
