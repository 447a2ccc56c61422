"""Readings for a scrape: counts and state of every room, from memory. No store is asked, and no row is read.

The cost follows the number of this host's networks. The kernel is asked for each of their parents.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from macvlan_global import __version__
from macvlan_global.config import Config
from macvlan_global.conflicts.service import ConflictService
from macvlan_global.driver.driver import Driver
from macvlan_global.driver.requests import is_no_subnet
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.metrics.counts import Metrics, StoreCounts, TimeBuckets
from macvlan_global.metrics.samples import Samples
from macvlan_global.reconcile.engine_follower import EngineFollower
from macvlan_global.store.access import is_cluster
from macvlan_global.store.records import NetworkRecord
from macvlan_global.subnets import dynamic_window

if TYPE_CHECKING:  # a host alone needs no resolver, and its start is not to pay for one
    from macvlan_global.global_scope import GlobalScope

KERNEL_SECONDS = 2.0
"""Time for the states of parents; the kernel's lock of links may be held for seconds."""
STATES = ("up", "down", "missing", "unknown")
NAMES = "names/"
"""Prefix of the names that the resolver answers."""


class Readings:
    """Reads all metrics. `load` once, then `read` at each scrape."""

    def __init__(  # noqa: PLR0913, PLR0917 - each of another owner
        self,
        config: Config,
        driver: Driver,
        follower: EngineFollower,
        metrics: Metrics,
        stores: Mapping[str, StoreCounts],
        scope: "GlobalScope | None" = None,
        conflicts: ConflictService | None = None,
    ) -> None:
        """All of these are the running driver's; `stores` are the counts of the host's store, and of the cluster's."""
        self._config = config
        self._driver = driver
        self.follower = follower
        self._metrics = metrics
        self._stores = stores
        self._scope = scope
        self._conflicts = conflicts
        self.loop_lag = TimeBuckets()

    async def load(self) -> None:
        """Read what is kept in memory from then on.

        Raises:
            Unavailable: the state file cannot be read.
        """
        tables = self._driver.tables
        for table in (tables.networks, tables.links, tables.pending):
            await table.scan()
        await self._driver.endpoints.load()

    async def read(self) -> Samples:
        """The samples of all metrics that this driver has."""
        samples = Samples()
        self._read_driver(samples)
        self._read_requests(samples)
        self._read_pools(samples)
        await self._read_parents(samples)
        self._read_stores(samples)
        self._read_repair(samples)
        self._read_probes(samples)
        if self._scope:
            self._read_cluster(samples, self._scope)
            self._read_names(samples, self._scope)
        return samples

    def _read_driver(self, samples: Samples) -> None:
        config, store = self._config, self._config.used_store()
        kind = store.partition(":")[0].partition("+")[0] if is_cluster(store) else "sqlite"
        samples.add("build_info", 1, __version__, config.effective_scope(), kind)
        samples.add("engine_up", self.follower.following)
        samples.add("event_loop_lag_seconds", self.loop_lag)
        networks = self._driver.networks.known()
        counts = [(each, self._driver.endpoints.counts(each.id)) for each in networks]
        if self._scope:
            addresses = sum(each.ipv4 + each.ipv6 for _, each in counts)
        else:
            addresses = self._driver.pools.count_held()
            for network, each in counts:  # those of a swarm, or of another IPAM driver, are in no pool of ours
                others = {subnet.prefix.version for subnet in network.subnets if not subnet.space}
                addresses += each.ipv4 * (4 in others) + each.ipv6 * (6 in others)
        samples.add("held", len(networks), "networks")
        samples.add("held", sum(each.endpoints for _, each in counts), "endpoints")
        samples.add("held", addresses, "addresses")

    def _read_requests(self, samples: Samples) -> None:
        for method, counts in sorted(self._metrics.requests.items()):
            samples.add("request_seconds", counts.times, method)
            for outcome, count in counts.outcomes.items():
                samples.add("requests_total", count, method, outcome)
            samples.add("requests_refused_total", counts.outcomes["refused"] + counts.outcomes["failed"], method)

    def _read_pools(self, samples: Samples) -> None:
        for name, network in self._named().items():
            counts = self._driver.endpoints.counts(network.id)
            samples.add("network_endpoints", counts.endpoints, name)
            samples.add("network_links", counts.plain, name, "plain")
            samples.add("network_links", counts.direct, name, "direct")
            subnets = [each for each in network.subnets if each.space and not is_no_subnet(each.space, each.subnet)]
            for subnet, fill in zip(subnets, self._driver.pools.fills(subnets), strict=True):
                held = fill.held
                if self._scope:
                    window = dynamic_window(subnet.prefix, subnet.range_prefix)
                    containers = self._scope.containers
                    held = max(held, containers.held_in(network.shared_id, subnet.prefix.version, *window))
                samples.add("pool_addresses", fill.size, name, subnet.subnet)
                samples.add("pool_held_addresses", held, name, subnet.subnet)
                samples.add("pool_reserved_addresses", fill.reserved, name, subnet.subnet)
                samples.add("pool_free_addresses", fill.size - held, name, subnet.subnet)
                samples.add("pool_remembered_addresses", fill.remembered, name, subnet.subnet)
        by_name, static = self._driver.memory.counts()
        samples.add("remembered_addresses", by_name, "name")
        samples.add("remembered_addresses", static, "ip")

    def _named(self) -> dict[str, NetworkRecord]:
        """The networks by a label that no two of them share: names are the engine's, and unknown for a moment."""
        named: dict[str, NetworkRecord] = {}
        for each in self._driver.networks.known():
            named[each.id[:12] if each.shown in named else each.shown] = each
        return named

    async def _read_parents(self, samples: Samples) -> None:
        for name, network in self._named().items():
            if network.parent:
                samples.add("network_parent_info", 1, name, network.parent)
        states = dict.fromkeys((each.parent for each in self._driver.networks.known() if each.parent), "unknown")
        try:
            async with asyncio.timeout(KERNEL_SECONDS):
                for parent in states:
                    link = await self._driver.kernel.link(parent)
                    states[parent] = "missing" if link is None else "up" if link.up and link.carrier else "down"
        except (MacvlanGlobalError, TimeoutError):  # the others stay unknown
            pass
        for parent, state in sorted(states.items()):
            for each in STATES:
                samples.add("parent_state", each == state, parent, each)
        samples.add("made_parents", len(self._driver.tables.links.kept))

    def _read_stores(self, samples: Samples) -> None:
        now = time.perf_counter()
        for store, counts in self._stores.items():
            samples.add("store_up", counts.is_up, store)
            for name, operation in counts.operations.items():
                samples.add("store_operation_seconds", operation.times, store, name)
                samples.add("store_operations_total", operation.done, store, name, "done")
                samples.add("store_operations_total", operation.lost, store, name, "lost")
                samples.add("store_operations_total", operation.unavailable, store, name, "unavailable")
            for prefix, watch in counts.watches.items():
                label = prefix.rstrip("/")
                samples.add("store_watch_up", watch.closed_at is None, label)
                samples.add("store_watches_lost_total", watch.lost, label)
                samples.add("store_watch_lag_seconds", watch.behind(now), label)

    def _read_repair(self, samples: Samples) -> None:
        reconciler = self.follower.reconciler
        samples.add("repair_seconds", reconciler.durations)
        samples.add("corrections_total", self._metrics.corrections)
        for (kind, outcome), count in sorted(reconciler.corrections.items()):
            samples.add("repair_corrections_total", count, kind, outcome)
        samples.add("repair_problems", len(reconciler.problems))

    def _read_probes(self, samples: Samples) -> None:
        probe = self._driver.probe
        samples.add("probe_seconds", probe.times)
        for result, count in probe.results.items():
            samples.add("probes_total", count, result)
        if self._conflicts:
            watch = self._conflicts.watch
            samples.add("conflicts", len(watch.current()))
            for holder, count in watch.ledger.frames.items():
                samples.add("conflict_frames_total", count, holder)
            samples.add("unseen_frames_total", watch.unseen)

    def _read_cluster(self, samples: Samples, scope: "GlobalScope") -> None:
        live, known = scope.heartbeat.live(), scope.heartbeat.known()
        samples.add("hosts", len(live), "up")
        samples.add("hosts", max(0, len(known) - len(live)), "down")
        samples.add("store_pending_writes", len(self._driver.tables.pending.kept))
        for (action, outcome), count in sorted(scope.replicator.actions.items()):
            samples.add("replication_actions_total", count, action, outcome)
        samples.add("replication_waiting_networks", scope.replicator.waiting)
        samples.add("replication_problems", len(scope.replicator.problems.all()))

    def _read_names(self, samples: Samples, scope: "GlobalScope") -> None:
        if scope.resolver is None:
            return
        state = scope.resolver.state()
        samples.add("resolver_up", state.listening)
        for (transport, answer), count in sorted(scope.resolver.answers().items()):
            samples.add("resolver_queries_total", count, transport, answer)
        samples.add("resolver_endpoints", state.names)
        samples.add("resolver_cached_replies", scope.resolver.cached)
        watch = self._stores["cluster"].watches.get(NAMES)
        samples.add("resolver_lag_seconds", watch.behind(time.perf_counter()) if watch else 0.0)
