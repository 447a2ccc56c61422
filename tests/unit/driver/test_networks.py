"""Networks of a host."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from macvlan_global.driver.requests import EndpointRequest, NetworkRequest, SubnetRequest
from macvlan_global.errors import Conflict, Invalid, NotFound, Unavailable
from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.store.records import NetworkRecord
from testkit.fake_engine import Subnet, engine_id
from testkit.rig import Rig

LAN = Subnet("192.168.1.0/24", gateway="192.168.1.1")
N1 = engine_id("n1")


def _wanted(name: str = "n1", internal: bool = False, **options: str) -> NetworkRequest:
    return NetworkRequest(engine_id(name), {key.replace("_", "-"): value for key, value in options.items()}, internal)


async def test_a_network_remembers_what_it_was_created_with() -> None:
    """Options as given, subnets with the pool's range, the parent chosen here."""
    rig = await Rig.build("eth0")
    subnet = Subnet("192.168.1.0/24", "192.168.1.64/26", "192.168.1.1", {"router": "192.168.1.2"})
    await rig.engine.create_network("n1", subnet, Subnet("fd00::/64"), options={"parent": "nosuch,eth0"})
    network = await rig.driver.networks.get(N1)
    assert (network.parent, network.given) == ("eth0", {"parent": "nosuch,eth0"})
    first, second = network.subnets
    assert (first.range, first.gateway, first.aux) == ("192.168.1.64/26", "192.168.1.1", {"router": "192.168.1.2"})
    assert (second.subnet, second.gateway) == ("fd00::/64", "")


async def test_a_repeated_create_gives_the_same_network() -> None:
    """The engine repeats a call whose answer was lost."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.10"})
    before = await rig.snapshot()
    subnet = SubnetRequest.read(DEFAULT_SPACE, "192.168.1.0/24", "192.168.1.1/24")
    again = NetworkRequest(N1, {"parent": "eth0.10"}, subnets=(subnet,))
    await asyncio.gather(*(rig.driver.networks.create(again) for _ in range(3)))
    assert await rig.snapshot() == before


async def test_a_repeated_create_that_fails_leaves_the_network_whole() -> None:
    """Its subnets above all."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0"})
    before = await rig.snapshot()
    subnet = SubnetRequest.read(DEFAULT_SPACE, "192.168.1.0/24", "192.168.1.1/24")
    for step in range(1, 30):
        rig.faults.arm(step)
        try:
            await rig.driver.networks.create(NetworkRequest(N1, {"parent": "eth0"}, subnets=(subnet,)))
        except Unavailable:
            rig.faults.arm(0)
            assert await rig.snapshot() == before, f"step {step}"
        else:
            break
    assert step > 5


async def test_a_repeated_create_does_not_move_the_network() -> None:
    """Even if a better parent has come meanwhile."""
    rig = await Rig.build("eth1")
    await rig.driver.networks.create(_wanted(parent="eth0,eth1"))
    rig.kernel.add_device("eth0")
    await rig.driver.networks.create(_wanted(parent="eth0,eth1"))
    assert (await rig.driver.networks.get(N1)).parent == "eth1"


async def test_the_sub_interface_goes_with_the_last_network_on_it() -> None:
    """Two networks share it; what was there before stays."""
    rig = await Rig.build("eth0")
    for name in ("n1", "n2"):
        await rig.driver.networks.create(_wanted(name, parent="eth0.10"))
    await rig.driver.networks.delete(engine_id("n1"))
    assert "eth0.10" in rig.kernel.hosted
    await rig.driver.networks.delete(engine_id("n2"))
    assert set(rig.kernel.hosted) == {"lo", "eth0"}


async def test_a_sub_interface_that_was_there_before_stays() -> None:
    """It is not ours."""
    rig = await Rig.build("eth0")
    await rig.kernel.add_vlan("eth0.10", "eth0", 10)
    await rig.kernel.set_up("eth0.10")
    await rig.driver.networks.create(_wanted(parent="eth0.10"))
    await rig.driver.networks.delete(N1)
    assert "eth0.10" in rig.kernel.hosted


@pytest.mark.virtual_time
async def test_a_sub_interface_of_a_sub_interface_outlives_the_network_below_it() -> None:
    """The kernel deletes what stands on a link with it; the lower one goes with the upper one's last network."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("low", Subnet("10.1.0.0/24"), options={"parent": "eth0.66"})
    await rig.engine.create_network("high", Subnet("10.2.0.0/24"), options={"parent": "eth0.66.20"})
    await rig.engine.remove_network("low")
    assert {"eth0.66", "eth0.66.20"} <= set(rig.kernel.hosted)
    assert await rig.mend() == []
    await rig.engine.remove_network("high")
    assert set(rig.kernel.hosted) == {"lo", "eth0"}
    assert await rig.driver.owned.owned() == {}


@pytest.mark.virtual_time
async def test_sub_interfaces_are_restored_from_the_bottom_up() -> None:
    """After a reboot the upper one can be made only on the lower one."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("low", Subnet("10.1.0.0/24"), options={"parent": "eth0.66"})
    await rig.engine.create_network("high", Subnet("10.2.0.0/24"), options={"parent": "eth0.66.20"})
    await rig.engine.remove_network("low")
    await rig.kernel.delete("eth0.66")
    assert [each.subject.split()[1] for each in await rig.mend()] == ["eth0.66", "eth0.66.20"]
    assert {"eth0.66", "eth0.66.20"} <= set(rig.kernel.hosted)


@pytest.mark.virtual_time
async def test_a_sub_interface_of_ours_stays_under_somebody_elses() -> None:
    """What an operator put on it would be deleted with it; it goes at the first repair after that has gone."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.66"})
    await rig.kernel.add_vlan("own", "eth0.66", 7)
    await rig.engine.remove_network("n1")
    assert "own" in rig.kernel.hosted
    assert await rig.mend() == []
    await rig.kernel.delete("own")
    assert [type(each).__name__ for each in await rig.mend()] == ["RemoveLink"]
    assert set(rig.kernel.hosted) == {"lo", "eth0"}


async def test_a_network_without_a_parent_has_a_dummy_of_its_own() -> None:
    """It goes with the network."""
    rig = await Rig.build()
    await rig.driver.networks.create(_wanted())
    assert rig.kernel.hosted[f"dm-{N1[:12]}"].kind == "dummy"
    await rig.driver.networks.delete(N1)
    assert f"dm-{N1[:12]}" not in rig.kernel.hosted


async def test_deleting_an_unknown_network_is_nothing() -> None:
    """Docker ignores errors here, so a repeat must work."""
    rig = await Rig.build()
    await rig.driver.networks.delete(N1)
    with pytest.raises(NotFound, match="not known"):
        await rig.driver.networks.get(N1)


async def test_deleting_a_network_frees_all_that_only_it_uses() -> None:
    """Endpoints left behind, their links and addresses, the pool, the gateway."""
    rig = await Rig.build("eth0")
    before = await rig.snapshot()
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.10"})
    container = await rig.engine.run("c1", "n1")
    assert container.joined
    rig.kernel.move_back(container.sandbox, "eth0", container.joined.link)
    rig.engine.forget_endpoint("c1")
    await rig.engine.remove_network("n1")
    assert await rig.snapshot() == before


@pytest.mark.parametrize(
    ("first", "second"), [("passthru", "bridge"), ("bridge", "passthru"), ("passthru", "passthru")]
)
async def test_a_passthru_network_has_its_parent_alone(first: str, second: str) -> None:
    """Whichever comes second is refused, and takes nothing."""
    rig = await Rig.build("eth0")
    await rig.driver.networks.create(_wanted("n1", parent="eth0", mode=first))
    before = await rig.snapshot()
    with pytest.raises(Conflict, match="cannot be shared"):
        await rig.driver.networks.create(_wanted("n2", parent="eth0", mode=second))
    assert await rig.snapshot() == before
    await rig.driver.networks.create(_wanted("n2", parent="eth0.10", mode=second))


async def test_of_two_passthru_networks_created_at_once_one_is() -> None:
    """The decision is made one at a time."""
    rig = await Rig.build("eth0")
    done = await asyncio.gather(
        *(rig.driver.networks.create(_wanted(name, parent="eth0", mode="passthru")) for name in ("n1", "n2")),
        return_exceptions=True,
    )
    assert sorted(type(each).__name__ for each in done) == ["Conflict", "NoneType"]


async def test_the_mtu_is_checked_against_the_parent_or_the_master() -> None:
    """And against IPv6 where there is some."""
    rig = await Rig.build("eth0")
    rig.kernel.add_device("jumbo", mtu=9000)
    for parent in ("eth0", "eth0.10"):
        with pytest.raises(Invalid, match=r"above the MTU of the parent eth0 \(1500\)"):
            await rig.driver.networks.create(_wanted(parent=parent, mtu="1501"))
    await rig.driver.networks.create(_wanted(parent="jumbo", mtu="9000"))
    with pytest.raises(Invalid, match="too small for IPv6"):
        await rig.engine.create_network("n2", Subnet("fd00::/64"), options={"parent": "eth0", "mtu": "1279"})
    assert set(rig.kernel.hosted) == {"lo", "eth0", "jumbo"}


async def test_a_list_without_a_usable_entry_names_each() -> None:
    """And nothing is left."""
    rig = await Rig.build("eth0")
    before = await rig.snapshot()
    with pytest.raises(Invalid) as refused:
        await rig.engine.create_network("n1", LAN, options={"parent": "lo, nosuch, eth0.5000"})
    for words in ("lo: the loopback", "nosuch: no such interface", "eth0.5000: VLAN id 5000"):
        assert words in str(refused.value)
    assert await rig.snapshot() == before


async def test_what_a_parent_file_says_is_in_no_error(tmp_path: Path) -> None:
    """At create, and later at a start of a container."""
    rig = await Rig.build("eth0")
    file = tmp_path / "parent"
    file.write_text("hunter2, secret.7")
    with pytest.raises(Invalid) as refused:
        await rig.driver.networks.create(_wanted(parent_file=str(file)))
    file.write_text("eth0")
    await rig.driver.networks.create(_wanted(parent_file=str(file)))
    file.write_text("hunter2, secret.7")
    await rig.kernel.delete("eth0")
    with pytest.raises(Unavailable) as later:
        await rig.driver.networks.ready_parent(await rig.driver.networks.get(N1))
    for text in (str(refused.value), str(later.value)):
        assert str(file) in text
        assert "hunter2" not in text
        assert "secret" not in text


async def test_an_unknown_option_is_refused_at_create_and_passed_over_at_replay() -> None:
    """Strict for the user, tolerant for what the engine has already."""
    rig = await Rig.build("eth0")
    with pytest.raises(Invalid, match="did you mean"):
        await rig.driver.networks.create(_wanted(parent="eth0", modee="vepa"))
    await rig.driver.networks.create(_wanted(parent="eth0", modee="vepa"), strict=False)


async def test_another_ipam_drivers_addresses_are_not_ours_to_keep() -> None:
    """The gateway is remembered, nothing is claimed."""
    rig = await Rig.build("eth0")
    subnet = SubnetRequest.read("LocalDefault", "192.168.1.0/24", "192.168.1.1/24")
    await rig.driver.networks.create(NetworkRequest(N1, {"parent": "eth0"}, subnets=(subnet,)))
    assert (await rig.driver.networks.get(N1)).subnets[0].gateway == "192.168.1.1"
    assert (await rig.driver.pools.all(), await rig.driver.addresses.all()) == ([], [])


async def test_a_parent_that_is_gone_is_chosen_again() -> None:
    """The network moves, and what we made for it goes."""
    rig = await Rig.build("eth0", "eth1")
    await rig.driver.networks.create(_wanted(parent="eth0.10,eth1"))
    await rig.kernel.delete("eth0")
    network = await rig.driver.networks.get(N1)
    assert (await rig.driver.networks.ready_parent(network)).name == "eth1"
    assert (await rig.driver.networks.get(N1)).parent == "eth1"
    assert await rig.driver.owned.owned() == {}


async def _rebooted(rig: Rig, altnames: dict[str, str]) -> Rig:
    """The host boots again, and its alternative names are those of other interfaces."""
    for name in set(rig.kernel.hosted) - {"lo", "eth0", "eth1"}:
        await rig.kernel.delete(name)
    rig.kernel.altnames = dict(altnames)
    later = Identity("a", "run2", "boot2")
    rig = await Rig.build(kernel=rig.kernel, disk=rig.disk, engine=rig.engine, identity=later)
    await rig.mend()
    return rig


@pytest.mark.parametrize("parent", ["lan", "lan.10"])
async def test_an_alternative_name_leads_to_its_interface_after_a_reboot(parent: str) -> None:
    """The kernel plays it: it numbers the interfaces the other way round."""
    rig = await Rig.build("eth0", "eth1")
    rig.kernel.altnames |= {"lan": "eth0", "wan": "eth1"}
    await rig.engine.create_network("n1", LAN, options={"parent": parent})
    rig = await _rebooted(rig, {"lan": "eth1", "wan": "eth0"})
    container = await rig.engine.run("c1", "n1")
    stands_on = (await rig.driver.endpoints.all())[0].parent
    assert stands_on == (await rig.driver.networks.get(N1)).parent == ("lan.10" if "." in parent else "eth1")
    if "." in parent:
        assert rig.kernel.hosted["lan.10"].lower == rig.kernel.hosted["eth1"].index
    assert container.sandbox


async def test_a_network_stays_where_some_entry_or_a_container_has_it() -> None:
    """An alternative name is put onto another interface: that it comes first in the list is no reason to move, and no
    network moves from under its containers."""
    rig = await Rig.build("eth0", "eth1")
    rig.kernel.altnames["lan"] = "eth0"
    await rig.engine.create_network("n1", LAN, options={"parent": "lan,eth0"})
    await rig.engine.create_network("n2", Subnet("10.2.0.0/24"), options={"parent": "lan"})
    await rig.engine.run("c1", "n2")
    rig.kernel.altnames["lan"] = "eth1"
    for name, container in (("n1", "c2"), ("n2", "c3")):
        await rig.engine.run(container, name)
        assert (await rig.driver.networks.get(engine_id(name))).parent == "eth0"
    for container in ("c1", "c2", "c3"):
        await rig.engine.stop(container)
    for name, parent in (("n1", "eth0"), ("n2", "eth1")):
        await rig.engine.run("c4", name)
        assert (await rig.driver.networks.get(engine_id(name))).parent == parent
        await rig.engine.stop("c4")


async def test_a_network_stays_if_its_alternative_name_is_gone() -> None:
    """The operator plays it: he gave the name with `ip link property`, which no reboot keeps."""
    rig = await Rig.build("eth0", "eth1")
    rig.kernel.altnames["lan"] = "eth0"
    await rig.engine.create_network("n1", LAN, options={"parent": "lan"})
    rig = await _rebooted(rig, {})
    await rig.engine.run("c1", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth0"


async def test_a_parent_that_is_down_keeps_its_containers_together() -> None:
    """While containers run on it, the network does not move from under them; without, it does."""
    rig = await Rig.build("eth0", "eth1")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0,eth1"})
    await rig.engine.run("c1", "n1")
    await rig.kernel.set_down("eth0")
    with pytest.raises(Unavailable, match="ip link set eth0 up"):
        await rig.engine.run("c2", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth0"
    await rig.engine.stop("c1")
    await rig.engine.run("c2", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth1"


async def test_a_parent_that_was_renamed_keeps_its_containers_together() -> None:
    """The operator plays it: their links go on under another name, and the next container must not be on another wire.
    Once they are gone, the network moves."""
    rig = await Rig.build("eth0", "eth1")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0,eth1"})
    await rig.engine.run("c1", "n1")
    rig.kernel.rename("eth0", "lan0")
    with pytest.raises(Unavailable, match=r"containers run on it: .*ip link set NAME name eth0\); or stop them"):
        await rig.engine.run("c2", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth0"
    rig.kernel.rename("lan0", "eth0")
    await rig.engine.run("c2", "n1")
    assert {each.parent for each in await rig.driver.endpoints.all()} == {"eth0"}
    rig.kernel.rename("eth0", "lan0")
    await rig.engine.stop("c1")
    await rig.engine.stop("c2")
    await rig.engine.run("c3", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth1"


async def test_a_container_that_is_starting_keeps_the_network_on_its_parent() -> None:
    """Engines before 28 make the container's namespace after Join: its link is on the host until then."""
    rig = await Rig.build("eth0", "eth1")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0,eth1"})
    pool = "macvlan-global/192.168.1.0/24"
    for name in ("c1", "c2"):
        address = await rig.driver.ipam.request_address(pool, "")
        await rig.driver.endpoints.create(EndpointRequest.read(N1, engine_id(name), address))
    await rig.driver.endpoints.join(N1, engine_id("c1"), "/netns/c1")
    await rig.kernel.set_down("eth0")
    with pytest.raises(Unavailable, match="containers run on it"):
        await rig.driver.endpoints.join(N1, engine_id("c2"), "/netns/c2")
    assert (await rig.driver.networks.get(N1)).parent == "eth0"


async def test_a_network_leaves_a_parent_that_was_removed_under_a_container() -> None:
    """The kernel took the container's link along."""
    rig = await Rig.build("eth0", "eth1")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0,eth1"})
    await rig.engine.run("c1", "n1")
    await rig.kernel.delete("eth0")
    await rig.engine.run("c2", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth1"


async def test_a_copy_chooses_for_the_first_container_that_runs() -> None:
    """The network of another host moves to a better parent while nobody is on it; where it was created, it stays."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "foo.10,eth0.20,bar"})
    rig.kernel.add_device("foo")
    await rig.engine.run("c1", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth0.20"

    row = await rig.driver.tables.networks.get(N1)
    assert row
    copied = msgspec.structs.replace(row.record, cluster=engine_id("elsewhere"))
    await rig.driver.tables.networks.replace(row, copied)
    await rig.engine.run("c2", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth0.20"
    await rig.engine.stop("c1")
    await rig.engine.stop("c2")
    await asyncio.gather(*(rig.engine.run(name, "n1") for name in ("c3", "c4")))
    assert (await rig.driver.networks.get(N1)).parent == "foo.10"
    assert "eth0.20" not in rig.kernel.hosted


async def test_a_lost_sub_interface_of_ours_is_made_again_when_it_is_needed() -> None:
    """Deleted behind our back, or not there yet after a reboot."""
    rig = await Rig.build("eth0")
    await rig.driver.networks.create(_wanted(parent="eth0.10"))
    await rig.kernel.delete("eth0.10")
    parent = await rig.driver.networks.ready_parent(await rig.driver.networks.get(N1))
    assert parent.name == "eth0.10"
    assert rig.kernel.hosted["eth0.10"].up


async def test_no_usable_parent_now_says_so() -> None:
    """Unavailable: it may work later."""
    rig = await Rig.build("eth0")
    await rig.driver.networks.create(_wanted(parent="eth0"))
    await rig.kernel.set_down("eth0")
    with pytest.raises(Unavailable, match="it is down"):
        await rig.driver.networks.ready_parent(await rig.driver.networks.get(N1))


async def test_a_name_is_learnt_and_used_in_errors() -> None:
    """Docker tells it only later."""
    rig = await Rig.build("eth0")
    await rig.driver.networks.create(_wanted(parent="eth0", mode="passthru"))
    await rig.driver.networks.name(N1, "office")
    await rig.driver.networks.name(engine_id("unknown"), "x")
    with pytest.raises(Conflict, match="network office"):
        await rig.driver.networks.create(_wanted("n2", parent="eth0"))


async def test_a_choice_can_be_explained() -> None:
    """Entry by entry, without changing anything."""
    rig = await Rig.build("eth0")
    await rig.driver.networks.create(_wanted(parent="nosuch,eth0"))
    choice = await rig.driver.networks.explain(await rig.driver.networks.get(N1))
    assert [(each.entry, each.usable) for each in choice.verdicts] == [("nosuch", False), ("eth0", True)]


@pytest.mark.virtual_time
async def test_a_vlan_in_a_vlan_comes_and_goes_with_its_networks() -> None:
    """One option makes both links; each goes with the last network that needs it."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.20.200"})
    await rig.engine.create_network("n2", Subnet("10.9.0.0/24"), options={"parent": "eth0.20.201"})
    assert {"eth0.20", "eth0.20.200", "eth0.20.201"} <= set(rig.kernel.hosted)
    await rig.engine.remove_network("n1")
    assert {"eth0.20", "eth0.20.201"} <= set(rig.kernel.hosted)
    assert "eth0.20.200" not in rig.kernel.hosted
    await rig.engine.remove_network("n2")
    assert set(rig.kernel.hosted) == {"lo", "eth0"}
    assert await rig.driver.owned.owned() == {}


async def test_a_vlan_in_a_vlan_is_there_again_after_a_reboot() -> None:
    """Masters first."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.20.200"})
    await rig.kernel.delete("eth0.20")
    await rig.mend()
    assert rig.kernel.hosted["eth0.20.200"].up


async def test_a_network_that_is_refused_leaves_no_vlan_in_a_vlan() -> None:
    """Neither of its links."""
    rig = await Rig.build("eth0")
    rig.kernel.failing["set_up"] = Unavailable("no")
    with pytest.raises(Unavailable):
        await rig.engine.create_network("n1", LAN, options={"parent": "eth0.20.200"})
    assert set(rig.kernel.hosted) == {"lo", "eth0"}


async def test_two_names_of_one_vlan_are_one_link() -> None:
    """It stays as long as one of the networks is there; the operator's own stays for ever."""
    rig = await Rig.build("eth0")
    await rig.kernel.add_vlan("guests", "eth0", 30)
    await rig.kernel.set_up("guests")
    for name, number, parent in (("n1", 1, "eth0.10"), ("n2", 2, "eth0.010"), ("n3", 3, "eth0.30")):
        await rig.engine.create_network(name, Subnet(f"10.9.{number}.0/24"), options={"parent": parent})
    assert (await rig.driver.networks.get(engine_id("n2"))).parent == "eth0.10"
    assert (await rig.driver.networks.get(engine_id("n3"))).parent == "guests"
    await rig.engine.run("c3", "n3")
    await rig.engine.remove_network("n1")
    assert "eth0.10" in rig.kernel.hosted
    await rig.engine.remove_network("n2")
    assert "eth0.10" not in rig.kernel.hosted
    await rig.engine.stop("c3")
    await rig.engine.remove_network("n3")
    assert "guests" in rig.kernel.hosted


async def test_a_container_starts_on_a_link_in_a_vrf() -> None:
    """And the VRF itself is refused at create."""
    rig = await Rig.build("eth0", "eth1")
    rig.kernel.add_device("vrf-blue", kind="vrf")
    rig.kernel.enslave("eth1", "vrf-blue")
    with pytest.raises(Invalid, match="it is a VRF"):
        await rig.engine.create_network("n1", LAN, options={"parent": "vrf-blue"})
    await rig.engine.create_network("n1", LAN, options={"parent": "eth1"})
    await rig.engine.run("c1", "n1")


async def test_a_parent_that_became_a_port_is_left_for_the_next_entry() -> None:
    """Somebody put it into a bridge: no container could start there any more."""
    rig = await Rig.build("eth0", "eth1")
    rig.kernel.add_device("br0", kind="bridge")
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0,eth1"})
    rig.kernel.enslave("eth0", "br0")
    await rig.engine.run("c1", "n1")
    assert (await rig.driver.networks.get(N1)).parent == "eth1"


async def test_a_vlan_that_is_in_another_namespace_is_passed_over() -> None:
    """The kernel alone knows of it: the list goes on, and without another entry the error says where to look."""
    rig = await Rig.build("eth0", "eth1")
    await rig.kernel.add_vlan("theirs", "eth0", 10)
    rig.kernel.move("theirs", "/netns/box")
    with pytest.raises(Conflict, match="look in other network namespaces"):
        await rig.engine.create_network("n1", LAN, options={"parent": "eth0.10"})
    assert await rig.driver.networks.all() == []
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0.10,eth1.10"})
    assert (await rig.driver.networks.get(N1)).parent == "eth1.10"
    await rig.engine.run("c1", "n1")
    await rig.engine.stop("c1")
    await rig.engine.remove_network("n1")
    assert set(rig.kernel.hosted) == {"lo", "eth0", "eth1"}


async def test_a_network_that_is_broken_off_while_others_hear_of_it_is_undone() -> None:
    """The kernel plays it: the host's own link to the network takes so long that the engine gives up. They hear of its
    end, too, once it is gone."""
    rig = await Rig.build("eth0")
    heard: list[int] = []
    hears = asyncio.Event()

    async def hear(_network: NetworkRecord) -> None:
        heard.append(len(await rig.driver.networks.all()))
        if len(heard) == 1:
            hears.set()
            await asyncio.Event().wait()

    rig.driver.networks.on_change = hear
    before = await rig.snapshot()
    creating = asyncio.create_task(rig.engine.create_network("n1", LAN, options={"parent": "eth0.10"}))
    await hears.wait()
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    assert heard == [1, 0]
    await rig.engine.plugin.call(
        "IpamDriver.ReleaseAddress", PoolID=f"{DEFAULT_SPACE}/{LAN.subnet}", Address=LAN.gateway
    )
    await rig.engine.plugin.call("IpamDriver.ReleasePool", PoolID=f"{DEFAULT_SPACE}/{LAN.subnet}")
    assert await rig.snapshot() == before
    assert rig.driver.networks.leftovers.suspected.is_set()
