"""Networks on one wire: moby's TestMacvlanIPAMOverlap, and gateways and aux addresses in common (B03)."""

import pytest

from macvlan_global.errors import Conflict
from testkit.cluster_rig import ClusterRig
from testkit.fake_engine import Subnet
from testkit.looking import looking
from testkit.rig import Rig

OPTIONS = {"parent": "eth0"}
FOUR, SIX = "192.168.0.0/24", "2001:db8:abcd::/64"


async def _usage(rig: Rig) -> dict[str, tuple[int, int]]:
    """Addresses held in the window of each pool, and its size."""
    return {each.range or each.subnet: rig.driver.pools.usage(each) for each in await rig.driver.pools.all()}


async def test_three_networks_with_joined_and_overlapping_ranges() -> None:
    """A container on one of them takes an address from all that have it in their range."""
    rig = await Rig.build("eth0")
    first = Subnet(FOUR, "192.168.0.0/25", gateway="192.168.0.1", aux={"reserved": "192.168.0.100"})
    await rig.engine.create_network("n1", first, Subnet(SIX, "2001:db8:abcd::/124"), options=OPTIONS)
    await rig.engine.create_network("n2", Subnet(FOUR, FOUR), Subnet(SIX, "2001:db8:abcd::/120"), options=OPTIONS)
    third = Subnet(FOUR, "192.168.0.128/25")
    await rig.engine.create_network("n3", third, Subnet(SIX, "2001:db8:abcd::80/124"), options=OPTIONS)
    before = await _usage(rig)
    assert (before["192.168.0.0/25"], before[FOUR], before["192.168.0.128/25"]) == ((2, 127), (2, 254), (0, 127))
    web = await rig.engine.run("web", "n1")
    after = await _usage(rig)
    assert (after["192.168.0.0/25"], after[FOUR], after["192.168.0.128/25"]) == ((3, 127), (3, 254), (0, 127))
    assert [after[f"2001:db8:abcd::{part}"][0] for part in ("/124", "/120", "80/124")] == [1, 1, 0]
    got = {
        address
        for name in ("n1", "n2", "n3")
        for number in range(4)
        for address in (await rig.engine.run(f"{name}-{number}", name)).addresses
    }
    assert len(got | set(web.addresses)) == 2 * (3 * 4 + 1)


async def test_two_networks_share_router_and_host_and_keep_them_until_the_last_goes() -> None:
    """Ranges of their own, one gateway, one aux address; removed in the order in which they were made."""
    rig = await Rig.build("eth0", "eth1")
    common = {"gateway": "192.168.34.1", "aux": {"host": "192.168.34.5"}}
    for name, parent, part in (("a", "eth0", "64"), ("b", "eth1", "128")):
        subnet = Subnet("192.168.34.0/24", f"192.168.34.{part}/26", **common)  # type: ignore[arg-type]
        async with looking(rig.driver, rig.engine):
            await rig.engine.create_network(name, subnet, options={"parent": parent})
    for name in ("a", "b"):
        web = await rig.engine.run(f"web-{name}", name)
        assert web.joined and web.joined.gateway == "192.168.34.1"
        with pytest.raises(Conflict, match="aux address host"):
            await rig.engine.run("thief", name, ip="192.168.34.5")
        assert await rig.mend() == []
    await rig.engine.stop("web-a")
    await rig.engine.remove_network("a")
    assert await rig.mend() == []
    kept = {each.address: (each.kind, each.network) for each in await rig.driver.addresses.all()}
    network = rig.engine.id_of("b")
    assert kept["192.168.34.1"] == ("gateway", network)
    assert kept["192.168.34.5"] == ("aux", network)
    await rig.engine.stop("web-b")
    await rig.engine.remove_network("b")
    assert await rig.driver.addresses.all() == []


async def test_a_shared_gateway_goes_with_the_last_network_whoever_made_it() -> None:
    """Made on different hosts; repair on either finds nothing to correct, and gives back what a lost removal left."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("low", Subnet("10.9.0.0/24", "10.9.0.0/25", gateway="10.9.0.1"))
    await other.join("low", one)
    await other.publish("high", Subnet("10.9.0.0/24", "10.9.0.128/25", gateway="10.9.0.1"))
    await one.join("high", other)
    for host in (one, other):
        assert await host.mend() == []
    await one.engine.remove_network("low")
    (held,) = await one.driver.addresses.all()
    assert (held.kind, held.network, held.host, held.sharers) == ("gateway", other.engine.id_of("high"), "b", [])
    for host in (one, other):
        assert await host.mend() == []


async def test_a_container_may_be_the_gateway_of_two_networks() -> None:
    """It is on one of them; the other's containers are refused its address, and get it as their gateway."""
    rig = await Rig.build("eth0")
    for name, part in (("a", "64"), ("b", "128")):
        subnet = Subnet("10.9.0.0/24", f"10.9.0.{part}/26", gateway="10.9.0.2")
        await rig.engine.create_network(name, subnet, options=OPTIONS)
    await rig.engine.run("router", "a", ip="10.9.0.2")
    assert await rig.mend() == []
    with pytest.raises(Conflict, match=r"10\.9\.0\.2 is in use by endpoint"):
        await rig.engine.run("thief", "b", ip="10.9.0.2")
    web = await rig.engine.run("web", "b")
    assert web.joined and web.joined.gateway == "10.9.0.2"
    await rig.engine.stop("web")
    await rig.engine.remove_network("b")
    await rig.engine.stop("router")
    (held,) = await rig.driver.addresses.all()
    assert (held.kind, held.network, held.sharers) == ("gateway", rig.engine.id_of("a"), [])


async def test_a_gateway_that_a_container_has_as_its_own_address_is_refused() -> None:
    """An ordinary one, of another network."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("a", Subnet("10.9.0.0/24"), options=OPTIONS)
    await rig.engine.run("web", "a", ip="10.9.0.1")
    with pytest.raises(Conflict, match=r"10\.9\.0\.1 is in use by endpoint"):
        await rig.engine.create_network("b", Subnet("10.9.0.0/25", gateway="10.9.0.1"), options=OPTIONS)
    assert [each.network for each in await rig.driver.pools.all()] == [rig.engine.id_of("a")]


@pytest.mark.parametrize("overlapped", [False, True], ids=["a subnet of its own", "another network overlaps it"])
async def test_what_another_host_let_go_of_last_is_free_on_the_host_that_claimed_it(overlapped: bool) -> None:
    """The network is removed where it was made while a container runs elsewhere: its aux address is free afterwards."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", Subnet("10.8.0.0/29", gateway="10.8.0.1", aux={"router": "10.8.0.2"}))
    await other.join("lan", one)
    if overlapped:
        await one.publish("wide", Subnet("10.8.0.0/24", gateway="10.8.0.1"))
    await other.engine.run("web", "lan")
    await one.engine.remove_network("lan")
    assert {"10.8.0.1", "10.8.0.2"} < {each.address for each in await one.driver.addresses.all()}
    await other.engine.stop("web")
    await other.engine.remove_network("lan")
    await one.publish("new", Subnet("10.8.0.0/24", "10.8.0.0/29", gateway="10.8.0.1"))
    got = {(await one.engine.run(f"c{number}", "new")).address for number in range(6)}
    assert got == {f"10.8.0.{number}/24" for number in range(2, 8)}
