"""Networks of other drivers whose addresses are ours (B02), and networks of ours without addresses (B23)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from macvlan_global.engine.ports import EngineNetwork
from macvlan_global.errors import Conflict
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.metrics.counts import Metrics
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.engine_follower import EngineFollower
from testkit.fake_engine import OUR_IPAM, FakeEngine, Subnet
from testkit.plugin_calls import InProcess
from testkit.rig import Rig

BR = Subnet("10.9.0.0/24", gateway="10.9.0.1", aux={"printer": "10.9.0.7"})
DRIVERS = pytest.mark.parametrize("driver", ["bridge", "macvlan", "ipvlan"])
LONG = 7200.0


async def _with_other(driver: str = "bridge") -> Rig:
    rig = await Rig.build("eth0")
    await rig.engine.create_network("br", BR, driver=driver, ipam=OUR_IPAM)
    return rig


async def _held(rig: Rig) -> dict[str, str]:
    return {each.address: each.kind for each in await rig.driver.addresses.all()}


@DRIVERS
async def test_repair_takes_nothing_from_a_network_of_another_driver(driver: str) -> None:
    """Its pool, gateway and aux addresses, and what its containers have: now, hours later, and after a restart."""
    rig = await _with_other(driver)
    await rig.engine.run("web", "br")
    await rig.engine.run("db", "br", ip="10.9.0.20")
    wanted = {"10.9.0.1": "gateway", "10.9.0.7": "aux", "10.9.0.2": "reserved", "10.9.0.20": "reserved"}
    for _ in range(2):
        rig.clock.advance(LONG)
        await rig.mend(grace=60)
        assert await rig.mend(grace=60) == []
        assert await _held(rig) == wanted
        rig = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    assert (await rig.engine.run("next", "br")).address == "10.9.0.3/24"
    with pytest.raises(Conflict, match=r"in use by a container of network br on host a"):
        await rig.engine.run("thief", "br", ip="10.9.0.20")
    with pytest.raises(Conflict, match="network br has it"):
        await rig.engine.create_network("lan", BR, options={"parent": "eth0"})
    (pool,) = await rig.driver.pools.all()
    assert (pool.driver, pool.name) == (driver, "br")


@asynccontextmanager
async def _followed(rig: Rig) -> AsyncIterator[None]:
    """The engine's events are followed, and the repairs of a start are over."""
    reconciler = Reconciler(rig.driver, grace=60, our_ipam=OUR_IPAM, now=rig.clock)
    running = asyncio.ensure_future(EngineFollower(rig.driver, rig.engine, reconciler, Metrics()).run())
    await asyncio.sleep(100)
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@DRIVERS
@pytest.mark.virtual_time
async def test_all_goes_with_a_network_of_another_driver(driver: str) -> None:
    """At once, and the subnet is free again."""
    rig = await _with_other(driver)
    async with _followed(rig):
        await rig.engine.run("db", "br", ip="10.9.0.20")
        await rig.mend()
        await rig.engine.stop("db")
        await rig.engine.remove_network("br")
        await rig.engine.create_network("lan", BR, options={"parent": "eth0"})
        assert {each.network for each in await rig.driver.pools.all()} == {rig.engine.id_of("lan")}
        assert {each.network for each in await rig.driver.addresses.all()} == {rig.engine.id_of("lan")}


@pytest.mark.virtual_time
async def test_a_release_that_is_repeated_takes_nothing_from_the_next_network() -> None:
    """The engine repeats a call whose answer was lost; by then the pool of that name is another network's."""
    rig = await _with_other()
    async with _followed(rig):
        (pool,) = await rig.driver.pools.all()
        await rig.engine.remove_network("br")
        await rig.engine.create_network("br2", BR, driver="bridge", ipam=OUR_IPAM)
        await asyncio.sleep(5)
        await rig.engine.run("db", "br2", ip="10.9.0.20")
        before = await _held(rig)
        await rig.driver.ipam.release_pool(pool_id(pool))
        await asyncio.sleep(5)
        assert await _held(rig) == before
        with pytest.raises(Conflict, match="network br2 has it"):
            await rig.engine.create_network("lan", BR, options={"parent": "eth0"})
        await rig.engine.stop("db")
        await rig.engine.remove_network("br2")
        await asyncio.sleep(1)
        assert (await _held(rig), await rig.driver.pools.all()) == ({}, [])


@pytest.mark.virtual_time
async def test_the_end_of_a_network_of_another_driver_waits_for_the_store() -> None:
    """It is away when the engine tells of the end."""
    rig = await _with_other()
    async with _followed(rig):
        await rig.mend()
        rig.faults.refused = "delete addresses"
        await rig.engine.remove_network("br")
        await asyncio.sleep(3)
        rig.faults.refused = ""
        await asyncio.sleep(3)
        assert (await _held(rig), await rig.driver.pools.all()) == ({}, [])


async def test_what_a_network_that_went_unnoticed_had_is_given_back() -> None:
    """The driver was down when it was removed."""
    rig = await _with_other()
    await rig.engine.run("db", "br", ip="10.9.0.20")
    await rig.mend()
    rig.engine.forget("db")
    rig.engine.forget_network("br")
    rig.clock.advance(LONG)
    await rig.mend(grace=60)
    assert (await _held(rig), await rig.driver.pools.all()) == ({}, [])


async def test_a_container_s_address_on_another_driver_s_network_is_no_repeated_request() -> None:
    """No endpoint of ours claims it, so a second request for it is a second container's."""
    rig = await _with_other()
    await rig.mend()
    await rig.engine.run("db", "br", ip="10.9.0.20")
    await rig.engine.create_network("lan", Subnet("10.9.0.0/16", gateway="10.9.0.1"), options={"parent": "eth0"})
    for network in ("br", "lan"):
        with pytest.raises(Conflict, match=r"10\.9\.0\.20 is in use by a container of network br"):
            await rig.engine.run("thief", network, ip="10.9.0.20")


@pytest.mark.virtual_time
async def test_a_network_of_another_driver_is_claimed_before_the_next_repair() -> None:
    """Within a moment of its creation: another network could be given its pool until then."""
    rig = await Rig.build("eth0")
    async with _followed(rig):
        await rig.engine.create_network("br", BR, driver="bridge", ipam=OUR_IPAM)
        await asyncio.sleep(0.5)
        assert [each.network for each in await rig.driver.pools.all()] == [rig.engine.id_of("br")]


# -------------------------------------------------------------- no addresses


async def test_a_network_without_addresses_has_no_subnet() -> None:
    """Not 0.0.0.0/0; containers get a link, and repair has nothing to correct."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("l2", options={"parent": "eth0"}, ipam="null")
    web = await rig.engine.run("web", "l2")
    (network,) = await rig.driver.networks.all()
    assert (network.subnets, web.address, web.joined and web.joined.gateway) == ([], "", "")
    assert "eth0" in rig.kernel.sandboxed[web.sandbox]
    rig.clock.advance(LONG)
    assert await rig.mend() == []
    await rig.engine.stop("web")
    await rig.engine.remove_network("l2")
    assert await rig.driver.networks.all() == []


# ----------------------------------------------------- while it is looked at


class Interrupted(FakeEngine):
    """An engine in which something happens once, after it has listed networks of other drivers, or all."""

    after_ipam: Callable[[], Awaitable[object]] | None = None
    after_every: Callable[[], Awaitable[object]] | None = None

    async def ipam_networks(self) -> list[EngineNetwork]:
        """See `Engine.ipam_networks`."""
        found = await super().ipam_networks()
        if found:
            work, self.after_ipam = self.after_ipam, None
            if work:
                await work()
        return found

    async def every_network(self) -> list[EngineNetwork]:
        """See `Engine.every_network`."""
        found = await super().every_network()
        if found:
            work, self.after_every = self.after_every, None
            if work:
                await work()
        return found


async def _interrupted() -> tuple[Rig, Interrupted]:
    rig = await Rig.build("eth0")
    engine = Interrupted(InProcess(rig.driver), rig.kernel)
    return replace(rig, engine=engine), engine


@pytest.mark.virtual_time
async def test_a_container_that_starts_while_its_network_is_claimed_keeps_its_address() -> None:
    """It was requested before the pool was known for that network's: the next look finds it."""
    rig, engine = await _interrupted()
    async with _followed(rig):
        engine.after_ipam = lambda: engine.run("web", "br", ip="10.9.0.20")
        await engine.create_network("br", BR, driver="bridge", ipam=OUR_IPAM)
        await asyncio.sleep(5)
        with pytest.raises(Conflict, match=r"10\.9\.0\.20 is in use by a container of network br"):
            await engine.run("thief", "br", ip="10.9.0.20")


@pytest.mark.virtual_time
async def test_a_network_that_is_removed_while_it_is_claimed_leaves_nothing() -> None:
    """Its end was told before anybody knew of it."""
    rig, engine = await _interrupted()
    async with _followed(rig):
        await engine.create_network("br", BR, driver="bridge", ipam=OUR_IPAM)
        engine.after_every = lambda: engine.remove_network("br")
        await asyncio.sleep(5)
        assert not engine.has("br")
        assert (await _held(rig), await rig.driver.pools.all()) == ({}, [])


@pytest.mark.virtual_time
async def test_the_end_of_a_network_that_was_not_heard_is_seen_when_the_stream_is_open_again() -> None:
    """It was closed for a moment, soon after a repair."""
    rig = await _with_other()
    async with _followed(rig):
        await rig.mend()
        rig.engine.break_streams()
        await rig.engine.remove_network("br")
        await asyncio.sleep(3)
        assert (await _held(rig), await rig.driver.pools.all()) == ({}, [])


async def test_a_network_that_is_removed_while_repair_claims_it_leaves_nothing() -> None:
    """Nobody knew of it when its end was told."""
    rig, engine = await _interrupted()
    await engine.create_network("br", BR, driver="bridge", ipam=OUR_IPAM)
    engine.after_every = lambda: engine.remove_network("br")
    assert "RestorePool" in {type(each).__name__ for each in await rig.mend()}
    assert not engine.has("br")
    assert (await _held(rig), await rig.driver.pools.all()) == ({}, [])
