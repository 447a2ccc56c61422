"""A cluster is upgraded host by host while containers run: drivers of two releases share a store meanwhile."""

from collections.abc import Iterator

import pytest

from lab.cluster_site import ClusterSite, settle
from lab.driver import Driver
from lab.hosts import Host
from lab.release import EARLIER, source_of
from lab.site import Site

NETWORK = ("--subnet=10.93.0.0/24", "--gateway=10.93.0.254", "-o", "parent=eth1")


@pytest.fixture(params=["consul", "etcd"])
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterSite]:
    """Two hosts with the earlier driver, on engines of both ages."""
    with ClusterSite(store=request.param) as cluster:
        hosts = [cluster.machine() for _ in range(2)]
        drivers = [cluster.driver(host) for host in hosts]
        for host, driver, version in zip(hosts, drivers, ("oldest", "newest"), strict=True):
            cluster.sites.append(_brought_up(cluster, host, driver, version))
        yield cluster


def _brought_up(cluster: ClusterSite, host: Host, driver: Driver, version: str) -> Site:
    driver.start(env={"PYTHONPATH": str(source_of(EARLIER))})
    host.start_engine(version)
    return Site(cluster.wire, host, driver, version)


def upgrade(site: Site) -> None:
    """Replace the driver of a host by the one under test."""
    site.driver.stop()
    site.driver.start()
    site.driver.wait_for_engine()


def held(site: Site) -> dict[str, tuple[str, str]]:
    """The addresses of the cluster as a host's driver tells them: what as, and on which host."""
    return {each.address: (each.kind, each.host) for each in site.driver.admin.addresses()}


def test_hosts_are_upgraded_one_after_the_other(cluster: ClusterSite) -> None:
    """Nobody loses an address, both releases see each other's networks, and all can be removed afterwards."""
    first, second = cluster.sites
    first.create("lan", *NETWORK)
    cluster.wait_for("lan")
    first.start("lan", "one", "--ip=10.93.0.10")
    second.start("lan", "two", "--ip=10.93.0.20")
    first.start("lan", "three")
    before = held(second)

    upgrade(first)
    assert held(first) == held(second) == before
    assert first.driver.admin.repair(dry_run=True, grace=0).corrections == []
    assert second.reaches("two", "10.93.0.10")
    assert "in use by container two on host host2" in first.refusal(
        "run", "--rm", "--network=lan", "--ip=10.93.0.20", "alpine", "true"
    )
    assert "in use by container one on host host1" in second.refusal(
        "run", "--rm", "--network=lan", "--ip=10.93.0.10", "alpine", "true"
    )
    first.create("new", "--subnet=10.94.0.0/24", "-o", "parent=eth1")
    second.create("old", "--subnet=10.95.0.0/24", "-o", "parent=eth1")
    cluster.wait_for("new")
    cluster.wait_for("old")
    second.start("new", "four")
    first.start("old", "five")
    before = held(second)

    upgrade(second)
    assert held(first) == held(second) == before
    assert first.reaches("one", "10.93.0.20")
    first.docker("restart", "-t0", "one")
    second.docker("restart", "-t0", "two")
    assert (first.address("one", "lan"), second.address("two", "lan")) == ("10.93.0.10", "10.93.0.20")
    settle(first, lambda: len(first.driver.admin.hosts()) == 2, "hosts of the cluster")
    cluster.clean()
