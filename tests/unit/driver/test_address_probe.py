"""Duplicate address detection: which segments are probed, when, and what the operator is told."""

import logging
from ipaddress import ip_address, ip_interface

import pytest

from macvlan_global.driver.address_probe import REMEMBERED_MOST, REMEMBERED_SECONDS
from macvlan_global.driver.driver import Settings
from macvlan_global.driver.requests import NetworkRequest, SubnetRequest
from macvlan_global.errors import Conflict, Exhausted, Invalid, Unavailable
from macvlan_global.ipam.allocator import COOLING_SECONDS
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.kernel.ports import RouteFacts
from testkit.cluster_rig import ClusterRig
from testkit.fake_engine import Subnet
from testkit.fake_kernel import NEIGHBOUR_MAC
from testkit.rig import Rig

LAN = Subnet("192.168.1.0/24", gateway="192.168.1.254", aux={"printer": "192.168.1.7"})
LAN6 = Subnet("fd18::/64")
PROBED = {"parent": "eth0", "probe": "true"}
TAKEN = f"192.168.1.20 is in use on the segment: {NEIGHBOUR_MAC} replies for it on eth0; use another"


async def _with_lan(options: dict[str, str] = PROBED, *more: Subnet, default: bool = False) -> Rig:
    """A host with a network, and a device outside on its segment."""
    rig = await Rig.build("eth0", settings=Settings(probe=default))
    rig.kernel.neighbours["eth0"] = {"192.168.1.20", "fd18::20"}
    await rig.engine.create_network("lan", LAN, *more, options=options)
    return rig


async def test_by_default_nothing_is_probed_and_it_costs_nothing() -> None:
    """From the second container on, not even a look into the store."""
    rig = await _with_lan({"parent": "eth0"})
    assert (await rig.engine.run("web", "lan", ip="192.168.1.20")).address == "192.168.1.20/24"
    rig.faults.arm(0)
    (pool,) = await rig.driver.pools.all()
    assert await rig.driver.probe.find_owner(pool, ip_address("192.168.1.21")) == ""
    assert (rig.kernel.probed, rig.faults.taken[1:]) == ([], [])


async def test_an_address_that_a_device_has_is_refused_to_a_container() -> None:
    """With its MAC; nothing of the container stays, and another address is given."""
    rig = await _with_lan()
    before = await rig.snapshot()
    with pytest.raises(Conflict, match=TAKEN):
        await rig.engine.run("web", "lan", ip="192.168.1.20")
    assert await rig.snapshot() == before
    assert (await rig.engine.run("web", "lan", ip="192.168.1.21")).address == "192.168.1.21/24"


async def test_ipv6_is_probed_as_well() -> None:
    """Each family by itself; the IPv4 address of the container that failed is free again."""
    rig = await _with_lan(PROBED, LAN6)
    with pytest.raises(Conflict, match=f"fd18::20 is in use on the segment: {NEIGHBOUR_MAC} replies for it on eth0"):
        await rig.engine.run("web", "lan", ip="192.168.1.22", ip6="fd18::20")
    assert (await rig.engine.run("web", "lan", ip="192.168.1.22", ip6="fd18::21")).address6 == "fd18::21/64"


async def test_what_nobody_replies_for_is_in_use_outside_no_longer() -> None:
    """A device that was seen to use an address is gone: a container that asks for it gets it, and the next ones too."""
    rig = await _with_lan()
    first = ip_address("192.168.1.1")
    avoided = rig.driver.addresses.avoided.known
    avoided.see(DEFAULT_SPACE, first, rig.clock(), rig.clock() + 300)
    assert (await rig.engine.run("web", "lan")).address == "192.168.1.2/24"
    assert (await rig.engine.run("asked", "lan", ip="192.168.1.1")).address == "192.168.1.1/24"
    assert int(first) not in avoided.seen(DEFAULT_SPACE, 4)


@pytest.mark.parametrize("freed", [False, True])
async def test_a_device_on_the_last_plain_address_keeps_no_free_one_from_containers(*, freed: bool) -> None:
    """Neither those that are remembered, nor one that was given back a moment ago."""
    rig = await Rig.build("eth0")
    rig.kernel.neighbours["eth0"] = {"10.8.0.6"}
    await rig.engine.create_network("lan", Subnet("10.8.0.0/29", gateway="10.8.0.1"), options=PROBED)
    for number in (2, 3, 4, 5):
        await rig.engine.run(f"web{number}", "lan", ip=f"10.8.0.{number}")
    for number in (4, 5):
        await rig.engine.stop(f"web{number}")
    if not freed:
        rig.clock.advance(COOLING_SECONDS)
    got = [(await rig.engine.run(name, "lan")).address for name in ("one", "other")]
    assert got == ["10.8.0.4/29", "10.8.0.5/29"]
    assert ("eth0", "10.8.0.6") in rig.kernel.probed
    with pytest.raises(Exhausted, match=r"1 candidates are in use on the segment, such as 10\.8\.0\.6"):
        await rig.engine.run("third", "lan")


async def test_a_network_with_devices_outside_as_gateway_and_aux_is_made() -> None:
    """They are meant to answer, so nobody asks."""
    rig = await Rig.build("eth0")
    rig.kernel.neighbours["eth0"] = {"192.168.1.254", "192.168.1.7"}
    await rig.engine.create_network("lan", LAN, options=PROBED)
    assert rig.kernel.probed == []


@pytest.mark.parametrize(
    ("default", "said", "asked"),
    [(True, {}, True), (True, {"probe": "false"}, False), (False, {"probe": "true"}, True), (False, {}, False)],
    ids=["host", "not-here", "here", "nobody"],
)
async def test_what_a_network_says_counts_more_than_the_host(default: bool, said: dict[str, str], asked: bool) -> None:
    """The host's setting is for networks that do not say."""
    rig = await _with_lan({"parent": "eth0", **said}, default=default)
    for name in ("one", "two"):
        await rig.engine.run(name, "lan")
    assert bool(rig.kernel.probed) is asked


async def test_a_restart_of_our_own_container_is_not_refused() -> None:
    """Its address is asked for anew, and nobody outside has it, although this host's link had it a moment ago."""
    rig = await _with_lan()
    await rig.engine.run("web", "lan", ip="192.168.1.21")
    await rig.engine.stop("web")
    assert (await rig.engine.run("web", "lan", ip="192.168.1.21")).address == "192.168.1.21/24"
    assert rig.kernel.probed.count(("eth0", "192.168.1.21")) == 2


async def test_what_this_host_has_itself_is_refused_before_anybody_is_probed() -> None:
    """There is no MAC outside to look for."""
    rig = await _with_lan()
    rig.kernel.route_facts = RouteFacts(addresses=(("br0", ip_interface("192.168.1.30/24")),))
    with pytest.raises(Conflict, match=r"192\.168\.1\.30 is in use: this host has it on br0"):
        await rig.engine.run("web", "lan", ip="192.168.1.30")
    assert rig.kernel.probed == []


async def test_a_segment_that_cannot_be_probed_is_no_obstacle(caplog: pytest.LogCaptureFixture) -> None:
    """No carrier, or no right: containers start, one warning is logged, and status says so until it can be asked."""
    rig = await _with_lan()
    reason = "CAP_NET_RAW is missing; write the unit anew"
    (network,) = await rig.driver.networks.all()
    await rig.driver.networks.name(network.id, "lan")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            rig.kernel.failing["probe"] = Unavailable(reason)
            await rig.engine.run(f"web{number}", "lan", ip=f"192.168.1.{20 + number}")
    words = f"addresses of network lan are handed out without probing the segment: {reason}"
    assert [each.getMessage() for each in caplog.records] == [words]
    assert await rig.driver.probe.problems() == [words]
    await rig.engine.run("last", "lan")
    assert await rig.driver.probe.problems() == []


async def test_a_parent_that_is_down_is_for_join_to_explain() -> None:
    """It knows which entries there are; the address book refuses nothing for it."""
    rig = await _with_lan()
    await rig.kernel.set_down("eth0")
    pool = (await rig.driver.pools.all())[0]
    assert await rig.driver.probe.find_owner(pool, ip_address("192.168.1.20")) == ""
    (problem,) = await rig.driver.probe.problems()
    assert "handed out without probing the segment" in problem
    with pytest.raises(Unavailable, match="eth0"):
        await rig.engine.run("web", "lan", ip="192.168.1.21")
    await rig.kernel.set_up("eth0")
    await rig.engine.run("web", "lan", ip="192.168.1.21")
    assert await rig.driver.probe.problems() == []


async def test_who_was_found_is_told_until_he_has_gone() -> None:
    """Or for an hour, if nobody asks again."""
    rig = await _with_lan()
    told = (
        f"192.168.1.20 is in use on eth0 by {NEIGHBOUR_MAC}, which is no container of ours; remove that device, or "
        "exclude the address"
    )
    for _ in range(2):
        with pytest.raises(Conflict):
            await rig.engine.run("web", "lan", ip="192.168.1.20")
        assert await rig.driver.probe.problems() == [told]
    rig.kernel.neighbours["eth0"].clear()
    await rig.engine.run("web", "lan", ip="192.168.1.20")
    assert await rig.driver.probe.problems() == []
    rig.kernel.neighbours["eth0"].add("192.168.1.21")
    with pytest.raises(Conflict):
        await rig.engine.run("other", "lan", ip="192.168.1.21")
    assert len(await rig.driver.probe.problems()) == 1
    rig.clock.advance(REMEMBERED_SECONDS)
    assert await rig.driver.probe.problems() == []


async def test_what_was_found_goes_with_its_network() -> None:
    """Nobody is to look for a device that is in nobody's way, nor for a wire that nobody wants to ask."""
    rig = await _with_lan()
    with pytest.raises(Conflict):
        await rig.engine.run("web", "lan", ip="192.168.1.20")
    rig.kernel.failing["probe"] = Unavailable("it has no carrier; plug it in")
    await rig.engine.run("web", "lan")
    await rig.engine.stop("web")
    assert len(await rig.driver.probe.problems()) == 2
    await rig.engine.remove_network("lan")
    assert await rig.driver.probe.problems() == []


async def test_a_segment_full_of_devices_does_not_fill_the_memory() -> None:
    """The latest are remembered."""
    rig = await _with_lan()
    pool = (await rig.driver.pools.all())[0]
    everybody = [f"192.168.1.{number}" for number in range(30, 30 + REMEMBERED_MOST + 5)]
    rig.kernel.neighbours["eth0"] = set(everybody)
    for each in everybody:
        assert await rig.driver.probe.find_owner(pool, ip_address(each))
    told = [each.partition(" ")[0] for each in await rig.driver.probe.problems()]
    assert told == everybody[5:]


async def test_a_network_of_another_host_is_probed_on_the_parent_of_this_one() -> None:
    """The pool names the cluster's network, which has another id here."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await one.engine.create_network("lan", Subnet("10.9.0.0/24", gateway="10.9.0.1"), options=PROBED)
    (network,) = await one.driver.networks.all()
    await other.join("lan", one)
    assert other.engine.id_of("lan") != network.id
    other.kernel.neighbours["eth0"] = {"10.9.0.1", "10.9.0.20"}
    with pytest.raises(Conflict, match=r"10\.9\.0\.20 is in use on the segment"):
        await other.engine.run("db", "lan", ip="10.9.0.20")
    assert other.kernel.probed == [("eth0", "10.9.0.20")]
    assert (await one.engine.run("web", "lan", ip="10.9.0.20")).address == "10.9.0.20/24"
    with pytest.raises(Conflict, match="on host a"):
        await other.engine.run("db", "lan", ip="10.9.0.20")


async def test_with_another_ipam_driver_nothing_is_probed() -> None:
    """It gives addresses without us; the error says what to add. A host's default does not refuse such networks."""
    rig = await Rig.build("eth0", settings=Settings(probe=True))
    subnet = SubnetRequest.read("LocalDefault", "192.168.1.0/24")
    with pytest.raises(Invalid, match="-o probe=true needs --ipam-driver macvlan-global; add it"):
        await rig.driver.networks.create(NetworkRequest("n1", PROBED, subnets=(subnet,)))
    assert await rig.driver.networks.all() == []
    await rig.driver.networks.create(NetworkRequest("n1", {"parent": "eth0"}, subnets=(subnet,)))


async def test_a_value_that_is_neither_is_refused_with_what_would_work() -> None:
    """Before anything of the network is made."""
    rig = await Rig.build("eth0")
    with pytest.raises(Invalid, match="-o probe=yes is neither true nor false"):
        await rig.engine.create_network("lan", LAN, options={"parent": "eth0", "probe": "yes"})
    assert await rig.driver.pools.all() == []
