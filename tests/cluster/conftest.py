"""Hosts with real engines on a real cluster store, for each store; engines of both versions in each cluster."""

from collections.abc import Iterator

import pytest

from lab.cluster_site import ClusterSite, StoreKind

# The engine of host1, then of host2: each example is typed on the newest in one cluster, on the oldest in the other.
# The names end in what tells the two guests of lab/suite.py apart.
CLUSTERS: dict[str, tuple[StoreKind, tuple[str, str]]] = {
    "consul-newest": ("consul", ("newest", "oldest")),
    "etcd-oldest": ("etcd", ("oldest", "newest")),
}


PAGE = "127.0.0.1:8153"
"""Address of the page, on each host's own loopback."""


@pytest.fixture(scope="session", params=CLUSTERS)
def _running(request: pytest.FixtureRequest) -> Iterator[ClusterSite]:
    store, versions = CLUSTERS[request.param]
    with ClusterSite(*versions, store=store, flags=(f"--page={PAGE}",)) as cluster:
        yield cluster


@pytest.fixture
def cluster(_running: ClusterSite) -> Iterator[ClusterSite]:
    """Two hosts that share a store, the same ones for all tests; afterwards nothing may be left on them."""
    yield _running
    _running.clean()


@pytest.fixture(scope="session")
def _resolving(_running: ClusterSite) -> Iterator[ClusterSite]:
    for site in _running.sites:
        site.driver.cli("dns", "install")
    yield _running
    for site in _running.sites:
        site.driver.cli("dns", "remove")


@pytest.fixture
def names(_resolving: ClusterSite, cluster: ClusterSite) -> ClusterSite:
    """The same hosts, where the resolver is the engine's first."""
    del _resolving
    return cluster
