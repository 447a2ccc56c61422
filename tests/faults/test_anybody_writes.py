"""Thousands of records that nobody of us wrote, below every prefix of real stores: drivers start and serve.

The daemon is the real one, on the doubles of a kernel and an engine; the stores are Consul, etcd and SQLite.
"""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from lab import ConsulCluster, EtcdCluster
from lab.cluster import Cluster
from lab.speed import within
from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.ports import Batch, ClusterStore, Entry
from testkit.faults import FaultyStore
from testkit.junk import LOCAL, SHARED, Junk
from tests.unit.running import ENDPOINT, LAN, Running, running, with_networks

RECORDS = int(os.environ.get("MACVLAN_GLOBAL_TESTS_RECORDS") or 6_000)
"""In each of the three stores; a hundred thousand are for a run by hand."""
LATER = 210
"""Records that come while a driver runs, in each store."""
RAW = 300
"""Records whose keys are no text, which Consul takes one by one only."""
SECONDS = 300.0
WATCHED = ("alive/", "definitions/", "removed/")

Put = Callable[[Iterable[tuple[bytes, bytes]]], None]


class Watched(FaultyStore):
    """A store in front of another one that counts the watches that are opened, and the keys that they gave."""

    def __init__(self, inner: ClusterStore) -> None:
        """None was opened yet."""
        super().__init__(inner)
        self.opened: Counter[str] = Counter()
        self.given: set[str] = set()

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch, None]:
        """See `ClusterStore.watch`."""
        self.opened[prefix] += 1
        async with contextlib.aclosing(super().watch(prefix, after)) as batches:
            async for batch in batches:
                yield batch
                self.given.update(each.key for each in batch.entries)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ConsulCluster, EtcdCluster])
async def test_drivers_serve_beside_junk_in_a_cluster_store(
    kind: type[Cluster],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tell: Callable[[str], None],
) -> None:
    """What a host has and what nobody has stay as they are; another host starts, serves and restarts."""
    began = time.process_time()
    with kind() as cluster:
        put = _consul(cluster) if kind is ConsulCluster else _etcd(cluster)
        async with running(tmp_path, capsys, name="anna", shared=open_cluster_store(cluster.url)) as anna:
            await with_networks(anna)
            annas = await _with_its_container(anna)
        await asyncio.to_thread(put, Junk(1).records(RECORDS))
        later = list(Junk(2).records(LATER))
        before = await _all(cluster)
        async with (
            _run(cluster, tmp_path, capsys, "anna", annas) as (anna, _),
            _run(cluster, tmp_path, capsys, "bert") as (
                bert,
                watched,
            ),
        ):
            await _serve(bert, "10.70.0.0/24")
            await _look(anna, bert)
            await asyncio.to_thread(put, later)
            await _until_given(put, watched)
            await _serve(bert, "10.71.0.0/24")
            berts = await bert.engine.every_network()
        async with _run(cluster, tmp_path, capsys, "bert", berts) as (bert, _):
            await _look(bert)
        after = await _all(cluster)
    ours = {each for _, each in later}
    changed = {key for key, value in before.items() if after.get(key) != value and after.get(key) not in ours}
    assert {key.partition("/")[0] for key in changed} <= {"alive", "hosts", "reports"}  # of anna, who came and went
    assert len(changed) <= 3
    assert not [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    tell(f"{cluster.scheme}: {len(before)} records of anybody; {time.process_time() - began:.0f} s of processor time")


@pytest.mark.slow
async def test_a_driver_serves_beside_junk_in_its_state_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tell: Callable[[str], None]
) -> None:
    """A host alone: its own networks and endpoints are as before, and it starts, serves and restarts. Its engine has
    the networks of the earlier run: see `_run`."""
    began = time.process_time()
    async with running(tmp_path, capsys) as daemon:
        await with_networks(daemon)
        own = await _held(daemon)
        networks = await _with_its_container(daemon)
    state = tmp_path / "anna-state/state.db"
    with contextlib.closing(sqlite3.connect(state)) as connection:
        rows = ((key.decode(errors="replace"), value) for key, value in Junk(3).records(RECORDS, (*SHARED, *LOCAL)))
        connection.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?, 1)", rows)
        raw = ((key, value) for key, value in Junk(4).records(RAW, (*SHARED, *LOCAL)))
        connection.executemany("INSERT OR IGNORE INTO entries VALUES (CAST(? AS TEXT), ?, 1)", raw)
        connection.commit()
    for number in range(2):
        async with running(tmp_path, capsys, networks=networks) as daemon:
            await _serve(daemon, f"10.7{number}.0.0/24")
            networks = await _with_its_container(daemon)
            await _look(daemon)
            assert own <= await _held(daemon)
    tell(f"sqlite: {RECORDS + RAW} records of anybody; {time.process_time() - began:.0f} s of processor time")


# ------------------------------------------------------------------ the driver


@contextlib.asynccontextmanager
async def _run(
    cluster: Cluster,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    networks: Iterable[EngineNetwork] = (),
) -> AsyncIterator[tuple[Running, Watched]]:
    """A driver, whose watches are opened once for as long as it runs. Its engine has the networks of an earlier run:
    with many records that is longer ago than the grace period, and they would be taken for removed. So would a
    container that the engine has not."""
    store = Watched(open_cluster_store(cluster.url))
    async with running(folder, capsys, name=name, shared=store, networks=networks) as daemon:
        yield daemon, store
        assert {store.opened[each] for each in WATCHED} == {1}


async def _with_its_container(daemon: Running) -> list[EngineNetwork]:
    """The networks of a driver's engine, with the container that a test made there by requests of its own."""
    container = EngineEndpoint(ENDPOINT, "web", "", "10.65.0.9")
    networks = await daemon.engine.every_network()
    return [replace(each, endpoints=(container,)) if each.id == LAN else each for each in networks]


async def _serve(daemon: Running, subnet: str) -> None:
    """Make a network with a gateway and a container on it, and take the container away."""
    name = subnet.replace("0.0/24", "")
    network, endpoint = f"{name:a<64}".replace(".", "b"), f"{name:c<64}".replace(".", "d")
    gateway, address = (subnet.replace("0/24", each) for each in ("1", "9"))
    await daemon.create_network(network, f"n{name}", {subnet: gateway}, parent="eth1")
    await daemon.create_endpoint(network, endpoint, subnet, address)
    await daemon.call("NetworkDriver.DeleteEndpoint", NetworkID=network, EndpointID=endpoint)
    await daemon.call("IpamDriver.ReleaseAddress", PoolID=f"macvlan-global/{subnet}", Address=address)


async def _held(daemon: Running) -> set[tuple[str, str, str]]:
    """The addresses that are held: address, kind and network of each."""
    return {(each["address"], each["kind"], each["network"]) for each in (await daemon.cli("addresses", "--json")).json}


async def _look(*daemons: Running) -> None:
    for daemon in daemons:
        hosts = ("hosts",) if daemon.config.is_shared() else ()
        for view in ("status", "networks", "addresses", *hosts):
            done = await daemon.cli(view, "--json")
            assert (view, done.code, done.error) == (view, 0, "")


async def _until_given(put: Put, watched: Watched) -> None:
    """Write one more record below each prefix, and wait until every watch has brought it."""
    last = {f"{prefix}the-last" for prefix in WATCHED}
    await asyncio.to_thread(put, [(key.encode(), b"{}") for key in sorted(last)])
    async with within(SECONDS):
        while not last <= watched.given:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)


async def _all(cluster: Cluster) -> dict[str, bytes]:
    store = open_cluster_store(cluster.url)
    found: list[Entry] = []
    for prefix in SHARED:
        found += await store.scan(f"{prefix}/")
    await store.close()
    return {each.key: each.value for each in found}


# ------------------------------------------------------------- another writer


def _consul(cluster: Cluster) -> Put:
    def put(records: Iterable[tuple[bytes, bytes]]) -> None:
        raw = 0
        with contextlib.closing(_connection(cluster)) as connection:
            for some in _chunks(records, 60, 300_000):
                body = []
                for key, value in some:
                    text = key.decode(errors="replace")
                    if text.encode() != key and raw < RAW:
                        raw += 1
                        # Consul refuses some of them: what it takes for characters that cannot be printed
                        _ask(connection, "PUT", f"/v1/kv/macvlan-global/{quote(key)}", value, refused=400)
                    else:
                        name = f"macvlan-global/{text}"
                        operation = {"Verb": "set", "Key": name, "Value": base64.b64encode(value).decode()}
                        body.append({"KV": operation})
                if body:
                    _ask(connection, "PUT", "/v1/txn", json.dumps(body).encode())
            # nobody rang; without their bells hosts read anew at once, and with them within a minute
            _ask(connection, "DELETE", "/v1/kv/macvlan-global/bell/?recurse", b"")

    return put


def _etcd(cluster: Cluster) -> Put:
    def put(records: Iterable[tuple[bytes, bytes]]) -> None:
        with contextlib.closing(_connection(cluster)) as connection:
            for some in _chunks(records, 120, 500_000):
                pairs = {b"macvlan-global/" + key: value for key, value in some}
                success = [
                    {"requestPut": {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}}
                    for key, value in pairs.items()
                ]
                _ask(connection, "POST", "/v3/kv/txn", json.dumps({"success": success}).encode())

    return put


def _connection(cluster: Cluster) -> http.client.HTTPConnection:
    host, _, port = cluster.endpoints[0].rpartition(":")
    return http.client.HTTPConnection(host, int(port), timeout=60)


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes, *, refused: int = 0) -> None:
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status in {200, refused}, text[:300]


def _chunks(records: Iterable[tuple[bytes, bytes]], most: int, size: int) -> Iterator[list[tuple[bytes, bytes]]]:
    some: list[tuple[bytes, bytes]] = []
    held = 0
    for key, value in records:
        if some and (len(some) == most or held + len(value) > size):
            yield some
            some, held = [], 0
        some.append((key, value))
        held += len(value)
    if some:
        yield some
