"""What the doctor makes of a swarm, as one of its managers sees it: a table."""

import pytest

from macvlan_global.doctor.facts import SwarmFacts, SwarmNetwork, SwarmNode, SwarmService
from macvlan_global.doctor.swarm import examine_swarm, is_ours

NAME = "macvlan-global:latest"
LAN = SwarmNetwork("n1", "lan", NAME)
NODES = (SwarmNode("node1", frozenset({"macvlan", NAME})), SwarmNode("node2", frozenset({NAME})))


def test_a_swarm_that_is_well() -> None:
    """One line with the networks; nothing at all without networks of ours, or on a worker."""
    (found,) = examine_swarm(SwarmFacts("", (LAN,), (SwarmService("web"),), NODES))
    assert (found.level, found.do) == ("ok", "")
    assert "networks of the swarm: lan" in found.seen
    assert examine_swarm(SwarmFacts(nodes=NODES)) == []
    assert examine_swarm(None) == []


@pytest.mark.parametrize(
    ("facts", "level", "seen", "do"),
    [
        (
            SwarmFacts("", (SwarmNetwork("n2", "six", "", ipv6=True),), (), NODES),
            "error",
            "never allocated network six, and no container can start on it: it was made with --ipv6",
            "-o ipv6-subnet=PREFIX",
        ),
        (
            SwarmFacts("", (SwarmNetwork("n2", "six", NAME, ipv6=True),), (), NODES),
            "error",
            "network six: it was made with --ipv6, and each node would give the same addresses",
            "-o ipv6-subnet=PREFIX",
        ),
        (SwarmFacts("", (SwarmNetwork("n2", "ours", ""),), (), NODES), "error", "never allocated network ours", "log"),
        (
            SwarmFacts("", (LAN,), (SwarmService("web", frozenset({"n1", "other"})),), NODES),
            "warning",
            "service web resolves to a virtual address on lan, which no container has",
            "docker service update --endpoint-mode dnsrr web",
        ),
        (
            SwarmFacts("", (LAN,), (), (*NODES, SwarmNode("node3", frozenset({"macvlan"})))),
            "note",
            "no plugin macvlan-global:latest on node3: no container of lan",
            "docker plugin enable macvlan-global:latest",
        ),
        (SwarmFacts("the swarm does not have a leader"), "error", "does not have a leader", "docker node ls"),
    ],
)
def test_one_thing_is_wrong_in_the_swarm(facts: SwarmFacts, level: str, seen: str, do: str) -> None:
    """One finding, of this level, that says what was seen and what to do."""
    (found,) = examine_swarm(facts)
    assert (found.level, seen in found.seen, do in found.do) == (level, True, True), found


def test_services_on_other_networks_do_not_count() -> None:
    """A virtual address on an overlay network is as it should be."""
    found = examine_swarm(SwarmFacts("", (LAN,), (SwarmService("web", frozenset({"overlay"})),), NODES))
    assert [each.level for each in found] == ["ok"]


@pytest.mark.parametrize(
    ("driver", "ours"),
    [
        (NAME, True),
        ("registry.example:5000/net/macvlan-global:1.2", True),
        ("macvlan-global", True),
        ("macvlan", False),
        ("acme/other:latest", False),
        ("", False),
    ],
)
def test_which_drivers_are_ours(driver: str, *, ours: bool) -> None:
    """Whatever registry a plugin came from, and whatever tag it has."""
    assert is_ours(driver) is ours
