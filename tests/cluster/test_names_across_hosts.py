"""Containers find each other by name across hosts, through Docker's own resolver, on engines of both versions."""

from lab.cluster_site import ClusterSite, settle
from lab.site import Site

GATEWAYS = ("--gateway=10.71.0.1", "--gateway=fd71::1")
DUAL = ("--ipv6", "--subnet=10.71.0.0/24", "--subnet=fd71::/64", *GATEWAYS, "-o", "parent=eth1")


def answers(site: Site, container: str, *command: str) -> bool:
    """Whether a ping typed in a container is answered."""
    said = site.host.run(["docker", "exec", container, *command, "-c1", "-W1"], check=False)
    return said.returncode == 0 and "1 packets received" in said.stdout


def knows(site: Site, container: str, name: str) -> bool:
    """Whether a name has an address for a container."""
    said = site.host.run(["docker", "exec", container, "nslookup", name], check=False)
    return said.returncode == 0 and "Name:" in said.stdout


def test_ping_by_name_across_hosts(names: ClusterSite) -> None:
    """`ping web` works from the other host, over IPv4 and IPv6, in both directions, and no more once web has ended."""
    one, two = names.sites
    one.create("lan", *DUAL)
    names.wait_for("lan")
    one.start("lan", "web", "--ip=10.71.0.10", "--ip6=fd71::10")
    two.start("lan", "client", "--ip6=fd71::20")
    settle(two, lambda: answers(two, "client", "ping", "-4", "web"), "answer from web over IPv4")
    settle(two, lambda: answers(two, "client", "ping", "-6", "web"), "answer from web over IPv6")
    settle(one, lambda: answers(one, "web", "ping", "-6", "client"), "answer from client")
    assert knows(two, "client", "WEB.lan")
    one.docker("stop", "--time=0", "web")
    settle(two, lambda: not knows(two, "client", "web"), "end of the name")
    one.docker("start", "web")
    settle(two, lambda: knows(two, "client", "web"), "name of the container that was started again")


def test_aliases_and_two_containers_of_one_name(names: ClusterSite) -> None:
    """An alias that containers of two hosts share gives both addresses; a container's address leads to its name."""
    one, two = names.sites
    one.create("lan", *DUAL)
    names.wait_for("lan")
    one.start("lan", "first", "--network-alias=app", "--ip=10.71.0.11")
    two.start("lan", "second", "--network-alias=app", "--ip=10.71.0.12")
    one.start("lan", "client")

    def lookup(what: str) -> str:
        return one.host.run(["docker", "exec", "client", "nslookup", what], check=False).stdout

    # the engine itself answers for the containers of its own host, and asks no further
    settle(one, lambda: "10.71.0.12" in lookup("second"), "name of the other host's container")
    settle(one, lambda: "second" in lookup("10.71.0.12").partition("\n\n")[2], "name of an address")
    two.create("apart", "--subnet=10.72.0.0/24", "--gateway=10.72.0.1", "-o", "parent=eth1")
    printed = two.run("apart", "alpine", "nslookup", "app")
    assert {each for each in ("10.71.0.11", "10.71.0.12") if each in printed} == {"10.71.0.11", "10.71.0.12"}


def test_other_names_go_their_way(names: ClusterSite) -> None:
    """What is not ours is left to the next server: a name that nobody knows is unknown, not ours to deny."""
    one = names.sites[0]
    one.create("lan", *DUAL)
    one.start("lan", "client")
    assert not knows(one, "client", "example.invalid")


def test_a_host_keeps_the_names_of_the_networks_that_its_containers_are_on(names: ClusterSite) -> None:
    """Those of others it does not know, until its first container comes, whose very first query is answered."""
    one, two = names.sites
    one.create("lan", *DUAL)
    one.create("far", "--subnet=10.72.0.0/24", "--gateway=10.72.0.1", "-o", "parent=eth1")
    names.wait_for("lan")
    names.wait_for("far")
    for number in range(3):
        one.start("far", f"far{number}", f"--ip=10.72.0.2{number}")
    one.start("lan", "near")
    two.start("lan", "client")
    settle(one, lambda: known(one) == 5, "all names on the host whose containers are on both networks")
    settle(two, lambda: known(two) == 2, "names of the one network that is used here")
    assert not knows(two, "client", "far0.far")
    printed = two.run("far", "alpine", "nslookup", "far1")
    assert "10.72.0.21" in printed
    assert knows(two, "client", "far2.far"), "for a while after its last container a network is followed"
    one.docker("rm", "-f", "far2")
    settle(two, lambda: not knows(two, "client", "far2.far"), "end of a name there")


def known(site: Site) -> int:
    """Number of endpoints whose names a host's resolver knows."""
    resolver = site.driver.admin.status().resolver
    assert resolver
    return resolver.names if resolver.known else 0
