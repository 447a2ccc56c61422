"""What a container sees of its networks, in a form in which two ways to attach it can be compared.

Names of interfaces, indexes and ids differ between them, and MACs may; everything else must be the same.
"""

import json
from pathlib import Path
from typing import Any

from lab.site import Site

_ONLY_ONE_HAS = ("EndpointID", "NetworkID", "MacAddress", "DNSNames", "DriverOpts", "Aliases")
_OF_A_ROUTE = ("dst", "gateway", "prefsrc", "scope", "metric", "protocol")
# a link may come or go meanwhile: whoever compares looks again
_SHOW = """
ip -d -json addr show
echo [ $(ip -4 -json route show), $(ip -6 -json route show) ]
cd /proc/sys/net/ipv6/conf && grep . */disable_ipv6 || true
"""


def inside(site: Site, container: str, *command: str) -> str:
    """What a command of the host prints in the network of a running container."""
    return _in_network_of(site, _inspected(site, container), *command)


def names(site: Site, container: str) -> list[str]:
    """The names of a container's interfaces but the loopback, in order."""
    shown = json.loads(inside(site, container, "ip", "-json", "link", "show"))
    return sorted(str(each["ifname"]) for each in shown if each["ifname"] != "lo")


def seen(site: Site, container: str) -> dict[str, Any]:
    """Interfaces, addresses, routes, settings, resolver and what the engine says, all by the address of each leg."""
    found = _inspected(site, container)
    state = {key: found["State"][key] for key in ("Status", "Running", "Paused")}
    networks = found["NetworkSettings"]["Networks"].items()
    by_engine = {name: {key: leg[key] for key in leg if key not in _ONLY_ONE_HAS} for name, leg in networks}
    if not state["Running"]:
        return {"state": state, "engine": by_engine}
    links, routes, *ipv6_off = _in_network_of(site, found, "sh", "-c", _SHOW).splitlines()
    legs = {str(each["ifname"]): _address(each) for each in json.loads(links)}
    return {
        "state": state,
        "engine": by_engine,
        "links": {legs[each["ifname"]]: _link(each) for each in json.loads(links) if each["ifname"] != "lo"},
        "ipv6 off": {legs[name]: line for name, line in (each.split("/", 1) for each in ipv6_off) if name in legs},
        "routes": [_routes(family, legs) for family in json.loads(routes)],
        "resolver": _file(found, "etc/resolv.conf"),
        # in no order: an engine writes the container's addresses as they come to its mind
        "hosts": sorted(_file(found, "etc/hosts")),
    }


def _inspected(site: Site, container: str) -> dict[str, Any]:
    found: dict[str, Any] = site.engine("GET", f"/containers/{container}/json")
    return found


def _in_network_of(site: Site, found: dict[str, Any], *command: str) -> str:
    return site.host.run(["nsenter", f"--target={found['State']['Pid']}", "--net", "--", *command]).stdout


def as_lines(what: dict[str, Any]) -> list[str]:
    """The same, a line for each thing, for a difference that can be read."""
    return json.dumps(what, indent=1, sort_keys=True).splitlines()


def _file(found: dict[str, Any], path: str) -> list[str]:
    """A file as the container has it, which may be paused; its own name is another one on each host."""
    shown = Path(f"/proc/{found['State']['Pid']}/root", path).read_text()
    return [line.replace(found["Config"]["Hostname"], "OWN") for line in shown.splitlines()]


def _address(link: dict[str, Any]) -> str:
    """What a link is known by here: its first global address."""
    known = [each["local"] for each in link["addr_info"] if each["scope"] == "global"]
    return (
        str(known[0]) if known else f"{link['linkinfo']['info_kind'] if 'linkinfo' in link else 'lo'} without address"
    )


def _link(link: dict[str, Any]) -> dict[str, Any]:
    info = link.get("linkinfo", {})
    return {
        "kind": info.get("info_kind"),
        "mode": info.get("info_data", {}).get("mode"),
        "mtu": link["mtu"],
        "up": "UP" in link["flags"],
        "addresses": sorted(
            (each["local"], each["prefixlen"], each.get("broadcast", ""), each.get("nodad", False))
            for each in link["addr_info"]
            if each["scope"] == "global"
        ),
        "link-local": sum(each["scope"] == "link" for each in link["addr_info"]),
    }


def _routes(shown: list[dict[str, Any]], legs: dict[str, str]) -> list[str]:
    known = [
        {key: each[key] for key in _OF_A_ROUTE if key in each} | {"leg": legs.get(each["dev"], "new")} for each in shown
    ]
    return sorted(json.dumps(each, sort_keys=True) for each in known)
