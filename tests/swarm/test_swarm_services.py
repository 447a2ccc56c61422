"""Services on a network of ours, found by name. Stacks and nodes that come and go have files of their own."""

from lab.process import wait_until
from tests.swarm.swarm_site import SOON, SwarmSite


def _addresses(swarm: SwarmSite, service: str, client: str = "client") -> set[str]:
    """What a name is resolved to in a container of the manager."""
    shown = swarm.manager.docker("exec", client, "nslookup", service)
    answers = [line.partition(":")[2].strip() for line in shown.splitlines() if line.startswith("Address")]
    return {each for each in answers if each.startswith("10.65.0.")}


def test_a_service_has_replicas_on_both_nodes_and_each_is_found_by_name(swarm: SwarmSite) -> None:
    """With --endpoint-mode dnsrr the name has the address of every task, also after scaling."""
    swarm.create("lan", "10.65.0.0/24")
    swarm.serve("web", "--replicas=2", "--replicas-max-per-node=2")
    swarm.settles("web", 2)
    assert {node for _, node in swarm.tasks("web")} == {"node1", "node2"}
    swarm.manager.start("lan", "client")
    wait_until(lambda: len(_addresses(swarm, "web")) == 2, "addresses of two tasks", seconds=SOON, every=0.2)
    swarm.manager.docker("service", "scale", "--detach", "web=4")
    wait_until(lambda: len(_addresses(swarm, "web")) == 4, "addresses of four tasks", seconds=SOON, every=0.2)
    assert all(swarm.manager.reaches("client", each) for each in _addresses(swarm, "web"))
