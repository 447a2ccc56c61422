"""The commands on a node, which needs no Python for them: status, networks, addresses, and what the doctor says."""

import json
from functools import partial

import pytest

from lab.errors import CommandError
from lab.process import wait_until
from plugin.description import NAME
from tests.swarm.node_commands import command
from tests.swarm.swarm_site import SOON, Node, SwarmSite

pytestmark = pytest.mark.by_turns

SERVES = "/usr/bin/python3.11 -m macvlan_global serve"


def _pid(node: Node) -> int:
    """The plugin's process, as its node sees it."""
    same = ("--ns", str(node.host.engine.pid), "--nslist", "net")
    return int(node.host.run(["pgrep", "-xf", SERVES, *same]).stdout)


def _told(node: Node) -> dict[str, str]:
    """What the doctor finds in the swarm: what was seen, and what to do."""
    found = json.loads(command(node, "doctor", "--json", check=False))["findings"]
    return {each["seen"]: each["do"] for each in found if each["check"] == "swarm"}


def _conflicts_with(other: Node, node: Node) -> list[dict[str, object]]:
    """The conflicts that a node has seen, once another one uses an address that it has there by now."""
    other.host.run(["ping", "-c", "1", "-W", "1", "-I", "10.65.0.12", "10.65.0.99"], check=False)
    found: list[dict[str, object]] = json.loads(command(node, "conflicts", "--json"))
    return found


def test_the_commands_show_what_the_plugin_on_this_node_has(swarm: SwarmSite) -> None:
    """Its process, its network on the node's own parent, its container's addresses, and who else on the LAN uses one;
    and no service beside it."""
    worker = swarm.nodes[1]
    swarm.create("lan", "10.65.0.0/24", "-oipv6-subnet=fd00:65::/64")
    worker.start("lan", "c2", "--ip=10.65.0.12")
    status = json.loads(command(worker, "status", "--json"))
    assert (status["scope"], status["endpoints"], status["addresses"]) == ("swarm", 1, 2)
    assert (status["pid"], status["engine_sees_plugin"]) == (_pid(worker), True)
    (network,) = json.loads(command(worker, "networks", "--json"))
    assert (network["name"], network["parent"]) == ("lan", worker.parent)
    assert [each["subnet"] for each in network["subnets"]] == ["10.65.0.0/24", "fd00:65::/64"]
    found = json.loads(command(worker, "addresses", "lan", "--json"))
    assert {(each["address"], each["holder"]) for each in found} == {("10.65.0.12", "c2"), ("fd00:65::a41:c", "c2")}
    assert f"Parent:     {worker.parent}" in command(worker, "parents", "lan")
    with pytest.raises(CommandError, match="the managed plugin is the driver here"):
        command(worker, "install")
    manager, conflicts = swarm.manager, partial(_conflicts_with, swarm.manager, worker)
    manager.host.run(["ip", "address", "add", "10.65.0.12/24", "dev", manager.parent])
    try:
        wait_until(lambda: "c2" in {each["container"] for each in conflicts()}, "conflict", seconds=SOON, every=0.5)
    finally:
        manager.host.run(["ip", "address", "del", "10.65.0.12/24", "dev", manager.parent])
    (found,) = conflicts()
    assert (found["address"], found["container"], found["parent"]) == ("10.65.0.12", "c2", worker.parent)


def test_the_doctor_looks_at_the_plugin_and_its_state(swarm: SwarmSite) -> None:
    """All is well with the plugin; once it is disabled, that is the one error, and how to mend it."""
    worker = swarm.nodes[1]
    found = json.loads(command(worker, "doctor", "--json"))["findings"]
    seen = [each["seen"] for each in found if each["level"] == "ok"]
    assert f"the managed plugin {NAME} is enabled" in seen
    assert any(f"the driver (pid {_pid(worker)}) has" in each for each in seen)
    assert any("propagated-mount/state.db is sound" in each for each in seen)
    assert [each for each in found if each["check"] in {"driver", "socket"} and each["level"] != "ok"] == []
    worker.docker("plugin", "disable", "--force", NAME)
    try:
        found = json.loads(command(worker, "doctor", "--json", check=False))["findings"]
        assert [each["do"] for each in found if each["level"] == "error"] == [f"docker plugin enable {NAME}"]
    finally:
        worker.docker("plugin", "enable", NAME)


def test_a_manager_hears_what_is_wrong_in_the_swarm(swarm: SwarmSite) -> None:
    """A network with --ipv6, a service with a virtual address: what the doctor says to do about them helps."""
    manager = swarm.manager
    swarm.create("lan", "10.65.0.0/24")
    swarm.create("six", "10.66.0.0/24", "--ipv6", "--subnet=fd66::/64")
    quick = ("--detach", "--no-resolve-image")
    manager.docker("service", "create", *quick, "--init", "--network=lan", "--name=web", "alpine", "sleep", "600")
    swarm.wait_for_plugin()
    told = _told(manager)
    assert len(told) == 2
    (six,) = [do for seen, do in told.items() if "network six" in seen and "with --ipv6" in seen]
    assert "-o ipv6-subnet=" in six
    (web,) = [do for seen, do in told.items() if "service web resolves to a virtual address on lan" in seen]
    assert web == "docker service update --endpoint-mode dnsrr web"
    manager.docker("service", "update", *quick, "--endpoint-mode=dnsrr", "web")
    manager.docker("network", "rm", "six")
    assert list(_told(manager).values()) == [""]
    assert _told(swarm.nodes[1]) == {}
