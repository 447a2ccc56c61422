"""Real etcd and Consul keep the promises of every store, and those of a cluster store."""

import asyncio
import http.client
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from functools import partial
from operator import contains

import pytest

from lab import ConsulCluster, EtcdCluster
from lab.cluster import Cluster
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.ports import ClusterStore
from testkit import cluster_contract, store_contract, watch_contract

KINDS = {"etcd": EtcdCluster, "consul": ConsulCluster}


@pytest.fixture(scope="module", params=list(KINDS))
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One member of each kind for all the checks."""
    with KINDS[request.param]() as made:
        yield made


@pytest.fixture
async def clients(cluster: Cluster) -> AsyncIterator[tuple[ClusterStore, ClusterStore]]:
    """Two clients below a prefix where nothing is."""
    url = cluster.url_through(cluster.endpoints, f"test/{uuid.uuid4().hex}")
    one, two = open_cluster_store(url), open_cluster_store(url)
    yield one, two
    for client in (one, two):
        await client.close()


@pytest.mark.parametrize("check", store_contract.STORE_CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: store_contract.Check, clients: tuple[ClusterStore, ClusterStore]) -> None:
    """One promise of every store; each says in its docstring what it is."""
    await check(clients[0])


@pytest.mark.parametrize(
    "check", [*cluster_contract.CLUSTER_CONTRACT, *watch_contract.WATCH_CONTRACT], ids=lambda check: check.__name__
)
async def test_cluster_contract(check: cluster_contract.Check, clients: tuple[ClusterStore, ClusterStore]) -> None:
    """One promise of a cluster store."""
    await check(*clients)


async def test_consul_is_not_asked_for_much_all_the_time() -> None:
    """A change makes it send all there is below a prefix: with much there, the next change is seen later."""
    with ConsulCluster() as cluster:
        store = open_cluster_store(cluster.url_through(cluster.endpoints, "test"))
        for number in range(4):
            await store.create(f"k/large{number}", bytes(375_000))  # 2 MB, as Consul sends it
        async with cluster_contract.Mirror(store, "k/") as mirror:
            seen = []
            for name in ("k/first", "k/second"):
                await store.create(name, b"x")
                await mirror.until(partial(contains, mirror.known, name))
                seen.append(time.monotonic())
        await store.close()
    assert seen[1] - seen[0] > 0.15


async def test_keys_that_are_no_text_hide_no_others_in_consul() -> None:
    """Anybody may write them. Consul sorts them by bytes and names them by another character: a large prefix, which
    is read by pages, has each key once all the same."""
    with ConsulCluster() as cluster:
        store = open_cluster_store(cluster.url_through(cluster.endpoints, "test"))
        names = [f"k/{letter}{number}" for letter in ("a", "\U0001f600") for number in range(400)]
        await asyncio.gather(*(store.create(name, b"x") for name in names))
        connection = http.client.HTTPConnection(cluster.endpoints[0])
        for key in ("k/%FF%FE", "k/a%FF", "k/%F0%9F%98%80%FF", "k/%C3"):
            connection.request("PUT", f"/v1/kv/test/{key}", b"junk")
            assert connection.getresponse().read() == b"true"
        connection.close()
        read = [each.key for each in await store.scan("k/") if "\ufffd" not in each.key]
        await store.close()
    assert read == sorted(names)


async def test_who_loses_a_race_for_a_key_is_told_so(clients: tuple[ClusterStore, ClusterStore]) -> None:
    """However soon the winner deletes it again: that is no reason to refuse."""

    async def race(store: ClusterStore, name: int) -> None:
        for number in range(50):
            if made := await store.create("a", b"%d %d" % (name, number)):
                assert await store.delete(made)

    await asyncio.gather(*(race(store, name) for name, store in enumerate(clients * 4)))


@pytest.mark.parametrize("check", cluster_contract.LAPSE_CONTRACT, ids=lambda check: check.__name__)
async def test_leases_lapse(check: cluster_contract.Check) -> None:
    """In all kinds at once, since it takes a store's own time."""
    with EtcdCluster() as etcd, ConsulCluster() as consul:
        urls = [etcd.url, etcd.url, consul.url, consul.url]
        clients = [open_cluster_store(url) for url in urls]
        await asyncio.gather(check(*clients[:2]), check(*clients[2:]))
        for client in clients:
            await client.close()
