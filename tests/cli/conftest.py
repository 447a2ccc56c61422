"""One host with the driver on it, without an engine, for all tests of the commands that ask the driver."""

from collections.abc import Iterator

import pytest

from lab import Host
from lab.driver import Driver
from tests.cli.plugin import Plugin

LAN, ISOLATED = "1a" * 32, "2b" * 32
METRICS = "127.0.0.1:9477"


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """A host with two interfaces that are up, eth1 and eth2."""
    with Host("cli") as made:
        for name, peer in (("eth1", "peer1"), ("eth2", "peer2")):
            made.run(["ip", "link", "add", name, "type", "veth", "peer", "name", peer])
            made.run(["ip", "link", "set", peer, "up"])
            made.run(["ip", "link", "set", name, "up"])
        yield made


@pytest.fixture(scope="session")
def driver(host: Host) -> Iterator[Driver]:
    """A running driver with two networks and one container's leg.

    LAN has two subnets and a list of parents of which the second exists; the parent of ISOLATED is down by now.
    """
    running = Driver(host, "--metrics", METRICS)
    running.start()
    plugin = Plugin(host)
    plugin.create_network(LAN, {"10.65.0.0/24": "10.65.0.1", "fd65::/64": "fd65::1"}, parent="eth7, eth1")
    plugin.create_network(ISOLATED, {"10.66.0.0/24": "10.66.0.1"}, parent="eth2", macvlan_mode="private")
    plugin.create_endpoint(LAN, "3c" * 32, "10.65.0.0/24", "10.65.0.9")
    host.run(["ip", "link", "set", "eth2", "down"])
    yield running
    running.stop()
