"""An address that somebody asked for stays theirs while there are others (B06, B32)."""

import pytest

from macvlan_global.errors import Conflict, Exhausted
from macvlan_global.ipam.allocator import COOLING_SECONDS
from macvlan_global.ipam.avoided_tables import AGAIN_SECONDS, REMEMBERED_MOST
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.store.records import StaticAddressRecord
from testkit.cluster_rig import ClusterRig
from testkit.fake_engine import Subnet
from testkit.rig import HOST, Rig

LAN = Subnet("10.7.0.0/29", gateway="10.7.0.1")
LONG = COOLING_SECONDS * 10


async def _rig(subnet: Subnet = LAN) -> Rig:
    rig = await Rig.build("eth0")
    await rig.engine.create_network("lan", subnet, options={"parent": "eth0"})
    return rig


async def _again(rig: Rig) -> Rig:
    """The driver starts anew."""
    return await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)


@pytest.mark.parametrize("restart", [False, True], ids=["same run", "after a restart"])
async def test_the_address_of_a_stopped_static_container_is_given_out_last(restart: bool) -> None:
    """Not even when its rest is over and the walk comes round. Once it is all that is left, it is given out."""
    rig = await _rig()
    await rig.engine.run("static", "lan", ip="10.7.0.2")
    await rig.engine.stop("static")
    rig.clock.advance(LONG)
    if restart:
        rig = await _again(rig)
    got = [(await rig.engine.run(f"dyn{number}", "lan")).address for number in range(4)]
    assert "10.7.0.2/29" not in got
    assert (await rig.engine.run("static", "lan", ip="10.7.0.2")).address == "10.7.0.2/29"
    await rig.engine.stop("static")
    assert (await rig.engine.run("last", "lan")).address == "10.7.0.2/29"
    with pytest.raises(Exhausted):
        await rig.engine.run("more", "lan")
    with pytest.raises(Conflict, match="in use by"):
        await rig.engine.run("static", "lan", ip="10.7.0.2")


async def test_a_host_that_lost_power_keeps_its_static_addresses() -> None:
    """No DeleteEndpoint came: repair frees the address, and remembers it."""
    rig = await _rig()
    await rig.engine.run("static", "lan", ip="10.7.0.2")
    rig.engine.forget("static")
    rig.clock.advance(LONG)
    rig = await _again(rig)
    await rig.mend()
    assert [each.kind for each in await rig.driver.addresses.all()] == ["gateway"]
    rig.clock.advance(LONG)
    got = [(await rig.engine.run(f"dyn{number}", "lan")).address for number in range(4)]
    assert "10.7.0.2/29" not in got


async def test_a_dynamic_address_is_anybody_s_again() -> None:
    """Nobody asked for it."""
    rig = await _rig()
    web = await rig.engine.run("web", "lan")
    await rig.engine.stop("web")
    assert web.address == "10.7.0.2/29"
    assert await rig.driver.tables.static_addresses.scan() == []


async def test_a_container_that_never_ran_asks_for_nothing() -> None:
    """Its start failed, perhaps since the address was a mistake."""
    rig = await _rig()
    rig.kernel.failing["add_macvlan"] = Conflict("no link on purpose")
    with pytest.raises(Conflict, match="on purpose"):
        await rig.engine.run("web", "lan", ip="10.7.0.3")
    assert await rig.driver.tables.static_addresses.scan() == []


async def test_every_host_of_a_cluster_remembers() -> None:
    """Also one that starts later; the container may move."""
    rig = await ClusterRig.build()
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    await other.join("lan", one)
    await one.engine.run("static", "lan", ip="10.7.0.4")
    await one.engine.stop("static")
    rig.clock.advance(LONG)
    other = await rig.restart("b")
    got = [(await other.engine.run(f"dyn{number}", "lan")).address for number in range(4)]
    assert "10.7.0.4/29" not in got
    assert (await other.engine.run("static", "lan", ip="10.7.0.4")).address == "10.7.0.4/29"


async def test_all_is_forgotten_with_the_last_network_on_the_subnet() -> None:
    """Another one that overlaps keeps what is in it."""
    rig = await _rig(Subnet("10.7.0.0/24"))
    await rig.engine.create_network("beside", Subnet("10.7.0.0/25"), options={"parent": "eth0"})
    for name, ip in (("low", "10.7.0.9"), ("high", "10.7.0.200")):
        await rig.engine.run(name, "lan", ip=ip)
        await rig.engine.stop(name)
    await rig.engine.remove_network("lan")
    assert [row.record.address for row in await rig.driver.tables.static_addresses.scan()] == ["10.7.0.9"]
    await rig.engine.remove_network("beside")
    assert await rig.driver.tables.static_addresses.scan() == []


async def test_what_is_remembered_is_bounded_in_number() -> None:
    """The oldest go first; a container that restarts all day writes once."""
    rig = await _rig(Subnet("10.8.0.0/16"))
    table = rig.driver.tables.static_addresses

    async def once(number: int) -> None:
        await rig.engine.run("web", "lan", ip=f"10.8.{number // 200 + 1}.{number % 200 + 1}")
        await rig.engine.stop("web")
        rig.clock.advance(1)

    await once(0)
    (first,) = await table.scan()
    await once(0)
    assert await table.scan() == [first]
    rig.clock.advance(AGAIN_SECONDS)
    await once(0)
    assert await table.scan() != [first]
    for number in range(1, REMEMBERED_MOST):
        address = f"10.8.{number // 200 + 1}.{number % 200 + 1}"
        record = StaticAddressRecord(space=DEFAULT_SPACE, address=address, host=HOST.host, at=rig.clock())
        await table.put(record, record.space, record.address)
    rig = await _again(rig)
    table = rig.driver.tables.static_addresses
    assert len(await table.scan()) == REMEMBERED_MOST
    for number in range(REMEMBERED_MOST, REMEMBERED_MOST + 3):
        await once(number)
    assert len(await table.scan()) == REMEMBERED_MOST
    assert await table.get(DEFAULT_SPACE, "10.8.1.1") is None


async def test_thirty_restarts_have_the_same_address() -> None:
    """With a range of one address, and --ip outside it; a dynamic second one is told that the range is full."""
    rig = await _rig(Subnet("192.168.40.0/22", "192.168.42.252/32", gateway="192.168.41.1"))
    for _ in range(30):
        web = await rig.engine.run("web", "lan", ip="192.168.40.9")
        assert web.address == "192.168.40.9/22"
        await rig.engine.stop("web")
    assert (await rig.engine.run("dyn", "lan")).address == "192.168.42.252/22"
    with pytest.raises(Exhausted, match=r"192\.168\.42\.252/32"):
        await rig.engine.run("more", "lan")
