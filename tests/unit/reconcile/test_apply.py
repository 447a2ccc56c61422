"""Repair, done: what a crash left is put right on a driver over fakes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from macvlan_global.driver.requests import EndpointRequest
from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork, EngineSubnet
from macvlan_global.errors import Conflict, Invalid, Unavailable
from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, pool_id
from macvlan_global.kernel.names import link_name
from macvlan_global.kernel.ports import LinkFact, MacvlanSpec
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.corrections import (
    AdoptEndpoint,
    AdoptNetwork,
    ClaimAddress,
    DeleteEndpoint,
    DeleteNetwork,
    DeleteStray,
    GiveBackAddress,
    GiveBackPool,
    RestorePool,
)
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_clock import FakeClock
from testkit.fake_engine import OUR_DRIVER, OUR_IPAM, FakeEngine, Subnet, engine_id
from testkit.fake_kernel import FakeKernel
from testkit.plugin_calls import InProcess
from testkit.rig import Rig

pytestmark = pytest.mark.virtual_time

LAN = Subnet("192.168.1.0/24", gateway="192.168.1.1", aux={"router": "192.168.1.2"})


async def _running() -> Rig:
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, Subnet("fd00::/64"), options={"parent": "eth0.10"})
    await rig.engine.run("c1", "n1", ip="192.168.1.9")
    return rig


async def test_nothing_is_done_to_a_host_on_which_all_is_well() -> None:
    """With the engine and without."""
    rig = await _running()
    before = await rig.snapshot()
    assert await rig.mend() == []
    assert await rig.mend(engine=False) == []
    assert await rig.snapshot() == before


async def test_a_lost_state_is_learnt_anew_from_the_engine() -> None:
    """Network, addresses and endpoint are as before, and a second repair has nothing to do."""
    rig = await _running()
    again = await Rig.build(kernel=rig.kernel, disk=MemoryStore(), clock=rig.clock, engine=rig.engine)
    assert [type(each) for each in await again.mend()] == [AdoptNetwork, AdoptEndpoint]
    held = {each.address: (each.kind, each.endpoint) for each in await again.driver.addresses.all()}
    assert held["192.168.1.9"] == ("endpoint", engine_id("c1 in n1"))
    assert held["192.168.1.1"][0] == "gateway"
    assert held["192.168.1.2"][0] == "aux"
    assert await again.mend() == []
    await again.engine.stop("c1")
    assert "192.168.1.9" not in {each.address for each in await again.driver.addresses.all()}


async def test_what_runs_is_left_alone_though_the_engine_does_not_know_it() -> None:
    """Another engine behind the same socket, or one that answers in part: the kernel's word counts."""
    rig = await _running()
    before = await rig.snapshot()
    rig.engine.forget_endpoint("c1")
    assert await rig.mend() == []
    rig.engine.forget_network("n1")
    assert await rig.mend() == []
    assert await rig.snapshot() == before


async def _running_direct() -> tuple[Rig, str]:
    """A container whose link was made inside, and its network namespace."""
    rig = await Rig.build("eth0")
    rig.engine.early = True
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0", "attach": "direct"})
    container = await rig.engine.run("c1", "n1", ip="192.168.1.9")
    assert list(rig.kernel.sandboxed[container.sandbox]) == ["mv0"]
    return rig, container.sandbox


async def test_a_link_that_was_made_inside_goes_once_the_engine_does_not_know_it() -> None:
    """The driver died while the container left the network: nobody else takes it away, and the container runs on."""
    rig, sandbox = await _running_direct()
    rig.engine.forget_endpoint("c1")
    assert [type(each) for each in await rig.mend()] == [DeleteEndpoint]
    assert not rig.kernel.sandboxed[sandbox]
    assert {each.address for each in await rig.driver.addresses.all()} == {"192.168.1.1", "192.168.1.2"}


async def test_a_link_that_was_made_inside_stays_where_the_engine_runs_no_such_container() -> None:
    """Another engine behind the same socket: it cannot know."""
    rig, sandbox = await _running_direct()
    before = await rig.snapshot()
    rig.engine.forget_endpoint("c1")
    rig.engine.containers.clear()
    assert await rig.mend() == []
    assert list(rig.kernel.sandboxed[sandbox]) == ["mv0"]
    assert await rig.snapshot() == before


async def test_a_sub_interface_that_an_operator_made_after_a_reboot_is_his() -> None:
    """It was made anew under the name of ours, before the driver started: it stays when the network goes."""
    rig = await _running()
    kernel = FakeKernel("eth0")
    await kernel.add_vlan("eth0.10", "eth0", 10)
    await kernel.set_up("eth0.10")
    later = await Rig.build(kernel=kernel, disk=rig.disk, clock=rig.clock, identity=Identity("a", "r2", "boot2"))
    await later.mend(engine=False)
    await later.driver.networks.delete(engine_id("n1"))
    assert "eth0.10" in kernel.hosted
    assert await later.driver.owned.owned() == {}


async def test_a_sub_interface_stays_under_the_containers_of_other_drivers() -> None:
    """Its network is removed, and repair leaves it, too; once nothing stands on it, repair takes it."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.10"})
    await rig.kernel.add_macvlan(MacvlanSpec("tmp", "eth0.10", "bridge", "02:00:00:00:00:99"))
    rig.kernel.move("tmp", "/netns/other")
    await rig.engine.remove_network("n1")
    rig.clock.advance(3600)
    assert await rig.mend() == []
    assert rig.kernel.sandboxed["/netns/other"]
    rig.kernel.end_namespace("/netns/other")
    assert [each.subject for each in await rig.mend()] == ["sub-interface eth0.10 (VLAN 10 on eth0)"]
    assert (set(rig.kernel.hosted), await rig.driver.owned.owned()) == ({"lo", "eth0"}, {})


async def test_a_sub_interface_that_was_made_anew_by_somebody_else_is_theirs() -> None:
    """The same within one boot: another index is another link."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.10"})
    await rig.kernel.delete("eth0.10")
    await rig.kernel.add_vlan("eth0.10", "eth0", 10)
    await rig.engine.remove_network("n1")
    assert "eth0.10" in rig.kernel.hosted
    assert await rig.driver.owned.owned() == {}


async def test_after_a_reboot_parents_are_back_and_endpoints_gone() -> None:
    """Before the engine answers."""
    rig = await _running()
    later = await Rig.build("eth0", disk=rig.disk, clock=rig.clock, identity=Identity("a", "r2", "boot2"))
    await later.mend(engine=False)
    assert later.kernel.hosted["eth0.10"].up
    assert await later.driver.endpoints.all() == []
    assert {each.kind for each in await later.driver.addresses.all()} == {"gateway", "aux"}


async def test_a_network_that_was_removed_unseen_goes() -> None:
    """`docker network rm` while the driver was down."""
    rig = await Rig.build("eth0")
    before = await rig.snapshot()
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.10"})
    rig.engine.forget_network("n1")
    assert DeleteNetwork in {type(each) for each in await rig.mend()}
    assert await rig.snapshot() == before


async def test_a_correction_that_fails_does_not_stop_the_others() -> None:
    """It is not among what was done, and comes again the next time."""
    rig = await Rig.build("eth0")
    for name in ("n1", "n2"):
        await rig.engine.create_network(name, options={"parent": f"eth0.{name[1]}"})
        await rig.kernel.delete(f"eth0.{name[1]}")
    rig.kernel.failing["add_vlan"] = Unavailable("not now")
    assert len(await rig.mend()) == 1
    assert len(await rig.mend()) == 1
    assert await rig.mend() == []


async def test_an_address_that_changed_between_look_and_mend_is_left_alone() -> None:
    """The container was started meanwhile."""
    rig = await _running()
    pool = "macvlan-global/192.168.1.0/24"
    await rig.driver.ipam.request_address(pool, "192.168.1.20")
    seen = next(each for each in await rig.driver.addresses.all() if each.kind == "reserved")
    await rig.engine.run("c2", "n1", ip="192.168.1.20")
    assert not await rig.driver.addresses.give_back(seen)
    try:
        await rig.driver.ipam.request_address(pool, "192.168.1.20")
    except Conflict as error:
        assert "in use" in str(error)
    else:
        raise AssertionError("the address of a running container was given away")


async def test_repair_beside_requests_disturbs_none_of_them() -> None:
    """It runs when the engine comes back, which is when containers with a restart policy start."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.10"})
    starts = [rig.engine.run(f"c{number}", "n1") for number in range(20)]
    repairs = [rig.mend(grace=60) for _ in range(20)]
    done = await asyncio.gather(*(each for pair in zip(starts, repairs, strict=True) for each in pair))
    assert [corrections for corrections in done if isinstance(corrections, list) and corrections] == []
    assert all("eth0" in rig.kernel.sandboxed[each.sandbox] for each in rig.engine.containers.values())
    assert await rig.mend() == []


class SlowToList(FakeKernel):
    """A kernel that takes its time to list links: `meanwhile` happens while it is asked."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def links(self) -> list[LinkFact]:
        """See `Kernel.links`."""
        if self.meanwhile:
            await self.meanwhile()
        return await super().links()


async def test_a_container_that_joins_while_repair_looks_keeps_its_link() -> None:
    """Its endpoint is younger than what repair read first; its link must not be taken for a stray."""
    kernel = SlowToList("eth0")
    rig = await Rig.build(kernel=kernel)
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0"})
    network, endpoint = engine_id("n1"), engine_id("e1")

    async def join() -> None:
        await rig.driver.endpoints.create(EndpointRequest.read(network, endpoint, "192.168.1.9/24"))
        await rig.driver.endpoints.join(network, endpoint, "/netns/c1")

    kernel.meanwhile = join
    await rig.mend(grace=60)
    assert link_name(endpoint) in kernel.hosted


async def test_the_link_of_another_drivers_container_stays() -> None:
    """It is on the host from that driver's answer to Join until the engine moves it, which may take long at boot."""
    rig = await Rig.build()
    endpoint = "0123456789ab" + "f" * 52
    leg = EngineEndpoint(endpoint, "web", "")
    rig.engine.learn(EngineNetwork("n7", "theirs", "null", driver="macvlan-global:latest", endpoints=(leg,)))
    await rig.kernel.add_macvlan(MacvlanSpec(link_name(endpoint), "eth0", "bridge", ""))
    assert await rig.mend() == []
    assert link_name(endpoint) in rig.kernel.hosted
    assert rig.engine.asked["endpoint_ids"]


async def test_a_link_without_an_endpoint_goes_when_it_was_seen_for_long() -> None:
    """A second look, a grace period later, with an answer of the engine; another link of the name begins anew."""
    rig = await Rig.build()
    spec = MacvlanSpec("mg-0123456789ab", "eth0", "bridge", "")
    reconciler = Reconciler(rig.driver, grace=60, now=rig.clock)
    await rig.kernel.add_macvlan(spec)
    assert await reconciler.reconcile(rig.engine) == []
    assert reconciler.passed_over() == frozenset({("DeleteStray", f"link {spec.name}")})
    rig.clock.advance(61)
    assert await reconciler.reconcile(None) == []
    await rig.kernel.delete(spec.name)
    await rig.kernel.add_macvlan(spec)
    assert await reconciler.reconcile(rig.engine) == []
    rig.clock.advance(61)
    assert [type(each) for each in await reconciler.reconcile(rig.engine)] == [DeleteStray]
    assert spec.name not in rig.kernel.hosted


@pytest.mark.parametrize("seconds", [-86400, 86400], ids=["back", "ahead"])
async def test_a_container_that_starts_while_repair_looks_and_the_clock_is_set_keeps_its_endpoint(seconds: int) -> None:
    """It is not a day old, though the clock says so that was read before; the engine does not know it yet."""
    kernel = SlowToList("eth0")
    rig = await Rig.build(kernel=kernel)
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0"})

    async def start() -> None:
        rig.clock.advance(seconds)
        pool = "macvlan-global/192.168.1.0/24"
        address = await rig.driver.ipam.request_address(pool, "192.168.1.9")
        await rig.driver.endpoints.create(EndpointRequest.read(engine_id("n1"), engine_id("e1"), address))

    kernel.meanwhile = start
    await rig.mend(grace=60)
    assert [each.id for each in await rig.driver.endpoints.all()] == [engine_id("e1")]
    assert {each.address: each.kind for each in await rig.driver.addresses.all()}["192.168.1.9"] == "endpoint"


async def test_a_clock_that_is_set_twice_while_repair_looks_takes_no_network() -> None:
    """It was made in between, and the engine does not list it yet: it looks old by the clock of before and of after."""
    kernel, steady = SlowToList("eth0"), FakeClock(0)
    rig = await Rig.build(kernel=kernel, steady=steady)

    async def create() -> None:
        rig.clock.advance(-86400)
        await rig.engine.create_network("n1", LAN, options={"parent": "eth0"})
        rig.engine.forget_network("n1")
        rig.clock.advance(-86400)
        kernel.meanwhile = None

    reconciler = Reconciler(rig.driver, grace=60, now=rig.clock)
    assert await reconciler.reconcile(rig.engine) == []
    kernel.meanwhile = create
    assert await reconciler.reconcile(rig.engine) == []
    assert [each.id for each in await rig.driver.networks.all()] == [engine_id("n1")]
    for clock in (rig.clock, steady):
        clock.advance(61)
    assert [type(each).__name__ for each in await reconciler.reconcile(rig.engine)] == ["DeleteNetwork"]


@pytest.mark.parametrize("seconds", [86400, -86400])
async def test_a_clock_that_is_set_makes_nothing_old(seconds: int) -> None:
    """For a grace period after it is seen; then what is left over is given back."""
    steady = FakeClock(0)
    rig = await Rig.build("eth0", steady=steady)
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0"})
    reconciler = Reconciler(rig.driver, grace=60, now=rig.clock)
    assert await reconciler.reconcile(rig.engine) == []
    await rig.driver.ipam.request_address(rig.engine.pool_of("n1"), "192.168.1.9")
    await rig.driver.endpoints.create(EndpointRequest.read(rig.engine.id_of("n1"), engine_id("e1")))
    rig.clock.advance(seconds)
    assert await reconciler.reconcile(rig.engine) == []
    for clock in (rig.clock, steady):
        clock.advance(61)
    given_back = [type(each).__name__ for each in await reconciler.reconcile(rig.engine)]
    assert given_back == ["DeleteEndpoint", "GiveBackAddress"]


async def test_an_endpoint_that_the_engine_requests_again_is_not_deleted() -> None:
    """The driver was killed while its container was being created, and the clock was set while it was down."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0"})
    request = EndpointRequest.read(rig.engine.id_of("n1"), engine_id("e1"), "192.168.1.9/24")
    await rig.driver.endpoints.create(request)
    rig.clock.advance(-86400)
    later = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    await later.driver.endpoints.create(request)
    assert await later.mend(grace=60) == []
    assert [each.endpoint for each in await later.driver.addresses.all()][-1:] == [engine_id("e1")]
    other = EndpointRequest.read(rig.engine.id_of("n1"), engine_id("e2"), "192.168.1.9/24")
    with pytest.raises(Conflict, match=r"address 192\.168\.1\.9 is in use"):
        await later.driver.endpoints.create(other)
    later.clock.advance(60)
    assert [type(each).__name__ for each in await later.mend(grace=60)] == ["DeleteEndpoint"]


async def test_what_was_written_while_the_clock_was_ahead_is_not_young_for_ever() -> None:
    """The clock is put back by a day: an hour later a container that went unseen no longer holds its address."""
    rig = await _running()
    rig.clock.advance(3600 - 86400)
    rig.engine.forget("c1")
    await rig.engine.run("c2", "n1", ip="192.168.1.9")
    await rig.mend(grace=60)
    assert [each.container or each.id for each in await rig.driver.endpoints.all()] == [engine_id("c2 in n1")]


class SlowEngine(FakeEngine):
    """An engine that takes its time to list networks, or to tell a container's namespace: things happen meanwhile."""

    while_listing: Callable[[], Awaitable[object]] | None = None
    while_telling: Callable[[], Awaitable[object]] | None = None

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        if self.while_listing:
            await self.while_listing()
        return await super().networks()

    async def sandbox(self, container_id: str) -> str:
        """See `Engine.sandbox`."""
        if self.while_telling:
            await self.while_telling()
        return await super().sandbox(container_id)


async def _on_slow_engine() -> tuple[Rig, SlowEngine]:
    rig = await Rig.build("eth0")
    engine = SlowEngine(InProcess(rig.driver), rig.kernel)
    await engine.create_network("n1", LAN, options={"parent": "eth0"})
    return replace(rig, engine=engine), engine


async def test_a_container_that_starts_while_repair_asks_the_engine_keeps_its_record() -> None:
    """The engine has it and what was read before has not: that is no reason to write it down anew."""
    rig, engine = await _on_slow_engine()
    engine.while_listing = lambda: engine.run("c1", "n1", ip="192.168.1.9", mac="02:00:00:00:aa:01")
    await rig.mend(grace=60)
    (endpoint,) = await rig.driver.endpoints.all()
    assert endpoint.mac_asked


async def test_a_container_that_goes_before_it_is_adopted_is_not() -> None:
    """Nobody would ever give back what an adoption claims for it."""
    rig, engine = await _on_slow_engine()
    engine.while_listing = lambda: engine.run("c1", "n1")
    engine.while_telling = lambda: engine.stop("c1")
    await rig.mend(grace=60)
    assert await rig.driver.endpoints.all() == []
    assert "endpoint" not in {each.kind for each in await rig.driver.addresses.all()}


async def test_a_network_that_is_removed_while_repair_looks_is_not_given_its_claims_back() -> None:
    """The plan saw it half removed: it has a record, and its pool and gateway have none. Nobody would release them."""
    rig, engine = await _on_slow_engine()
    tables = rig.driver.tables
    await tables.addresses.drop(DEFAULT_SPACE, "192.168.1.1")
    await tables.pools.drop(DEFAULT_SPACE, "192.168.1.0/24")
    engine.while_listing = lambda: engine.remove_network("n1")
    corrections = [type(each) for each in await rig.mend(grace=60)]
    assert {RestorePool, ClaimAddress} <= set(corrections), "the plan was made before the removal"
    assert await rig.driver.addresses.all() == []
    assert await rig.driver.pools.all() == []


async def test_a_network_of_another_driver_that_is_removed_while_repair_looks_is_not_given_its_claims_back() -> None:
    """Its gateway is like its pool."""
    rig, engine = await _on_slow_engine()
    await engine.create_network("b1", Subnet("10.9.0.0/24", gateway="10.9.0.1"), driver="bridge", ipam=OUR_IPAM)
    await rig.driver.tables.addresses.drop(DEFAULT_SPACE, "10.9.0.1")
    engine.while_listing = lambda: engine.remove_network("b1")
    await rig.mend(grace=60)
    assert "10.9.0.1" not in {each.address for each in await rig.driver.addresses.all()}


async def test_a_network_that_alone_was_lost_keeps_its_gateway_and_aux_addresses() -> None:
    """It is adopted in the same repair that would take them for a gone network's."""
    rig = await _running()
    before = await rig.snapshot()
    await rig.driver.tables.networks.drop(engine_id("n1"))
    rig.clock.advance(1)
    assert AdoptNetwork in {type(each) for each in await rig.mend()}
    assert set((await rig.snapshot())["state"]) == set(before["state"])
    assert await rig.mend() == []


async def test_a_network_of_a_subnet_that_is_refused_by_now_is_learnt_from_the_engine() -> None:
    """An earlier release made it of loopback addresses; a new one is refused."""
    rig = await Rig.build("eth0")
    subnet = EngineSubnet("127.8.0.0/24", gateway="127.8.0.1")
    network = EngineNetwork(
        engine_id("old"), "old", OUR_IPAM, options={"parent": "eth0"}, subnets=(subnet,), driver=OUR_DRIVER
    )
    rig.engine.learn(network)
    assert [type(each) for each in await rig.mend()] == [AdoptNetwork]
    assert {each.address: each.kind for each in await rig.driver.addresses.all()} == {"127.8.0.1": "gateway"}
    with pytest.raises(Invalid, match="holds loopback addresses"):
        await rig.engine.create_network("new", Subnet("127.9.0.0/24"), options={"parent": "eth0"})


async def test_without_the_engine_a_lost_network_loses_nothing_more() -> None:
    """At the start of the driver the engine may not answer yet: what it may have is not given away."""
    rig = await _running()
    await rig.driver.tables.networks.drop(engine_id("n1"))
    await rig.mend(engine=False)
    await rig.mend()
    held = {each.address: each.kind for each in await rig.driver.addresses.all()}
    assert {"192.168.1.1": "gateway", "192.168.1.2": "aux", "192.168.1.9": "endpoint"}.items() <= held.items()


async def test_an_address_that_was_given_to_another_host_is_claimed_as_soon_as_it_is_free() -> None:
    """The store lost whose it was, and somebody else was faster: until he gives it back it is a problem."""
    rig = await ClusterRig.build()
    one, two = await rig.host("h1"), await rig.host("h2")
    await one.publish("lan", Subnet("10.8.0.0/24", gateway="10.8.0.1"))
    await two.join("lan", one)
    ours = await one.engine.run("c1", "lan", ip="10.8.0.9")
    addresses = one.driver.tables.addresses
    lost = await addresses.get(DEFAULT_SPACE, "10.8.0.9")
    assert lost
    assert await addresses.delete(lost)
    await two.engine.run("c2", "lan", ip="10.8.0.9")
    reconciler = Reconciler(one.driver, grace=0, now=one.clock)
    assert await reconciler.reconcile(one.engine) == []
    await reconciler.claim_again()
    assert ["10.8.0.9" in each for each in reconciler.problems] == [True]
    one.faults.away = True  # a repair without the store says nothing about it
    assert await reconciler.reconcile(one.engine) == []
    one.faults.away = False
    assert ["10.8.0.9" in each for each in reconciler.problems] == [True]
    await two.engine.stop("c2")
    await reconciler.claim_again()
    assert reconciler.problems == []
    held = await addresses.get(DEFAULT_SPACE, "10.8.0.9")
    assert held
    assert (held.record.endpoint, held.record.host) == (ours.endpoint, "h1")
    one.faults.arm(0)
    await reconciler.claim_again()
    assert one.faults.taken == [], "it has them, and nobody is asked again each second"


async def test_a_subnet_is_learnt_as_it_is_meant_and_not_as_it_was_typed() -> None:
    """The engine shows the user's own spelling, and asks for the pool by ours."""
    rig = await Rig.build("eth0")
    subnet = EngineSubnet("FD00:0:0::/64", range="FD00:0:0::/80", gateway="fd00::1")
    network = EngineNetwork(
        engine_id("six"), "six", OUR_IPAM, options={"parent": "eth0"}, subnets=(subnet,), driver=OUR_DRIVER
    )
    rig.engine.learn(network)
    await rig.mend()
    (pool,) = await rig.driver.pools.all()
    assert (pool.subnet, pool.range, pool.network) == ("fd00::/64", "fd00::/80", network.id)
    assert await rig.driver.ipam.request_address(pool_id(pool), "") == "fd00::2/64"


class _MeanwhileStore(MemoryStore):
    """Something happens right after the first read of a prefix."""

    prefix = ""
    meanwhile: Callable[[], Awaitable[None]] | None = None

    def client(self) -> MemoryStore:
        """See `MemoryStore.client`."""
        return self

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        found = await super().scan(prefix)
        if prefix == self.prefix and (meanwhile := self.meanwhile):
            self.meanwhile = None
            await meanwhile()
        return found


async def _made_here_and_used_there(rig: ClusterRig) -> tuple[ClusterHost, ClusterHost, str]:
    """Hosts a and b, and the id of `lan`, which a made, and on which b runs a container. It is long since a had an
    address there, so it does not read those of the subnet."""
    one, two = await rig.host("a"), await rig.host("b")
    made = await one.publish("lan", Subnet("10.8.0.0/28", gateway="10.8.0.5"))
    await two.join("lan", one)
    await two.engine.run("web", "lan")
    for table in (one.driver.tables.used, one.driver.tables.used_here):
        await table.drop("a", DEFAULT_SPACE, "10.8.0.0/28")
    rig.clock.advance(600)
    return await rig.restart("a"), two, made


async def test_the_pool_of_a_network_whose_removal_is_taken_back_is_not_given_back() -> None:
    """Another host, the villain, has deleted its tombstone and has not defined it yet: its containers are what counts,
    and without them the pool goes."""
    rig = await ClusterRig.build(new_ids=True)
    one, two, made = await _made_here_and_used_there(rig)
    await one.engine.remove_network("lan")
    await two.driver.tables.removed.drop(made)
    assert await one.mend(grace=60) == []
    assert [each.network for each in await one.driver.pools.all()] == [made]
    await two.engine.stop("web")
    assert [type(each) for each in await one.mend(grace=60)] == [GiveBackAddress, GiveBackPool]
    assert await one.driver.pools.all() == []
    assert await one.driver.addresses.all() == []


async def test_what_a_network_has_that_is_removed_while_repair_reads_is_not_given_back() -> None:
    """The operator is the villain: its tombstone comes, and its definition and record go, between two reads. This host
    does not look for containers of others there."""
    shared = _MeanwhileStore()
    rig = ClusterRig(shared=shared, new_ids=True)
    one, _, made = await _made_here_and_used_there(rig)

    async def remove() -> None:
        await one.engine.remove_network("lan")

    shared.prefix, shared.meanwhile = "removed/", remove
    await one.mend(grace=60)
    assert shared.meanwhile is None
    assert [each.network for each in await one.driver.pools.all()] == [made]
    assert {each.kind for each in await one.driver.addresses.all()} == {"gateway", "endpoint"}


@pytest.mark.parametrize("prefix", ["removed/", "definitions/"])
async def test_a_network_that_is_removed_while_repair_reads_is_not_taken_for_gone(prefix: str) -> None:
    """Its tombstone comes and its definition goes between two reads; containers of another host run on it."""
    shared = _MeanwhileStore()
    rig = ClusterRig(shared=shared, new_ids=True)
    one, two = await rig.host("a"), await rig.host("b")
    await one.publish("lan", Subnet("10.8.0.0/28", gateway="10.8.0.5"))
    await two.join("lan", one)
    await two.engine.run("web", "lan")
    rig.clock.advance(600)

    async def remove() -> None:
        await one.engine.remove_network("lan")

    shared.prefix, shared.meanwhile = prefix, remove
    await one.mend(grace=60)
    assert shared.meanwhile is None
    assert {each.kind for each in await one.driver.addresses.all()} == {"gateway", "endpoint"}
    assert [each.subnet for each in await one.driver.pools.all()] == ["10.8.0.0/28"]


async def test_a_removed_network_that_a_host_remembers_gets_no_pool_again() -> None:
    """Another host deletes its tombstone, the villain, while a container runs on it here; its pool has gone too."""
    rig = await ClusterRig.build(new_ids=True)
    one, two = await rig.host("a"), await rig.host("b")
    made = await one.publish("lan", Subnet("10.8.0.0/28", gateway="10.8.0.5"))
    copy = await two.join("lan", one)
    await two.engine.run("web", "lan")
    await one.engine.remove_network("lan")
    await two.driver.tables.networks.change(copy, removed=True)
    await two.driver.tables.removed.drop(made)
    [pool] = await two.driver.pools.all()
    await two.driver.tables.pools.drop(pool.space, pool.subnet)
    rig.clock.advance(600)
    assert await two.mend(grace=60) == []
    assert await two.driver.pools.all() == []


async def test_a_removal_that_is_remembered_takes_nothing_while_a_definition_cannot_be_read() -> None:
    """A newer release on another host plays it: it took the removal back, and defines the network in a form of its
    own."""
    rig = await ClusterRig.build()
    one, two = await rig.host("a"), await rig.host("b")
    made = await one.publish("lan", Subnet("10.8.0.0/24", gateway="10.8.0.1"))
    await two.join("lan", one)
    await one.driver.tables.networks.change(made, removed=True)
    [entry] = await rig.shared.scan("definitions/")
    await rig.shared.replace(entry, entry.value.replace(b'"v":1', b'"v":99'))
    rig.clock.advance(7200)
    assert await one.mend(grace=60) == []
    assert [each.subnet for each in await one.driver.pools.all()] == ["10.8.0.0/24"]


async def test_a_store_that_goes_away_before_or_during_a_repair_that_needs_it_is_told() -> None:
    """The store plays it: it lost a pool, and is away, or takes no writes. Whoever repairs tries again."""
    rig = await ClusterRig.build()
    host = await rig.host("h1")
    await host.publish("lan", Subnet("10.8.0.0/24", gateway="10.8.0.1"))
    reconciler = Reconciler(host.driver, grace=0, now=host.clock)
    await host.driver.tables.pools.drop(DEFAULT_SPACE, "10.8.0.0/24")
    host.faults.away = True
    with pytest.raises(Unavailable, match="failed on purpose"):
        await reconciler.reconcile(host.engine, needs_store=True)
    host.faults.away, host.faults.refused = False, "create pools/"
    await reconciler.reconcile(host.engine, needs_store=True)
    assert reconciler.broken_off == "failed on purpose"
    host.faults.refused = ""
    assert [type(each) for each in await reconciler.reconcile(host.engine, needs_store=True)] == [RestorePool]
    assert reconciler.broken_off == ""
