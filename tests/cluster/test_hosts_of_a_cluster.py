"""Hosts come, go and come back: each has what the cluster has, and the cluster knows who is there."""

import time
from functools import partial

import pytest

from lab import LabError
from lab.cluster_site import ClusterSite, networks, settle
from lab.site import Site
from lab.speed import patience

MAC = ("--subnet=10.81.0.0/24", "--gateway=10.81.0.254", "-o", "parent=eth1")


def test_who_is_there(cluster: ClusterSite) -> None:
    """`hosts` lists both with their engines, networks and addresses; joins are logged as the document shows them."""
    one, two = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    one.start("mac", "one")
    for site in cluster.sites:
        text = site.driver.cli("hosts").stdout
        assert all(each.host.name in text for each in (one, two))
        assert all(each.host.docker("version", "-f", "{{.Server.Version}}").strip() in text for each in (one, two))
    assert "watch triggered with 2 hosts" in one.driver.log_text().lower()


def test_a_host_that_joins_later(cluster: ClusterSite) -> None:
    """A third host gets the networks that are there, and its containers addresses that are free."""
    one = cluster.sites[0]
    one.create("mac", *MAC)
    one.start("mac", "one", "--ip=10.81.0.1")
    (three,) = cluster.add(one.version)
    cluster.wait_for("mac", three)
    three.start("mac", "three")
    assert three.address("three", "mac") != "10.81.0.1"
    assert three.reaches("three", "10.81.0.1")
    three.docker("rm", "-f", "three")
    cluster.remove(three)


def test_a_host_that_was_down(cluster: ClusterSite) -> None:
    """What happened meanwhile is caught up: a removed network goes, a new one comes, one made anew is the new one."""
    one, two = cluster.sites
    for number, name in enumerate(("goes", "anew")):
        one.create(name, f"--subnet=10.8{number}.0.0/24", "-o", "parent=eth1")
        cluster.wait_for(name)
    two.host.stop_engine()
    two.driver.stop()
    one.docker("network", "rm", "goes", "anew")
    one.create("comes", "--subnet=10.80.0.0/24", "-o", "parent=eth1")
    one.create("anew", "--subnet=10.82.0.0/24", "-o", "parent=eth1")
    two.driver.start()
    two.host.restart_engine()
    cluster.wait_for("comes")
    cluster.wait_gone("goes")
    settle(two, partial(_is_on, two, "anew", "10.82.0.0/24"), "network that was made anew")
    two.start("anew", "two")


def _is_on(site: Site, network: str, subnet: str) -> bool:
    if network not in networks(site):
        return False
    config = site.engine("GET", f"/networks/{networks(site)[network]}")["IPAM"]["Config"]
    return [each["Subnet"] for each in config] == [subnet]


def test_a_name_that_a_living_host_has(cluster: ClusterSite) -> None:
    """Two hosts of one name: the second refuses to start, and says why."""
    one = cluster.sites[0]
    other = cluster.driver(cluster.machine(), f"--host-name={one.host.name}")
    with pytest.raises(LabError, match=one.host.name):
        other.start()
    assert other.wait() != 0


def test_cut_off_from_the_store(cluster: ClusterSite) -> None:
    """Without the store, containers go on, new ones are refused within ten seconds, and what goes is told later."""
    one, two = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    one.start("mac", "one", "--ip=10.81.0.1")
    two.start("mac", "two", "--ip=10.81.0.2")
    two.start("mac", "leaver", "--ip=10.81.0.3")
    cluster.cut_off(two)
    begin = time.monotonic()
    said = two.refusal("run", "--rm", "--network=mac", "alpine", "true")
    assert time.monotonic() - begin < patience(10)
    assert "store" in said
    assert two.reaches("two", "10.81.0.1")
    two.docker("rm", "-f", "leaver")
    assert "in use" in one.refusal("run", "--rm", "--network=mac", "--ip=10.81.0.3", "alpine", "true")
    two.driver.stop()
    cluster.mend(two)
    two.driver.start()
    settle(one, lambda: "10.81.0.3" not in {each.address for each in one.driver.admin.addresses()}, "release")
    one.start("mac", "heir", "--ip=10.81.0.3")
    assert two.reaches("two", "10.81.0.3")
