"""Ways to use a network that users try and no document shows: options, pools, MACs, the life of containers."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network

import pytest

from lab import ENGINES, Host, Wire
from lab.driver import Driver
from lab.site import Site

OLDEST, NEWEST = ENGINES
SUBNET = "--subnet=192.168.1.0/24"
PARENT = ("-o", "parent=eth1")
LAN = (SUBNET, "--gateway=192.168.1.254", *PARENT)
MANY = 30


def held(site: Site) -> list[str]:
    """The addresses that containers hold."""
    return sorted(each.address for each in site.driver.admin.addresses() if each.kind == "endpoint")


def parents(site: Site) -> list[str]:
    """The parents of the driver's networks."""
    return sorted(each.parent for each in site.driver.admin.networks())


# ------------------------------------------------------------------------ options


@pytest.fixture
def newest_with_defaults() -> Iterator[Site]:
    """A site whose daemon.json names a parent and an MTU for every network of ours, and whose driver has an alias."""
    defaults = {"default-network-opts": {"macvlan-global": {"parent": "nosuch, eth1", "mtu": "1400"}}}
    alias = """[parents]\nuplink = "bond0, eth2"\n"""
    with Wire() as wire, Host("defaults") as host:
        wire.plug(host)
        wire.plug(host, "eth2")
        host.run(["sh", "-c", "mkdir /etc/macvlan-global && cat > /etc/macvlan-global/config.toml"], stdin=alias)
        driver = Driver(host)
        driver.start()
        host.start_engine(NEWEST, daemon_json=defaults)
        yield Site(wire, host, driver, NEWEST)
        driver.stop()


def test_defaults_of_the_host(newest_with_defaults: Site) -> None:
    """daemon.json holds for networks of ours that do not say otherwise; an alias of the host stands for its list."""
    site = newest_with_defaults
    site.create("lan", SUBNET)
    site.create("other", "--subnet=192.168.2.0/24", "-o", "mtu=1300", "-o", "parent=uplink")
    site.start("lan", "one")
    site.start("other", "two")
    assert parents(site) == ["eth1", "eth2"]
    assert (site.leg("one")["mtu"], site.leg("two")["mtu"]) == (1400, 1300)


def test_auto_is_the_interface_of_the_subnet_or_of_the_default_route(site: Site) -> None:
    """`-o parent=auto` needs no name of an interface; where neither is to be found, the error says so."""
    command = site.create_command("lan", SUBNET, "-o", "parent=auto")
    assert "auto: no interface carries the network's subnet, and there is no default route" in site.refusal(*command)
    site.shell("ip address add 192.168.1.200/24 dev eth0; ip address add 10.9.9.9/24 dev eth1")
    site.shell("ip route add default via 10.9.9.1")
    try:
        site.docker(*command)
        assert parents(site) == ["eth0"]
        site.create("other", "--subnet=192.168.2.0/24", "-o", "parent=auto")
        assert parents(site) == ["eth0", "eth1"]
    finally:
        site.shell("ip address del 192.168.1.200/24 dev eth0; ip address del 10.9.9.9/24 dev eth1")


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_modes_under_their_short_name(site: Site, mode: str) -> None:
    """`-o mode=` is `-o macvlan_mode=`, and the link has that mode."""
    site.create("lan", *LAN, "-o", f"mode={mode}")
    site.start("lan", "one")
    assert site.leg("one")["linkinfo"]["info_data"]["mode"] == mode


def test_private_links_do_not_hear_each_other(site: Site) -> None:
    """In mode private, containers of one parent are apart, and a station on the wire is reached."""
    site.create("lan", *LAN, "-o", "macvlan_mode=private")
    site.start("lan", "one", "--ip=192.168.1.1")
    site.start("lan", "two")
    with Host("station") as station:
        site.wire.plug(station, "lan0", addresses=["192.168.1.200/24"])
        assert site.reaches("two", "192.168.1.200")
    assert not site.reaches("two", "192.168.1.1")


def test_a_passthru_container_has_its_parents_mac(site: Site) -> None:
    """In mode passthru the container is the parent's station; afterwards the parent is as it was."""
    before = site.link("eth1")
    assert before is not None
    site.create("lan", *LAN, "-o", "macvlan_mode=passthru")
    site.start("lan", "one", "--ip=192.168.1.1")
    assert site.leg("one")["address"] == before["address"]
    with Host("station") as station:
        site.wire.plug(station, "lan0", addresses=["192.168.1.200/24"])
        assert site.reaches("one", "192.168.1.200")
    site.clean()
    after = site.link("eth1")
    assert after is not None
    assert (after["address"], after["promiscuity"]) == (before["address"], before["promiscuity"])


def test_mtu_is_the_links(site: Site) -> None:
    """`-o mtu` sets the MTU of containers' links; without it they have the parent's."""
    site.create("small", SUBNET, *PARENT, "-o", "mtu=1280")
    site.create("plain", "--subnet=192.168.2.0/24", *PARENT)
    site.start("small", "one")
    site.start("plain", "two")
    assert (site.leg("one")["mtu"], site.leg("two")["mtu"]) == (1280, 1500)


def test_several_networks_on_one_parent(site: Site) -> None:
    """Three networks share eth1, one container is on all of them, and each removal leaves the others alone."""
    for number in (1, 2, 3):
        site.create(f"lan{number}", f"--subnet=192.168.{number}.0/24", *PARENT)
        site.start(f"lan{number}", f"peer{number}")
    site.docker("network", "connect", "lan2", "peer1")
    site.docker("network", "connect", "lan3", "peer1")
    for number in (2, 3):
        assert site.reaches("peer1", site.address(f"peer{number}", f"lan{number}"))
    site.docker("network", "disconnect", "lan2", "peer1")
    site.docker("rm", "-f", "peer2")
    site.docker("network", "rm", "lan2")
    assert site.reaches("peer1", site.address("peer3", "lan3"))


# --------------------------------------------------------------------------- MACs


def test_random_macs_are_local_and_distinct(site: Site) -> None:
    """By default each container gets a MAC that nobody assigned: unicast, locally administered."""
    site.create("lan", *LAN)
    site.start("lan", "one")
    site.start("lan", "two")
    macs = [site.endpoint(name, "lan")["MacAddress"] for name in ("one", "two")]
    assert macs == [site.leg(name)["address"] for name in ("one", "two")]
    assert macs[0] != macs[1]
    assert [int(mac[:2], 16) & 0b11 for mac in macs] == [0b10, 0b10]


def test_macs_derived_from_the_address(site: Site) -> None:
    """`-o mac=address`: the same address always has the same MAC, as engines before 28 made it."""
    site.create("lan", *LAN, "-o", "mac=address")
    site.start("lan", "one", "--ip=192.168.1.10")
    assert site.leg("one")["address"] == "02:42:c0:a8:01:0a"


def test_a_mac_of_the_users(site: Site) -> None:
    """--mac-address is obeyed, and stays over a restart of the container."""
    site.create("lan", *LAN)
    site.start("lan", "one", "--mac-address=02:42:00:00:00:07")
    assert site.leg("one")["address"] == "02:42:00:00:00:07"
    site.docker("restart", "-t", "5", "one")
    assert site.leg("one")["address"] == "02:42:00:00:00:07"


def test_a_mac_that_is_on_the_parent(site: Site) -> None:
    """The parent's own MAC, another container's, and that of a built-in macvlan link are refused in clear words."""
    parent = site.link("eth1")
    assert parent is not None
    site.create("lan", *LAN)
    site.docker("network", "create", "-d", "macvlan", "--subnet=192.168.2.0/24", *PARENT, "built-in")
    site.start("lan", "ours", "--mac-address=02:42:00:00:00:01")
    site.start("built-in", "theirs", "--mac-address=02:42:00:00:00:02")
    before = site.traces()
    cases = {
        parent["address"]: "is the MAC of the parent eth1; use another",
        "02:42:00:00:00:01": "is in use on the parent eth1",
        "02:42:00:00:00:02": "the MAC is in use on this parent",
    }
    for mac, words in cases.items():
        said = site.refusal("run", "--rm", "--network=lan", f"--mac-address={mac}", "alpine", "true")
        assert words in said
    assert site.traces() == before
    site.run("lan", "--mac-address=02:42:00:00:00:03", "alpine", "true")


def test_the_same_mac_on_another_parent(site: Site) -> None:
    """Two parents are two wires: the same MAC on each clashes with nobody."""
    site.create("lan", *LAN)
    site.create("other", "--subnet=192.168.2.0/24", "-o", "parent=eth0")
    site.start("lan", "one", "--mac-address=02:42:00:00:00:01")
    site.start("other", "two", "--mac-address=02:42:00:00:00:01")
    assert site.leg("one")["address"] == site.leg("two")["address"]


# -------------------------------------------------------------------------- pools


def test_the_same_subnet_in_another_address_space(site: Site) -> None:
    """`--ipam-opt space=`: two networks hand out the same addresses, each on its own."""
    site.create("red", *LAN)
    site.create("blue", SUBNET, "--gateway=192.168.1.254", "-o", "parent=eth0", "--ipam-opt=space=blue")
    site.start("red", "one", "--ip=192.168.1.1")
    site.start("blue", "two", "--ip=192.168.1.1")
    assert site.address("one", "red") == site.address("two", "blue") == "192.168.1.1"
    assert held(site) == ["192.168.1.1", "192.168.1.1"]


def test_the_engines_own_ipam(site: Site) -> None:
    """In local scope Docker's default IPAM may give the addresses, dual stack, ranges and exclusions included."""
    site.docker(
        *("network", "create", "-d", "macvlan-global", "--ipv6", SUBNET, "--subnet=fd18::/64"),
        *("--ip-range=192.168.1.128/25", "--gateway=192.168.1.254", "--gateway=fd18::fe"),
        *("--aux-address=router=192.168.1.128", *PARENT, "lan"),
    )
    site.start("lan", "one")
    site.start("lan", "two", "--ip=192.168.1.9", "--ip6=fd18::9")
    assert ip_address(site.address("one", "lan")) in ip_network("192.168.1.128/25")
    assert site.address("one", "lan") != "192.168.1.128"
    assert site.reaches("one", "192.168.1.9")
    assert site.reaches("one", "fd18::9")
    assert "default via 192.168.1.254 " in site.inside("two", "ip", "route")
    assert "default via fd18::fe " in site.inside("two", "ip", "-6", "route")
    said = site.refusal("run", "--rm", "--network=lan", "--ip=192.168.1.9", "alpine", "true")
    assert "Address already in use" in said
    engine_gave = [site.endpoint(name, "lan") for name in ("one", "two")]
    assert held(site) == sorted(each[key] for each in engine_gave for key in ("IPAddress", "GlobalIPv6Address"))
    site.docker("rm", "-f", "one", "two")
    assert held(site) == []


def test_automatic_pools_avoid_what_the_host_reaches(site: Site) -> None:
    """A network without a subnet gets one that is neither on an interface nor in a route of the host, nor taken."""
    site.shell("ip address add 10.201.0.1/24 dev eth0; ip route add 10.201.1.0/24 via 10.201.0.2")
    try:
        site.create("one", *PARENT)
        site.create("two", "--ipv6", *PARENT)
        found = sorted(
            subnet.subnet
            for each in site.driver.admin.networks()
            for subnet in each.subnets
            if ":" not in subnet.subnet
        )
        assert found == ["10.201.2.0/24", "10.201.3.0/24"]
        site.start("two", "c1")
        site.start("two", "c2")
        assert site.reaches("c1", site.address("c2", "two"))
    finally:
        site.shell("ip address del 10.201.0.1/24 dev eth0")


def test_ipv6_only(site: Site) -> None:
    """Where the engine knows --ipv4=false, a network has no IPv4 at all; older ones add a pool of our choosing."""
    flags = ("--ipv4=false",) if site.version == NEWEST else ()
    site.create("lan", *flags, "--ipv6", "--subnet=fd18::/64", "--gateway=fd18::fe", *PARENT)
    site.start("lan", "one", "--ip6=fd18::1")
    site.start("lan", "two")
    assert site.reaches("two", "fd18::1")
    assert "default via fd18::fe " in site.inside("one", "ip", "-6", "route")
    assert (site.address("one", "lan") == "") == (site.version == NEWEST)


SMALL = {
    "/31": (("--subnet=192.168.1.0/31",), ["192.168.1.0", "192.168.1.1"]),
    "/32": (("--subnet=192.168.1.7/32",), ["192.168.1.7"]),
    "/30": (("--subnet=192.168.1.0/30",), ["192.168.1.1", "192.168.1.2"]),
}


@pytest.mark.parametrize("size", SMALL)
def test_the_smallest_ipv4_subnets(site: Site, size: str) -> None:
    """Every address of a /31 and a /32 is usable; where the engine wants a gateway, that is one of them."""
    subnet, addresses = SMALL[size]
    site.create("lan", *subnet, *PARENT)
    wanted = addresses if site.version == NEWEST else addresses[1:]  # an old engine takes the first for a gateway
    for number in range(len(wanted)):
        site.start("lan", f"c{number}x")
    assert held(site) == wanted
    assert "no free address is left" in site.refusal("run", "--rm", "--network=lan", "alpine", "true")


@pytest.mark.parametrize(("subnet", "addresses"), [("fd18::/127", ["fd18::", "fd18::1"]), ("fd18::7/128", ["fd18::7"])])
def test_the_smallest_ipv6_subnets(site: Site, subnet: str, addresses: list[str]) -> None:
    """Every address of a /127 and a /128 is usable; an old engine takes the first for a gateway."""
    site.create("lan", "--ipv6", SUBNET, f"--subnet={subnet}", *PARENT)
    wanted = addresses if site.version == NEWEST else addresses[1:]
    for number in range(len(wanted)):
        site.start("lan", f"c{number}x")
    before = held(site)
    assert [each for each in before if ":" in each] == wanted
    assert "no free address is left" in site.refusal("run", "--rm", "--network=lan", "alpine", "true")
    assert held(site) == before


def test_ranges_and_exclusions_on_both_sides(site: Site) -> None:
    """Aux addresses may be inside the range or outside; the range's first free address comes first."""
    site.create(
        "lan",
        *(SUBNET, "--ip-range=192.168.1.64/26", "--gateway=192.168.1.254", *PARENT),
        *("--aux-address=inside=192.168.1.64", "--aux-address=outside=192.168.1.3"),
    )
    site.start("lan", "one")
    assert site.address("one", "lan") == "192.168.1.65"
    for address in ("192.168.1.64", "192.168.1.3"):
        said = site.refusal("run", "--rm", "--network=lan", f"--ip={address}", "alpine", "true")
        assert f"address {address} is in use by network" in said
    (network,) = site.driver.admin.networks()
    assert network.subnets[0].aux == {"inside": "192.168.1.64", "outside": "192.168.1.3"}


def test_subnets_in_any_order(site: Site) -> None:
    """IPv6 before IPv4, gateways in another order than subnets: each subnet keeps its own."""
    site.create(
        "lan",
        *("--ipv6", "--subnet=fd18::/64", "--subnet=192.168.2.0/24", "--subnet=192.168.1.0/24", *PARENT),
        *("--gateway=192.168.1.254", "--gateway=fd18::fe", "--gateway=192.168.2.254"),
    )
    (network,) = site.driver.admin.networks()
    assert {each.subnet: each.gateway for each in network.subnets} == {
        "fd18::/64": "fd18::fe",
        "192.168.1.0/24": "192.168.1.254",
        "192.168.2.0/24": "192.168.2.254",
    }
    assert "default via 192.168.2.254 " in site.run("lan", "--ip=192.168.2.9", "alpine", "ip", "route")


# ------------------------------------------------------------- life of containers


def test_connect_and_disconnect(site: Site) -> None:
    """A running and a stopped container are connected and disconnected, with a given address and with any."""
    site.create("lan", *LAN)
    site.create("more", "--subnet=192.168.2.0/24", *PARENT)
    site.start("lan", "one")
    site.docker("network", "connect", "--ip=192.168.2.9", "more", "one")
    assert "192.168.2.9/24" in site.inside("one", "ip", "addr", "show", "eth1")
    site.docker("network", "disconnect", "more", "one")
    assert "192.168.2.9" not in held(site)
    site.docker("stop", "-t", "5", "one")
    site.docker("network", "connect", "--ip=192.168.2.10", "more", "one")
    site.docker("network", "disconnect", "lan", "one")
    site.docker("start", "one")
    assert site.address("one", "more") == "192.168.2.10"
    assert held(site) == ["192.168.2.10"]
    site.docker("network", "disconnect", "-f", "more", "one")
    assert held(site) == []


def test_stop_start_restart_kill(site: Site) -> None:
    """A container that runs holds its address, one that does not holds none; a given one comes back with it."""
    site.create("lan", *LAN)
    site.start("lan", "given", "--ip=192.168.1.77")
    site.start("lan", "any")
    both = held(site)
    assert "192.168.1.77" in both
    site.docker("restart", "-t", "5", "given", "any")
    assert len(held(site)) == 2
    site.docker("stop", "-t", "5", "any")
    site.docker("kill", "given")
    site.docker("wait", "given")
    assert held(site) == []
    site.docker("start", "given", "any")
    assert site.address("given", "lan") == "192.168.1.77"
    assert held(site) == sorted(["192.168.1.77", site.address("any", "lan")])
    assert site.reaches("any", "192.168.1.77")
    site.docker("pause", "given")
    site.docker("unpause", "given")
    site.docker("rm", "-f", "given", "any")
    assert held(site) == []


def test_a_container_that_fails_to_start_holds_nothing(site: Site) -> None:
    """The address and the link of a container whose command is not there are given back."""
    site.create("lan", *LAN)
    before = site.traces()
    said = site.refusal("run", "--rm", "--network=lan", "--ip=192.168.1.5", "alpine", "no-such-command")
    assert "no-such-command" in said
    assert site.traces() == before
    site.run("lan", "--ip=192.168.1.5", "alpine", "true")


def test_a_freed_address_is_not_handed_out_at_once(site: Site) -> None:
    """Neighbours still know the old holder's MAC, so a new container gets another address while there is one."""
    site.create("lan", *LAN)
    seen = [site.run("lan", "alpine", "sh", "-c", "ip -4 -o addr show eth0 | awk '{print $4}'") for _ in range(3)]
    assert len(set(seen)) == 3


def test_a_network_that_is_in_use_is_not_removed(site: Site) -> None:
    """Docker refuses it, and the containers go on; `network prune` leaves it too, and removes it later."""
    site.create("lan", *LAN)
    site.start("lan", "one")
    site.start("lan", "two")
    assert "has active endpoints" in site.refusal("network", "rm", "lan")
    site.docker("network", "prune", "-f")
    assert site.reaches("one", site.address("two", "lan"))
    site.docker("rm", "-f", "one", "two")
    assert "lan" in site.docker("network", "prune", "-f")
    assert site.driver.admin.networks() == []


def test_names_and_aliases_resolve(site: Site) -> None:
    """Docker's resolver knows names, aliases and `name.network` of the networks that a container is on, no others."""
    site.create("lan", *LAN)
    site.create("more", "--subnet=192.168.2.0/24", "--gateway=192.168.2.254", *PARENT)
    site.start("lan", "web", "--network-alias=www")
    site.start("more", "db1")
    site.start("lan", "client")
    for name in ("web", "www", "web.lan"):
        assert site.address("web", "lan") in site.inside("client", "nslookup", name)
    assert not site.reaches("web", "192.168.2.1")
    site.docker("network", "connect", "--alias=database", "more", "client")
    assert site.reaches("client", "database")


def test_a_container_knows_its_own_name(site: Site) -> None:
    """As docs/limits.md has it: there are engines that write it down in a way that few understand."""
    site.create("mac", "--subnet=192.168.1.0/24", "-oparent=eth1")
    named = ("--hostname=web", "--ip=192.168.1.9")
    site.start("mac", "web", *named)
    assert ("::ffff:192.168.1.9\tweb" in site.inside("web", "cat", "/etc/hosts")) == (site.version == "newest")
    site.docker("rm", "-f", "web")
    site.start("mac", "web", *named, "--add-host=web:192.168.1.9")
    assert site.reaches("web", "web")


def test_a_burst_of_containers(site: Site) -> None:
    """Thirty containers started at once get thirty addresses, and all are given back when they go at once."""
    site.create("lan", "--ipv6", SUBNET, "--subnet=fd18::/64", *PARENT)
    names = [f"burst{number}" for number in range(MANY)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: site.start("lan", name), names))
    given = [site.endpoint(name, "lan") for name in names]
    assert len({each["IPAddress"] for each in given}) == MANY
    assert len({each["GlobalIPv6Address"] for each in given}) == MANY
    assert len({each["MacAddress"] for each in given}) == MANY
    assert site.reaches(names[0], given[-1]["IPAddress"])
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: site.docker("rm", "-f", name), names))
    assert held(site) == []
