"""A device on the LAN takes the address of a container; the ordinary life of containers is no conflict."""

import json
from collections.abc import Iterator

import pytest

from lab import Host
from lab.process import wait_until
from lab.site import Site

pytestmark = pytest.mark.by_turns

ADDRESS, TAKEN = "192.168.1.20", "192.168.1.2"


@pytest.fixture
def device(site: Site) -> Iterator[tuple[Host, str]]:
    """A machine that nobody told us of, plugged in as lan0, and its MAC."""
    with Host("device") as host:
        site.wire.plug(host, "lan0")
        yield host, str(json.loads(host.run(["ip", "-json", "link", "show", "dev", "lan0"]).stdout)[0]["address"])


def test_a_device_that_takes_a_container_s_address_is_reported(site: Site, device: tuple[Host, str]) -> None:
    """With both MACs, container and network; starts, stops and restarts before that were none. What the device uses
    besides is given to no container."""
    site.create("lan", "--subnet=192.168.1.0/24", "--gateway=192.168.1.254", "-o", "parent=eth1")
    site.start("lan", "web", f"--ip={ADDRESS}")
    site.docker("restart", "-t", "0", "web")
    site.docker("stop", "-t", "0", "web")
    site.docker("start", "web")
    site.run("lan", "alpine", "true")
    mac = str(site.leg("web")["address"])
    host, other = device
    admin = site.driver.admin
    for each in (f"{TAKEN}/24", "192.168.1.30/24"):
        host.run(["ip", "address", "add", each, "dev", "lan0"])
    wait_until(lambda: "eth1" in (watch.parents if (watch := admin.status().watch) else []), "the watch")
    assert admin.conflicts() == []
    host.run(["ip", "address", "add", f"{ADDRESS}/24", "dev", "lan0"])

    def reported() -> bool:
        for each in (TAKEN, ADDRESS):
            host.run(["ping", "-c", "1", "-W", "1", "-I", each, "192.168.1.99"], check=False)
        return "web" in {each.container for each in admin.conflicts()}  # the engine says it a moment after the start

    wait_until(reported, "the conflict", seconds=30)
    (found,) = admin.conflicts()
    assert (found.address, found.holder_mac, found.mac, found.parent) == (ADDRESS, mac, other, "eth1")
    assert (found.kind, found.container, found.network) == ("container", "web", "lan")
    assert any(
        f"address {ADDRESS} of container web is in conflict on eth1: {other}" in x for x in admin.status().problems
    )
    assert f"address {ADDRESS} of container web is in conflict" in site.driver.log_text()
    site.start("lan", "db")  # the one before had 192.168.1.1
    assert site.address("db", "lan") == "192.168.1.3"
