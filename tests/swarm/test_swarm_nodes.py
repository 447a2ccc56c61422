"""Three nodes: one joins later, one is drained, one dies and comes back. No address ever has two living holders."""

from collections.abc import Iterator

import pytest

from lab import ENGINES
from lab.process import wait_until
from tests.swarm.swarm_site import SOON, SwarmSite

pytestmark = pytest.mark.by_turns


@pytest.fixture(scope="module", params=reversed(ENGINES))
def _three(request: pytest.FixtureRequest, _built: None) -> Iterator[SwarmSite]:
    with SwarmSite(*[request.param] * 3) as swarm:
        yield swarm


@pytest.fixture
def three(_three: SwarmSite) -> Iterator[SwarmSite]:
    """A manager and two workers, the same ones for all tests; afterwards nothing may be left on them."""
    yield _three
    _three.clean()


def test_a_node_that_joins_later_gets_the_network_with_its_first_container(three: SwarmSite) -> None:
    """Before, it has nothing of it; then the network stands on its own parent, with names and tasks as elsewhere."""
    one, two, later = three.nodes
    later.docker("swarm", "leave")
    three.manager.docker("node", "rm", "--force", "node3")
    three.create("lan", "10.65.0.0/24")
    one.start("lan", "c1")
    two.start("lan", "c2")

    three.join(later)
    three.wait_for_nodes(3)
    assert "lan" not in later.docker("network", "ls", "--format={{.Name}}").split()
    later.start("lan", "c3")
    assert later.stands_on("c3") == later.parent
    assert three.addresses_in_use() == sorted({node.address_of(f"c{n}") for n, node in enumerate(three.nodes, 1)})
    assert later.reaches("c3", "c1")
    assert two.reaches("c2", "c3")
    three.serve("web", "--mode=global")
    three.settles("web", lambda nodes: nodes == ["node1", "node2", "node3"])


def test_a_drained_node_hands_its_tasks_over_and_gives_their_addresses_back(three: SwarmSite) -> None:
    """Of five addresses tasks have three, and one moves; then two containers start elsewhere, so none is lost."""
    three.create("lan", "10.65.0.0/29")
    three.serve("web", "--replicas=3")
    three.settles("web", lambda nodes: nodes == ["node1", "node2", "node3"])
    three.manager.docker("node", "update", "--availability=drain", "node3")
    try:
        three.settles("web", lambda nodes: sorted(set(nodes)) == ["node1", "node2"] and len(nodes) == 3)
        wait_until(lambda: three.nodes[2].addresses_in_use() == [], "end of the task on node3", seconds=SOON, every=0.2)
        for number, node in enumerate(three.nodes[:2]):
            node.start("lan", f"c{number}")
        assert three.addresses_in_use() == [f"10.65.0.{last}" for last in range(2, 7)]
    finally:
        three.manager.docker("node", "update", "--availability=active", "node3")


def test_the_tasks_of_a_node_that_died_come_up_elsewhere(three: SwarmSite) -> None:
    """Its containers outlive its engine, and no other gets their addresses, until it is back and they are ended."""
    *others, dead = three.nodes
    three.create("lan", "10.65.0.0/24")
    dead.start("lan", "lives", "--ip=10.65.0.33")
    three.serve("web", "--replicas=6")
    three.settles("web", lambda nodes: nodes.count("node3") == 2 and len(nodes) == 6)
    before = dead.addresses_in_use()
    dead.host.kill_engine()

    three.settles("web", lambda nodes: len(nodes) == 6 and "node3" not in nodes)
    for number, node in enumerate(others):
        node.start("lan", f"c{number}")
    used = three.addresses_in_use()
    assert dead.addresses_in_use() == before
    assert len(used) == len(set(used)) == 6 + 2 + 3
    assert others[0].reaches("c0", "10.65.0.33")

    dead.host.restart_engine()
    three.wait_for_nodes(3)
    wait_until(lambda: dead.addresses_in_use() == [], "end of what ran there before", seconds=SOON, every=0.2)
    dead.docker("start", "lives")
    assert dead.address_of("lives") == "10.65.0.33"
    assert dead.reaches("lives", "c1")
    used = three.addresses_in_use()
    assert len(used) == len(set(used)) == 6 + 2 + 1
