"""A container with CAP_NET_ADMIN changes its interface, as appliances with a MAC of their own do, and keeps what it
has."""

import sys
from collections.abc import Iterator

import pytest

from lab import ENGINES, Host, Wire
from lab.driver import Driver
from lab.process import wait_until
from lab.site import Site, links

_AGE = """
import json, sqlite3
with sqlite3.connect("/var/lib/macvlan-global/state.db") as state:
    for key, value in state.execute("SELECT key, value FROM entries").fetchall():
        if key.startswith(("endpoints/", "addresses/")):
            record = json.loads(value)
            aged = json.dumps(record | {"at": record["at"] - 3600}).encode()
            state.execute("UPDATE entries SET value = ? WHERE key = ?", (aged, key))
"""
NEWEST = ENGINES[-1]
ADMIN = ("--cap-add=NET_ADMIN", "--ip=192.168.1.20")
NEW_MAC = "02:00:00:00:be:ef"


@pytest.fixture
def own_site() -> Iterator[Site]:
    """A site of its own with two wires, whose driver is stopped and started."""
    with Wire() as wire, Wire() as other, Host("changed") as host:
        wire.plug(host)
        other.plug(host, "eth2")
        driver = Driver(host)
        driver.start()
        host.start_engine(NEWEST)
        yield Site(wire, host, driver, NEWEST)
        driver.stop()


def _change(site: Site) -> None:
    """The container sets another MAC and another name; an hour goes by, and the driver is started again."""
    lines = "; ".join(f"ip link set {each}" for each in ("eth0 down", f"eth0 address {NEW_MAC}", "eth0 name wan"))
    site.inside("vm", "sh", "-c", f"{lines}; ip link set wan up")
    site.driver.stop()
    site.host.run([sys.executable, "-c", _AGE])
    site.driver.start()
    site.driver.wait_for_engine()


def test_a_container_that_changes_its_mac_and_name_keeps_its_address_and_its_parent(own_site: Site) -> None:
    """The next one is refused with its name, the network does not move to another parent, and in the end all goes."""
    network = ("--subnet=192.168.1.0/24", "--gateway=192.168.1.254", "-o", "parent=eth1,eth2")
    own_site.create("lan", *network)
    own_site.start("lan", "vm", *ADMIN)
    assert own_site.leg("vm")["ifalias"].startswith("mg-")
    _change(own_site)
    thief = ("run", "--rm", "--network=lan", "--ip=192.168.1.20", "alpine", "true")
    assert "address 192.168.1.20 is in use by" in own_site.refusal(*thief)
    named = "address 192.168.1.20 is in use by container vm on host changed"
    wait_until(lambda: named in own_site.refusal(*thief), "the container's name in the refusal")
    own_site.host.run(["ip", "link", "set", "eth1", "down"])
    refusal = own_site.refusal("run", "--rm", "--network=lan", "alpine", "true")
    assert "the parent eth1 of network lan cannot be used now, and containers run on it" in refusal
    assert own_site.leg("vm", "wan")["address"] == NEW_MAC
    own_site.host.run(["ip", "link", "set", "eth1", "up"])
    own_site.docker("rm", "-f", "vm")
    own_site.run("lan", "--ip=192.168.1.20", "alpine", "true")
    assert [name for name in links(own_site.host) if name.startswith("mg-")] == []


def test_a_passthru_network_carries_one_container_whatever_its_mac(own_site: Site) -> None:
    """The second one is refused with the name of the first."""
    own_site.create("lan", "--subnet=192.168.1.0/24", "-o", "parent=eth1", "-o", "mode=passthru")
    own_site.start("lan", "vm", *ADMIN)
    _change(own_site)
    second = ("run", "--rm", "--network=lan", "alpine", "true")
    assert "carries one container at a time" in own_site.refusal(*second)
    named = "carries one container at a time: container vm is on it"
    wait_until(lambda: named in own_site.refusal(*second), "the container's name in the refusal")
