"""Keys and records of layout 1.0, as its first release wrote them: each later driver of this layout reads every one.

`layout_1_0.json` is never changed, only added to.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from macvlan_global.store.layout import KEY, StoreLayout
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.table import Table, Tables

SAMPLES: dict[str, Any] = json.loads((Path(__file__).parent / "layout_1_0.json").read_text())
SHARED = MemoryStore()
TABLES = [each for each in vars(Tables(SHARED, MemoryStore())).values() if each._store is SHARED]


def _table_of(key: str) -> Table[Any]:
    return next(each for each in TABLES if key.startswith(each.prefix))


@pytest.mark.parametrize("key", [each for each in SAMPLES if each != KEY])
def test_a_record_of_the_layout_is_read(key: str) -> None:
    """Under its key, with all of its fields."""
    value = SAMPLES[key]
    row = _table_of(key).read(Entry(key, json.dumps(value).encode(), 1, leased=True))
    assert row is not None
    read = msgspec.to_builtins(row.record)
    assert {field: read.get(field) for field in value} == value


def test_every_table_has_a_sample() -> None:
    """A table that is added has one too, and no key is of a table that is gone."""
    assert {_table_of(key).prefix for key in SAMPLES if key != KEY} == {each.prefix for each in TABLES}


async def test_the_layout_is_that_of_this_driver() -> None:
    """A driver that needs another one gets a file of its own."""
    store = MemoryStore()
    await store.create("hosts/a", b"{}")
    await store.create(KEY, json.dumps(SAMPLES[KEY]).encode())
    await StoreLayout(store).check()
