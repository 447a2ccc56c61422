"""The host and its containers reach each other: `-o host_access=true`."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from lab.process import wait_until
from lab.site import Site, links

pytestmark = pytest.mark.by_turns

SHIM, HOST = "mgh-eth1", "192.168.1.2"
LAN = ("--subnet=192.168.1.0/24", "--gateway=192.168.1.1", "-o", "parent=eth1", "-o", "host_access=true")
NAME, PORT = "192.0.2.53", "8053"
NAME_SERVER = f"""
import socket
here = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
here.bind(("::", 53))
while True:
    asked, asker = here.recvfrom(512)
    question = asked[12 : asked.index(0, 12) + 5]
    head, tail = b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0", b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\5\\0\\4"
    here.sendto(asked[:2] + head + question + tail + socket.inet_aton("{NAME}"), asker)
"""


@pytest.fixture
def web(site: Site) -> Iterator[str]:
    """The page that a web server of the host has, on all its addresses; strict reverse path filtering."""
    site.host.run(["sysctl", "-w", "net.ipv4.conf.all.rp_filter=1"])
    (site.host.run_folder / "page").write_text("hello")
    serving = site.host.popen(["busybox", "httpd", "-f", "-p", PORT, "-h", "/run"])
    yield "hello"
    serving.kill()
    site.host.run(["sysctl", "-w", "net.ipv4.conf.all.rp_filter=0"])


def _start_name_server(site: Site, network: str, name: str) -> None:
    """A container with the files of this machine, which have an interpreter."""
    interpreter = str(Path(sys.executable).resolve())
    files = ("-v", "/:/host:ro", "alpine", "chroot", "/host", interpreter, "-c", NAME_SERVER)
    site.docker("run", "-d", "--init", f"--network={network}", f"--name={name}", *files)


def _is_name_server(site: Site, address: str) -> bool:
    """Whether the host gets an answer of the name server in a container."""
    asked = site.host.run(["busybox", "nslookup", "-type=a", "dns.example", address], check=False)
    return NAME in asked.stdout


def _gets(site: Site, container: str, addresses: Iterable[str]) -> list[str]:
    """What a container gets from the web server of the host, at each address."""
    asked = r"printf 'GET /page HTTP/1.0\r\n\r\n' | nc -w5"
    return [site.inside(container, "sh", "-c", f"{asked} {each} {PORT}").splitlines()[-1] for each in addresses]


def _host_reaches(site: Site, address: str) -> bool:
    return site.host.run(["ping", "-c", "1", "-W", "2", address], check=False).returncode == 0


def test_host_and_containers_reach_each_other_and_no_address_is_spent(site: Site, web: str) -> None:
    """From the host's own address, which asks a name server in a container; what somebody deletes comes back, under
    running containers and by another run of the driver too; all of it is gone with the network."""
    site.host.run(["ip", "address", "add", f"{HOST}/24", "dev", "eth1"])
    try:
        site.create("lan", *LAN, "--aux-address", f"host={HOST}")
        site.start("lan", "web")
        address = site.address("web", "lan")
        assert site.reaches("web", HOST)
        assert _host_reaches(site, address)
        assert _gets(site, "web", [HOST]) == [web]
        _start_name_server(site, "lan", "dns")
        asked = site.address("dns", "lan")
        wait_until(lambda: _is_name_server(site, asked), "answer of the name server in a container")
        site.docker("rm", "-f", "dns")
        assert [each.kind for each in site.driver.admin.addresses()].count("host") == 0
        site.host.run(["ip", "route", "delete", address])
        wait_until(lambda: _host_reaches(site, address), "the route again")
        site.host.run(["ip", "link", "delete", SHIM])
        wait_until(lambda: _host_reaches(site, address), "the shim again")
        site.driver.kill()
        site.host.run(["ip", "link", "delete", SHIM])
        site.driver.start()
        site.driver.wait_for_engine()
        wait_until(lambda: _host_reaches(site, address), "the shim by another run")
        site.docker("restart", "-t", "0", "web")
        assert _host_reaches(site, site.address("web", "lan"))
        assert site.driver.admin.status().problems == []
        site.docker("rm", "-f", "web")
        assert address not in site.shell("ip route")
        site.docker("network", "rm", "lan")
        assert SHIM not in links(site.host)
    finally:
        site.host.run(["ip", "address", "delete", f"{HOST}/24", "dev", "eth1"])


def test_the_host_is_given_addresses_where_it_has_none(site: Site, web: str) -> None:
    """One of each family, shown as kind host; links that are made inside containers are reached as well."""
    direct = ("--ipv6", "--subnet=fd18::/64", "-o", "attach=direct")
    site.create("lan", *LAN, *direct)
    site.start("lan", "web")
    leg = site.endpoint("web", "lan")
    own = {each.address for each in site.driver.admin.addresses() if each.kind == "host"}
    assert len(own) == 2
    for address in own:
        assert site.reaches("web", address)
    assert _gets(site, "web", own) == [web, web]
    for address in (leg["IPAddress"], leg["GlobalIPv6Address"]):
        assert _host_reaches(site, address)
    private = ("--subnet=192.168.2.0/24", "-o", "parent=eth1", "-o", "host_access=true", "-o", "macvlan_mode=private")
    said = site.refusal(*site.create_command("other", *private))
    assert "-o host_access=true does not work in mode private" in said
    site.docker("rm", "-f", "web")
    site.docker("network", "rm", "lan")
    assert SHIM not in links(site.host)
