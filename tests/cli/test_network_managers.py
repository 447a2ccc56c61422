"""systemd-networkd beside links that the driver made, with the files that `install` writes."""

import contextlib
import sys
from pathlib import Path

import pytest

from lab import Host
from lab.process import wait_until
from macvlan_global.kernel.container_link import make_hostless
from macvlan_global.kernel.rtnl import RouteSocket

PROGRAM = (sys.executable, "-m", "macvlan_global")
NETWORKD = "/lib/systemd/systemd-networkd"
WILDCARD = "[Match]\nName=eth*\n[Network]\nDHCP=yes\nIPv6AcceptRA=yes\nAddress=192.0.2.7/24\n"
PREPARE = """
set -e
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/network
chown -R systemd-network /run/systemd/netif
mount -o remount,ro,bind /sys  # a machine without udev: networkd does not wait for it
cp "$1"/etc/systemd/network/* /run/systemd/network/
"""


@pytest.mark.parametrize("first", ["networkd", "links"])
def test_networkd_leaves_alone_what_the_driver_made(tmp_path: Path, first: str) -> None:
    """Though a wildcard matches it: the host gets no address on it. A link of the operator's is as he configured it."""
    log = tmp_path / "networkd.log"

    def make_links(host: Host) -> None:
        # stand-ins for sub-interfaces, which not every kernel has
        for name, peer in (("eth0.65", "wire65"), ("eth0.66", "wire66")):
            host.run(["ip", "link", "add", name, "type", "veth", "peer", "name", peer])
            if name == "eth0.65":
                with host.in_network(), contextlib.closing(RouteSocket()) as links:
                    assert make_hostless(links, name) == ""
            host.run(["ip", "link", "set", peer, "up"])
            host.run(["ip", "link", "set", name, "up"])

    def logged(*words: str) -> bool:
        return any(all(word in line for word in words) for line in log.read_text(errors="replace").splitlines())

    with Host("managed") as host:
        host.run([*PROGRAM, "install", "--root", str(tmp_path)])
        (tmp_path / "etc/systemd/network/10-all.network").write_text(WILDCARD)
        host.run(["sh", "-c", PREPARE, "prepare", str(tmp_path)])
        if first == "links":
            make_links(host)
        networkd = host.popen(["env", "SYSTEMD_LOG_LEVEL=debug", NETWORKD], log=log)
        try:
            if first == "networkd":
                wait_until(lambda: logged("lo: ", "Saved new link"), "start of networkd")
                make_links(host)
            wait_until(lambda: logged("eth0.65: ", "-> unmanaged"), "verdict on our link", seconds=30)
            wait_until(lambda: "192.0.2.7" in _addresses(host, "eth0.66"), "address of the other link", seconds=30)
        finally:
            networkd.kill()
            networkd.wait()
        assert _addresses(host, "eth0.65") == ""


def _addresses(host: Host, name: str) -> str:
    shown = host.run(["ip", "-brief", "address", "show", "dev", name]).stdout.split()
    return " ".join(shown[2:])
