"""An address stays with its name (issue 12, section 2), with an engine that tells names as Docker 29 does."""

import asyncio
from ipaddress import ip_interface

import pytest
from msgspec.structs import replace

from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.driver.name_memory import AGAIN_SECONDS, REMEMBERED_SECONDS, TOGETHER_SECONDS
from macvlan_global.errors import Conflict, Exhausted, NotFound, Unavailable
from macvlan_global.ipam.allocator import COOLING_SECONDS
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.names import mac_from_name
from macvlan_global.kernel.ports import RouteFacts
from macvlan_global.libnetwork.handlers import NAME_KEY
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch, Entry
from macvlan_global.store.records import RememberedRecord
from macvlan_global.subnets import parse_address
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_clock import FakeClock
from testkit.fake_engine import Subnet
from testkit.rig import HOST, Rig

LAN = Subnet("10.7.0.0/29", gateway="10.7.0.1")
WIDE = Subnet("10.8.0.0/24", gateway="10.8.0.1")
SIX = Subnet("fd07::/64", gateway="fd07::1")
LONG = COOLING_SECONDS * 10


async def _rig(*subnets: Subnet, steady: FakeClock | None = None, options: dict[str, str] | None = None) -> Rig:
    rig = await Rig.build("eth0", steady=steady)
    rig.engine.tells_names = True
    await rig.engine.create_network("lan", *(subnets or (WIDE,)), options={"parent": "eth0", **(options or {})})
    return rig


async def _again(rig: Rig, steady: FakeClock | None = None) -> Rig:
    """The driver starts anew."""
    await rig.driver.memory.settle()
    return await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine, steady=steady)


async def _had(rig: Rig, *names: str) -> dict[str, tuple[str, str, str]]:
    """Run these containers side by side and stop them in this order: the addresses and MACs that they had."""
    had = {}
    for name in names:
        made = await rig.engine.run(name, "lan")
        had[name] = (made.address, made.address6, made.mac)
    for name in names:
        await rig.engine.stop(name)
    rig.clock.advance(LONG)
    return had


async def _two(rig: ClusterRig, subnet: Subnet = WIDE) -> tuple[ClusterHost, ClusterHost]:
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", subnet)
    await other.join("lan", one)
    for each in (one, other):
        each.engine.tells_names = True
    return one, other


async def _follow(*hosts: ClusterHost) -> None:
    """What was queued is written, and every host sees it, as by its watch."""
    for each in hosts:
        await each.driver.memory.settle()
    for each in hosts:
        tables, avoided = each.driver.tables, each.driver.addresses.avoided
        for table in (tables.host_addresses, tables.static_addresses, tables.remembered):
            await avoided.take(Batch(True, tuple(await table.entries())), table.prefix)


@pytest.mark.parametrize("restart", [False, True], ids=["same run", "after a restart"])
async def test_a_container_made_anew_has_the_addresses_and_the_mac_that_it_had(restart: bool) -> None:
    """IPv4, IPv6 and MAC, whatever was started and stopped in between."""
    rig = await _rig(WIDE, SIX)
    had = await _had(rig, "one", "web", "other")
    if restart:
        rig = await _again(rig)
        rig.engine.tells_names = True
    for name in ("new1", "new2", "other", "web"):
        made = await rig.engine.run(name, "lan")
        if name in had:
            assert (made.address, made.address6, made.mac) == had[name]
    assert made.mac == mac_from_name(rig.engine.id_of("lan"), "web")


async def test_a_container_on_another_host_has_them_too() -> None:
    """The memory is the cluster's."""
    one, other = await _two(await ClusterRig.build())
    had = await one.engine.run("web", "lan")
    await one.engine.stop("web")
    await _follow(one, other)
    now = await other.engine.run("web", "lan")
    assert (now.address, now.mac) == (had.address, had.mac)


async def test_the_first_address_of_a_network_waits_for_its_names_and_for_no_others() -> None:
    """The host follows none yet: it reads those of this network, once for all requests of a moment."""
    rig = await ClusterRig.build()
    one, other = await _two(rig)
    await one.publish("second", Subnet("10.77.0.0/24", gateway="10.77.0.1"))
    had = await one.engine.run("web", "lan")
    await one.engine.run("x", "second")
    await one.engine.stop("web")
    await one.driver.memory.settle()
    other.faults.taken.clear()
    now, new = await other.engine.run("web", "lan"), await other.engine.run("new", "lan")
    assert (now.address, now.mac) == (had.address, had.mac)
    assert new.address != had.address
    assert [each.name for each in other.driver.memory.known()] == ["web", "new"]
    read = [each for each in other.faults.taken if "scan" in each and "avoided/names" in each]
    assert len(read) == 1


class Silent(MemoryStore):
    """A store that fails when names are read."""

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        if prefix.startswith("avoided/names/"):
            raise Unavailable("the store does not answer")
        return await super().scan(prefix)


async def test_names_that_cannot_be_read_hold_up_no_container() -> None:
    """It gets another address than it had, at worst."""
    one, other = await _two(ClusterRig(shared=Silent()))
    await one.engine.run("web", "lan")
    await one.engine.stop("web")
    await one.driver.memory.settle()
    assert (await other.engine.run("web", "lan")).address


async def test_two_hosts_with_one_name_at_a_time_have_two_addresses_and_two_macs() -> None:
    """The first one is the one that is remembered. Neither start is refused, whether or not the second host has heard
    of the first one."""
    one, other = await _two(await ClusterRig.build())
    first, second = await one.engine.run("web", "lan"), await other.engine.run("web", "lan")
    assert first.mac != second.mac and first.address != second.address
    await other.engine.stop("web")
    await _follow(one, other)
    third = await other.engine.run("web", "lan")
    assert third.mac != first.mac and third.address != first.address
    await one.engine.stop("web")
    await _follow(one, other)
    again = await one.engine.run("web", "lan")
    assert (again.address, again.mac) == (first.address, first.mac)


async def test_the_second_container_of_a_name_is_known_by_the_mac_that_it_has() -> None:
    """Another host has the name, which is known when the address is claimed already. Users and conflicts go by the MAC
    that the claim has; repair mends what an earlier release wrote."""
    one, other = await _two(await ClusterRig.build())
    first, second = await one.engine.run("web", "lan"), await other.engine.run("web", "lan", ip="10.8.0.77")

    async def told() -> dict[str, str]:
        return {each.address: each.mac for each in await one.driver.addresses.all() if each.kind == "endpoint"}

    macs = {first.addresses[0]: first.mac, "10.8.0.77": second.mac}
    assert await told() == macs
    with pytest.raises(Conflict, match="on host b has it"):
        await one.engine.run("db", "lan", mac=second.mac)
    row = await other.driver.tables.addresses.get("macvlan-global", "10.8.0.77")
    assert row and row.record.static
    assert await other.driver.tables.addresses.replace(row, replace(row.record, mac=first.mac))
    assert await one.mend() == []
    assert len(await other.mend()) == 1
    assert await told() == macs


@pytest.mark.parametrize("attach", ["plain", "direct"])
async def test_a_mac_of_a_name_that_a_user_chose_for_another_container_is_not_given_twice(attach: str) -> None:
    """The container of the name starts, with a random MAC; it has its own again when the other one is gone."""
    rig = await _rig(options={"attach": attach})
    had = (await _had(rig, "web"))["web"]
    await rig.engine.run("copy", "lan", mac=had[2])
    assert (await rig.engine.run("web", "lan")).mac != had[2]
    await rig.engine.stop("web")
    await rig.engine.stop("copy")
    assert (await rig.engine.run("web", "lan")).mac == had[2]


async def test_a_mac_of_a_name_that_a_user_chose_on_another_host_is_not_given_twice() -> None:
    """As far as its row is known here. A row whose container is gone hinders nobody."""
    one, other = await _two(await ClusterRig.build())
    mac = (await other.engine.run("web", "lan")).mac
    await other.engine.stop("web")
    await one.engine.run("copy", "lan", mac=mac)
    await _follow(one, other)
    assert (await other.engine.run("web", "lan")).mac != mac
    await other.engine.stop("web")
    await one.engine.stop("copy")
    await _follow(one, other)
    assert (await other.engine.run("web", "lan")).mac == mac


async def test_a_host_that_knows_an_old_row_of_a_name_asks_the_store_who_has_it() -> None:
    """The other host has started one of that name meanwhile, and this one has not heard of it: its own last row of the
    name is all that it knows."""
    one, other = await _two(await ClusterRig.build())
    had = await one.engine.run("web", "lan")
    await one.engine.stop("web")
    await _follow(one, other)
    there = await other.engine.run("web", "lan", ip="10.8.0.77")
    here = await one.engine.run("web", "lan")
    assert (here.address, there.address) == (had.address, "10.8.0.77/24")
    assert here.mac != there.mac == had.mac


async def test_a_host_that_starts_its_container_again_is_seen_by_one_that_takes_over_its_name() -> None:
    """The other host looked at the addresses just before they were claimed again: its write is lost."""
    one, other = await _two(await ClusterRig.build())
    await one.engine.run("web", "lan")
    await one.engine.stop("web")
    await _follow(one, other)
    (before,) = await other.driver.tables.remembered.scan()
    await one.engine.run("web", "lan")
    assert await other.driver.tables.remembered.replace(before, before.record) is None


async def test_a_container_that_is_renamed_while_the_next_one_starts_keeps_what_it_has() -> None:
    """As by updaters that rename the old one, start the new one, and stop the old one then."""
    rig = await _rig()
    old = await rig.engine.run("web", "lan")
    rig.engine.containers["old"] = rig.engine.containers.pop("web")
    new = await rig.engine.run("web", "lan")
    assert new.address != old.address and new.mac != old.mac
    told = {each.address: each.mac for each in await rig.driver.addresses.all() if each.kind == "endpoint"}
    assert told == {old.addresses[0]: old.mac, new.addresses[0]: new.mac}


async def test_remembered_addresses_are_given_to_others_last_and_the_longest_unused_first() -> None:
    """By the time of the last use, not of the first one; and only when nothing else is left."""
    rig = await _rig(LAN)
    had = await _had(rig, "a", "b", "c")
    await rig.engine.run("a", "lan")
    await rig.engine.stop("a")
    rig.clock.advance(LONG)
    rig = await _again(rig)
    rig.engine.tells_names = False
    got = [(await rig.engine.run(f"dyn{number}", "lan")).address for number in range(5)]
    assert got[2:] == [had[name][0] for name in ("b", "c", "a")]
    with pytest.raises(Exhausted):
        await rig.engine.run("more", "lan")


async def test_a_name_whose_address_was_given_away_gets_another_one_and_keeps_its_mac() -> None:
    """From then on that one is remembered, and the other name has the first one."""
    rig = await _rig(LAN)
    had = await _had(rig, "web")
    others = [await rig.engine.run(f"dyn{number}", "lan") for number in range(5)]
    assert others[-1].address == had["web"][0]
    await rig.engine.stop("dyn0")
    rig.clock.advance(LONG)
    web = await rig.engine.run("web", "lan")
    assert web.address == others[0].address and web.mac == had["web"][2]
    await rig.driver.memory.settle()
    kept = {each.name: each.address for each in rig.driver.memory.known()}
    assert f"{kept['web']}/29" == web.address and f"{kept['dyn4']}/29" == had["web"][0]
    assert len(set(kept.values())) == len(kept) == 5


@pytest.mark.parametrize("options", [{}, {"mac": "random"}, {"mac": "address"}, {"sticky": "false"}])
async def test_options_say_what_stays(options: dict[str, str]) -> None:
    """mac=random keeps the address and draws the MAC; mac=address derives it; sticky=false remembers nothing."""
    rig = await _rig(WIDE, options=options)
    had = (await _had(rig, "one", "web"))["web"]
    made = await rig.engine.run("web", "lan")
    await rig.driver.memory.settle()
    if options == {"sticky": "false"}:
        assert made.address != had[0] and made.mac != had[2]
        assert await rig.driver.tables.remembered.scan() == []
    else:
        assert made.address == had[0]
        assert (made.mac == had[2]) == (options != {"mac": "random"})


@pytest.mark.parametrize("options", [{}, {"mac": "address"}])
@pytest.mark.parametrize("tells", [True, False], ids=["of a name", "of an engine that tells no names"])
async def test_a_name_whose_address_another_container_has_keeps_its_next_one(
    options: dict[str, str], tells: bool
) -> None:
    """A user gave the other one that address. With mac=address that one has the MAC of before, too."""
    rig = await _rig(options=options)
    had = (await _had(rig, "web"))["web"]
    rig.engine.tells_names = tells
    db = await rig.engine.run("db", "lan", ip=had[0].partition("/")[0])
    await rig.driver.endpoints.name(await rig.driver.endpoints.get(rig.engine.id_of("lan"), db.endpoint), "db")
    await rig.driver.memory.settle()
    rig.engine.tells_names = True
    next_one = (await _had(rig, "web"))["web"]
    assert next_one[0] != had[0]
    await _had(rig, "other")
    assert (await _had(rig, "web"))["web"] == next_one


async def test_an_engine_that_does_not_tell_names_changes_nothing() -> None:
    """Random MACs, next-fit, and no row: as before."""
    rig = await _rig()
    rig.engine.tells_names = False
    had = (await _had(rig, "one", "web"))["web"]
    made = await rig.engine.run("web", "lan")
    assert made.address == "10.8.0.4/24" and had[0] == "10.8.0.3/24" and made.mac != had[2]
    await rig.driver.memory.settle()
    assert await rig.driver.tables.remembered.scan() == []


async def test_what_a_user_gives_comes_first() -> None:
    """--ip and --mac-address are as given; the address is what is remembered from then on, if it is in the range."""
    rig = await _rig(Subnet("10.8.0.0/24", "10.8.0.128/25", gateway="10.8.0.1"))
    first = (await _had(rig, "web"))["web"]
    given = await rig.engine.run("web", "lan", ip="10.8.0.200", mac="02:00:00:00:00:aa")
    assert (given.address, given.mac) == ("10.8.0.200/24", "02:00:00:00:00:aa")
    await rig.engine.stop("web")
    again = await rig.engine.run("web", "lan")
    assert (again.address, again.mac) == ("10.8.0.200/24", first[2])
    await rig.engine.stop("web")
    await rig.engine.run("web", "lan", ip="10.8.0.9")
    await rig.engine.stop("web")
    assert (await rig.engine.run("web", "lan")).address != "10.8.0.9/24", "outside the range nothing is given unasked"


async def test_an_address_that_a_host_has_by_now_is_passed_over() -> None:
    """As any other one."""
    rig = await _rig()
    had = (await _had(rig, "web"))["web"]
    rig.kernel.route_facts = RouteFacts(addresses=(("eth0", ip_interface(had[0])),))
    assert (await rig.engine.run("web", "lan")).address != had[0]


async def test_a_store_that_takes_no_row_hinders_no_container() -> None:
    """Its MAC is random then: nobody knows whether another host has one of that name."""
    rig = await ClusterRig.build()
    one, _ = await _two(rig)
    one.faults.refused = "avoided/names/"
    web = await one.engine.run("web", "lan")
    await one.engine.stop("web")
    assert web.mac != mac_from_name(one.engine.id_of("lan"), "web")
    one.faults.refused = ""
    again = await one.engine.run("web", "lan")
    assert again.mac == mac_from_name(one.engine.id_of("lan"), "web")


async def test_two_requests_for_one_address_do_not_mix_up_their_names() -> None:
    """A reservation is shared until one of two containers claims it: the row of that one stays (simulation, 920043)."""
    rig = await _rig()
    pool, network = rig.engine.pool_of("lan"), rig.engine.id_of("lan")
    options = {NAME_KEY: "web"}
    await rig.engine.plugin.call("IpamDriver.RequestAddress", PoolID=pool, Address="10.8.0.9", Options=options)
    endpoint = {"NetworkID": network, "EndpointID": "e1", "Interface": {"Address": "10.8.0.9/24"}}
    (record,) = await rig.driver.pools.all()
    creating = asyncio.ensure_future(rig.engine.plugin.call("NetworkDriver.CreateEndpoint", **endpoint))
    while not await rig.driver.tables.endpoints.scan():  # each look lets the request go on by a step
        pass
    rig.driver.memory.note(record, parse_address("10.8.0.9", "address"), (network, "db"))
    await creating
    await rig.driver.memory.settle()
    assert [(each.name, each.address) for each in rig.driver.memory.known()] == [("web", "10.8.0.9")]


async def test_a_row_that_cannot_be_written_anew_is_kept() -> None:
    """The container moved to another host, and the store refused the write: the next time it has what it had."""
    one, other = await _two(await ClusterRig.build())
    had = await one.engine.run("web", "lan")
    await one.engine.stop("web")
    await _follow(one, other)
    other.faults.refused = "replace avoided/names/"
    moved = await other.engine.run("web", "lan")
    assert moved.address == had.address and moved.mac != had.mac
    await other.engine.stop("web")
    other.faults.refused = ""
    await _follow(one, other)
    again = await other.engine.run("web", "lan")
    assert (again.address, again.mac) == (had.address, had.mac)


async def test_what_was_to_be_forgotten_is_not_if_its_container_has_it_again() -> None:
    """It was queued when another container had the address, and is done when that one is gone."""
    rig = await _rig(LAN)
    had = (await _had(rig, "web"))["web"]
    await rig.driver.memory.settle()
    rig.engine.tells_names = False
    await rig.engine.run("thief", "lan", ip="10.7.0.2")
    await rig.engine.stop("thief")
    rig.engine.tells_names = True
    assert (await rig.engine.run("web", "lan")).address == had[0]
    await rig.driver.memory.settle()
    assert [(each.name, each.address) for each in rig.driver.memory.known() if each.name] == [("web", "10.7.0.2")]


async def test_what_the_store_missed_is_written_when_it_is_back() -> None:
    """The end of a container while it is away, of all that is queued."""
    rig = await ClusterRig.build()
    one, other = await _two(rig, LAN)
    for name in ("a", "b"):
        await one.engine.run(name, "lan")
    rig.clock.advance(5)
    rig.reach(away=True)
    await one.engine.stop("b")
    await one.engine.stop("a")
    rig.reach(away=False)
    await one.outbox.deliver()
    await _follow(one, other)
    assert [each.name for each in other.driver.memory.known()] == ["b", "a"]


async def test_the_ends_of_a_container_are_written_together() -> None:
    """A container that restarts again and again costs one write, however often: with Consul, each is read by all."""
    rig = await _rig()
    disk = rig.disk
    assert isinstance(disk, MemoryStore)
    for _ in range(9):
        await rig.engine.run("web", "lan")
        rig.clock.advance(1)
        await rig.engine.stop("web")
    (before,) = await rig.driver.tables.remembered.scan()
    revision = disk.save().revision
    await rig.driver.memory.settle()
    (after,) = await rig.driver.tables.remembered.scan()
    assert before.entry.revision < after.entry.revision == revision + 1 == disk.save().revision


@pytest.mark.virtual_time
async def test_the_end_of_a_container_is_written_half_a_minute_later() -> None:
    """Or when the driver ends, so that a restart of the driver loses nothing."""
    rig = await _rig()
    running = asyncio.create_task(rig.driver.memory.run())

    async def stopped() -> int:
        await rig.engine.run("web", "lan")
        rig.clock.advance(1)
        await rig.engine.stop("web")
        return (await rig.driver.tables.remembered.scan())[0].entry.revision

    first = await stopped()
    await asyncio.sleep(TOGETHER_SECONDS - 1)
    assert (await rig.driver.tables.remembered.scan())[0].entry.revision == first
    await asyncio.sleep(2)
    assert (await rig.driver.tables.remembered.scan())[0].entry.revision > first
    second = await stopped()
    running.cancel()
    await rig.driver.memory.leave()
    assert (await rig.driver.tables.remembered.scan())[0].entry.revision > second


async def test_rows_that_are_told_together_are_in_the_order_of_their_writes() -> None:
    """A watch of Consul tells of several in the order of their keys."""
    rig = await _rig()
    await _had(rig, "b", "c", "a")
    await rig.driver.memory.settle()
    entries = await rig.driver.tables.remembered.entries()
    other = Driver.build(rig.driver.tables, rig.kernel, Identity("b", "run1", "boot2"), Settings())
    await other.addresses.avoided.take(Batch(False, tuple(sorted(entries, key=lambda each: each.key))))
    assert [each.name for each in other.memory.known()] == ["b", "c", "a"]


async def test_an_address_is_remembered_for_one_container_in_the_end() -> None:
    """Another one has had it since, and the driver ended before it could write so."""
    steady = FakeClock(0)
    rig = await _rig(LAN, steady=steady)
    await _had(rig, "a", "b", "c", "d", "e")
    await rig.driver.memory.settle()
    had = (await rig.engine.run("new", "lan")).address.partition("/")[0]
    rig = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine, steady=steady)
    assert [each.name for each in rig.driver.memory.known() if each.address == had] == ["a", "new"]
    await rig.driver.memory.look()
    assert [each.name for each in rig.driver.memory.known() if each.address == had] == ["new"]


async def test_a_network_that_is_removed_forgets_its_names() -> None:
    """And no other one does."""
    rig = await _rig()
    await rig.engine.create_network("far", Subnet("10.9.0.0/24"), options={"parent": "eth0"})
    for network in ("lan", "far"):
        await rig.engine.run("web", network)
        await rig.engine.stop("web")
    await rig.driver.memory.settle()
    await rig.engine.remove_network("lan")
    assert [row.record.network for row in await rig.driver.tables.remembered.scan()] == [rig.engine.id_of("far")]
    assert [each.network for each in rig.driver.memory.known()] == [rig.engine.id_of("far")]


async def test_an_address_is_forgotten_on_request() -> None:
    """Not while somebody has it, and only one that is remembered. The other address of that name stays."""
    rig = await _rig(WIDE, SIX)
    web = await rig.engine.run("web", "lan")
    address = parse_address(web.address, "address")
    with pytest.raises(Conflict, match=r"10\.8\.0\.2 is in use"):
        await rig.driver.memory.forget(address)
    await rig.engine.stop("web")
    (forgotten,) = await rig.driver.memory.forget(address)
    assert (forgotten.address, forgotten.name) == ("10.8.0.2", "web")
    assert [f"{each.address}/64" for each in rig.driver.memory.known()] == [web.address6]
    with pytest.raises(NotFound, match="addresses --remembered"):
        await rig.driver.memory.forget(address)
    await rig.engine.run("static", "lan", ip="10.8.0.9")
    await rig.engine.stop("static")
    assert len(await rig.driver.memory.forget(parse_address("10.8.0.9", "address"))) == 2
    assert await rig.driver.tables.static_addresses.scan() == []


async def test_an_address_is_remembered_for_thirty_days_by_observation() -> None:
    """Whatever the clock says; the time in which no driver ran does not count. Static ones go by the same rule."""
    steady = FakeClock(0)
    rig = await _rig(steady=steady)
    await _had(rig, "web")
    await rig.engine.run("static", "lan", ip="10.8.0.9")
    await rig.engine.stop("static")
    rig.clock.advance(40 * REMEMBERED_SECONDS)
    await rig.driver.memory.settle()
    await rig.driver.memory.look()
    for _ in range(29):
        steady.advance(86400)
        await rig.driver.memory.look()
    rig = await _again(rig, steady)
    assert len(rig.driver.memory.known()) == 3
    await rig.driver.memory.look()
    steady.advance(2 * 86400)
    await rig.driver.memory.look()
    assert rig.driver.memory.known() == []
    assert not await rig.driver.tables.remembered.scan()
    assert not await rig.driver.tables.static_addresses.scan()


async def test_a_container_that_runs_keeps_its_memory_young() -> None:
    """Its row is written once a day, and again if the store has lost it."""
    steady = FakeClock(0)
    rig = await _rig(steady=steady)
    await rig.engine.run("web", "lan")
    await rig.driver.memory.settle()
    (first,) = await rig.driver.tables.remembered.scan()
    await rig.driver.memory.look()
    steady.advance(AGAIN_SECONDS / 2)
    await rig.driver.memory.look()
    assert await rig.driver.tables.remembered.scan() == [first]
    for _ in range(80):
        steady.advance(AGAIN_SECONDS / 2)
        rig.clock.advance(AGAIN_SECONDS / 2)
        await rig.driver.memory.look()
    (kept,) = await rig.driver.tables.remembered.scan()
    assert kept.entry.revision > first.entry.revision
    await rig.driver.tables.remembered.delete(kept)
    await rig.driver.addresses.avoided.load()
    await rig.driver.memory.look()
    assert [row.record.name for row in await rig.driver.tables.remembered.scan()] == ["web"]


async def test_a_container_whose_driver_is_off_is_not_forgotten_by_others() -> None:
    """Its row grows old, and its claim says that it is there: another one of that name must not have its MAC."""
    steady = FakeClock(0)
    rig = await _rig(steady=steady)
    web = await rig.engine.run("web", "lan")
    await rig.driver.memory.settle()
    other = Driver.build(rig.driver.tables, rig.kernel, Identity("b", "run1", "boot2"), Settings(), steady=steady)
    await other.pools.load()
    await rig.disk.delete((await rig.driver.tables.endpoints.scan())[0].entry)  # of the other host's disk, it is not
    await other.memory.look()
    steady.advance(2 * REMEMBERED_SECONDS)
    await other.memory.look()
    assert [f"{each.address}/24" for each in other.memory.known()] == [web.address]


async def test_a_host_that_could_not_read_the_store_forgets_nothing() -> None:
    """It knows no rows, which is not to say that there are none."""
    steady = FakeClock(0)
    rig = await _rig(steady=steady)
    await _had(rig, "web")
    await rig.driver.memory.settle()
    await rig.driver.memory.look()
    driver = Driver.build(rig.driver.tables, rig.kernel, HOST, Settings(), steady=steady)
    await driver.memory.look()
    assert len(await rig.driver.tables.observed.scan("remembered")) == 1


@pytest.mark.parametrize("value", [b"", b"{", b"[" * 1000, b'{"v":9}', b'{"v":1,"network":"n","name":"web"}'])
async def test_junk_in_a_row_of_ours_is_left_alone_and_hinders_nobody(value: bytes) -> None:
    """The container starts with a random MAC, and nothing of it is remembered."""
    rig = await _rig()
    key = rig.driver.tables.remembered.key(rig.engine.id_of("lan"), "web")
    junk = await rig.disk.create(key, value)
    had = (await _had(rig, "web"))["web"]
    assert had[2] != mac_from_name(rig.engine.id_of("lan"), "web")
    await rig.driver.memory.settle()
    await rig.driver.memory.look()
    assert await rig.disk.get(key) == junk


async def test_a_row_that_somebody_made_up_takes_no_address_from_anybody() -> None:
    """An address outside the pool, of a container that runs, the gateway, or of another space."""
    rig = await _rig()
    db = await rig.engine.run("db", "lan")
    network = rig.engine.id_of("lan")
    for number, address in enumerate(("10.9.9.9", db.address.partition("/")[0], "10.8.0.1", "10.8.0.0", "fd07::9")):
        for space in ("macvlan-global", "other"):
            name = f"web{number}{space}"
            row = RememberedRecord(network=network, name=name, space=space, address=address, host="z", at=1e18)
            assert await rig.driver.tables.remembered.create(row, network, name)
    await rig.driver.addresses.avoided.load()
    got = [
        (await rig.engine.run(f"web{number}{space}", "lan")).address
        for number in range(5)
        for space in ("macvlan-global", "other")
    ]
    assert len({*got, db.address}) == 11
    assert "10.8.0.1/24" not in got and "10.8.0.0/24" not in got


@pytest.mark.parametrize("name", ["", "x" * 300, "a/b", "\ud800", "/web", "%2F", "café"])
async def test_any_name_starts(name: str) -> None:
    """What the engine tells is text; one that makes no key is not remembered."""
    rig = await _rig()
    pool = rig.engine.pool_of("lan")
    reply = await rig.engine.plugin.call("IpamDriver.RequestAddress", PoolID=pool, Address="", Options={NAME_KEY: name})
    assert reply["Address"] == "10.8.0.2/24"
    made = await rig.engine.plugin.call(
        "NetworkDriver.CreateEndpoint",
        NetworkID=rig.engine.id_of("lan"),
        EndpointID="e1",
        Interface={"Address": "10.8.0.2/24"},
    )
    assert made["Interface"]["MacAddress"]
