"""Host access on a wire of the real kernel: a host, a container on it, and another machine that watches."""

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from lab import Host, Wire
from macvlan_global.errors import Conflict
from macvlan_global.kernel.netlink import NetlinkKernel
from macvlan_global.kernel.ports import HostPath, MacvlanSpec

HOST, BOX, GIVEN = "10.8.0.2", "10.8.0.50", "10.8.0.60"
HOST6, BOX6, GIVEN6 = "fd08::2", "fd08::50", "fd08::60"
SHIM, SHIM_MAC, MAC = "mgh-port0", "02:00:00:00:00:5a", "02:00:00:00:00:50"


@dataclass(frozen=True, slots=True)
class Machines:
    """`machine` is the host, `box` stands for a container's namespace on it, `other` is on the wire."""

    machine: Host
    box: Host
    other: Host

    def reaches(self, source: Host, target: str) -> bool:
        """Whether a ping is answered."""
        return source.run(["ping", "-c", "1", "-W", "5", target], check=False).returncode == 0

    def mac(self, host: Host, link: str) -> str:
        """The MAC of a link."""
        return str(json.loads(host.run(["ip", "-json", "link", "show", "dev", link]).stdout)[0]["address"])

    def neighbour(self, address: str) -> str:
        """The MAC that the other machine has for an address."""
        shown = json.loads(self.other.run(["ip", "-json", "neigh", "show", address]).stdout)
        return str(shown[0].get("lladdr", "")) if shown else ""


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """All with strict reverse path filtering, and the host with an address of each family on the wire. Links that are
    made on it later would answer for others, and not for the host, if nobody set them otherwise."""
    with Wire() as wire, Host("machine") as machine, Host("box") as box, Host("other") as other:
        for host in (machine, box, other):
            for name in ("all", "default"):
                host.run(["sysctl", "-w", f"net.ipv4.conf.{name}.rp_filter=1"])
        wire.plug(machine, "port0", addresses=[f"{HOST}/24", f"{HOST6}/64"])
        wire.plug(other, "lan0", addresses=["10.8.0.9/24", "fd08::9/64"])
        for name in ("arp_ignore", "proxy_arp", "forwarding"):
            machine.run(["sysctl", "-w", f"net.ipv4.conf.default.{name}=1"])
        yield Machines(machine, box, other)


@pytest.fixture
async def kernel(machines: Machines) -> AsyncIterator[NetlinkKernel]:
    """The kernel of the host, with a shim and the paths to its container, whose link is on the wire."""
    machine, box = machines.machine, machines.box
    kernel = NetlinkKernel()
    with machine.in_network():
        await _attach(kernel, machines, "port0", f"{BOX}/24", f"{BOX6}/64 nodad")
        assert await kernel.shims.add("port0", mac=SHIM_MAC, ipv6=True) == SHIM
        await kernel.shims.add_address(SHIM, ip_address(GIVEN6))
        for path in ((BOX, HOST), (BOX6, GIVEN6)):
            await kernel.shims.add_path(SHIM, HostPath(ip_address(path[0]), MAC, ip_address(path[1])))
        yield kernel
        await kernel.shims.delete(SHIM)
        await kernel.close()
    box.run(["ip", "link", "delete", "eth0"])
    machines.other.run(["ip", "neigh", "flush", "dev", "lan0"])


async def _attach(kernel: NetlinkKernel, machines: Machines, parent: str, *addresses: str) -> None:
    """Make the container's link on a parent, as `eth0` in its namespace."""
    machine, box = machines.machine, machines.box
    await kernel.add_macvlan(MacvlanSpec("mg-0123456789ab", parent, "bridge", MAC))
    move = ["ip", "-n", machine.namespace, "link", "set", "mg-0123456789ab", "netns", box.namespace, "name", "eth0"]
    await asyncio.to_thread(subprocess.run, move, check=True)
    for line in ("link set eth0 up", *(f"address add dev eth0 {each}" for each in addresses)):
        await asyncio.to_thread(box.run, ["ip", *line.split()])


def _exchange(server: Host, address: str, client: Host, kind: socket.SocketKind) -> bool:
    """Whether a client sends some bytes to an address of a server and gets them back."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with server.in_network():
        listening = socket.socket(family, kind)
    with client.in_network():
        asking = socket.socket(family, kind)
    with listening, asking:
        for each in (listening, asking):
            each.settimeout(10)
        listening.bind((address, 0))
        if kind is socket.SOCK_DGRAM:
            asking.sendto(b"hello", listening.getsockname())
            got, asker = listening.recvfrom(100)
            listening.sendto(got, asker)
        else:
            listening.listen()
            asking.connect(listening.getsockname())
            accepted, _ = listening.accept()
            with accepted:
                asking.sendall(b"hello")
                accepted.sendall(accepted.recv(100))
        return asking.recv(100) == b"hello"


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(("own", "box"), [(HOST, BOX), (GIVEN6, BOX6)], ids=["IPv4", "IPv6"])
def test_the_host_and_its_container_reach_each_other(machines: Machines, own: str, box: str) -> None:
    """ICMP, UDP and TCP, in both directions, with strict reverse path filtering."""
    for _ in range(2):
        assert machines.reaches(machines.box, own)
        assert machines.reaches(machines.machine, box)
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        assert _exchange(machines.machine, own, machines.box, kind)
        assert _exchange(machines.box, box, machines.machine, kind)


@pytest.mark.usefixtures("kernel")
def test_the_wire_sees_the_parent_alone(machines: Machines) -> None:
    """Another machine gets one ARP reply for the host, with the parent's MAC, and never learns another one: not when
    the container asks for the host, and not when the host speaks to the container first."""
    parent, shim = machines.mac(machines.machine, "port0"), machines.mac(machines.machine, SHIM)
    with machines.other.in_network():
        watching = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    with watching:
        watching.bind(("lan0", 0x0806))
        watching.settimeout(1)
        assert machines.reaches(machines.other, HOST)
        assert machines.neighbour(HOST) == parent
        for _ in range(2):
            assert machines.reaches(machines.machine, BOX)
            assert machines.reaches(machines.box, HOST)
        asked = ["arping", "-I", "lan0", "-c", "3", "-w", "5", HOST]
        said = machines.other.run(asked, check=False).stdout.lower()
        assert (said.count(parent), said.count(shim)) == (3, 0)
        assert machines.neighbour(HOST) == parent
        assert machines.reaches(machines.other, HOST)
        frames = _received(watching)
    assert frames
    assert [each for each in frames if bytes.fromhex(shim.replace(":", "")) in each] == []


@pytest.mark.usefixtures("kernel")
def test_a_neighbour_that_is_missing_is_not_asked_for(machines: Machines) -> None:
    """If somebody deletes it, the host does not ask the wire in its own name; the container's question brings the way
    back."""
    machines.machine.run(["ip", "neigh", "delete", BOX, "dev", SHIM])
    assert not machines.reaches(machines.machine, BOX)
    assert machines.reaches(machines.box, HOST)
    assert machines.reaches(machines.machine, BOX)


async def test_a_hundred_containers_are_reached(machines: Machines, kernel: NetlinkKernel) -> None:
    """Each by a path of its own, all seen again as they were made, and none is left."""
    added = [ip_address(f"10.8.0.{100 + number}") for number in range(100)]
    lines = "".join(f"address add {each}/24 dev eth0\n" for each in added)
    machines.box.run(["ip", "-batch", "-"], stdin=lines)
    for each in added:
        await kernel.shims.add_path(SHIM, HostPath(each, MAC, ip_address(HOST)))
    (seen,) = await kernel.shims.all()
    assert {each.address for each in seen.paths} == {*added, ip_address(BOX), ip_address(BOX6)}
    asked = " & ".join(f"ping -c 1 -W 5 {each}" for each in added)
    answers = await asyncio.to_thread(machines.machine.run, ["sh", "-c", f"{asked} & wait"])
    assert answers.stdout.count(" 1 received") == len(added)
    for each in added:
        await kernel.shims.delete_path(SHIM, each)
    (seen,) = await kernel.shims.all()
    assert {each.address for each in seen.paths} == {ip_address(BOX), ip_address(BOX6)}


async def test_a_subnet_in_which_the_host_has_no_address(machines: Machines, kernel: NetlinkKernel) -> None:
    """The shim has one, which the container reaches and nobody else needs."""
    machines.machine.run(["ip", "address", "flush", "dev", "port0", "scope", "global"])
    try:
        await kernel.shims.add_address(SHIM, ip_address(GIVEN))
        await kernel.shims.add_path(SHIM, HostPath(ip_address(BOX), MAC, ip_address(GIVEN)))
        assert await asyncio.to_thread(machines.reaches, machines.box, GIVEN)
        assert await asyncio.to_thread(machines.reaches, machines.machine, BOX)
    finally:
        for each in (f"{HOST}/24", f"{HOST6}/64"):
            machines.machine.run(["ip", "address", "add", each, "dev", "port0", *(["nodad"] if ":" in each else [])])


@pytest.mark.usefixtures("kernel")
def test_the_shim_does_not_answer_for_others(machines: Machines) -> None:
    """Not for an address behind another interface of the host, whatever the host has for new links."""
    machines.machine.run(["ip", "link", "add", "behind0", "type", "veth", "peer", "name", "behind1"])
    machines.machine.run(["ip", "address", "add", "192.0.2.1/24", "dev", "behind0"])
    machines.machine.run(["ip", "link", "set", "behind0", "up"])
    machines.machine.run(["ip", "link", "set", "behind1", "up"])
    loose = [f"net.ipv4.conf.{name}.rp_filter" for name in ("all", SHIM)]
    machines.machine.run(["sysctl", "-w", *(f"{name}=0" for name in loose)])
    try:
        asked = machines.other.run(["arping", "-I", "lan0", "-c", "2", "-w", "2", "192.0.2.9"], check=False).stdout
        assert "Received 0 response" in asked
    finally:
        machines.machine.run(["sysctl", "-w", *(f"{name}=1" for name in loose)])
        machines.machine.run(["ip", "link", "delete", "behind0"])


@pytest.fixture
def bonded(machines: Machines) -> Iterator[None]:
    """The host has a bond on the wire and a VLAN on that, each with an address; so has the other machine."""
    with Wire() as wire:
        wire.plug(machines.machine, "port1")
        wire.plug(machines.other, "lan1", addresses=["10.9.0.9/24"])
        for host, lines in (
            (machines.machine, "link add bond0 type bond mode active-backup miimon 100"),
            (machines.machine, "link set port1 down"),
            (machines.machine, "link set port1 master bond0"),
            (machines.machine, "link set bond0 up"),
            (machines.machine, "address add 10.9.0.2/24 dev bond0"),
            (machines.machine, "link add link bond0 name bond0.65 type vlan id 65"),
            (machines.machine, "link set bond0.65 up"),
            (machines.machine, "address add 10.10.0.2/24 dev bond0.65"),
            (machines.other, "link add link lan1 name lan1.65 type vlan id 65"),
            (machines.other, "link set lan1.65 up"),
            (machines.other, "address add 10.10.0.9/24 dev lan1.65"),
        ):
            host.run(["ip", *lines.split()])
        yield
        machines.machine.run(["ip", "link", "delete", "bond0"])
        machines.machine.run(["ip", "link", "delete", "port1"])
        machines.other.run(["ip", "link", "delete", "lan1"])


@pytest.mark.needs("8021q", "bond")
@pytest.mark.usefixtures("bonded")
@pytest.mark.parametrize(("parent", "subnet", "lan"), [("bond0", "10.9.0", "lan1"), ("bond0.65", "10.10.0", "lan1.65")])
async def test_a_bond_and_a_vlan_as_parents(machines: Machines, parent: str, subnet: str, lan: str) -> None:
    """The host and its container reach each other, and the wire knows the parent's MAC alone."""
    kernel, host, container = NetlinkKernel(), f"{subnet}.2", f"{subnet}.50"
    with machines.machine.in_network():
        await _attach(kernel, machines, parent, f"{container}/24")
        shim = await kernel.shims.add(parent, mac=SHIM_MAC, ipv6=False)
        await kernel.shims.add_path(shim, HostPath(ip_address(container), MAC, ip_address(host)))
        assert await asyncio.to_thread(machines.reaches, machines.machine, container)
        assert await asyncio.to_thread(machines.reaches, machines.box, host)
        assert await asyncio.to_thread(machines.reaches, machines.other, host)
        said = (await asyncio.to_thread(_asked, machines, lan, host)).lower()
        assert (said.count(machines.mac(machines.machine, parent)), said.count(SHIM_MAC)) == (2, 0)
        await kernel.shims.delete(shim)
        await kernel.close()
    machines.box.run(["ip", "link", "delete", "eth0"])


def _asked(machines: Machines, link: str, address: str) -> str:
    """The ARP replies that the other machine gets on a link."""
    asked = ["arping", "-I", link, "-c", "2", "-w", "5", address]
    return machines.other.run(asked, check=False).stdout


async def test_an_operators_route_to_a_container_stays(machines: Machines, kernel: NetlinkKernel) -> None:
    """The path is refused as a conflict."""
    machines.machine.run(["ip", "route", "add", "10.8.0.77/32", "dev", "port0"])
    with pytest.raises(Conflict, match="there is one already"):
        await kernel.shims.add_path(SHIM, HostPath(ip_address("10.8.0.77"), MAC, ip_address(HOST)))
    assert "10.8.0.77 dev port0" in machines.machine.run(["ip", "route"]).stdout
    machines.machine.run(["ip", "route", "delete", "10.8.0.77/32", "dev", "port0"])


async def test_a_route_that_somebody_deletes_is_told(machines: Machines, kernel: NetlinkKernel) -> None:
    """Over the shim; routes of other links are not."""
    await kernel.shims.all()
    changes = kernel.shims.changes()
    await anext(changes)
    machines.machine.run(["ip", "route", "delete", f"{BOX}/32", "dev", SHIM])
    async with asyncio.timeout(10):
        await anext(changes)
    machines.machine.run(["ip", "route", "add", "198.51.100.0/24", "dev", "port0"])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await anext(changes)
    machines.machine.run(["ip", "route", "delete", "198.51.100.0/24", "dev", "port0"])


def _received(watching: socket.socket) -> list[bytes]:
    frames = []
    with contextlib.suppress(TimeoutError):
        while True:
            frames.append(watching.recv(2000))
    return frames
