"""Contract of the host's own macvlan links, as checks that run against the real kernel and the fake alike.

The host of the rig has the address `HOST` on its device.
"""

import asyncio
from ipaddress import ip_address

from macvlan_global.errors import Conflict, NotFound
from macvlan_global.kernel.names import shim_name
from macvlan_global.kernel.ports import HostPath, MacvlanSpec, Shim
from testkit.kernel_contract import Check, KernelRig, need, refused

HOST, OWN4, OWN6 = ip_address("192.0.2.7"), ip_address("198.51.100.3"), ip_address("2001:db8:7::3")
SHIM_MAC = "02:00:00:00:00:5a"
PATH = HostPath(ip_address("192.0.2.50"), "02:00:00:00:00:50", HOST)
PATH6 = HostPath(ip_address("2001:db8:7::50"), "02:00:00:00:00:50", OWN6)


async def only(rig: KernelRig) -> Shim:
    """The one shim that there is."""
    (shim,) = await rig.kernel.shims.all()
    return shim


async def a_shim_is_made_up_and_ours(rig: KernelRig) -> None:
    """It stands on the parent, is settled, and has our alias and alternative name; the parent's second one is a
    conflict."""
    assert await rig.kernel.shims.all() == []
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False)
    assert await only(rig) == Shim(name, rig.device, SHIM_MAC)
    link = await need(rig, name)
    assert (link.kind, link.up, link.alias, link.is_shim) == ("macvlan", True, "macvlan-global", True)
    assert link.mac == SHIM_MAC
    assert link.lower == (await need(rig, rig.device)).index
    assert await rig.kernel.link(f"macvlan-global-{name}") == link
    await refused(Conflict, rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False))
    await refused(NotFound, rig.kernel.shims.add("nosuch", mac=SHIM_MAC, ipv6=False))
    assert (await only(rig)).settled


async def a_shim_that_was_left_half_made_is_made_anew(rig: KernelRig) -> None:
    """The driver ended before it marked it as ours. A link with another MAC is somebody's, and stays."""
    name = shim_name(rig.device)
    await rig.half_made(MacvlanSpec(name, rig.device, "bridge", SHIM_MAC))
    assert await rig.kernel.shims.all() == []
    assert await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False) == name
    assert (await only(rig)).settled
    await rig.kernel.shims.delete(name)
    await rig.half_made(MacvlanSpec(name, rig.device, "bridge", PATH.mac))
    text = await refused(Conflict, rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False))
    assert "EEXIST" in text
    assert (await need(rig, name)).mac == PATH.mac


async def a_shim_goes_once(rig: KernelRig) -> None:
    """The second time there is nothing to do."""
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False)
    for _ in range(2):
        await rig.kernel.shims.delete(name)
        assert await rig.kernel.shims.all() == []


async def a_shim_is_settled_again(rig: KernelRig) -> None:
    """One that somebody set down, and IPv6 is switched on and off."""
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False)
    await rig.kernel.set_down(name)
    assert not (await only(rig)).settled
    for ipv6 in (True, False):
        await rig.kernel.shims.settle(name, ipv6=ipv6)
        assert ((await only(rig)).settled, (await only(rig)).ipv6) == (True, ipv6)
    await refused(NotFound, rig.kernel.shims.settle("nosuch", ipv6=False))


async def a_shim_follows_the_mtu_of_its_parent(rig: KernelRig) -> None:
    """The kernel lowers it with the parent's, and does not raise it again."""
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False)
    for mtu in (1400, 1450):
        await rig.set_mtu(rig.device, mtu)
        assert (await only(rig)).settled == (mtu == 1400)
        await rig.kernel.shims.settle(name, ipv6=False)
        assert ((await need(rig, name)).mtu, (await only(rig)).settled) == (mtu, True)


async def a_path_leads_to_a_container(rig: KernelRig) -> None:
    """Adding it twice is once; another MAC replaces it; it is removed once."""
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False)
    for _ in range(2):
        await rig.kernel.shims.add_path(name, PATH)
        assert (await only(rig)).paths == {PATH}
    moved = HostPath(PATH.address, "02:00:00:00:00:51", HOST)
    await rig.kernel.shims.add_path(name, moved)
    assert (await only(rig)).paths == {moved}
    for _ in range(2):
        await rig.kernel.shims.delete_path(name, PATH.address)
        assert (await only(rig)).paths == set()
    await refused(NotFound, rig.kernel.shims.add_path("nosuch", PATH))
    await rig.kernel.shims.delete_path("nosuch", PATH.address)


async def a_path_from_an_address_that_the_host_lacks_is_refused(rig: KernelRig) -> None:
    """And is no path."""
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False)
    await refused(Conflict, rig.kernel.shims.add_path(name, HostPath(PATH.address, PATH.mac, OWN4)))
    assert (await only(rig)).paths == set()


async def a_shim_has_addresses_of_its_own(rig: KernelRig) -> None:
    """One of each family, which paths may begin with; and nothing else, such as a link-local one."""
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=True)
    for _ in range(2):
        await rig.kernel.shims.add_address(name, OWN4)
        await rig.kernel.shims.add_address(name, OWN6)
    assert (await only(rig)).addresses == {OWN4, OWN6}
    paths = {PATH6, HostPath(PATH.address, PATH.mac, OWN4)}
    for each in paths:
        await rig.kernel.shims.add_path(name, each)
    assert (await only(rig)).paths == paths
    for _ in range(2):
        await rig.kernel.shims.delete_address(name, OWN4)
    found = await only(rig)
    assert (found.addresses, found.paths) == (frozenset({OWN6}), frozenset({PATH6}))
    await rig.kernel.shims.delete_address("nosuch", OWN4)
    await refused(NotFound, rig.kernel.shims.add_address("nosuch", OWN4))


async def without_ipv6_a_shim_has_no_address_of_it(rig: KernelRig) -> None:
    """Switching it off takes address and path away."""
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=True)
    await rig.kernel.shims.add_address(name, OWN6)
    await rig.kernel.shims.add_path(name, PATH6)
    await rig.kernel.shims.settle(name, ipv6=False)
    assert ((await only(rig)).addresses, (await only(rig)).paths) == (frozenset(), frozenset())


async def a_shim_is_neither_an_address_nor_a_route_of_the_host(rig: KernelRig) -> None:
    """Facts about the host have nothing of it, and nothing stands on its parent."""
    before = await rig.kernel.routes()
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=True)
    await rig.kernel.shims.add_address(name, OWN6)
    await rig.kernel.shims.add_path(name, PATH)
    assert await rig.kernel.routes() == before
    assert await rig.kernel.upper_of(rig.device) == ""
    await rig.kernel.add_macvlan(MacvlanSpec("m0", rig.device, "bridge", "02:00:00:00:00:aa"))
    assert await rig.kernel.upper_of(rig.device) == "m0"


async def a_change_of_the_host_is_told(rig: KernelRig) -> None:
    """An item at once, and one after a shim was deleted."""
    name = await rig.kernel.shims.add(rig.device, mac=SHIM_MAC, ipv6=False)
    changes = rig.kernel.shims.changes()
    async with asyncio.timeout(10):
        await anext(changes)
        await rig.kernel.shims.delete(name)
        await anext(changes)
    await changes.aclose()


SHIM_CONTRACT: tuple[Check, ...] = (
    a_shim_is_made_up_and_ours,
    a_shim_that_was_left_half_made_is_made_anew,
    a_shim_goes_once,
    a_shim_is_settled_again,
    a_shim_follows_the_mtu_of_its_parent,
    a_path_leads_to_a_container,
    a_path_from_an_address_that_the_host_lacks_is_refused,
    a_shim_has_addresses_of_its_own,
    without_ipv6_a_shim_has_no_address_of_it,
    a_shim_is_neither_an_address_nor_a_route_of_the_host,
    a_change_of_the_host_is_told,
)
