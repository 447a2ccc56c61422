"""Findings about a swarm, as one of its managers sees it. Pure."""

from collections.abc import Iterator

from macvlan_global.doctor.facts import SwarmFacts
from macvlan_global.doctor.findings import Finding, listed

CHECK = "swarm"
OURS = "macvlan-global"
BESIDE = "for IPv6 beside IPv4 use -o ipv6-subnet=PREFIX"
PLUGIN_SOURCE = "FOLDER, which `make plugin` in the sources of macvlan-global makes"
"""Not a page of ours: the package has the manual pages of the commands, and no other documents."""


def is_ours(driver: str) -> bool:
    """Whether a driver of this name is the managed plugin, whatever registry and tag it has."""
    return driver.rpartition("/")[2].partition(":")[0] == OURS


def examine_swarm(facts: SwarmFacts | None) -> list[Finding]:
    """Findings about our networks in the swarm, and the services and nodes that use them."""
    if facts is None:
        return []
    if facts.problem:
        do = "docker node ls: more than half of the managers must be reachable; containers run on meanwhile"
        return [Finding("error", CHECK, f"the managers of the swarm do not answer: {facts.problem}", do)]
    found = [*_unfinished(facts), *_ipv6(facts), *_virtual(facts), *_nodes(facts)]
    ours = [each.name for each in facts.networks if each.driver]
    if found or not ours:
        return found
    return [Finding("ok", CHECK, f"networks of the swarm: {listed(ours)}; every node that is ready has the plugin")]


def _unfinished(facts: SwarmFacts) -> Iterator[Finding]:
    for each in facts.networks:
        if each.driver:
            continue
        seen = f"the managers never allocated network {each.name}, and no container can start on it"
        if each.ipv6:
            do = f"docker network rm {each.name}, and create it without --ipv6 and its subnet; {BESIDE}"
            yield Finding("error", CHECK, f"{seen}: it was made with --ipv6", do)
        else:
            do = "the reason is in the log of the swarm's leader (docker node ls): look for 'Failed allocation'"
            yield Finding("error", CHECK, seen, do)


def _ipv6(facts: SwarmFacts) -> Iterator[Finding]:
    for each in facts.networks:
        if each.driver and each.ipv6:
            seen = f"no container can start on network {each.name}: it was made with --ipv6, and each node would give "
            seen += "the same addresses"
            do = f"docker network rm {each.name}, and create it without --ipv6 and its subnet; {BESIDE}"
            yield Finding("error", CHECK, seen, do)


def _virtual(facts: SwarmFacts) -> Iterator[Finding]:
    names = {each.id: each.name for each in facts.networks}
    for service in facts.services:
        on = sorted(names[each] for each in service.virtual if each in names)
        if on:
            seen = f"the name of service {service.name} resolves to a virtual address on {listed(on)}"
            seen += ", which no container has"
            do = f"docker service update --endpoint-mode dnsrr {service.name}"
            yield Finding("warning", CHECK, seen, do)


def _nodes(facts: SwarmFacts) -> Iterator[Finding]:
    for driver in sorted({each.driver for each in facts.networks if each.driver}):
        without = [each.name for each in facts.nodes if driver not in each.plugins]
        if without:
            networks = [each.name for each in facts.networks if each.driver == driver]
            seen = f"no plugin {driver} on {listed(without)}: no container of {listed(networks)} can start there"
            do = f"there: docker plugin enable {driver}, after docker plugin create {driver} {PLUGIN_SOURCE}"
            yield Finding("note", CHECK, seen, do)
