"""From facts to findings about the interfaces that networks stand on. Pure."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from itertools import combinations

from macvlan_global.doctor.facts import DoctorFacts, LinkFacts, NetworkFacts
from macvlan_global.doctor.findings import Finding, listed

CHECK = "parents"
MANY_LAYERS = 8
OVS_DATAPATH = "ovs-system"


def examine_parents(facts: DoctorFacts) -> list[Finding]:
    """Findings about each parent in use, "ok" if it is right; none without networks."""
    used: dict[str, list[NetworkFacts]] = {}
    for network in facts.networks:
        used.setdefault(network.parent, []).append(network)
    found = [finding for name in sorted(used) for finding in _parent(name, used[name], facts)]
    return [
        *found,
        *_strangers((*facts.networks, *facts.engine.neighbours)),
        *_without_gateway(facts.networks),
        *_managers(facts),
    ]


def _strangers(networks: Iterable[NetworkFacts]) -> Iterator[Finding]:
    """Networks on one wire that do not know each other's addresses: of different address spaces or IPAM drivers."""
    for one, other in combinations(sorted(networks, key=lambda each: each.name), 2):
        shared = [
            f"{mine} and {theirs}"
            for space, mine in one.subnets
            for their_space, theirs in other.subnets
            if space != their_space and _overlap(mine, theirs)
        ]
        if one.parent and one.parent == other.parent and shared:
            seen = f"networks {one.name} and {other.name} are on one wire ({one.parent}) with subnets that overlap "
            seen += f"({listed(shared)}), and do not know of each other: a container of each may get one address"
            do = "create one of them again with the other's IPAM driver and address space, or on another VLAN"
            yield Finding("warning", CHECK, seen, do)


def _overlap(one: str, other: str) -> bool:
    left, right = ip_network(one, strict=False), ip_network(other, strict=False)
    return left.version == right.version and left.overlaps(right)


def _without_gateway(networks: Iterable[NetworkFacts]) -> Iterator[Finding]:
    without = sorted(each.name for each in networks if not each.gateway)
    if without:
        seen = f"no gateway for {listed(without)}: containers have no default route there, and no names of the outside "
        seen += "(engines from 26.0 on)"
        yield Finding("note", CHECK, seen, "if they should: create it again with --gateway, the router's address")


def _managers(facts: DoctorFacts) -> Iterator[Finding]:
    """Network managers that would make a host of a link that we made."""
    for file, link in facts.managers.wildcards:
        seen = (
            f"{file} of systemd-networkd matches {link}, a link that the driver makes for containers: the host would "
        )
        seen += "get addresses and routes on it"
        do = "macvlan-global install writes a file that comes first; give yours a later name, or have it exclude "
        do += "macvlan-global-*"
        yield Finding("warning", CHECK, seen, do)
    if facts.managers.unguarded:
        seen = "NetworkManager runs, and nothing keeps it off links that the driver makes"
        yield Finding("note", CHECK, seen, "macvlan-global install writes the rule of udev that does")


def _parent(name: str, networks: list[NetworkFacts], facts: DoctorFacts) -> list[Finding]:
    if not name:  # networks of the cluster, made on a host that has other interfaces
        seen = f"no parent for {listed(each.name for each in networks)}: no container can start there on this host"
        return [Finding("note", CHECK, seen, f"if one should: see `macvlan-global parents {networks[0].name}`")]
    who = f"{name} ({'network' if len(networks) == 1 else 'networks'} {listed(each.name for each in networks)})"
    link = facts.links.get(name)
    if link is None:
        do = f"bring it back, or see `macvlan-global parents {networks[0].name}` and `macvlan-global repair`"
        return [Finding("error", CHECK, f"{who} does not exist", do)]
    found = [
        *_usable(who, link),
        *_stack(who, link, facts.links),
        *_mtu(who, link, networks, facts.links),
        *_filtered(who, link, facts),
    ]
    return found or [Finding("ok", CHECK, f"{who} is up, MTU {link.mtu}")]


def _usable(who: str, link: LinkFacts) -> Iterator[Finding]:
    if not link.up:
        yield Finding("error", CHECK, f"{who} is down", f"ip link set {link.name} up")
    if not link.ethernet:
        yield Finding("error", CHECK, f"{who} is not an Ethernet link, which carries no macvlan", "use one that is")
    if link.port_of == OVS_DATAPATH:
        seen = f"{who} is a port of Open vSwitch, which takes every frame before a macvlan can"
        yield Finding("error", CHECK, seen, "use an internal port of its bridge as the parent instead")
    elif link.port_of:
        seen = f"{who} is a port of {link.port_of}, which takes every frame before a macvlan can"
        yield Finding("error", CHECK, seen, f"use {link.port_of} as the parent instead")


def _stack(who: str, link: LinkFacts, links: dict[str, LinkFacts]) -> Iterator[Finding]:
    """Findings about the link and each link below it."""
    for each in _layers(link, links):
        on = "" if each is link else f", on {each.name}"
        if each.wireless:
            yield Finding(
                "error",
                CHECK,
                f"{who}{on}: Wi-Fi carries one MAC only, the station's own, so containers reach nothing",
                "use a wired parent; on Wi-Fi, ipvlan or a bridge network is the way",
            )
        if each.bond_mode in {"balance-tlb", "balance-alb"}:
            yield Finding(
                "warning",
                CHECK,
                f"{who}{on}: a bond in mode {each.bond_mode} rewrites MACs, so containers are not reached",
                "use 802.3ad or active-backup",
            )
        if each.bond_mode == "active-backup" and each.fail_over_mac in {"active", "follow"}:
            yield Finding(
                "warning",
                CHECK,
                f"{who}{on}: a bond with fail_over_mac={each.fail_over_mac} is for ports that carry one MAC only, and "
                "containers have others",
                "fail_over_mac=none, if the ports carry several MACs; else use another parent",
            )
        if each.up and each.carrier is False:
            yield Finding("warning", CHECK, f"{who}{on}: no carrier", f"see cable and switch port of {each.name}")
        if each is not link and not each.up:
            yield Finding("error", CHECK, f"{who}{on}, which is down", f"ip link set {each.name} up")


def _layers(link: LinkFacts, links: dict[str, LinkFacts]) -> list[LinkFacts]:
    found = [link]
    for each in found:
        new = [links[name] for name in each.below if name in links and links[name] not in found]
        found += new[: MANY_LAYERS - len(found)]
    return found


def _mtu(who: str, link: LinkFacts, networks: list[NetworkFacts], links: dict[str, LinkFacts]) -> Iterator[Finding]:
    for network in networks:
        if network.mtu > link.mtu:
            yield Finding(
                "error",
                CHECK,
                f"{who} has MTU {link.mtu}, and network {network.name} asks for {network.mtu}: no container can start",
                f"ip link set {link.name} mtu {network.mtu}, if the switch carries it",
            )
    for name in link.below:
        if name in links and links[name].mtu < link.mtu:
            yield Finding(
                "warning",
                CHECK,
                f"{who} has MTU {link.mtu}, and {name} below it {links[name].mtu}: large frames are lost",
                f"ip link set {link.name} mtu {links[name].mtu}",
            )


def _filtered(who: str, link: LinkFacts, facts: DoctorFacts) -> Iterator[Finding]:
    if link.bridge and facts.kernel.bridge_filter:
        yield Finding(
            "warning",
            CHECK,
            f"{who} is a bridge, and bridge-nf-call-iptables sends its frames through iptables, where Docker's FORWARD "
            "policy drops them",
            "sysctl net.bridge.bridge-nf-call-iptables=0, or allow them: iptables -I DOCKER-USER -i "
            f"{link.name} -o {link.name} -j ACCEPT",
        )
