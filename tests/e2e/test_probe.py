"""A device on the wire that is not ours, and networks that ask the wire before a container gets an address."""

import json
from collections.abc import Iterator

import pytest

from lab import Host
from lab.site import Site

FOUR, SIX = "192.168.1.20", "fd18::20"
LAN = ("--ipv6", "--subnet=192.168.1.0/24", "--subnet=fd18::/64", "--gateway=192.168.1.254", "--gateway=fd18::fe")
ASKED = (*LAN, "-o", "parent=eth1", "-o", "probe=true")


class Device:
    """A machine that nobody told us of, with what `addresses` it has on the wire."""

    def __init__(self, host: Host) -> None:
        """It is plugged in as lan0."""
        self._host = host
        self.mac = str(json.loads(host.run(["ip", "-json", "link", "show", "dev", "lan0"]).stdout)[0]["address"])

    def add(self, *addresses: str) -> None:
        """It has these too, with prefix length."""
        for each in addresses:
            self._host.run(["ip", "address", "add", each, "dev", "lan0", *(["nodad"] if ":" in each else [])])

    def leave(self) -> None:
        """It is switched off."""
        self._host.run(["ip", "link", "set", "lan0", "down"])


@pytest.fixture
def device(site: Site) -> Iterator[Device]:
    """A device with an address of each family, on the wire of eth1."""
    with Host("device") as host:
        site.wire.plug(host, "lan0", addresses=[f"{FOUR}/24", f"{SIX}/64"])
        yield Device(host)


def test_a_duplicate_of_a_device_outside_is_refused_before_it_is_on_the_wire(site: Site, device: Device) -> None:
    """The wire is asked before anything is configured: docker names the address and the MAC, and nothing is left.

    The gateway may answer as it likes: it is nobody's duplicate.
    """
    device.add("192.168.1.254/24", "fd18::fe/64")
    site.create("lan", *ASKED)
    before = site.traces()
    said = site.refusal("run", "--rm", "--network=lan", f"--ip={FOUR}", "alpine", "true")
    assert f"address {FOUR} is in use on the segment: {device.mac} replies for it on eth1; use another" in said
    assert site.traces() == before
    said = site.refusal("run", "--rm", "--network=lan", "--ip=192.168.1.21", f"--ip6={SIX}", "alpine", "true")
    assert f"address {SIX} is in use on the segment: {device.mac} replies for it on eth1; use another" in said
    # the engine does not give back the IPv4 address of such a start; who asks for it has it all the same
    site.run("lan", "--ip=192.168.1.21", "--ip6=fd18::21", "alpine", "true")
    assert site.traces() == before
    problems = site.driver.admin.status().problems
    assert sorted(each.partition(",")[0] for each in problems) == [
        f"{FOUR} is in use on eth1 by {device.mac}",
        f"{SIX} is in use on eth1 by {device.mac}",
    ]
    device.leave()
    site.run("lan", f"--ip={FOUR}", f"--ip6={SIX}", "alpine", "true")
    assert site.driver.admin.status().problems == []


def test_addresses_of_our_choosing_pass_over_what_devices_have(site: Site, device: Device) -> None:
    """In both families, while their neighbours are given."""
    device.add("192.168.1.1/24", "192.168.1.2/24", "fd18::1/64")
    site.create("lan", *ASKED)
    site.start("lan", "one")
    leg = site.endpoint("one", "lan")
    assert (leg["IPAddress"], leg["GlobalIPv6Address"]) == ("192.168.1.3", "fd18::2")
    assert {each.address for each in site.driver.admin.addresses() if each.kind != "gateway"} == {
        "192.168.1.3",
        "fd18::2",
    }
    assert f"address 192.168.1.1 is passed over: {device.mac} replies for it on eth1" in site.driver.log_text()


def test_our_own_container_is_no_stranger_to_itself(site: Site) -> None:
    """With an address of its own it restarts, is killed and comes back, and its neighbour is refused by the books."""
    site.create("lan", *ASKED)
    site.start("lan", "web", f"--ip={FOUR}", f"--ip6={SIX}")
    site.docker("restart", "-t", "0", "web")
    site.docker("kill", "web")
    site.docker("start", "web")
    assert site.address("web", "lan") == FOUR
    said = site.refusal("run", "--rm", "--network=lan", f"--ip={FOUR}", "alpine", "true")
    assert f"address {FOUR} is in use by " in said
    assert "on the segment" not in said


def test_without_the_option_nobody_is_asked(site: Site, device: Device) -> None:
    """A duplicate is then the operator's, as with every other driver."""
    site.create("lan", *LAN, "-o", "parent=eth1")
    site.start("lan", "one", f"--ip={FOUR}")
    assert site.address("one", "lan") == FOUR
    assert f"in use on eth1 by {device.mac}" not in str(site.driver.admin.status().problems)
    command = site.create_command("other", "--subnet=192.168.2.0/24", "-o", "parent=eth1", "-o", "probe=yes")
    assert "-o probe=yes is neither true nor false" in site.refusal(*command)


def test_a_wire_without_a_carrier_does_not_keep_containers_from_starting(site: Site) -> None:
    """Nobody can be asked, which is said once; when the plug is in again, the wire is asked, and no more is said."""
    site.create("lan", *ASKED)
    site.wire.cut(site.host)
    try:
        site.start("lan", "one")
        site.start("lan", "two")
    finally:
        site.wire.mend(site.host)
    words = (
        "addresses of network lan are handed out without probing the segment: interface eth1 cannot be probed "
        "for addresses: it has no carrier"
    )
    (problem,) = site.driver.admin.status().problems
    assert problem.startswith(words)
    assert site.driver.log_text().count(words) == 1
    site.start("lan", "three")
    assert site.driver.admin.status().problems == []
