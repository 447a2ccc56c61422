"""What waits for a store that is away: kept on disk, delivered once, harmless if it is late."""

import asyncio
from ipaddress import ip_address

import pytest

from macvlan_global.errors import Unavailable
from testkit.cluster_rig import ClusterRig
from testkit.fake_engine import Subnet
from testkit.rig import Rig

LAN = Subnet("10.9.0.0/24", gateway="10.9.0.1")


async def test_a_container_ends_while_the_store_is_away() -> None:
    """Nothing keeps the engine waiting, and its address is free once the store is back."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    await host.engine.create_network("lan", LAN, options={"parent": "eth0"})
    await host.engine.run("web", "lan", ip="10.9.0.9")
    rig.reach(away=True)
    await host.engine.stop("web")
    assert [each.address for each in await host.outbox.waiting()] != []
    with pytest.raises(Unavailable):
        await host.outbox.deliver()
    rig.reach(away=False)
    await host.outbox.deliver()
    assert await host.outbox.waiting() == []
    assert [each.address for each in await host.driver.addresses.all()] == ["10.9.0.1"]


async def test_what_waits_survives_the_driver() -> None:
    """It is delivered by the next run of it."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    await host.engine.create_network("lan", LAN, options={"parent": "eth0"})
    await host.engine.run("web", "lan", ip="10.9.0.9")
    rig.reach(away=True)
    await host.engine.stop("web")
    later = await rig.restart("a")
    rig.reach(away=False)
    assert await later.outbox.deliver() > 0
    assert [each.address for each in await later.driver.addresses.all()] == ["10.9.0.1"]


async def test_what_is_added_at_one_time_goes_out_in_that_order() -> None:
    """However coarse the clock is."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    addresses = [f"10.9.0.{number}" for number in range(200, 100, -1)]
    for address in addresses:
        await host.outbox.release_later("macvlan-global", ip_address(address))
    waiting = await host.outbox.waiting()
    assert len({each.at for each in waiting}) == 1
    assert [each.address for each in waiting] == addresses


async def test_a_late_release_frees_nobody_elses_address() -> None:
    """By the time it is delivered, a container of another host has the address."""
    rig = await ClusterRig.build()
    one = await rig.host("a")
    await one.engine.create_network("lan", LAN, options={"parent": "eth0"})
    await one.engine.run("web", "lan", ip="10.9.0.9")
    rig.reach(away=True)
    await one.engine.stop("web")
    rig.reach(away=False)
    (held,) = [each for each in await one.driver.addresses.all() if each.kind == "endpoint"]
    assert await one.driver.addresses.give_back(held)  # an operator, or a host that took this one for dead
    two = await rig.host("b")
    await two.join("lan", one)
    await two.engine.run("db", "lan", ip="10.9.0.9")
    await one.outbox.deliver()
    (held,) = [each for each in await one.driver.addresses.all() if each.kind == "endpoint"]
    assert held.host == two.driver.identity.host


async def test_a_removal_reaches_the_cluster_later() -> None:
    """The definition goes and the mark stays, and the pool is free again."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    await host.publish("lan", LAN)
    rig.reach(away=True)
    await host.engine.remove_network("lan")
    rig.reach(away=False)
    assert [row.record.name for row in await host.driver.tables.definitions.scan()] == ["lan"]
    await host.outbox.deliver()
    assert await host.driver.tables.definitions.scan() == []
    assert [row.record.name for row in await host.driver.tables.removed.scan()] == ["lan"]
    assert await host.driver.pools.all() == []


async def test_a_removal_leaves_what_other_hosts_still_use() -> None:
    """The pool and the gateway stay until the last container on any host is gone."""
    rig = await ClusterRig.build()
    one, two = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    await two.join("lan", one)
    await two.engine.run("db", "lan")
    await one.engine.remove_network("lan")
    assert len(await one.driver.pools.all()) == 1
    await two.engine.stop("db")
    await two.mend()
    assert await one.driver.pools.all() == []
    assert await one.driver.addresses.all() == []


async def test_what_the_engine_forgot_to_give_back_goes_with_its_network() -> None:
    """It forgets the IPv4 address of a container whose IPv6 address was refused. The host that removed the network
    leaves that to the host that reserved it; a network that came meanwhile, and has the subnet, keeps all."""
    rig = await ClusterRig.build()
    one, two = await rig.host("a"), await rig.host("b")
    for again in (False, True):
        await one.publish("lan", LAN)
        await two.join("lan", one)
        await two.driver.ipam.request_address(f"macvlan-global/{LAN.subnet}", "10.9.0.7")
        await one.engine.remove_network("lan")
        await one.outbox.deliver()
        assert [each.address for each in await one.driver.addresses.all()] == ["10.9.0.7"]
        if again:
            await one.publish("other", LAN)
        await two.engine.remove_network("lan")
        await two.outbox.deliver()
        left = {"10.9.0.1", "10.9.0.7"} if again else set()
        assert {each.address for each in await one.driver.addresses.all()} == left


async def test_what_the_engine_forgot_goes_also_while_other_hosts_still_use_the_network() -> None:
    """Its pool stays until the last container elsewhere has ended, and the removal is told of only once."""
    rig = await ClusterRig.build()
    one, two = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    await two.join("lan", one)
    await two.engine.run("db", "lan", ip="10.9.0.9")
    await one.driver.ipam.request_address(f"macvlan-global/{LAN.subnet}", "10.9.0.7")
    await one.engine.remove_network("lan")
    await one.outbox.deliver()
    assert {each.address for each in await one.driver.addresses.all()} == {"10.9.0.1", "10.9.0.9"}


async def test_a_container_that_starts_keeps_its_address_when_another_network_on_its_subnet_goes() -> None:
    """Its own network was removed elsewhere, and has no pool any more; a stopped container keeps it here."""
    rig = await ClusterRig.build()
    one, two = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    await two.join("lan", one)
    await one.engine.remove_network("lan")
    await one.outbox.deliver()
    await one.publish("other", LAN)
    await two.join("other", one)
    await two.driver.ipam.request_address(f"macvlan-global/{LAN.subnet}", "10.9.0.7")
    await two.engine.remove_network("other")
    await two.outbox.deliver()
    assert "10.9.0.7" in {each.address for each in await one.driver.addresses.all()}


async def test_a_host_alone_keeps_nothing_for_later() -> None:
    """It has nobody to tell."""
    assert (await Rig.build()).driver.outbox is None


@pytest.mark.virtual_time
@pytest.mark.parametrize("error", [Unavailable("away"), OSError("foreign"), TypeError("a bug")], ids=repr)
async def test_no_failure_ends_the_delivery(error: Exception) -> None:
    """The driver goes on, and delivers as soon as the store answers, in the order in which things were added."""
    rig = await ClusterRig.build()
    host = await rig.host("a")
    await host.publish("lan", LAN)
    await host.engine.run("web", "lan", ip="10.9.0.9")
    rig.reach(away=True)
    await host.engine.stop("web")
    rig.clock.advance(1)
    await host.engine.remove_network("lan")
    host.faults.error = error
    running = asyncio.ensure_future(host.outbox.run())
    await asyncio.sleep(60)
    assert not running.done()
    assert [each.kind for each in await host.outbox.waiting()][-1] == "removal"
    rig.reach(away=False)
    await asyncio.sleep(60)
    assert await host.outbox.waiting() == []
    assert (await host.driver.pools.all(), await host.driver.addresses.all()) == ([], [])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
