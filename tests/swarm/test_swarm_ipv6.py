"""IPv6 beside IPv4 in a swarm: containers and tasks on both nodes have it, and no store is asked for it."""

import json
from typing import Any

import pytest

from lab.process import wait_until
from tests.swarm.swarm_site import SOON, Node, SwarmSite

pytestmark = pytest.mark.by_turns

BESIDE = ("-oipv6-subnet=fd00:65::/64", "-oipv6-gateway=fd00:65::1")


def _leg(node: Node, container: str) -> dict[str, Any]:
    """A container's leg in network lan, as `docker inspect` shows it."""
    found: dict[str, Any] = json.loads(node.docker("inspect", container))[0]["NetworkSettings"]["Networks"]["lan"]
    return found


def test_containers_on_two_nodes_reach_each_other_over_ipv6(swarm: SwarmSite) -> None:
    """The address follows from the IPv4 address, inspect shows it, and the default route leads to the gateway.

    It is the same after a restart of the engine, which learns of it from nobody else.
    """
    manager, worker = swarm.nodes
    swarm.create("lan", "10.65.0.0/24", *BESIDE)
    manager.start("lan", "c1", "--ip=10.65.0.11")
    worker.start("lan", "c2", "--ip=10.65.0.12")
    assert manager.reaches("c1", "fd00:65::10.65.0.12")
    assert worker.reaches("c2", "fd00:65::a41:b")
    assert manager.reaches("c1", "10.65.0.12")
    leg = _leg(worker, "c2")
    assert (leg["GlobalIPv6Address"], leg["GlobalIPv6PrefixLen"], leg["IPv6Gateway"]) == (
        "fd00:65::a41:c",
        64,
        "fd00:65::1",
    )
    assert "default via fd00:65::1 dev eth0" in worker.docker("exec", "c2", "ip", "-6", "route")
    worker.host.restart_engine()
    wait_until(lambda: swarm.ready() == 2, "node2 that is ready again", seconds=SOON, every=0.2)
    worker.docker("start", "c2")
    assert _leg(worker, "c2")["GlobalIPv6Address"] == "fd00:65::a41:c"
    assert worker.reaches("c2", "fd00:65::a41:b")


def test_a_node_and_its_containers_reach_each_other(swarm: SwarmSite) -> None:
    """With host access, by the plugin: from the node's own IPv4 address in the subnet."""
    node = swarm.manager
    node.shell(f"ip address add 10.65.0.5/24 dev {node.parent}")
    try:
        swarm.create("lan", "10.65.0.0/24", "-ohost_access=true")
        node.start("lan", "c1", "--ip=10.65.0.11")
        assert node.reaches("c1", "10.65.0.5")
        node.shell("ping -c1 -W5 10.65.0.11")
        assert "10.65.0.11 " in node.shell(f"ip route show dev mgh-{node.parent}")
    finally:
        node.shell(f"ip address del 10.65.0.5/24 dev {node.parent}")


def test_tasks_of_a_service_have_ipv6_addresses_of_their_own(swarm: SwarmSite) -> None:
    """Each on its node, and each answers the others; without a gateway there is no default route."""
    swarm.create("lan", "10.65.0.0/24", BESIDE[0])
    common = ("--detach", "--init", "--network=lan", "--endpoint-mode=dnsrr", "--no-resolve-image", "--replicas=3")
    swarm.manager.docker("service", "create", *common, "--name=web", "alpine", "sleep", "600")
    wait_until(lambda: len(swarm.tasks("web")) == 3, "three tasks", seconds=SOON, every=0.2)
    found = {
        _leg(node, container)["GlobalIPv6Address"]: node
        for node in swarm.nodes
        for container in node.docker("ps", "-q").split()
    }
    assert len(found) == 3
    assert set(found.values()) == set(swarm.nodes)
    swarm.manager.start("lan", "client")
    assert all(swarm.manager.reaches("client", each) for each in found)
    assert "default" not in swarm.manager.docker("exec", "client", "ip", "-6", "route")


def test_a_gateway_that_a_container_may_be_given_is_refused(swarm: SwarmSite) -> None:
    """The container's user hears why; the next one, with a better gateway, starts."""
    swarm.create("lan", "10.65.0.0/24", BESIDE[0], "-oipv6-gateway=fd00:65::10.65.0.9")
    refusal = swarm.manager.refusal("run", "--rm", "--network=lan", "alpine", "true")
    assert "-o ipv6-gateway=fd00:65::a41:9 is the IPv6 address of the container with 10.65.0.9" in refusal
