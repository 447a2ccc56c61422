"""Anybody may write below the prefix of a cluster's store: whatever it is, drivers start, serve and start again."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from macvlan_global.store.layout import StoreLayout
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch
from macvlan_global.store.table import Table, Tables
from testkit.brief import BRIEF
from testkit.faults import FaultyStore
from testkit.junk import LOCAL, SHARED, Junk
from tests.unit.running import Running, running, with_networks

SEEDS = range(1 if BRIEF else 2)


class Counted(FaultyStore):
    """A store in front of another one that counts the watches that are opened."""

    def __init__(self, inner: MemoryStore) -> None:
        """None was opened yet."""
        super().__init__(inner)
        self.opened: Counter[str] = Counter()

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`."""
        self.opened[prefix] += 1
        async for batch in super().watch(prefix, after):
            yield batch


async def _littered(records: list[tuple[bytes, bytes]]) -> MemoryStore:
    store = MemoryStore()
    await StoreLayout(store).check()
    for key, value in records:
        await store.create(key.decode(errors="backslashreplace"), value)  # as stores show it whose keys are bytes
    return store


async def _look(daemon: Running) -> None:
    for view in ("status", "networks", "addresses", "hosts"):
        done = await daemon.cli(view, "--json")
        assert (done.code, done.error) == (0, "")


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_driver_starts_serves_and_restarts_beside_junk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    """Junk below every prefix stays as it is, is read once by each watch, and fills no log."""
    store = await _littered(list(Junk(seed).records(200 if BRIEF else 2_100)))
    before = {entry.key: entry for entry in await store.scan("")}
    for run in range(2):
        counted = Counted(store.client())
        async with running(tmp_path, capsys, shared=counted) as daemon:
            if run == 0:
                await with_networks(daemon)
            await _look(daemon)
            assert set(counted.opened.values()) == {1}
    now = {entry.key: entry for entry in await store.scan("")}
    assert {key: now.get(key) for key in before} == before
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(caplog.records) < 400


async def test_junk_that_comes_while_a_driver_runs_stops_no_watch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is taken as it comes; what was there before is as it was."""
    store, junk = MemoryStore(), Junk(7)
    counted = Counted(store.client())
    async with running(tmp_path, capsys, shared=counted) as daemon:
        await with_networks(daemon)
        before = (await daemon.cli("addresses", "--json")).json
        for key, value in junk.records(70 if BRIEF else 700):
            await store.create(key.decode(errors="backslashreplace"), value)
            await asyncio.sleep(0)
        await _look(daemon)
        after = (await daemon.cli("addresses", "--json")).json
        assert [each for each in after if each in before] == before
        assert set(counted.opened.values()) == {1}


_KEYS = st.one_of(st.text(max_size=40), st.lists(st.text(max_size=9), max_size=5).map("/".join))


@settings(max_examples=10 if BRIEF else 40, deadline=None, suppress_health_check=list(HealthCheck))
@given(key=_KEYS, value=st.binary(max_size=200), seed=st.integers(0, 10**6))
@example(key="", value=b"", seed=0)
async def test_no_record_of_any_bytes_is_an_error_of_a_table(key: str, value: bytes, seed: int) -> None:
    """It is a row that holds what its key says, or it is left alone; its properties can be read."""
    store = MemoryStore()
    tables, lease = Tables(store, store), await store.lease(600)
    for table in vars(tables).values():
        assert isinstance(table, Table)
        await store.create_with(lease, f"{table.prefix}{key}", value)
    for entry_key, body in Junk(seed).records(30, (*SHARED, *LOCAL)):
        await store.create_with(lease, entry_key.decode(errors="backslashreplace"), body)
    for table in vars(tables).values():
        rows = await table.scan()
        assert len(rows) + len(await table.unreadable()) == len(await table.entries())
        for row in rows:
            for name, member in vars(type(row.record)).items():
                if not name.startswith("_") and not callable(member):
                    getattr(row.record, name)
