"""Cost of following names in the store for one host, with 100,000 names: Consul beside etcd.

The watcher is the store's client that a driver has, in this process, and nothing else: bytes are counted as HTTP has
them, and the longest that its event loop stands still is counted in time of the processor, so that a busy machine does
not matter. Writers are clients of hosts of their own, in another process. The store has one member.
"""

import asyncio
import contextlib
import gc
import math
import multiprocessing
import socket
import ssl
import statistics
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import msgspec

from bench.growth import STORES
from bench.large_cluster import EACH, name_record
from bench.rounds import Row, Unit
from lab import ConsulCluster, EtcdCluster
from lab.cluster import Cluster
from lab.cluster_site import StoreKind
from macvlan_global.store.access import NO_ACCESS, parse_store_url
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.ports import ClusterStore, Entry
from macvlan_global.store.remote.consul import ConsulStore
from macvlan_global.store.remote.etcd import EtcdStore

HOSTS = 1000
ONE = "names/one/"
"""A network with all containers; `names/many…/` are as many networks as there are hosts, with `EACH` each."""
CHANGES, BURST, BURSTS_SECONDS = 50, 100, 3
CONTENDERS = (1, 10, 100)
_WHATS: dict[str, tuple[str, Unit, float | None]] = {
    "start": ("all names of one network are read", "s", None),
    "start_bytes": ("bytes of that", "MB", None),
    "start_stands": ("event loop stands meanwhile", "ms", 0.005),
    "one_bytes": ("bytes of a change, 100,000 names in one network", "kB", 20_000),
    "one_known": ("until it is known (p99)", "ms", 0.1),
    "one_stands": ("event loop stands for it", "ms", 0.005),
    "many_bytes": ("bytes of a change, 100,000 names in 1,000 networks", "kB", 20_000),
    "many_known": ("until it is known (p99), 1,000 networks", "ms", 0.1),
    "burst_bytes": ("bytes of a change, 100 changes a second", "kB", 20_000),
    "burst_known": ("until it is known (p99), 100 changes a second", "ms", 0.1),
    "at_rest": ("bytes of a watch at rest, a minute", "kB", None),
    **{f"writers{n}": (f"{n} hosts write to one network at once", "ms", None) for n in CONTENDERS},
}
_KINDS = {"consul": ConsulCluster, "etcd": EtcdCluster}
_REST_SECONDS = 60.0

TITLES = tuple(
    f"watch: {what}, {which}"
    for what, _, goal in _WHATS.values()
    for which in (("consul",) if goal is None else ("consul", "goal"))
)


def measure(*, quick: bool) -> list[Row]:
    """The rows of this measurement."""
    hosts, changes = (2, 2) if quick else (HOSTS, CHANGES)
    found = {store: _measure_store(store, hosts, changes) for store in STORES}
    return [row for key in _WHATS for row in _rows(key, found["consul"][key], found["etcd"][key])]


def _rows(key: str, consul: float, etcd: float) -> list[Row]:
    """The figure of Consul beside that of etcd, and alone if there is a goal for it."""
    what, unit, goal = _WHATS[key]
    beside = Row(f"watch: {what}, consul", unit, [consul], [etcd], "etcd")
    return [beside] if goal is None else [beside, Row(f"watch: {what}, goal", unit, [consul], goal=goal)]


def _measure_store(kind: StoreKind, hosts: int, changes: int) -> dict[str, float]:
    with _KINDS[kind]() as cluster, _writer(cluster) as ask:
        ask("fill", hosts)
        return asyncio.run(_measure(cluster, ask, hosts, changes))


class _Ask:
    """Has the other process do something, and gives its answer."""

    def __init__(self, line: "Connection[Any, Any]") -> None:
        self._line = line

    async def later(self, action: str, *arguments: object) -> Any:
        """The answer, without standing in the way of anybody."""
        return await asyncio.get_running_loop().run_in_executor(None, lambda: self(action, *arguments))

    def __call__(self, action: str, *arguments: object) -> Any:
        self._line.send((action, *arguments))
        answer = self._line.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextlib.contextmanager
def _writer(cluster: Cluster) -> Iterator[_Ask]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_write, args=(theirs, cluster.url))
    process.start()
    try:
        yield _Ask(ours)
        ours.send(("end",))
    finally:
        process.join(10)
        process.kill()


# ------------------------------------------------------------------- the watcher


class _CountedSocket(socket.socket):
    """A TCP connection that knows how many bytes went over it, as the kernel counts them (`struct tcp_info`)."""

    _last = 0

    def seen(self) -> int:
        """Bytes that were acknowledged and received."""
        if self.fileno() >= 0:
            info = self.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
            self._last = sum(struct.unpack_from("=QQ", info, 120))
        return self._last

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(OSError):
            self.seen()
        super().close()


class _Watcher:
    """A store's client whose bytes and turns of the event loop are counted."""

    def __init__(self, url: str) -> None:
        self._sockets: list[_CountedSocket] = []
        self.longest = 0.0
        self.known: dict[str, float] = {}
        self._changed = asyncio.Event()
        parsed = parse_store_url(url)
        make = ConsulStore if parsed.kind == "consul" else EtcdStore
        self.store: ClusterStore = make(parsed, NO_ACCESS, open_session=self._session)

    @property
    def bytes(self) -> int:
        """Bytes that were sent and received so far."""
        return sum(each.seen() for each in self._sockets)

    def _session(self, _tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
        def made(address: Any) -> socket.socket:
            counted = _CountedSocket(address[0], address[1], address[2])
            self._sockets.append(counted)
            return counted

        connector = aiohttp.TCPConnector(limit=64, socket_factory=made)
        return aiohttp.ClientSession(connector=connector, headers={"Accept-Encoding": "identity"})

    @contextlib.asynccontextmanager
    async def watching(self, prefix: str) -> AsyncIterator[None]:
        """Follow a group, from when all of it was read."""
        self.known.clear()
        task = asyncio.ensure_future(self._watch(prefix))
        await self._changed.wait()
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._changed.clear()

    async def _watch(self, prefix: str) -> None:
        async with contextlib.aclosing(self.store.watch(prefix)) as batches:
            async for batch in batches:
                now = time.monotonic()
                if not batch.whole:
                    self.known |= dict.fromkeys((entry.key for entry in batch.entries), now)
                del batch  # as a driver does: it may be all there is
                self._changed.set()

    async def until(self, keys: set[str]) -> None:
        """Return when all of these were told."""
        while not keys <= self.known.keys():
            self._changed.clear()
            await self._changed.wait()

    @contextlib.asynccontextmanager
    async def timed(self) -> AsyncIterator[None]:
        """Note the longest turn of the event loop in it, in seconds of the processor."""
        self.longest = 0.0

        async def look() -> None:
            before = time.thread_time()
            while True:
                await asyncio.sleep(0)
                now = time.thread_time()
                self.longest = max(self.longest, now - before)
                before = now

        task = asyncio.ensure_future(look())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _measure(cluster: Cluster, ask: _Ask, hosts: int, changes: int) -> dict[str, float]:
    gc.collect()
    gc.freeze()  # as the driver does with what it has loaded
    watcher, found = _Watcher(cluster.url), dict[str, float]()
    begun = time.monotonic()
    async with watcher.timed(), watcher.watching(ONE):
        found |= {"start": time.monotonic() - begun, "start_bytes": watcher.bytes, "start_stands": watcher.longest}
    for name, group in (("one", ONE), ("many", "names/many1/")):
        async with watcher.watching(group):
            before, known = watcher.bytes, []
            for number in range(changes):
                written = await ask.later("change", group, number)
                known += await _known(watcher, written)
            found |= {f"{name}_bytes": (watcher.bytes - before) / changes, f"{name}_known": _p99(known)}
            async with watcher.timed():
                written = await ask.later("change", group, changes)
                await _known(watcher, written)
            found[f"{name}_stands"] = watcher.longest
    async with watcher.watching(ONE):
        before = watcher.bytes
        count = BURST * BURSTS_SECONDS if changes == CHANGES else 10
        written = await ask.later("burst", ONE, BURST, count)
        known = await _known(watcher, written)
        found |= {"burst_bytes": (watcher.bytes - before) / len(known), "burst_known": _p99(known)}
        for writers in CONTENDERS:
            found[f"writers{writers}"] = float(await ask.later("contend", ONE, writers))
        await asyncio.sleep(1)
        before, seconds = watcher.bytes, _REST_SECONDS if changes == CHANGES else 1.0
        await asyncio.sleep(seconds)
        found["at_rest"] = (watcher.bytes - before) * 60 / seconds
    await watcher.store.close()
    return found


async def _known(watcher: _Watcher, written: dict[str, float]) -> list[float]:
    """Seconds until each key was told, of those that were written at these times."""
    await watcher.until(set(written))
    return [max(0.0, watcher.known[key] - at) for key, at in written.items()]


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(len(seconds) * 0.99) - 1] if len(seconds) > 1 else statistics.mean(seconds)


# ------------------------------------------------------------------- the writers


def _write(line: "Connection[Any, Any]", url: str) -> None:
    """Do what the line asks for until it says that it is the end."""
    asyncio.run(_writes(line, url))


async def _writes(line: "Connection[Any, Any]", url: str) -> None:
    store, loop = open_cluster_store(url), asyncio.get_running_loop()
    actions: dict[str, Callable[..., Awaitable[object]]] = {
        "fill": _fill,
        "change": _change,
        "burst": _burst,
        "contend": _contend,
    }
    number = 0
    while (action := await loop.run_in_executor(None, line.recv))[0] != "end":
        number += 1
        try:
            line.send(await actions[action[0]](store, url, number, *action[1:]))
        except Exception as error:  # noqa: BLE001 - the other process raises it
            line.send(error)
    await store.close()


async def _create(store: ClusterStore, group: str, host: int, number: int) -> Entry:
    record = name_record(host, number, time.time())
    entry = await store.create(f"{group}{host:032x}/{record.endpoint}", msgspec.json.encode(record))
    assert entry
    return entry


async def _fill(store: ClusterStore, _url: str, _turn: int, hosts: int) -> int:
    writes = (
        (group, host, number)
        for host in range(hosts)
        for group in (ONE, f"names/many{host}/")
        for number in range(EACH)
    )

    async def some() -> None:
        for each in writes:
            await _create(store, *each)

    await asyncio.gather(*(some() for _ in range(256)))
    return hosts


async def _change(store: ClusterStore, _url: str, turn: int, group: str, number: int) -> dict[str, float]:
    await asyncio.sleep(0.1)
    entry = await _create(store, group, number, 1_000 * turn)
    return {entry.key: time.monotonic()}


async def _burst(store: ClusterStore, url: str, turn: int, group: str, a_second: int, count: int) -> dict[str, float]:
    stores = [open_cluster_store(url) for _ in range(20)]
    done: dict[str, float] = {}

    async def one(number: int) -> None:
        await asyncio.sleep(number / a_second)
        entry = await _create(stores[number % len(stores)], group, number, 1_000 * turn)
        done[entry.key] = time.monotonic()

    await asyncio.gather(*(one(number) for number in range(count)))
    await asyncio.gather(*(each.close() for each in stores))
    return done


async def _contend(_store: ClusterStore, url: str, turn: int, group: str, hosts: int) -> float:
    """Seconds until each of so many hosts has written, all at once; each has written before."""
    stores = [open_cluster_store(url) for _ in range(hosts)]
    for host, each in enumerate(stores):
        await _create(each, group, host, 1_000 * turn)
    begun = time.monotonic()
    await asyncio.gather(*(_create(each, group, host, 1_000 * turn + 1) for host, each in enumerate(stores)))
    seconds = time.monotonic() - begun
    await asyncio.gather(*(each.close() for each in stores))
    return seconds
