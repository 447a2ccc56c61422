"""Packet filters of the host, as far as they decide by the interface: what nft and iptables-save show is read into
chains, and a packet without other properties is led through them. Pure.

A rule with other conditions (ports, addresses, states) may or may not match, so it decides nothing here; it is only
noted that it accepts some. A set with a name is such a condition, since its elements are not asked for.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from macvlan_global.doctor.facts import Decision, FilterChain, FilterRule

Verdict = Literal["accept", "drop", ""]
ENDS: tuple[Literal["accept", "drop"], ...] = "accept", "drop"
DIRECTIONS = {"input": "iifname", "output": "oifname"}
"""Hooks of packets to and from the host itself, and the match of nft on their interface."""
_HARMLESS = {"counter", "log", "mangle", "notrack"}
"""Statements of nft that neither decide nor are a condition."""
_VERDICTS: dict[str, Decision] = {
    "accept": "accept",
    "drop": "drop",
    "reject": "drop",
    "return": "return",
    "jump": "jump",
    "goto": "goto",
}
_TARGETS: dict[str, Decision] = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "drop", "RETURN": "return"}
_ALIKE = {"iif": "iifname", "oif": "oifname"}


@dataclass(frozen=True, slots=True)
class Passage:
    """The way of packets of one interface through a chain: the verdict on those that no condition picks out, "" if the
    chain has none, and the rules (chain and place in it) by which some are accepted before that."""

    verdict: Verdict
    accepting: frozenset[tuple[str, int]] = frozenset()


def parse_nft(text: str) -> tuple[FilterChain, ...]:
    """The chains in the output of `nft -j list ruleset`; none if it cannot be read."""
    try:
        items = json.loads(text)["nftables"]
        rules: dict[tuple[str, str], list[FilterRule]] = {}
        for each in (item["rule"] for item in items if "rule" in item):
            key = f"{each['family']} {each['table']}", each["chain"]
            rules.setdefault(key, []).extend(_nft_rules(each.get("expr", [])))
        return tuple(_nft_chain(item["chain"], rules) for item in items if "chain" in item)
    except (ValueError, LookupError, TypeError, AttributeError):
        return ()


def parse_iptables(text: str, tool: str) -> tuple[FilterChain, ...]:
    """The chains in the output of `iptables-save -t filter`. `tool` is iptables or ip6tables."""
    chains: dict[str, FilterChain] = {}
    for line in text.splitlines():
        if line.startswith(":"):
            name, policy = line[1:].split()[:2]
            hook = name.lower() if name in {"INPUT", "OUTPUT"} else ""
            chains[name] = FilterChain(tool, "filter", name, hook, drops=policy == "DROP")
        elif line.startswith("-A "):
            words = shlex.split(line)
            known = chains.get(words[1])
            if known:
                chains[known.name] = replace(known, rules=(*known.rules, _iptables_rule(words[2:], known.hook)))
    return tuple(chains.values())


def passage(chain: FilterChain, link: str, chains: Iterable[FilterChain]) -> Passage:
    """The way of packets of a link through a chain of a hook, with its policy at the end."""
    known = {(each.tool, each.table, each.name): each for each in chains}
    found = _walk(chain, link, known, {})
    return found if found.verdict else replace(found, verdict="drop" if chain.drops else "accept")


def _walk(
    chain: FilterChain,
    link: str,
    chains: Mapping[tuple[str, str, str], FilterChain],
    done: dict[str, Passage],
) -> Passage:
    """The way through a chain and those that it leads to, without its policy. Each is walked once."""
    if chain.name in done:
        return done[chain.name]
    done[chain.name] = Passage("")  # the kernel refuses loops
    accepting: set[tuple[str, int]] = set()
    verdict: Verdict = ""
    for place, rule in enumerate(chain.rules):
        if not _applies(rule, link):
            continue
        ends: Verdict = rule.verdict if rule.verdict in ENDS else ""
        if rule.verdict in {"jump", "goto"} and (target := chains.get((chain.tool, chain.table, rule.target))):
            led = _walk(target, link, chains, done)
            accepting |= led.accepting
            ends = led.verdict
        if rule.conditional:
            accepting |= {(chain.name, place)} if ends == "accept" else set()
        elif ends or rule.verdict in {"return", "goto"}:
            verdict = ends
            break
    done[chain.name] = Passage(verdict, frozenset(accepting))
    return done[chain.name]


def _applies(rule: FilterRule, link: str) -> bool:
    if not rule.links:
        return True
    return any(fnmatchcase(link, each) for each in rule.links) != rule.negated


# ---------------------------------------------------------------- nft


def _nft_chain(found: dict[str, Any], rules: Mapping[tuple[str, str], Sequence[FilterRule]]) -> FilterChain:
    table, name = f"{found['family']} {found['table']}", found["name"]
    is_filter = found.get("type") == "filter" and found.get("hook") in DIRECTIONS
    return FilterChain(
        "nft",
        table,
        name,
        found["hook"] if is_filter else "",
        drops=found.get("policy") == "drop",
        rules=tuple(rules.get((table, name), ())),
    )


def _nft_rules(statements: Sequence[Any]) -> Iterator[FilterRule]:
    """A rule of nft; a verdict map is as many as it has elements."""
    rule, maps = FilterRule(), []
    for each in statements:
        if not isinstance(each, dict) or len(each) != 1:
            rule = replace(rule, conditional=True)
            continue
        ((kind, value),) = each.items()
        if kind in _VERDICTS:
            rule = replace(rule, verdict=_VERDICTS[kind], target=value["target"] if kind in {"jump", "goto"} else "")
        elif kind == "match" and (links := _interfaces(value["left"], value["right"])):
            rule = replace(rule, links=links, negated=value["op"] == "!=")
        elif kind == "xt":
            rule = _with_extension(rule, value)
        elif kind == "vmap":
            maps.append(value)
        elif kind not in _HARMLESS:
            rule = replace(rule, conditional=True)
    if not maps:
        yield rule
    for each in maps:
        yield from _of_map(rule, each)


def _of_map(rule: FilterRule, found: dict[str, Any]) -> Iterator[FilterRule]:
    elements = found["data"]["set"] if isinstance(found["data"], dict) else []
    for key, statement in elements:
        ((kind, value),) = statement.items()
        target = value["target"] if kind in {"jump", "goto"} else ""
        links = _interfaces(found["key"], key)
        known = replace(rule, verdict=_VERDICTS.get(kind, ""), target=target)
        yield replace(known, links=links, negated=False) if links else replace(known, conditional=True)


def _interfaces(left: Any, right: Any) -> tuple[str, ...]:
    """The names of interfaces that a match is about; none if it is about something else, or they are not known."""
    key = left.get("meta", {}).get("key") if isinstance(left, dict) else ""
    if _ALIKE.get(key, key) not in DIRECTIONS.values():
        return ()
    names = right["set"] if isinstance(right, dict) and "set" in right else [right]
    return tuple(names) if all(isinstance(each, str) and not each.startswith("@") for each in names) else ()


def _with_extension(rule: FilterRule, found: dict[str, Any]) -> FilterRule:
    """A rule that iptables wrote by nft, with a match or target of iptables."""
    name = found.get("name", "")
    if found.get("type") == "target":
        return replace(rule, verdict=_TARGETS.get(name, rule.verdict))
    return rule if name == "comment" else replace(rule, conditional=True)


# ---------------------------------------------------------------- iptables


def _iptables_rule(words: Sequence[str], hook: str) -> FilterRule:
    rule, negated, at = FilterRule(), False, iter(words)
    mine = {"input": {"-i"}, "output": {"-o"}}.get(hook, {"-i", "-o"})
    for word in at:
        if word == "!":
            negated = True
        elif word in mine:
            rule = replace(rule, links=(next(at, "").replace("+", "*"),), negated=negated)
            negated = False
        elif word in {"-j", "-g"}:
            target = next(at, "")
            known = _TARGETS.get(target)
            rule = replace(rule, verdict=known or ("goto" if word == "-g" else "jump"), target="" if known else target)
        elif (word == "-m" and next(at, "") != "comment") or word not in {"-m", "--comment", "--reject-with"}:
            rule = replace(rule, conditional=True)
        elif word in {"--comment", "--reject-with"}:
            next(at, "")
    return rule
