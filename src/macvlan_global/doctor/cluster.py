"""Findings about the cluster: its store, its networks on this host, and names. Pure."""

from macvlan_global.doctor.facts import ClusterFacts
from macvlan_global.doctor.findings import Finding, listed


def examine_cluster(facts: ClusterFacts | None) -> list[Finding]:
    """Findings about this host's part in a cluster; none in local scope, or if no driver runs."""
    if facts is None:
        return []
    return [*_store(facts), *_problems(facts), *_rights(facts), *_resolver(facts)]


def _store(facts: ClusterFacts) -> list[Finding]:
    found = []
    if facts.store_problem:
        do = "check that the store runs and that this host reaches it; until then containers run on, and none can start"
        found.append(Finding("error", "cluster", facts.store_problem, do))
    else:
        found.append(Finding("ok", "cluster", f"{facts.store} answers; living hosts: {listed(facts.hosts)}"))
    if facts.waiting:
        seen = f"{facts.waiting} releases and removals wait for the store"
        do = "nothing: they are delivered when it answers" if facts.store_problem else "see the log if it stays so"
        found.append(Finding("note" if facts.store_problem else "warning", "cluster", seen, do))
    return found


def _problems(facts: ClusterFacts) -> list[Finding]:
    found = []
    for problem in facts.problems:
        seen, _, do = problem.rpartition("; ")
        found.append(Finding("warning", "cluster", seen or problem, do if seen else "see the log"))
    return found


def _rights(facts: ClusterFacts) -> list[Finding]:
    if facts.may_probe:
        return []
    seen = "the driver lacks CAP_NET_RAW: it cannot reclaim addresses of dead hosts, and probe has no effect"
    return [Finding("warning", "rights", seen, "run it as root, or write its unit again (macvlan-global install)")]


def _resolver(facts: ClusterFacts) -> list[Finding]:
    if facts.resolver_problem:
        seen, _, do = facts.resolver_problem.partition("; ")
        do = do or "see the driver's log (journalctl -u macvlan-global); dns in the configuration is its address"
        return [Finding("error", "names", f"the resolver does not serve: {seen}", do)]
    if not facts.resolver:
        seen = "the resolver is off (dns in the configuration): names of containers on other hosts do not resolve here"
        return [Finding("note", "names", seen, "set dns if containers should resolve names of other hosts")]
    ip = facts.resolver.rpartition(":")[0].strip("[]")
    found = []
    if facts.resolv_conf_owner:
        seen, _, do = facts.resolv_conf_owner.partition("; ")
        found.append(Finding("warning", "names", seen.replace("this file", "/etc/resolv.conf"), do))
    if facts.nameservers[:1] != (ip,):
        seen = (
            f"the engine does not ask the resolver ({ip}) first: names of containers on other hosts do not resolve here"
        )
        return [*found, Finding("warning", "names", seen, "macvlan-global dns install")]
    seen = f"the resolver serves on {facts.resolver}, and is the first nameserver"
    if facts.resolver.endswith(":53"):
        seen += "; a container that publishes port 53 must name another address (-p ADDRESS:53:53)"
    return [*found, Finding("ok", "names", seen)]
