"""Every store keeps the store's promises."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Store
from macvlan_global.store.sqlite import open_sqlite
from macvlan_global.testing.faults import FaultyStore
from macvlan_global.testing.store_contract import STORE_CONTRACT, Check


@pytest.fixture(params=["memory", "sqlite", "faulty"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    made: dict[str, Store] = {"memory": MemoryStore(), "faulty": FaultyStore(MemoryStore())}
    chosen = made.get(request.param) or open_sqlite(tmp_path / "state.db")
    yield chosen
    await chosen.close()


@pytest.mark.parametrize("check", STORE_CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, store: Store) -> None:
    """One promise, kept by one store; each says in its docstring what it is."""
    await check(store)
