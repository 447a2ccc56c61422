"""One Compose file on two hosts: its services find each other, and `down` and `up` come in any order."""

import pytest

from lab import DockerError
from lab.cluster_site import ClusterSite, settle
from lab.compose import Project
from lab.site import Site
from tests.docs.gallery import compose_files

NETWORK = "shop_db"
PRIMARY = "10.20.0.10"


def _finds_the_primary(site: Site) -> bool:
    """Whether the replica on this host gets an answer from the primary, which it knows by name."""
    try:
        return PRIMARY in site.inside("shop-replica-1", "ping", "-c1", "-W1", "primary")
    except DockerError:
        return False


@pytest.mark.parametrize("_running", ["consul-newest"], indirect=True)
def test_a_database_on_two_hosts(names: ClusterSite) -> None:
    """The file of docs/compose.md. Either half may go and come while the other runs, and both in any order."""
    cluster = names
    one, two = cluster.sites
    here, there = (Project(site.host, compose_files()["shop"], "shop") for site in (one, two))

    def works(*, after: str) -> None:
        settle(two, lambda: _finds_the_primary(two), f"replica that finds the primary {after}")
        assert one.address("shop-primary-1", NETWORK) == PRIMARY

    here.type("--profile", "primary", "up", "-d")
    cluster.wait_for(NETWORK)
    there.type("--profile", "replica", "up", "-d")
    works(after="at first")

    here.type("--profile", "*", "down")
    assert not _finds_the_primary(two)
    here.type("--profile", "primary", "up", "-d")
    works(after="that was made anew, with its network")

    there.type("--profile", "*", "down")
    cluster.wait_for(NETWORK)
    there.type("--profile", "replica", "up", "-d")
    works(after="from the new network")
    settle(two, lambda: "was removed" not in str(two.driver.ask("status")["problems"]), "end of the old network")

    here.type("--profile", "*", "down")
    there.type("--profile", "*", "down")
    cluster.wait_gone(NETWORK)
    there.type("--profile", "replica", "up", "-d")
    cluster.wait_for(NETWORK)
    here.type("--profile", "primary", "up", "-d")
    works(after="that came second")
    for project in (there, here):
        project.type("--profile", "*", "down", "--volumes")
