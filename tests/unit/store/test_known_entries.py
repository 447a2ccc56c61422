"""An entry is known from its write on, unless another write of its key is on its way, or it is too long."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lab.speed import patience
from macvlan_global.errors import Unavailable
from macvlan_global.store.known_entries import LONGEST_KNOWN, MOST_KNOWN, KnownEntries
from macvlan_global.store.ports import Entry
from macvlan_global.store.sqlite import SqliteStore, open_sqlite


def test_what_was_written_is_known() -> None:
    """Until it is written again, whose outcome counts, or is unknown."""
    known, first, second = KnownEntries(), Entry("k", b"1", 1), Entry("k", b"2", 2)
    assert known.get("k") is None
    for entry in (first, second):
        known.begin("k")
        assert known.get("k") is None
        assert known.is_written("k")
        known.end("k", entry)
        assert known.get("k") == entry
        assert not known.is_written("k")
    known.begin("k")
    known.end("k", None)
    assert known.get("k") is None


def test_of_two_writes_at_once_the_last_answer_counts() -> None:
    """In between nothing is known: the first one's answer may be out of date."""
    known, last = KnownEntries(), Entry("k", b"2", 2)
    known.begin("k")
    known.begin("k")
    known.end("k", Entry("k", b"1", 1))
    assert known.get("k") is None
    assert known.is_written("k")
    known.end("k", last)
    assert known.get("k") == last


def test_what_is_kept_is_bounded() -> None:
    """In number and in size; the oldest go first."""
    known = KnownEntries()
    for number in range(MOST_KNOWN + 1):
        known.begin(f"k{number}")
        known.end(f"k{number}", Entry(f"k{number}", b"", number))
    assert known.get("k0") is None
    assert known.get("k1")
    known.begin("long")
    known.end("long", Entry("long", bytes(LONGEST_KNOWN + 1), 1))
    assert known.get("long") is None


class Watched:
    """A store on a file, and what its two connections are asked."""

    def __init__(self, path: Path) -> None:
        """Open it."""
        asyncio.run(open_sqlite(path).close())
        connections = [sqlite3.connect(path, isolation_level=None, check_same_thread=False) for _ in range(2)]
        self.written: list[str] = []
        self.read: list[str] = []
        for connection, seen in zip(connections, (self.written, self.read), strict=True):
            connection.set_trace_callback(seen.append)
        self.store = SqliteStore(*connections)

    def order(self) -> list[str]:
        """What changed entries, and the ends of transactions."""
        return [
            each.split()[0] if each == "COMMIT" else each.partition("'")[2].partition("'")[0]
            for each in self.written
            if each == "COMMIT" or each.startswith(("INSERT", "UPDATE entries", "DELETE"))
        ]


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    """An empty store."""
    watched = await asyncio.to_thread(Watched, tmp_path / "state.db")
    yield watched
    await watched.store.close()


async def test_an_entry_is_read_without_the_file(watched: Watched) -> None:
    """As it was written last; one that nobody wrote here is read from it."""
    store = watched.store
    created = await store.create("k", b"1")
    assert created
    assert await store.get("k") == created
    replaced = await store.replace(created, b"2")
    assert await store.get("k") == replaced
    assert watched.read == []
    assert await store.get("other") is None
    assert len(watched.read) == 1
    assert replaced
    assert await store.delete(replaced)
    assert await store.get("k") is None
    assert len(watched.read) == 2


async def test_a_read_sees_the_write_before_it(watched: Watched) -> None:
    """Though that has no answer yet. Other keys do not wait for it."""
    store = watched.store
    created = await store.create("k", b"1")
    assert created
    writing = asyncio.ensure_future(store.replace(created, b"2"))
    await asyncio.sleep(0)
    seen, other = await asyncio.gather(store.get("k"), store.get("other"))
    assert seen
    assert (seen.value, other) == (b"2", None)
    assert await writing == seen


async def test_what_waits_is_one_transaction_in_the_order_of_asking(watched: Watched) -> None:
    """So nothing is on the disk before what was asked earlier."""
    begun, go_on = threading.Event(), threading.Event()

    def busy(_connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(patience(30))

    waiting = asyncio.ensure_future(watched.store._ask(busy))
    assert await asyncio.to_thread(begun.wait, patience(30))
    creating = asyncio.gather(watched.store.create("b", b""), watched.store.create("a", b""))
    await asyncio.sleep(0)
    go_on.set()
    assert all(await creating)
    await waiting
    assert watched.order() == ["COMMIT", "b", "a", "COMMIT"]


async def test_a_lost_race_and_a_failure_leave_nothing_known(watched: Watched) -> None:
    """The file is asked what there is."""
    store = watched.store
    created = await store.create("k", b"1")
    assert created
    assert await store.create("k", b"2") is None
    assert await store.get("k") == created
    assert len(watched.read) == 1
    with pytest.raises(Unavailable):
        await store.replace(created, {})  # type: ignore[arg-type]  # which SQLite cannot write
    assert await store.get("k") == created
    assert len(watched.read) == 2
