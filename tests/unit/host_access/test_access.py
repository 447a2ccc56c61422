"""Host access on a whole driver: shims, routes and addresses follow networks and containers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_interface

import pytest

from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.errors import Invalid, MacvlanGlobalError, Unavailable
from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.kernel.ports import RouteFacts, Shim
from macvlan_global.libnetwork import messages as m
from macvlan_global.libnetwork.handlers import GENERIC, Handlers
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from testkit.brief import BRIEF, STRIDE
from testkit.fake_clock import FakeClock
from testkit.fake_engine import FakeEngine, Subnet, engine_id
from testkit.fake_kernel import FakeKernel
from testkit.faults import Faults, FaultyStore
from testkit.plugin_calls import InProcess
from testkit.rig import Rig

pytestmark = pytest.mark.virtual_time

LAN, LAN6 = Subnet("10.8.0.0/24", gateway="10.8.0.1"), Subnet("fd08::/64", gateway="fd08::1")
WANTED = {"parent": "eth0", "host_access": "true"}
HOST = "10.8.0.2"
OWN = RouteFacts(addresses=(("eth0", ip_interface(f"{HOST}/24")),))


async def _rig(*devices: str, own: bool = True, settings: Settings | None = None) -> Rig:
    kernel = FakeKernel(*(devices or ("eth0",)), routes=OWN if own else RouteFacts())
    return await Rig.build(kernel=kernel, settings=settings)


def _shim(rig: Rig, name: str = "mgh-eth0") -> Shim:
    return rig.kernel.shims.states[name]


def _shims(rig: Rig) -> list[str]:
    return sorted(name for name, link in rig.kernel.hosted.items() if link.is_shim)


def _led_to(rig: Rig, name: str = "mgh-eth0") -> dict[str, str]:
    return {str(each.address): str(each.source) for each in _shim(rig, name).paths}


async def _claimed(rig: Rig) -> list[str]:
    return sorted(each.address for each in await rig.driver.addresses.all() if each.kind == "host")


@asynccontextmanager
async def _running(rig: Rig) -> AsyncIterator[None]:
    """The driver's task for host access runs."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(rig.driver.host_access.run())
        yield
        task.cancel()


async def test_routes_follow_containers() -> None:
    """They come with Join and go with DeleteEndpoint; the shim goes with the network. No address is spent."""
    rig = await _rig()
    await rig.engine.create_network("n1", LAN, options=WANTED)
    assert _shims(rig) == ["mgh-eth0"]
    one = await rig.engine.run("c1", "n1")
    two = await rig.engine.run("c2", "n1")
    assert _led_to(rig) == {one.addresses[0]: HOST, two.addresses[0]: HOST}
    assert {each.mac for each in _shim(rig).paths} == {one.mac, two.mac}
    assert (_shim(rig).addresses, _shim(rig).ipv6) == (frozenset(), False)
    await rig.engine.stop("c1")
    assert _led_to(rig) == {two.addresses[0]: HOST}
    await rig.engine.stop("c2")
    assert await _claimed(rig) == []
    await rig.engine.remove_network("n1")
    assert _shims(rig) == []


async def test_without_the_option_there_is_nothing() -> None:
    """No shim, no request of the kernel; a network in another mode has none by the default of a configuration."""
    rig = await _rig()
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0"})
    await rig.engine.run("c1", "n1")
    assert (_shims(rig), rig.driver.host_access.problems) == ([], [])
    rig = await _rig("eth0", "eth1", settings=Settings(host_access=True))
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0", "macvlan_mode": "private"})
    assert _shims(rig) == []
    await rig.engine.create_network("n2", Subnet("10.9.0.0/24"), options={"parent": "eth1"})
    assert _shims(rig) == ["mgh-eth1"]


@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
async def test_a_mode_that_cannot_is_refused(mode: str) -> None:
    """When the network is made, and nothing is left of it."""
    rig = await _rig()
    before = await rig.snapshot()
    with pytest.raises(Invalid, match=f"does not work in mode {mode}"):
        await rig.engine.create_network("n1", LAN, options={**WANTED, "macvlan_mode": mode})
    assert await rig.snapshot() == before


async def test_where_the_host_has_no_address_it_is_given_one() -> None:
    """One of each subnet, kind host, however many containers; it goes with the network."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, LAN6, options=WANTED)
    assert await _claimed(rig) == []
    one = await rig.engine.run("c1", "n1")
    two = await rig.engine.run("c2", "n1")
    claimed = await _claimed(rig)
    assert len(claimed) == 2
    assert {str(each) for each in _shim(rig).addresses} == set(claimed)
    assert set(_led_to(rig)) == {*one.addresses, *two.addresses}
    assert set(_led_to(rig).values()) == set(claimed)
    assert _shim(rig).ipv6
    await rig.engine.stop("c1")
    await rig.engine.stop("c2")
    assert await _claimed(rig) == claimed
    await rig.engine.remove_network("n1")
    assert (await _claimed(rig), _shims(rig)) == ([], [])
    assert [row.record for row in await rig.driver.tables.host_access.scan()] == []


async def test_the_operator_may_choose_the_hosts_addresses() -> None:
    """They are the host's from the network's beginning, outside of the range too, and go with the network; no container
    gets one."""
    rig = await _rig(own=False, settings=Settings(access_addresses=(ip_address("10.8.0.250"), ip_address("fd08::fa"))))
    await rig.engine.create_network("n1", LAN, LAN6, options=WANTED)
    assert await _claimed(rig) == ["10.8.0.250", "fd08::fa"]
    with pytest.raises(Exception, match=r"address 10\.8\.0\.250 is in use by host a itself"):
        await rig.engine.run("c1", "n1", ip="10.8.0.250")
    await rig.engine.run("c2", "n1")
    assert set(_led_to(rig).values()) == set(await _claimed(rig)) == {"10.8.0.250", "fd08::fa"}
    await rig.engine.stop("c2")
    await rig.engine.remove_network("n1")
    assert (await _claimed(rig), _shims(rig), rig.driver.host_access.problems) == ([], [], [])


async def test_two_networks_on_one_subnet_have_the_chosen_address_in_common() -> None:
    """The host reaches the containers of both by it, and of the one that stays when the other goes, at once."""
    rig = await _rig(own=False, settings=Settings(access_addresses=(ip_address("10.8.0.250"),)))
    for name, part in (("n1", "10.8.0.64/26"), ("n2", "10.8.0.128/26")):
        await rig.engine.create_network(name, Subnet(LAN.subnet, part, gateway=LAN.gateway), options=WANTED)
    one, two = await rig.engine.run("c1", "n1"), await rig.engine.run("c2", "n2")
    assert _led_to(rig) == {one.addresses[0]: "10.8.0.250", two.addresses[0]: "10.8.0.250"}
    assert (await _claimed(rig), rig.driver.host_access.problems) == (["10.8.0.250"], [])
    await rig.mend()
    assert (await _claimed(rig), rig.driver.host_access.problems) == (["10.8.0.250"], [])
    await rig.engine.stop("c1")
    await rig.engine.remove_network("n1")
    assert _led_to(rig) == {two.addresses[0]: "10.8.0.250"}
    assert (await _claimed(rig), rig.driver.host_access.problems) == (["10.8.0.250"], [])
    await rig.engine.stop("c2")
    await rig.engine.remove_network("n2")
    assert (await _claimed(rig), _shims(rig)) == ([], [])


async def test_a_chosen_address_is_had_at_once_on_networks_that_were_there_before_it() -> None:
    """One of them has it, whose subnet may be another one, and all of them use it."""
    rig = await _rig(own=False)
    for name, subnet in (("n1", "10.8.0.0/25"), ("n2", "10.8.0.0/24"), ("n3", "10.8.0.64/26")):
        await rig.engine.create_network(name, Subnet(subnet), options=WANTED)
    settings = Settings(access_addresses=(ip_address("10.8.0.126"),))
    again = await Rig.build(kernel=rig.kernel, disk=rig.disk, engine=rig.engine, settings=settings)
    await again.driver.host_access.update(observe=True)
    assert (await _claimed(again), again.driver.host_access.problems) == (["10.8.0.126"], [])
    led = [(await again.engine.run(name, f"n{number}")).addresses[0] for number, name in enumerate("abc", 1)]
    assert _led_to(again) == dict.fromkeys(led, "10.8.0.126")


async def test_a_chosen_address_that_somebody_has_is_said_and_had_when_it_is_free() -> None:
    """The address of before stays until then, and the problem names option, value and holder."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1", ip="10.8.0.50")
    (before,) = await _claimed(rig)
    settings = Settings(access_addresses=(ip_address("10.8.0.50"),))
    again = await Rig.build(kernel=rig.kernel, disk=rig.disk, engine=rig.engine, settings=settings)
    await again.mend()
    (problem,) = again.driver.host_access.problems
    assert ": 10.8.0.50 of host_access_addresses: address 10.8.0.50 is in use by endpoint" in problem
    assert (await _claimed(again), _led_to(again)) == ([before], {"10.8.0.50": before})
    await again.engine.stop("c1")
    await again.engine.run("c2", "n1", ip="10.8.0.51")
    async with _running(again):
        await asyncio.sleep(30)
    assert (await _claimed(again), _led_to(again)) == (["10.8.0.50"], {"10.8.0.51": "10.8.0.50"})
    assert {str(each) for each in _shim(again).addresses} == {"10.8.0.50"}
    assert again.driver.host_access.problems == []


@pytest.mark.parametrize("refused", ["replace host_access/", "delete addresses/"])
async def test_an_address_is_the_hosts_as_long_as_its_record_names_it(refused: str) -> None:
    """A driver that dies before the record names the next one would take the earlier one again. One whose record is
    replaced and that was not given back is given back by repair."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    settings = Settings(access_addresses=(ip_address("10.8.0.50"),))
    again = await Rig.build(kernel=rig.kernel, disk=rig.disk, engine=rig.engine, settings=settings)
    again.faults.refused = refused
    await again.driver.host_access.update(observe=True)
    assert again.driver.host_access.problems
    named = {row.record.address for row in await again.driver.tables.host_access.scan()}
    assert named == {str(each) for each in _shim(again).addresses}
    held = {each.address for each in await again.driver.addresses.all() if each.kind in {"host", "reserved"}}
    assert named <= held
    again.faults.refused = ""
    again = await Rig.build(kernel=rig.kernel, disk=rig.disk, engine=rig.engine, settings=settings)
    await again.mend()
    await again.mend()
    assert await _claimed(again) == ["10.8.0.50"] == [str(each) for each in _shim(again).addresses]


@pytest.mark.parametrize("address", ["10.8.0.0", "10.8.0.1", "10.8.0.255"])
async def test_a_chosen_address_that_cannot_be(address: str) -> None:
    """The network's own, and its gateway's: the problem says so, and the container runs."""
    rig = await _rig(own=False, settings=Settings(access_addresses=(ip_address(address),)))
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    unreached, said = rig.driver.host_access.problems
    assert f": {address} of host_access_addresses: address {address} is the " in said
    assert unreached.endswith(": it was given no address of 10.8.0.0/24 yet")
    assert await _claimed(rig) == []


async def test_in_a_swarm_a_node_reaches_its_containers() -> None:
    """By its own IPv4 address in the subnet, and by a configured IPv6 one where addresses are derived."""
    settings = Settings("swarm", access_addresses=(ip_address("fd65::fa"),))
    rig = await _rig(settings=settings)
    routes = Handlers(rig.driver, swarm=True).routes()
    data = m.IPData(address_space="LocalDefault", pool=LAN.subnet, gateway=f"{LAN.gateway}/24")
    options = {GENERIC: WANTED | {"ipv6-subnet": "fd65::/64"}}
    network, endpoint, interface = engine_id("n1"), engine_id("e1"), m.Interface(address="10.8.0.9/24")
    for path, message in (
        ("CreateNetwork", m.CreateNetwork(network_id=network, options=options, ipv4_data=[data])),
        ("CreateEndpoint", m.CreateEndpoint(network_id=network, endpoint_id=endpoint, interface=interface)),
        ("Join", m.Join(network_id=network, endpoint_id=endpoint, sandbox_key="/x")),
    ):
        await routes[f"/NetworkDriver.{path}"].handle(message)
    assert _led_to(rig) == {"10.8.0.9": HOST, "fd65::a08:9": "fd65::fa"}
    assert rig.driver.host_access.problems == []


async def test_a_container_does_not_get_the_hosts_address() -> None:
    """The conflict names the host."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    (own,) = await _claimed(rig)
    with pytest.raises(Exception, match=rf"address {own} is in use by host a itself \(-o host_access=true\)"):
        await rig.engine.run("c2", "n1", ip=own)


async def test_networks_on_one_parent_share_a_shim() -> None:
    """It stays until the last of them goes."""
    rig = await _rig()
    for name, subnet in (("n1", "10.8.0.0/25"), ("n2", "10.8.0.128/25")):
        await rig.engine.create_network(name, Subnet(subnet), options=WANTED)
    one, two = await rig.engine.run("c1", "n1"), await rig.engine.run("c2", "n2")
    assert set(_led_to(rig)) == {*one.addresses, *two.addresses}
    await rig.engine.stop("c1")
    await rig.engine.remove_network("n1")
    assert (_shims(rig), set(_led_to(rig))) == (["mgh-eth0"], set(two.addresses))


async def test_a_parent_that_is_a_macvlan_link_itself() -> None:
    """The shim stands on what that one stands on, and is not made anew each time that somebody looks."""
    rig = await _rig()
    rig.kernel.add_device("mac0", kind="macvlan", lower=rig.kernel.hosted["eth0"].index)
    await rig.engine.create_network("n1", LAN, options={**WANTED, "parent": "mac0"})
    one = await rig.engine.run("c1", "n1")
    before = rig.kernel.hosted["mgh-mac0"]
    await rig.mend()
    assert (rig.kernel.hosted["mgh-mac0"], set(_led_to(rig, "mgh-mac0"))) == (before, set(one.addresses))
    await rig.engine.stop("c1")
    await rig.engine.remove_network("n1")
    assert _shims(rig) == []


async def test_the_shim_keeps_no_sub_interface_alive() -> None:
    """A parent that we made goes with its last network, and the shim with it."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options={**WANTED, "parent": "eth0.10"})
    assert _shims(rig) == ["mgh-eth0.10"]
    await rig.engine.remove_network("n1")
    assert sorted(rig.kernel.hosted) == ["eth0", "lo"]


async def test_what_somebody_deletes_comes_back() -> None:
    """A route, the shim, a sysctl: the kernel tells of it, or the next look finds it."""
    rig = await _rig()
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    before, mac = _shim(rig), rig.kernel.hosted["mgh-eth0"].mac
    async with _running(rig):
        await asyncio.sleep(1)
        rig.kernel.shims.drop_routes("mgh-eth0")
        await asyncio.sleep(1)
        assert _shim(rig) == before
        await rig.kernel.shims.delete("mgh-eth0")
        await asyncio.sleep(1)
        assert _shim(rig) == before
        assert rig.kernel.hosted["mgh-eth0"].mac == mac  # containers remember it
        rig.kernel.shims.unsettle("mgh-eth0")
        await asyncio.sleep(400)
        assert _shim(rig) == before
    await rig.kernel.shims.delete("mgh-eth0")
    await rig.mend()
    assert _shim(rig) == before


async def test_another_run_of_the_driver_takes_over() -> None:
    """It finds shim, routes and its address again, and what ended meanwhile goes."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    one = await rig.engine.run("c1", "n1")
    await rig.engine.run("c2", "n1")
    before, claimed = _shim(rig), await _claimed(rig)
    again = await Rig.build(kernel=rig.kernel, disk=rig.disk, engine=rig.engine)
    await again.mend()
    assert (_shim(again), await _claimed(again)) == (before, claimed)
    await again.engine.stop("c2")
    assert set(_led_to(again)) == set(one.addresses)


async def test_after_a_reboot_the_shim_is_there_again() -> None:
    """Containers of the boot before are not led to."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    (own,) = await _claimed(rig)
    kernel = FakeKernel("eth0")
    again = await Rig.build(kernel=kernel, disk=rig.disk, identity=Identity("a", "run2", "boot2"))
    await again.mend(engine=False)
    shim = kernel.shims.states["mgh-eth0"]
    assert (shim.addresses, shim.paths) == (frozenset({ip_address(own)}), frozenset())
    assert await _claimed(again) == [own]


async def test_a_failure_keeps_no_container_from_starting() -> None:
    """It is in the problems, and done once it can be."""
    rig = await _rig()
    rig.kernel.failing["add_shim"] = Unavailable("no memory")
    await rig.engine.create_network("n1", LAN, options=WANTED)
    rig.kernel.failing["add_path"] = rig.kernel.failing["shims"] = Unavailable("no memory")
    one = await rig.engine.run("c1", "n1")
    assert "no memory" in rig.driver.host_access.problems[0]
    async with _running(rig):
        await asyncio.sleep(30)
    assert (rig.driver.host_access.problems, set(_led_to(rig))) == ([], set(one.addresses))


async def _beside(rig: Rig) -> Rig:
    """Another driver on the same host, with a state folder and networks of its own."""
    return await Rig.build(kernel=rig.kernel, identity=Identity("b", "run1", "boot1"))


async def test_another_drivers_shims_are_left_alone() -> None:
    """A managed plugin beside a service: each has shims of its own, and deletes those only, in later runs too."""
    one = await _rig("eth0", "eth1")
    two = await _beside(one)
    await one.engine.create_network("n1", LAN, options=WANTED)
    await one.engine.run("c1", "n1")
    await two.engine.create_network("n2", Subnet("10.9.0.0/24"), options={**WANTED, "parent": "eth1"})
    before = _shim(one)
    again = await Rig.build(kernel=one.kernel, disk=one.disk, engine=one.engine)
    for each in (two, again, two):
        await each.mend()
        assert (_shims(one), _shim(one), each.driver.host_access.problems) == (["mgh-eth0", "mgh-eth1"], before, [])
    await two.engine.remove_network("n2")
    assert _shims(one) == ["mgh-eth0"]


async def test_two_drivers_that_want_one_shim() -> None:
    """The first one has it, and the other one tells so and changes nothing, until the first one needs it no more."""
    one = await _rig()
    two = await _beside(one)
    await one.engine.create_network("n1", LAN, options=WANTED)
    await one.engine.run("c1", "n1")
    before = _shim(one)
    await two.driver.host_access.update()
    await two.engine.create_network("n2", LAN, options=WANTED)
    assert "another driver on this host has the link mgh-eth0;" in two.driver.host_access.problems[0]
    theirs = await two.engine.run("c2", "n2", ip="10.8.0.99")
    for each in (two, one, two):
        await each.mend()
    assert (_shim(one), one.driver.host_access.problems) == (before, [])
    assert "another driver on this host has the link mgh-eth0;" in two.driver.host_access.problems[0]
    async with _running(two):
        await one.engine.stop("c1")
        await one.engine.remove_network("n1")
        await asyncio.sleep(30)
    assert (set(_led_to(two)), two.driver.host_access.problems) == (set(theirs.addresses), [])


async def test_after_its_state_was_lost_a_driver_knows_its_shim_by_the_containers() -> None:
    """Its id is another one. The shim keeps the MAC, which containers remember, until none is there."""
    rig = await _rig()
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    before = _shim(rig)
    again = await Rig.build(kernel=rig.kernel, identity=Identity("b", "run2", "boot1"), engine=rig.engine)
    await again.mend()
    assert (_shim(again), again.driver.host_access.problems) == (before, [])
    await again.engine.stop("c1")
    assert _shim(again).mac != before.mac
    await again.engine.remove_network("n1")
    assert _shims(again) == []


async def test_an_operators_link_of_that_name_stays_as_it_is() -> None:
    """The conflict is in the problems."""
    rig = await _rig()
    rig.kernel.add_device("mgh-eth0")
    before = rig.kernel.hosted["mgh-eth0"]
    await rig.engine.create_network("n1", LAN, options=WANTED)
    assert "EEXIST" in rig.driver.host_access.problems[0]
    await rig.engine.remove_network("n1")
    await rig.mend()
    assert rig.kernel.hosted["mgh-eth0"] == before


async def test_an_address_that_the_store_lost_is_claimed_again() -> None:
    """By the repair that follows; one that somebody else has by then is given up for the next one."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    (own,) = await _claimed(rig)
    record = next(each for each in await rig.driver.addresses.all() if each.kind == "host")
    assert await rig.driver.addresses.give_back(record)
    await rig.mend()
    assert await _claimed(rig) == [own]
    assert await rig.driver.addresses.give_back(record)
    other = await rig.engine.run("c2", "n1", ip=own)
    assert other.addresses == [own]
    await rig.mend()
    await rig.mend()
    (second,) = await _claimed(rig)
    assert second != own
    assert {str(each) for each in _shim(rig).addresses} == {second}


async def test_the_hosts_own_address_may_change() -> None:
    """Paths begin with the new one; with none at all the host is given one."""
    rig = await _rig()
    await rig.engine.create_network("n1", LAN, options=WANTED)
    one = await rig.engine.run("c1", "n1")
    rig.kernel.route_facts = RouteFacts(addresses=(("eth0", ip_interface("10.8.0.9/24")),))
    async with _running(rig):
        rig.kernel.shims.changed.set()
        await asyncio.sleep(1)
        assert _led_to(rig) == {one.addresses[0]: "10.8.0.9"}
        rig.kernel.route_facts = RouteFacts()
        rig.kernel.shims.changed.set()
        await asyncio.sleep(1)
        assert list(_led_to(rig).values()) == await _claimed(rig) != []


async def _slow() -> tuple[Driver, FakeEngine, Faults]:
    """A host of a cluster with a container on `n1`, which wants host access since just now; `faults` are those of its
    store, which takes its time from now on."""
    kernel, faults, local = FakeKernel("eth0"), Faults(), MemoryStore()
    tables = Tables(FaultyStore(MemoryStore(), faults), local)
    driver = Driver.build(tables, kernel, Identity("a", "run", "boot1", "a"), Settings("global", shared=True))
    await driver.pools.load()
    engine = FakeEngine(InProcess(driver), kernel)
    await engine.create_network("n1", LAN, options={"parent": "eth0"})
    await engine.run("c1", "n1")
    network = await driver.networks.get(engine.id_of("n1"))
    await driver.tables.networks.change(network.id, given={**network.given, "host_access": "true"})
    faults.delay = 0.7
    return driver, engine, faults


async def _reserved(driver: Driver) -> list[str]:
    return [each.address for each in await driver.addresses.all() if each.kind == "reserved"]


async def test_a_slow_store_costs_a_request_a_moment_and_no_address() -> None:
    """What a change began goes on beside the request, one at a time: the host has its one address in the end, and
    nothing stays reserved for nobody. A request that is broken off ends none of it."""
    driver, engine, faults = await _slow()
    network, loop = await driver.networks.get(engine.id_of("n1")), asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(driver.host_access.on_change(network) for _ in range(3)))
    assert loop.time() - began == pytest.approx(1)
    broken_off = asyncio.ensure_future(driver.host_access.on_change(network))
    await asyncio.sleep(0.1)
    broken_off.cancel()
    await asyncio.sleep(30)
    faults.delay = 0
    assert await _reserved(driver) == []
    assert len([each for each in await driver.addresses.all() if each.kind == "host"]) == 1
    assert driver.host_access.problems == []


async def test_the_end_of_the_driver_ends_what_changes_began() -> None:
    """It waits for a moment, and no longer if the store hangs."""
    driver, engine, faults = await _slow()
    faults.hangs = True
    await driver.host_access.on_change(await driver.networks.get(engine.id_of("n1")))
    assert len(asyncio.all_tasks()) > 1
    await driver.host_access.leave()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await driver.host_access.leave()


async def test_hosts_of_a_cluster_are_given_addresses_of_their_own() -> None:
    """One each, from one pool; what one gives back the other keeps."""
    shared, rigs = MemoryStore(), []
    for host in ("a", "b"):
        kernel, local = FakeKernel("eth0"), MemoryStore()
        identity = Identity(host, f"run-{host}", "boot1", host)
        settings = Settings("global", shared=True)
        driver = Driver.build(Tables(shared, local), kernel, identity, settings, now=FakeClock())
        await driver.pools.load()
        rigs.append((driver, kernel, FakeEngine(InProcess(driver), kernel, host=host)))
    (one, kernel, engine), (other, other_kernel, other_engine) = rigs
    await engine.create_network("n1", LAN, options=WANTED)
    joins = Subnet(LAN.subnet, gateway=LAN.gateway, options={"network": engine.id_of("n1")})
    await other_engine.create_network("n1", joins, options=WANTED)
    containers = [await each.run(f"c-{number}", "n1") for number, each in enumerate((engine, other_engine))]
    held = {each.address: each.host for each in await one.addresses.all() if each.kind == "host"}
    assert sorted(held.values()) == ["a", "b"]
    assert not {each.addresses[0] for each in containers} & set(held)
    for host, each in (("a", kernel), ("b", other_kernel)):
        assert {str(address) for address in each.shims.states["mgh-eth0"].addresses} == {
            address for address, holder in held.items() if holder == host
        }
    await other_engine.stop("c-1")
    await other.networks.delete(other_engine.id_of("n1"), everywhere=False)
    assert [each.host for each in await one.addresses.all() if each.kind == "host"] == ["a"]
    assert "mgh-eth0" in kernel.hosted


@pytest.mark.parametrize("after", [False, True])
async def test_whatever_step_fails_repair_finishes_it(*, after: bool) -> None:
    """Before it was done, and after it with the answer lost, from the network's beginning to its end: the host reaches
    the containers that run, and nothing is left of it when they are gone."""
    for step in range(1, 200, STRIDE):
        rig = await _rig(own=False)
        rig.faults.arm(step, after=after)
        with contextlib.suppress(MacvlanGlobalError):
            await rig.engine.create_network("n1", LAN, LAN6, options=WANTED)
            await rig.engine.run("c1", "n1")
            await rig.engine.run("c2", "n1")
            await rig.engine.stop("c2")
        steps = len(rig.faults.taken)
        rig.faults.arm(0)
        await rig.mend()
        await rig.mend()
        running = {address for each in rig.engine.containers.values() for address in each.addresses}
        if running:
            assert set(_led_to(rig)) == running, f"step {step}"
        assert rig.driver.host_access.problems == [], f"step {step}"
        for name in list(rig.engine.containers):
            await rig.engine.stop(name)
        with contextlib.suppress(KeyError):
            await rig.engine.remove_network("n1")
        await rig.mend()
        assert (_shims(rig), await _claimed(rig)) == ([], []), f"step {step}"
        assert list(await rig.driver.tables.host_access.scan()) == [], f"step {step}"
        if steps < step:
            return
    raise AssertionError("it never ends")


async def test_many_containers_at_once_are_all_reached() -> None:
    """Those that come while the shims are looked at share the next look."""
    rig = await _rig()
    await rig.engine.create_network("n1", LAN, options=WANTED)
    containers = await asyncio.gather(*(rig.engine.run(f"c{number}", "n1") for number in range(30 if BRIEF else 100)))
    assert set(_led_to(rig)) == {address for each in containers for address in each.addresses}
    await asyncio.gather(*(rig.engine.stop(each.name) for each in containers))
    assert (_led_to(rig), rig.driver.host_access.problems) == ({}, [])


async def test_a_network_that_goes_gives_its_address_back_whatever_is_wrong_with_another() -> None:
    """One network's shim cannot be made for long. What may still be on a shim is kept."""
    rig = await _rig("eth0", "eth1", own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    await rig.engine.stop("c1")
    (own,) = await _claimed(rig)
    rig.kernel.add_device("mgh-eth1")  # an operator's, in the way for good
    await rig.engine.create_network("n2", Subnet("10.9.0.0/24"), options={**WANTED, "parent": "eth1"})
    await rig.engine.run("c2", "n2")
    assert rig.driver.host_access.problems
    assert own in await _claimed(rig)
    await rig.engine.remove_network("n1")
    assert own not in await _claimed(rig)


async def test_a_network_whose_parent_is_gone_gives_its_address_back() -> None:
    """The kernel plays it: the interface is gone, and the shim with it, before the network is removed."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    await rig.engine.stop("c1")
    assert await _claimed(rig)
    await rig.kernel.delete("eth0")
    await rig.driver.host_access.update(observe=True)
    await rig.engine.remove_network("n1")
    assert await _claimed(rig) == []
    assert await rig.driver.tables.host_access.scan() == []


async def test_an_address_that_is_on_the_shim_is_nobody_else_s_though_its_record_is_lost() -> None:
    """The state folder was put back from an older copy. The shim gets another address, and then the old one is free."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    await rig.engine.run("c1", "n1")
    (own,) = await _claimed(rig)
    await rig.driver.tables.host_access.drop(engine_id("n1"), "10.8.0.0/24")
    rig.clock.advance(7200)
    again = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    await again.mend(grace=60)
    assert own in await _claimed(again)
    assert own not in {str(each) for each in _shim(again).addresses}
    await again.mend(grace=60)
    (new,) = await _claimed(again)
    assert {str(each) for each in _shim(again).addresses} == {new} != {own}


async def test_a_pool_that_the_host_misses_asks_for_no_repair() -> None:
    """It asks in each repair: one would follow the other for ever. The engine's request does."""
    rig = await _rig(own=False)
    await rig.engine.create_network("n1", LAN, options=WANTED)
    (pool,) = await rig.driver.pools.all()
    await rig.driver.pools.give_back(pool)
    with pytest.raises(MacvlanGlobalError, match="there is no pool"):
        await rig.driver.ipam.request_address(pool_id(pool), "", for_host=True)
    assert not rig.driver.ipam.missed.is_set()
    with pytest.raises(MacvlanGlobalError, match="there is no pool"):
        await rig.engine.run("c1", "n1")
    assert rig.driver.ipam.missed.is_set()
