"""Contract of the kernel port, as checks that run against the real one and the fake alike.

Each takes a `KernelRig`: a host with one plain device, up, and a container's namespace.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from macvlan_global.conflicts.claims import claim_in
from macvlan_global.errors import Conflict, Invalid, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel.names import OUR_ALIAS
from macvlan_global.kernel.ports import ETH_P_8021Q, ContainerLink, Kernel, LinkFact, MacvlanMode, MacvlanSpec

MAC = "02:00:00:00:00:aa"
OTHER_MAC = "02:00:00:00:00:bb"


@dataclass(frozen=True, slots=True)
class KernelRig:
    """`device` is up, with MTU 1500, and has the alternative name `altname`; `move` puts a link into `sandbox`.
    `tunnel` is a device without Ethernet, up.

    `neighbour` gives an address, with its prefix length, to somebody else on the device's segment, in a VLAN (0: none).
    `set_mac` sets the MAC of a link in `sandbox`, as its container may; `set_mtu` the MTU of a link of the host.
    `half_made` makes a macvlan link that has no alias yet. `enslave` makes a link a port of a new bridge.
    """

    kernel: Kernel
    device: str
    altname: str
    sandbox: str
    move: Callable[[str], Awaitable[None]]
    neighbour: Callable[[str, int], Awaitable[None]]
    set_mac: Callable[[str, str], Awaitable[None]]
    set_mtu: Callable[[str, int], Awaitable[None]]
    half_made: Callable[[MacvlanSpec], Awaitable[None]]
    enslave: Callable[[str], Awaitable[None]]
    tunnel: str = "tun0"


Check = Callable[[KernelRig], Awaitable[None]]


def spec(rig: KernelRig, name: str = "m0", mac: str = MAC, mode: MacvlanMode = "bridge", mtu: int = 0) -> MacvlanSpec:
    """A link on the rig's device."""
    return MacvlanSpec(name, rig.device, mode, mac, mtu)


async def need(rig: KernelRig, name: str) -> LinkFact:
    """A link that must be there."""
    link = await rig.kernel.link(name)
    assert link is not None
    return link


async def refused(kind: type[MacvlanGlobalError], work: Awaitable[object]) -> str:
    """The text of the error of this kind that must come of it."""
    try:
        await work
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


async def a_device_is_seen_as_it_is(rig: KernelRig) -> None:
    """By itself and in the list; the loopback is known for what it is."""
    device = await need(rig, rig.device)
    assert (device.name, device.up, device.mtu, device.loopback, device.master) == (rig.device, True, 1500, False, "")
    assert device in await rig.kernel.links()
    assert (device.is_ethernet, device.carrier, device.vlan_protocol) == (True, True, 0)
    assert (await need(rig, "lo")).loopback
    await rig.kernel.routes()


async def a_change_by_somebody_else_is_seen_at_once(rig: KernelRig) -> None:
    """However often the link was looked at before, by whichever name."""
    for mtu in (1400, 1300, 1500):
        await rig.set_mtu(rig.device, mtu)
        for name in (rig.device, rig.altname, rig.device):
            assert (await need(rig, name)).mtu == mtu


async def what_is_not_there_is_none(rig: KernelRig) -> None:
    """Names that cannot be included: a list of parents may hold anything."""
    for name in (
        "nosuch",
        "",
        "sixteen-letters!",
        "x" * 128,
        "x" * 1000,
        "é" * 9,
        "a b",
        "a/b",
        ".",
        f"{rig.device}\0",
    ):
        assert await rig.kernel.link(name) is None, name


async def an_alternative_name_finds_the_link(rig: KernelRig) -> None:
    """It may be longer than a name, and leads to the link under its own name."""
    assert len(rig.altname) > 15
    assert await rig.kernel.link(rig.altname) == await rig.kernel.link(rig.device)
    await rig.kernel.add_macvlan(MacvlanSpec("m0", rig.altname, "bridge", MAC))
    assert (await need(rig, "m0")).lower == (await need(rig, rig.device)).index


async def a_macvlan_link_is_made_down_on_its_parent(rig: KernelRig) -> None:
    """With the MAC asked for and the parent's MTU; its alias is its name."""
    for mode in ("bridge", "private", "vepa"):
        await rig.kernel.add_macvlan(spec(rig, mode=mode))
        link = await need(rig, "m0")
        parent = await need(rig, rig.device)
        assert (link.kind, link.mac, link.lower, link.mtu, link.up) == ("macvlan", MAC, parent.index, 1500, False)
        assert link.alias == "m0"
        assert await rig.kernel.delete("m0")


async def an_mtu_is_taken_up_to_the_parents(rig: KernelRig) -> None:
    """Above it is a conflict, and nothing is made."""
    await rig.kernel.add_macvlan(spec(rig, mtu=1280))
    assert (await need(rig, "m0")).mtu == 1280
    await refused(Conflict, rig.kernel.add_macvlan(spec(rig, "m1", OTHER_MAC, mtu=9000)))
    assert await rig.kernel.link("m1") is None


async def a_link_is_set_up_and_down(rig: KernelRig) -> None:
    """Twice is once."""
    await rig.kernel.add_macvlan(spec(rig))
    for _ in range(2):
        await rig.kernel.set_up("m0")
        assert (await need(rig, "m0")).up
    for _ in range(2):
        await rig.kernel.set_down("m0")
        assert not (await need(rig, "m0")).up


async def a_link_is_deleted_once(rig: KernelRig) -> None:
    """The second time there is nothing to delete."""
    await rig.kernel.add_macvlan(spec(rig))
    assert await rig.kernel.delete("m0")
    assert not await rig.kernel.delete("m0")
    assert await rig.kernel.link("m0") is None


async def what_a_deleted_link_had_is_free_at_once(rig: KernelRig) -> None:
    """Its name, its MAC, and a parent that it had for itself, though the kernel goes on freeing it for a while."""
    for mode in ("bridge", "passthru", "vepa", "passthru") * 3:
        await rig.kernel.add_macvlan(spec(rig, mode=mode))
        await rig.kernel.set_up("m0")  # only then would the kernel refuse a MAC that is in use
        assert await rig.kernel.delete("m0")
        assert await rig.kernel.link("m0") is None


async def a_name_is_taken_once(rig: KernelRig) -> None:
    """A conflict; the first link stays as it is. A name too long for a link is invalid."""
    await rig.kernel.add_macvlan(spec(rig))
    await refused(Conflict, rig.kernel.add_macvlan(spec(rig, mac=OTHER_MAC)))
    assert (await need(rig, "m0")).mac == MAC
    await refused(Invalid, rig.kernel.add_macvlan(spec(rig, "sixteen-letters!", OTHER_MAC)))


async def a_missing_link_is_not_found(rig: KernelRig) -> None:
    """As a parent, as a master, to be set up or down."""
    await refused(NotFound, rig.kernel.add_macvlan(MacvlanSpec("m0", "nosuch", "bridge", MAC)))
    await refused(NotFound, rig.kernel.add_vlan("nosuch.5", "nosuch", 5))
    await refused(NotFound, rig.kernel.set_up("nosuch"))
    await refused(NotFound, rig.kernel.set_down("nosuch"))


async def the_loopback_is_no_parent(rig: KernelRig) -> None:
    """The kernel refuses it."""
    await refused(Conflict, rig.kernel.add_macvlan(MacvlanSpec("m0", "lo", "bridge", MAC)))


async def a_tunnel_is_no_parent(rig: KernelRig) -> None:
    """Nor is it Ethernet, which tells it before the kernel is asked."""
    assert not (await need(rig, rig.tunnel)).is_ethernet
    assert not (await need(rig, "lo")).is_ethernet
    await refused(Conflict, rig.kernel.add_macvlan(MacvlanSpec("m0", rig.tunnel, "bridge", MAC)))


async def a_mac_is_used_once_on_a_parent(rig: KernelRig) -> None:
    """Told when the second link is set up, not when it is made; the parent's own MAC counts."""
    await rig.kernel.add_macvlan(spec(rig, "m0"))
    await rig.kernel.add_macvlan(spec(rig, "m1"))
    await rig.kernel.set_up("m0")
    assert "MAC" in await refused(Conflict, rig.kernel.set_up("m1"))
    await rig.kernel.add_macvlan(spec(rig, "m2", (await need(rig, rig.device)).mac))
    await refused(Conflict, rig.kernel.set_up("m2"))
    await rig.kernel.set_down("m0")
    await rig.kernel.set_up("m1")


async def without_a_mac_a_link_gets_one(rig: KernelRig) -> None:
    """In mode passthru the parent's."""
    await rig.kernel.add_macvlan(spec(rig, mac=""))
    assert (await need(rig, "m0")).mac not in {"", (await need(rig, rig.device)).mac}
    await rig.kernel.delete("m0")
    await rig.kernel.add_macvlan(spec(rig, mac="", mode="passthru"))
    assert (await need(rig, "m0")).mac == (await need(rig, rig.device)).mac
    await rig.kernel.set_up("m0")


async def a_passthru_link_has_its_parent_alone(rig: KernelRig) -> None:
    """Whichever comes second is refused; when the first is gone, the parent is free."""
    for first, second in (("passthru", "bridge"), ("passthru", "passthru"), ("bridge", "passthru")):
        await rig.kernel.add_macvlan(spec(rig, "m0", mode=first))  # type: ignore[arg-type]  # as above
        await refused(Conflict, rig.kernel.add_macvlan(spec(rig, "m1", OTHER_MAC, mode=second)))  # type: ignore[arg-type]
        await rig.kernel.delete("m0")


async def a_macvlan_on_a_macvlan_stands_beside_it(rig: KernelRig) -> None:
    """Below both is the device."""
    await rig.kernel.add_macvlan(spec(rig))
    await rig.kernel.add_macvlan(MacvlanSpec("m1", "m0", "bridge", OTHER_MAC))
    assert (await need(rig, "m1")).lower == (await need(rig, rig.device)).index


async def a_link_that_stands_on_another_is_seen_wherever_it_is(rig: KernelRig) -> None:
    """On the host, and in a container, down as it is; and no longer once it is gone. A link that is not there has
    none."""
    assert await rig.kernel.upper_of(rig.device) == ""
    await rig.kernel.add_macvlan(spec(rig))
    assert await rig.kernel.upper_of(rig.device) == "m0"
    await rig.move("m0")
    assert await rig.kernel.upper_of(rig.device) != ""
    assert await rig.kernel.delete_in_sandbox(ContainerLink(rig.sandbox, MAC))
    assert await rig.kernel.upper_of(rig.device) == ""
    assert await rig.kernel.upper_of("nosuch") == ""


async def the_bridge_of_a_port_is_seen(rig: KernelRig) -> None:
    """It would lose the port with the link, though nothing stands on that."""
    await rig.enslave(rig.device)
    assert "br0" in await rig.kernel.upper_of(rig.device)


async def many_requests_at_once_are_all_answered(rig: KernelRig) -> None:
    """Each with its own answer."""
    names = [f"m{number}" for number in range(20)]
    specs = [spec(rig, name, f"02:00:00:00:01:{number:02x}") for number, name in enumerate(names)]
    await asyncio.gather(*(rig.kernel.add_macvlan(spec) for spec in specs))
    found = await asyncio.gather(*(need(rig, name) for name in names))
    assert [link.mac for link in found] == [spec.mac for spec in specs]
    assert all(await asyncio.gather(*(rig.kernel.delete(name) for name in names)))


async def closing_twice_is_fine(rig: KernelRig) -> None:
    """Before anything was asked, and after."""
    await rig.kernel.close()
    await rig.kernel.close()


async def the_holder_of_an_address_answers(rig: KernelRig) -> None:
    """In both families, at the first question; the link may be named by its other name."""
    await rig.neighbour("192.0.2.9/24", 0)
    await rig.neighbour("2001:db8::9/64", 0)
    for address in ("192.0.2.9", "2001:db8::9"):
        assert await rig.kernel.probe(rig.device, address, wait=10)
        assert await rig.kernel.probe(rig.altname, address, tries=1, wait=10)


async def nobody_answers_for_an_address_that_nobody_has(rig: KernelRig) -> None:
    """A neighbour has others, and a link that stands on the asking one is not asked."""
    await rig.neighbour("192.0.2.9/24", 0)
    await rig.neighbour("2001:db8::9/64", 0)
    for address in ("192.0.2.8", "2001:db8::8", "2001:db8:0:1::9"):
        assert not await rig.kernel.probe(rig.device, address, tries=2, wait=0.1)


async def a_segment_that_cannot_be_probed_is_not_taken_for_silent(rig: KernelRig) -> None:
    """No such link, or one that is down: nobody knows who has the address."""
    await refused(NotFound, rig.kernel.probe("nosuch", "192.0.2.9"))
    await rig.kernel.set_down(rig.device)
    for address in ("192.0.2.9", "2001:db8::9"):
        await refused(Unavailable, rig.kernel.probe(rig.device, address))


async def the_holder_of_an_address_in_another_vlan_does_not_answer(rig: KernelRig) -> None:
    """The sub-interface asks in its VLAN alone, its master outside of all."""
    await rig.kernel.add_vlan("blue", rig.device, 10)
    await rig.kernel.add_vlan("red", rig.device, 11)
    await rig.kernel.set_up("blue")
    await rig.kernel.set_up("red")
    await rig.neighbour("192.0.2.9/24", 10)
    await rig.neighbour("2001:db8::9/64", 10)
    for address in ("192.0.2.9", "2001:db8::9"):
        assert await rig.kernel.probe("blue", address, wait=10)
        assert not await rig.kernel.probe("red", address, tries=2, wait=0.1)
        assert not await rig.kernel.probe(rig.device, address, tries=2, wait=0.1)


async def a_sub_interface_is_made_down_on_its_master(rig: KernelRig) -> None:
    """With its VLAN id, the master's MAC and MTU; its name need not tell the id."""
    await rig.kernel.add_vlan("blue", rig.device, 4094)
    link, master = await need(rig, "blue"), await need(rig, rig.device)
    assert (link.kind, link.vlan_id, link.lower, link.up) == ("vlan", 4094, master.index, False)
    assert (link.vlan_protocol, link.is_ethernet) == (ETH_P_8021Q, True)
    assert (link.mac, link.mtu) == (master.mac, master.mtu)
    assert link in await rig.kernel.links()
    assert await rig.kernel.link("macvlan-global-blue") == link
    assert link.alias == OUR_ALIAS


async def a_vlan_is_made_once_on_a_master(rig: KernelRig) -> None:
    """Under whatever name."""
    await rig.kernel.add_vlan("blue", rig.device, 10)
    await refused(Conflict, rig.kernel.add_vlan("blue", rig.device, 11))
    await refused(Conflict, rig.kernel.add_vlan("red", rig.device, 10))


async def a_vlan_in_a_vlan_is_made_and_carries_links(rig: KernelRig) -> None:
    """QinQ: each of them has VLAN ids of its own."""
    await rig.kernel.add_vlan("outer", rig.device, 20)
    await rig.kernel.set_up("outer")
    await rig.kernel.add_vlan("inner", "outer", 20)
    await rig.kernel.set_up("inner")
    assert (await need(rig, "inner")).lower == (await need(rig, "outer")).index
    await rig.kernel.add_macvlan(MacvlanSpec("m0", "inner", "bridge", MAC))
    await rig.kernel.set_up("m0")
    assert await rig.kernel.delete("outer")
    assert await rig.kernel.link("m0") is None


async def a_sub_interface_is_not_set_up_on_a_master_that_is_down(rig: KernelRig) -> None:
    """Unavailable: it works once the master is up."""
    await rig.kernel.add_vlan("blue", rig.device, 10)
    await rig.kernel.set_down(rig.device)
    await refused(Unavailable, rig.kernel.set_up("blue"))
    await rig.kernel.set_up(rig.device)
    await rig.kernel.set_up("blue")


async def what_stands_on_a_link_goes_with_it(rig: KernelRig) -> None:
    """Links in containers too."""
    await rig.kernel.add_vlan("blue", rig.device, 10)
    await rig.kernel.set_up("blue")
    await rig.kernel.add_macvlan(MacvlanSpec("m0", "blue", "bridge", MAC))
    await rig.kernel.add_macvlan(MacvlanSpec("m1", "blue", "bridge", OTHER_MAC))
    await rig.move("m1")
    assert await rig.kernel.delete("m0")
    assert await rig.kernel.upper_of("blue") != ""
    await rig.kernel.add_macvlan(MacvlanSpec("m0", "blue", "bridge", MAC))
    assert await rig.kernel.delete("blue")
    assert await rig.kernel.link("m0") is None
    assert not await rig.kernel.find_in_sandbox(ContainerLink(rig.sandbox, OTHER_MAC))


async def a_dummy_is_made_down_and_carries_links(rig: KernelRig) -> None:
    """It stands on nothing."""
    await rig.kernel.add_dummy("dm-0")
    dummy = await need(rig, "dm-0")
    assert (dummy.kind, dummy.lower, dummy.up, dummy.mtu) == ("dummy", 0, False, 1500)
    assert await rig.kernel.link("macvlan-global-dm-0") == dummy
    assert dummy.alias == OUR_ALIAS
    await refused(Conflict, rig.kernel.add_dummy("dm-0"))
    await rig.kernel.set_up("dm-0")
    await rig.kernel.add_macvlan(MacvlanSpec("m0", "dm-0", "bridge", MAC))
    assert await rig.kernel.delete("dm-0")
    assert await rig.kernel.link("m0") is None


async def address_resolution_on_a_segment_is_received(rig: KernelRig) -> None:
    """In both families: what this host asks, marked as outgoing, and what others say; and nothing is lost."""
    for address, prefix in (("192.0.2.9", 24), ("2001:db8::9", 64)):
        await rig.neighbour(f"{address}/{prefix}", 0)
    watched = await rig.kernel.watch_neighbours(rig.device)
    own = (await need(rig, rig.device)).mac
    for address in ("192.0.2.9", "2001:db8::9"):
        station = await rig.kernel.probe(rig.device, address)
        assert station is not None
        frames: list[tuple[bytes, bool]] = []
        while not {(own, True), (station.mac, False)} <= _claimants(frames, address):
            async with asyncio.timeout(10):
                await watched.wait()
            frames += watched.take(1)
    assert watched.dropped() == 0
    await watched.close()


def _claimants(frames: list[tuple[bytes, bool]], address: str) -> set[tuple[str, bool]]:
    claims = [(claim_in(frame), outgoing) for frame, outgoing in frames]
    return {(claim.mac, outgoing) for claim, outgoing in claims if claim and str(claim.address) == address}


async def a_link_that_goes_down_is_watched_no_more(rig: KernelRig) -> None:
    """Whoever waits wakes up, and hears why; a link that is none, or not Ethernet, cannot be watched."""
    watched = await rig.kernel.watch_neighbours(rig.device)
    await rig.kernel.set_down(rig.device)
    async with asyncio.timeout(10):
        await watched.wait()
    try:
        while True:
            watched.take(10)
    except Unavailable as error:
        assert "it is down" in str(error)
    await watched.close()
    await watched.close()
    await rig.kernel.set_up(rig.device)
    await refused(NotFound, rig.kernel.watch_neighbours("nosuch"))
    if await rig.kernel.link(rig.tunnel):
        assert "not Ethernet" in await refused(Unavailable, rig.kernel.watch_neighbours(rig.tunnel))


KERNEL_CONTRACT: tuple[Check, ...] = (
    a_device_is_seen_as_it_is,
    a_change_by_somebody_else_is_seen_at_once,
    what_is_not_there_is_none,
    an_alternative_name_finds_the_link,
    a_macvlan_link_is_made_down_on_its_parent,
    an_mtu_is_taken_up_to_the_parents,
    a_link_is_set_up_and_down,
    a_link_is_deleted_once,
    what_a_deleted_link_had_is_free_at_once,
    a_name_is_taken_once,
    a_missing_link_is_not_found,
    the_loopback_is_no_parent,
    a_tunnel_is_no_parent,
    a_mac_is_used_once_on_a_parent,
    without_a_mac_a_link_gets_one,
    a_passthru_link_has_its_parent_alone,
    a_macvlan_on_a_macvlan_stands_beside_it,
    a_link_that_stands_on_another_is_seen_wherever_it_is,
    the_bridge_of_a_port_is_seen,
    many_requests_at_once_are_all_answered,
    closing_twice_is_fine,
    the_holder_of_an_address_answers,
    nobody_answers_for_an_address_that_nobody_has,
    a_segment_that_cannot_be_probed_is_not_taken_for_silent,
    address_resolution_on_a_segment_is_received,
    a_link_that_goes_down_is_watched_no_more,
)
VLAN_CONTRACT: tuple[Check, ...] = (
    a_sub_interface_is_made_down_on_its_master,
    a_vlan_is_made_once_on_a_master,
    a_vlan_in_a_vlan_is_made_and_carries_links,
    a_sub_interface_is_not_set_up_on_a_master_that_is_down,
    what_stands_on_a_link_goes_with_it,
    the_holder_of_an_address_in_another_vlan_does_not_answer,
)
DUMMY_CONTRACT: tuple[Check, ...] = (a_dummy_is_made_down_and_carries_links,)
