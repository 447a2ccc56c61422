"""The page about swarms, typed literally: its nodes, and writing down what the commands print now.

    .venv/bin/python -m tests.swarm.page

See tests/demo/tutorial.py for what its blocks look like.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from lab import Host
from lab.paths import ROOT
from tests.demo.tutorial import VERSION, rewrite
from tests.swarm.swarm_site import SwarmSite

PAGE = ROOT / "docs" / "swarm.md"
PROGRAMS = ("/usr/local/bin",)
"""Where the page puts the commands. The nodes have no others: neither our package nor a store."""


@contextmanager
def nodes_of_the_page() -> Iterator[dict[str, Host]]:
    """A manager and a worker without the plugin; what is put into /usr/local/bin there stays there."""
    with SwarmSite(VERSION, VERSION, installed=False) as swarm:
        for node in swarm.nodes:
            node.host.run(["mount", "-t", "tmpfs", "-o", "mode=755", "programs", *PROGRAMS])
        yield {node.host.name: node.host for node in swarm.nodes}


if __name__ == "__main__":
    with nodes_of_the_page() as nodes:
        rewrite(nodes, PAGE, PROGRAMS)
