"""No two containers of the cluster have one address, whoever asks for it, wherever, and at whatever moment."""

from functools import partial

import pytest

from lab import DockerError
from lab.cluster_site import ClusterSite, at_once, settle
from lab.site import Site

EACH = 10
"""Containers that each host starts at the same time."""


def test_an_address_in_use_on_another_host(cluster: ClusterSite) -> None:
    """The same --ip on another host is refused with the container and the host that have it, as long as they do."""
    one, two = cluster.sites
    one.create("mac", "--ipv6", "--subnet=10.61.0.0/24", "--subnet=fd61::/64", "-o", "parent=eth1")
    cluster.wait_for("mac")
    one.start("mac", "holder", "--ip=10.61.0.10", "--ip6=fd61::10")
    for taken in ("--ip=10.61.0.10", "--ip6=fd61::10"):
        said = two.refusal("run", "--rm", "--network=mac", taken, "alpine", "true")
        assert "in use" in said
        assert one.host.name in said
        settle(two, partial(_is_refused, two, taken, "container holder"), "name of the holder")
    one.docker("rm", "-f", "holder")
    two.start("mac", "heir", "--ip=10.61.0.10", "--ip6=fd61::10")
    assert two.address("heir", "mac") == "10.61.0.10"


def test_gateway_and_exclusions_on_every_host(cluster: ClusterSite) -> None:
    """Aux addresses belong to the network; the gateway does too, until one container of any host wants to be it."""
    one, two = cluster.sites
    exclusions = ("--gateway=10.61.0.1", "--aux-address=printer=10.61.0.5")
    one.create("mac", "--subnet=10.61.0.0/24", *exclusions, "-o", "parent=eth1")
    cluster.wait_for("mac")
    for site in (one, two):
        said = site.refusal("run", "--rm", "--network=mac", "--ip=10.61.0.5", "alpine", "true")
        assert "network mac as its aux address printer" in said
    one.start("mac", "router", "--ip=10.61.0.1")
    for site in (one, two):
        said = site.refusal("run", "--rm", "--network=mac", "--ip=10.61.0.1", "alpine", "true")
        assert "10.61.0.1 is in use by" in said
        settle(site, partial(_is_refused, site, "--ip=10.61.0.1", "container router"), "name of the router")


def test_many_at_once_on_both_hosts(cluster: ClusterSite) -> None:
    """Both hosts start containers at once until the pool is full: all addresses differ, and the last one is found."""
    size = 2 * EACH
    # a /27 holds 30: the gateway and nine exclusions leave what is wanted
    aux = [f"--aux-address=a{number}=10.61.0.{number}" for number in range(2, 31 - size)]
    one, two = cluster.sites
    one.create("mac", "--subnet=10.61.0.0/27", "--gateway=10.61.0.1", *aux, "-o", "parent=eth1")
    cluster.wait_for("mac")
    at_once(
        partial(site.start, "mac", f"{site.host.name}-{number}") for number in range(EACH) for site in cluster.sites
    )
    given = [address for site in cluster.sites for address in _addresses(site)]
    assert sorted(given) == sorted(f"10.61.0.{number}" for number in range(31 - size, 31))
    with pytest.raises(DockerError, match="no free address"):
        two.run("mac", "alpine", "true")


def _is_refused(site: Site, option: str, holder: str) -> bool:
    """Whether the refusal of an address names its holder: names reach other hosts a moment after their containers."""
    return f"is in use by {holder}" in site.refusal("run", "--rm", "--network=mac", option, "alpine", "true")


def _addresses(site: Site) -> list[str]:
    containers = site.engine("GET", "/containers/json")
    return [str(each["NetworkSettings"]["Networks"]["mac"]["IPAddress"]) for each in containers]
