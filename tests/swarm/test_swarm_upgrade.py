"""The plugin is upgraded from a registry, or replaced, while containers and a service's tasks run on the node."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.process import wait_until
from lab.registry import Registry
from plugin.__main__ import BUILD
from plugin.description import NAME
from tests.swarm.swarm_site import SOON, Node, SwarmSite

pytestmark = pytest.mark.by_turns

LEVEL = "MACVLAN_GLOBAL_LOG_LEVEL=debug"
NEXT = "Macvlan networks, the next release"


@pytest.fixture
def release(swarm: SwarmSite, tmp_path: Path) -> Iterator[str]:
    """Where the worker can get the next release: a plugin that says so in its description, pushed to a registry."""
    worker = swarm.nodes[1]
    folder = tmp_path / "plugin"
    shutil.copytree(BUILD / "plugin", folder, symlinks=True)
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | {"description": NEXT}))
    (folder / "rootfs/etc/release").write_text(NEXT)  # engines take no two plugins with the same files
    with Registry(worker.host) as registry:
        reference = f"{registry.address}/macvlan-global:next"
        worker.docker("plugin", "create", reference, str(folder))
        worker.docker("plugin", "push", reference)
        worker.docker("plugin", "rm", reference)
        yield reference


def _plugin(node: Node, field: str) -> str:
    return node.docker("plugin", "inspect", "-f", f"{{{{.{field}}}}}", NAME)


def test_an_upgrade_while_containers_run(swarm: SwarmSite, release: str) -> None:
    """They reach each other all the time; afterwards the driver knows them, and gives back what they had."""
    manager, worker = swarm.nodes
    swarm.create("lan", "10.65.0.0/24")
    swarm.serve("web", "--mode=global")
    swarm.settles("web", 2)
    manager.start("lan", "c1", "--ip=10.65.0.11")
    worker.start("lan", "c2", "--ip=10.65.0.12")
    worker.start("lan", "c3", "--ip=10.65.0.13")
    before, used = _plugin(worker, "Id"), swarm.addresses_in_use()

    assert "is in use" in worker.refusal("plugin", "disable", NAME)
    worker.docker("plugin", "disable", "--force", NAME)
    worker.docker("plugin", "set", NAME, LEVEL)
    worker.docker("plugin", "upgrade", "--skip-remote-check", "--grant-all-permissions", NAME, release)
    assert manager.reaches("c1", "10.65.0.12")
    worker.docker("plugin", "enable", NAME)
    assert (_plugin(worker, "Id"), _plugin(worker, "Config.Description")) == (before, NEXT)
    assert swarm.addresses_in_use() == used
    assert LEVEL in _plugin(worker, "Settings.Env")  # as the documents say

    worker.docker("stop", "c2")
    worker.docker("start", "c2")
    assert worker.address_of("c2") == "10.65.0.12"
    wait_until(lambda: manager.reaches("c1", "c2"), "name of c2 on the other node", seconds=SOON)
    worker.start("lan", "c4")
    assert worker.reaches("c4", "c3")
    worker.docker("rm", "-f", "c2", "c3")
    worker.start("lan", "c5", "--ip=10.65.0.13")
    assert manager.reaches("c1", "10.65.0.13")
    swarm.manager.docker("service", "update", "--detach", "--force", "--no-resolve-image", "web")
    wait_until(lambda: len(set(swarm.addresses_in_use())) == 5, "tasks in place of those", seconds=SOON, every=0.2)


def test_the_plugin_is_removed_and_made_anew_while_containers_run(swarm: SwarmSite) -> None:
    """Without a registry: the state is lost, containers run on, and the driver serves them as if it were not."""
    manager, worker = swarm.nodes
    swarm.create("lan", "10.65.0.0/24")
    manager.start("lan", "c1", "--ip=10.65.0.11")
    for last in (12, 13, 14):
        worker.start("lan", f"c{last}", f"--ip=10.65.0.{last}")
    before = worker.addresses_in_use()
    worker.docker("plugin", "disable", "--force", NAME)
    worker.docker("plugin", "rm", "--force", NAME)
    worker.install()
    assert worker.addresses_in_use() == before
    assert manager.reaches("c1", "10.65.0.12")

    worker.start("lan", "c15", "--ip=10.65.0.15")
    worker.docker("restart", "c12")
    worker.docker("stop", "c13")
    assert worker.addresses_in_use() == ["10.65.0.12", "10.65.0.14", "10.65.0.15"]
    worker.docker("start", "c13")
    worker.docker("rm", "-f", "c14")
    worker.start("lan", "c16", "--ip=10.65.0.14")
    for last in range(12, 16):
        assert manager.reaches("c1", f"10.65.0.{last}")
