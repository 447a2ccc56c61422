"""Who lives, on real stores: their leases and watches are what hosts rest on."""

import asyncio
import contextlib
import time

import pytest

from lab import ConsulCluster, EtcdCluster
from lab.cluster import Cluster
from macvlan_global.cluster.hosts import HostFacts, Hosts, Member
from macvlan_global.store.open import open_cluster_store
from macvlan_global.store.records import Tables

TTL = 10.0  # the least that Consul knows
IDS = ("a" * 32, "b" * 32)


async def _facts() -> HostFacts:
    return HostFacts()


async def _until_seen(hosts: Hosts, ids: set[str], seconds: float) -> float:
    began = time.monotonic()
    while set(hosts.live()) != ids:
        assert time.monotonic() - began < seconds, f"{sorted(hosts.live())} live after {seconds} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _one_comes_and_goes(cluster: Cluster) -> None:
    async with contextlib.AsyncExitStack() as stack:
        members = [Member(host, f"host-{host[:1]}", "boot1", "run1") for host in IDS]
        hosts = []
        for member in members:
            store = open_cluster_store(cluster.url)
            stack.push_async_callback(store.close)
            hosts.append(Hosts(store, Tables(store, store), member, _facts, ttl=TTL))
        watching = asyncio.ensure_future(hosts[0].run())
        await _until_seen(hosts[0], {IDS[0]}, 10)
        dying = asyncio.ensure_future(hosts[1].run())
        await _until_seen(hosts[0], set(IDS), 10)
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
async def test_a_host_that_dies_is_seen_to_go() -> None:
    """Within twice its lease; one that leaves at once; one that comes back too. Both stores side by side."""
    with EtcdCluster() as etcd, ConsulCluster() as consul:
        await asyncio.gather(_one_comes_and_goes(etcd), _one_comes_and_goes(consul))
