"""Findings about host access: whether the host and its containers reach each other, where they shall. Pure."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from macvlan_global.doctor.facts import DoctorFacts, LinkFacts
from macvlan_global.doctor.findings import Finding, listed

CHECK = "host"
SHIM = "mgh-"
"""Prefix of the names of the host's own macvlan links."""


def is_shim(name: str) -> bool:
    """Whether an interface is, by its name, a macvlan link of the host itself that the driver made."""
    return name.startswith(SHIM)


def is_unreached(problem: str) -> bool:
    """Whether a problem of the driver's status is about containers that the host does not reach."""
    return problem.startswith("the host ")


def examine_host_access(facts: DoctorFacts) -> list[Finding]:
    """Nothing, if no network wants it."""
    wanting: dict[str, list[str]] = {}
    for each in facts.networks:
        if each.host_access and each.parent in facts.links:
            wanting.setdefault(each.parent, []).append(each.name)
    found = [each for parent, names in wanting.items() for each in _shim(parent, names, facts)]
    found += [_told(each) for each in facts.driver.unreached]
    found += [_unused(each) for each in facts.access_addresses if not _is_used(each, facts)]
    if wanting and facts.kernel.arp_ignore:
        seen = "net.ipv4.conf.all.arp_ignore is not 0: containers do not reach the host at its ordinary IPv4 address"
        found.append(Finding("warning", CHECK, seen, "sysctl net.ipv4.conf.all.arp_ignore=0"))
    return found


def _shim(parent: str, networks: list[str], facts: DoctorFacts) -> Iterator[Finding]:
    link = next((each for each in facts.links.values() if is_shim(each.name) and parent in each.below), None)
    who = f"network{'s' if len(networks) > 1 else ''} {listed(networks)}"
    if link is None:
        if facts.driver.problem:  # said already
            return
        seen = f"the host does not reach containers of {who}: it has no {SHIM} link on {parent}"
        yield Finding("warning", CHECK, seen, "macvlan-global repair, then see `macvlan-global status`")
    elif wrong := _wrong(link):
        yield Finding(
            "warning", CHECK, f"{link.name}, by which the host reaches {who}, {wrong}", "macvlan-global repair"
        )
    else:
        yield Finding("ok", CHECK, f"the host reaches containers of {who} over {link.name}")


def _wrong(link: LinkFacts) -> str:
    if not link.up:
        return "is down"
    if link.arp_filter is False:
        return "has arp_filter=0: it answers ARP for the host, beside its parent"
    return ""


def _is_used(address: str, facts: DoctorFacts) -> bool:
    subnets = [ip_network(cidr) for each in facts.networks if each.host_access for _, cidr in each.subnets]
    return any(ip_address(address) in each for each in subnets)


def _unused(address: str) -> Finding:
    seen = f"{address} of host_access_addresses is in no subnet of a network with host_access on this host"
    return Finding("note", CHECK, seen, "take it out, unless such a network is still to come")


def _told(problem: str) -> Finding:
    seen, _, do = problem.partition("; ")
    return Finding("warning", CHECK, seen, do or "see the log")
