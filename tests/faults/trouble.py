"""What goes wrong in the run, one thing after the other in an order that is drawn, until all of it has happened."""

import asyncio
import contextlib
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lab import Host
from lab.cluster_site import ClusterSite
from lab.errors import CommandError
from lab.process import wait_until
from lab.proxy import TcpProxy
from lab.speed import Allowance
from macvlan_global.errors import Unavailable
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.records import AddressRecord
from macvlan_global.store.table import Tables
from testkit.history import Event, What
from tests.faults.played_host import PlayedHost

T = TypeVar("T")

CONFIRM_SECONDS = 0.5
"""How often the store is read after a restore, to see when it knows each holder again."""
INSIST_SECONDS = 20.0
STATE = "/var/lib/macvlan-global/state.db"
TWINS_STATE = "/run/state-of-another"
ENTERED = " is in the cluster as "
"""What a host's driver logs."""
REFUSED = "another run of this host is in the cluster"
"""What a clone's driver logs."""
RECLAIM_SECONDS = 120.0
"""For the end of a lease, which is a store's own time, the grace, and a machine that has much else to do."""


class Trouble:
    """Breaks a cluster and mends it again. The last host but one reaches the store by proxies; the last one loses
    power at the beginning and is back once others gave back what it had; no other fault is about it."""

    def __init__(
        self,
        site: ClusterSite,
        hosts: Sequence[PlayedHost],
        proxies: Sequence[TcpProxy],
        history: list[Event],
        lot: random.Random,
        *,
        folder: Path,
        flags: Sequence[str],
    ) -> None:
        """`folder` is for snapshots; `flags` are those of the drivers."""
        self.done: Counter[str] = Counter()
        self._site = site
        self._store = site.store
        self._hosts = hosts[:-1]
        self._unlucky = hosts[-1]
        self._proxies = proxies
        self._history = history
        self._lot = lot
        self._folder = folder
        self._eye = site.machine()
        self._twin = site.machine()
        self._twins_driver = site.driver(self._twin, *flags, f"--state-dir={TWINS_STATE}")
        self._restored = asyncio.Event()

    async def run(self, enough: Callable[[], bool]) -> None:
        """Each fault at least once, and more until it is enough; returns when all is mended."""
        looking = asyncio.ensure_future(self._look_often())
        try:
            await self._break_and_mend(enough)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _break_and_mend(self, enough: Callable[[], bool]) -> None:
        await asyncio.sleep(3)
        await self._unlucky.lose_power()
        kinds = [self._kill_leader, self._pause_members, self._cut_off, self._lose_answers, self._restore]
        kinds += [self._kill_driver] * 3 + [self._delay_answers, self._clone]
        self._lot.shuffle(kinds)
        for kind in kinds:
            await self.once(kind)
            await asyncio.sleep(self._lot.uniform(0.5, 1.5))
        await until(lambda: self.reclaimed() > 0, RECLAIM_SECONDS)
        await self._unlucky.come_back()
        self.done["power lost"] += 1
        while not enough():
            await self.once(self._lot.choice(kinds))
            await asyncio.sleep(self._lot.uniform(1, 4))

    def reclaimed(self) -> int:
        """How many addresses of the host without power were given back by others, as these say."""
        mark = f"of dead host {self._unlucky.name} is reclaimed"
        return sum(host.driver.log_text().count(mark) for host in self._hosts)

    async def once(self, kind: Callable[[], Awaitable[str]]) -> None:
        """One fault, from its beginning until the store serves again."""
        self.done[await kind()] += 1
        await asyncio.to_thread(self._store.wait_ready)

    async def records(self) -> list[AddressRecord]:
        """Every address in the store, read past all drivers."""
        return await asyncio.to_thread(_beside, self._eye, lambda: _scan(self._store.url))

    def addresses_of_hosts(self) -> set[str]:
        """The addresses that hosts have themselves, as they told the store."""
        return _beside(self._eye, lambda: _own(self._store.url))

    async def forget(self, address: str) -> None:
        """Delete an address from the store behind the back of its holder, as nothing of ours does."""
        await asyncio.to_thread(_beside, self._eye, lambda: _delete(self._store.url, address))

    async def confirm(self) -> None:
        """Whoever the store knows as the holder of his address is safe from now on."""
        for record in await self.records():
            self._note("confirm", record.endpoint or record.network, record.address)

    # ---------------------------------------------------------------- faults

    async def _kill_leader(self) -> str:
        index = await asyncio.to_thread(self._store.kill_leader)
        await asyncio.sleep(self._lot.uniform(1, 2))
        await asyncio.to_thread(self._store.start, index)
        return "leader killed"

    async def _pause_members(self) -> str:
        for member in self._store.members:
            self._store.pause(member.index)
        await asyncio.sleep(self._lot.uniform(2, 4))
        for member in self._store.members:
            self._store.resume(member.index)
        return "all members stood still"

    async def _cut_off(self) -> str:
        host = self._lot.choice(self._hosts[:-1]).machine
        await asyncio.to_thread(self._site.management.cut, host, "eth0")
        await asyncio.sleep(self._lot.uniform(2, 5))
        await asyncio.to_thread(self._site.management.mend, host, "eth0")
        return "host cut off"

    async def _kill_driver(self) -> str:
        driver = self._lot.choice(self._hosts).driver
        await asyncio.to_thread(driver.kill)
        await asyncio.sleep(self._lot.uniform(0, 1))
        await asyncio.to_thread(driver.start)
        return "driver killed"

    async def _clone(self) -> str:
        """A copy of a host's disk is started on another machine, while the host lives, as another run by then."""
        host = self._lot.choice(self._hosts[:-1])
        await asyncio.to_thread(_copy_state, host.machine, self._twin)
        entered = host.driver.log_text().count(ENTERED)
        await asyncio.to_thread(host.driver.kill)
        await asyncio.to_thread(host.driver.start)
        await until(lambda: host.driver.log_text().count(ENTERED) > entered, INSIST_SECONDS)
        await asyncio.to_thread(self._twins_driver.begin)
        await until(lambda: REFUSED in self._twins_driver.log_text(), INSIST_SECONDS)
        await asyncio.sleep(self._lot.uniform(1, 3))
        await asyncio.to_thread(self._twins_driver.kill)
        self._twins_driver.log.unlink()
        return "host cloned"

    async def _lose_answers(self) -> str:
        async with self._through_proxies(TcpProxy.lose_answers):
            await asyncio.sleep(self._lot.uniform(0.5, 2))
        return "answers lost"

    async def _delay_answers(self) -> str:
        async with self._through_proxies(lambda proxy: proxy.delay(0.2)):
            await asyncio.sleep(self._lot.uniform(1, 2))
        return "answers late"

    async def _restore(self) -> str:
        snapshot = self._folder / "snapshot"
        await asyncio.to_thread(_insist, self._store.save, snapshot)
        await asyncio.sleep(self._lot.uniform(1, 4))
        begun = time.time()
        await asyncio.to_thread(_insist, self._store.restore, snapshot)
        self._history.append(Event("restore", "", begun, time.time()))
        self._restored.set()
        return "store restored from an older snapshot"

    # ---------------------------------------------------------------- inside

    @contextlib.asynccontextmanager
    async def _through_proxies(self, change: Callable[[TcpProxy], None]) -> AsyncIterator[None]:
        for proxy in self._proxies:
            change(proxy)
        yield
        for proxy in self._proxies:
            await asyncio.to_thread(proxy.mend)

    async def _look_often(self) -> None:
        await self._restored.wait()
        while True:
            with contextlib.suppress(Unavailable):  # it may be broken just now
                await self.confirm()
            await asyncio.sleep(CONFIRM_SECONDS)

    def _note(self, what: What, endpoint: str, address: str) -> None:
        now = time.time()
        self._history.append(Event(what, "", now, now, "ok", endpoint, address))


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Return once it holds; it may ask drivers or read files, so it runs in a thread."""
    limit = Allowance(seconds)
    while not await asyncio.to_thread(condition):
        assert not limit.over, "it did not come about in time"
        await asyncio.sleep(0.1)


def _copy_state(original: Host, twin: Host) -> None:
    """Copy the state of a driver that runs to another machine."""
    copy = f"import sqlite3; sqlite3.connect('{STATE}').backup(sqlite3.connect('/run/state.db'))"
    original.run([sys.executable, "-c", copy])
    folder = twin.run_folder / Path(TWINS_STATE).name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    shutil.move(original.run_folder / "state.db", folder / "state.db")


def _insist(command: Callable[[Path], None], file: Path) -> None:
    """Call it until it is done: the store may be choosing another leader just now.

    Raises:
        LabError: it is not done in time.
    """
    refusals: list[str] = []

    def is_done() -> bool:
        try:
            command(file)
        except CommandError as error:
            refusals.append(str(error))
            return False
        return True

    wait_until(is_done, "snapshot", seconds=INSIST_SECONDS, every=0.2, explain=lambda: refusals[-1])


def _beside(machine: Host, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Do it in this thread, whose sockets are those of the machine meanwhile.

    The work is made here: who asked may have been cancelled before there was a thread for it.
    """
    with machine.in_network():
        return asyncio.run(work())


async def _scan(url: str) -> list[AddressRecord]:
    async with _tables(url) as tables:
        return [row.record for row in await tables.addresses.scan()]


async def _own(url: str) -> set[str]:
    async with _tables(url) as tables:
        return {each.address for row in await tables.host_addresses.scan() for each in row.record.addresses}


async def _delete(url: str, address: str) -> None:
    async with _tables(url) as tables:
        rows = [row for row in await tables.addresses.scan() if row.record.address == address]
        assert await tables.addresses.delete(rows[0])


@contextlib.asynccontextmanager
async def _tables(url: str) -> AsyncIterator[Tables]:
    store = open_cluster_store(url)
    try:
        yield Tables(store, MemoryStore())
    finally:
        await store.close()
