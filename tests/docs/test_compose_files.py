"""The files of docs/compose.md are run by the real `docker compose`, with stand-ins for their images.

Beside the host of the pages there is a device on its LAN, which sees the containers as other devices do.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Host, engine
from lab.compose import STAND_IN_PORT, Project
from lab.process import tail, wait_until
from lab.site import Site
from tests.docs.gallery import PAGE, compose_files

FILES = compose_files()
ELSEWHERE = {"shop": "tests/cluster/test_compose_hosts.py", "valkey": "tests/swarm/test_swarm_stack.py"}
"""Files that need more than one host, and the tests that run them."""
GUESTS = "eth0.40"

MDNS = ("224.0.0.251", 5353)
HEAR = f"""
import socket, struct, sys
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.bind(("", {MDNS[1]}))
group = struct.pack("4s4s", socket.inet_aton("{MDNS[0]}"), socket.inet_aton(sys.argv[1]))
heard.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
print("listens", flush=True)
print(heard.recv(100).decode(), flush=True)
"""
SAY = f"""
import socket, sys
said = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
said.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(sys.argv[1]))
said.sendto(b"a lamp", {MDNS})
"""
DEVICE = "192.168.1.9"


@pytest.fixture(scope="module")
def device(_running: Site) -> Iterator[Host]:
    """Another device on the LAN of the host."""
    with Host("device") as host:
        _running.wire.plug(host, "eth0", addresses=[f"{DEVICE}/24", "fd00:1::9/64", "fd00:6::9/64"])
        _running.wire.plug(host, "guest0", addresses=["10.40.0.9/24"])
        yield host


def _project(site: Site, name: str) -> Project:
    return Project(site.host, FILES[name], name)


def _answers(host: Host, address: str) -> bool:
    """Whether a host gets an answer to one of three pings."""
    return host.run(["ping", "-c3", "-i0.2", "-W2", address], check=False).returncode == 0


def _wait_for_page(host: Host, address: str, of: str) -> None:
    """Return once a host gets the page of a stand-in at an address, which is the host name `of` its container."""
    fetch = ["busybox", "wget", "-q", "-O-", f"http://{address}:{STAND_IN_PORT}/"]
    wait_until(lambda: host.run(fetch, check=False).stdout.strip() == of, f"page of {of} at {address}")


def _mac_seen(host: Host, address: str) -> str:
    """The MAC that a host has for an address in its neighbour table."""
    return str(json.loads(host.run(["ip", "-json", "neigh", "show", "to", address]).stdout)[0]["lladdr"])


def test_every_file_of_the_page_is_run() -> None:
    """Each is run by a test of this module, or by one that has several hosts."""
    here = {name for name in FILES if f'_project(site, "{name}")' in Path(__file__).read_text()}
    root = Path(__file__).parents[2]
    there = {name for name, test in ELSEWHERE.items() if f'compose_files()["{name}"]' in (root / test).read_text()}
    assert here | there == FILES.keys()


def test_the_first_file_is_the_command_line_below_it(site: Site) -> None:
    """The network of the file is the one that `docker network create` makes on the page."""
    _project(site, "example").type("up", "-d")
    shown = site.engine("GET", "/networks/example_lan")
    assert shown["Options"] == {"mtu": "1400", "parent": "bond0, eth1"}
    assert shown["IPAM"] == {
        "Driver": "macvlan-global",
        "Options": None,
        "Config": [
            {
                "Subnet": "10.7.0.0/24",
                "IPRange": "10.7.0.64/26",
                "Gateway": "10.7.0.1",
                "AuxiliaryAddresses": {"printer": "10.7.0.9"},
            }
        ],
    }
    leg = site.endpoint("example-web-1", "example_lan")
    assert (leg["IPAddress"], leg["MacAddress"]) == ("10.7.0.20", "02:42:0a:07:00:14")


def test_a_home(site: Site, device: Host) -> None:
    """A DNS filter, a hub and a proxy share a network of the LAN, and work as the page says."""
    dns, home, web = (_project(site, "dns"), _project(site, "home"), _project(site, "web"))
    dns.type("up", "-d")
    _is_the_filter(site, device)
    dns.type("up", "-d", "--force-recreate")
    _is_the_filter(site, device)

    home.type("up", "-d")
    assert "via 192.168.1.1 dev lan" in site.inside("home-hub-1", "ip", "route", "get", "192.0.2.1")
    wait_until(lambda: site.reaches("home-hub-1", "broker"), "broker that is found by name")
    assert not site.reaches("home-broker-1", DEVICE)
    assert _hears(site, "home-hub-1", "192.168.1.54", device) == "a lamp"

    web.type("up", "-d", "--scale", "app=2")
    _wait_for_page(device, "192.168.1.80", of=site.inside("web-proxy-1", "hostname"))
    apps = {site.inside(f"web-app-{number}", "hostname") for number in (1, 2)}
    assert site.inside("web-proxy-1", "wget", "-q", "-O-", f"http://app:{STAND_IN_PORT}/") in apps
    assert "via 192.168.1.1 " in site.inside("web-proxy-1", "ip", "route", "get", "192.0.2.1")

    dns.type("down", "--volumes")  # the network stays for the others
    assert _answers(device, "192.168.1.54")
    for each in (home, web, dns):
        each.type("down", "--volumes")
    assert "lan" not in {each["Name"] for each in site.engine("GET", "/networks")}


def _is_the_filter(site: Site, device: Host) -> None:
    """The DNS filter has the addresses and the MAC of its file, for the LAN and for its host."""
    wait_until(lambda: all(_answers(device, each) for each in ("192.168.1.53", "fd00:1::53")), "answer to the LAN")
    assert _mac_seen(device, "192.168.1.53") == "02:42:c0:a8:01:35"
    wait_until(lambda: _answers(site.host, "192.168.1.53"), "answer to the host itself")


def _hears(site: Site, container: str, address: str, device: Host) -> str:
    """Text that a container received by multicast on the interface with this address: a device says it until then."""
    pid = site.docker("inspect", "-f", "{{.State.Pid}}", container)
    log = site.host.folder / "multicast.log"
    command = ["nsenter", f"--target={pid}", "--net", "--", sys.executable, "-c", HEAR, address]
    process = site.host.popen(command, log=log)
    wait_until(lambda: log.exists() and log.read_text() != "", "container that listens", explain=lambda: tail(log))

    def said() -> bool:
        device.run([sys.executable, "-c", SAY, DEVICE])
        return process.poll() is not None

    wait_until(said, "multicast from a device", explain=lambda: tail(log))
    return log.read_text().splitlines()[-1]


def test_ipv6_only(site: Site, device: Host) -> None:
    """Its container has no IPv4 address, and the LAN reaches it by IPv6."""
    six = _project(site, "six")
    six.type("up", "-d")
    assert site.inside("six-web-1", "ip", "-4", "-o", "address", "show", "eth0") == ""
    assert "default via fd00:6::1 dev eth0" in site.inside("six-web-1", "ip", "-6", "route")
    wait_until(lambda: _answers(device, "fd00:6::80"), "answer by IPv6")


def test_a_vlan_for_guests(site: Site, device: Host) -> None:
    """The container is in the VLAN of the trunk that there is; an interface of that name stands for the VLAN."""
    site.wire.plug(site.host, GUESTS)
    try:
        _project(site, "guests").type("up", "-d")
        _wait_for_page(device, "10.40.0.2", of=site.inside("guests-portal-1", "hostname"))
        assert site.leg("guests-portal-1")["linkinfo"]["info_data"]["mode"] == "private"
        _project(site, "guests").type("down")
    finally:
        site.host.run(["ip", "link", "delete", GUESTS])


@pytest.mark.needs("8021q")
def test_a_vlan_for_guests_on_a_trunk(site: Site, device: Host) -> None:
    """The same file with nothing prepared: the driver makes eth0.40, whose frames have the tag, and takes it away."""
    device.run(["ip", "link", "add", "link", "eth0", "name", GUESTS, "type", "vlan", "id", "40"])
    try:
        device.run(["ip", "address", "add", "10.40.0.10/24", "dev", GUESTS])
        device.run(["ip", "link", "set", GUESTS, "up"])
        guests = _project(site, "guests")
        guests.type("up", "-d")
        made = site.link(GUESTS)
        assert made
        assert (made["linkinfo"]["info_kind"], made["linkinfo"]["info_data"]["id"], made["link"]) == (
            "vlan",
            40,
            "eth0",
        )
        fetch = ["busybox", "wget", "-q", "-O-", f"http://10.40.0.2:{STAND_IN_PORT}/"]
        name = site.inside("guests-portal-1", "hostname")
        _route(device, "10.40.0.2", GUESTS)
        wait_until(lambda: device.run(fetch, check=False).stdout.strip() == name, "page of the portal, by its VLAN")
        _route(device, "10.40.0.2", "guest0")
        assert not _answers(device, "10.40.0.2")
        guests.type("down")
    finally:
        device.run(["ip", "link", "delete", GUESTS])
        device.run(["ip", "route", "del", "10.40.0.2/32"], check=False)


def _route(host: Host, address: str, device: str) -> None:
    host.run(["ip", "route", "replace", f"{address}/32", "dev", device])


def _stack(service: str = "", leg: str = "", network: str = "external: true") -> str:
    """A stack's file: one service on one network, and keys of each beside that."""
    return f"services: {{a: {{image: b{service}, networks: {{lan: {{{leg}}}}}}}}}\nnetworks: {{lan: {{{network}}}}}\n"


def _pool(key: str) -> str:
    return _stack(network=f"ipam: {{config: [{{subnet: 10.0.0.0/24, {key}}}]}}")


NO_KEYS = {
    "name": "name: x\n" + _stack(),
    "profiles": _stack(service=", profiles: [x]"),
    "scale": _stack(service=", scale: 2"),
    "mac_address": _stack(leg="mac_address: 02:42:0a:07:00:14"),
    "interface_name": _stack(leg="interface_name: lan"),
    "gw_priority": _stack(leg="gw_priority: 1"),
    "enable_ipv4": _stack(network="enable_ipv4: false"),
    "enable_ipv6": _stack(network="enable_ipv6: true"),
    "gateway": _pool("gateway: 10.0.0.1"),
    "ip_range": _pool("ip_range: 10.0.0.64/26"),
    "aux_addresses": _pool("aux_addresses: {printer: 10.0.0.9}"),
}
"""Keys that a stack's file may not have, each in one that has it."""


def _stack_config(folder: Path, text: str) -> str:
    """The refusal of a stack's file by `docker stack config`, "" if there is none. It asks no engine."""
    file = folder / "stack.yaml"
    file.write_text(text)
    command = [str(engine("newest").folder / "usr/bin/docker"), "stack", "config", "-c", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()


def test_a_stack_has_fewer_keys(tmp_path: Path) -> None:
    """The page names each key that `docker stack` refuses, and a stack's network is made without them."""
    section = PAGE.read_text().partition("## In a swarm")[2]
    for key, text in NO_KEYS.items():
        assert f"Additional property {key} is not allowed" in _stack_config(tmp_path, text)
        assert f"`{key}`" in section
    assert "depends_on must be a list" in _stack_config(
        tmp_path, _stack(service=", depends_on: {a: {condition: service_healthy}}")
    )
    assert _stack_config(tmp_path, _stack(leg="ipv4_address: 10.0.0.7")) == ""
