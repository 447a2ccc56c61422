"""One network on several hosts: joined, not taken twice; refused where it could not be unique."""

import contextlib
from ipaddress import ip_network

import pytest

from macvlan_global.driver.requests import NetworkRequest, SubnetRequest
from macvlan_global.errors import Conflict, Exhausted, Invalid, NotFound, Unavailable
from macvlan_global.ipam.conflicts import PoolOverlaps
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.reconcile.apply import Reconciler
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import Subnet, engine_id
from testkit.looking import looking

LAN = Subnet("10.9.0.0/24", gateway="10.9.0.1", aux={"router": "10.9.0.2"})
TINY = Subnet("10.9.0.0/29")


async def two(subnet: Subnet = LAN) -> tuple[ClusterHost, ClusterHost]:
    """Two hosts with one network, `lan`."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", subnet)
    await other.join("lan", one)
    return one, other


async def test_a_joined_network_has_the_id_of_the_first() -> None:
    """Pool, gateway and aux addresses are written once; each host has a record of its own."""
    one, other = await two()
    (here,) = await one.driver.networks.all()
    (there,) = await other.driver.networks.all()
    assert here.id != there.id
    assert here.shared_id == there.shared_id == here.id
    assert [each.network for each in await one.driver.pools.all()] == [here.id]
    assert {each.kind for each in await one.driver.addresses.all()} == {"gateway", "aux"}


async def test_the_network_s_aux_addresses_are_refused_to_containers() -> None:
    """Joining may ask for them again; afterwards they are as taken as any, on every host."""
    _, other = await two()
    with pytest.raises(Conflict, match="in use by network lan as its aux address"):
        await other.engine.run("thief", "lan", ip="10.9.0.2")


async def test_an_aux_address_is_refused_to_a_container_though_the_pool_was_asked_for_again() -> None:
    """The request came late a second time; the network is made here already."""
    one, other = await two()
    ipam = other.driver.ipam
    pool, _ = await ipam.request_pool(LAN.subnet, "", {"network": one.engine.id_of("lan")}, ipv6=False)
    with pytest.raises(Conflict, match="in use by network lan as its aux address"):
        await ipam.request_address(pool, "10.9.0.2")


async def test_a_request_for_a_copy_that_comes_again_is_answered_as_before() -> None:
    """The engine plays it: it did not get the answer. The host has no usable parent, and another release made the
    network, with an option that is not known here; containers cannot start on it, and it exists all the same."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    network = await one.publish("lan", LAN)
    other.kernel.hosted.pop("eth0")
    pool, _ = await other.driver.ipam.request_pool(LAN.subnet, "", {"network": network}, ipv6=False)
    for address in (LAN.gateway, LAN.aux["router"]):
        await other.driver.ipam.request_address(pool, address, gateway=address == LAN.gateway)
    subnet = SubnetRequest.read("macvlan-global", LAN.subnet, LAN.gateway, LAN.aux)
    copy = NetworkRequest(engine_id("lan on b"), {"parent": "eth0", "new": "1"}, subnets=(subnet,))
    await other.driver.networks.create(copy)
    before = await other.driver.networks.all()
    await other.driver.networks.create(copy)
    assert await other.driver.networks.all() == before
    assert [(each.shared_id, each.parent) for each in before] == [(network, "")]


async def test_a_join_that_was_broken_off_makes_the_next_network_no_copy_of_a_removed_one() -> None:
    """The engine asked for the pool and for nothing else; the network is removed, and its subnet is the next one's."""
    rig = await ClusterRig.build(new_ids=True)
    one, other = await rig.host("a"), await rig.host("b")
    lan = await one.publish("lan", LAN)
    await other.driver.ipam.request_pool(LAN.subnet, "", {"network": lan}, ipv6=False)
    await one.engine.remove_network("lan")
    await one.outbox.deliver()
    new = await other.publish("new", LAN)
    assert [each.shared_id for each in await other.driver.networks.all()] == [new]
    assert [each.network for each in await one.driver.pools.all()] == [new]
    await one.join("new", other)


async def test_one_container_of_the_cluster_may_be_its_network_s_gateway() -> None:
    """By --ip. A second one is told who it is, on whichever host, and afterwards it is the network's alone."""
    one, other = await two()
    router = await other.engine.run("router", "lan", ip="10.9.0.1")
    for host in (one, other):
        with pytest.raises(Conflict, match=r"address 10.9.0.1 is in use by (container|endpoint) .* on host b"):
            await host.engine.run("thief", "lan", ip="10.9.0.1")
        assert await host.mend() == []
    assert router.address == "10.9.0.1/24"
    assert router.joined
    assert router.joined.gateway == "", "it has no route by itself"
    await other.engine.stop("router")
    row = await one.driver.tables.addresses.get("macvlan-global", "10.9.0.1")
    assert row
    assert (row.record.kind, row.record.endpoint, row.record.sharers) == ("gateway", "", [])
    await one.engine.run("next", "lan", ip="10.9.0.1")


async def test_an_address_of_another_host_is_refused_with_its_holder() -> None:
    """The container and the host are named; the record of names tells which."""
    one, other = await two()
    await one.engine.run("web", "lan", ip="10.9.0.9")
    with pytest.raises(Conflict, match=r"address 10.9.0.9 is in use by endpoint .* on host a"):
        await other.engine.run("db", "lan", ip="10.9.0.9")


async def test_hosts_begin_at_different_places() -> None:
    """So that in the normal case none loses a candidate to the other."""
    one, other = await two()
    first = [(await one.engine.run(f"a{number}", "lan")).address for number in range(5)]
    second = [(await other.engine.run(f"b{number}", "lan")).address for number in range(5)]
    assert not set(first) & set(second)
    assert "10.9.0.3/24" not in {first[0], second[0]}


async def test_a_pool_is_filled_to_its_last_address_from_two_hosts() -> None:
    """Though neither hears what the other takes and gives back."""
    one, other = await two(TINY)
    hosts = [one, other] * 3
    got = [await host.engine.run(f"c{number}", "lan") for number, host in enumerate(hosts)]
    assert len({each.address for each in got}) == 6
    with pytest.raises(Exhausted, match="no free address is left"):
        await one.engine.run("late", "lan")
    await other.engine.stop(got[1].name)
    assert (await one.engine.run("late", "lan")).address == got[1].address


@pytest.mark.parametrize("runs", [False, True])
async def test_an_address_that_was_lost_in_a_restore_is_this_host_s_only_while_its_container_runs(runs: bool) -> None:
    """Of a container that ended unseen: its row was there when the driver started, and is not in the older copy. Others
    ask for all that is left, before repair has claimed the address of one that runs again."""
    rig = await ClusterRig.build()
    one = await rig.host("a")
    await one.publish("lan", TINY)
    await one.engine.run("c1", "lan", ip="10.9.0.3")
    if not runs:
        one.plugin.runs = False
        await one.engine.stop("c1")
        (endpoint,) = await one.driver.endpoints.all()
        await one.driver.tables.endpoints.drop(endpoint.network, endpoint.id)
        one.plugin.runs = True
    one = await rig.restart("a")
    await one.driver.tables.addresses.drop("macvlan-global", "10.9.0.3")
    claims = one.driver.pools.claims_of_containers()
    assert [str(each.address) for each in claims] == ["10.9.0.3"]
    await one.mend()
    await one.driver.tables.addresses.drop("macvlan-global", "10.9.0.3")
    got = set()
    with contextlib.suppress(Exhausted):
        while True:
            got.add(await one.driver.ipam.request_address("macvlan-global/10.9.0.0/29", ""))
    assert ("10.9.0.3/29" in got) == (not runs)


async def test_an_address_of_a_container_whose_record_cannot_be_read_is_not_given_away() -> None:
    """A newer version wrote it, or it is damaged. The store has lost the address in a restore; the engine has it."""
    rig = await ClusterRig.build()
    one = await rig.host("a")
    await one.publish("lan", TINY)
    await one.engine.run("c1", "lan", ip="10.9.0.3")
    table = one.driver.tables.endpoints
    (endpoint,) = await one.driver.endpoints.all()
    entry = await one.disk.get(table.key(endpoint.network, endpoint.id))
    assert entry
    await one.disk.replace(entry, b'{"v":2}')
    one = await rig.restart("a")
    await one.driver.tables.addresses.drop("macvlan-global", "10.9.0.3")
    await one.mend()
    got = set()
    with contextlib.suppress(Exhausted):
        while True:
            got.add(await one.driver.ipam.request_address("macvlan-global/10.9.0.0/29", ""))
    assert "10.9.0.3/29" not in got
    assert len(got) == 5


async def test_the_creator_goes_and_the_network_stays() -> None:
    """Its copy is forgotten on one host only; pool and gateway are the cluster's."""
    one, other = await two()
    (here,) = await one.driver.networks.all()
    await one.driver.networks.delete(here.id, everywhere=False)
    assert len(await other.driver.pools.all()) == 1
    assert (await other.engine.run("db", "lan")).address


async def test_a_copy_that_fails_leaves_the_cluster_s_alone() -> None:
    """The engine takes back what it asked for; the pool and the gateway are not this host's to give back."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    other.kernel.hosted.clear()
    before = await one.driver.addresses.all()
    network = one.engine.id_of("lan")
    pool, subnet = await other.driver.ipam.request_pool(LAN.subnet, "", {"network": network}, ipv6=False)
    await other.driver.ipam.request_address(pool, "10.9.0.1", gateway=True)
    await other.driver.ipam.release_address(pool, "10.9.0.1/24")
    await other.driver.ipam.release_pool(pool)
    assert await one.driver.addresses.all() == before
    assert [each.subnet for each in await one.driver.pools.all()] == [subnet]


async def test_a_host_without_a_usable_parent_still_has_the_network() -> None:
    """A container there fails with the reasons; when a parent comes, the next one starts."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    other.kernel.hosted.clear()
    await one.publish("lan", LAN)
    await other.join("lan", one)
    with pytest.raises(Unavailable, match="eth0"):
        await other.engine.run("db", "lan")
    assert [each.kind for each in await one.driver.addresses.all()].count("endpoint") == 0


async def test_other_ipam_drivers_are_refused_with_the_command_that_works() -> None:
    """Docker's own IPAM knows nothing of other hosts."""
    rig = await ClusterRig.build()
    one = await rig.host("a")
    wanted = NetworkRequest(
        "n1",
        {"parent": "eth0"},
        internal=True,
        subnets=(SubnetRequest.read("LocalDefault", "10.9.0.0/24", "10.9.0.1/24", {"router": "10.9.0.2/24"}),),
    )
    with pytest.raises(Invalid) as refused:
        await one.driver.networks.create(wanted)
    assert str(refused.value).endswith(
        "use: docker network create -d macvlan-global --ipam-driver macvlan-global --subnet=10.9.0.0/24 "
        '--gateway=10.9.0.1 --aux-address="router=10.9.0.2" --internal -o parent="eth0" NAME'
    )
    assert await one.driver.networks.all() == []


async def test_a_pool_of_another_host_s_network_is_refused_by_name() -> None:
    """Also where the network is not known yet."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    with pytest.raises(Conflict, match="network lan has it"):
        await other.engine.create_network("mine", LAN, options={"parent": "eth0"})


async def _removed_under_a_container() -> tuple[ClusterHost, ClusterHost, str]:
    """Two hosts and the address of a container on the second one: its network was removed on the first."""
    rig = await ClusterRig.build(new_ids=True)
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    await other.join("lan", one)
    db = await other.engine.run("db", "lan")
    await one.engine.remove_network("lan")
    return one, other, db.address.partition("/")[0]


async def test_a_pool_that_is_still_in_use_after_the_removal_says_so() -> None:
    """On a host that has the removed network itself, its subnet is free with the last container there."""
    _, other, _ = await _removed_under_a_container()
    with pytest.raises(Conflict, match=r"network lan \(removed, and containers still run on it\) has it"):
        await other.engine.create_network("again", LAN, options={"parent": "eth0"})


async def test_a_network_created_anew_gets_the_pool_of_the_removed_one_that_ends_elsewhere() -> None:
    """The container there keeps its address, for which nobody else is taken, and its end takes nothing from the new."""
    one, other, address = await _removed_under_a_container()
    async with looking(one.driver, one.engine):
        again = await one.publish("lan", LAN)
    with pytest.raises(Conflict, match=f"address {address} is in use by endpoint .* on host b"):
        await one.engine.run("thief", "lan", ip=address)
    web = await one.engine.run("web", "lan")
    for host in (one, other):
        assert await host.mend() == []
    await other.engine.stop("db")
    await other.engine.remove_network("lan")
    assert [each.network for each in await one.driver.pools.all()] == [again]
    held = {(each.address, each.network) for each in await one.driver.addresses.all()}
    assert held == {(each, again) for each in ("10.9.0.1", "10.9.0.2", web.address.partition("/")[0])}
    await other.join("lan", one)
    await other.engine.run("db", "lan", ip=address)


async def test_a_removed_network_runs_on_beside_one_in_its_place_that_fails() -> None:
    """The engine takes back the pool that it asked for; a container of the removed network keeps its address."""
    one, _, address = await _removed_under_a_container()
    async with looking(one.driver, one.engine):
        with pytest.raises(Invalid, match="nosuch0"):
            await one.engine.create_network("lan", LAN, options={"parent": "nosuch0"})
        assert await one.driver.pools.all() == []
        assert [each.address for each in await one.driver.addresses.all() if each.kind == "endpoint"] == [address]
        await one.publish("lan", LAN)
    with pytest.raises(Conflict, match=f"address {address} is in use"):
        await one.engine.run("thief", "lan", ip=address)


async def test_the_pool_of_a_removed_network_goes_to_one_host_only() -> None:
    """Two hosts that create it anew at once: the second is refused, as with any subnet."""
    rig = await ClusterRig.build(new_ids=True)
    one, other, third = [await rig.host(name) for name in "abc"]
    await one.publish("lan", LAN)
    await other.join("lan", one)
    await other.engine.run("db", "lan")
    await one.engine.remove_network("lan")
    (removed,) = await one.driver.pools.all()
    await one.driver.ipam.request_pool(LAN.subnet, "", {}, ipv6=False)
    with pytest.raises(Conflict, match="a network is being created with it"):
        await third.driver.ipam.request_pool(LAN.subnet, "", {}, ipv6=False)
    with pytest.raises(PoolOverlaps):
        await third.driver.pools.take_over(removed)


async def test_a_reservation_of_another_host_is_left_to_it() -> None:
    """Two hosts create with one subnet at once: the second is refused, and its cleaning up takes nothing away."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    pool, subnet = await one.driver.ipam.request_pool(LAN.subnet, "", {}, ipv6=False)
    with pytest.raises(Conflict, match="a network is being created with it"):
        await other.driver.ipam.request_pool(LAN.subnet, "", {}, ipv6=False)
    await other.driver.ipam.release_pool(pool)
    assert (await one.driver.claims.claim_pool(ip_network(subnet), "n1")).network == "n1"


@pytest.mark.parametrize("value", ["x" * 65, "XYZ", "../etc"])
async def test_what_is_no_network_of_the_cluster_is_refused(value: str) -> None:
    """`--ipam-opt network=` is for our own replication."""
    rig = await ClusterRig.build()
    one = await rig.host("a")
    with pytest.raises(Invalid, match="--ipam-opt network="):
        await one.driver.ipam.request_pool(LAN.subnet, "", {"network": value}, ipv6=False)
    assert await one.driver.pools.all() == []


async def test_a_network_whose_publication_was_forgotten_is_removed_as_the_cluster_s() -> None:
    """Its creator lost its state, and its operator removes it before it is known again that all hosts have it."""
    one, other = await two()
    here = one.engine.id_of("lan")
    await other.engine.run("db", "lan", ip="10.9.0.9")
    await one.driver.tables.networks.drop(here)
    await one.mend()
    await one.engine.remove_network("lan")
    assert [row.record.name for row in await one.driver.tables.removed.scan()] == ["lan"]
    assert await one.driver.tables.definitions.scan() == []
    assert [each.address for each in await one.driver.addresses.all() if each.kind == "endpoint"] == ["10.9.0.9"]


async def test_a_network_whose_publication_was_forgotten_can_be_forgotten_here() -> None:
    """Then it stays what it is on the others."""
    one, other = await two()
    here = one.engine.id_of("lan")
    await one.driver.tables.networks.drop(here)
    await one.mend()
    before = await other.driver.addresses.all()
    await one.driver.networks.delete(here, everywhere=False)
    assert (await other.driver.addresses.all(), await other.driver.tables.removed.scan()) == (before, [])


async def test_a_network_that_repair_misses_is_not_removed_from_the_cluster() -> None:
    """Its creator lost its state, learnt it anew, and then its engine lost the network: the others keep it."""
    one, other = await two()
    await one.driver.tables.networks.drop(one.engine.id_of("lan"))
    await one.mend()
    one.engine.forget_network("lan")
    before = await other.driver.addresses.all()
    assert [type(each).__name__ for each in await one.mend()] == ["DeleteNetwork"]
    assert await one.driver.networks.all() == []
    assert (await other.driver.addresses.all(), await other.driver.tables.removed.scan()) == (before, [])
    assert [row.record.name for row in await other.driver.tables.definitions.scan()] == ["lan"]


async def test_a_network_that_is_removed_everywhere_while_the_driver_is_down_leaves_nothing_on_its_host() -> None:
    """Its tombstone is there when the driver looks, so nobody has to be told of the removal."""
    one, other = await two()
    other.plugin.runs = False
    await other.engine.remove_network("lan")
    await one.engine.remove_network("lan")
    other.plugin.runs = True
    assert [each.name for each in await other.driver.networks.all()] == ["lan"]
    assert [type(each).__name__ for each in await other.mend()] == ["DeleteNetwork"]
    assert await other.driver.networks.all() == []
    assert (await other.driver.pools.all(), await other.driver.addresses.all()) == ([], [])
    assert await other.mend() == []


async def test_an_adoption_that_fails_takes_nothing_from_the_others() -> None:
    """Whichever step of it fails: what the network has in the store is in use elsewhere."""
    one, other = await two()
    here = one.engine.id_of("lan")
    await other.engine.run("db", "lan", ip="10.9.0.9")
    held = {each.address for each in await other.driver.addresses.all()}
    step, struck = 0, True
    while struck:
        step += 1
        await one.driver.tables.networks.drop(here)
        one.faults.arm(step)
        await one.mend()
        struck = len(one.faults.taken) >= step
        one.faults.arm(0)
        assert {each.address for each in await other.driver.addresses.all()} == held, step
        assert len(await other.driver.pools.all()) == 1
    assert await one.driver.tables.networks.get(here)


async def test_a_network_that_is_adopted_has_containers_that_ask() -> None:
    """Its state was lost, and the engine has it: an address that is the gateway, and another host's container by now,
    is refused at once, though the network is not recorded yet."""
    one, other = await two()
    network = one.engine.id_of("lan")
    await other.engine.run("router", "lan", ip="10.9.0.1")
    await one.driver.tables.networks.drop(network)
    (pool,) = await one.driver.pools.all()
    with pytest.raises(Conflict, match=r"address 10\.9\.0\.1 is in use by endpoint .* on host b"):
        await one.driver.ipam.request_address(pool_id(pool), "10.9.0.1")
    await one.driver.ipam.request_pool(LAN.subnet, "", {"network": network}, ipv6=False)
    await one.driver.ipam.request_address(pool_id(pool), "10.9.0.1")


async def test_a_network_that_is_created_beside_one_that_is_joined_is_not_taken_for_it() -> None:
    """Both have one subnet: CreateNetwork names no pool. With another subnet besides it is known for what it is."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    network = await one.publish("lan", Subnet("10.9.0.0/24", "10.9.0.0/26"))
    await other.driver.ipam.request_pool("10.9.0.0/24", "10.9.0.0/26", {"network": network}, ipv6=False)
    far = await other.engine.create_network(
        "far", Subnet("10.9.0.0/24", "10.9.0.64/26"), Subnet("fd09::/64"), options={"parent": "eth0"}
    )
    assert {(each.subnet, each.range) for each in await one.driver.pools.all() if each.network == far} == {
        ("10.9.0.0/24", "10.9.0.64/26"),
        ("fd09::/64", ""),
    }
    with pytest.raises(Conflict, match=r"several networks with subnet 10\.9\.0\.0/24 are being created at once"):
        await other.engine.create_network("near", Subnet("10.9.0.0/24", "10.9.0.128/26"), options={"parent": "eth0"})
    await other.join("lan", one)
    await other.engine.create_network("near", Subnet("10.9.0.0/24", "10.9.0.128/26"), options={"parent": "eth0"})
    assert len({each.network for each in await one.driver.pools.all()}) == 3


async def test_a_network_whose_pool_another_one_has_by_now_is_adopted() -> None:
    """The store is that of an older copy, in which a removed network has the pool; the state folder is lost, too. The
    container runs, so its address is nobody else's."""
    rig = await ClusterRig.build(new_ids=True)
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("old", LAN)
    (pool,) = await one.driver.pools.all()
    await one.engine.remove_network("old")
    await one.driver.pools.drop_network(pool.network)
    await one.driver.tables.removed.drop(pool.network)
    network = await one.publish("lan", LAN)
    here = await other.join("lan", one)
    web = await other.engine.run("web", "lan", ip="10.9.0.9")
    await one.driver.tables.pools.put(pool, pool.space, pool.subnet)
    await one.driver.tables.addresses.drop(pool.space, "10.9.0.9")
    await other.driver.tables.networks.drop(here)
    await other.driver.tables.endpoints.drop(here, web.endpoint)
    rig.clock.advance(3600)
    other = await rig.restart("b")
    await other.mend(grace=60)
    (record,) = await other.driver.networks.all()
    assert (record.shared_id, [each.subnet for each in record.subnets]) == (network, ["10.9.0.0/24"])
    held = {each.address: each for each in await one.driver.addresses.all()}
    assert (held["10.9.0.9"].kind, held["10.9.0.9"].network, held["10.9.0.9"].host) == ("endpoint", network, "b")
    with pytest.raises(Conflict, match=r"10\.9\.0\.9 is in use"):
        await one.engine.run("thief", "lan", ip="10.9.0.9")
    reconciler = Reconciler(other.driver, grace=60, now=rig.clock)
    await reconciler.reconcile(other.engine)
    assert [f"overlaps with {pool.subnet}" in each for each in reconciler.problems] == [True]
    await other.engine.stop("web")
    assert "10.9.0.9" not in {each.address for each in await one.driver.addresses.all()}
    await one.driver.pools.drop_network(pool.network)  # the other network is removed, as the operator was told
    other = await rig.restart("b")
    with pytest.raises(NotFound):
        await other.engine.run("web", "lan")
    assert other.driver.ipam.missed.is_set()
    await other.mend(grace=60)
    await other.engine.run("web", "lan")


async def test_a_network_that_is_adopted_is_taken_for_no_other_one() -> None:
    """Its pool is another network's by now, which is just joined here; and another space of the same subnet is just
    reserved. It keeps its id, its space and its range; and the others what they have."""
    rig = await ClusterRig.build(new_ids=True)
    one, other = await rig.host("a"), await rig.host("b")
    former = await other.engine.create_network("former", LAN, options={"parent": "eth0"})
    (lost,) = await other.driver.pools.all()
    await other.driver.tables.networks.drop(former)
    await other.driver.pools.drop_network(former)
    lan = await one.publish("lan", LAN)
    await other.driver.ipam.request_pool(LAN.subnet, "", {"network": lan}, ipv6=False)
    far, _ = await other.driver.ipam.request_pool(LAN.subnet, "", {"space": "far"}, ipv6=False)
    await other.mend(grace=60)
    (record,) = await other.driver.networks.all()
    assert (record.id, record.cluster, [each.space for each in record.subnets]) == (former, former, [lost.space])
    pools = {pool_id(each): each.network for each in await one.driver.pools.all()}
    assert pools == {pool_id(lost): lan, far: ""}
    await other.engine.remove_network("former")
    pools = {pool_id(each): each.network for each in await one.driver.pools.all()}
    assert pools == {pool_id(lost): lan, far: ""}
    assert await one.driver.tables.removed.scan() == []


@pytest.mark.parametrize("is_published", [False, True])
async def test_a_network_that_is_removed_takes_the_addresses_of_its_last_containers_along(is_published: bool) -> None:
    """The engine plays it: it forgot a container whose end had failed, and removes the network."""
    rig = await ClusterRig.build(new_ids=True)
    host = await rig.host("a")
    if is_published:
        await host.publish("lan", LAN)
    else:
        await host.engine.create_network("lan", LAN, options={"parent": "eth0"})
    await host.engine.run("web", "lan", ip="10.9.0.9")
    host.engine.forget("web")
    await host.engine.remove_network("lan")
    assert await host.driver.addresses.all() == []
    assert await host.driver.pools.all() == []
    assert not host.driver.networks.leftovers.suspected.is_set()


async def test_a_network_whose_addresses_are_not_all_known_leaves_the_rest_to_repair() -> None:
    """The state folder plays it: it lost the record of a container, whose address keeps the network's pool."""
    rig = await ClusterRig.build(new_ids=True)
    host = await rig.host("a")
    network = await host.engine.create_network("lan", LAN, options={"parent": "eth0"})
    container = await host.engine.run("web", "lan", ip="10.9.0.9")
    await host.driver.tables.endpoints.drop(network, container.endpoint)
    host.engine.forget("web")
    await host.engine.remove_network("lan")
    assert host.driver.networks.leftovers.suspected.is_set()
    rig.clock.advance(60)
    await host.mend(grace=60)
    assert await host.driver.addresses.all() == []
    assert await host.driver.pools.all() == []
