"""Description of each metric: name, kind, labels and meaning. The exposition and docs/metrics.md are made from it."""

from dataclasses import dataclass
from typing import Literal

PREFIX = "macvlan_global_"


@dataclass(frozen=True, slots=True)
class MetricDescription:
    """A metric. `name` is without the prefix; `only` says for which drivers it is there, "" for all. One that is
    `of_process` is read from /proc by prometheus_client."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str
    only: str = ""
    of_process: bool = False

    @property
    def full_name(self) -> str:
        """The name in Prometheus."""
        return PREFIX + self.name


_CLUSTER = "in a cluster"
_RESOLVER = "with the resolver"
_WATCH = "unless `conflict_watch` is false"


def _counter(name: str, labels: str, text: str, only: str = "") -> MetricDescription:
    return MetricDescription(name, "counter", tuple(labels.split()), text, only)


def _gauge(name: str, labels: str, text: str, only: str = "") -> MetricDescription:
    return MetricDescription(name, "gauge", tuple(labels.split()), text, only)


def _times(name: str, labels: str, text: str, only: str = "") -> MetricDescription:
    return MetricDescription(name, "histogram", tuple(labels.split()), text, only)


def _process(name: str, kind: Literal["counter", "gauge"], text: str) -> MetricDescription:
    return MetricDescription("process_" + name, kind, (), text, of_process=True)


SECTIONS: dict[str, tuple[MetricDescription, ...]] = {
    "The driver": (
        _gauge("build_info", "version scope store", "1; version and scope of the driver, and the kind of its store"),
        _gauge("engine_up", "", "1 while the events of the Docker Engine are being received, else 0"),
        _gauge("held", "what", "Networks, endpoints and addresses of this host; without a cluster all addresses held"),
        _times("event_loop_lag_seconds", "", "Delay of a timer of the event loop, measured once a second"),
        _process("start_time_seconds", "gauge", "Start of the process, in seconds since the epoch"),
        _process("cpu_seconds_total", "counter", "Processor time of the process"),
        _process("resident_memory_bytes", "gauge", "Resident memory of the process"),
        _process("virtual_memory_bytes", "gauge", "Virtual memory of the process"),
        _process("open_fds", "gauge", "Open file descriptors of the process"),
        _process("max_fds", "gauge", "Limit of open file descriptors of the process"),
    ),
    "Requests of the engine": (
        _counter("requests_total", "method outcome", "Requests by outcome: answered, refused with an error, or failed"),
        _times("request_seconds", "method", "Time to answer a request of the engine"),
        _counter("requests_refused_total", "method", "Requests answered with an error, failed ones included"),
    ),
    "Networks": (
        _gauge("pool_addresses", "network subnet", "Addresses that the pool of a subnet may hand out unasked"),
        _gauge("pool_held_addresses", "network subnet", "Addresses of the pool that somebody holds, as far as known"),
        _gauge("pool_reserved_addresses", "network subnet", "Addresses of the pool that this host reserved unclaimed"),
        _gauge("pool_free_addresses", "network subnet", "Addresses of the pool that nobody holds, as far as known"),
        _gauge(
            "pool_remembered_addresses",
            "network subnet",
            "Addresses of the pool that stay with a name or were given by --ip, those of running containers included",
        ),
        _gauge(
            "remembered_addresses",
            "by",
            "Addresses that stay with a name (`name`) or were given by --ip (`ip`); in a cluster those of all hosts",
        ),
        _gauge("network_endpoints", "network", "Endpoints of this host on a network"),
        _gauge("network_links", "network attach", "Links in containers of this host, by attach mode"),
    ),
    "Parents": (
        _gauge(
            "parent_state",
            "parent state",
            "1 for the present state of a parent of networks: up, down, missing, or unknown; 0 for the others",
        ),
        _gauge("network_parent_info", "network parent", "1; the parent of a network on this host"),
        _gauge("made_parents", "", "Parents that the driver made: sub-interfaces and dummy links"),
    ),
    "Stores": (
        _gauge("store_up", "store", "1 if the store answered the last operation, else 0; store is host or cluster"),
        _counter(
            "store_operations_total",
            "store operation outcome",
            "Operations by outcome: done, lost (another writer was first), or unavailable",
        ),
        _times("store_operation_seconds", "store operation", "Time until the store answered an operation"),
        _gauge("store_watch_up", "watch", "1 while changes below a prefix are being received, else 0", _CLUSTER),
        _counter("store_watches_lost_total", "watch", "Times that a watch was lost and had to begin anew", _CLUSTER),
        _gauge(
            "store_watch_lag_seconds",
            "watch",
            "Delay of a watch: since it was lost, or that of this host's own writes in the last minute",
            _CLUSTER,
        ),
        _gauge("store_pending_writes", "", "Releases and removals that wait for the store", _CLUSTER),
    ),
    "Hosts": (_gauge("hosts", "state", "Hosts of the cluster that are up or down, as this host sees it", _CLUSTER),),
    "Replication": (
        _counter(
            "replication_actions_total",
            "action outcome",
            "Actions on networks, by outcome: applied, later, or failed",
            _CLUSTER,
        ),
        _gauge("replication_waiting_networks", "", "Networks that are queued or being worked on", _CLUSTER),
        _gauge("replication_problems", "", "Networks that differ from the cluster and cannot be made equal", _CLUSTER),
    ),
    "Repair": (
        _times("repair_seconds", "", "Time of a reconciliation with the engine and the kernel"),
        _counter("corrections_total", "", "Corrections that repair made"),
        _counter("repair_corrections_total", "correction outcome", "Corrections by kind; outcome is applied or failed"),
        _gauge("repair_problems", "", "Corrections that failed at the last reconciliation"),
    ),
    "Names": (
        _gauge("resolver_up", "", "1 while the resolver listens, else 0", _RESOLVER),
        _counter("resolver_queries_total", "transport answer", "Queries by answer code, or none", _RESOLVER),
        _gauge("resolver_endpoints", "", "Endpoints whose names the resolver knows", _RESOLVER),
        _gauge("resolver_cached_replies", "", "Replies that are ready in the response cache", _RESOLVER),
        _gauge("resolver_lag_seconds", "", "Delay of the names: that of the watch below names/", _RESOLVER),
    ),
    "Probes and conflicts": (
        _counter("probes_total", "result", "Duplicate address detection: free, in_use, or impossible"),
        _times("probe_seconds", "", "Time to probe for an address"),
        _gauge("conflicts", "", "Addresses in conflict with devices in the last ten minutes", _WATCH),
        _counter("conflict_frames_total", "holder", "Frames of conflicts, by holder: container, host, gateway", _WATCH),
        _counter("unseen_frames_total", "", "Frames of address resolution that were not looked at", _WATCH),
    ),
}
"""All metrics, by subject, in the order of docs/metrics.md."""

DESCRIPTIONS = tuple(each for section in SECTIONS.values() for each in section)
