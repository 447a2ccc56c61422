"""A cluster whose store an earlier release wrote: its layout is refused, and the operator begins anew under running
containers."""

from collections.abc import Iterator

import pytest

from lab.cluster_site import ClusterSite, settle
from lab.consul import ConsulCluster
from lab.driver import Driver
from lab.etcd import EtcdCluster
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


PREFIX = "macvlan-global/"


def keys(cluster: ClusterSite) -> list[str]:
    """The keys in the store, but for heartbeats, which come and go with drivers."""
    if isinstance(cluster.store, ConsulCluster):
        printed = cluster.store.consul("kv", "get", "-keys", "-separator=", PREFIX)
    else:
        assert isinstance(cluster.store, EtcdCluster)
        printed = cluster.store.etcdctl("get", "--prefix", "--keys-only", PREFIX)
    return sorted(each for each in printed.split() if not each.startswith(PREFIX + "alive/"))


def delete_all(cluster: ClusterSite) -> None:
    """The command of the driver's text."""
    if isinstance(cluster.store, ConsulCluster):
        cluster.store.consul("kv", "delete", "-recurse", PREFIX)
    else:
        assert isinstance(cluster.store, EtcdCluster)
        cluster.store.etcdctl("del", "--prefix", PREFIX)


def held(site: Site) -> dict[str, tuple[str, str]]:
    """The addresses of the cluster as a host's driver tells them: what as, and on which host."""
    return {each.address: (each.kind, each.host) for each in site.driver.admin.addresses()}


def test_a_store_of_an_earlier_release_is_refused_and_begun_anew(cluster: ClusterSite) -> None:
    """The new driver writes nothing into the old store. Then all hosts claim what they use: nobody loses an address,
    none is given twice, and containers never notice."""
    first, second = cluster.sites
    first.create("lan", *NETWORK)
    cluster.wait_for("lan")
    first.start("lan", "one", "--ip=10.93.0.10")
    second.start("lan", "two", "--ip=10.93.0.20")
    first.start("lan", "three")
    before, kept = held(second), keys(cluster)

    first.driver.stop()
    first.driver.begin()
    assert first.driver.wait() != 0
    said = first.driver.log_text()
    assert (
        "the store is of an earlier release: it has hosts and no key layout, and this driver needs layout 1.0" in said
    )
    assert keys(cluster) == kept
    assert second.reaches("two", "10.93.0.10")

    second.driver.stop()
    delete_all(cluster)
    for site in cluster.sites:
        site.driver.start()
        site.driver.wait_for_engine()
    settle(first, lambda: held(first) == held(second) == before, "addresses that were claimed anew")
    settle(
        first,
        lambda: not any(each.driver.admin.repair(dry_run=True, grace=0).corrections for each in cluster.sites),
        "end of repair",
    )
    assert first.reaches("one", "10.93.0.20")
    assert "in use by container two on host host2" in first.refusal(
        "run", "--rm", "--network=lan", "--ip=10.93.0.20", "alpine", "true"
    )
    assert "in use by container one on host host1" in second.refusal(
        "run", "--rm", "--network=lan", "--ip=10.93.0.10", "alpine", "true"
    )
    second.create("new", "--subnet=10.94.0.0/24", "-o", "parent=eth1")
    cluster.wait_for("new")
    first.start("new", "four")
    first.docker("restart", "-t0", "one")
    second.docker("restart", "-t0", "two")
    assert (first.address("one", "lan"), second.address("two", "lan")) == ("10.93.0.10", "10.93.0.20")
    settle(first, lambda: len(first.driver.admin.hosts()) == 2, "hosts of the cluster")
    cluster.clean()
