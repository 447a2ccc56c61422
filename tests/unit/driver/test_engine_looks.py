"""Looks at the engine cost a network that is made little, and nothing if the engine does not answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from macvlan_global.driver.driver import Driver
from macvlan_global.engine.ports import Engine
from macvlan_global.errors import Conflict
from macvlan_global.metrics.counts import Metrics
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.engine_follower import EngineFollower
from testkit.cluster_rig import ClusterRig
from testkit.fake_clock import FakeClock
from testkit.fake_engine import OUR_IPAM, Subnet
from testkit.fake_kernel import FakeKernel
from testkit.plugin_calls import InProcess
from testkit.rig import Rig
from tests.unit.driver.test_other_drivers import SlowToList

pytestmark = pytest.mark.virtual_time

AUX = {f"printer{number}": f"10.8.0.{200 + number}" for number in range(12)}
ETH0 = {"parent": "eth0"}


def _lan(part: str) -> Subnet:
    return Subnet("10.8.0.0/24", range=part, gateway="10.8.0.1", aux=AUX)


@asynccontextmanager
async def _followed(driver: Driver, engine: Engine, clock: FakeClock) -> AsyncIterator[None]:
    reconciler = Reconciler(driver, grace=60, now=clock)
    running = asyncio.ensure_future(EngineFollower(driver, engine, reconciler, Metrics()).run())
    await asyncio.sleep(100)
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(("takes", "seconds"), [(0.02, 1.0), (1000.0, 2.5)])
async def test_networks_that_share_many_aux_addresses_are_made_soon(takes: float, seconds: float) -> None:
    """Each is a question to the engine, which is slow to list its networks, or plays dead: `docker network create` does
    not hang for each of them."""
    kernel = FakeKernel("eth0")
    engine = SlowToList(InProcess((await Rig.build(kernel=kernel)).driver), kernel)
    rig = await Rig.build(kernel=kernel, engine=engine)
    await engine.create_network("one", _lan("10.8.0.0/26"), options=ETH0)
    async with _followed(rig.driver, engine, rig.clock):
        engine.other_takes = takes
        begun = asyncio.get_running_loop().time()
        await engine.create_network("two", _lan("10.8.0.64/26"), options=ETH0)
        assert asyncio.get_running_loop().time() - begun < seconds


async def test_a_pool_that_another_host_has_by_now_keeps_nobody_waiting() -> None:
    """The store plays it: it is away when a network of another driver is made, and another host takes the subnet."""
    rig = await ClusterRig.build()
    one, two = await rig.host("a"), await rig.host("b")
    subnet = Subnet("10.9.0.0/24", gateway="10.9.0.1")
    await one.engine.create_network("lan", _lan("10.8.0.0/26"), options=ETH0)
    async with _followed(one.driver, one.engine, rig.clock):
        await one.engine.create_network("br", subnet, driver="bridge", ipam=OUR_IPAM)
        one.faults.away = True
        with pytest.raises(Conflict):
            await two.engine.create_network("lan", subnet, options=ETH0)
        for row in await rig.shared.scan("addresses/macvlan-global/010.009"):
            await rig.shared.delete(row)
        rig.clock.advance(61)
        await two.engine.create_network("lan", subnet, options=ETH0)
        one.faults.away = False
        await asyncio.sleep(200)
        begun = asyncio.get_running_loop().time()
        await one.engine.create_network("lan2", _lan("10.8.0.64/26"), options=ETH0)
        assert asyncio.get_running_loop().time() - begun < 1


async def test_two_networks_that_are_made_at_once_have_one_gateway() -> None:
    """Nobody named it, and the engine asks for both before it makes either: they are on one wire."""
    rig = await Rig.build("eth0")
    plugin, role = InProcess(rig.driver), {"RequestAddressType": "com.docker.network.gateway"}
    async with _followed(rig.driver, rig.engine, rig.clock):
        gateways = []
        for part in ("10.9.0.64/26", "10.9.0.128/26"):
            wanted: dict[str, object] = {
                "AddressSpace": "macvlan-global",
                "Pool": "10.9.0.0/24",
                "SubPool": part,
                "Options": {},
            }
            pool = (await plugin.call("IpamDriver.RequestPool", **wanted))["PoolID"]
            gateways.append(await plugin.call("IpamDriver.RequestAddress", PoolID=pool, Address="", Options=role))
        assert gateways[0] == gateways[1]
