"""A host with the newest engine, the driver and networks of both kinds, for what is measured through Docker."""

from collections.abc import Iterator
from contextlib import contextmanager

from lab import Host, Wire
from lab.driver import Driver

OURS, BUILT_IN, HOME = "ours", "builtin", "home"
YARDSTICK = "built-in macvlan"


@contextmanager
def site(name: str) -> Iterator[Host]:
    """The host, with networks `OURS` and `BUILT_IN`, and a built-in one more, `HOME`, each on a parent of its own."""
    with Wire() as wire, Host(name) as host:
        driver = Driver(host, "--log-level=info")
        driver.start()
        host.start_engine("newest")
        kinds = {OURS: ("macvlan-global", "--ipam-driver=macvlan-global"), BUILT_IN: ("macvlan",), HOME: ("macvlan",)}
        for number, (network, kind) in enumerate(kinds.items(), 1):
            parent, subnet = f"eth{number}", f"10.{64 + number}.0.0/16"
            wire.plug(host, parent)
            host.docker("network", "create", "-d", *kind, f"--subnet={subnet}", f"-oparent={parent}", network)
        yield host
        driver.stop()
