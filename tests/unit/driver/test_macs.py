"""MACs are unique on a network in the whole cluster."""

import pytest

from macvlan_global.driver.requests import EndpointRequest
from macvlan_global.errors import Conflict
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.kernel.names import link_name
from macvlan_global.store.records import EndpointRecord
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import Subnet
from testkit.rig import Rig

MAC = "02:00:00:00:00:aa"
LAN = Subnet("10.9.0.0/24", gateway="10.9.0.1")


async def _two(rig: ClusterRig) -> tuple[ClusterHost, ClusterHost]:
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    await other.join("lan", one)
    return one, other


async def test_a_mac_of_another_host_s_container_is_refused_with_its_holder() -> None:
    """Nothing of the refused one stays. When the first one ends, the second one may have it."""
    one, other = await _two(await ClusterRig.build())
    await one.engine.run("web", "lan", mac=MAC)
    words = rf"--mac-address {MAC} is in use on network lan: endpoint .* on host a has it"
    with pytest.raises(Conflict, match=words):
        await other.engine.run("db", "lan", mac=MAC)
    assert await other.driver.endpoints.all() == []
    assert sum(each.kind == "endpoint" for each in await one.driver.addresses.all()) == 1
    await one.engine.stop("web")
    assert (await other.engine.run("db", "lan", mac=MAC)).mac == MAC


async def test_a_mac_that_was_generated_is_refused_to_others() -> None:
    """A user copied it."""
    one, other = await _two(await ClusterRig.build())
    web = await one.engine.run("web", "lan")
    with pytest.raises(Conflict, match="on host a has it"):
        await other.engine.run("db", "lan", mac=web.mac)


async def test_a_mac_is_unique_on_all_networks_of_a_wire() -> None:
    """Networks whose subnets overlap in one address space are on one wire; the container's own network is named."""
    rig = await ClusterRig.build()
    one, other = await _two(rig)
    await other.publish("beside", Subnet("10.9.0.0/16", range="10.9.1.0/24"))
    await one.engine.run("web", "lan", mac=MAC)
    with pytest.raises(Conflict, match=rf"--mac-address {MAC} is in use on network lan: endpoint .* on host a has it"):
        await other.engine.run("db", "beside", mac=MAC)


async def test_a_mac_may_be_repeated_in_another_address_space() -> None:
    """It is another wire, though its addresses are the same."""
    rig = await ClusterRig.build()
    one, other = await _two(rig)
    await other.publish("vlan", Subnet("10.9.0.0/24", options={"space": "far"}))
    await one.engine.run("web", "lan", mac=MAC)
    await other.engine.run("db", "vlan", mac=MAC)


async def test_networks_apart_may_repeat_a_mac() -> None:
    """Each is a wire for itself, unless they share a parent."""
    rig = await ClusterRig.build()
    one, other = await _two(rig)
    await other.publish("far", Subnet("10.8.0.0/24"))
    await one.engine.run("web", "lan", mac=MAC)
    await other.engine.run("db", "far", mac=MAC)


@pytest.mark.parametrize("subnet", ["10.9.0.0/24", "fd09::/64"])
async def test_a_mac_that_an_address_brings_is_refused_to_other_addresses(subnet: str) -> None:
    """By -o mac=address: the container with that address comes later, on whichever host."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("lan", Subnet(subnet), options={"parent": "eth0", "mac": "address"})
    four, six = ("10.9.0.9", "") if subnet == "10.9.0.0/24" else ("", "fd09::9")
    derived = "02:42:0a:09:00:09" if subnet == "10.9.0.0/24" else "02:42:00:00:00:09"
    with pytest.raises(Conflict, match="with -o mac=address a MAC that begins with 02:42: belongs to an address"):
        await rig.engine.run("thief", "lan", mac=derived)
    assert (await rig.engine.run("web", "lan", mac=derived, ip=four, ip6=six)).mac == derived
    assert (await rig.engine.run("other", "lan", mac=MAC)).mac == MAC


async def test_a_repeated_request_meets_the_same_refusal() -> None:
    """The driver died after the endpoint's record and before it asked for the MAC; the engine asks once more. Nothing
    of the endpoint stays."""
    rig = await ClusterRig.build()
    one, other = await _two(rig)
    await one.engine.run("web", "lan", mac=MAC)
    network = other.engine.id_of("lan")
    pool = (await other.driver.pools.all())[0]
    cidr = await other.driver.ipam.request_address(pool_id(pool), "")
    request = EndpointRequest.read(network, "e" * 64, cidr, "", MAC)
    written = EndpointRecord(
        network=network,
        id=request.id,
        address=str(request.address),
        mac=MAC,
        mac_asked=True,
        link=link_name(request.id),
        boot="boot1",
        at=rig.clock(),
    )
    await other.driver.tables.endpoints.put(written, network, request.id)
    with pytest.raises(Conflict, match="on host a has it"):
        await other.driver.endpoints.create(request)
    assert await other.driver.endpoints.all() == []
    assert {each.host for each in await one.driver.addresses.all() if each.kind == "endpoint"} == {"a"}


async def test_a_mac_of_half_an_ipv6_address_is_unique_in_the_cluster() -> None:
    """With -o mac=address and IPv6 alone, 32 bits of the address make the MAC: others may end in the same."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    options = {"parent": "eth0", "mac": "address"}
    made = await one.engine.create_network("six", Subnet("fd09::/64"), options=options)
    await other.engine.create_network("six", Subnet("fd09::/64", options={"network": made}), options=options)
    web = await one.engine.run("web", "six", ip6="fd09::1:0:9")
    with pytest.raises(Conflict, match=f"{web.mac} is in use on network .*on host a has it"):
        await other.engine.run("db", "six", ip6="fd09::2:0:9")
    await other.engine.run("db", "six", ip6="fd09::2:0:8")
