"""Durable allocations by 16 callers at once, beside SQLite itself with one commit for each row.

Both write to the disk with a write-ahead log and synchronous=FULL: what was answered survives a power cut.
"""

import asyncio
import sqlite3
import time
from pathlib import Path

from bench.address_book import address_book
from bench.rounds import Figures, Row, take_turns
from lab.paths import BUILD, scratch_folder

TITLES = ("durable allocations, 16 callers",)
CALLERS = 16
_VALUE = b"x" * 230
"""As long as the record of an address."""


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    count = 160 if quick else 1600
    samples = take_turns({"ours": lambda: _ours(count), "raw": lambda: _raw(count)}, 2 if quick else 20)
    raw = "SQLite, one commit each"
    return [
        Row(TITLES[0], "/s", samples["ours"]["rate"], samples["raw"]["rate"], raw, goal=1.0, sense="at least"),
    ]


def _ours(count: int) -> Figures:
    with scratch_folder(BUILD) as folder:
        return {"rate": count / asyncio.run(_allocate(folder, count))}


async def _allocate(folder: Path, count: int) -> float:
    async with address_book(folder) as book:
        await book.pools.load()
        pool = await book.reserve_pool("10.0.0.0/8")

        async def caller() -> None:
            for _ in range(count // CALLERS):
                await book.take(pool)

        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return time.perf_counter() - begun


def _raw(count: int) -> Figures:
    with scratch_folder(BUILD) as folder:
        connection = sqlite3.connect(folder / "raw.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        begun = time.perf_counter()
        for number in range(count):
            connection.execute("INSERT INTO entries VALUES (?, ?)", (f"addresses/macvlan-global/{number}", _VALUE))
        taken = time.perf_counter() - begun
        connection.close()
        return {"rate": count / taken}
