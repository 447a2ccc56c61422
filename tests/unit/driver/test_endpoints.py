"""Endpoints: a container's legs on this host."""

import asyncio
from ipaddress import ip_address

import msgspec
import pytest

from macvlan_global.driver.driver import ClusterHooks, Driver, Settings
from macvlan_global.driver.liveness import YOUNG_SECONDS
from macvlan_global.driver.requests import EndpointRequest
from macvlan_global.errors import Conflict, Exhausted, Invalid, NotFound, Unavailable
from macvlan_global.ipam.owners import Holder, Identity
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.kernel.names import link_name
from macvlan_global.kernel.ports import MacvlanSpec
from macvlan_global.store.records import PoolRecord
from macvlan_global.store.table import Tables
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_clock import FakeClock
from testkit.fake_engine import Subnet, engine_id
from testkit.rig import HOST, Rig

LAN = Subnet("192.168.1.0/24", gateway="192.168.1.1")
N1, E1, E2 = engine_id("n1"), engine_id("e1"), engine_id("e2")
POOL = "macvlan-global/192.168.1.0/24"


async def _rig(*subnets: Subnet, **options: str) -> Rig:
    rig = await Rig.build("eth0")
    given = {"parent": "eth0", **options}
    await rig.engine.create_network("n1", *(subnets or (LAN,)), options=given)
    return rig


async def _kinds(rig: Rig) -> dict[str, str]:
    return {each.address: each.kind for each in await rig.driver.addresses.all()}


async def test_an_endpoint_from_creation_to_deletion() -> None:
    """Address claimed, link made on the parent, all gone at the end."""
    rig = await _rig()
    before = await rig.snapshot()
    await rig.driver.ipam.request_address(POOL, "192.168.1.9")
    mac = await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.9/24"))
    assert (await _kinds(rig))["192.168.1.9"] == "endpoint"
    joined = await rig.driver.endpoints.join(N1, E1, "/netns/c1")
    assert (joined.link, joined.gateway, joined.gateway6) == (link_name(E1), "192.168.1.1", "")
    link = rig.kernel.hosted[joined.link]
    assert (link.kind, link.mac, link.lower) == ("macvlan", mac, rig.kernel.hosted["eth0"].index)
    rig.kernel.move(joined.link, "/netns/c1")
    await rig.driver.endpoints.leave(N1, E1)
    assert rig.kernel.sandboxed["/netns/c1"] == {}
    await rig.driver.endpoints.delete(N1, E1)
    assert (await _kinds(rig))["192.168.1.9"] == "reserved", "until the engine releases it"
    await rig.driver.ipam.release_address(POOL, "192.168.1.9")
    assert await rig.snapshot() == before | {"containers": {}}


async def test_a_release_that_comes_late_takes_nothing_from_the_next_one() -> None:
    """In a full pool the next container asks for the very address between DeleteEndpoint and ReleaseAddress."""
    rig = await _rig(Subnet("192.168.1.0/30", gateway="192.168.1.1"))
    pool = "macvlan-global/192.168.1.0/30"
    assert await rig.driver.ipam.request_address(pool, "") == "192.168.1.2/30"
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.2/30"))
    await rig.driver.endpoints.delete(N1, E1)
    with pytest.raises(Exhausted):
        await rig.driver.ipam.request_address(pool, "")
    await rig.driver.ipam.release_address(pool, "192.168.1.2")
    assert await rig.driver.ipam.request_address(pool, "") == "192.168.1.2/30"


async def test_an_endpoint_that_repair_deletes_frees_its_address_at_once() -> None:
    """No release will follow."""
    rig = await _rig()
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.9/24"))
    await rig.driver.endpoints.delete(N1, E1, release_follows=False)
    assert "192.168.1.9" not in await _kinds(rig)


async def test_every_request_may_be_repeated_and_come_twice_at_once() -> None:
    """The answers are the same, and nothing is there twice."""
    rig = await _rig()
    wanted = EndpointRequest.read(N1, E1, "192.168.1.9/24")
    macs = await asyncio.gather(*(rig.driver.endpoints.create(wanted) for _ in range(3)))
    joins = await asyncio.gather(*(rig.driver.endpoints.join(N1, E1, "/netns/c1") for _ in range(3)))
    assert (len(set(macs)), len(set(joins))) == (1, 1)
    assert sum(link.kind == "macvlan" for link in rig.kernel.hosted.values()) == 1
    await asyncio.gather(*(rig.driver.endpoints.leave(N1, E1) for _ in range(2)))
    await asyncio.gather(*(rig.driver.endpoints.delete(N1, E1) for _ in range(2)))
    assert await rig.driver.endpoints.all() == []


async def test_a_repeat_finishes_what_a_crash_cut_short() -> None:
    """The record was written and the address not claimed: nobody else may get it after the repeat."""
    rig = await _rig()
    await rig.driver.ipam.request_address(POOL, "192.168.1.9")
    wanted = EndpointRequest.read(N1, E1, "192.168.1.9/24")
    await rig.driver.endpoints.create(wanted)
    record = await rig.driver.endpoints.get(N1, E1)
    await rig.driver.endpoints.delete(N1, E1)
    await rig.driver.tables.endpoints.put(record, N1, E1)
    await rig.driver.ipam.request_address(POOL, "192.168.1.9")
    assert await rig.driver.endpoints.create(wanted) == record.mac
    with pytest.raises(Conflict):
        await rig.driver.ipam.request_address(POOL, "192.168.1.9")


async def test_an_endpoint_is_not_silently_another_one() -> None:
    """The same id with another address would leave the first address without its holder."""
    rig = await _rig()
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.9/24"))
    before = await rig.snapshot()
    for address, mac in (("192.168.1.10/24", ""), ("192.168.1.9/24", "02:00:00:00:00:99")):
        with pytest.raises(Conflict, match="exists already"):
            await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, address, mac=mac))
    assert await rig.snapshot() == before


async def test_unknown_networks_and_endpoints() -> None:
    """Create and join say not found; leave and delete have nothing to do."""
    rig = await _rig()
    with pytest.raises(NotFound, match="network"):
        await rig.driver.endpoints.create(EndpointRequest.read(engine_id("x"), E1))
    with pytest.raises(NotFound, match="start the container again"):
        await rig.driver.endpoints.join(N1, E1, "/netns/c1")
    with pytest.raises(NotFound):
        await rig.driver.endpoints.get(N1, E1)
    await rig.driver.endpoints.leave(N1, E1)
    await rig.driver.endpoints.delete(N1, E1)


async def test_each_subnet_has_its_own_gateway() -> None:
    """And an internal network gives none."""
    subnets = (
        Subnet("10.1.0.0/24", gateway="10.1.0.1"),
        Subnet("10.2.0.0/24", gateway="10.2.0.1"),
        Subnet("fd01::/64", gateway="fd01::1"),
        Subnet("fd02::/64"),
    )
    rig = await _rig(*subnets)
    one = await rig.engine.run("c1", "n1", ip="10.2.0.9", ip6="fd01::9")
    two = await rig.engine.run("c2", "n1", ip="10.1.0.9", ip6="fd02::9")
    assert one.joined
    assert two.joined
    assert (one.joined.gateway, one.joined.gateway6) == ("10.2.0.1", "fd01::1")
    assert (two.joined.gateway, two.joined.gateway6) == ("10.1.0.1", "")


async def test_an_internal_network_gives_no_gateway() -> None:
    """Nothing leads out of it."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0"}, internal=True)
    joined = (await rig.engine.run("c1", "n1")).joined
    assert joined
    assert joined.gateway == ""


async def test_an_address_in_no_subnet_is_refused_and_leaves_nothing() -> None:
    """The error lists the subnets."""
    rig = await _rig()
    before = await rig.snapshot()
    with pytest.raises(Invalid, match=r"192\.168\.1\.0/24"):
        await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "10.0.0.1/24"))
    assert await rig.snapshot() == before


async def test_a_taken_second_address_gives_the_first_one_back() -> None:
    """Both or none."""
    rig = await _rig(LAN, Subnet("fd00::/64"))
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.9/24", "fd00::9/64"))
    await rig.driver.ipam.request_address(POOL, "192.168.1.10")
    before = await rig.snapshot()
    with pytest.raises(Conflict, match="fd00::9"):
        await rig.driver.endpoints.create(EndpointRequest.read(N1, E2, "192.168.1.10/24", "fd00::9/64"))
    assert await rig.snapshot() == before


# ------------------------------------------------------------------- MACs


async def test_a_mac_of_the_user_is_used_in_one_spelling() -> None:
    """And a malformed one is refused."""
    rig = await _rig()
    request = EndpointRequest.read(N1, E1, mac="02-00-00-00-00-AA")
    assert await rig.driver.endpoints.create(request) == "02:00:00:00:00:aa"
    with pytest.raises(Invalid, match="--mac-address"):
        await rig.driver.endpoints.create(EndpointRequest.read(N1, E2, mac="zz"))


async def test_a_mac_by_policy() -> None:
    """Random and local, or derived from the address."""
    rig = await _rig()
    assert int((await rig.driver.endpoints.create(EndpointRequest.read(N1, E1)))[:2], 16) & 0b11 == 0b10
    await rig.engine.create_network("n2", Subnet("10.0.0.0/24"), options={"parent": "eth0", "mac": "address"})
    mac = await rig.driver.endpoints.create(EndpointRequest.read(engine_id("n2"), E2, "10.0.0.9/24"))
    assert mac == "02:42:0a:00:00:09"


async def test_a_mac_in_use_on_the_parent_is_refused_at_create() -> None:
    """The parent's own, and another container's, in whichever network of the parent."""
    rig = await _rig()
    await rig.engine.create_network("n2", Subnet("10.0.0.0/24"), options={"parent": "eth0"})
    with pytest.raises(Conflict, match="the MAC of the parent eth0"):
        await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, mac=rig.kernel.hosted["eth0"].mac))
    await rig.driver.endpoints.create(EndpointRequest.read(engine_id("n2"), E1, mac="02:00:00:00:00:aa"))
    with pytest.raises(Conflict, match=f"endpoint {E1[:12]} has it"):
        await rig.driver.endpoints.create(EndpointRequest.read(N1, E2, mac="02:00:00:00:00:aa"))


async def test_a_mac_may_be_used_on_another_parent() -> None:
    """It is another wire."""
    rig = await _rig()
    await rig.engine.create_network("n2", Subnet("10.0.0.0/24"), options={"parent": "eth0.10"})
    for network, endpoint in ((N1, E1), (engine_id("n2"), E2)):
        await rig.driver.endpoints.create(EndpointRequest.read(network, endpoint, mac="02:00:00:00:00:aa"))


async def test_of_two_containers_that_want_one_mac_at_once_one_gets_it() -> None:
    """The comparison and the writing are one step."""
    rig = await _rig()
    done = await asyncio.gather(
        *(rig.driver.endpoints.create(EndpointRequest.read(N1, each, mac="02:00:00:00:00:aa")) for each in (E1, E2)),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in done) == ["Conflict", "str"]


async def test_a_mac_of_a_link_that_is_not_ours_is_found_at_join() -> None:
    """The kernel tells when the link is set up, which we try before the engine does. Nothing is left."""
    rig = await _rig()
    await rig.kernel.add_macvlan(MacvlanSpec("other", "eth0", "bridge", "02:00:00:00:00:aa"))
    await rig.kernel.set_up("other")
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, mac="02:00:00:00:00:aa"))
    before = await rig.snapshot()
    with pytest.raises(Conflict, match="MAC is in use"):
        await rig.driver.endpoints.join(N1, E1, "/netns/c1")
    assert await rig.snapshot() == before


async def test_a_passthru_network_carries_one_container_with_the_parents_mac() -> None:
    """The second one is refused until the first is gone."""
    rig = await _rig(LAN, mode="passthru")
    first = await rig.engine.run("c1", "n1")
    assert first.mac == rig.kernel.hosted["eth0"].mac
    with pytest.raises(Conflict, match="one container at a time"):
        await rig.engine.run("c2", "n1")
    await rig.engine.stop("c1")
    await rig.engine.run("c2", "n1")


async def test_of_two_containers_that_start_on_a_passthru_network_at_once_one_does() -> None:
    """Refused at create, not by the kernel at join."""
    rig = await _rig(LAN, mode="passthru")
    done = await asyncio.gather(
        *(rig.driver.endpoints.create(EndpointRequest.read(N1, each)) for each in (E1, E2)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in done) == ["Conflict", "str"]


async def test_the_mtu_of_the_network_is_the_links() -> None:
    """Else the parent's."""
    rig = await _rig(LAN, mtu="1400")
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1))
    joined = await rig.driver.endpoints.join(N1, E1, "/netns/c1")
    assert rig.kernel.hosted[joined.link].mtu == 1400


# ------------------------------------------------------- crashes and reboots


async def test_a_leftover_link_of_another_parent_is_made_anew() -> None:
    """A crash between join and its answer, and the parent was made again with another index."""
    rig = await _rig()
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1))
    joined = await rig.driver.endpoints.join(N1, E1, "/netns/c1")
    old = rig.kernel.hosted[joined.link].index
    rig.kernel.add_device("eth1")
    network = await rig.driver.tables.networks.get(N1)
    assert network is not None
    await rig.driver.tables.networks.put(msgspec.structs.replace(network.record, parent="eth1"), N1)
    await rig.driver.endpoints.join(N1, E1, "/netns/c1")
    assert rig.kernel.hosted[joined.link].index != old
    assert rig.kernel.hosted[joined.link].lower == rig.kernel.hosted["eth1"].index


async def test_whether_an_endpoint_is_alive() -> None:
    """Young, or its link is in the host or in its container, or only the engine could know; never after a reboot."""
    rig = await _rig()
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1))

    async def dead(rig: Rig) -> bool:
        return await rig.driver.liveness.is_dead(await rig.driver.endpoints.get(N1, E1))

    assert not await dead(rig)
    rig.clock.advance(YOUNG_SECONDS)
    assert not await dead(rig)
    rig.driver.liveness.learn([], rig.driver.liveness.moment())
    assert await dead(rig)
    joined = await rig.driver.endpoints.join(N1, E1, "/netns/c1")
    assert not await dead(rig)
    rig.kernel.move(joined.link, "/netns/c1")
    assert not await dead(rig)
    later = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, identity=Identity("a", "r2", "boot2"))
    assert await dead(later)


async def test_after_a_reboot_a_container_gets_its_address_back() -> None:
    """The engine asks for it again, and the endpoint of the last boot is dead."""
    rig = await _rig()
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.9/24"))
    later = await Rig.build("eth0", disk=rig.disk, clock=rig.clock, identity=Identity("a", "r2", "boot2"))
    assert await later.driver.ipam.request_address(POOL, "192.168.1.9") == "192.168.1.9/24"
    await later.driver.endpoints.create(EndpointRequest.read(N1, E2, "192.168.1.9/24"))
    await later.driver.endpoints.delete(N1, E1)
    assert [each.endpoint for each in await later.driver.addresses.all() if each.kind == "endpoint"] == [E2]


async def test_the_address_of_a_running_container_is_not_stale() -> None:
    """However old; and neither is one of another host."""
    rig = await _rig()
    await rig.engine.run("c1", "n1", ip="192.168.1.9")
    rig.clock.advance(YOUNG_SECONDS * 10)
    with pytest.raises(Conflict):
        await rig.driver.ipam.request_address(POOL, "192.168.1.9")
    network = await rig.driver.networks.get(N1)
    other = await Rig.build("eth0", disk=rig.disk, clock=rig.clock, identity=Identity("b", "r", "boot9"))
    pool = PoolRecord(space="macvlan-global", subnet=network.subnets[0].subnet, at=0)
    await rig.driver.claims.claim(pool, ip_address("192.168.1.10"), Holder("endpoint", N1, "gone"))
    rig.clock.advance(YOUNG_SECONDS)
    with pytest.raises(Conflict, match="on host a"):
        await other.driver.ipam.request_address(POOL, "192.168.1.10")
    rig.driver.liveness.learn([], rig.driver.liveness.moment())  # the engine does not have it
    assert await rig.driver.ipam.request_address(POOL, "192.168.1.10") == "192.168.1.10/24"


async def test_a_clock_that_is_set_makes_nobody_old() -> None:
    """Two containers ask for one address, and the clock jumps before the first has its link: it keeps the address."""
    rig = await _rig()
    steady = FakeClock()
    tables = Tables(rig.disk, rig.disk)
    driver = Driver.build(tables, rig.kernel, HOST, Settings(), now=rig.clock, steady=steady)
    await driver.pools.load()
    await driver.ipam.request_address(POOL, "192.168.1.9")
    await driver.ipam.request_address(POOL, "192.168.1.9")
    await driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.9/24"))
    rig.clock.advance(YOUNG_SECONDS * 10)
    with pytest.raises(Conflict, match=r"192\.168\.1\.9 is in use by endpoint"):
        await driver.endpoints.create(EndpointRequest.read(N1, E2, "192.168.1.9/24"))
    for _ in range(2):  # once its time is over, and that of whatever was made before the clock was set
        with pytest.raises(Conflict, match=r"192\.168\.1\.9 is in use by endpoint"):
            await driver.endpoints.create(EndpointRequest.read(N1, E2, "192.168.1.9/24"))
        steady.advance(YOUNG_SECONDS)
        rig.clock.advance(YOUNG_SECONDS)
        driver.liveness.learn([], driver.liveness.moment())
    await driver.endpoints.create(EndpointRequest.read(N1, E2, "192.168.1.9/24"))


async def test_of_two_addresses_the_one_that_can_be_is_claimed_again() -> None:
    """Somebody else has the other one by now, and the error says so."""
    rig = await _rig(LAN, Subnet("fd18::/64", gateway="fd18::1"))
    for lost, kept in (("192.168.1.9", "fd18::9"), ("fd18::9", "192.168.1.9")):
        await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.9/24", "fd18::9/64"))
        for record in await rig.driver.addresses.all():
            if record.kind == "endpoint":
                await rig.driver.addresses.give_back(record)
        pool = PoolRecord(space="macvlan-global", subnet="fd18::/64" if ":" in lost else "192.168.1.0/24", at=0)
        await rig.driver.claims.claim(pool, ip_address(lost), Holder("endpoint", N1, E2))
        with pytest.raises(Conflict, match=lost):
            await rig.driver.endpoints.claim_again(E1)
        held = {each.address: each.endpoint for each in await rig.driver.addresses.all() if each.endpoint}
        assert held == {lost: E2, kept: E1}
        for endpoint in (E1, E2):
            await rig.driver.endpoints.delete(N1, endpoint, release_follows=False)
        for record in await rig.driver.addresses.all():
            if record.kind == "endpoint":
                await rig.driver.addresses.give_back(record)


async def test_an_adopted_endpoint_holds_its_address() -> None:
    """What the engine has and the state lost; adopting twice is the same."""
    rig = await _rig()
    wanted = EndpointRequest.read(N1, E1, "192.168.1.9", mac="02:00:00:00:00:aa")
    for _ in range(2):
        await rig.driver.endpoints.adopt(wanted, sandbox="/netns/c1", container="c1")
    with pytest.raises(Conflict, match="container c1"):
        await rig.driver.ipam.request_address(POOL, "192.168.1.9")
    await rig.driver.endpoints.delete(N1, E1)
    assert (await _kinds(rig))["192.168.1.9"] == "reserved"


@pytest.mark.parametrize(("taken", "left"), [("192.168.1.9", "fd18::9"), ("fd18::9", "192.168.1.9")])
async def test_an_adoption_that_conflicts_holds_the_other_address(taken: str, left: str) -> None:
    """Somebody else has one of them: the store was restored from an older copy, and the state folder lost. The
    container runs, so it is recorded; its end takes nothing from the other one."""
    rig = await _rig(LAN, Subnet("fd18::/64", gateway="fd18::1"))
    first = ("", taken) if ":" in taken else (taken, "")
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, *first))
    wanted = EndpointRequest.read(N1, E2, "192.168.1.9", "fd18::9", "02:00:00:00:00:aa")
    with pytest.raises(Conflict, match=taken):
        await rig.driver.endpoints.adopt(wanted, sandbox="/netns/c2", container="c2")
    held = {each.address: each.endpoint for each in await rig.driver.addresses.all() if each.endpoint}
    assert held == {taken: E1, left: E2}
    assert (await rig.driver.endpoints.get(N1, E2)).container == "c2"
    await rig.driver.endpoints.delete(N1, E2, release_follows=False)
    assert {each.address for each in await rig.driver.addresses.all() if each.endpoint} == {taken}


async def test_a_containers_name_is_learnt_and_used_in_errors() -> None:
    """Docker tells it only later."""
    rig = await _rig()
    await rig.driver.endpoints.create(EndpointRequest.read(N1, E1, "192.168.1.9/24"))
    record = await rig.driver.endpoints.get(N1, E1)
    await rig.driver.endpoints.name(record, "web")
    with pytest.raises(Conflict, match="container web"):
        await rig.driver.ipam.request_address(POOL, "192.168.1.9")


async def test_many_containers_start_and_stop_at_once() -> None:
    """Everyone has an address of its own, and nothing is left of them."""
    rig = await _rig()
    before = await rig.snapshot()
    names = [f"c{number}" for number in range(50)]
    containers = await asyncio.gather(*(rig.engine.run(name, "n1") for name in names))
    assert len({each.address for each in containers}) == 50
    await asyncio.gather(*(rig.engine.stop(name) for name in names))
    assert await rig.snapshot() == before


async def test_an_endpoint_that_was_told_of_and_is_undone_is_told_of_again() -> None:
    """The answer to its creation was lost with the driver, and the repeated request cannot be done: the store is away.
    The engine takes it for never made."""
    rig = await ClusterRig.build()
    made: list[str] = []
    hooks = ClusterHooks(
        on_created=lambda endpoint, _network: made.append(endpoint.id),
        on_deleted=lambda endpoint: made.remove(endpoint.id),
    )
    host = await rig.host("a", hooks)
    request = await _created(host)
    assert made == [request.id]
    host = await rig.restart("a", hooks)
    host.faults.away = True
    with pytest.raises(Unavailable):
        await host.driver.endpoints.create(request)
    assert (await host.driver.endpoints.all(), made) == ([], [])


async def test_an_endpoint_that_was_answered_stays_when_its_request_comes_twice() -> None:
    """The engine sends it twice and goes by the first answer, and the store is away by the second one: the same answer,
    and nobody else gets the address."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    request = await _created(host)
    (before,) = await host.driver.endpoints.all()
    host.faults.away = True
    assert await host.driver.endpoints.create(request) == before.mac
    host.faults.away = False
    await host.outbox.deliver()
    held = {each.address: each.endpoint for each in await host.driver.addresses.all() if each.endpoint}
    assert held == {str(request.address): request.id}
    assert await host.driver.endpoints.all() == [before]


async def _created(host: ClusterHost) -> EndpointRequest:
    """An endpoint on a new network of the host, as it was requested."""
    network = await host.engine.create_network("lan", Subnet("10.8.0.0/24"), options={"parent": "eth0"})
    (pool,) = await host.driver.pools.all()
    cidr = await host.driver.ipam.request_address(pool_id(pool), "")
    request = EndpointRequest.read(network, "e" * 64, cidr)
    await host.driver.endpoints.create(request)
    return request


async def test_an_endpoint_that_goes_with_its_network_is_told_of() -> None:
    """The kernel plays it: the end of a container fails, and the engine forgets it and removes the network."""
    rig = await ClusterRig.build()
    made: list[str] = []
    hooks = ClusterHooks(
        on_created=lambda endpoint, _network: made.append(endpoint.id),
        on_deleted=lambda endpoint: made.remove(endpoint.id),
    )
    host = await rig.host("a", hooks)
    network = await host.engine.create_network("lan", Subnet("10.8.0.0/24"), options={"parent": "eth0"})
    container = await host.engine.run("web", "lan")
    host.kernel.failing["delete"] = Unavailable("not now")
    await host.engine.stop("web")
    assert (made, host.driver.endpoints.counts(network).endpoints) == ([container.endpoint], 1)
    await host.engine.remove_network("lan")
    assert (made, host.driver.endpoints.counts(network).endpoints) == ([], 0)
    assert await host.driver.endpoints.all() == []
