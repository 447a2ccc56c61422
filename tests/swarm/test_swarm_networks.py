"""Networks of a swarm: made on a manager, and there on every node, on that node's own parent."""

from lab import ENGINES
from tests.swarm.node_commands import command
from tests.swarm.swarm_site import SwarmSite

OLDEST = ENGINES[0]


def test_containers_on_two_nodes_reach_each_other_by_address_and_name(swarm: SwarmSite) -> None:
    """Static addresses are what was asked for, and either node's container finds the other one by name."""
    one, two = swarm.nodes
    swarm.create("lan", "10.65.0.0/24")
    one.start("lan", "c1", "--ip=10.65.0.11")
    two.start("lan", "c2", "--ip=10.65.0.12")
    assert one.reaches("c1", "10.65.0.12")
    assert two.reaches("c2", "10.65.0.11")
    assert one.reaches("c1", "c2")
    assert two.reaches("c2", "c1")


def test_addresses_are_unique_in_the_swarm(swarm: SwarmSite) -> None:
    """Containers that ask for no address get different ones, whichever node they are on."""
    swarm.create("lan", "10.65.0.0/24")
    for number, node in enumerate((*swarm.nodes, *swarm.nodes), 1):
        node.start("lan", f"c{number}")
    found = [
        node.docker("inspect", "-f", "{{.NetworkSettings.Networks.lan.IPAddress}}", container)
        for node in swarm.nodes
        for container in node.docker("ps", "-q").split()
    ]
    assert len(set(found)) == 4
    assert all(each.startswith("10.65.0.") for each in found)


def test_each_node_uses_its_own_parent(swarm: SwarmSite) -> None:
    """Of one list, a node takes the entry that it has; the link in the container stands on it."""
    swarm.create("lan", "10.65.0.0/24")
    for number, node in enumerate(swarm.nodes, 1):
        node.start("lan", f"c{number}")
        shown = node.docker("exec", f"c{number}", "ip", "link", "show", "eth0")
        index = shown.partition("@if")[2].partition(":")[0]
        assert node.host.run(["cat", f"/sys/class/net/{node.parent}/ifindex"]).stdout.strip() == index


def test_each_node_reads_its_own_parent_file(swarm: SwarmSite) -> None:
    """A file below /etc of the node names the parent, in either of its two forms."""
    forms = ("{}\n", '[macvlan]\nparent = "nosuch0, {}"\n')
    for node, form in zip(swarm.nodes, forms, strict=True):
        node.host.run(["tee", "/etc/parent.conf"], stdin=form.format(node.parent))
    swarm.create("lan", "10.65.0.0/24", "-oparent-file=/etc/parent.conf", parent="")
    for number, node in enumerate(swarm.nodes, 1):
        node.start("lan", f"c{number}", f"--ip=10.65.0.{10 + number}")
    assert swarm.nodes[0].reaches("c1", "10.65.0.12")


def test_each_subnet_has_its_own_gateway(swarm: SwarmSite) -> None:
    """A network of two subnets: the address decides which one a container is in, and its default route."""
    swarm.create("lan", "10.65.0.0/24", "--subnet=10.66.0.0/24", "--gateway=10.66.0.1")
    for node, subnet in zip(swarm.nodes, ("10.65.0", "10.66.0"), strict=True):
        routes = node.docker("run", "--rm", "--network=lan", f"--ip={subnet}.9", "alpine", "ip", "route")
        assert f"default via {subnet}.1 dev eth0" in routes


def test_a_range_keeps_the_rest_for_others(swarm: SwarmSite) -> None:
    """The swarm gives addresses from the range only; outside of it they can be asked for."""
    swarm.create("lan", "10.65.0.0/24", "--ip-range=10.65.0.128/25")
    given = [node.address("lan") for node in swarm.nodes]
    assert all(int(each.partition("/")[0].rpartition(".")[2]) >= 128 for each in given)


def test_a_network_that_is_removed_leaves_nothing_on_the_nodes(swarm: SwarmSite) -> None:
    """Once its last container on a node ends, the node's driver forgets the network."""
    swarm.create("lan", "10.65.0.0/24")
    for number, node in enumerate(swarm.nodes, 1):
        node.start("lan", f"c{number}")
    for node in swarm.nodes:
        node.clean()
    swarm.manager.docker("network", "rm", "lan")
    assert "lan" not in swarm.manager.docker("network", "ls", "--format={{.Name}}").split()


def test_links_that_are_made_inside_containers(swarm: SwarmSite) -> None:
    """With names of their own where the engine has the namespace in time, and in mode plain where it has not."""
    manager, worker = swarm.nodes
    swarm.create("lan", "10.65.0.0/24", "-oifname=wan")
    manager.start("lan", "c1")
    worker.start("lan", "c2")
    named = worker.version != OLDEST
    assert worker.reaches("c2", "c1")
    assert "default via 10.65.0.1 dev " + ("wan0" if named else "eth0") in worker.inside("c2", "ip", "route")
    assert ("attached in mode plain" in command(worker, "status")) == (not named)
