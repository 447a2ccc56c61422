"""Operations on the state file are carried out in the order in which they were asked, those that wait in one
transaction."""

import asyncio
import sqlite3
import threading
from pathlib import Path

from lab.speed import patience
from macvlan_global.store.sqlite import SqliteStore, open_sqlite


def _written(statements: list[str]) -> list[str]:
    """The keys of entries that were created, and the ends of transactions."""
    return [
        each if each == "COMMIT" else each.partition("'")[2].partition("'")[0]
        for each in statements
        if each == "COMMIT" or each.startswith("INSERT")
    ]


async def test_what_waits_is_one_transaction_in_the_order_of_asking(tmp_path: Path) -> None:
    """So nothing is on the disk before what was asked earlier. A read sees the writes before it."""
    path, statements = tmp_path / "state.db", list[str]()
    await open_sqlite(path).close()
    connection, reader = (sqlite3.connect(path, isolation_level=None, check_same_thread=False) for _ in range(2))
    connection.set_trace_callback(statements.append)
    store = SqliteStore(connection, reader)
    begun, go_on = threading.Event(), threading.Event()

    def busy(_connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(patience(30))

    waiting = asyncio.ensure_future(store._ask(busy))
    assert await asyncio.to_thread(begun.wait, patience(30))
    asked = asyncio.gather(store.create("b", b"1"), store.create("a", b"2"), store.get("b"))
    await asyncio.sleep(0)
    go_on.set()
    first, second, seen = await asked
    assert first == seen
    assert second
    await waiting
    await store.close()
    assert _written(statements) == ["COMMIT", "b", "a", "COMMIT"]
