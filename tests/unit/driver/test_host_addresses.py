"""What a host has itself is given to no container: dynamically, by --ip, on this host and on others."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from macvlan_global.driver.host_addresses import own_addresses
from macvlan_global.errors import Conflict, Exhausted, Unavailable
from macvlan_global.ipam.avoided import HOST_MOST
from macvlan_global.kernel.ports import RouteFacts
from macvlan_global.store.records import HostAddress, HostAddressesRecord
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import Subnet
from testkit.rig import Rig

OPTIONS = {"parent": "eth0"}


def _facts(*own: str, gateway: str = "") -> RouteFacts:
    """A host with these addresses, written as LINK ADDRESS/PREFIX."""
    pairs = [each.split() for each in own]
    hops = (("eth0", ip_address(gateway)),) if gateway else ()
    return RouteFacts(addresses=tuple((link, ip_interface(text)) for link, text in pairs), gateways=hops)


async def _rig(*subnets: Subnet, facts: RouteFacts) -> Rig:
    rig = await Rig.build("eth0")
    rig.kernel.route_facts = facts
    await rig.engine.create_network("lan", *subnets, options=OPTIONS)
    return rig


@pytest.mark.parametrize("link", ["eth0", "eth1", "docker0", "shim"])
async def test_the_host_s_own_address_is_passed_over_and_refused(link: str) -> None:
    """On whichever interface; the text names it. Both families."""
    facts = _facts(f"{link} 192.168.1.2/24", f"{link} fd18::1/64")
    rig = await _rig(Subnet("192.168.1.0/24", gateway="192.168.1.1"), Subnet("fd18::/64"), facts=facts)
    web = await rig.engine.run("web", "lan")
    assert web.addresses == ["192.168.1.3", "fd18::2"]
    with pytest.raises(Conflict, match=rf"address 192\.168\.1\.2 is in use: this host has it on {link};"):
        await rig.engine.run("thief", "lan", ip="192.168.1.2")
    with pytest.raises(Conflict, match=rf"address fd18::1 is in use: this host has it on {link};"):
        await rig.engine.run("thief", "lan", ip6="fd18::1")


async def test_an_address_that_comes_later_counts_at_once_and_one_that_goes_no_longer() -> None:
    """Without a restart of the driver."""
    rig = await _rig(Subnet("192.168.1.0/24"), facts=_facts())
    rig.kernel.route_facts = _facts("eth0 192.168.1.9/24")
    with pytest.raises(Conflict, match="this host has it on eth0"):
        await rig.engine.run("web", "lan", ip="192.168.1.9")
    rig.kernel.route_facts = _facts()
    assert (await rig.engine.run("web", "lan", ip="192.168.1.9")).address == "192.168.1.9/24"


async def test_a_full_pool_is_full_before_a_host_loses_its_address() -> None:
    """The last address left is the host's."""
    rig = await _rig(Subnet("192.168.1.0/30", gateway="192.168.1.1"), facts=_facts("eth0 192.168.1.2/24"))
    with pytest.raises(Exhausted):
        await rig.engine.run("web", "lan")


async def test_the_gateway_of_the_host_is_no_container_s() -> None:
    """A router outside has it, though the network names no gateway."""
    rig = await _rig(Subnet("192.168.1.0/24"), facts=_facts(gateway="192.168.1.1"))
    assert (await rig.engine.run("web", "lan")).address == "192.168.1.2/24"
    with pytest.raises(Conflict, match=r"192\.168\.1\.1 is in use: this host has it as its default gateway on eth0"):
        await rig.engine.run("thief", "lan", ip="192.168.1.1")


async def test_a_container_may_be_the_gateway_of_the_network_and_of_the_host() -> None:
    """Its user says so twice: as the network's gateway, and by --ip."""
    rig = await _rig(Subnet("192.168.1.0/24", gateway="192.168.1.1"), facts=_facts(gateway="192.168.1.1"))
    assert (await rig.engine.run("router", "lan", ip="192.168.1.1")).address == "192.168.1.1/24"
    await rig.engine.stop("router")
    await rig.engine.run("router", "lan", ip="192.168.1.1")


async def test_the_host_s_address_may_be_an_aux_address_or_the_gateway() -> None:
    """That is how operators keep it from containers, and a host may be the router."""
    subnet = Subnet("192.168.1.0/24", gateway="192.168.1.1", aux={"host": "192.168.1.2"})
    rig = await _rig(subnet, facts=_facts("eth0 192.168.1.2/24", "eth0 192.168.1.1/24"))
    assert (await rig.engine.run("web", "lan")).address == "192.168.1.3/24"
    for own in ("192.168.1.1", "192.168.1.2"):
        with pytest.raises(Conflict, match="this host has it on eth0"):
            await rig.engine.run("thief", "lan", ip=own)


async def test_a_kernel_that_cannot_be_asked_stops_nobody() -> None:
    """What was seen before still counts."""
    rig = await _rig(Subnet("192.168.1.0/24"), facts=_facts("eth0 192.168.1.1/24"))
    assert (await rig.engine.run("web", "lan")).address == "192.168.1.2/24"
    rig.kernel.failing["own_addresses"] = Unavailable("no descriptor is left")
    with pytest.raises(Conflict, match="this host has it on eth0"):
        await rig.engine.run("thief", "lan", ip="192.168.1.1")


def test_what_every_host_has_is_not_told() -> None:
    """Loopback and link-local addresses; and of thousands of addresses only some."""
    own = own_addresses(
        _facts("lo 127.0.0.1/8", "lo ::1/128", "eth0 fe80::1/64", "eth0 10.0.0.5/24", gateway="10.0.0.1")
    )
    assert own == (
        HostAddress(address="10.0.0.1", link="eth0", gateway=True),
        HostAddress(address="10.0.0.5", link="eth0"),
    )
    many = ip_network("10.0.0.0/16").hosts()
    assert len(own_addresses(_facts(*(f"lo {next(many)}/32" for _ in range(1000))))) == HOST_MOST


# ----------------------------------------------------------------- in a cluster


async def _two() -> tuple[ClusterRig, ClusterHost, ClusterHost]:
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", Subnet("10.9.0.0/29", gateway="10.9.0.1"))
    await other.join("lan", one)
    return rig, one, other


async def test_what_another_host_has_is_refused_here_with_its_name_and_interface() -> None:
    """Before a restart, when it was told, and after it, when it is read."""
    rig, one, other = await _two()
    own = [HostAddress(address="10.9.0.3", link="eth7"), HostAddress(address="10.9.0.4", link="eth7", gateway=True)]
    record = HostAddressesRecord(id="b", name="b", addresses=own, at=0)
    await other.driver.tables.host_addresses.put(record, "b")
    await one.driver.addresses.avoided.load()
    for host in (one, await rig.restart("a")):
        with pytest.raises(Conflict, match=r"address 10\.9\.0\.3 is in use: host b has it on eth7"):
            await host.engine.run("web", "lan", ip="10.9.0.3")
        with pytest.raises(Conflict, match="host b has it as its default gateway on eth7"):
            await host.engine.run("web", "lan", ip="10.9.0.4")
    got = {(await rig.hosts["a"].engine.run(f"c{number}", "lan")).address for number in range(3)}
    assert got == {"10.9.0.2/29", "10.9.0.5/29", "10.9.0.6/29"}


async def test_a_request_for_its_pool_that_comes_again_makes_no_exception_of_a_container() -> None:
    """The engine's request comes late a second time: the network is made here already, so what is asked for by name is
    for a container, which gets no address of a host, and none that a device outside has."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    subnet = Subnet("10.9.0.0/29", gateway="10.9.0.1")
    await one.engine.create_network("lan", subnet, options={**OPTIONS, "probe": "true"})
    await other.join("lan", one)
    other.kernel.route_facts = _facts("eth0 10.9.0.5/24")
    other.kernel.neighbours["eth0"] = {"10.9.0.6"}
    network = {"network": one.engine.id_of("lan")}
    await other.driver.ipam.request_pool(subnet.subnet, "", network, ipv6=False)
    with pytest.raises(Conflict, match=r"address 10\.9\.0\.5 is in use: this host has it on eth0"):
        await other.engine.run("thief", "lan", ip="10.9.0.5")
    with pytest.raises(Conflict, match=r"address 10\.9\.0\.6 is in use on the segment"):
        await other.engine.run("thief", "lan", ip="10.9.0.6")
    assert (await other.engine.run("web", "lan", ip="10.9.0.3")).address == "10.9.0.3/29"
