"""The real kernel and the fake one keep the same promises, so a test on the fake means something."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from pathlib import Path

import pytest

from lab import Host
from lab.process import wait_until
from lab.speed import patience
from macvlan_global.errors import Conflict, Invalid, Unavailable
from macvlan_global.kernel.address_changes import AddressChanges
from macvlan_global.kernel.netlink import NetlinkKernel, Sockets
from macvlan_global.kernel.ports import ContainerLink, InterfaceConfig, MacvlanSpec, MadeInside, RouteFacts
from macvlan_global.kernel.rtnl import RTM_NEWLINK, MessageSocket, RouteSocket, open_netlink
from testkit.fake_clock import FakeClock
from testkit.fake_kernel import ARPHRD_NONE, FakeKernel
from testkit.kernel_contract import (
    DUMMY_CONTRACT,
    KERNEL_CONTRACT,
    VLAN_CONTRACT,
    Check,
    KernelRig,
)
from testkit.sandbox_contract import SANDBOX_CONTRACT
from testkit.shim_contract import HOST, SHIM_CONTRACT

ALTNAME = "uplink-of-the-house"
FLOOD = 5000
"""More changes than a socket holds: some three hundred by Linux's default (net.core.rmem_default)."""


@pytest.fixture
def fake() -> KernelRig:
    """A kernel in memory."""
    kernel = FakeKernel("port0")
    kernel.altnames[ALTNAME] = "port0"
    kernel.namespaces.add("/netns/box")
    kernel.add_device("tun0", kind="tun", hardware=ARPHRD_NONE)

    async def move(name: str) -> None:
        kernel.move(name, "/netns/box", name)

    async def neighbour(address: str, vlan_id: int) -> None:
        heard_on = [each.name for each in kernel.hosted.values() if each.vlan_id == vlan_id and each.name != "lo"]
        for name in heard_on:
            kernel.neighbours.setdefault(name, set()).add(address.partition("/")[0])

    async def set_mac(name: str, mac: str) -> None:
        kernel.change("/netns/box", name, mac=mac)

    async def set_mtu(name: str, mtu: int) -> None:
        kernel.set_mtu(name, mtu)

    async def half_made(spec: MacvlanSpec) -> None:
        kernel.make(spec)
        kernel.hosted[spec.name] = replace(kernel.hosted[spec.name], alias="")

    async def enslave(name: str) -> None:
        kernel.add_device("br0", kind="bridge")
        kernel.enslave(name, "br0")

    return KernelRig(kernel, "port0", ALTNAME, "/netns/box", move, neighbour, set_mac, set_mtu, half_made, enslave)


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    """A machine, and one whose namespace stands for a container's."""
    with Host("machine") as machine, Host("box") as box:
        yield machine, box


@pytest.fixture
async def real(hosts: tuple[Host, Host]) -> AsyncIterator[KernelRig]:
    """The running kernel, in a namespace of its own."""
    machine, box = hosts
    machine.run(["ip", "link", "add", "port0", "type", "veth", "peer", "name", "peer0"])
    for name in ("port0", "peer0"):
        machine.run(["ip", "link", "set", name, "up"])
    # the guest kernel has no tun; the check that wants one runs in the kernel that is here
    machine.run(["ip", "tuntap", "add", "tun0", "mode", "tun"], check=False)
    machine.run(["ip", "link", "set", "tun0", "up"], check=False)
    machine.run(["ip", "link", "property", "add", "dev", "port0", "altname", ALTNAME])

    async def move(name: str) -> None:
        # from outside the machine's mounts, whose /run is its own
        command = ["ip", "-n", machine.namespace, "link", "set", name, "netns", box.namespace]
        await asyncio.to_thread(subprocess.run, command, check=True)

    async def neighbour(address: str, vlan_id: int) -> None:
        await asyncio.to_thread(_add_neighbour, machine, box, address, vlan_id)

    async def set_mac(name: str, mac: str) -> None:
        await asyncio.to_thread(box.run, ["ip", "link", "set", name, "address", mac])

    async def set_mtu(name: str, mtu: int) -> None:
        await asyncio.to_thread(machine.run, ["ip", "link", "set", name, "mtu", str(mtu)])

    async def half_made(spec: MacvlanSpec) -> None:
        kind = ["type", "macvlan", "mode", spec.mode]
        command = ["ip", "link", "add", "link", spec.parent, "name", spec.name, "address", spec.mac, *kind]
        await asyncio.to_thread(machine.run, command)

    async def enslave(name: str) -> None:
        await asyncio.to_thread(machine.run, ["ip", "link", "add", "br0", "type", "bridge"])
        await asyncio.to_thread(machine.run, ["ip", "link", "set", name, "master", "br0"])

    kernel, sandbox = NetlinkKernel(), f"/run/netns/{box.namespace}"
    with machine.in_network():
        yield KernelRig(kernel, "port0", ALTNAME, sandbox, move, neighbour, set_mac, set_mtu, half_made, enslave)
        await kernel.close()
    for name in ("tun0", "br0"):
        machine.run(["ip", "link", "delete", name], check=False)
    machine.run(["ip", "link", "delete", "port0"])  # what stands on it goes too, wherever it is


def _add_neighbour(machine: Host, box: Host, address: str, vlan_id: int) -> None:
    """A container's link on the other end of the wire: a macvlan in a namespace of its own."""
    on, name, flag = "peer0", "far4", ""
    if ":" in address:
        name, flag = "far6", " nodad"
    if vlan_id:
        on, made = f"peer0.{vlan_id}", f"link add link peer0 name peer0.{vlan_id} type vlan id {vlan_id}"
        if machine.run(["ip", "link", "show", on], check=False).returncode:
            machine.run(["ip", *made.split()])
            machine.run(["ip", "link", "set", on, "up"])
    machine.run(["ip", *f"link add link {on} name {name} type macvlan mode bridge".split()])
    subprocess.run(["ip", "-n", machine.namespace, "link", "set", name, "netns", box.namespace], check=True)
    for line in (f"link set {name} up", f"address add {address} dev {name}{flag}"):
        box.run(["ip", *line.split()])


def _names_in(folder: str) -> list[str]:
    return sorted(each.name for each in Path(folder).iterdir())


def _named(check: Check) -> str:
    return check.__name__


@pytest.mark.parametrize("check", [*KERNEL_CONTRACT, *SANDBOX_CONTRACT, *VLAN_CONTRACT, *DUMMY_CONTRACT], ids=_named)
async def test_fake_kernel(check: Check, fake: KernelRig) -> None:
    """One promise; each says in its docstring what it is."""
    await check(fake)


@pytest.mark.parametrize("check", [*KERNEL_CONTRACT, *SANDBOX_CONTRACT], ids=_named)
async def test_real_kernel(check: Check, real: KernelRig) -> None:
    """The same one, by the kernel that runs here."""
    await check(real)


@pytest.mark.parametrize("check", SHIM_CONTRACT, ids=_named)
async def test_fake_shims(check: Check, fake: KernelRig) -> None:
    """The host's own macvlan links, in memory."""
    kernel = fake.kernel
    assert isinstance(kernel, FakeKernel)
    kernel.route_facts = RouteFacts(addresses=(("port0", IPv4Interface(f"{HOST}/24")),))
    await check(fake)


@pytest.mark.parametrize("check", SHIM_CONTRACT, ids=_named)
async def test_real_shims(check: Check, hosts: tuple[Host, Host], real: KernelRig) -> None:
    """The same ones, by the kernel that runs here."""
    hosts[0].run(["ip", "address", "add", f"{HOST}/24", "dev", "port0"])
    await check(real)


@pytest.mark.needs("8021q")
@pytest.mark.parametrize("check", VLAN_CONTRACT, ids=_named)
async def test_real_kernel_with_vlans(check: Check, real: KernelRig) -> None:
    """Checks that need 802.1Q."""
    await check(real)


@pytest.mark.needs("dummy")
@pytest.mark.parametrize("check", DUMMY_CONTRACT, ids=_named)
async def test_real_kernel_with_dummies(check: Check, real: KernelRig) -> None:
    """Checks that need dummy links."""
    await check(real)


def _host_on(machine: Host, name: str) -> tuple[str, str]:
    """The host's addresses on a link, and the link's alias."""
    shown = json.loads(machine.run(["ip", "-json", "-details", "address", "show", "dev", name]).stdout)[0]
    return " ".join(each["local"] for each in shown["addr_info"]), shown.get("ifalias", "")


@pytest.mark.needs("8021q")
async def test_a_sub_interface_makes_no_host_of_it(hosts: tuple[Host, Host], real: KernelRig) -> None:
    """No IPv6 address, also if somebody switches IPv6 on for all links; the master keeps what it has."""
    machine = hosts[0]
    await real.kernel.add_vlan("blue", "port0", 10)
    await real.kernel.set_up("blue")
    machine.run(["sysctl", "-w", "net.ipv6.conf.blue.disable_ipv6=0"])
    for name in ("port0", "blue"):
        machine.run(["ip", "link", "set", name, "down"])
        machine.run(["ip", "link", "set", name, "up"])
    assert _host_on(machine, "blue") == ("", "macvlan-global")
    assert "fe80:" in _host_on(machine, "port0")[0]
    assert machine.run(["cat", "/proc/sys/net/ipv6/conf/blue/accept_ra"]).stdout.strip() == "0"


@pytest.mark.needs("8021q")
async def test_a_container_on_a_sub_interface_has_ipv6(
    hosts: tuple[Host, Host], real: KernelRig, inside: Callable[[str], str]
) -> None:
    """Though the host has none on it: neighbours are found, and a router is heeded."""
    machine = hosts[0]
    await real.kernel.add_vlan("blue", "port0", 10)
    await real.kernel.set_up("blue")
    for line in (
        "link add link peer0 name peer0.10 type vlan id 10",
        "address add fd09::1/64 dev peer0.10 nodad",
        "link set peer0.10 up",
    ):
        machine.run(["ip", *line.split()])
    await real.kernel.add_in_sandbox(replace(SPEC, parent="blue"), _link(real), CONFIG)
    assert "1 received" in inside("ping -6 -c 1 -w 20 fd09::1")
    assert "fe80:" in inside("ip -6 address show lan0")


async def test_routes_and_addresses_of_the_real_kernel(hosts: tuple[Host, Host], real: KernelRig) -> None:
    """Both families, the default route of the main table by its metric, and no local or multicast destinations."""
    machine, _ = hosts
    for command in (
        "addr add 192.0.2.7/24 dev port0",
        "addr add 2001:db8::7/64 dev port0 nodad",
        "route add 198.51.100.0/24 via 192.0.2.1",
        "route add blackhole 203.0.113.0/24",
        "route add default via 192.0.2.9 dev peer0 onlink metric 900",
        "route add default via 192.0.2.1 metric 100",
        "route add default via 192.0.2.9 dev peer0 onlink table 1001",  # policy routing, as VPNs and clouds do it
    ):
        machine.run(["ip", *command.split()])
    facts = await real.kernel.routes()
    destinations = {str(each) for each in facts.destinations}
    assert {"192.0.2.0/24", "198.51.100.0/24", "2001:db8::/64"} <= destinations
    assert not any(each.startswith(("ff", "127.", "192.0.2.255")) for each in destinations)
    addresses = {(name, str(address)) for name, address in facts.addresses}
    assert {("port0", "192.0.2.7/24"), ("port0", "2001:db8::7/64"), ("lo", "127.0.0.1/8")} <= addresses
    assert facts.default_link == "port0"
    assert [(name, str(each)) for name, each in facts.gateways] == [("port0", "192.0.2.1"), ("peer0", "192.0.2.9")]


async def test_the_host_s_own_addresses_are_those_of_the_moment(hosts: tuple[Host, Host], real: KernelRig) -> None:
    """One that is added or removed shows in the next answer; while nothing changes, the answer is the same object."""
    machine, _ = hosts
    before = await real.kernel.own_addresses()
    assert await real.kernel.own_addresses() is before
    for command, there in (("add", True), ("del", False)):
        machine.run(["ip", "addr", command, "192.0.2.77/24", "dev", "port0"])
        facts = await real.kernel.own_addresses()
        assert (("port0", ip_interface("192.0.2.77/24")) in facts.addresses) is there
    machine.run(["ip", "addr", "add", "192.0.2.7/24", "dev", "port0"])
    machine.run(["ip", "route", "add", "default", "nexthop", "via", "192.0.2.1", "nexthop", "via", "192.0.2.2"])
    for _ in range(100):  # a change of routes alone may be read a moment later
        if (facts := await real.kernel.own_addresses()).gateways:
            break
        await asyncio.sleep(0.05)
    assert [(name, str(each)) for name, each in facts.gateways] == [("port0", "192.0.2.1"), ("port0", "192.0.2.2")]


async def test_a_flood_of_routes_hides_no_address_and_waits(hosts: tuple[Host, Host], real: KernelRig) -> None:
    """A routing daemon writes more than its socket holds: nothing is dumped for that, and an address is seen at once,
    also after others were."""
    machine, clock = hosts[0], FakeClock()
    assert real.kernel
    changes = AddressChanges(steady=clock)
    assert changes.begin()
    clock.advance(10)
    changes.end()
    assert not changes.begin()
    for round_ in range(2):
        flood = (f"route add 198.{18 + round_}.{each // 250}.{each % 250} dev lo\n" for each in range(FLOOD))
        machine.run(["ip", "-batch", "-"], stdin="".join(flood))
        assert not changes.begin()
        for number in range(2):
            machine.run(["ip", "addr", "add", f"192.0.2.{round_ * 2 + number + 1}/32", "dev", "port0"])
            assert changes.begin()
            clock.advance(10)
            changes.end()
            assert not changes.begin()
    changes.close()
    machine.run(["ip", "route", "flush", "root", "198.18.0.0/15"])


async def test_a_port_of_a_bridge_names_its_bridge(hosts: tuple[Host, Host], real: KernelRig) -> None:
    """By itself and in the list."""
    machine, _ = hosts
    machine.run(["ip", "link", "add", "br0", "type", "bridge"])
    try:
        machine.run(["ip", "link", "set", "port0", "master", "br0"])
        link = await real.kernel.link("port0")
        listed = {each.name: each for each in await real.kernel.links()}
    finally:
        machine.run(["ip", "link", "delete", "br0"])
    assert link is not None
    assert (link.master, listed["port0"].master) == ("br0", "br0")
    assert (link.master_kind, listed["port0"].master_kind) == ("bridge", "bridge")


async def test_a_wire_that_is_cut_shows(hosts: tuple[Host, Host], real: KernelRig) -> None:
    """The link is up, and has no carrier."""
    hosts[0].run(["ip", "link", "set", "peer0", "down"])
    link = await real.kernel.link("port0")
    assert link is not None
    assert (link.up, link.carrier) == (True, False)


@pytest.mark.needs("8021q")
async def test_a_vlan_of_another_protocol_is_another_one(hosts: tuple[Host, Host], real: KernelRig) -> None:
    """VLAN 10 may be there twice, by 802.1ad and by 802.1Q."""
    command = "ip link add link port0 name outer type vlan protocol 802.1ad id 10"
    hosts[0].run(command.split())
    await real.kernel.add_vlan("blue", "port0", 10)
    found = {each.name: each.vlan_protocol for each in await real.kernel.links() if each.vlan_id == 10}
    assert found == {"outer": 0x88A8, "blue": 0x8100}


async def test_a_module_that_is_missing_says_what_to_load(real: KernelRig) -> None:
    """If this kernel has it, the link is made instead."""
    try:
        await real.kernel.add_vlan("port0.5", "port0", 5)
    except Unavailable as error:
        assert "modprobe 8021q" in str(error)
    else:
        assert await real.kernel.link("port0.5")


def test_a_namespace_that_must_not_be_entered_is_not_taken_for_gone(hosts: tuple[Host, Host]) -> None:
    """A driver without CAP_SYS_ADMIN cannot tell that a container is dead, so it must not say so."""
    path = f"/run/netns/{hosts[1].namespace}"
    program = f"import asyncio, macvlan_global.kernel.netns as s; asyncio.run(s.NamespacePool().run({path!r}, bool))"
    command = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"Unavailable: the network namespace {path} cannot be entered" in done.stderr


async def test_what_cannot_be_entered_is_not_made_and_leaks_nothing(real: KernelRig, tmp_path: Path) -> None:
    """A container's namespace that is gone is asked for again and again while the driver lives."""
    gone = tmp_path / "gone"
    mac = "02:00:00:00:00:aa"
    assert not await real.kernel.find_in_sandbox(
        ContainerLink(str(gone), mac)
    )  # the threads and their sockets are there now
    before = _names_in("/proc/self/fd")
    for path in (str(gone), "/etc/passwd", "/", "") * 5:
        assert not await real.kernel.delete_in_sandbox(ContainerLink(path, mac))
    assert _names_in("/proc/self/fd") == before
    assert _names_in(str(tmp_path)) == []


# ------------------------------------------------- interfaces inside a container, as `ip` there shows them

ALIAS = "mg-0123456789ab"
MAC = "02:00:00:00:00:aa"
SPEC = MacvlanSpec(ALIAS, "port0", "bridge", MAC, 1400)
CONFIG = InterfaceConfig(
    "lan",
    numbered=True,
    addresses=(IPv4Interface("10.9.0.5/24"), IPv6Interface("fd09::5/64")),
    settings=(("ipv4/conf/*/log_martians", "1"),),
)
UNWRITABLE = (("ipv4/conf/*/mc_forwarding", "1"),)
"""A setting that the kernel lets nobody write, as a read-only /proc does with all."""


def _link(rig: KernelRig) -> ContainerLink:
    return ContainerLink(rig.sandbox, MAC, ALIAS)


@pytest.fixture
def inside(hosts: tuple[Host, Host], real: KernelRig) -> Iterator[Callable[[str], str]]:
    """Runs a command in the container's namespace and returns its output; nothing is left there."""
    box = hosts[1]
    assert real.kernel
    yield lambda command: box.run(command.split()).stdout.strip()
    shown = json.loads(box.run(["ip", "-json", "link"]).stdout)
    for each in shown:
        if each["ifname"] not in {"lo", "eth0"}:
            box.run(["ip", "link", "delete", each["ifname"]], check=False)


async def test_an_interface_inside_has_what_an_engine_gives(real: KernelRig, inside: Callable[[str], str]) -> None:
    """Alias, MAC, MTU, addresses with their flags, settings, and it is up; asking again changes nothing."""
    for _ in range(2):
        made = await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
        assert made == MadeInside("lan0")
    link = json.loads(inside("ip -d -json link show lan0"))[0]
    assert (link["ifalias"], link["address"], link["mtu"]) == (ALIAS, MAC, 1400)
    assert "UP" in link["flags"]
    assert link["linkinfo"]["info_data"]["mode"] == "bridge"
    shown = json.loads(inside("ip -json addr show lan0"))[0]["addr_info"]
    four, six = shown[0], next(each for each in shown if each.get("local") == "fd09::5")
    assert (four["local"], four["prefixlen"], four["broadcast"], four["scope"]) == (
        "10.9.0.5",
        24,
        "10.9.0.255",
        "global",
    )
    assert (six["prefixlen"], six["scope"], six["nodad"]) == (64, "global", True)
    assert inside("cat /proc/sys/net/ipv4/conf/lan0/log_martians") == "1"
    assert inside("cat /proc/sys/net/ipv6/conf/lan0/disable_ipv6") == "0"
    assert await real.kernel.delete_in_sandbox(_link(real))


async def test_an_interface_without_ipv6_has_it_switched_off(real: KernelRig, inside: Callable[[str], str]) -> None:
    """As engines do, so that nobody else's advertisements configure it."""
    await real.kernel.add_in_sandbox(SPEC, _link(real), replace(CONFIG, addresses=CONFIG.addresses[:1]))
    assert inside("cat /proc/sys/net/ipv6/conf/lan0/disable_ipv6") == "1"
    assert "inet6" not in inside("ip addr show lan0")


async def test_an_interface_that_is_flushed_has_no_address(real: KernelRig, inside: Callable[[str], str]) -> None:
    """Of any kind, so that it answers for nothing; the link is there still."""
    await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
    assert "inet6 fe80" in inside("ip addr show lan0")
    assert await real.kernel.flush_addresses(_link(real))
    assert "inet" not in inside("ip addr show lan0")


async def test_an_interface_that_was_set_down_is_restored(real: KernelRig, inside: Callable[[str], str]) -> None:
    """With the IPv6 address that went, and default routes; one that is up is left alone."""
    gateways = (ip_address("10.9.0.1"), ip_address("fd09::1"))
    await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
    assert not await real.kernel.restore(_link(real), CONFIG)
    inside("ip link set lan0 down")
    assert "fd09::5" not in inside("ip addr show lan0")
    assert await real.kernel.restore(_link(real), replace(CONFIG, gateways=gateways))
    assert "fd09::5/64" in inside("ip addr show lan0")
    assert "default via 10.9.0.1 dev lan0" in inside("ip route")
    assert "default via fd09::1 dev lan0" in inside("ip -6 route")


def _own_route(inside: Callable[[str], str]) -> None:
    """The container makes a link of its own, with a route that covers its address."""
    for line in ("link add far type veth peer name near", "link set far up", "route add 10.9.0.0/25 dev far"):
        inside(f"ip {line}")


async def test_a_request_that_comes_again_leaves_a_running_container_alone(
    real: KernelRig, inside: Callable[[str], str]
) -> None:
    """Its interface is there still, with all that the container made of it, whatever else it has by now."""
    await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
    inside("sysctl -w net.ipv4.conf.lan0.log_martians=0")
    inside("ip addr del fd09::5/64 dev lan0")
    _own_route(inside)
    for config in (CONFIG, replace(CONFIG, settings=UNWRITABLE), replace(CONFIG, settings=(("ipv4/conf/*/no", "1"),))):
        assert await real.kernel.add_in_sandbox(SPEC, _link(real), config) == MadeInside("lan0")
    assert "10.9.0.5/24" in (shown := inside("ip addr show up dev lan0"))
    assert "fd09::5" not in shown
    assert inside("cat /proc/sys/net/ipv4/conf/lan0/log_martians") == "0"


async def test_a_request_that_comes_again_finishes_an_interface_and_deletes_none(
    real: KernelRig, inside: Callable[[str], str]
) -> None:
    """One that is down, or without its addresses. It is refused while it cannot be done, and then has all it must."""
    await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
    inside("ip link set lan0 down")
    with pytest.raises(Unavailable, match=r"mc_forwarding cannot be written by this driver"):
        await real.kernel.add_in_sandbox(SPEC, _link(real), replace(CONFIG, settings=UNWRITABLE))
    _own_route(inside)
    with pytest.raises(Conflict, match=r"route to 10\.9\.0\.0/25"):
        await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
    assert "state DOWN" in inside("ip link show lan0")
    inside("ip link delete far")
    for _ in range(2):
        assert await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG) == MadeInside("lan0")
        shown = inside("ip addr show up dev lan0")
        assert "10.9.0.5/24" in shown
        assert "fd09::5/64" in shown
        await real.kernel.flush_addresses(_link(real))  # as at the end of an endpoint, whose driver dies then


async def test_an_interface_whose_settings_cannot_be_written_is_not_left(
    real: KernelRig, inside: Callable[[str], str]
) -> None:
    """The container is to have a plain one instead."""
    made = await real.kernel.add_in_sandbox(SPEC, _link(real), replace(CONFIG, settings=UNWRITABLE))
    assert "mc_forwarding cannot be written" in made.why_not
    assert "lan0" not in inside("ip link")


async def test_what_cannot_be_set_leaves_no_link(real: KernelRig, inside: Callable[[str], str]) -> None:
    """A route that is there already, a setting that is not, a value that cannot be: refused with the reason."""
    inside("ip link add far type veth peer name near")
    inside("ip addr add 10.9.0.200/25 dev far")
    inside("ip link set far up")
    with pytest.raises(Conflict, match=r"10\.9\.0\.5/24 cannot be set .* route to 10\.9\.0\.128/25"):
        await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
    inside("ip link delete far")
    for setting, value, said in (
        ("ipv4/conf/*/nosuch", "1", r"no setting net\.ipv4\.conf\.IFNAME\.nosuch"),
        ("ipv4/conf/*/log_martians", "pear", r"refuses net\.ipv4\.conf\.IFNAME\.log_martians=pear"),
    ):
        with pytest.raises(Invalid, match=said):
            await real.kernel.add_in_sandbox(SPEC, _link(real), replace(CONFIG, settings=((setting, value),)))
    assert "lan0" not in inside("ip link")


class Held:
    """A netlink socket of which requests for a new link wait, as for a lock of the kernel, until `go` is set."""

    def __init__(self, reached: threading.Event, go: threading.Event) -> None:
        """Set `reached` when one waits."""
        self._real: MessageSocket = open_netlink()
        self._reached, self._go = reached, go

    def send(self, data: bytes, /) -> int:
        """A request; its type is in the header, struct nlmsghdr."""
        if int.from_bytes(data[4:6], sys.byteorder) == RTM_NEWLINK:
            self._reached.set()
            self._go.wait(patience(30))
        return self._real.send(data)

    def recv(self, size: int, /) -> bytes:
        """A part of its answer."""
        return self._real.recv(size)

    def close(self) -> None:
        """The real one."""
        self._real.close()


async def test_who_gives_up_finds_the_link_that_was_made_meanwhile(
    real: KernelRig, inside: Callable[[str], str]
) -> None:
    """A request that its deadline breaks off is undone only once its end is known, so no link comes after that."""
    reached, go = threading.Event(), threading.Event()
    kernel = NetlinkKernel(Sockets(route=lambda: RouteSocket(lambda: Held(reached, go))))

    async def join() -> None:
        try:
            await kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
        except asyncio.CancelledError:
            assert await kernel.delete_in_sandbox(_link(real))
            raise

    joining = asyncio.ensure_future(join())
    assert await asyncio.to_thread(reached.wait, patience(30))
    joining.cancel()
    await asyncio.wait({joining}, timeout=0.05)
    go.set()
    await asyncio.wait({joining})
    assert joining.cancelled()
    await kernel.close()
    assert "lan0" not in inside("ip link")


async def test_a_link_of_an_earlier_version_is_marked(
    hosts: tuple[Host, Host], real: KernelRig, inside: Callable[[str], str]
) -> None:
    """It has no alias, and gets its own; then another MAC hides it no longer."""
    machine = hosts[0]
    machine.run(["ip", *f"link add link port0 name eth7 address {MAC} type macvlan mode bridge".split()])
    await real.move("eth7")
    assert await real.kernel.mark_in_sandbox(_link(real))
    inside("ip link set eth7 address 02:00:00:00:be:ef")
    assert ALIAS in inside("ip link show eth7")
    assert await real.kernel.find_in_sandbox(_link(real))


async def test_what_a_driver_left_unfinished_is_made_anew(
    hosts: tuple[Host, Host], real: KernelRig, inside: Callable[[str], str]
) -> None:
    """It died right after the kernel had made the link, which has no alias yet."""
    machine = hosts[0]
    machine.run(["ip", *f"link add link port0 name lan0 address {MAC} type macvlan mode bridge".split()])
    await real.move("lan0")
    assert await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG) == MadeInside("lan0")
    assert inside("ip -o link").count(MAC) == 1


async def test_the_addresses_of_an_interface_are_advertised(
    hosts: tuple[Host, Host], real: KernelRig, inside: Callable[[str], str]
) -> None:
    """Whoever knew another MAC for one of its addresses learns the new one."""
    machine, _ = hosts
    for each in ("addr add 10.9.0.1/24 dev peer0", "addr add fd09::1/64 dev peer0 nodad"):
        machine.run(["ip", *each.split()])

    for each in ("10.9.0.5", "fd09::5"):
        machine.run(["ip", "neigh", "replace", each, "lladdr", "02:00:00:00:00:01", "nud", "stale", "dev", "peer0"])

    def known() -> set[str]:
        shown = machine.run(["ip", "-json", "neigh", "show", "dev", "peer0"]).stdout
        return {each["dst"] for each in json.loads(shown) if each.get("lladdr") == MAC}

    await real.kernel.add_in_sandbox(SPEC, _link(real), CONFIG)
    assert await real.kernel.advertise(_link(real))
    await asyncio.to_thread(wait_until, lambda: known() >= {"10.9.0.5", "fd09::5"}, "advertisement")
    inside("ip link set lan0 down")
    assert not await real.kernel.advertise(_link(real))
    assert not await real.kernel.advertise(ContainerLink("/nosuch/namespace", MAC, ALIAS))
