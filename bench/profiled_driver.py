"""A driver whose ports are timed: the real one, on the real kernel and a real store, with a clock around each door.

It serves the plugin socket, and one path more, `/Bench.Counts`: what was counted so far. Nothing of the driver is
replaced. What is counted costs a little itself, so figures are for comparing parts with each other.
"""

import asyncio
import contextlib
import os
import sqlite3
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.netlink import NetlinkKernel, Sockets
from macvlan_global.kernel.netns import entered
from macvlan_global.kernel.rtnl import MessageSocket, RouteSocket, open_netlink
from macvlan_global.libnetwork.handlers import Handlers, Route
from macvlan_global.libnetwork.messages import Empty, Message
from macvlan_global.libnetwork.server import PluginServer
from macvlan_global.listening import listen
from macvlan_global.metrics.counts import Metrics
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Store
from macvlan_global.store.sqlite import SqliteStore, open_sqlite
from macvlan_global.store.table import Tables

COUNTS = "Bench.Counts"
SOCKET = Path("/run/docker/plugins/macvlan-global.sock")
READY = Path("/run/profiled")
AFTERWARDS = frozenset({"advertise"})
"""Work of the kernel port that no request waits for."""


class Counted(Message, frozen=True, kw_only=True):
    """Reply of `Bench.Counts`: by name, how often and for how many seconds."""

    counts: dict[str, tuple[int, float]]


class Clocks:
    """Counts and seconds by name."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.seen: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0])

    def add(self, name: str, seconds: float = 0.0) -> None:
        """Count one."""
        seen = self.seen[name]
        seen[0] += 1
        seen[1] += seconds

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count the block."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - begun)

    def timed(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """An asynchronous call that is counted."""

        async def counted(*arguments: object, **named: object) -> object:
            with self.of(name):
                return await call(*arguments, **named)

        return counted


class TimedPort:
    """A port whose asynchronous methods are counted, together and each by its name."""

    def __init__(self, inside: object, name: str, clocks: Clocks) -> None:
        """Pass everything on to `inside`."""
        self._inside = inside
        self._name = name
        self._clocks = clocks

    def __getattr__(self, name: str) -> Any:
        """An attribute of what is inside; a coroutine function is counted."""
        found = getattr(self._inside, name)
        if not asyncio.iscoroutinefunction(found):
            return found
        of = f"{self._name} afterwards" if name in AFTERWARDS else self._name
        wrapped = self._clocks.timed(of, self._clocks.timed(f"{self._name}.{name}", found))
        setattr(self, name, wrapped)
        return wrapped


class _TimedSocket:
    """A netlink socket: the kernel carries a request out while it is sent."""

    def __init__(self, clocks: Clocks) -> None:
        with clocks.of("netlink sockets"):
            self._inside: MessageSocket = open_netlink()
        self._clocks = clocks

    def send(self, data: bytes, /) -> int:
        with self._clocks.of("netlink"):
            return self._inside.send(data)

    def recv(self, size: int, /) -> bytes:
        with self._clocks.of("netlink answers"):
            return self._inside.recv(size)

    def close(self) -> None:
        self._inside.close()


class _TimedConnection(sqlite3.Connection):
    """Statements of SQLite. A COMMIT waits for the disk."""

    clocks: Clocks

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        with self.clocks.of("commit" if sql.startswith("COMMIT") else "statement"):
            return super().execute(sql, *parameters)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that counts how often a thread wakes it."""

    def __init__(self, clocks: Clocks) -> None:
        super().__init__()
        self._clocks = clocks

    def call_soon_threadsafe(  # type: ignore[override]  # whatever it takes, it is passed on
        self, *arguments: Any, **named: Any
    ) -> asyncio.Handle:
        self._clocks.add("hops")
        return super().call_soon_threadsafe(*arguments, **named)

    def _run_once(self) -> None:
        self._clocks.add("turns")
        super()._run_once()  # type: ignore[misc]  # BaseEventLoop has it, typeshed does not


def _open_store(folder: str, clocks: Clocks) -> Store:
    if not folder:
        return MemoryStore()
    path = Path(folder, "state.db")
    open_sqlite(path)  # makes the file, and is left idle
    _TimedConnection.clocks = clocks
    connection, reader = (
        sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=_TimedConnection) for _ in range(2)
    )
    connection.execute("PRAGMA synchronous = FULL")
    reader.execute("PRAGMA query_only = ON")
    return SqliteStore(connection, reader)


async def _serve(folder: str, clocks: Clocks) -> None:
    @contextlib.contextmanager
    def enter(path: str) -> Iterator[None]:
        with clocks.of("namespace visits"), entered(path):
            yield

    store: Any = TimedPort(_open_store(folder, clocks), "store", clocks)
    sockets = Sockets(route=lambda: RouteSocket(lambda: _TimedSocket(clocks)), enter=enter)
    kernel: Any = TimedPort(NetlinkKernel(sockets), "kernel", clocks)
    driver = Driver.build(Tables(store, store), kernel, Identity("bench", "run", "boot", "bench"), Settings())
    await driver.pools.load()

    async def counts(_request: Empty) -> Counted:
        clocks.seen["CPU of the process"] = [0, time.process_time()]
        clocks.seen["CPU of the event loop"] = [0, time.thread_time()]
        return Counted(counts={name: (int(count), seconds) for name, (count, seconds) in clocks.seen.items()})

    routes = {
        path: Route(route.request, clocks.timed("handlers", route.handle))  # type: ignore[arg-type]  # a coroutine
        for path, route in Handlers(driver).routes().items()
    }
    server = PluginServer({**routes, f"/{COUNTS}": Route(Empty, counts)}, Metrics())
    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    await server.start(listen(SOCKET, what="the plugin socket"))
    await asyncio.to_thread(READY.touch)
    await driver.attacher.run()


def main() -> None:
    """`python -m bench.profiled_driver [FOLDER]`: state in memory, or in this folder."""
    clocks = Clocks()
    with asyncio.Runner(loop_factory=lambda: _Loop(clocks)) as runner:
        runner.run(_serve(sys.argv[1] if len(sys.argv) > 1 else "", clocks))


if __name__ == "__main__":
    os.umask(0o077)
    main()
