"""Cost of one allocation in a full pool, beside an empty /24: durable, one at a time.

A pool is filled by a random choice of its addresses, which leaves the free ones scattered: nothing to leap over.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_network
from pathlib import Path

from bench.address_book import IDENTITY, AddressBook, address_book
from bench.rounds import Figures, Row, take_turns
from lab.paths import BUILD, scratch_folder
from macvlan_global.ipam.allocator import COOLING_SECONDS
from macvlan_global.ipam.cache import ParsedPool
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.store.records import AddressRecord
from macvlan_global.subnets import from_number, usable

FULL = {"a /16, 99 % full": "10.1.0.0/16", "a /8 with 65,000 held": "11.0.0.0/8", "a /64 with 65,000 held": "fd18::/64"}
TITLES = tuple(f"allocation in {name}" for name in FULL)
_EMPTY = "an empty /24"
_AT_ONCE = 500


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    held, each, rounds = (600, 5, 2) if quick else (64_900, 40, 40)
    # a file for each, since the size of the file is part of what fill costs
    with scratch_folder(BUILD) as folder, asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        books = {_EMPTY: _Book(runner, folder / "empty", "10.2.0.0/24", 0)}
        books |= {name: _Book(runner, folder / str(at), FULL[name], held) for at, name in enumerate(FULL)}
        for book in books.values():
            stack.callback(book.close)
        samples = take_turns({name: partial(book.turn, each) for name, book in books.items()}, rounds, warm_up=2)
    empty = samples[_EMPTY]["one"]
    titles = zip(TITLES, FULL, strict=True)
    return [Row(title, "us", samples[name]["one"], empty, _EMPTY, goal=1.2) for title, name in titles]


class _Book:
    """An address book with one pool in which `held` addresses are taken."""

    def __init__(self, runner: asyncio.Runner, folder: Path, subnet: str, held: int) -> None:
        folder.mkdir()
        self._runner = runner
        self._stack = contextlib.AsyncExitStack()
        self._now = time.time()
        self._book, self._pool = runner.run(self._open(folder, subnet, held))

    def turn(self, count: int) -> Figures:
        """Take `count` addresses, then give them back, unmeasured, and let them cool off."""
        taken = self._runner.run(self._turn(count))
        self._now += 2 * COOLING_SECONDS
        return {"one": taken / count}

    def close(self) -> None:
        self._runner.run(self._stack.aclose())

    async def _open(self, folder: Path, subnet: str, held: int) -> tuple[AddressBook, ParsedPool]:
        book = await self._stack.enter_async_context(address_book(folder, lambda: self._now))
        records = _records(subnet, held, self._now)
        while batch := list(itertools.islice(records, _AT_ONCE)):
            await asyncio.gather(*(book.tables.addresses.create(each, each.space, each.address) for each in batch))
        await book.pools.load()
        return book, await book.reserve_pool(subnet)

    async def _turn(self, count: int) -> float:
        begun = time.perf_counter()
        taken = [await self._book.take(self._pool) for _ in range(count)]
        seconds = time.perf_counter() - begun
        for address in taken:
            await self._book.release(self._pool, address)
        return seconds


def _records(subnet: str, count: int, at: float) -> Iterator[AddressRecord]:
    """Holders of `count` addresses of a subnet, chosen by chance, and the same in every run."""
    parsed = ip_network(subnet)
    first, stop = usable(parsed)
    chance = random.Random(subnet)  # noqa: S311  # no secret hangs on it
    numbers = set[int]()
    while len(numbers) < count:
        numbers.add(chance.randrange(first, stop))
    for number in numbers:
        yield AddressRecord(
            space=DEFAULT_SPACE,
            subnet=subnet,
            address=str(from_number(number, parsed)),
            kind="endpoint",
            network="0" * 64,
            endpoint=f"{number:064x}",
            host=IDENTITY.host,
            incarnation=IDENTITY.incarnation,
            at=at,
        )
