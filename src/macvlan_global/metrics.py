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

        self._conflicts = Gauge(
            "macvlan_global_conflicts",
            "Addresses in conflict with devices in the last ten minutes",
            registry=self._registry,
        )
        self._conflict_frames = Gauge(
            "macvlan_global_conflict_frames",
            "Frames of conflicts since the driver began, by the kind of the holder",
            ["holder"],
            registry=self._registry,
        )
        self._unseen = Gauge(
            "macvlan_global_unseen_frames",
            "Frames of address resolution since the driver began that were not looked at",
            registry=self._registry,
        )

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

    def conflicts(self, current: int, frames: Mapping[str, int], unseen: int) -> None:
        """Set the gauges of conflicts: those of the last minutes, all frames by the kind of the holder, and frames that
        were not looked at."""
        self._conflicts.set(current)
        for holder, count in frames.items():
            self._conflict_frames.labels(holder).set(count)
        self._unseen.set(unseen)

    def text(self) -> bytes:
        """The exposition format, version 0.0.4."""
        return generate_latest(self._registry)
