"""Each thing that the old macvlan document shows, item by item, as engines do it today.

The numbers are those of the checklist in this project's notes on Docker's macvlan document of 2016 (the experimental
`vlan-networks.md`).
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from lab import ENGINES, Host
from lab.site import Site

NEWEST = ENGINES[-1]


@pytest.fixture
def neighbour(site: Site) -> Iterator[Host]:
    """A station beside the host, on eth1's wire: what containers reach there is 192.168.32.254, their gateway."""
    with Host("neighbour") as host:
        site.wire.plug(host, "lan0", addresses=["192.168.32.254/24", "192.168.33.254/24"])
        yield host


def mode_and_parent(site: Site, container: str) -> tuple[str, int]:
    """The macvlan mode of a container's eth0, and the index of the interface below it."""
    leg = site.leg(container)
    return leg["linkinfo"]["info_data"]["mode"], leg["link_index"]


def index(site: Site, name: str) -> int:
    """The index of an interface of the host."""
    link = site.link(name)
    assert link is not None
    return int(link["ifindex"])


@pytest.mark.parametrize("mode", [(), ("-o", "macvlan_mode=bridge")], ids=["omitted", "given"])
def test_01_a_network_on_an_untagged_parent(site: Site, mode: tuple[str, ...]) -> None:
    """Item 1: subnet, gateway and parent; the mode is bridge whether it is said or not."""
    site.create("lan", "--subnet=192.168.32.0/24", "--gateway=192.168.32.254", "-o", "parent=eth1", *mode)
    site.start("lan", "one")
    assert mode_and_parent(site, "one") == ("bridge", index(site, "eth1"))


def test_02_a_chosen_and_a_given_address(site: Site) -> None:
    """Item 2: --ip is obeyed, another container gets an address of its own, and they reach each other."""
    site.create("lan", "--subnet=192.168.32.0/24", "--gateway=192.168.32.254", "-o", "parent=eth1")
    site.start("lan", "one", "--ip=192.168.32.9")
    site.start("lan", "two")
    assert site.address("one", "lan") == "192.168.32.9"
    assert site.address("two", "lan") not in {"192.168.32.9", "192.168.32.254", ""}
    assert site.reaches("two", "192.168.32.9")
    assert site.reaches("one", site.address("two", "lan"))
    assert "inet 192.168.32.9/24" in site.inside("one", "ip", "addr", "show", "eth0")
    assert "default via 192.168.32.254 dev eth0" in site.inside("one", "ip", "route")


def test_03_the_host_itself_is_out_of_reach(site: Site, neighbour: Host) -> None:
    """Item 3: containers reach the gateway on the wire, but not an address on their own parent; it needs none."""
    site.create("lan", "--subnet=192.168.32.0/24", "--gateway=192.168.32.254", "-o", "parent=eth1")
    site.start("lan", "one", "--ip=192.168.32.9")
    assert site.reaches("one", "192.168.32.254")
    neighbour.run(["ping", "-c1", "-W2", "192.168.32.9"])
    site.host.run(["ip", "address", "add", "192.168.32.1/24", "dev", "eth1"])
    try:
        neighbour.run(["ping", "-c1", "-W2", "192.168.32.1"])
        assert not site.reaches("one", "192.168.32.1")
    finally:
        site.host.run(["ip", "address", "flush", "dev", "eth1", "scope", "global"])


def test_04_an_excluded_address_is_not_handed_out(site: Site) -> None:
    """Item 4: --aux-address keeps the host's address out of the pool, down to the last one."""
    site.create(
        "lan",
        *("--subnet=192.168.32.0/29", "--gateway=192.168.32.1", "-o", "parent=eth1"),
        *("--aux-address=exclude_host=192.168.32.2", "--aux-address=other=192.168.32.5"),
    )
    for name in ("c1", "c2", "c3"):
        site.start("lan", name)
    given = {site.address(name, "lan") for name in ("c1", "c2", "c3")}
    assert given == {"192.168.32.3", "192.168.32.4", "192.168.32.6"}
    said = site.refusal("run", "--rm", "--network=lan", "alpine", "true")
    assert "no free address is left in 192.168.32.0/29" in said


def test_05_a_range_narrows_what_is_handed_out(site: Site) -> None:
    """Item 5: the first container gets the range's first address, and --ip may be anywhere in the subnet."""
    site.create(
        "lan",
        *("--subnet=192.168.32.0/24", "--ip-range=192.168.32.128/25"),
        *("--gateway=192.168.32.254", "-o", "parent=eth1"),
    )
    site.start("lan", "one")
    site.start("lan", "two", "--ip=192.168.32.7")
    assert site.address("one", "lan") == "192.168.32.128"
    assert site.reaches("one", "192.168.32.7")


def test_06_no_gateway_given(site: Site) -> None:
    """Item 6: old engines take the first usable address for it; those that ask us (28 and newer) invent none."""
    site.create("lan", "--subnet=192.168.32.0/24", "-o", "parent=eth1")
    site.start("lan", "one")
    routes = site.inside("one", "ip", "route")
    if site.version == NEWEST:
        assert "default" not in routes
        assert site.address("one", "lan") == "192.168.32.1"
    else:
        assert "default via 192.168.32.1 dev eth0" in routes
        assert site.address("one", "lan") == "192.168.32.2"


def test_07_names_resolve_in_the_network(site: Site) -> None:
    """Item 7: a container is reached by its name, and by an alias, through Docker's own resolver."""
    site.create("lan", "--subnet=192.168.32.0/24", "--gateway=192.168.32.254", "-o", "parent=eth1")
    site.start("lan", "ipv1", "--network-alias=web")
    site.start("lan", "ipv2")
    assert site.reaches("ipv2", "ipv1")
    assert site.address("ipv1", "lan") in site.inside("ipv2", "nslookup", "web")


@pytest.mark.needs("dummy")
def test_08_no_parent_and_no_subnet_at_all(site: Site) -> None:
    """Item 8: an isolated network on a dummy of its own, with a pool of our choosing."""
    network = site.create("alone")
    dummy = f"dm-{network[:12]}"
    site.start("alone", "one")
    assert mode_and_parent(site, "one") == ("bridge", index(site, dummy))
    assert ip_address(site.address("one", "alone")) in ip_network("10.201.0.0/16")


def test_08_internal_keeps_its_parent_and_has_no_way_out(site: Site, neighbour: Host) -> None:
    """Item 8, today: --internal with a parent leaves out the default route only; neighbours on the wire are reached."""
    del neighbour
    site.create("lan", "--internal", "--subnet=192.168.32.0/24", "--gateway=192.168.32.253", "-o", "parent=eth1")
    site.start("lan", "one")
    assert mode_and_parent(site, "one") == ("bridge", index(site, "eth1"))
    assert "default" not in site.inside("one", "ip", "route")
    assert site.reaches("one", "192.168.32.254")


@pytest.mark.needs("8021q")
def test_09_vlans_side_by_side_are_apart(site: Site) -> None:
    """Item 9: two tagged networks on one master do not hear each other; each sub-interface goes with its network."""
    for vlan in (50, 60):
        site.create(f"vlan{vlan}", "--subnet=192.168.32.0/24", f"--ipam-opt=space=v{vlan}", "-o", f"parent=eth0.{vlan}")
    site.start("vlan50", "one", "--ip=192.168.32.5")
    site.start("vlan60", "two", "--ip=192.168.32.6")
    assert not site.reaches("two", "192.168.32.5")
    site.docker("network", "disconnect", "vlan50", "one")
    site.docker("network", "connect", "--ip=192.168.32.7", "vlan60", "one")
    assert site.reaches("two", "192.168.32.7")
    site.docker("network", "rm", "vlan50")
    assert site.link("eth0.50") is None
    assert site.link("eth0.60") is not None


@pytest.mark.needs("8021q")
def test_10_a_sub_interface_of_the_users_is_used_and_never_deleted(site: Site) -> None:
    """Item 10: whatever its name; it must be up, and the error says how."""
    site.shell("ip link add link eth0 name foo type vlan id 40")
    lan = site.create_command("lan", "--subnet=192.168.40.0/24", "-o", "parent=foo")
    assert "foo: it is down (ip link set foo up)" in site.refusal(*lan)
    site.shell("ip link set foo up")
    site.docker(*lan)
    site.docker("network", "rm", "lan")
    assert site.link("foo") is not None
    site.shell("ip link del foo")


@pytest.mark.needs("8021q")
def test_11_links_are_restored_when_the_driver_starts(site: Site) -> None:
    """Item 11: a sub-interface of ours that has gone is there again, tagged and up, before a container needs it."""
    site.create("vlan70", "--subnet=192.168.70.0/24", "-o", "parent=eth0.70")
    site.driver.stop()
    site.shell("ip link del eth0.70")
    site.driver.start()
    link = site.link("eth0.70")
    assert link is not None
    assert (link["linkinfo"]["info_data"]["id"], "UP" in link["flags"]) == (70, True)


def test_12_several_subnets_on_one_network(site: Site) -> None:
    """Item 12: each subnet has its gateway, --ip chooses, and without a router they do not talk to each other."""
    site.create(
        "lan",
        *("--subnet=192.168.32.0/24", "--subnet=192.168.34.0/24"),
        *("--gateway=192.168.32.254", "--gateway=192.168.34.254", "-o", "parent=eth1"),
    )
    for name, address in (("a1", "192.168.32.10"), ("b1", "192.168.34.10"), ("b2", "192.168.34.9")):
        site.start("lan", name, f"--ip={address}")
    assert site.reaches("b1", "192.168.34.9")
    assert not site.reaches("b1", "192.168.32.10")
    assert "default via 192.168.32.254 " in site.inside("a1", "ip", "route")
    assert "default via 192.168.34.254 " in site.inside("b1", "ip", "route")


@pytest.mark.needs("8021q")
def test_13_dual_stack_on_a_vlan(site: Site) -> None:
    """Item 13: two IPv4 subnets and one IPv6 on VLAN 216, a gateway for each, both ways to choose an address."""
    site.create(
        "macvlan216",
        *("--ipv6", "--subnet=192.168.216.0/24", "--subnet=192.168.218.0/24", "--subnet=2001:db8:abc8::/64"),
        *("--gateway=192.168.216.1", "--gateway=192.168.218.1", "--gateway=2001:db8:abc8::1"),
        *("-o", "parent=eth0.216", "-o", "macvlan_mode=bridge"),
    )
    site.start("macvlan216", "one", "--ip=192.168.218.11", "--ip6=2001:db8:abc8::10")
    assert site.address("one", "macvlan216") == "192.168.218.11"
    assert "default via 2001:db8:abc8::1 " in site.inside("one", "ip", "-6", "route")
    assert "default via 192.168.218.1 " in site.inside("one", "ip", "route")


def test_14_parents_keep_networks_apart_or_share_a_wire(site: Site) -> None:
    """Item 14, today: several networks may stand on one parent; what stands on another parent is another wire."""
    site.create("lan", "--subnet=192.168.32.0/24", "-o", "parent=eth1")
    site.create("same-wire", "--subnet=192.168.33.0/24", "-o", "parent=eth1")
    site.create("other-wire", "--subnet=192.168.32.0/24", "--ipam-opt=space=other", "-o", "parent=eth0")
    site.start("lan", "c1", "--ip=192.168.32.10", "--cap-add=NET_ADMIN")
    site.start("same-wire", "c2", "--ip=192.168.33.10")
    site.start("other-wire", "c3", "--ip=192.168.32.11")
    assert mode_and_parent(site, "c3") == ("bridge", index(site, "eth0"))
    assert not site.reaches("c1", "192.168.32.11")
    site.inside("c1", "ip", "address", "add", "192.168.33.11/24", "dev", "eth0")
    assert site.reaches("c1", "192.168.33.10")


@pytest.mark.needs("ipvlan")
def test_15_ipvlan_and_macvlan_do_not_share_a_parent(site: Site) -> None:
    """Item 15: the kernel refuses the mix, the error says so, and nothing is left of the container."""
    site.docker("network", "create", "-d", "ipvlan", "--subnet=192.168.35.0/24", "-o", "parent=eth1", "l2")
    site.start("l2", "one")
    site.create("lan", "--subnet=192.168.32.0/24", "-o", "parent=eth1")
    before = site.traces()
    said = site.refusal("run", "--rm", "--network=lan", "alpine", "true")
    assert "eth1" in said
    assert "carries ipvlan links" in said
    assert site.traces() == before


def test_16_port_mappings_are_ignored_and_a_mac_is_obeyed(site: Site) -> None:
    """Item 16: -p does no harm and maps nothing, all ports are open anyway; --mac-address is the link's."""
    site.create("lan", "--subnet=192.168.32.0/24", "--gateway=192.168.32.254", "-o", "parent=eth1")
    site.start("lan", "one", "-p", "8080:80", "--expose=81", "--mac-address=02:42:c0:a8:20:09")
    site.docker("exec", "-d", "one", "nc", "-l", "-p", "80", "-e", "echo", "hello")
    site.start("lan", "two")
    fetch = "for i in $(seq 50); do nc -w1 {} 80 && exit; sleep 0.1; done; exit 1"
    assert site.inside("two", "sh", "-c", fetch.format(site.address("one", "lan"))) == "hello"
    assert site.leg("one")["address"] == "02:42:c0:a8:20:09"
    assert site.endpoint("one", "lan")["MacAddress"] == "02:42:c0:a8:20:09"
    assert "8080" not in site.shell("ss -lnt")


@pytest.mark.needs("bond", "8021q")
def test_17_a_bond_and_a_vlan_on_it(site: Site) -> None:
    """Item 17: bond0 and bond0.17 are parents like any other; a port of the bond is not, and the error says so."""
    site.shell("ip link add bond0 type bond mode active-backup; ip link add port0 type veth peer name port1")
    site.shell("ip link set port1 up; ip link set port0 master bond0; ip link set bond0 up")
    site.create("lan", "--subnet=192.168.32.0/24", "-o", "parent=bond0")
    site.create("vlan", "--subnet=192.168.17.0/24", "-o", "parent=bond0.17")
    site.start("lan", "one")
    site.docker("network", "connect", "vlan", "one")
    assert mode_and_parent(site, "one") == ("bridge", index(site, "bond0"))
    assert site.leg("one", "eth1")["link_index"] == index(site, "bond0.17")
    port = site.create_command("port", "--subnet=192.168.18.0/24", "-o", "parent=port0")
    assert "port0: it is a port of bond0; use bond0 instead" in site.refusal(*port)
    site.clean()
    assert site.link("bond0.17") is None
    site.shell("ip link del bond0; ip link del port0")


def test_17_any_link_but_the_loopback(site: Site) -> None:
    """Item 17: a bridge of the user's carries a network and stays; lo is refused."""
    site.shell("ip link add br-lan type bridge; ip link set br-lan up")
    site.create("lan", "--subnet=192.168.32.0/24", "-o", "parent=br-lan")
    site.start("lan", "one")
    assert mode_and_parent(site, "one") == ("bridge", index(site, "br-lan"))
    refused = site.create_command("no", "--subnet=192.168.33.0/24", "-o", "parent=lo")
    assert "lo: the loopback interface cannot carry a macvlan" in site.refusal(*refused)
    site.clean()
    assert site.link("br-lan") is not None
    site.shell("ip link del br-lan")


def test_18_other_drivers_beside_ours(site: Site) -> None:
    """Item 18: a container on our network, a bridge and a built-in macvlan on the same parent uses all three."""
    site.docker("network", "create", "-d", "bridge", "--subnet=192.168.40.0/24", "--gateway=192.168.40.1", "inner")
    site.create("lan", "--subnet=192.168.32.0/24", "--gateway=192.168.32.254", "-o", "parent=eth1")
    site.docker("network", "create", "-d", "macvlan", "--subnet=192.168.33.0/24", "-o", "parent=eth1", "plain")
    site.start("lan", "one", "--ip=192.168.32.9")
    for network in ("inner", "plain"):
        site.docker("network", "connect", network, "one")
    for number, network in enumerate(("lan", "inner", "plain")):
        site.start(network, f"peer{number}")
        assert site.reaches("one", site.address(f"peer{number}", network)), network
    names = site.inside("one", "ls", "/sys/class/net").split()
    assert sorted(names) == ["eth0", "eth1", "eth2", "lo"]
    for network in ("inner", "plain", "lan"):
        site.docker("network", "disconnect", network, "one")
    assert site.inside("one", "ls", "/sys/class/net").split() == ["lo"]
    assert ip_address("192.168.32.9") not in {ip_address(each.address) for each in site.driver.admin.addresses()}
