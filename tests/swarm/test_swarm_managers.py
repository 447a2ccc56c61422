"""Three managers, and the one that leads dies for good."""

from collections.abc import Iterator

import pytest

from lab import ENGINES, DockerError
from lab.process import wait_until
from tests.swarm.swarm_site import AFTER_AN_ENGINE_DIED, Node, SwarmSite

pytestmark = pytest.mark.by_turns


@pytest.fixture(params=reversed(ENGINES))
def managers(request: pytest.FixtureRequest, _built: None) -> Iterator[SwarmSite]:
    """Three managers."""
    with SwarmSite(*[request.param] * 3, managers=3) as swarm:
        yield swarm


def _leads(node: Node) -> bool:
    """Whether a manager knows of a leader that lives."""
    try:
        return "Leader Ready" in node.docker("node", "ls", "--format={{.ManagerStatus}} {{.Status}}").replace("*", "")
    except DockerError:
        return False


def test_a_leader_that_is_gone_takes_no_address_along_and_gives_none_away(managers: SwarmSite) -> None:
    """The next leader knows what is taken, of containers that ran on and of the dead host's, until that is removed."""
    dead, two, three = managers.nodes
    managers.create("lan", "10.65.0.0/29")
    for number, node in enumerate(managers.nodes, 1):
        node.start("lan", f"c{number}")
    lost = dead.address_of("c1")
    dead.host.close()
    wait_until(lambda: _leads(three), "new leader", seconds=AFTER_AN_ENGINE_DIED, every=0.5)

    three.start("lan", "c4")
    assert three.reaches("c4", two.address_of("c2"))
    assert lost not in three.addresses_in_use()
    two.start("lan", "c5")  # the last one of five
    assert lost not in two.addresses_in_use()

    wait_until(lambda: "Unreachable" in three.docker("node", "ls"), "end of node1", seconds=AFTER_AN_ENGINE_DIED)
    three.docker("node", "demote", "node1")
    three.docker("node", "rm", "--force", "node1")
    three.start("lan", "c6")
    assert three.address_of("c6") == lost
