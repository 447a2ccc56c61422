"""Choosing the parent interface of a network on this host. Pure: facts in, a choice and its reasons out.

Rules, in the order they are tried for each entry of the list (the first usable entry wins):
1. `auto` stands for the interface that carries the network's subnet, else the one with the default route.
2. An alias of the host's configuration stands for its own list; `alias.VID` for that list with `.VID` behind each.
3. A link of that name exists: it is the parent, if it can be.
4. `master.VID` (split at the last dot) and the master exists: a sub-interface will be made on it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from macvlan_global.errors import Invalid
from macvlan_global.kernel.ports import LinkFact, RouteFacts
from macvlan_global.subnets import Subnet, is_within

MAX_NAME = 15  # IFNAMSIZ (16) less the closing NUL, linux/if.h
AUTO = "auto"
NO_PARENT_GLOBAL = "no parent interface was passed, use for example '-o parent=\"eth0,eth1,eth3\"'"


@dataclass(frozen=True, slots=True)
class Parent:
    """The parent interface of a network: one that exists, or one that must be made first.

    `name` is the interface's name; `master` and `vlan_id` belong to a sub-interface; `mtu` and `mac` are those of the
    link, or of the master it will be made on (0 and "" for a dummy).
    """

    kind: Literal["existing", "vlan", "dummy"]
    name: str
    master: str = ""
    vlan_id: int = 0
    mtu: int = 0
    mac: str = ""


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
    """Facts for a choice: `links` by every name that an entry may use; `ours` are the names of links that we made."""

    links: Mapping[str, LinkFact]
    routes: RouteFacts = field(default_factory=RouteFacts)
    aliases: Mapping[str, str] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()


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
        names[entry] = None
        if sub := split_sub_interface(entry):
            names[sub[0]] = None
    return tuple(name for name in names if name and not _invalid_name(name))


def names_behind_auto(text: str, aliases: Mapping[str, str], default_link: str) -> tuple[str, ...]:
    """The sub-interfaces that `auto.VID` entries of this list stand for, with this default route."""
    subs = filter(None, map(split_sub_interface, _expand(split_entries(text), aliases)))
    return tuple(f"{default_link}.{vlan}" for master, vlan in subs if master == AUTO)


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
        sub = split_sub_interface(entry)
        if entry in aliases:
            expanded.extend(split_entries(aliases[entry]))
        elif sub and sub[0] in aliases:
            expanded.extend(f"{name}.{sub[1]}" for name in split_entries(aliases[sub[0]]))
        else:
            expanded.append(entry)
    return tuple(expanded)


def _judge(entry: str, facts: ParentFacts, subnets: tuple[Subnet, ...]) -> tuple[Parent | None, str]:
    if entry == AUTO:
        return _judge_auto(facts, subnets)
    if bad := _invalid_name(entry):
        return None, bad
    link = facts.links.get(entry)
    if link:  # an alternative name may be longer than a name that we could give
        return _judge_link(link, facts)
    if bad := _too_long(entry):
        return None, bad
    sub = split_sub_interface(entry)
    if sub is None:
        return None, "no such interface"
    return _judge_sub_interface(entry, *sub, facts)


def _judge_auto(facts: ParentFacts, subnets: tuple[Subnet, ...]) -> tuple[Parent | None, str]:
    name, why = _auto(facts, subnets)
    link = facts.links.get(name) if name else None
    if link is None:
        return None, "no interface carries the network's subnet, and there is no default route"
    parent, reason = _judge_link(link, facts)
    return parent, f"{name} ({why}), {reason}"


def _auto(facts: ParentFacts, subnets: tuple[Subnet, ...]) -> tuple[str, str]:
    carrying = [
        (address.network.prefixlen, name, address.network)
        for name, address in facts.routes.addresses
        if any(is_within(subnet, address.network) for subnet in subnets) and _is_usable(facts.links.get(name))
    ]
    if carrying:  # the narrowest, as a route would be chosen
        _, name, network = max(carrying, key=lambda each: each[0])
        return name, f"carries {network}"
    return facts.routes.default_link, "has the default route"


def _is_usable(link: LinkFact | None) -> bool:
    return link is not None and link.up and not link.loopback


def _invalid_name(entry: str) -> str:
    """The reason for which no interface can have this name (dev_valid_name() in net/core/dev.c), "" if one can."""
    strange = any(character.isspace() or character in "/:" or not character.isprintable() for character in entry)
    return "not an interface name" if entry in {".", ".."} or strange else ""


def _too_long(entry: str) -> str:
    too_long = len(entry.encode()) > MAX_NAME
    return f"not an interface name: longer than {MAX_NAME} characters" if too_long else ""


def _judge_link(link: LinkFact, facts: ParentFacts) -> tuple[Parent | None, str]:
    if link.loopback:
        return None, "the loopback interface cannot carry a macvlan"
    if not link.up and link.name not in facts.ours:
        return None, f"it is down (ip link set {link.name} up)"
    if link.master:
        return None, f"it is a port of {link.master}; use {link.master} instead"
    made = " (made by the driver)" if link.name in facts.ours else ""
    return Parent("existing", link.name, mtu=link.mtu, mac=link.mac), f"exists{made}"


def _judge_sub_interface(entry: str, master: str, vlan: str, facts: ParentFacts) -> tuple[Parent | None, str]:
    if bad := _bad_vlan(vlan):
        return None, bad
    link = _auto_link(facts) if master == AUTO else facts.links.get(master)
    if link is None:
        return None, f"no such interface, and its master {master or '(none)'} does not exist"
    if bad := _bad_master(link):
        return None, bad
    name = f"{link.name}.{vlan}" if master == AUTO else entry
    if existing := facts.links.get(name):
        parent, reason = _judge_link(existing, facts)
        return parent, f"{name}, {reason}"
    if bad := _too_long(name):
        return None, f"{name}: {bad}"
    parent = Parent("vlan", name, master=link.name, vlan_id=int(vlan), mtu=link.mtu, mac=link.mac)
    return parent, f"master {link.name} exists; VLAN {int(vlan)} is made on it"


def _bad_master(link: LinkFact) -> str:
    if link.loopback:
        return "the loopback interface cannot carry a VLAN"
    return "" if link.up else f"its master {link.name} is down (ip link set {link.name} up)"


def _bad_vlan(vlan: str) -> str:
    if not (vlan.isascii() and vlan.isdigit()):
        return f"no such interface, and {vlan!r} is not a VLAN id (1 to 4094, as in eth0.10)"
    return "" if 1 <= int(vlan) <= 4094 else f"VLAN id {vlan} is not between 1 and 4094"


def _auto_link(facts: ParentFacts) -> LinkFact | None:
    return facts.links.get(facts.routes.default_link)


def refuse_without_parent(scope: str) -> None:
    """Refuse a network without a parent outside of local scope: it is isolated on its host, and the other hosts have it
    too.

    Raises:
        Invalid: the scope is not local.
    """
    if scope != "local":
        raise Invalid(NO_PARENT_GLOBAL)
