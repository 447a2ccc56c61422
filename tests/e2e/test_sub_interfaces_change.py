"""A sub-interface that we made is deleted, set down or left behind by a crash: it is made again, or taken away."""

from collections.abc import Iterator

import pytest

from lab import Host
from lab.process import wait_until
from lab.site import links
from tests.e2e.crash_site import CrashSite, crash_at_every_change

pytestmark = pytest.mark.needs("8021q")

NETWORK = ("--subnet=192.168.65.0/24", "--gateway=192.168.65.254", "-o", "parent=eth1.65")


class VlanSite(CrashSite):
    """A site whose network stands on a sub-interface of ours."""

    def create_network(self) -> None:
        """The operation `docker network create`."""
        self.create("mac", *NETWORK)

    def addresses_in_use(self) -> set[str]:
        """The gateway of the network, if there is one; no container runs here."""
        return {"192.168.65.254"} if self.has_network() else set()

    def put_right(self) -> None:
        """Repair; then the sub-interface is there if and only if its network is."""
        super().put_right()
        assert ("eth1.65" in links(self.host)) == self.has_network()


@pytest.fixture(scope="module")
def vlan() -> Iterator[VlanSite]:
    """A host with the newest engine and a driver that can be told to die."""
    with VlanSite.running("newest") as site:
        yield site


def test_a_sub_interface_deleted_behind_our_back(vlan: VlanSite) -> None:
    """The next container has it made again, and so has a repair, which says why."""
    vlan.with_network()
    vlan.host.run(["ip", "link", "delete", "eth1.65"])
    vlan.start("mac", "one", "--ip=192.168.65.10")
    assert "0% packet loss" in vlan.run("mac", "alpine", "ping", "-c1", "-W2", "192.168.65.10")
    vlan.docker("rm", "-f", "one")
    vlan.host.run(["ip", "link", "delete", "eth1.65"])
    corrections = vlan.driver.admin.repair(dry_run=False, grace=0).corrections
    assert [each.subject for each in corrections] == ["sub-interface eth1.65 (VLAN 65 on eth1)"]
    assert "network mac uses it, and it is gone" in corrections[0].reason
    assert "eth1.65" in links(vlan.host)


def test_a_sub_interface_of_ours_that_is_set_down(vlan: VlanSite) -> None:
    """What we made we also set up again."""
    vlan.with_network()
    vlan.host.run(["ip", "link", "set", "eth1.65", "down"])
    assert vlan.run("mac", "alpine", "true") == ""
    assert "UP" in vlan.host.run(["ip", "link", "show", "eth1.65"]).stdout.split("<")[1].split(">")[0].split(",")


def test_a_device_in_the_vlan_that_takes_an_address_is_reported(vlan: VlanSite) -> None:
    """With the VLAN. One that has the address in another VLAN, or without a tag, is none."""
    vlan.with_network()
    vlan.start("mac", "web", "--ip=192.168.65.20")
    admin = vlan.driver.admin
    with Host("device") as device:
        vlan.wire.plug(device, "lan0", addresses=["192.168.65.20/24"])
        for number in (65, 66):
            link = f"lan0.{number}"
            device.run(["ip", "link", "add", "link", "lan0", "name", link, "type", "vlan", "id", str(number)])
            device.run(["ip", "link", "set", link, "address", f"02:00:00:00:00:{number}", "up"])
            device.run(["ip", "address", "add", "192.168.65.20/24", "dev", link])
        wait_until(lambda: "eth1.65" in (watch.parents if (watch := admin.status().watch) else []), "the watch")

        def seen() -> bool:
            for link in ("lan0", "lan0.66", "lan0.65"):
                device.run(["arping", "-c", "1", "-U", "-I", link, "192.168.65.20"], check=False)
            return "web" in {each.container for each in admin.conflicts()}  # the name comes after the start

        wait_until(seen, "conflict", seconds=30)
    vlan.docker("rm", "-f", "web")  # the tests that follow remove the network
    (found,) = admin.conflicts()
    assert (found.address, found.container, found.mac) == ("192.168.65.20", "web", "02:00:00:00:00:65")
    assert (found.parent, found.vlan) == ("eth1.65", 65)


def test_network_create_survives_a_crash_at_every_change(vlan: VlanSite) -> None:
    """No sub-interface is left without an owner, and no network without its sub-interface."""
    crash_at_every_change(vlan, vlan.without_network, vlan.create_network, at_least=9)


def test_network_removal_survives_a_crash_at_every_change(vlan: VlanSite) -> None:
    """The sub-interface goes with its network, whenever the driver dies."""
    crash_at_every_change(vlan, vlan.with_network, vlan.remove_network, at_least=5)
    vlan.without_network()
    assert links(vlan.host) == ["lo", "eth1"]
