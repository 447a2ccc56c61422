"""Where the commands of a page are run: a simulated host with an engine, the driver and two interfaces."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import Host, Wire
from lab.driver import Driver
from lab.site import Site

ADDRESS = "192.168.1.5/24"
ROUTER = "192.168.1.1"
CONFIG = '[parents]\nuplink = "bond0, eth1"\n'
"""The configuration of the host that the pages show; docs/parents.md explains it."""


@contextmanager
def host_of_the_pages() -> Iterator[Site]:
    """A host named alpha. `eth0` has an address and the default route, `eth1` has none; both are up."""
    with Wire() as wire, Host("alpha") as host:
        wire.plug(host, "eth0", addresses=[ADDRESS])
        wire.plug(host, "eth1")
        host.run(["ip", "route", "add", "default", "via", ROUTER, "dev", "eth0"])
        host.run(["mkdir", "-p", "/etc/macvlan-global"])
        host.run(["tee", "/etc/macvlan-global/config.toml"], stdin=CONFIG)
        driver = Driver(host)
        driver.start()
        host.start_engine()
        yield Site(wire, host, driver, "newest")
        driver.stop()


def say(site: Site, command: str) -> tuple[int, str]:
    """Run a command line as a user would; its exit code and all that it printed."""
    # the engine's tools come first in PATH, then ours: the command is called by its name
    tools = str(Path(sys.executable).parent)
    script = f'PATH="$PATH:{tools}"; export PATH COLUMNS; {{ {command}\n}} 2>&1'
    done = site.host.run(["sh", "-c", script], check=False, env={"COLUMNS": "110", "TERM": os.environ.get("TERM", "")})
    return done.returncode, done.stdout
