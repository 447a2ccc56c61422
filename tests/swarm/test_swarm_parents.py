"""Parents that differ between the nodes of a swarm: by what carries the subnet, by aliases, by files that change."""

from collections.abc import Iterator

import pytest

from lab import DockerError
from lab.process import wait_until
from plugin.description import NAME
from tests.swarm.swarm_site import SOON, Node, SwarmSite

pytestmark = pytest.mark.by_turns

CONFIG = "/etc/macvlan-global/config.toml"


def _configure(node: Node, text: str) -> None:
    """Give a node's driver a configuration, or none for "", and have it read that."""
    node.shell(f"mkdir -p {CONFIG.rpartition('/')[0]}; rm -f {CONFIG}")
    if text:
        node.host.run(["tee", CONFIG], stdin=text)
    wait_until(lambda: _disabled(node), "end of networks that use the plugin", seconds=SOON, every=0.2)
    node.docker("plugin", "enable", NAME)


def _disabled(node: Node) -> bool:
    """Whether the plugin could be switched off, which is refused while a network of it is on the node."""
    try:
        return bool(node.docker("plugin", "disable", NAME))
    except DockerError as refused:
        assert "is in use" in refused.stderr, refused
        return False


@pytest.fixture
def aliased(swarm: SwarmSite) -> Iterator[SwarmSite]:
    """The nodes, on each of which `uplink` stands for a list with its own interface in it."""
    for node in swarm.nodes:
        _configure(node, f'[parents]\nuplink = "bond0, {node.parent}"\n')
    yield swarm
    swarm.clean()
    for node in swarm.nodes:
        _configure(node, "")


def test_auto_is_what_carries_the_subnet_or_the_default_route(swarm: SwarmSite) -> None:
    """Each node finds its own: the interface with an address of the subnet, else the one with the default route."""
    one, two = swarm.nodes
    swarm.create("lan", "10.99.0.0/24", "--ip-range=10.99.0.128/25", parent="auto")
    one.start("lan", "c1", "--ip=10.99.0.201")
    two.start("lan", "c2")
    assert [node.stands_on(f"c{number}") for number, node in enumerate(swarm.nodes, 1)] == ["eth1", "eno7"]
    assert two.reaches("c2", "10.99.0.201")

    swarm.create("other", "10.65.0.0/24", parent="auto")
    assert "auto: " in two.refusal("run", "--rm", "--network=other", "alpine", "true")
    two.shell("ip route add default via 10.99.0.254")
    try:
        two.start("other", "c3")
        assert two.stands_on("c3") == "eno7"
    finally:
        two.shell("ip route del default")


def test_an_alias_means_on_each_node_what_its_configuration_says(aliased: SwarmSite) -> None:
    """One name for the network, and on each node the first entry of its own list that is there."""
    one, two = aliased.nodes
    aliased.create("lan", "10.65.0.0/24", parent="uplink")
    one.start("lan", "c1", "--ip=10.65.0.11")
    two.start("lan", "c2")
    assert (one.stands_on("c1"), two.stands_on("c2")) == ("eth1", "eno7")
    assert two.reaches("c2", "10.65.0.11")


def test_a_parent_file_is_read_anew_when_the_network_comes_to_the_node_again(swarm: SwarmSite) -> None:
    """The node forgets a network with its last container; what the file says by the next one counts."""
    _, two = swarm.nodes
    swarm.wire.plug(two.host, "spare0")
    two.shell("echo eno7 >/etc/parent.conf")
    swarm.create("lan", "10.65.0.0/24", "-oparent-file=/etc/parent.conf", parent="")
    two.start("lan", "c1")
    assert two.stands_on("c1") == "eno7"
    two.clean()
    two.shell("echo spare0 >/etc/parent.conf")
    two.start("lan", "c2")
    assert two.stands_on("c2") == "spare0"
    two.clean()
    two.shell("ip link delete spare0; rm /etc/parent.conf")
    refusal = two.refusal("run", "--rm", "--network=lan", "alpine", "true")
    assert "/etc/parent.conf" in refusal
    assert "deadline" not in refusal
