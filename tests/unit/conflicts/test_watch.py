"""The conflict watch on a whole driver: what is reported, what is not, and what is done about it."""

import asyncio
import logging
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface

import pytest

from macvlan_global.conflicts.claimants import PROBES_MOST
from macvlan_global.conflicts.gateways import GatewayCheck
from macvlan_global.conflicts.ledger import AddressConflict, Ledger
from macvlan_global.conflicts.remote import LOOKUPS_MOST, NOBODY_SECONDS
from macvlan_global.conflicts.tallies import KEYS_MOST
from macvlan_global.conflicts.watch import (
    PUT_OFF_SECONDS,
    READ_SECONDS,
    REST_SECONDS,
    SUSPECTS_MOST,
    ConflictWatch,
    Segment,
)
from macvlan_global.driver.driver import Driver
from macvlan_global.errors import Exhausted, Unavailable
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.kernel.ports import RouteFacts
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_clock import FakeClock
from testkit.fake_engine import Container, Subnet
from testkit.fake_kernel import FakeKernel
from testkit.rig import Rig
from tests.unit.conflicts.wire import DEVICE, ROUTER, announced, probed

LAN = Subnet("192.168.1.0/24", gateway="192.168.1.254")
LAN6 = Subnet("fd18::/64")
LAN_GATEWAY = ip_address("192.168.1.254")
OPTIONS = {"parent": "eth0"}


@dataclass
class Watched:
    """A watch whose segment eth0 is fed by hand."""

    watch: ConflictWatch
    clock: FakeClock
    probes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def on(cls, driver: Driver, clock: FakeClock) -> "Watched":
        """A watch of this driver."""
        watch = ConflictWatch(driver, now=clock, steady=clock)
        watch.segments["eth0"] = Segment("eth0")
        return cls(watch, clock)

    async def see(self, *frames: bytes, outgoing: bool = False, after: float = 5) -> list[AddressConflict]:
        """Frames pass after a while, and are judged; the conflicts known then."""
        self.clock.advance(after)
        self.watch.segments["eth0"].tallies.add([(each, outgoing) for each in frames], self.clock())
        await self.watch.judge_now()
        return self.watch.ledger.all()


async def lan(*more: Subnet, settle: bool = True) -> tuple[Rig, Watched, Container]:
    """A host with a network and a container, 192.168.1.20."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("lan", LAN, *more, options=OPTIONS)
    web = await rig.engine.run("web", "lan", ip="192.168.1.20")
    if settle:
        rig.clock.advance(10)
    return rig, Watched.on(rig.driver, rig.clock), web


@pytest.mark.parametrize("frame", [announced("192.168.1.20"), probed("192.168.1.20")], ids=["announced", "probed"])
async def test_a_device_that_takes_a_container_s_address_is_reported(
    frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """With both MACs, times and count; logged once, shown in status; seen again it is the same conflict."""
    _, watched, web = await lan()
    (found,) = await watched.see(frame)
    assert (str(found.holding.address), found.holder_mac, found.mac) == ("192.168.1.20", web.mac, DEVICE)
    assert (found.parent, found.vlan, found.count, found.first, found.last) == (
        "eth0",
        0,
        1,
        watched.clock(),
        found.first,
    )
    (again,) = await watched.see(frame, frame)
    assert (again.count, again.first, again.last) == (3, found.first, found.last + 5)
    (problem,) = watched.watch.problems()
    assert f"address 192.168.1.20 of container {found.holding.name} is in conflict on eth0: {DEVICE}" in problem
    assert [each.levelno for each in caplog.records if "is in conflict" in each.message] == [logging.WARNING]
    watched.clock.advance(601)
    assert watched.watch.problems() == []


async def test_a_device_that_takes_an_ipv6_address_is_reported() -> None:
    """By an unsolicited advertisement or a probe of duplicate address detection."""
    _, watched, web = await lan(LAN6)
    address = web.address6.partition("/")[0]
    assert [str(each.holding.address) for each in await watched.see(announced(address))] == [address]
    assert len(await watched.see(probed(address, ROUTER))) == 2


async def test_the_life_of_a_container_is_no_conflict() -> None:
    """It announces, restarts with its address and another MAC, and late frames of the one before are seen."""
    rig, watched, web = await lan(settle=False)
    await watched.see(announced("192.168.1.20", web.mac), outgoing=True, after=0)
    await rig.engine.stop("web")
    await watched.see(announced("192.168.1.20", web.mac), outgoing=True, after=0)
    again = await rig.engine.run("web", "lan", ip="192.168.1.20")
    assert again.mac != web.mac
    late = await watched.see(
        announced("192.168.1.20", web.mac), announced("192.168.1.20", again.mac), outgoing=True, after=0.5
    )
    assert late == []
    assert await watched.see(announced("192.168.1.20", again.mac), outgoing=True) == []


async def test_a_container_that_changes_its_mac_is_no_conflict() -> None:
    """Its own namespace shows the MAC; any other one is a device's."""
    rig, watched, web = await lan()
    rig.kernel.change(web.sandbox, mac=ROUTER)
    assert await watched.see(announced("192.168.1.20", ROUTER), outgoing=True) == []
    assert await watched.see(announced("192.168.1.20", ROUTER)) == []
    (found,) = await watched.see(announced("192.168.1.20"))
    assert (found.mac, found.holder_mac) == (DEVICE, ROUTER)


async def test_probes_of_drivers_are_no_conflict() -> None:
    """This host's parent, and the drivers of other hosts."""
    rig, watched, _ = await lan()
    own = rig.kernel.hosted["eth0"].mac
    assert await watched.see(probed("192.168.1.20", own), outgoing=True) == []
    assert await watched.see(probed("192.168.1.20", by_a_driver=True)) == []


async def test_an_endpoint_that_is_dead_has_no_address_to_defend() -> None:
    """Its record is there still, and its namespace is gone."""
    rig, watched, web = await lan()
    rig.kernel.end_namespace(web.sandbox)
    rig.clock.advance(100)
    assert await watched.see(announced("192.168.1.20")) == []


async def test_a_container_that_takes_another_one_s_address_is_named() -> None:
    """Its frames are outgoing."""
    rig, watched, web = await lan()
    other = await rig.engine.run("db", "lan")
    (found,) = await watched.see(announced("192.168.1.20", other.mac), outgoing=True)
    assert (found.holder_mac, found.mac) == (web.mac, other.mac)
    assert found.other.startswith("container ")


@pytest.mark.parametrize("days", [3650, -10])
async def test_a_clock_that_is_set_hides_no_conflict(days: int) -> None:
    """Times of before count no more: a device that was heard then is heard again, and what was passed over is free."""
    rig, watched, _ = await lan()
    steps = [0.0]
    watched.watch = ConflictWatch(rig.driver, now=watched.clock, steady=lambda: watched.clock() - sum(steps))
    watched.watch.segments["eth0"] = Segment("eth0")
    for address in ("192.168.1.1", "192.168.1.21", "192.168.1.254"):
        await watched.see(announced(address))
    steps.append(days * 86400)
    watched.clock.advance(steps[-1])
    await watched.watch.judge_now()
    assert (await rig.engine.run("first", "lan")).address == "192.168.1.1/24"
    assert not watched.watch.segments["eth0"].claimants.is_claimed(LAN_GATEWAY, watched.clock() - 3600)
    (found,) = await watched.see(announced("192.168.1.20"))
    assert str(found.holding.address) == "192.168.1.20"
    await rig.engine.run("second", "lan", ip="192.168.1.21")
    assert [str(each.holding.address) for each in await watched.see(announced("192.168.1.21"))] == [
        "192.168.1.20",
        "192.168.1.21",
    ]


async def test_two_containers_with_one_address_on_one_parent_are_reported() -> None:
    """Of networks in two address spaces."""
    rig, watched, _ = await lan()
    apart = Subnet("192.168.1.0/24", gateway="192.168.1.254", options={"space": "apart"})
    await rig.engine.create_network("other", apart, options=OPTIONS)
    twin = await rig.engine.run("twin", "other", ip="192.168.1.20")
    (found,) = await watched.see(announced("192.168.1.20", twin.mac), outgoing=True)
    assert found.mac == twin.mac


async def test_a_device_with_a_container_s_mac_is_reported() -> None:
    """It has another address. What a switch sends back of the container's own frames is none."""
    _, watched, web = await lan()
    assert await watched.see(announced("192.168.1.20", web.mac)) == []
    await watched.see(announced("192.168.1.77", web.mac), outgoing=True)
    assert await watched.see(announced("192.168.1.77", web.mac)) == []
    (found,) = await watched.see(announced("192.168.1.78", web.mac))
    assert (found.same_mac, found.claimed) == (True, "192.168.1.78")
    assert f"the MAC {web.mac} of container" in found.text


async def test_a_container_that_uses_more_addresses_than_its_own_is_no_conflict() -> None:
    """A link-local or virtual one, in frames to another container, which the parent receives."""
    _, watched, web = await lan(LAN6)
    to_another = bytes.fromhex("0a0000000001")
    for address in ("fe80::77", "192.168.1.78"):
        assert await watched.see(to_another + announced(address, web.mac)[6:]) == []
        assert len(await watched.see(to_another + announced("192.168.1.20")[6:])) == 1
        watched.watch.ledger = Ledger()


async def test_a_device_that_takes_this_host_s_address_is_reported() -> None:
    """The host's own links may answer for it, each of them."""
    rig, watched, _ = await lan()
    rig.kernel.add_device("eth9")
    rig.kernel.route_facts = RouteFacts(addresses=(("eth0", ip_interface("192.168.1.5/24")),))
    own = [rig.kernel.hosted[name].mac for name in ("eth0", "eth9")]
    assert await watched.see(*(announced("192.168.1.5", mac) for mac in own)) == []
    (found,) = await watched.see(announced("192.168.1.5"))
    assert (found.holding.kind, found.mac) == ("host", DEVICE)


async def test_frames_of_a_container_whose_address_this_host_took_are_none() -> None:
    """It is gone, and its last frames are judged after the host took the address; those of a device later are one."""
    rig, watched, _ = await lan()
    gone = await rig.engine.run("gone", "lan", ip="192.168.1.30")
    assert await watched.see(announced("192.168.1.30", gone.mac), outgoing=True) == []
    await rig.engine.stop("gone")
    rig.kernel.route_facts = RouteFacts(addresses=(("eth0", ip_interface("192.168.1.30/24")),))
    for outgoing in (True, False):
        assert await watched.see(announced("192.168.1.30", gone.mac), outgoing=outgoing, after=0.4) == []
    (found,) = await watched.see(announced("192.168.1.30"))
    assert (found.holding.kind, found.mac) == ("host", DEVICE)


async def test_a_device_that_takes_an_address_of_a_pool_that_this_host_has_is_reported() -> None:
    """The host has it on its shim, by `-o host_access=true`, and no other link shows it."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("lan", LAN, options={**OPTIONS, "host_access": "true"})
    await rig.engine.run("web", "lan")
    (given,) = [row.record.address for row in await rig.driver.tables.host_access.scan()]
    watched = Watched.on(rig.driver, rig.clock)
    shim = next(each.mac for each in await rig.kernel.links() if each.is_shim)
    assert await watched.see(announced(given, shim), outgoing=True) == []
    (found,) = await watched.see(probed(given))
    assert (str(found.holding.address), found.holding.kind, found.mac) == (given, "host", DEVICE)


async def test_two_routers_with_the_gateway_s_address_are_reported() -> None:
    """The first one has it. A router that takes over is none, for good or until the other one is back."""
    _, watched, _ = await lan()
    for each in (ROUTER, DEVICE, ROUTER):
        assert await watched.see(announced("192.168.1.254", each)) == []
    (found,) = await watched.see(announced("192.168.1.254"))
    assert (found.holding.kind, found.holder_mac, found.mac) == ("gateway", ROUTER, DEVICE)


async def test_a_container_s_address_is_defended_at_most_every_ten_seconds() -> None:
    """RFC 5227 section 2.4 (b): by one announcement. A probe is answered by the container itself."""
    rig, watched, _ = await lan()
    await watched.see(probed("192.168.1.20"))
    assert rig.kernel.advertised == []
    for _ in range(4):
        await watched.see(announced("192.168.1.20"), after=4)
    assert rig.kernel.advertised == ["eth0", "eth0"]


async def test_an_address_that_a_device_uses_is_passed_over_while_it_is_seen() -> None:
    """Until five minutes after its last frame. Whoever asks for it by --ip gets it."""
    rig, watched, _ = await lan()
    await rig.engine.create_network("small", Subnet("10.9.0.0/27", gateway="10.9.0.30"), options=OPTIONS)
    await watched.see(announced("10.9.0.1"), probed("10.9.0.2"))
    assert (await rig.engine.run("a", "small")).address == "10.9.0.3/27"
    assert (await rig.engine.run("b", "small", ip="10.9.0.2")).address == "10.9.0.2/27"
    rig.clock.advance(301)
    others = [(await rig.engine.run(f"c{number}", "small")).address for number in range(4, 31)]
    assert others[-1] == "10.9.0.1/27"


async def test_a_device_that_is_gone_when_its_frames_are_judged_keeps_its_address_from_nobody() -> None:
    """Nobody replied for the address meanwhile: a container got it by --ip, and has ended."""
    rig, watched, _ = await lan()
    small = Subnet("10.9.0.0/27", gateway="10.9.0.30")
    await rig.engine.create_network("small", small, options={**OPTIONS, "probe": "true"})
    watched.watch.segments["eth0"].tallies.add([(announced("10.9.0.1"), False)], rig.clock())
    rig.clock.advance(0.5)
    await rig.engine.run("a", "small", ip="10.9.0.1")
    await rig.engine.stop("a")
    await watched.watch.judge_now()
    assert len(watched.watch._avoided.seen(DEFAULT_SPACE, 4)) == 0


async def test_a_pool_of_which_devices_use_the_rest_is_full_and_says_so() -> None:
    """The error counts them."""
    rig, watched, _ = await lan()
    await rig.engine.create_network("tiny", Subnet("10.9.0.0/30", gateway="10.9.0.1"), options=OPTIONS)
    await watched.see(announced("10.9.0.2"))
    with pytest.raises(
        Exhausted, match=r"no free address is left in 10.9.0.0/30, of which 1 are in use by other devices"
    ):
        await rig.engine.run("a", "tiny")


async def test_late_frames_of_a_container_keep_its_address_from_nobody() -> None:
    """It was there for less than the time between two looks. What it answered to another container of this host passes
    the parent as received; so does all that it sent, if two parents are on one wire."""
    rig, watched, web = await lan()
    short = await rig.engine.run("short", "lan", ip="192.168.1.30")
    await rig.engine.stop("short")
    await watched.see(announced("192.168.1.30", short.mac), outgoing=True)
    await watched.see(bytes.fromhex(web.mac.replace(":", "")) + announced("192.168.1.30", short.mac)[6:])
    await watched.see(announced("192.168.1.30", short.mac))
    assert len(watched.watch._avoided.seen(DEFAULT_SPACE, 4)) == 0


async def two_hosts() -> tuple[ClusterRig, ClusterHost, ClusterHost]:
    """Two hosts of a cluster with one network."""
    rig = await ClusterRig.build()
    one, two = await rig.host("one"), await rig.host("two")
    await one.publish("lan", LAN)
    await two.join("lan", one)
    return rig, one, two


async def test_containers_of_other_hosts_are_known() -> None:
    """Their frames are no device's; a device that alternates with one is reported, with container and host."""
    rig, one, two = await two_hosts()
    web = await two.engine.run("web", "lan", ip="192.168.1.20")
    rig.clock.advance(10)
    watched = Watched.on(one.driver, rig.clock)
    for _ in range(5):
        assert await watched.see(announced("192.168.1.20", web.mac)) == []
    assert await watched.see(announced("192.168.1.20")) == []
    (found,) = await watched.see(announced("192.168.1.20", web.mac), announced("192.168.1.20"), after=5)
    assert (found.holding.host, found.holder_mac, found.mac) == ("two", web.mac, DEVICE)
    assert len(watched.watch._avoided.seen(DEFAULT_SPACE, 4)) == 0


async def test_a_conflict_of_a_container_whose_name_cannot_be_read_is_reported() -> None:
    """A newer driver on the other host wrote it, or somebody who should not. The container is named by its id."""
    rig, one, two = await two_hosts()
    web = await two.engine.run("web", "lan", ip="192.168.1.20")
    (network,) = await one.driver.networks.all()
    key = one.driver.tables.names.key(network.shared_id, two.driver.identity.host, web.endpoint)
    await rig.shared.create(key, b'{"v": 9}')
    rig.clock.advance(10)
    watched = Watched.on(one.driver, rig.clock)
    for _ in range(3):
        await watched.see(announced("192.168.1.20", web.mac), announced("192.168.1.20"))
    (found,) = watched.watch.ledger.all()
    assert (found.holding.name, found.holding.host) == (web.endpoint[:12], "two")


async def answered(watched: Watched, kernel: FakeKernel, *macs: str, address: str = "192.168.1.20") -> int:
    """Whoever has these MACs answers each probe for an address, for a minute; the number of probes."""
    for _ in range(30):
        sent = kernel.probed.count(("eth0", address))
        known = watched.probes.get(address, 0)
        watched.probes[address] = sent
        await watched.see(*(announced(address, mac) for mac in macs if sent > known), after=2)
    return kernel.probed.count(("eth0", address))


async def test_a_device_that_announces_once_is_reported_by_every_host() -> None:
    """The container may be silent for hours: a probe has both answer. Nobody is probed for once that is known."""
    rig, one, two = await two_hosts()
    web = await two.engine.run("web", "lan", ip="192.168.1.20")
    rig.clock.advance(3600)
    watched = Watched.on(one.driver, rig.clock)
    assert await watched.see(announced("192.168.1.20")) == []
    assert await answered(watched, one.kernel, DEVICE, web.mac) == 2
    (found,) = watched.watch.ledger.all()
    assert (found.holding.host, found.holder_mac, found.mac) == ("two", web.mac, DEVICE)


async def test_a_container_that_starts_right_after_a_late_frame_is_known() -> None:
    """That nobody had the address was read for a frame of the container before, moments ago. It holds for that one, and
    not for a device that announces itself once."""
    rig, one, two = await two_hosts()
    watched = Watched.on(one.driver, rig.clock)
    assert await watched.see(announced("192.168.1.20", "02:42:0a:3e:00:99")) == []
    web = await two.engine.run("web", "lan", ip="192.168.1.20")
    assert await watched.see(announced("192.168.1.20"), after=2) == []
    assert await answered(watched, one.kernel, DEVICE, web.mac) == 2
    (found,) = watched.watch.ledger.all()
    assert (found.holding.host, found.holder_mac, found.mac) == ("two", web.mac, DEVICE)


@pytest.mark.parametrize("answers", ["the device", "the container", "nobody"])
async def test_a_device_beside_which_nobody_answers_is_none(answers: str) -> None:
    """The container may have changed its MAC, or the frame was a late one. It is probed for a few times only."""
    rig, one, two = await two_hosts()
    web = await two.engine.run("web", "lan", ip="192.168.1.20")
    watched = Watched.on(one.driver, rig.clock)
    await watched.see(announced("192.168.1.20"))
    macs = {"the device": [DEVICE], "the container": [web.mac], "nobody": []}[answers]
    assert 1 <= await answered(watched, one.kernel, *macs) <= PROBES_MOST
    for _ in range(10 if answers != "the container" else 0):
        await watched.see(announced("192.168.1.20"))
    assert watched.watch.ledger.all() == []
    assert one.kernel.probed.count(("eth0", "192.168.1.20")) <= PROBES_MOST


@pytest.mark.parametrize("before", ["nobody", "one that is gone", "one of this host"])
async def test_a_container_that_came_a_moment_after_its_address_was_looked_up_is_known(before: str) -> None:
    """Frames of the holder before, or of the device itself, had the address looked up; then a container elsewhere got
    it, and both are heard."""
    rig, one, two = await two_hosts()
    watched = Watched.on(one.driver, rig.clock)
    await watched.see(announced("192.168.1.20"))
    if before != "nobody":
        host = two if before == "one that is gone" else one
        gone = await host.engine.run("gone", "lan", ip="192.168.1.20")
        await watched.see(announced("192.168.1.20", gone.mac), outgoing=host is one)
        await host.engine.stop("gone")
        await watched.see(announced("192.168.1.20", gone.mac), outgoing=host is one, after=0)
    web = await two.engine.run("web", "lan", ip="192.168.1.20")
    found: list[AddressConflict] = []
    for _ in range(8):
        found = await watched.see(announced("192.168.1.20", web.mac), announced("192.168.1.20"), after=2)
    assert [(each.holding.host, each.holder_mac, each.mac) for each in found] == [("two", web.mac, DEVICE)]


async def test_a_device_that_was_there_before_a_silent_container_is_reported_in_a_while() -> None:
    """Nobody had the address when it was looked up for this device, which goes on with what it did."""
    rig, one, two = await two_hosts()
    watched = Watched.on(one.driver, rig.clock)
    for _ in range(4):
        await watched.see(announced("192.168.1.20"))
    web, begun = await two.engine.run("web", "lan", ip="192.168.1.20"), watched.clock()
    while not one.kernel.probed:
        await watched.see(announced("192.168.1.20"))
        assert watched.clock() - begun <= NOBODY_SECONDS + REST_SECONDS
    await answered(watched, one.kernel, DEVICE, web.mac)
    (found,) = watched.watch.ledger.all()
    assert (found.holder_mac, found.mac) == (web.mac, DEVICE)


async def test_a_device_that_claims_all_containers_is_probed_for_in_turns() -> None:
    """Some are due each time."""
    rig, one, two = await two_hosts()
    for number in range(20):
        await two.engine.run(f"c{number}", "lan", ip=f"192.168.1.{number + 20}")
    watched = Watched.on(one.driver, rig.clock)
    frames = [announced(f"192.168.1.{number + 20}") for number in range(20)]
    await watched.see(*frames)
    assert len(one.kernel.probed) == SUSPECTS_MOST
    for _ in range(10):
        await watched.see(*frames)
    assert len(set(one.kernel.probed)) == 20


async def test_a_device_that_is_seldom_heard_is_passed_over_in_a_cluster_too() -> None:
    """The second time that it is heard, minutes later: its first frame may have been a container's that is gone."""
    rig, one, _ = await two_hosts()
    watched = Watched.on(one.driver, rig.clock)
    await watched.see(announced("192.168.1.1"))
    assert len(watched.watch._avoided.seen(DEFAULT_SPACE, 4)) == 0
    await watched.see(announced("192.168.1.1"), after=240)
    assert len(watched.watch._avoided.seen(DEFAULT_SPACE, 4)) == 1


async def test_a_container_that_moves_to_another_host_is_no_conflict() -> None:
    """Its address has another MAC from then on, and frames of the old one may be late."""
    rig, one, two = await two_hosts()
    web = await two.engine.run("web", "lan", ip="192.168.1.20")
    watched = Watched.on(one.driver, rig.clock)
    await watched.see(announced("192.168.1.20", web.mac))
    await two.engine.stop("web")
    here = await one.engine.run("web", "lan", ip="192.168.1.20")
    assert await watched.see(announced("192.168.1.20", web.mac), announced("192.168.1.20", here.mac), after=0.5) == []


async def test_while_the_store_is_away_nobody_is_taken_for_a_device() -> None:
    """An address may be any other host's container's."""
    rig, one, two = await two_hosts()
    web = await two.engine.run("web", "lan", ip="192.168.1.20")
    watched = Watched.on(one.driver, rig.clock)
    rig.reach(away=True)
    for _ in range(5):
        assert await watched.see(announced("192.168.1.20", web.mac)) == []
    assert len(watched.watch._avoided.seen(DEFAULT_SPACE, 4)) == 0


async def test_a_device_that_claims_a_whole_subnet_does_not_read_the_store_for_each_address() -> None:
    """Some are looked up each time, and the others later: in the end all are passed over."""
    rig, one, _ = await two_hosts()
    watched = Watched.on(one.driver, rig.clock)
    frames = [announced(f"192.168.1.{number}") for number in range(1, 101)]
    await watched.see(*frames)
    assert len(watched.watch._remote._known) == LOOKUPS_MOST
    for _ in range(5):
        await watched.see(*frames)
    assert len(watched.watch._avoided.seen(DEFAULT_SPACE, 4)) == 100


@pytest.mark.virtual_time
async def test_parents_are_watched_as_networks_come_and_go() -> None:
    """A link that went down is watched again when it is up; a flood is cut, and said; nothing ends the loops."""
    rig = await Rig.build("eth0", "eth1")
    await rig.engine.create_network("lan", LAN, options=OPTIONS)
    web = await rig.engine.run("web", "lan", ip="192.168.1.20")
    rig.clock.advance(10)
    watch = ConflictWatch(rig.driver, now=rig.clock, steady=rig.clock)
    running = asyncio.ensure_future(watch.run())
    await asyncio.sleep(1)
    rig.kernel.watched["eth0"].put(announced("192.168.1.20"))
    await asyncio.sleep(5)
    assert [each.holder_mac for each in watch.ledger.all()] == [web.mac]
    first = rig.kernel.watched["eth0"]
    await rig.kernel.set_down("eth0")
    await asyncio.sleep(1)
    assert first.closed
    await rig.kernel.set_up("eth0")
    await asyncio.sleep(30)
    assert watch.segments["eth0"].watched
    rig.kernel.watched["eth0"].lost = 7
    rig.kernel.watched["eth0"].put(announced("192.168.1.20"))
    await asyncio.sleep(5)
    assert any("7 frames were not seen" in each for each in watch.notices())
    for number in range(KEYS_MOST + 2):  # a hundred at a time: the socket has room for all
        rig.kernel.watched["eth0"].put(announced(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
        if number % 100 == 0:
            await asyncio.sleep(READ_SECONDS)
    await asyncio.sleep(5)
    assert any("10 frames were not seen" in each for each in watch.notices())
    await rig.engine.stop("web")
    await rig.engine.remove_network("lan")
    await asyncio.sleep(10)
    assert watch.segments == {}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_cannot_be_judged_is_judged_again_and_hides_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The namespace of one of two containers cannot be entered for a moment. The device announced itself once."""
    rig, watched, _ = await lan()
    await rig.engine.run("db", "lan", ip="192.168.1.21")
    rig.clock.advance(10)
    rig.kernel.failing["mac_in_sandbox"] = Unavailable("the namespace cannot be entered")
    found = await watched.see(announced("192.168.1.20"), announced("192.168.1.21"))
    assert [str(each.holding.address) for each in found] == ["192.168.1.21"]
    why = "a claim on 192.168.1.20 on eth0 cannot be judged: the namespace cannot be entered"
    assert watched.watch.notices() == [why]
    assert why in caplog.text
    await watched.watch.judge_now()
    assert [(str(each.holding.address)[-2:], each.count) for each in watched.watch.ledger.all()] == [
        ("21", 1),
        ("20", 1),
    ]
    assert watched.watch.notices() == []


async def test_what_can_never_be_judged_is_given_up() -> None:
    """After half a minute."""
    rig, watched, _ = await lan()
    await watched.see()
    for seconds in (0, PUT_OFF_SECONDS - 1, 2):
        rig.kernel.failing["mac_in_sandbox"] = Unavailable("the namespace cannot be entered")
        frames = () if seconds else (announced("192.168.1.20"),)
        assert await watched.see(*frames, after=seconds) == []
    assert watched.watch.notices() == []
    assert await watched.see() == []
    assert len(await watched.see(announced("192.168.1.20"))) == 1


@pytest.mark.virtual_time
async def test_a_driver_that_may_not_open_such_sockets_says_so() -> None:
    """In status, once."""
    rig = await Rig.build("eth0")
    await rig.engine.create_network("lan", LAN, options=OPTIONS)
    watch = ConflictWatch(rig.driver)
    rig.kernel.failing["watch_neighbours"] = Unavailable("conflicts cannot be watched for: CAP_NET_RAW is missing; …")
    running = asyncio.ensure_future(watch.run())
    await asyncio.sleep(0.5)
    assert [each.partition(": ")[2] for each in watch.notices()] == [
        "conflicts cannot be watched for: CAP_NET_RAW is missing; …"
    ]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def gateway(kernel: FakeKernel, rig: Rig, watched: Watched) -> list[str]:
    """The problems after a check of gateways, a quarter of a minute later."""
    rig.clock.advance(75)
    check = GatewayCheck(rig.driver, watched.watch, now=rig.clock)
    await check.check()
    await check.check()
    assert len([each for _, each in kernel.probed if each == "192.168.1.254"]) <= 1
    return check.problems()


async def test_a_gateway_that_nobody_answers_for_is_reported() -> None:
    """It is asked for once. One that answers, or whose frames are seen anyway, is none; nor one without containers."""
    rig, watched, _ = await lan()
    (problem,) = await gateway(rig.kernel, rig, watched)
    assert "nobody answers for 192.168.1.254, the gateway of network" in problem
    rig.kernel.probed.clear()
    rig.kernel.neighbours["eth0"] = {"192.168.1.254"}
    assert await gateway(rig.kernel, rig, watched) == []
    rig.kernel.neighbours.clear()
    rig.kernel.probed.clear()
    await watched.see(announced("192.168.1.254", ROUTER))
    assert await gateway(rig.kernel, rig, watched) == []
    assert rig.kernel.probed == []
    await rig.engine.stop("web")
    assert await gateway(rig.kernel, rig, watched) == []
