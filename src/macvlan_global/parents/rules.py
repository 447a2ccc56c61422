"""Choosing the parent interface of a network on this host. Pure: facts in, a choice and its reasons out.

Rules, in the order they are tried for each entry of the list (the first usable entry wins):
1. `auto` stands for the interface that carries the network's subnet, else the one with the default route; of several,
   the first that can carry containers.
2. An alias of the host's configuration stands for its own list; `alias.VID` for that list with `.VID` behind each.
3. A link of that name exists: it is the parent, if it can be.
4. `master.VID` (split at the last dot) and the master exists: the sub-interface for that VLAN of the master, whatever
   its name is; if there is none, it will be made. The master may be a sub-interface in turn (`eth0.20.200`, QinQ).

A link is judged by the kernel's facts about it, never by its name: hardware type, kind, state, and master.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from macvlan_global.errors import Invalid
from macvlan_global.kernel.ports import ETH_P_8021Q, LinkFact, RouteFacts
from macvlan_global.subnets import Subnet, is_within

MAX_NAME = 15  # IFNAMSIZ (16) less the closing NUL, linux/if.h
AUTO = "auto"
MOST_MASTERS = 8
"""Longest chain of masters that is followed: a bond in a bridge has two."""
OVS_DATAPATH = "ovs-system"
USE_INTERNAL_PORT = (
    "use an internal port of its bridge instead (ovs-vsctl add-port BRIDGE NAME -- set interface NAME type=internal)"
)
NO_PARENT_GLOBAL = "no parent interface was passed, use for example '-o parent=\"eth0,eth1,eth3\"'"


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent interface of a network: one that exists, or one that must be made first.

    `name` is the interface's name; `master` and `vlan_id` belong to a sub-interface; `mtu` and `mac` are those of the
    link, or of the master it will be made on (0 and "" for a dummy). `below` is the master, if it must be made too.
    """

    kind: Literal["existing", "vlan", "dummy"]
    name: str
    master: str = ""
    vlan_id: int = 0
    mtu: int = 0
    mac: str = ""
    below: "Parent | None" = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one entry of the list, with the reason in words for the operator."""

    entry: str
    usable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The parent (None if no entry is usable) and the verdict on each entry looked at."""

    parent: Parent | None
    verdicts: tuple[Verdict, ...]

    def explain(self) -> str:
        """The verdicts in one line, for an error."""
        return "; ".join(f"{verdict.entry}: {verdict.reason}" for verdict in self.verdicts)


@dataclass(frozen=True, slots=True)
class ParentFacts:
    """Facts for a choice: `links` by every name that an entry may use, with their masters, and all sub-interfaces if
    one may have to be made; `ours` are the names of links that we made, `refused` those of sub-interfaces that the
    kernel just refused to make, with the reasons."""

    links: Mapping[str, LinkFact]
    routes: RouteFacts = field(default_factory=RouteFacts)
    aliases: Mapping[str, str] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)

    def sub_interface(self, master: LinkFact, vlan_id: int) -> LinkFact | None:
        """The 802.1Q sub-interface for a VLAN of this master, None if there is none. The kernel has one at most."""
        for link in self.links.values():
            of_master = link.kind == "vlan" and link.lower == master.index and link.vlan_id == vlan_id
            if of_master and link.vlan_protocol in {0, ETH_P_8021Q}:
                return link
        return None


def split_entries(text: str) -> tuple[str, ...]:
    """A comma list as entries: blanks around a name, empty entries and a trailing comma do not count."""
    return tuple(entry for part in text.split(",") if (entry := part.strip()))


def split_sub_interface(entry: str) -> tuple[str, str] | None:
    """`master.VID` as (master, VID text), split at the last dot; None if there is no dot in it."""
    master, dot, vlan = entry.rpartition(".")
    return (master, vlan) if dot else None


def names_to_look_up(text: str, aliases: Mapping[str, str]) -> tuple[str, ...]:
    """Every interface name that a choice over this list may need facts about."""
    names: dict[str, None] = {}
    for entry in _expand(split_entries(text), aliases):
        names |= dict.fromkeys(_with_masters(entry))
    return tuple(name for name in names if name and not _invalid_name(name))


def entries_of_links(text: str, aliases: Mapping[str, str]) -> tuple[str, ...]:
    """The entries of this list, with aliases as what they stand for; () if one depends on the host's routes."""
    entries = tuple(_expand(split_entries(text), aliases))
    return () if any(each.partition(".")[0] == AUTO for each in entries) else entries


def names_behind_auto(text: str, aliases: Mapping[str, str], routes: RouteFacts) -> tuple[str, ...]:
    """Every interface name that `auto` and `auto.VID` entries of this list may stand for, with these routes."""
    names = dict.fromkeys(_default_links(routes))
    for entry in _expand(split_entries(text), aliases):
        _, _, vlans = entry.partition(f"{AUTO}.") if entry.startswith(f"{AUTO}.") else ("", "", "")
        for link in _default_links(routes) if vlans else ():
            names |= dict.fromkeys(_with_masters(f"{link}.{vlans}"))
    names |= dict.fromkeys(name for name, _ in routes.addresses)
    return tuple(name for name in names if name)


def wants_sub_interfaces(text: str, facts: ParentFacts) -> bool:
    """Whether a choice over this list needs all sub-interfaces of the host: an entry names one that has another name or
    is not there, of a master that is."""
    entries = _expand(split_entries(text), facts.aliases)
    wanted = [entry for entry in entries if "." in entry and entry not in facts.links]
    masters = {AUTO, *facts.links}
    return any(master in masters for entry in wanted for master in _with_masters(entry)[1:])


def wants_routes(text: str, aliases: Mapping[str, str]) -> bool:
    """Whether a choice over this list needs the host's routes."""
    return any(entry == AUTO or entry.startswith(f"{AUTO}.") for entry in _expand(split_entries(text), aliases))


def choose_parent(text: str, facts: ParentFacts, subnets: Iterable[Subnet] = ()) -> Choice:
    """Choose from the list in `text`, which has at least one entry."""
    verdicts: list[Verdict] = []
    subnets = tuple(subnets)
    for entry in _expand(split_entries(text), facts.aliases):
        parent, reason = _judge(entry, facts, subnets)
        verdicts.append(Verdict(entry, parent is not None, reason))
        if parent:
            return Choice(parent, tuple(verdicts))
    return Choice(None, tuple(verdicts))


def stands_for(text: str, facts: ParentFacts, subnets: Iterable[Subnet] = ()) -> list[str]:
    """The parents that the entries of this list stand for; "" for one that stands for none that is usable now."""
    subnets = tuple(subnets)
    found = (_judge(entry, facts, subnets)[0] for entry in _expand(split_entries(text), facts.aliases))
    return [each.name if each else "" for each in found]


def no_usable_parent(choice: Choice, parent_file: str = "") -> str:
    """The error text of a choice that found nothing.

    If the list came from a file, its entries are not named: the file may be any file of the host.
    """
    if parent_file:
        return (
            f"no usable parent interface on this host: none of the {len(choice.verdicts)} entries of -o "
            f"parent-file={parent_file} can be used (what a file says is never shown; with -o parent=LIST each entry "
            "is explained). Name one that exists and is up (`ip link` lists them)"
        )
    return (
        f"no usable parent interface on this host: {choice.explain()}. Use one that exists and is up, for example "
        "-o parent=eth0 or -o parent=eth0.10 (`ip link` lists them)"
    )


def dummy_name(network_id: str) -> str:
    """The name of the dummy link that an isolated network stands on."""
    return f"dm-{network_id[:12]}"


def isolated(network_id: str) -> Choice:
    """The choice for a network without a parent: a dummy of its own."""
    name = dummy_name(network_id)
    return Choice(Parent("dummy", name), (Verdict(name, True, "no parent was given: an isolated network"),))


def _expand(entries: Iterable[str], aliases: Mapping[str, str]) -> tuple[str, ...]:
    expanded: list[str] = []
    for entry in entries:
        alias = next((name for name in _with_masters(entry) if name in aliases), None)
        if alias is None:
            expanded.append(entry)
        else:
            expanded.extend(f"{name}{entry[len(alias) :]}" for name in split_entries(aliases[alias]))
    return tuple(expanded)


def _with_masters(entry: str) -> tuple[str, ...]:
    """The entry, and what its masters may be called, the nearest first: `eth0.20.200`, `eth0.20`, `eth0`."""
    names = [entry]
    while (sub := split_sub_interface(names[-1])) and len(names) < MAX_NAME:
        names.append(sub[0])
    return tuple(names)


def _has_master(entry: str, facts: ParentFacts) -> bool:
    return any(each in facts.links for each in _with_masters(entry)[1:])


def _default_links(routes: RouteFacts) -> tuple[str, ...]:
    return tuple(name for name in (routes.default_link, *routes.further_defaults) if name)


def _judge(entry: str, facts: ParentFacts, subnets: tuple[Subnet, ...]) -> tuple[Parent | None, str]:
    if entry == AUTO:
        return _judge_auto(facts, subnets)
    if bad := _invalid_name(entry):
        return None, bad
    link = facts.links.get(entry)
    if link:  # an alternative name may be longer than a name that we could give
        return judge_link(link, facts)
    if not _has_master(entry, facts) and (bad := _too_long(entry)):  # a VLAN of one may be there by a shorter name
        return None, bad
    return _judge_sub_of_auto(entry, facts) if entry.startswith(f"{AUTO}.") else _judge_sub_interface(entry, facts)


def _judge_auto(facts: ParentFacts, subnets: tuple[Subnet, ...]) -> tuple[Parent | None, str]:
    """The first candidate that can carry containers; one whose wire is there wins over one without a carrier."""
    found = [(link, why, *judge_link(link, facts)) for link, why in _candidates(facts, subnets)]
    usable = [each for each in found if each[2] and each[0].name not in facts.routes.wireless]
    for link, why, parent, reason in sorted(usable, key=lambda each: not each[0].carrier):
        return parent, f"{link.name} ({why}), {reason}"
    if not found:
        return None, "no interface carries the network's subnet, and there is no default route"
    wifi = "a Wi-Fi interface, which carries one MAC only"
    reasons = (f"{link.name} ({why}), {wifi if parent else reason}" for link, why, parent, reason in found)
    return None, f"{'; '.join(reasons)}; name the interface to use instead"


def _candidates(facts: ParentFacts, subnets: tuple[Subnet, ...]) -> list[tuple[LinkFact, str]]:
    """Candidates of `auto`, the best first: the narrowest network that holds the subnet, as a route would be
    chosen; then default routes. Each with the reason."""
    carrying = [
        (address.network.prefixlen, name, address.network)
        for name, address in facts.routes.addresses
        if any(is_within(subnet, address.network) for subnet in subnets)
    ]
    carrying.sort(key=lambda each: -each[0])
    candidates = {name: f"carries {network}" for _, name, network in reversed(carrying)}
    ordered = dict.fromkeys(name for _, name, _ in carrying)
    ordered |= dict.fromkeys(_default_links(facts.routes))
    return [
        (facts.links[name], candidates.get(name, "has the default route"))
        for name in ordered
        if name in facts.links and not facts.links[name].loopback
    ]


def _judge_sub_of_auto(entry: str, facts: ParentFacts) -> tuple[Parent | None, str]:
    """`auto.VID`: that VLAN of the first interface with a default route that can have one."""
    reasons = []
    for name in _default_links(facts.routes):
        wanted = f"{name}.{entry.removeprefix(f'{AUTO}.')}"
        if existing := facts.links.get(wanted):
            parent, reason = judge_link(existing, facts)
            reason = f"{wanted}, {reason}"
        else:
            parent, reason = _judge_sub_interface(wanted, facts)
            reason = f"{wanted}: {reason}" if reason == _too_long(wanted) else reason
        if parent:
            return parent, reason
        reasons.append(reason)
    return None, "; ".join(reasons) or f"no such interface, and its master {AUTO} does not exist: no default route"


def _invalid_name(entry: str) -> str:
    """The reason for which no interface can have this name (dev_valid_name() in net/core/dev.c), "" if one can."""
    strange = any(character.isspace() or character in "/:" or not character.isprintable() for character in entry)
    return "not an interface name" if entry in {".", ".."} or strange else ""


def _too_long(entry: str) -> str:
    too_long = len(entry.encode()) > MAX_NAME
    return f"not an interface name: longer than {MAX_NAME} characters" if too_long else ""


def judge_link(link: LinkFact, facts: ParentFacts) -> tuple[Parent | None, str]:
    """The link as a parent, or None; and the reason."""
    if link.loopback:
        return None, "the loopback interface cannot carry a macvlan"
    if bad := _not_a_carrier(link):
        return None, bad
    if not link.up and link.name not in facts.ours:
        return None, f"it is down (ip link set {link.name} up)"
    if bad := _port_of(link, facts):
        return None, bad
    made = " (made by the driver)" if link.name in facts.ours else ""
    wire = "" if link.carrier or not link.up else ", but has no carrier now (see its cable and switch port)"
    return Parent("existing", link.name, mtu=link.mtu, mac=link.mac), f"exists{made}{wire}"


def _not_a_carrier(link: LinkFact) -> str:
    """The reason for which the kernel puts no macvlan on a link of this kind, or must not; "" if there is none.

    macvlan_port_create() of drivers/net/macvlan.c asks for ARPHRD_ETHER; VRFs and ipvlan links have IFF_NO_RX_HANDLER.
    """
    if not link.is_ethernet:
        kind = f" ({link.kind})" if link.kind else ""
        return f"not an Ethernet link{kind}, which carries no macvlan"
    if link.kind == "vrf":
        return "it is a VRF, which is a routing table and no link; use an interface that is in it"
    if link.kind in {"ipvlan", "ipvtap"}:
        return "it is an ipvlan link, which carries no macvlan; use the interface below it"
    if link.is_shim:
        return "it is the host's own link to its containers (host_access); use the interface below it"
    if link.name == OVS_DATAPATH:
        return f"it is the datapath of Open vSwitch and carries no frames; {USE_INTERNAL_PORT}"
    return ""


def _port_of(link: LinkFact, facts: ParentFacts) -> str:
    """The reason for which a master keeps containers off a link, "" if there is none or it does not matter.

    A bridge, a bond or a team takes every frame of its ports before a macvlan can; a VRF only routes.
    """
    if not link.master or _master_kind(link, facts) == "vrf":
        return ""
    if link.master == OVS_DATAPATH or _master_kind(link, facts) == "openvswitch":
        return f"it is a port of Open vSwitch; {USE_INTERNAL_PORT}"
    top = _topmost(link, facts)
    if top == OVS_DATAPATH:
        return f"it is a port of {link.master}, which is one of Open vSwitch; {USE_INTERNAL_PORT}"
    if _master_kind(link, facts) == "batadv":
        return f"it carries the mesh of {link.master} (batman-adv); use {top} instead"
    return f"it is a port of {link.master}; use {top} instead"


def _topmost(link: LinkFact, facts: ParentFacts) -> str:
    """The master of a port's masters that is no port itself: of a bond's port, the bridge that the bond is in."""
    name = link.name
    for _ in range(MOST_MASTERS):
        if not link.master or _master_kind(link, facts) == "vrf":
            break
        name = link.master
        if name not in facts.links:
            break
        link = facts.links[name]
    return name


def _master_kind(link: LinkFact, facts: ParentFacts) -> str:
    master = facts.links.get(link.master)
    return link.master_kind or (master.kind if master else "")


def _judge_sub_interface(entry: str, facts: ParentFacts) -> tuple[Parent | None, str]:
    """`master.VID`, which no link has as its name: that VLAN of the master under another name, or to be made."""
    master, dot, vlan = entry.rpartition(".")
    if bad := _bad_vlan(vlan) if dot else "no such interface":
        return None, bad
    on, reason = _find_master(master, facts)
    if on is None:
        return None, reason
    if isinstance(on, LinkFact) and (there := facts.sub_interface(on, int(vlan))):
        parent, reason = judge_link(there, facts)
        return parent, f"VLAN {int(vlan)} of {on.name} is {there.name} here, {reason}"
    name = f"{on.name if isinstance(on, Parent) else master}.{int(vlan)}"
    name = entry if name in facts.links else name  # eth0.010 is eth0.10, unless that is another link
    if bad := _too_long(entry) or facts.refused.get(name, ""):
        return None, bad
    below = on if isinstance(on, Parent) else None
    parent = Parent("vlan", name, master=on.name, vlan_id=int(vlan), mtu=on.mtu, mac=on.mac, below=below)
    if below:
        return parent, f"VLAN {int(vlan)} in VLAN {below.vlan_id} of {below.master} is made, on {below.name}"
    return parent, f"master {on.name} exists; VLAN {int(vlan)} is made on it"


def _find_master(name: str, facts: ParentFacts) -> tuple[LinkFact | Parent | None, str]:
    """The master of a sub-interface: a link, or a sub-interface to be made first; or None and the reason."""
    link = facts.links.get(name)
    if link is None:
        sub = split_sub_interface(name)
        if sub is None or _bad_vlan(sub[1]) or not _has_master(name, facts):
            return None, f"no such interface, and its master {name or '(none)'} does not exist"
        parent, reason = _judge_sub_interface(name, facts)
        if parent is None:
            return None, f"its master {name} cannot be: {reason}"
        if parent.kind == "vlan":
            return parent, ""
        link = facts.links[parent.name]
    bad = _bad_master(link, facts)
    return None if bad else link, bad


def _bad_master(link: LinkFact, facts: ParentFacts) -> str:
    if link.loopback:
        return "the loopback interface cannot carry a VLAN"
    if bad := _not_a_carrier(link):
        return f"its master {link.name}: {bad}"
    down = not link.up and link.name not in facts.ours
    return f"its master {link.name} is down (ip link set {link.name} up)" if down else ""


def _bad_vlan(vlan: str) -> str:
    if not (vlan.isascii() and vlan.isdigit()):
        return f"no such interface, and {vlan!r} is not a VLAN id (1 to 4094, as in eth0.10)"
    return "" if len(vlan) <= MAX_NAME and 1 <= int(vlan) <= 4094 else f"VLAN id {vlan} is not between 1 and 4094"


def refuse_without_parent(scope: str) -> None:
    """Refuse a network without a parent outside of local scope: it is isolated on its host, and the other hosts have it
    too.

    Raises:
        Invalid: the scope is not local.
    """
    if scope != "local":
        raise Invalid(NO_PARENT_GLOBAL)
