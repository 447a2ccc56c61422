"""What the doctor makes of this host's part in a cluster."""

from dataclasses import replace
from typing import Any

import pytest

from macvlan_global.doctor.cluster import examine_cluster
from macvlan_global.doctor.facts import ClusterFacts

WELL = ClusterFacts(
    "consul://10.0.0.1:8500",
    hosts=("host1", "host2"),
    resolver="127.0.0.153:53",
    nameservers=("127.0.0.153", "10.0.0.53"),
)


def test_local_scope_has_no_cluster() -> None:
    """Nothing is said about it."""
    assert examine_cluster(None) == []


def test_a_cluster_that_is_well_has_nothing_to_tell() -> None:
    """Store and resolver are ok, and the living hosts are named."""
    found = examine_cluster(WELL)
    assert [each.level for each in found] == ["ok", "ok"]
    assert found[0].seen == "consul://10.0.0.1:8500 answers; living hosts: host1, host2"


@pytest.mark.parametrize(
    ("changed", "level", "seen", "do"),
    [
        ({"store_problem": "no store answers"}, "error", "no store answers", "containers run on, and none can start"),
        ({"waiting": 3}, "warning", "3 releases and removals wait", "see the log"),
        (
            {"problems": ("network lan is another one here; remove it (docker network rm lan)",)},
            "warning",
            "network lan is another one here",
            "remove it (docker network rm lan)",
        ),
        ({"problems": ("address 10.0.0.9 has two holders",)}, "warning", "has two holders", "see the log"),
        ({"resolver_problem": "port 53 is taken"}, "error", "port 53 is taken", "journalctl -u macvlan-global"),
        ({"resolver_problem": "no such address; choose another"}, "error", "does not serve: no such", "choose another"),
        ({"may_probe": False}, "warning", "lacks CAP_NET_RAW", "macvlan-global install"),
        ({"resolver": ""}, "note", "the resolver is off", "set dns"),
        (
            {"nameservers": ("10.0.0.53", "127.0.0.153")},
            "warning",
            "not ask the resolver",
            "macvlan-global dns install",
        ),
        (
            {"resolv_conf_owner": "tailscale generates this file; tailscale set --accept-dns=false"},
            "warning",
            "tailscale generates /etc/resolv.conf",
            "tailscale set --accept-dns=false",
        ),
        ({"nameservers": ()}, "warning", "(127.0.0.153) first", "macvlan-global dns install"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(changed: dict[str, Any], level: str, seen: str, do: str) -> None:
    """One finding for each thing."""
    (found,) = [each for each in examine_cluster(replace(WELL, **changed)) if each.level != "ok"]
    assert found.level == level
    assert seen in found.seen
    assert do in found.do


def test_a_store_that_is_away_explains_what_waits() -> None:
    """What waits is then no finding of its own worth a warning."""
    found = examine_cluster(replace(WELL, store_problem="away", waiting=2))
    assert [each.level for each in found] == ["error", "note", "ok"]


def test_port_53_is_said_to_be_taken() -> None:
    """A container that publishes it on all addresses does not start, and the engine does not say who has it."""
    assert "(-p ADDRESS:53:53)" in examine_cluster(WELL)[-1].seen
    assert "ADDRESS" not in examine_cluster(replace(WELL, resolver="127.0.0.153:5353"))[-1].seen


def test_an_ipv6_resolver_is_found_in_resolv_conf() -> None:
    """There it has no brackets."""
    found = examine_cluster(replace(WELL, resolver="[fd00::53]:53", nameservers=("fd00::53",)))
    assert [each.level for each in found] == ["ok", "ok"]
