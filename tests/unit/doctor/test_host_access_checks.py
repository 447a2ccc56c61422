"""The doctor's look at the host's own macvlan links."""

import sys
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from macvlan_global.doctor.facts import DoctorFacts, DriverFacts, KernelFacts, LinkFacts, NetworkFacts
from macvlan_global.doctor.host_access import examine_host_access, is_shim, is_unreached
from macvlan_global.doctor.kernel import read_kernel, read_links
from tests.unit.doctor.test_examine import WELL

ETH0 = LinkFacts("eth0")
SHIM = LinkFacts("mgh-eth0", below=("eth0",), arp_filter=True)
LAN = NetworkFacts("lan", "eth0", host_access=True)


def _found(*links: LinkFacts, network: NetworkFacts = LAN, **changed: object) -> list[tuple[str, str]]:
    known = {"networks": (network,), "links": {each.name: each for each in links}}
    return [(each.level, each.seen) for each in examine_host_access(DoctorFacts(**WELL | known | changed))]


def test_a_host_that_reaches_its_containers_is_said_to() -> None:
    """By its link; without the option nothing is said, and without the parent its own check says enough."""
    assert _found(ETH0, SHIM) == [("ok", "the host reaches containers of network lan over mgh-eth0")]
    assert _found(ETH0, network=replace(LAN, host_access=False)) == []
    assert _found() == []
    on_macvlan = replace(SHIM, name="mgh-mac0")
    assert _found(LinkFacts("mac0", below=("eth0",)), on_macvlan, network=replace(LAN, parent="mac0"))[0][0] == "ok"


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ((ETH0,), "has no mgh- link on eth0"),
        ((ETH0, replace(SHIM, name="mgh-eth1", below=("eth1",))), "has no mgh- link on eth0"),
        ((ETH0, replace(SHIM, up=False)), "is down"),
        ((ETH0, replace(SHIM, arp_filter=False)), "it answers ARP for the host, beside its parent"),
        ((ETH0, replace(SHIM, asks=True)), "it asks the wire in the host's name"),
    ],
)
def test_a_link_that_is_missing_or_wrong_is_a_warning(links: tuple[LinkFacts, ...], words: str) -> None:
    """Repair puts it right."""
    ((level, seen),) = _found(*links)
    assert (level, words in seen) == ("warning", True)


def test_a_container_without_a_route_is_a_warning() -> None:
    """If it runs here, and the driver has no reason of its own."""
    network = replace(LAN, running=("10.8.0.50", "10.8.0.51"))
    led = replace(SHIM, leads_to=frozenset({"10.8.0.50"}))
    (told,) = _found(ETH0, led, network=network)
    assert told == ("warning", "the host has no route to 10.8.0.51 over mgh-eth0")
    assert _found(ETH0, replace(led, leads_to=frozenset(network.running)), network=network)[0][0] == "ok"
    unreached = DriverFacts(unreached=("the host does not reach 10.8.0.51 of network lan: x",))
    assert _found(ETH0, led, network=network, driver=unreached)[0][0] == "ok"


def test_a_driver_that_is_down_is_said_elsewhere() -> None:
    """Nobody makes the link then."""
    assert _found(ETH0, driver=DriverFacts(problem="it does not answer")) == []


def test_problems_of_the_driver_are_findings() -> None:
    """With the remedy behind the semicolon, if there is one."""
    told = ("the host does not reach network lan: it has no address in 10.8.0.0/24; give it one on eth0", "the host x")
    found = examine_host_access(DoctorFacts(**WELL | {"driver": DriverFacts(unreached=told)}))
    assert [each.do for each in found] == ["give it one on eth0", "see the log"]
    assert [is_unreached(each) for each in (*told, "network lan is another one here")] == [True, True, False]


def test_an_address_of_the_configuration_that_no_network_needs() -> None:
    """A note: it may be a mistake, or the network may come later."""
    network = replace(LAN, subnets=(("lan", "10.8.0.0/24"), ("lan", "fd08::/64")))
    given = ("10.8.0.250", "fd08::250", "10.9.0.250")
    assert _found(network=network, access_addresses=given) == [
        ("note", "10.9.0.250 of host_access_addresses is in no subnet of a network with host_access on this host")
    ]
    assert len(_found(network=replace(network, host_access=False), access_addresses=given)) == 3


def test_arp_ignore_keeps_containers_from_the_host() -> None:
    """Only a host with such a network is told."""
    strict = KernelFacts(arp_ignore=True)
    assert _found(ETH0, SHIM, kernel=strict)[-1][1].startswith("net.ipv4.conf.all.arp_ignore is not 0")
    assert _found(ETH0, network=replace(LAN, host_access=False), kernel=strict) == []


def test_settings_are_read_from_the_kernel(tmp_path: Path) -> None:
    """Of all links, and of each; none is not known."""
    for path, text in (("all/arp_ignore", "2"), ("mgh-eth0/arp_filter", "0"), ("eth0/forwarding", "1")):
        file = tmp_path / "proc/sys/net/ipv4/conf" / path
        file.parent.mkdir(parents=True)
        file.write_text(text + "\n")
        (tmp_path / "sys/class/net" / path.partition("/")[0]).mkdir(parents=True)
    assert read_kernel(tmp_path).arp_ignore
    links = read_links(tmp_path)
    assert (links["mgh-eth0"].arp_filter, links["eth0"].arp_filter) == (False, None)
    assert [name for name in sorted(links) if is_shim(name)] == ["mgh-eth0"]


def test_routes_and_the_hosts_silence_are_read_from_the_kernel(tmp_path: Path) -> None:
    """Routes of one address alone, by their interface."""
    (tmp_path / "sys/class/net/mgh-eth0").mkdir(parents=True)
    file = tmp_path / "proc/sys/net/ipv4/neigh/mgh-eth0/mcast_solicit"
    file.parent.mkdir(parents=True)
    file.write_text("3\n")
    ours = int.from_bytes(bytes((10, 8, 0, 50)), sys.byteorder)
    rows = (("eth0", 0, 0), ("mgh-eth0", ours, 0xFFFFFFFF), ("mgh-eth0", ours, 0xFFFFFF))
    lines = [f"{link}\t{to:08X}\t00000000\t0005\t0\t0\t0\t{mask:08X}\t0\t0\t0" for link, to, mask in rows]
    (tmp_path / "proc/net").mkdir()
    (tmp_path / "proc/net/route").write_text("\n".join(["Iface\tDestination", *lines, ""]))
    six = ip_address("fd00::50").packed.hex()
    rows6 = ((six, "80", "mgh-eth0"), (six, "40", "mgh-eth0"), ("0" * 32, "80", "lo"))
    rest = f"{'0' * 32} 00 {'0' * 32} 00000400 00000001 00000000 00000001"
    lines6 = [f"{to} {size} {rest} {link}" for to, size, link in rows6]
    (tmp_path / "proc/net/ipv6_route").write_text("\n".join([*lines6, ""]))
    shim = read_links(tmp_path)["mgh-eth0"]
    assert (shim.asks, shim.leads_to) == (True, frozenset({"10.8.0.50", "fd00::50"}))
