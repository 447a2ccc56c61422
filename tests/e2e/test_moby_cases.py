"""moby's integration cases for its macvlan driver, retold for ours where no other test has them.

The others: persistence over a restart of the engine and passthru in `test_restart`, `test_bad_input`; sub-interfaces,
internal, several subnets, no parent, shared and existing parents in `test_macvlan_document`; interface names in
`attach`; a parent that is down in `test_bad_input`.
"""

import pytest

from lab import ENGINES
from lab.site import Site

newest = pytest.mark.parametrize("_running", [ENGINES[-1]], indirect=True)
LAN = ("--subnet=192.168.32.0/24", "--gateway=192.168.32.254", "-o", "parent=eth1")


def test_the_network_that_was_created_second_goes_first(site: Site) -> None:
    """Both are on one parent; the first one's containers talk on, and the parent stays."""
    site.create("first", *LAN)
    site.create("second", "--subnet=192.168.33.0/24", "--gateway=192.168.33.254", "-o", "parent=eth1")
    site.start("first", "one", "--ip=192.168.32.10")
    site.start("second", "other")
    site.docker("rm", "-f", "other")
    site.docker("network", "rm", "second")
    assert site.link("eth1")
    site.start("first", "two")
    assert site.reaches("two", "192.168.32.10")


@newest
def test_two_ends_of_a_point_to_point_link(site: Site) -> None:
    """A /31 has two addresses, and both are containers' (RFC 3021)."""
    site.create("p2p", "--subnet=192.168.135.0/31", "-o", "parent=eth1")
    site.start("p2p", "one")
    site.start("p2p", "two")
    ends = {site.address("one", "p2p"), site.address("two", "p2p")}
    assert ends == {"192.168.135.0", "192.168.135.1"}
    assert site.reaches("one", site.address("two", "p2p"))


@newest
@pytest.mark.parametrize("families", ["4", "6", "46"])
def test_a_network_of_either_family_or_both(site: Site, families: str) -> None:
    """Containers have addresses of these families and no others; without IPv6 there is no link-local address either."""
    four = ("--subnet=192.168.32.0/24", "--gateway=192.168.32.254") if "4" in families else ("--ipv4=false",)
    six = ("--ipv6", "--subnet=fd32::/64", "--gateway=fd32::ffff") if "6" in families else ()
    site.create("lan", *four, *six, "-o", "parent=eth1")
    site.start("lan", "one")
    shown = site.inside("one", "ip", "address", "show", "eth0")
    assert ("inet 192.168.32." in shown, "inet6 fd32::" in shown) == ("4" in families, "6" in families)
    assert ("inet6 fe80:" in shown) == ("6" in families)


@pytest.mark.parametrize("internal", [(), ("--internal",)], ids=["with a way out", "internal"])
def test_names_of_neighbours_resolve(site: Site, internal: tuple[str, ...]) -> None:
    """With a parent, whether the network has a way out or not."""
    site.create("lan", *internal, *LAN)
    site.start("lan", "one", "--ip=192.168.32.10")
    site.start("lan", "two")
    assert "192.168.32.10" in site.inside("two", "nslookup", "one")
    assert site.reaches("two", "one")


@pytest.mark.needs("dummy")
def test_several_subnets_without_a_parent(site: Site) -> None:
    """An isolated network with two: containers of one subnet reach each other on the dummy."""
    site.create("alone", "--subnet=192.168.32.0/24", "--subnet=192.168.34.0/24")
    site.start("alone", "a1", "--ip=192.168.32.10")
    site.start("alone", "b1", "--ip=192.168.34.10")
    site.start("alone", "b2", "--ip=192.168.34.11")
    assert site.reaches("b1", "192.168.34.11")
    assert not site.reaches("b1", "192.168.32.10")


def test_a_link_without_ethernet_is_refused_at_create(site: Site) -> None:
    """A tunnel; a list goes on, and `parents` has the reason."""
    site.shell("ip tuntap add tun0 mode tun; ip link set tun0 up")
    tunnel = site.create_command("lan", "--subnet=192.168.32.0/24", "-o", "parent=tun0")
    assert "tun0: not an Ethernet link (tun)" in site.refusal(*tunnel)
    site.create("lan", "--subnet=192.168.32.0/24", "-o", "parent=tun0,eth1")
    shown = site.driver.cli("parents", "lan").stdout
    assert "passed over" in shown
    assert "not an Ethernet link (tun)" in shown
    site.run("lan", "alpine", "true")
    site.clean()
    site.shell("ip link del tun0")


@pytest.mark.needs("8021q")
def test_a_vlan_of_the_hosts_own_and_a_vlan_in_a_vlan(site: Site) -> None:
    """vlan10 is used for eth1.10 and stays; eth1.20.200 comes and goes with its network, and the host is not on it."""
    site.shell("ip link add link eth1 name vlan10 type vlan id 10; ip link set vlan10 up")
    site.create("named", "--subnet=192.168.32.0/24", "-o", "parent=eth1.10")
    assert "VLAN 10 of eth1 is vlan10 here, exists" in site.driver.cli("parents", "named").stdout
    site.create("nested", "--ipv6", "--subnet=192.168.34.0/24", "--subnet=fd34::/64", "-o", "parent=eth1.20.200")
    outer, inner = site.link("eth1.20"), site.link("eth1.20.200")
    assert outer is not None
    assert inner is not None
    assert inner["link"] == "eth1.20"
    for name in ("eth1.20", "eth1.20.200"):
        assert site.shell(f"ip -6 address show dev {name}") == ""
    site.start("nested", "one", "--ip6=fd34::10")
    site.run("named", "alpine", "true")
    assert "inet6 fd34::10/64" in site.inside("one", "ip", "address", "show", "eth0")
    site.clean()
    assert site.link("eth1.20") is None
    site.shell("ip link delete vlan10")
