"""Nothing foreign comes out of a store: whatever is raised below, its callers see one of the six classes."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from macvlan_global.errors import MacvlanGlobalError, Unavailable
from macvlan_global.store.access import NO_ACCESS, StoreAccess, StoreUrl, parse_store_url
from macvlan_global.store.ports import ClusterStore, Entry, Store
from macvlan_global.store.remote.consul import ConsulStore
from macvlan_global.store.remote.etcd import EtcdStore
from macvlan_global.store.sqlite import SqliteStore, open_sqlite, read_sqlite
from testkit.brief import SHARE
from testkit.foreign_errors import GARBAGE, BrokenHttp, broken_http, sqlite_errors
from testkit.virtual_time import VirtualLoop

SECONDS = 20
"""An operation gives up sooner; a watch may go on for ever."""
ENTRY = Entry("k", b"v", 7)
ETCD_ANSWER = b'{"header": {"revision": "5"}, "result": {"header": {"revision": "5"}, "TTL": "9"}, "ID": "7"}'
GOOD = {
    ("consul", "lease"): b'{"ID": "s", "Results": [{"KV": {"Key": "macvlan-global/k", "ModifyIndex": 5}}]}',
    ("etcd", "lease"): ETCD_ANSWER[:-1] + b', "succeeded": true}',
    ("etcd", "watch"): ETCD_ANSWER,
}
"""Good answers of a store, where these are not an empty list."""
Operation = Callable[[ClusterStore], Awaitable[object]]


async def _watch(store: ClusterStore) -> None:
    async for _ in store.watch("k/"):
        pass


async def _follow(store: ClusterStore) -> None:
    async for _ in store.watch("names/n/"):
        pass


async def _ring(store: ClusterStore) -> None:
    await store.create("names/n/k", b"v")


async def _lease(store: ClusterStore) -> None:
    lease = await store.lease(10)
    await store.create_with(lease, "k", b"v")
    await lease.renew()
    await lease.end()


LOCAL: dict[str, Callable[[Store], Awaitable[object]]] = {
    "get": lambda store: store.get("k"),
    "scan": lambda store: store.scan("k/"),
    "create": lambda store: store.create("k", b"v"),
    "replace": lambda store: store.replace(ENTRY, b"w"),
    "delete": lambda store: store.delete(ENTRY),
}
OPERATIONS: dict[str, Operation] = {**LOCAL, "watch": _watch, "follow": _follow, "ring": _ring, "lease": _lease}


def _open(kind: str, http: BrokenHttp, access: StoreAccess = NO_ACCESS) -> ClusterStore:
    url: StoreUrl = parse_store_url(f"{kind}://store")
    make = ConsulStore if kind == "consul" else EtcdStore
    return make(url, access, open_session=lambda _: cast("aiohttp.ClientSession", http))


async def _foreign(operation: Operation, store: ClusterStore) -> Exception | None:
    """The foreign exception that comes out of an operation within some seconds, None if there is none."""
    task = asyncio.ensure_future(operation(store))
    await asyncio.wait({task}, timeout=SECONDS)
    task.cancel()
    (found,) = await asyncio.gather(task, return_exceptions=True)
    await store.close()
    return found if isinstance(found, Exception) and not isinstance(found, MacvlanGlobalError) else None


def _walk(cases: Iterator[tuple[str, Operation, ClusterStore]]) -> dict[str, Exception]:
    """All that is foreign, on virtual time: stores are asked again and again before they count as away."""

    async def walk() -> dict[str, Exception]:
        return {name: found for name, operation, store in cases if (found := await _foreign(operation, store))}

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(walk())


@pytest.mark.parametrize("kind", ["consul", "etcd"])
def test_every_error_of_the_transport_becomes_one_of_ours(kind: str) -> None:
    """At each step of a request; each operation with some errors, and reading with all of them."""

    def cases() -> Iterator[tuple[str, Operation, ClusterStore]]:
        for error, step in broken_http():
            yield f"get: {error!r} at {step}", OPERATIONS["get"], _open(kind, BrokenHttp(error, step))
        for name, operation in OPERATIONS.items():
            for error, step in broken_http(few=True):
                yield f"{name}: {error!r} at {step}", operation, _open(kind, BrokenHttp(error, step))

    assert _walk(cases()) == {}


@pytest.mark.parametrize("kind", ["consul", "etcd"])
def test_a_watch_and_a_lease_that_broke_later_are_errors_of_ours_too(kind: str) -> None:
    """The first requests are answered, the next one is not."""

    def cases() -> Iterator[tuple[str, Operation, ClusterStore]]:
        errors = [error for error, _ in broken_http(few=True)]
        for error, step, good in list(product(errors, ("ask", "open", "read"), (1, 2, 3)))[::SHARE]:
            for name in ("watch", "lease"):
                http = BrokenHttp(error, step, good=good, good_body=GOOD.get((kind, name), b"[]"))
                yield f"{name}: {error!r} at {step} after {good}", OPERATIONS[name], _open(kind, http)

    assert _walk(cases()) == {}


@pytest.mark.parametrize("kind", ["consul", "etcd"])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 404, 409])
def test_an_answer_that_nobody_understands_becomes_an_error_of_ours(kind: str, status: int) -> None:
    """Something else listens at the port, or a proxy answers for it."""
    access = StoreAccess(user="u", password="p") if kind == "etcd" else NO_ACCESS  # noqa: S106

    def cases() -> Iterator[tuple[str, Operation, ClusterStore]]:
        for body in GARBAGE:
            for name, operation in OPERATIONS.items():
                http = BrokenHttp(body=body, status=status, good=0)
                yield f"{name}: {body[:30]!r}", operation, _open(kind, http, access)
                later = BrokenHttp(body=body, status=status, good=1, good_body=GOOD.get((kind, name), b"[]"))
                yield f"{name}: {body[:30]!r} later", operation, _open(kind, later)

    assert _walk(cases()) == {}


class BrokenConnection:
    """A connection to SQLite, in the place of `sqlite3.Connection`, that raises an error at the first statement, or
    once a transaction has begun."""

    def __init__(self, error: Exception, *, later: bool) -> None:
        """With `later`, a transaction begins first."""
        self._error = error
        self._later = later

    def execute(self, statement: str, *_: object) -> Any:
        """See `sqlite3.Connection.execute`."""
        if not self._later or not statement.startswith("BEGIN"):
            raise self._error

    def close(self) -> None:
        """See `sqlite3.Connection.close`."""
        raise self._error


@pytest.mark.parametrize("later", [False, True])
async def test_every_error_of_sqlite_becomes_one_of_ours(later: bool) -> None:
    """Reading beside the writer and behind it, writing, and closing; the thread lives on."""
    foreign: dict[str, Exception] = {}
    for error in sqlite_errors():
        for reads_beside in (False, True):
            made = cast("sqlite3.Connection", BrokenConnection(error, later=later))
            store = SqliteStore(made, made if reads_beside else None)
            for name, operation in {**LOCAL, "close": SqliteStore.close}.items():
                try:
                    await operation(store)
                except MacvlanGlobalError:
                    continue
                except Exception as found:  # noqa: BLE001 - to be shown
                    foreign[f"{name}: {error!r}"] = found
    assert foreign == {}


async def test_a_key_that_is_no_text_is_an_error_of_ours(tmp_path: Path) -> None:
    """Half of a surrogate pair is not UTF-8: no store can keep it."""
    store = open_sqlite(tmp_path / "state.db")
    for operation in (store.get, store.scan, lambda key: store.create(key, b"")):
        with pytest.raises(Unavailable):
            await operation("\ud800")
    assert await store.create("k", b"v")
    await store.close()


@pytest.mark.parametrize("path", ["file/state.db", "loop/state.db", "n" * 300, "nul\0"])
def test_a_file_that_cannot_be_there_is_an_error_of_ours(tmp_path: Path, path: str) -> None:
    """To serve from it, and to look into it."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for use in (open_sqlite, read_sqlite):
        with pytest.raises(Unavailable, match="cannot be opened"):
            use(tmp_path / path)
