"""What requests leave behind that come late, are broken off, or cannot be undone: repair is told, and finds it."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from macvlan_global.errors import MacvlanGlobalError, Unavailable
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.corrections import GiveBackAddress
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import Subnet, engine_id

GRACE = 60.0
LAN = Subnet("10.8.0.0/24", gateway="10.8.0.1")
SPACE = "macvlan-global"
POOL = f"{SPACE}/10.8.0.0/24"
NEW = {
    "NetworkID": engine_id("new"),
    "Options": {"com.docker.network.generic": {"parent": "eth0"}},
    "IPv4Data": [{"AddressSpace": SPACE, "Pool": "10.9.0.0/24", "Gateway": "10.9.0.1/24"}],
}


async def _host() -> tuple[ClusterRig, ClusterHost]:
    """A host with a network and a container, which stay."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    await host.engine.create_network("lan", LAN, options={"parent": "eth0"})
    await host.engine.run("web", "lan")
    return rig, host


async def _claims(rig: ClusterRig) -> dict[str, str]:
    """Pools and addresses in the store, by their keys, and who has them."""
    rows = [*await rig.shared.scan("pools/"), *await rig.shared.scan("addresses/")]
    records = {each.key: json.loads(each.value) for each in rows}
    return {key: record.get("kind", "") + record["network"] for key, record in records.items()}


async def _finds_what_is_left(rig: ClusterRig, host: ClusterHost, before: dict[str, str]) -> None:
    """Repair is told; a grace period later it finds what is left, and nothing more is suspected."""
    assert host.driver.networks.leftovers.suspected.is_set()
    assert await _claims(rig) != before
    rig.clock.advance(GRACE + 1)
    await host.mend(grace=GRACE)
    assert await _claims(rig) == before
    assert {each.network for each in await host.driver.endpoints.all()} <= {host.engine.id_of("lan")}
    assert [each.id for each in await host.driver.networks.all()] == [host.engine.id_of("lan")]


async def _request_new_network(host: ClusterHost) -> None:
    await host.plugin.call("IpamDriver.RequestPool", AddressSpace=SPACE, Pool="10.9.0.0/24", Options={})
    gateway: dict[str, Any] = {"Address": "10.9.0.1", "Options": {"RequestAddressType": "com.docker.network.gateway"}}
    await host.plugin.call("IpamDriver.RequestAddress", PoolID=f"{SPACE}/10.9.0.0/24", **gateway)


async def test_a_request_for_an_endpoint_that_comes_after_its_deletion() -> None:
    """The engine plays it: it repeats a request late. It has no such endpoint, so it never asks for its end."""
    rig, host = await _host()
    before = await _claims(rig)
    late = {"NetworkID": host.engine.id_of("lan"), "EndpointID": engine_id("late")}
    interface = {"Address": "10.8.0.9/24", "AddressIPv6": "", "MacAddress": ""}
    await host.plugin.call("NetworkDriver.CreateEndpoint", **late, Interface=interface, Options={})
    await host.plugin.call("NetworkDriver.DeleteEndpoint", **late)
    await host.plugin.call("IpamDriver.ReleaseAddress", PoolID=POOL, Address="10.8.0.9")
    assert await _claims(rig) == before
    assert not host.driver.networks.leftovers.suspected.is_set()
    await host.plugin.call("NetworkDriver.CreateEndpoint", **late, Interface=interface, Options={})
    await _finds_what_is_left(rig, host, before)


async def test_a_request_for_a_network_that_comes_after_its_deletion() -> None:
    """The engine plays it, as above."""
    rig, host = await _host()
    before = await _claims(rig)
    await _request_new_network(host)
    await host.plugin.call("NetworkDriver.CreateNetwork", **NEW)
    await host.plugin.call("NetworkDriver.DeleteNetwork", NetworkID=NEW["NetworkID"])
    assert await _claims(rig) == before
    assert not host.driver.networks.leftovers.suspected.is_set()
    await _request_new_network(host)
    await host.plugin.call("NetworkDriver.CreateNetwork", **NEW)
    await _finds_what_is_left(rig, host, before)


async def test_a_network_that_cannot_be_undone_as_the_store_is_away() -> None:
    """The store plays it: it goes away after the pool was claimed."""
    rig, host = await _host()
    before = await _claims(rig)
    await _request_new_network(host)
    host.faults.refused = "addresses/"
    with pytest.raises(MacvlanGlobalError):
        await host.plugin.call("NetworkDriver.CreateNetwork", **NEW)
    host.faults.refused = ""
    await _finds_what_is_left(rig, host, before)


async def _request_endpoint(host: ClusterHost) -> dict[str, str]:
    """A container's endpoint that the engine does not know, with its address; its ids."""
    ids = {"NetworkID": host.engine.id_of("lan"), "EndpointID": engine_id("new")}
    interface = {"Address": "10.8.0.9/24", "AddressIPv6": "", "MacAddress": ""}
    await host.plugin.call("IpamDriver.RequestAddress", PoolID=POOL, Address="10.8.0.9", Options={})
    await host.plugin.call("NetworkDriver.CreateEndpoint", **ids, Interface=interface, Options={})
    return ids


@pytest.mark.virtual_time
async def test_the_end_of_an_endpoint_that_is_broken_off() -> None:
    """The store plays it: it hangs for longer than the engine waits, which releases the address and takes all for
    done."""
    rig, host = await _host()
    before = await _claims(rig)
    ids = await _request_endpoint(host)
    host.faults.hangs = True
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(host.plugin.call("NetworkDriver.DeleteEndpoint", **ids), 9)
    host.faults.hangs = False
    await host.plugin.call("IpamDriver.ReleaseAddress", PoolID=POOL, Address="10.8.0.9")
    await _finds_what_is_left(rig, host, before)


async def test_the_end_of_a_network_that_fails() -> None:
    """The store plays it, as it is away. The engine logs it, and has no such network any more."""
    rig, host = await _host()
    before = await _claims(rig)
    await _request_new_network(host)
    await host.plugin.call("NetworkDriver.CreateNetwork", **NEW)
    host.faults.away = True
    with pytest.raises(Unavailable):
        await host.plugin.call("NetworkDriver.DeleteNetwork", NetworkID=NEW["NetworkID"])
    host.faults.away = False
    await _finds_what_is_left(rig, host, before)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("RequestAddress", {"PoolID": POOL, "Address": ""}),
        ("RequestAddress", {"PoolID": POOL, "Address": "10.8.0.9"}),
        ("RequestPool", {"AddressSpace": SPACE, "Pool": "10.9.0.0/24"}),
    ],
)
async def test_what_was_reserved_though_the_request_failed(method: str, fields: dict[str, str]) -> None:
    """The store plays it: it loses the answer to the one write. The engine releases nothing that it did not get."""
    rig, host = await _host()
    before = await _claims(rig)
    host.faults.arm(1, after=True)
    with pytest.raises(Unavailable):
        await host.plugin.call(f"IpamDriver.{method}", **fields, Options={})
    host.faults.arm(0)
    await _finds_what_is_left(rig, host, before)


async def test_a_pool_that_is_not_released_as_the_store_is_away() -> None:
    """The store plays it. The engine gets no error: it would say that the network cannot be removed."""
    rig, host = await _host()
    before = await _claims(rig)
    await _request_new_network(host)
    await host.plugin.call("IpamDriver.ReleaseAddress", PoolID=f"{SPACE}/10.9.0.0/24", Address="10.9.0.1")
    host.faults.away = True
    await host.plugin.call("IpamDriver.ReleasePool", PoolID=f"{SPACE}/10.9.0.0/24")
    host.faults.away = False
    await _finds_what_is_left(rig, host, before)


async def test_a_request_that_is_refused_leaves_nothing() -> None:
    """A user plays it: no repair follows from one who asks for what cannot be."""
    _, host = await _host()
    for address in (host.engine.containers["web"].address, "10.9.0.9"):
        with pytest.raises(MacvlanGlobalError):
            await host.plugin.call("IpamDriver.RequestAddress", PoolID=POOL, Address=address, Options={})
    assert not host.driver.networks.leftovers.suspected.is_set()


async def test_a_leftover_that_looks_young_is_told_of_until_it_is_not() -> None:
    """The clock plays it: it is put back, and an engine that does not answer. What is under way is told of, too."""
    rig, host = await _host()
    await host.plugin.call("IpamDriver.RequestAddress", PoolID=POOL, Address="10.8.0.9", Options={})
    reconciler = Reconciler(host.driver, grace=GRACE, now=host.clock)
    assert reconciler.passed_over() is None
    for seconds in (-30, GRACE - 1):
        rig.clock.advance(seconds)
        assert await reconciler.reconcile(host.engine) == []
        assert reconciler.passed_over() == frozenset({("GiveBackAddress", "address 10.8.0.9")})
    host.engine.raises = Unavailable("the Docker Engine does not answer")
    await reconciler.reconcile(host.engine)
    assert reconciler.passed_over() is None
    host.engine.raises = None
    rig.clock.advance(31)
    assert [type(each) for each in await reconciler.reconcile(host.engine)] == [GiveBackAddress]
    assert reconciler.passed_over() == frozenset()


@pytest.mark.virtual_time
async def test_an_endpoint_that_is_undone_after_its_release() -> None:
    """The engine plays it: it gives up a request, and releases the address before the driver has undone its part."""
    rig, host = await _host()
    before = await _claims(rig)
    await host.plugin.call("IpamDriver.RequestAddress", PoolID=POOL, Address="10.8.0.9", Options={})
    host.faults.delay = 1.0
    interface = {"Address": "10.8.0.9/24", "AddressIPv6": "", "MacAddress": "02:00:00:00:00:09"}
    ids = {"NetworkID": host.engine.id_of("lan"), "EndpointID": engine_id("given up")}
    creating = asyncio.ensure_future(
        host.plugin.call("NetworkDriver.CreateEndpoint", **ids, Interface=interface, Options={})
    )
    async with contextlib.aclosing(rig.shared.watch("addresses/")) as changes:
        async for batch in changes:
            if any(ids["EndpointID"].encode() in each.value for each in batch.entries):
                break
    creating.cancel()
    await asyncio.sleep(0.1)
    host.faults.delay = 0.0
    await host.plugin.call("IpamDriver.ReleaseAddress", PoolID=POOL, Address="10.8.0.9")
    with pytest.raises(asyncio.CancelledError):
        await creating
    await _finds_what_is_left(rig, host, before)
