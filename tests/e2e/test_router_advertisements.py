"""A router announces itself all the time while engines set an IPv6 gateway (moby#50898)."""

import re
import sys
from collections.abc import Iterator

import pytest

from lab import Host
from lab.process import wait_until
from lab.site import Site

LAN = ("--ipv6", "--subnet=10.5.0.0/24", "--gateway=10.5.0.1", "--subnet=fd05::/64", "--gateway=fd05::1")
HEED_NO_ROUTER = "--sysctl=net.ipv6.conf.default.accept_ra=0"
_FOUND_A_ROUTE = re.compile(r"failed to set .*file exists", re.DOTALL)
_ANNOUNCE = """
import contextlib, socket, struct, time
out = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)  # RFC 4861, 4.2: a default router
while True:
    with contextlib.suppress(OSError):  # its own address is not settled yet
        out.sendto(advertisement, ("ff02::1%eth1", 0))
    time.sleep(0.002)
"""


@pytest.fixture
def router(site: Site) -> Iterator[Host]:
    """A machine on the wire that announces itself to all as a router, 500 times a second."""
    with Host("router") as host:
        site.wire.plug(host)
        process = host.popen([sys.executable, "-c", _ANNOUNCE])
        probe = ["sh", "-c", "test $(cat /proc/net/snmp6 | awk '/^Icmp6OutRouterAdvertisements/ {print $2}') -gt 50"]
        wait_until(lambda: host.run(probe, check=False).returncode == 0, "advertisements", seconds=20)
        yield host
        process.kill()
        process.wait()


@pytest.mark.usefixtures("router")
def test_a_start_that_an_advertisement_breaks_leaves_nothing(site: Site) -> None:
    """The engine finds a route where it puts its own: the start fails with its words, or works; nothing is held."""
    site.create("lan", *LAN, "-o", "parent=eth1")
    held = site.driver.admin.addresses()
    for _ in range(3):
        done = site.host.run(["docker", "run", "--rm", "--network=lan", "alpine", "true"], check=False)
        assert done.returncode == 0 or _FOUND_A_ROUTE.search(done.stderr)
        assert site.driver.admin.addresses() == held


@pytest.mark.usefixtures("router")
@pytest.mark.parametrize("_running", ["newest"], indirect=True)
def test_a_container_that_heeds_no_router_has_the_gateway_of_its_network(site: Site) -> None:
    """Engines from 28 on can be told so for a container, as docs/limits.md says: then it starts every time."""
    site.create("lan", *LAN, "-o", "parent=eth1")
    for _ in range(6):
        routes = site.run("lan", HEED_NO_ROUTER, "alpine", "ip", "-6", "route")
        assert [line.split()[2] for line in routes.splitlines() if line.startswith("default")] == ["fd05::1"]
