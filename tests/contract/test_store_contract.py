"""Every store that needs no other program keeps the promises; test_cluster_stores.py has the others."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from macvlan_global.metrics.counts import StoreCounts
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.metered import MeteredClusterStore, MeteredStore
from macvlan_global.store.ports import ClusterStore, Store
from macvlan_global.store.sqlite import open_sqlite
from testkit import cluster_contract, watch_contract
from testkit.faults import FaultyStore
from testkit.store_contract import STORE_CONTRACT, Check


@pytest.fixture(params=["memory", "sqlite", "faulty", "metered"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    made: dict[str, Store] = {
        "memory": MemoryStore(),
        "faulty": FaultyStore(MemoryStore()),
        "metered": MeteredStore(MemoryStore(), StoreCounts()),
    }
    chosen = made.get(request.param) or open_sqlite(tmp_path / "state.db")
    yield chosen
    await chosen.close()


@pytest.mark.parametrize("check", STORE_CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, store: Store) -> None:
    """One promise, kept by one store; each says in its docstring what it is."""
    await check(store)


@pytest.fixture(params=["memory", "faulty", "metered"])
async def clients(request: pytest.FixtureRequest) -> AsyncIterator[tuple[ClusterStore, ClusterStore]]:
    """Two clients of one empty store in memory."""
    store = MemoryStore()
    plain = (store.client(), store.client())
    made: dict[str, Callable[[ClusterStore], ClusterStore]] = {
        "memory": lambda each: each,
        "faulty": FaultyStore,
        "metered": lambda each: MeteredClusterStore(each, StoreCounts()),
    }
    one, two = (made[request.param](each) for each in plain)
    yield one, two
    for client in (one, two):
        await client.close()


@pytest.mark.parametrize(
    "check", [*cluster_contract.CLUSTER_CONTRACT, *watch_contract.WATCH_CONTRACT], ids=lambda check: check.__name__
)
async def test_cluster_contract(check: cluster_contract.Check, clients: tuple[ClusterStore, ClusterStore]) -> None:
    """One promise of a cluster store, kept by the one in memory."""
    await check(*clients)
