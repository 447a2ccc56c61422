"""From facts to findings about the interfaces that networks stand on. Pure."""

from collections.abc import Iterator

from macvlan_global.doctor.facts import DoctorFacts, LinkFacts, NetworkFacts
from macvlan_global.doctor.findings import Finding, listed

CHECK = "parents"
MANY_LAYERS = 8


def examine_parents(facts: DoctorFacts) -> list[Finding]:
    """Findings about each parent in use, "ok" if it is right; none without networks."""
    used: dict[str, list[NetworkFacts]] = {}
    for network in facts.networks:
        used.setdefault(network.parent, []).append(network)
    return [finding for name in sorted(used) for finding in _parent(name, used[name], facts)]


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
    if link.port_of:
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
