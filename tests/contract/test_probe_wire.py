"""Probing a segment for addresses: two machines on one switch, a container on the far one."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from lab import Host, Wire
from macvlan_global.conflicts.claims import claim_in
from macvlan_global.errors import Unavailable
from macvlan_global.kernel.netlink import NetlinkKernel
from macvlan_global.kernel.ports import MacvlanSpec, Station

FOUR, SIX = "192.0.2.9", "2001:db8::9"
MAC = "02:42:c0:00:02:09"


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """A switch."""
    with Wire() as wire:
        yield wire


@pytest.fixture(scope="module")
def near(wire: Wire) -> Iterator[Host]:
    """The machine that asks. Its interface has no address, as a parent may."""
    with Host("near") as near:
        near.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"])
        wire.plug(near)
        yield near


@pytest.fixture(scope="module")
def far(wire: Wire) -> Iterator[Host]:
    """The machine whose driver is dead and whose container is not: a macvlan in a namespace of its own."""
    with Host("far") as far, Host("box") as box:
        wire.plug(far)
        far.run(
            ["ip", "link", "add", "link", "eth1", "name", "c0", "address", MAC, "type", "macvlan", "mode", "bridge"]
        )
        subprocess.run(["ip", "-n", far.namespace, "link", "set", "c0", "netns", box.namespace], check=True)
        for line in ("link set c0 up", f"address add {FOUR}/24 dev c0", f"address add {SIX}/64 dev c0 nodad"):
            box.run(["ip", *line.split()])
        yield far


@pytest.fixture
async def kernel(near: Host) -> AsyncIterator[NetlinkKernel]:
    """The asking machine's."""
    kernel = NetlinkKernel()
    with near.in_network():
        yield kernel
        await kernel.close()


@pytest.mark.usefixtures("far")
async def test_a_container_on_another_machine_answers(kernel: NetlinkKernel) -> None:
    """With its MAC, for its addresses alone, however many ask at once; the asking parent has no address, no IPv6."""
    asked = [FOUR, SIX, "192.0.2.10", "2001:db8::10"] * 8
    found = await asyncio.gather(*(kernel.probe("eth1", each, tries=3, wait=0.5) for each in asked))
    assert found == [Station(MAC), Station(MAC), None, None] * 8


@pytest.mark.usefixtures("far")
async def test_a_parent_that_carries_a_passthru_link_hears_answers(kernel: NetlinkKernel, near: Host) -> None:
    """Although that link takes every frame for itself."""
    await kernel.add_macvlan(MacvlanSpec("m0", "eth1", "passthru", ""))
    await kernel.set_up("m0")
    try:
        assert await kernel.probe("eth1", FOUR, wait=5)
        assert await kernel.probe("eth1", SIX, wait=5)
    finally:
        near.run(["ip", "link", "delete", "m0"])


async def test_what_this_machine_has_itself_is_taken(kernel: NetlinkKernel, near: Host, far: Host) -> None:
    """It does not hear itself, so it looks. An IPv4 address counts on whichever link, for others do hear it here."""
    near.run(["ip", "address", "add", "192.0.2.77/32", "dev", "lo"])
    assert await kernel.probe("eth1", "192.0.2.77", tries=1, wait=0.1) == Station(link="lo")
    assert await _heard_from(far, "192.0.2.77")
    near.run(["sysctl", "-qw", "net.ipv4.conf.eth1.arp_ignore=1"])
    try:
        assert await kernel.probe("eth1", "192.0.2.77", tries=1, wait=0.1) is None
        assert not await _heard_from(far, "192.0.2.77")
    finally:
        near.run(["sysctl", "-qw", "net.ipv4.conf.eth1.arp_ignore=0"])


async def test_an_ipv6_address_of_this_machine_is_taken_on_its_own_wire_only(
    kernel: NetlinkKernel, near: Host, far: Host
) -> None:
    """On another link nobody here hears it; on a macvlan of the parent everybody does."""
    near.run(["ip", "address", "add", "2001:db8::77/128", "dev", "lo"])
    assert await kernel.probe("eth1", "2001:db8::77", tries=1, wait=0.1) is None
    assert not await _heard_from(far, "2001:db8::77")
    near.run(["ip", "address", "del", "2001:db8::77/128", "dev", "lo"])
    near.run(["ip", "link", "add", "link", "eth1", "name", "shim", "type", "macvlan", "mode", "bridge"])
    try:
        near.run(["sysctl", "-qw", "net.ipv6.conf.shim.disable_ipv6=0"])
        near.run(["ip", "link", "set", "shim", "up"])
        near.run(["ip", "address", "add", "2001:db8::77/64", "dev", "shim", "nodad"])
        assert await kernel.probe("eth1", "2001:db8::77", tries=1, wait=0.1) == Station(link="shim")
        assert await _heard_from(far, "2001:db8::77")
    finally:
        near.run(["ip", "link", "delete", "shim"])


async def _heard_from(host: Host, address: str) -> bool:
    """Whether another machine on the wire finds somebody with an address."""
    with host.in_network():
        kernel = NetlinkKernel()
        try:
            return await kernel.probe("eth1", address, tries=2, wait=0.3) is not None
        finally:
            await kernel.close()


async def test_a_wire_without_a_carrier_is_not_silent(kernel: NetlinkKernel, near: Host, wire: Wire) -> None:
    """Nobody answers because nobody hears; the error says why nobody knows."""
    wire.cut(near)
    try:
        with pytest.raises(Unavailable, match="eth1 cannot be probed for addresses: it has no carrier"):
            await kernel.probe("eth1", FOUR)
    finally:
        wire.mend(near)


async def test_a_carrier_lost_while_waiting_is_not_silence(kernel: NetlinkKernel, near: Host, wire: Wire) -> None:
    """Silence while the plug was out says nothing."""
    asking = asyncio.gather(kernel.probe("eth1", "192.0.2.10", tries=1, wait=1), return_exceptions=True)
    await asyncio.sleep(0)  # the question is out
    wire.cut(near)
    try:
        (found,) = await asking
        assert isinstance(found, Unavailable)
    finally:
        wire.mend(near)


async def test_what_is_no_ethernet_cannot_be_asked(kernel: NetlinkKernel, near: Host) -> None:
    """A tunnel, say."""
    near.run(["ip", "link", "add", "gre9", "type", "gretap", "local", "192.0.2.1", "remote", "192.0.2.2"], check=False)
    near.run(["ip", "tuntap", "add", "dev", "tun9", "mode", "tun"])
    near.run(["ip", "link", "set", "tun9", "up"])
    with pytest.raises(Unavailable, match="it is not Ethernet"):
        await kernel.probe("tun9", FOUR)


def test_without_the_right_to_ask_the_error_says_which_is_missing(near: Host) -> None:
    """A unit file of an older version lacks it."""
    program = (
        "import asyncio, macvlan_global.kernel.netlink as n;"
        "asyncio.run(n.NetlinkKernel().probe('eth1', '192.0.2.9', tries=1, wait=0.1))"
    )
    command = [*near.enter, "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Unavailable: addresses cannot be probed: CAP_NET_RAW is missing" in done.stderr


async def test_frames_of_a_container_pass_its_parent_as_outgoing(kernel: NetlinkKernel, far: Host) -> None:
    """Its answer to another machine is seen on the parent that it stands on, beside the question of a driver."""
    with far.in_network():
        other = NetlinkKernel()
        watched = await other.watch_neighbours("eth1")
    seen = set()
    try:
        assert await kernel.probe("eth1", FOUR) == Station(MAC)
        async with asyncio.timeout(10):
            while (MAC, "answers for", True) not in seen or ("probes for", True, False) not in seen:
                await watched.wait()
                for frame, outgoing in watched.take(10):
                    if (claim := claim_in(frame)) and str(claim.address) == FOUR:
                        seen |= {(claim.mac, claim.how, outgoing), (claim.how, claim.own_probe, outgoing)}
    finally:
        await watched.close()
        await other.close()
