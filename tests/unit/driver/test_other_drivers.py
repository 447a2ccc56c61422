"""Networks of other drivers whose addresses are ours (B02), and networks of ours without addresses (B23)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import pytest

from macvlan_global.engine.ports import EngineNetwork
from macvlan_global.errors import Conflict, Invalid, Unavailable
from macvlan_global.ipam.owners import without_container
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, pool_id
from macvlan_global.metrics.counts import Metrics
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.engine_follower import EngineFollower
from testkit.cluster_rig import ClusterRig
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
async def _followed(rig: Rig) -> AsyncIterator[Reconciler]:
    """The engine's events are followed, and the repairs of a start are over; what repairs."""
    reconciler = Reconciler(rig.driver, grace=60, now=rig.clock)
    running = asyncio.ensure_future(EngineFollower(rig.driver, rig.engine, reconciler, Metrics()).run())
    await asyncio.sleep(100)
    yield reconciler
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


ROUTER = Subnet("10.9.0.0/24", range="10.9.0.128/25", gateway="10.9.0.1")
BESIDE = Subnet("10.9.0.0/24", range="10.9.0.0/25", gateway="10.9.0.1")


@pytest.mark.parametrize("shared", [False, True])
async def test_a_release_of_another_network_leaves_a_container_on_another_driver_s_network_its_address(
    shared: bool,
) -> None:
    """It is the gateway of both, and the other one could not be made."""
    rig = await (await ClusterRig.build()).host("a") if shared else await Rig.build("eth0")
    await rig.engine.create_network("br", ROUTER, driver="ipvlan", ipam=OUR_IPAM)
    await rig.mend()
    await rig.engine.run("router", "br", ip="10.9.0.1")
    with pytest.raises(Invalid, match="no such interface"):
        await rig.engine.create_network("lan", BESIDE, options={"parent": "eth9"})
    with pytest.raises(Conflict, match=r"10\.9\.0\.1 is in use by a container of network br"):
        await rig.engine.run("thief", "br", ip="10.9.0.1")
    await rig.engine.stop("router")
    assert (await rig.engine.run("next", "br", ip="10.9.0.1")).addresses == ["10.9.0.1"]


async def test_repair_puts_back_what_a_container_has_beside_the_claim_of_its_network() -> None:
    """It is the gateway; the store lost whose it is, and still says that the network has it."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("br", ROUTER, driver="ipvlan", ipam=OUR_IPAM)
    await rig.mend()
    await rig.engine.run("router", "br", ip="10.9.0.1")
    row = await rig.driver.tables.addresses.get(DEFAULT_SPACE, "10.9.0.1")
    assert row
    lost = without_container(row.record)
    assert lost
    assert await rig.driver.tables.addresses.replace(row, lost)
    rig.clock.advance(LONG)
    await rig.mend(grace=60)
    assert await rig.mend(grace=60) == []
    with pytest.raises(Conflict, match=r"10\.9\.0\.1 is in use by a container of network br"):
        await rig.engine.run("thief", "br", ip="10.9.0.1")


async def test_repair_claims_the_gateway_beside_what_its_container_has() -> None:
    """The villain is the store: it lost the network's claim, and has the router container's reservation."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("br", ROUTER, driver="ipvlan", ipam=OUR_IPAM)
    await rig.mend()
    await rig.engine.run("router", "br", ip="10.9.0.1")
    row = await rig.driver.tables.addresses.get(DEFAULT_SPACE, "10.9.0.1")
    assert row
    assert await rig.driver.tables.addresses.replace(row, msgspec.structs.replace(row.record, sharers=[]))
    rig.clock.advance(LONG)
    assert [type(each).__name__ for each in await rig.mend(grace=60)] == ["ClaimAddress"]
    assert await rig.mend(grace=60) == []
    await rig.engine.stop("router")
    assert await _held(rig) == {"10.9.0.1": "gateway"}


@pytest.mark.parametrize("away", [False, True])
async def test_a_release_leaves_a_container_on_another_driver_s_network_of_another_host_its_address(away: bool) -> None:
    """Both networks have one gateway; that of this host is removed. The store may be away meanwhile."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await other.engine.create_network("br", ROUTER, driver="ipvlan", ipam=OUR_IPAM)
    await other.mend()
    await other.engine.run("router", "br", ip="10.9.0.1")
    await one.publish("lan", BESIDE)
    pool = one.engine.pool_of("lan")
    rig.reach(away=away)
    await one.driver.ipam.release_address(pool, "10.9.0.1")
    rig.reach(away=False)
    await one.outbox.deliver()
    with pytest.raises(Conflict, match=r"10\.9\.0\.1 is in use by a container of network br"):
        await other.engine.run("thief", "br", ip="10.9.0.1")
    rig.reach(away=away)
    await other.engine.stop("router")
    rig.reach(away=False)
    await other.outbox.deliver()
    (held,) = await other.driver.addresses.all()
    assert (held.kind, len(held.sharers)) == ("gateway", 1)


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
@pytest.mark.parametrize("first", ["run", "fail"])
async def test_a_container_that_the_engine_shows_late_keeps_its_address(first: str) -> None:
    """The villain is the engine: it lists a container a while after that got its address. Meanwhile its network's pool
    is claimed, and a container of a network beside it asks for the same address, and perhaps fails to start."""
    rig = await Rig.build("eth0")
    async with _followed(rig):
        await rig.engine.create_network("lan", Subnet("10.9.0.0/16", gateway="10.9.0.1"), options={"parent": "eth0"})
        await rig.engine.create_network("br", BR, driver="bridge", ipam=OUR_IPAM)
        await rig.engine.run("web", "br", ip="10.9.0.20")
        await rig.engine.run("db", "br")
        rig.engine.forget_endpoint("web")
        rig.engine.forget_endpoint("db")
        for wait in (0, 5):
            await asyncio.sleep(wait)
            with pytest.raises(Conflict, match=r"10\.9\.0\.20 is in use by a container"):
                await (rig.engine.run if first == "run" else rig.engine.fail)("thief", "lan", ip="10.9.0.20")
            await rig.driver.ipam.release_address(rig.engine.pool_of("lan"), "10.9.0.20")
            with pytest.raises(Conflict, match=r"10\.9\.0\.20 is in use by a container"):
                await rig.engine.run("thief", "br", ip="10.9.0.20")
        named = {each.address: each.network for each in await rig.driver.addresses.all() if each.kind == "reserved"}
        assert named == {"10.9.0.20": rig.engine.id_of("br"), "10.9.0.2": rig.engine.id_of("br")}


@pytest.mark.virtual_time
async def test_a_container_that_ends_while_another_network_is_claimed_leaves_nothing() -> None:
    """The villain is the engine: its answer shows the container still, and comes when the address is released."""
    rig, engine = await _interrupted()
    async with _followed(rig):
        await engine.create_network("br", BR, driver="bridge", ipam=OUR_IPAM)
        await asyncio.sleep(5)
        await engine.run("db", "br", ip="10.9.0.20")
        engine.after_ipam = lambda: engine.stop("db")
        await engine.create_network("br2", Subnet("10.10.0.0/24"), driver="bridge", ipam=OUR_IPAM)
        await asyncio.sleep(5)
        assert not engine.containers
        assert "10.9.0.20" not in await _held(rig)


@pytest.mark.virtual_time
async def test_two_containers_ask_for_one_address_before_their_network_is_claimed() -> None:
    """The second one waits for that, and is refused. The first one may not be there yet when the engine is asked."""
    rig, engine = await _interrupted()
    async with _followed(rig):
        await engine.create_network("br", BR, driver="bridge", ipam=OUR_IPAM)
        await engine.run("web", "br", ip="10.9.0.20")
        with pytest.raises(Conflict, match=r"10\.9\.0\.20 is in use by a container"):
            await engine.run("thief", "br", ip="10.9.0.20")
        await asyncio.sleep(5)
        assert (await _held(rig))["10.9.0.20"] == "reserved"
        with pytest.raises(Conflict, match=r"10\.9\.0\.20 is in use by a container of network br"):
            await engine.run("thief", "br", ip="10.9.0.20")


@pytest.mark.virtual_time
async def test_a_repeated_request_for_an_aux_address_has_the_same_answer() -> None:
    """The network is not made yet, so nobody claims its pool. The engine tells that no other driver's network has it;
    if it does not answer, nobody knows."""
    rig = await Rig.build("eth0")
    async with _followed(rig):
        pool, _ = await rig.driver.ipam.request_pool(BR.subnet, "", {}, ipv6=False)
        for _ in range(3):
            assert await rig.driver.ipam.request_address(pool, "10.9.0.7") == "10.9.0.7/24"
        rig.engine.raises = Unavailable("the engine is away")
        with pytest.raises(Unavailable, match=r"10\.9\.0\.7 is reserved, and the engine did not tell"):
            await rig.driver.ipam.request_address(pool, "10.9.0.7")


class SlowToList(FakeEngine):
    """An engine that takes some time to list its networks: those of other drivers, ours, as repair asks it, or all."""

    other_takes = ours_take = all_take = 0.0

    async def ipam_networks(self) -> list[EngineNetwork]:
        """See `Engine.ipam_networks`."""
        await asyncio.sleep(self.other_takes)
        return await super().ipam_networks()

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        await asyncio.sleep(self.ours_take)
        return await super().networks()

    async def every_network(self) -> list[EngineNetwork]:
        """See `Engine.every_network`."""
        await asyncio.sleep(self.all_take)
        return await super().every_network()


async def _slow() -> tuple[Rig, SlowToList]:
    rig = await Rig.build("eth0")
    engine = SlowToList(InProcess(rig.driver), rig.kernel)
    return replace(rig, engine=engine), engine


@pytest.mark.virtual_time
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("slow", ["the list", "repair"])
async def test_a_container_waits_for_the_engine_to_tell_whose_its_address_is(slow: str, at_once: bool) -> None:
    """The villain is the engine: it takes its time to list the network that was just made, or to answer a repair that
    is under way. The second container may ask before the first one has its answer."""
    rig, engine = await _slow()
    async with _followed(rig) as reconciler:
        engine.other_takes, engine.ours_take = (3.0, 0.0) if slow == "the list" else (0.0, 5.0)
        repair = asyncio.ensure_future(reconciler.reconcile(engine))
        await engine.create_network("br", BR, driver="bridge", ipam=OUR_IPAM)
        if not at_once:
            await engine.run("web", "br", ip="10.9.0.20")
        names = ("web", "thief") if at_once else ("thief",)
        outcomes = await asyncio.gather(
            *(engine.run(each, "br", ip="10.9.0.20") for each in names), return_exceptions=True
        )
        assert isinstance(outcomes[-1], Unavailable if slow == "the list" else Conflict)
        assert list(engine.containers) == ["web"]
        await repair
        await asyncio.sleep(5)
        with pytest.raises(Conflict, match=r"10\.9\.0\.20 is in use by a container of network br"):
            await engine.run("thief", "br", ip="10.9.0.20")


@pytest.mark.virtual_time
@pytest.mark.parametrize("shared", [False, True])
async def test_the_router_of_another_driver_s_network_starts_at_once_and_there_is_one(shared: bool) -> None:
    """The villain is the engine: it takes 20 ms for an answer, so the gateway is claimed a moment after the pool. A
    network beside it may have the same gateway."""
    rig, engine = await _slow()
    engine.all_take = 0.02
    async with _followed(rig):
        if shared:
            await engine.create_network("lan", BESIDE, options={"parent": "eth0"})
        await engine.create_network("br", ROUTER, driver="ipvlan", ipam=OUR_IPAM)
        await engine.run("router", "br", ip="10.9.0.1")
        with pytest.raises(Conflict, match=r"10\.9\.0\.1 is in use by a container of network br"):
            await engine.run("thief", "br", ip="10.9.0.1")


@pytest.mark.virtual_time
async def test_another_driver_s_container_does_not_get_what_a_container_has_as_the_gateway_of_its_network() -> None:
    """The villain is the engine: it asks for that address as it asks for an aux address of a network being made."""
    rig = await Rig.build("eth0")
    async with _followed(rig):
        await rig.engine.create_network("lan", BESIDE, options={"parent": "eth0"})
        await rig.engine.run("router", "lan", ip="10.9.0.1")
        await rig.engine.create_network("br", Subnet("10.9.0.0/16", gateway="10.9.9.9"), driver="bridge", ipam=OUR_IPAM)
        with pytest.raises(Conflict, match=r"10\.9\.0\.1 is in use by"):
            await rig.engine.run("thief", "br", ip="10.9.0.1")


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
