"""Counts and times for Prometheus. Collecting is always on and cheap; the listener is opt-in."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)


class Metrics:
    """All counters and gauges, in a registry of their own."""

    def __init__(self) -> None:
        """Start at zero."""
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "macvlan_global_request_seconds",
            "Time to answer a request of the engine",
            ["method"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._refused = Counter(
            "macvlan_global_requests_refused_total",
            "Requests answered with an error",
            ["method"],
            registry=self._registry,
        )
        self._held = Gauge("macvlan_global_held", "Things held on this host", ["what"], registry=self._registry)
        self._corrections = Counter(
            "macvlan_global_corrections_total", "Corrections that repair made", registry=self._registry
        )
        self._remembered = Gauge(
            "macvlan_global_remembered_addresses",
            "Addresses that are remembered for containers made anew, by whether a name or --ip chose them",
            ["by"],
            registry=self._registry,
        )
        self._conflicts = Gauge(
            "macvlan_global_conflicts",
            "Addresses in conflict with devices in the last ten minutes",
            registry=self._registry,
        )
        self._conflict_frames = Counter(
            "macvlan_global_conflict_frames_total",
            "Frames of conflicts, by the kind of the holder",
            ["holder"],
            registry=self._registry,
        )
        self._unseen_frames = Counter(
            "macvlan_global_unseen_frames_total",
            "Frames of address resolution that were not looked at",
            registry=self._registry,
        )
        self._told: dict[str, int] = {}
        """Totals as they were told last: a counter takes what was added since."""

    def observe(self, method: str, seconds: float, *, failed: bool) -> None:
        """Count an answered request."""
        self._seconds.labels(method).observe(seconds)
        if failed:
            self._refused.labels(method).inc()

    def corrected(self, count: int) -> None:
        """Count corrections of a reconciliation."""
        self._corrections.inc(count)

    def hold(self, what: str, count: int) -> None:
        """Set the gauge of held networks, endpoints or addresses."""
        self._held.labels(what).set(count)

    def remember(self, by_name: int, by_ip: int) -> None:
        """Set the gauge of remembered addresses: those that stay with a name, and those that users chose."""
        self._remembered.labels("name").set(by_name)
        self._remembered.labels("ip").set(by_ip)

    def conflicts(self, current: int, frames: Mapping[str, int], unseen: int) -> None:
        """Tell of conflicts: those of the last minutes; and since the driver began, their frames by the kind of the
        holder, and frames that were not looked at."""
        self._conflicts.set(current)
        for holder, count in frames.items():
            self._conflict_frames.labels(holder).inc(self._added(holder, count))
        self._unseen_frames.inc(self._added("", unseen))

    def _added(self, what: str, total: int) -> int:
        before, self._told[what] = self._told.get(what, 0), total
        return total - before

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)
