"""Findings about host access: whether the host and its containers reach each other, where they shall. Pure."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from macvlan_global.doctor.facts import DoctorFacts, FilterChain, LinkFacts, NetworkFacts
from macvlan_global.doctor.findings import Finding, listed
from macvlan_global.doctor.packet_filter import DIRECTIONS, passage

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
    made = (each for each in facts.links.values() if is_shim(each.name))
    # on a macvlan link it stands on what that one stands on
    link = next((each for each in made if parent in each.below or each.name == f"{SHIM}{parent}"), None)
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
    elif missing := _not_led_to(link, parent, facts):
        seen = f"the host has no route to {listed(missing)} over {link.name}"
        yield Finding("warning", CHECK, seen, "macvlan-global repair, then see `macvlan-global status`")
    else:
        yield Finding("ok", CHECK, f"the host reaches containers of {who} over {link.name}")
    if link:
        yield from _filtered(link.name, parent, who, facts)


def _not_led_to(link: LinkFacts, parent: str, facts: DoctorFacts) -> list[str]:
    """Addresses of running containers without a route; none if the driver says itself which it does not reach."""
    running = [each for network in facts.networks if network.host_access for each in _on(network, parent)]
    return [] if facts.driver.unreached else [each for each in running if each not in link.leads_to]


def _on(network: NetworkFacts, parent: str) -> tuple[str, ...]:
    return network.running if network.parent == parent else ()


def _filtered(shim: str, parent: str, who: str, facts: DoctorFacts) -> Iterator[Finding]:
    """Chains that drop packets over the host's link, unless a rule of theirs accepts some by that link's name."""
    for chain in (each for each in facts.filters if each.hook):
        over, beside = passage(chain, shim, facts.filters), passage(chain, parent, facts.filters)
        if over.verdict == "accept" or over.accepting - beside.accepting:
            continue
        where, out = f"the firewall's chain {_shown(chain)}", chain.hook == "output"
        if beside.verdict == "accept" or beside.accepting - over.accepting:
            lost = (
                f"the host may not reach containers of {who}" if out else f"containers of {who} may not reach the host"
            )
            seen = f"{where} accepts on {parent} what it drops on {shim}: {lost}"
            yield Finding("warning", CHECK, seen, _allow(chain, shim, facts))
        else:
            seen = f"{where} drops what no rule accepts, on {shim} too: it decides what containers of {who} reach"
            yield Finding("note", CHECK, seen, _allow(chain, shim, facts))


def _shown(chain: FilterChain) -> str:
    return f"{chain.table} {chain.name}" if chain.tool == "nft" else f"{chain.name} of {chain.tool}"


def _allow(chain: FilterChain, shim: str, facts: DoctorFacts) -> str:
    """A command that has the firewall accept all of the host's link."""
    out = chain.hook == "output"
    if any(each.name.startswith("ufw") for each in facts.filters):
        return f"ufw allow {'out' if out else 'in'} on {shim}"
    if chain.table.endswith(" firewalld"):
        return f"firewall-cmd --permanent --zone=trusted --add-interface={shim}, then firewall-cmd --reload"
    if chain.tool == "nft" and not chain.name.isupper():
        match = f"{DIRECTIONS[chain.hook]} {shim} accept"
        return f"nft insert rule {chain.table} {chain.name} {match}; and the same where your rules are kept"
    tool = chain.tool if chain.tool != "nft" else "ip6tables" if chain.table.startswith("ip6 ") else "iptables"
    return f"{tool} -I {chain.name} {'-o' if out else '-i'} {shim} -j ACCEPT, and keep it as your other rules"


def _wrong(link: LinkFacts) -> str:
    if not link.up:
        return "is down"
    if link.arp_filter is False:
        return "has arp_filter=0: it answers ARP for the host, beside its parent"
    if link.asks:
        return "has mcast_solicit above 0: it asks the wire in the host's name"
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
