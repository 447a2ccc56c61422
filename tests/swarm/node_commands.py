"""The commands of macvlan-global on a node, run as its operator would: from the plugin that is installed there."""

from plugin.__main__ import BUILD
from tests.swarm.swarm_site import Node

BROUGHT = BUILD / "plugin/rootfs/usr/bin/macvlan-global"
PLACE = "/run/bin/macvlan-global"


def command(node: Node, *arguments: str, check: bool = True) -> str:
    """What `macvlan-global ARGUMENTS` printed on a node.

    Raises:
        CommandError: it failed, and `check` is true.
    """
    node.host.run(["install", "-D", str(BROUGHT), PLACE])
    # no Python of the machine's may help: a node has none
    return node.host.run([PLACE, *arguments], check=check, env={"PYTHONPATH": "/nowhere"}).stdout
