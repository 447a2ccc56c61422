"""Unknown is not dead: an address, a link or a parent is taken from a container only by who can know that it ended."""

import json
from collections.abc import Callable

import pytest

from macvlan_global.driver.driver import Settings
from macvlan_global.driver.liveness import YOUNG_SECONDS
from macvlan_global.driver.requests import EndpointRequest
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.kernel.ports import ContainerLink
from macvlan_global.reconcile.corrections import DeleteEndpoint
from macvlan_global.reconcile.engine_follower import learn_names
from testkit.cluster_rig import ClusterRig
from testkit.fake_engine import Container, Subnet, engine_id
from testkit.fake_kernel import FakeKernel
from testkit.rig import Rig

LAN = Subnet("10.8.0.0/24")
ADDRESS = "10.8.0.9"

Change = Callable[[FakeKernel, str], None]
"""Something that a container with CAP_NET_ADMIN does to its interface, in the namespace at a path."""


def _sets_mac(kernel: FakeKernel, sandbox: str) -> None:
    kernel.change(sandbox, mac="02:00:00:00:be:ef")


def _sets_name(kernel: FakeKernel, sandbox: str) -> None:
    kernel.change(sandbox, name="wan", mac="02:00:00:00:be:ef")


def _sets_alias(kernel: FakeKernel, sandbox: str) -> None:
    kernel.change(sandbox, alias="uplink")


def _sets_all(kernel: FakeKernel, sandbox: str) -> None:
    kernel.change(sandbox, name="wan", mac="02:00:00:00:be:ef", alias="uplink")


def _moves_it_on(kernel: FakeKernel, sandbox: str) -> None:
    """Into a namespace nested in its own."""
    kernel.sandboxed["/nested"] = {"eth0": kernel.sandboxed[sandbox].pop("eth0")}


def _is_of_an_earlier_version(kernel: FakeKernel, sandbox: str) -> None:
    """The link has no alias, and another MAC by now."""
    kernel.change(sandbox, alias="", mac="02:00:00:00:be:ef")


CHANGES: tuple[Change, ...] = (
    _sets_mac,
    _sets_name,
    _sets_alias,
    _sets_all,
    _moves_it_on,
    _is_of_an_earlier_version,
)


def _named(change: Change) -> str:
    return change.__name__.strip("_")


async def _running(rig: Rig, **options: str) -> Container:
    """A container that is known by its name and no longer young."""
    await rig.engine.create_network("lan", LAN, options={"parent": "eth0"} | options)
    one = await rig.engine.run("one", "lan", ip=ADDRESS)
    await learn_names(rig.driver, rig.engine)
    rig.clock.advance(YOUNG_SECONDS)
    return one


@pytest.mark.parametrize("change", CHANGES, ids=_named)
@pytest.mark.parametrize("asked", [False, True], ids=["engine unasked", "engine asked"])
async def test_the_address_of_a_container_that_changed_its_interface_stays_its_own(change: Change, asked: bool) -> None:
    """Before the engine was asked and after; reconciliation changes nothing about it, either."""
    rig = await Rig.build()
    one = await _running(rig)
    change(rig.kernel, one.sandbox)
    if asked:
        assert await rig.mend() == []
    with pytest.raises(Conflict, match=f"address {ADDRESS} is in use by container one on host a"):
        await rig.engine.run("two", "lan", ip=ADDRESS)
    assert await rig.mend() == []
    assert [each.endpoint for each in await rig.driver.addresses.all()] == [one.endpoint]


@pytest.mark.parametrize("change", CHANGES, ids=_named)
async def test_it_is_free_once_the_engine_says_that_the_endpoint_is_gone(change: Change) -> None:
    """It was asked in this run, when the endpoint was no longer young."""
    rig = await Rig.build()
    one = await _running(rig)
    change(rig.kernel, one.sandbox)
    rig.kernel.sandboxed.setdefault(one.sandbox, {}).clear()
    rig.engine.forget_endpoint("one")
    rig.driver.liveness.learn([], rig.driver.liveness.moment())
    two = await rig.engine.run("two", "lan", ip=ADDRESS)
    assert [each.endpoint for each in await rig.driver.addresses.all()] == [two.endpoint]


async def test_what_the_engine_said_before_an_endpoint_was_made_is_no_word_about_it() -> None:
    """Nor what it said while the endpoint was young: it shows containers only once they have started."""
    rig = await Rig.build()
    await rig.engine.create_network("lan", LAN, options={"parent": "eth0"})
    before = rig.driver.liveness.moment()
    one = await rig.engine.run("one", "lan", ip=ADDRESS)
    rig.clock.advance(YOUNG_SECONDS - 1)
    young = rig.driver.liveness.moment()
    rig.clock.advance(3600)
    _moves_it_on(rig.kernel, one.sandbox)
    for moment in (before, young):
        rig.driver.liveness.learn([], moment)
        with pytest.raises(Conflict, match=f"address {ADDRESS} is in use by endpoint"):
            await rig.engine.run("two", "lan", ip=ADDRESS)
    rig.driver.liveness.learn([], rig.driver.liveness.moment())
    await rig.engine.run("two", "lan", ip=ADDRESS)


@pytest.mark.parametrize("damage", [b'"v":2', b"not JSON"], ids=["newer", "unreadable"])
async def test_an_endpoint_whose_record_cannot_be_read_keeps_its_address(damage: bytes) -> None:
    """As after a downgrade: the next driver leaves the record alone, and what it is about, too."""
    rig = await Rig.build()
    one = await _running(rig)
    for entry in await rig.disk.scan("endpoints/"):
        value = json.dumps(json.loads(entry.value) | {"v": 2}).encode() if b"v" in damage else damage
        await rig.disk.replace(entry, value)
    rig = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    for _ in range(2):
        with pytest.raises(Conflict, match=f"address {ADDRESS} is in use by endpoint {one.endpoint[:12]} on host a"):
            await rig.engine.run("two", "lan", ip=ADDRESS)
        await rig.mend(grace=60)
        rig.clock.advance(3600)
    assert [each.endpoint for each in await rig.driver.addresses.all()] == [one.endpoint]


async def test_a_link_whose_record_cannot_be_read_is_no_stray() -> None:
    """Its container is being created: repair, which the start of a driver does, must not take it."""
    rig = await Rig.build()
    network = await rig.engine.create_network("lan", LAN, options={"parent": "eth0"})
    await rig.driver.endpoints.create(EndpointRequest.read(network, engine_id("e1")))
    joined = await rig.driver.endpoints.join(network, engine_id("e1"), "/netns/c1")
    for entry in await rig.disk.scan("endpoints/"):
        await rig.disk.replace(entry, b"not JSON")
    later = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    assert await later.mend(engine=False) == []
    assert joined.link in rig.kernel.hosted


async def test_after_an_older_state_is_put_back_containers_keep_their_addresses() -> None:
    """An engine with live-restore requests addresses before it answers questions: until it was asked, nobody knows."""
    rig = await ClusterRig.build()
    host = await rig.host("h1")
    await host.publish("lan", LAN)
    saved = host.disk.save()
    one = await host.engine.run("one", "lan", ip=ADDRESS)
    rig.clock.advance(3600)
    host.disk.restore(saved)
    host = await rig.restart("h1")
    with pytest.raises(Conflict, match=f"address {ADDRESS} is in use by endpoint {one.endpoint[:12]}"):
        await host.engine.run("two", "lan", ip=ADDRESS)
    await host.mend(grace=60)
    with pytest.raises(Conflict, match=f"address {ADDRESS} is in use by container one"):
        await host.engine.run("two", "lan", ip=ADDRESS)
    assert [each.endpoint for each in await host.driver.addresses.all()] == [one.endpoint]


@pytest.mark.parametrize("change", CHANGES, ids=_named)
async def test_a_passthru_network_has_one_container_whatever_that_does_to_its_interface(change: Change) -> None:
    """The second one is refused by name."""
    rig = await Rig.build()
    one = await _running(rig, mode="passthru")
    change(rig.kernel, one.sandbox)
    with pytest.raises(Conflict, match=r"mode passthru, which carries one container at a time: container one is on it"):
        await rig.engine.run("two", "lan")


@pytest.mark.parametrize("change", CHANGES, ids=_named)
async def test_a_network_does_not_move_away_under_a_container_that_changed_its_interface(change: Change) -> None:
    """Its parent is down, and the next one of the list is up."""
    rig = await Rig.build("eth0", "eth1")
    one = await _running(rig, parent="eth0,eth1")
    change(rig.kernel, one.sandbox)
    await rig.kernel.set_down("eth0")
    with pytest.raises(Unavailable, match="parent eth0 of network lan cannot be used now, and containers run on it"):
        await rig.engine.run("two", "lan")
    assert [each.parent for each in await rig.driver.networks.all()] == ["eth0"]


async def test_a_container_whose_namespace_is_gone_holds_nothing() -> None:
    """The kernel proves it, whoever was asked: its link ended with it."""
    rig = await Rig.build()
    one = await _running(rig)
    rig.kernel.end_namespace(one.sandbox)
    two = await rig.engine.run("two", "lan", ip=ADDRESS)
    assert [each.endpoint for each in await rig.driver.addresses.all()] == [two.endpoint]


async def test_a_link_that_an_earlier_version_made_gets_its_alias() -> None:
    """When the engine answers; from then on it is known whatever its container does to it."""
    rig = await Rig.build()
    one = await _running(rig)
    rig.kernel.change(one.sandbox, alias="")
    assert await rig.mend() == []
    assert rig.kernel.sandboxed[one.sandbox]["eth0"].alias == f"mg-{one.endpoint[:12]}"
    _sets_name(rig.kernel, one.sandbox)
    assert await rig.kernel.find_in_sandbox(ContainerLink(one.sandbox, one.mac, f"mg-{one.endpoint[:12]}"))


async def test_a_direct_container_whose_name_is_learnt_while_it_ends_leaves_nothing() -> None:
    """Its record goes with its link, and no later repair claims its address again."""
    rig = await Rig.build(settings=Settings(attach="direct"))
    rig.engine.early = True
    await _running(rig)
    endpoint = (await rig.driver.endpoints.all())[0]
    deferred = rig.driver.attacher.deferred
    deferred._runs = True  # its task is this test: the deletion comes when it says so
    await rig.engine.stop("one")
    assert await rig.driver.endpoints.all() == []
    await rig.driver.endpoints.name(endpoint, "one")
    await deferred._later(endpoint)
    assert await rig.disk.scan("endpoints/") == []
    rig.clock.advance(3600)
    assert [each for each in await rig.mend(engine=False) if not isinstance(each, DeleteEndpoint)] == []
    assert await rig.driver.addresses.all() == []


async def test_the_engine_s_word_in_a_repair_lets_an_address_of_nobody_be_asked_for() -> None:
    """The record of its endpoint was lost with an older copy of the state; repair itself leaves it to its grace."""
    rig = await Rig.build()
    one = await _running(rig)
    await rig.driver.tables.endpoints.drop(rig.engine.id_of("lan"), one.endpoint)
    later = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    later.engine.forget("one")
    later.kernel.sandboxed.clear()
    later.clock.advance(2 * YOUNG_SECONDS)
    with pytest.raises(Conflict, match="is in use by endpoint"):
        await later.engine.run("two", "lan", ip=ADDRESS)
    await later.mend(grace=1e9)
    assert (await later.engine.run("two", "lan", ip=ADDRESS)).address == f"{ADDRESS}/24"


async def test_an_engine_that_lost_its_data_takes_no_address_from_a_container_that_runs_on() -> None:
    """Another data folder under live containers: the network is made again, and what the kernel shows in use stays."""
    rig = await ClusterRig.build(new_ids=True)
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    here = await other.join("lan", one)
    runs = await other.engine.run("web", "lan", ip=ADDRESS)
    rig.clock.advance(YOUNG_SECONDS)
    sandbox = dict(other.kernel.sandboxed[runs.sandbox])
    other.engine.lose_data()
    other.kernel.sandboxed[runs.sandbox] = sandbox
    await other.driver.networks.delete(here, everywhere=False)
    await other.join("lan", one)
    await other.mend()
    with pytest.raises(Conflict, match=f"address {ADDRESS} is in use by endpoint .* on host b"):
        await one.engine.run("thief", "lan", ip=ADDRESS)
    del other.kernel.sandboxed[runs.sandbox]
    for _ in range(2):  # its endpoint, then what that had
        await other.mend()
    assert (await one.engine.run("next", "lan", ip=ADDRESS)).address == f"{ADDRESS}/24"
