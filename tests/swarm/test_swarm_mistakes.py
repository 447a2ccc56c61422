"""What is wrong with a network is told to who starts a container on it, in our words and at once.

Whatever a node cannot make otherwise ends, 20 seconds later, in the engine's "context deadline exceeded".
"""

import pytest

from plugin.description import NAME
from tests.swarm.swarm_site import SwarmSite

# what is odd about the network: options, its parents, and what a container on node2 is told
MISTAKES = {
    "an unknown option": (["-oparnt=eth1"], "eth1,eno7", "unknown option -o parnt; did you mean 'parent'?"),
    "an impossible mode": (["-omode=loud"], "eth1,eno7", "-o mode=loud is not a macvlan mode"),
    "no parent at all": ([], "", "no parent interface was passed, use for example '-o parent="),
    "none that this node has": ([], "eth1", "no usable parent interface on this host: eth1: no such interface"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_who_starts_a_container_hears_what_is_wrong(swarm: SwarmSite, mistake: str) -> None:
    """The text names the mistake, and there is no deadline in it."""
    options, parent, said = MISTAKES[mistake]
    swarm.create("lan", "10.65.0.0/24", *options, parent=parent)
    refusal = swarm.nodes[1].refusal("run", "--rm", "--network=lan", "alpine", "true")
    assert said in refusal
    assert "deadline" not in refusal


def test_a_network_without_a_parent_on_one_node_works_on_the_other(swarm: SwarmSite) -> None:
    """The network is the swarm's: that one node cannot carry it is no reason for the others."""
    swarm.create("lan", "10.65.0.0/24", parent="eth1")
    swarm.nodes[1].refusal("run", "--rm", "--network=lan", "alpine", "true")
    swarm.nodes[0].start("lan", "c1")
    assert swarm.nodes[0].reaches("c1", "c1")


def test_two_nodes_never_give_one_ipv6_address(swarm: SwarmSite) -> None:
    """No container starts with an address that the swarm did not choose: not on the engine that lets it come so far."""
    swarm.manager.docker(
        *("network", "create", "-d", NAME, "--attachable", "--ipv6", "--subnet=10.65.0.0/24"),
        *("--subnet=fd65::/64", "-oparent=eth1,eno7", "lan"),
    )
    if swarm.manager.version == "oldest":
        refusal = swarm.nodes[1].refusal("run", "--rm", "--network=lan", "alpine", "true")
        assert "create the network again without --ipv6" in refusal
        assert "-o ipv6-subnet=" in refusal
    else:  # its managers never finish it, so no node is asked, and the run ends after 20 seconds
        assert swarm.manager.docker("network", "inspect", "-f", "{{.Driver}}", "lan") == ""
