"""A stack whose networks are ours: `docker stack deploy` deploys, scales and updates it, and names are found."""

from functools import partial

import pytest

from lab.compose import Project, give_images
from lab.process import wait_until
from tests.docs.gallery import compose_files
from tests.swarm.swarm_site import SOON, Node, SwarmSite

# five addresses beside the gateway: one that is not given back is soon missed
STACK = """
version: "3.8"
x-all: &all
  image: alpine
  command: sleep 600
  init: true
services:
  web:
    <<: *all
    environment: {{RELEASE: "{release}"}}
    networks: [lan]
    deploy:
      replicas: {replicas}
      endpoint_mode: dnsrr
      update_config: {{order: start-first, monitor: 100ms}}
  edge:
    <<: *all
    networks: [wide]
    deploy: {{replicas: 4, endpoint_mode: dnsrr}}
networks:
  lan:
    driver: macvlan-global:latest
    attachable: true
    driver_opts: {{parent: "eth1, eno7"}}
    ipam: {{config: [{{subnet: 10.65.0.0/29}}]}}
  wide:
    driver: macvlan-global:latest
    driver_opts: {{parent: "eth1, eno7"}}
    ipam: {{config: [{{subnet: 10.66.0.0/24}}, {{subnet: 10.67.0.0/24}}]}}
"""


def _deploy(swarm: SwarmSite, replicas: int, release: int) -> None:
    """Deploy the stack, or what changed of it; returns at once."""
    swarm.manager.host.run(["tee", "/etc/stack.yml"], stdin=STACK.format(replicas=replicas, release=release))
    swarm.manager.docker("stack", "deploy", "--resolve-image=never", "-c", "/etc/stack.yml", "shop")


def _containers(node: Node, service: str) -> list[str]:
    return node.docker("ps", "-q", f"--filter=label=com.docker.swarm.service.name={service}").split()


def _addresses(swarm: SwarmSite, service: str, network: str) -> set[str]:
    """What the tasks of a service have, by their engines."""
    return {node.address_of(container, network) for node in swarm.nodes for container in _containers(node, service)}


def _resolved(node: Node, container: str, name: str) -> set[str]:
    """What a name leads to in a container."""
    printed = node.host.run(["docker", "exec", container, "nslookup", name], check=False).stdout
    answers = [line.partition(":")[2].strip() for line in printed.splitlines() if line.startswith("Address")]
    return {each for each in answers if not each.startswith("127.")}


def _found_everywhere(swarm: SwarmSite, tasks: int) -> bool:
    """Whether a task on each node finds all that there are, under each name that the service has."""
    there = _addresses(swarm, "shop_web", "shop_lan")
    return len(there) == tasks and all(
        _resolved(node, _containers(node, "shop_web")[0], name) == there
        for node in swarm.nodes
        for name in ("web", "shop_web", "tasks.web")
    )


def test_a_stack_is_deployed_scaled_and_updated(swarm: SwarmSite) -> None:
    """Its tasks are on both nodes, reach and find each other, and leave their addresses to those that replace them."""
    one, two = swarm.nodes
    _deploy(swarm, replicas=2, release=1)
    swarm.settles("shop_web", lambda nodes: nodes == ["node1", "node2"])
    wait_until(lambda: _found_everywhere(swarm, 2), "names of two tasks on both nodes", seconds=SOON, every=0.2)
    here, there = _containers(one, "shop_web")[0], _containers(two, "shop_web")[0]
    task = two.docker("inspect", "-f", "{{.Name}}", there).strip("/")
    assert _resolved(one, here, task) == {two.address_of(there, "shop_lan")}
    assert one.reaches(here, two.address_of(there, "shop_lan"))

    _deploy(swarm, replicas=3, release=1)
    wait_until(lambda: _found_everywhere(swarm, 3), "names of three tasks on both nodes", seconds=SOON, every=0.2)

    _deploy(swarm, replicas=3, release=2)
    wait_until(lambda: _releases(swarm) == ["RELEASE=2"] * 3, "three new tasks", seconds=3 * SOON, every=0.2)
    wait_until(lambda: _found_everywhere(swarm, 3), "names of three new tasks", seconds=SOON, every=0.2)

    swarm.settles("shop_edge", 4)
    assert all(_has_its_gateway(node, each) for node in swarm.nodes for each in _containers(node, "shop_edge"))

    _deploy(swarm, replicas=2, release=2)
    wait_until(lambda: len(_addresses(swarm, "shop_web", "shop_lan")) == 2, "two tasks", seconds=SOON, every=0.2)
    for number in range(3):
        one.start("shop_lan", f"c{number}")
    assert len(set(swarm.addresses_in_use())) == len(swarm.addresses_in_use()) == 2 + 3 + 4


def _releases(swarm: SwarmSite) -> list[str]:
    """Which release each task has."""
    env = "{{range .Config.Env}}{{println .}}{{end}}"
    shown = [
        node.docker("inspect", "-f", env, container)
        for node in swarm.nodes
        for container in _containers(node, "shop_web")
    ]
    return [line for each in shown for line in each.splitlines() if line.startswith("RELEASE")]


def _has_its_gateway(node: Node, container: str) -> bool:
    """Whether the default route goes to the first address of the subnet that a container of network wide is in."""
    subnet = node.address_of(container, "shop_wide").rpartition(".")[0]
    return f"default via {subnet}.1 dev eth0" in node.inside(container, "ip", "route")


@pytest.mark.parametrize("_running", ["newest"], indirect=True)
def test_the_stack_of_the_compose_page_beside_a_project(swarm: SwarmSite) -> None:
    """Its tasks find each other by name; a project of `docker compose` on a node has its static address beside them."""
    one, _ = swarm.nodes
    swarm.create("lan", "192.168.1.0/24")
    for node in swarm.nodes:
        give_images(node.host, compose_files()["valkey"])
    swarm.manager.host.run(["tee", "/etc/valkey.yml"], stdin=compose_files()["valkey"])
    swarm.manager.docker("stack", "deploy", "--resolve-image=never", "-c", "/etc/valkey.yml", "valkey")
    web = Project(one.host, compose_files()["web"], "web")
    web.type("up", "-d")
    assert one.address_of("web-proxy-1") == "192.168.1.80"
    swarm.settles("valkey_primary", 1)
    swarm.settles("valkey_replica", 2)
    there = _addresses(swarm, "valkey_primary", "lan")
    tasks = [(node, task) for node in swarm.nodes for task in _containers(node, "valkey_replica")]
    wait_until(
        lambda: all(_resolved(node, task, "primary") == there for node, task in tasks),
        "name of the primary",
        seconds=SOON,
        every=0.2,
    )
    for node, task in tasks:
        wait_until(partial(node.reaches, task, "192.168.1.80"), "answer of the project", seconds=SOON)
    web.type("down")
