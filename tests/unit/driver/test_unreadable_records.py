"""Records that anybody may have written, at keys that a driver reads one by one: what cannot be read, or is absurd, is
left alone, and stands in the way of nothing else."""

import asyncio
import contextlib
from ipaddress import ip_interface

import msgspec
import pytest

from macvlan_global.errors import Conflict, MacvlanGlobalError
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.kernel.ports import RouteFacts
from macvlan_global.libnetwork.handlers import GATEWAY, GENERIC, REQUEST_TYPE
from macvlan_global.store.address_keys import padded
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import AddressRecord
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_clock import FakeClock
from testkit.fake_engine import OUR_IPAM, Subnet
from testkit.rig import Rig

LAN, LAN6 = Subnet("10.8.0.0/24", gateway="10.8.0.1"), Subnet("fd00::/64")
JUNK = pytest.mark.parametrize("junk", [b'{"v": 9}', b"junk"], ids=["newer", "junk"])


def key_of(address: str) -> str:
    """The key of an address."""
    return f"addresses/{DEFAULT_SPACE}/{padded(address.partition('/')[0])}"


async def overwrite(store: MemoryStore, key: str, value: bytes) -> None:
    """Somebody writes at a key, whatever is there."""
    known = await store.get(key)
    await (store.replace(known, value) if known else store.create(key, value))


async def named(*hosts: str) -> tuple[ClusterRig, list[ClusterHost], str]:
    """Hosts of a cluster whose engines tell names, with one network; its id in the cluster."""
    rig = await ClusterRig.build()
    made = [await rig.host(each) for each in hosts]
    for each in made:
        each.engine.tells_names = True
    network = await made[0].publish("lan", LAN)
    for each in made[1:]:
        await each.join("lan", made[0])
    return rig, made, network


async def test_an_address_in_a_subnet_of_the_other_family_is_no_record() -> None:
    """It has this host's own id and a correct key: a driver that starts leaves it alone."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("lan", LAN, LAN6, options={"parent": "eth0"})
    absurd = AddressRecord(
        space=DEFAULT_SPACE,
        subnet="10.8.0.0/24",
        address="fd00::99",
        kind="endpoint",
        network="f" * 64,
        endpoint="e" * 64,
        host=rig.driver.identity.host,
        incarnation="x",
        at=1.0,
    )
    await rig.disk.create(key_of("fd00::99"), msgspec.json.encode(absurd))
    rig = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    await rig.mend()
    assert (await rig.engine.run("web", "lan")).address.startswith("10.8.0.")
    assert await rig.disk.get(key_of("fd00::99"))


@JUNK
async def test_the_other_address_of_a_container_is_given_back(junk: bytes) -> None:
    """Somebody overwrote the first one. The container ends as any other does."""
    rig = await ClusterRig.build()
    a = await rig.host("a")
    await a.publish("lan", LAN, LAN6)
    web = await a.engine.run("web", "lan")
    await overwrite(rig.shared, key_of(web.address), junk)
    await a.engine.stop("web")
    assert await a.driver.endpoints.all() == []
    held = {each.address for each in await a.driver.addresses.all()}
    assert web.address6.partition("/")[0] not in held
    assert [each.value for each in await rig.shared.scan(key_of(web.address))] == [junk]


@JUNK
async def test_a_container_whose_address_is_remembered_starts_with_another_one(junk: bytes) -> None:
    """Nobody can read who has the address by now."""
    rig, (a,), _ = await named("a")
    web = await a.engine.run("web", "lan")
    await a.engine.stop("web")
    await a.driver.memory.settle()
    await overwrite(rig.shared, key_of(web.address), junk)
    again = await a.engine.run("web", "lan")
    assert again.address != web.address


@JUNK
async def test_a_holder_whose_name_cannot_be_read_has_its_id(junk: bytes) -> None:
    """Its driver is newer, say. The container that had the address before starts with another one; who asks for it is
    told who has it."""
    rig, (a, b), network = await named("a", "b")
    web = await a.engine.run("web", "lan")
    await a.engine.stop("web")
    await a.driver.memory.settle()
    bare = web.address.partition("/")[0]
    other = await b.engine.run("other", "lan", ip=bare)
    await overwrite(rig.shared, f"names/{network}/b/{other.endpoint}", junk)
    assert (await a.engine.run("web", "lan")).address != web.address
    with pytest.raises(Conflict, match=f"address {bare} is in use by endpoint {other.endpoint[:12]} on host b"):
        await a.engine.run("third", "lan", ip=bare)


@JUNK
async def test_a_gateway_that_nobody_named_is_the_next_one(junk: bytes) -> None:
    """Nobody can read who has the first one (engines before 28 ask so)."""
    rig = await ClusterRig.build()
    a = await rig.host("a")
    await overwrite(rig.shared, key_of("10.8.0.1"), junk)
    pool = await a.plugin.call(
        "IpamDriver.RequestPool", AddressSpace=DEFAULT_SPACE, Pool="10.8.0.0/24", Options={}, V6=False
    )
    found = await a.plugin.call(
        "IpamDriver.RequestAddress", PoolID=pool["PoolID"], Address="", Options={REQUEST_TYPE: GATEWAY}
    )
    assert found["Address"] == "10.8.0.2/24"


async def test_a_row_that_cannot_be_read_keeps_no_other_one() -> None:
    """That of a container that runs. What nobody used for long is forgotten all the same."""
    steady = FakeClock(0)
    rig = await Rig.build("eth0", steady=steady)
    rig.engine.tells_names = True
    network = await rig.engine.create_network("lan", LAN, options={"parent": "eth0"})
    for name in ("old", "web"):
        await rig.engine.run(name, "lan")
    await rig.engine.stop("old")
    await rig.driver.memory.settle()
    (web,) = [each for each in await rig.disk.scan(f"avoided/names/{network}/") if each.key.endswith("/web")]
    await rig.disk.replace(web, b'{"v": 9}')
    for _ in range(40):
        steady.advance(86400.0)
        await rig.driver.memory.look()
    assert [each.key for each in await rig.disk.scan(f"avoided/names/{network}/")] == [web.key]


async def test_a_pool_whose_claim_was_answered_late_is_known_as_the_network_s() -> None:
    """The store took the claim, its answer was lost, and so was the undo. The engine asks again; then an address of the
    host itself is none for a container."""
    rig = await ClusterRig.build()
    a = await rig.host("a")
    a.kernel.route_facts = RouteFacts(addresses=(("eth0", ip_interface("10.8.0.7/24")),))
    pool = await a.plugin.call(
        "IpamDriver.RequestPool", AddressSpace=DEFAULT_SPACE, Pool="10.8.0.0/24", Options={}, V6=False
    )
    data = [{"AddressSpace": DEFAULT_SPACE, "Pool": "10.8.0.0/24", "Gateway": ""}]
    wanted = {"NetworkID": "a" * 64, "Options": {GENERIC: {"parent": "eth0"}}, "IPv4Data": data, "IPv6Data": []}
    (stored,) = await rig.shared.scan("pools/")
    claimed = msgspec.json.decode(stored.value) | {"network": "a" * 64}
    await rig.shared.replace(stored, msgspec.json.encode(claimed))
    await a.plugin.call("NetworkDriver.CreateNetwork", **wanted)
    with pytest.raises(Conflict, match=r"10\.8\.0\.7 is in use"):
        await a.plugin.call("IpamDriver.RequestAddress", PoolID=pool["PoolID"], Address="10.8.0.7", Options={})


@JUNK
@pytest.mark.parametrize("foreign", [False, True])
async def test_an_address_is_given_back_though_the_record_of_its_pool_cannot_be_read(
    junk: bytes, foreign: bool
) -> None:
    """The villain is whoever writes into the store while the driver is down. A container of another driver's network is
    known to be one by that record: what it had is repair's to give back."""
    rig = await Rig.build("eth0")
    driver = {"driver": "bridge", "ipam": OUR_IPAM} if foreign else {"options": {"parent": "eth0"}}
    await rig.engine.create_network("lan", LAN, **driver)
    await rig.mend()
    await rig.engine.run("web", "lan", ip="10.8.0.7")
    for each in await rig.disk.scan("pools/"):
        await rig.disk.replace(each, junk)
    rig = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    await rig.engine.stop("web")
    if foreign:
        rig.clock.advance(7200)
        await rig.mend(grace=60)
    assert "10.8.0.7" not in {each.address for each in await rig.driver.addresses.all()}


@pytest.mark.virtual_time
async def test_what_waits_for_a_record_that_cannot_be_read_is_tried_again() -> None:
    """Somebody deletes the junk: the removal goes on within a minute or so."""
    rig = await ClusterRig.build()
    a = await rig.host("a")
    assert a.outbox
    await rig.shared.create("definitions/bad", b"junk")
    await a.outbox.remove_network("bad" * 8, "bad")
    running = asyncio.ensure_future(a.outbox.run())
    await asyncio.sleep(5)
    assert len(await a.outbox.waiting()) == 1
    await overwrite(rig.shared, "definitions/other", b"{}")
    (junk,) = [each for each in await rig.shared.scan("definitions/") if each.key == "definitions/bad"]
    await rig.shared.delete(junk)
    await asyncio.sleep(90)
    assert await a.outbox.waiting() == []
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_host_that_cannot_note_its_address_takes_no_further_one() -> None:
    """Its disk is full: each try gives back what it reserved. Nor does it where its note cannot be read."""
    rig = await ClusterRig.build()
    a = await rig.host("a")
    await a.engine.create_network("lan", LAN, options={"parent": "eth0", "host_access": "true"})
    await a.engine.run("web", "lan")
    assert len(await a.disk.scan("host_access/")) == 1
    before = len(await rig.shared.scan("addresses/"))
    for each in await a.disk.scan("host_access/"):
        await a.disk.replace(each, b'{"v": 9}')
    for _ in range(5):
        with contextlib.suppress(MacvlanGlobalError):
            await a.driver.host_access.update(observe=True)
    assert len(await rig.shared.scan("addresses/")) == before
