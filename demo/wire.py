"""A wire of the demo's own: a veth pair whose other end, in a namespace, plays the router."""

import json
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from demo.errors import DemoError
from demo.screen import Screen, attempt, run
from lab.packages import ensure_system_packages

PARENT = "mg-demo0"
NAMESPACE = "macvlan-global-demo"
PACKAGE = "iproute2"
"""Package of the command `ip`, which a minimal machine has not."""
SUBNETS = tuple(map(IPv4Network, ("192.168.1.0/24", "192.168.201.0/24", "172.31.201.0/24", "10.231.201.0/24")))
"""The seed's subnet, and others for machines where that one is in use."""


def choose_subnet(routed: list[IPv4Network]) -> IPv4Network:
    """The first of `SUBNETS` that this machine has no route to.

    Raises:
        DemoError: it has routes to all of them.
    """
    for subnet in SUBNETS:
        if not any(subnet.overlaps(each) for each in routed):
            return subnet
    raise DemoError(f"this machine has routes to all of {', '.join(map(str, SUBNETS))}; add a free one in demo/wire.py")


def routed_subnets() -> list[IPv4Network]:
    """Routes of this machine, but for its default route and the demo's own wire.

    Raises:
        LabError: the command `ip` is missing and cannot be installed.
    """
    ensure_system_packages(PACKAGE)
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all") or "[]")
    found = [ip_network(each["dst"]) for each in routes if each["dst"] != "default" and each.get("dev") != PARENT]
    return [each for each in found if isinstance(each, IPv4Network) and not each.is_loopback]


def ensure(screen: Screen, subnet: IPv4Network) -> None:
    """Lay the wire, anew if there is one. The router has the subnet's last address."""
    remove()
    router = f"{gateway(subnet)}/{subnet.prefixlen}"
    screen.run("ip", "netns", "add", NAMESPACE)
    screen.run("ip", "link", "add", PARENT, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
    screen.run("ip", "link", "set", PARENT, "up")
    screen.run("ip", "-n", NAMESPACE, "address", "add", router, "dev", "eth0")
    screen.run("ip", "-n", NAMESPACE, "link", "set", "eth0", "up")


def gateway(subnet: IPv4Network) -> str:
    """The address of the router, as in the seed: the last one."""
    return str(subnet.broadcast_address - 1)


def remove() -> None:
    """Take the wire away. Repeatable, and needs no command where there is nothing to take."""
    if Path("/sys/class/net", PARENT).exists():
        ensure_system_packages(PACKAGE)
        attempt("ip", "link", "delete", PARENT)
    if Path("/run/netns", NAMESPACE).exists():
        ensure_system_packages(PACKAGE)
        run("ip", "netns", "delete", NAMESPACE)
