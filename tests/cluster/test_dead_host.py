"""A host dies: what its containers hold is theirs while they answer on the wire, and is given back when nobody does."""

import json

import pytest

from lab.cluster_site import ClusterSite, settle


@pytest.mark.slow
def test_a_dead_hosts_addresses() -> None:
    """Kept while a container answers, also for the operator; given back once nobody does; the host can be removed."""
    with ClusterSite("newest", "newest", store="etcd", flags=["--host-grace=2"]) as cluster:
        one, two = cluster.sites
        one.create("mac", "--subnet=10.81.0.0/24", "-o", "parent=eth1")
        cluster.wait_for("mac")
        two.start("mac", "survivor", "--ip=10.81.0.2")
        refused = one.driver.cli("hosts", "remove", "host2", check=False)
        assert "host host2 is alive" in refused.stderr
        two.driver.kill()

        def states() -> dict[str, str]:
            return {each.name: each.state for each in one.driver.admin.hosts()}

        settle(one, lambda: states() == {"host1": "up", "host2": "down"}, "end of host2", seconds=40)
        said = "address 10.81.0.2 of dead host host2 stays: a device answers for 10.81.0.2 on eth1"
        settle(one, lambda: said in one.driver.log_text(), "look after the grace period")
        done = one.driver.cli("hosts", "remove", "host2", "--json", check=False)
        found = json.loads(done.stdout)
        assert (done.returncode, found["removed"], found["given_back"]) == (1, False, [])
        assert found["kept"] == [
            {"address": "10.81.0.2", "reason": "a device answers for 10.81.0.2 on eth1"},
        ]
        assert "in use" in one.refusal("run", "--rm", "--network=mac", "--ip=10.81.0.2", "alpine", "true")

        cluster.wire.cut(two.host)
        settle(one, lambda: one.driver.admin.addresses() == [], "address given back", seconds=30)
        assert "address 10.81.0.2 of dead host host2 is reclaimed" in one.driver.log_text()
        one.start("mac", "heir", "--ip=10.81.0.2")
        assert "Host host2 is removed." in one.driver.cli("hosts", "remove", "host2").stdout
        assert states() == {"host1": "up"}
