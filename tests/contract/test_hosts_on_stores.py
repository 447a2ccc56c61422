"""Who lives, on real stores: their leases and watches are what hosts rest on."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest

from lab import ConsulCluster, EtcdCluster
from lab.cluster import Cluster
from lab.speed import Allowance
from macvlan_global.cluster.heartbeat import Heartbeat, HostSummary, Member
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.table import Tables

TTL = 10.0  # the least that Consul knows
IDS = ("a" * 32, "b" * 32)


async def _facts() -> HostSummary:
    return HostSummary()


async def _until_seen(hosts: Heartbeat, ids: set[str], seconds: float) -> float:
    return await _until(lambda: set(hosts.live()) == ids, seconds, lambda: f"{sorted(hosts.live())} live")


async def _until(condition: Callable[[], bool], seconds: float, explain: Callable[[], str]) -> float:
    began, limit = time.monotonic(), Allowance(seconds)
    while not condition():
        assert not limit.over, f"{explain()} after {limit}"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _one_comes_and_goes(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    async with contextlib.AsyncExitStack() as stack:
        members = [Member(host, f"host-{host[:1]}-{cluster.scheme}", "boot1", "run1") for host in IDS]
        hosts = []
        for member in members:
            store = open_cluster_store(cluster.url)
            stack.push_async_callback(store.close)
            hosts.append(Heartbeat(store, Tables(store, store), member, _facts, ttl=TTL))
        watching = asyncio.ensure_future(hosts[0].run())
        await _until_seen(hosts[0], {IDS[0]}, 10)
        dying = asyncio.ensure_future(hosts[1].run())
        await _until_seen(hosts[0], set(IDS), 10)
        # one that is not yet in takes its lease back when it ends
        told = f"host host-b-{cluster.scheme} is in the cluster"
        await _until(lambda: told in caplog.text, 10, lambda: "host-b does not say that it is in")
        dying.cancel()  # without a word: it no more renews
        await asyncio.wait([dying])
        assert await _until_seen(hosts[0], {IDS[0]}, 2 * TTL + 2) > TTL / 3
        assert hosts[0].gone_for(IDS[1]) is not None
        back = asyncio.ensure_future(hosts[1].run())
        await _until_seen(hosts[0], set(IDS), 10)
        back.cancel()
        await asyncio.wait([back])
        await hosts[1].leave()
        assert await _until_seen(hosts[0], {IDS[0]}, 5) < TTL / 3
        assert not watching.done()  # renewed for longer than its lease
        watching.cancel()
        await asyncio.wait([watching])
        await hosts[0].leave()


@pytest.mark.slow
async def test_a_host_that_dies_is_seen_to_go(caplog: pytest.LogCaptureFixture) -> None:
    """Within twice its lease; one that leaves at once; one that comes back too. Both stores side by side."""
    caplog.set_level("INFO")
    with EtcdCluster() as etcd, ConsulCluster() as consul:
        await asyncio.gather(*(_one_comes_and_goes(each, caplog) for each in (etcd, consul)))
