"""The parts of a driver that only global scope has: heartbeat and reclaim, replication of networks, and names.

Part of the composition root: `daemon` builds it, hands it the engine's events, and runs it.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from macvlan_global import __version__
from macvlan_global.cluster.fence import FencedStore
from macvlan_global.cluster.heartbeat import TTL_SECONDS, Clocks, Heartbeat, HostSummary, Member
from macvlan_global.cluster.host_addresses import HostAddressExchange
from macvlan_global.cluster.reclaimer import Reclaimer
from macvlan_global.config import Config
from macvlan_global.dns.address import read_address
from macvlan_global.dns.publish.publisher import Publisher
from macvlan_global.dns.publish.watch_engine import NameWatcher
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.feed import Feed
from macvlan_global.dns.resolver.server import Resolver
from macvlan_global.driver.driver import ClusterHooks, Driver, Settings
from macvlan_global.engine.ports import ContainerEvent, Engine, EngineEvent
from macvlan_global.errors import Unavailable
from macvlan_global.host_access.desired import HostReach
from macvlan_global.ipam.intervals import IntervalSet
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.ports import Kernel
from macvlan_global.replication.problems import NetworkProblems
from macvlan_global.replication.replicator import Replicator
from macvlan_global.store.ports import ClusterStore, Store
from macvlan_global.store.records import EndpointRecord, NameRecord
from macvlan_global.store.table import Tables

log = logging.getLogger(__name__)

ENGINE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class GlobalScope:
    """The parts, wired. `resolver` is None if none is wanted.

    `store_read` is set whenever the store was read anew: it was away, or was restored and is older than this host.
    """

    heartbeat: Heartbeat
    host_addresses: HostAddressExchange
    replicator: Replicator
    names: NameWatcher
    feed: Feed
    resolver: Resolver | None
    driver: Driver
    reclaimer: Reclaimer
    store_read: asyncio.Event
    in_use: "NetworksInUse"
    containers: "ContainersOfNetworks"

    async def run(self) -> None:
        """Never returns.

        Raises:
            Conflict: a living host has this one's name or identity.
        """
        await self.in_use.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.heartbeat.run())
            tasks.create_task(self.host_addresses.run())
            tasks.create_task(self.replicator.run())
            tasks.create_task(self.names.run())
            tasks.create_task(self.feed.run())
            tasks.create_task(self.reclaimer.run())
            if self.resolver:
                tasks.create_task(self.resolver.run())
            if self.driver.outbox:
                tasks.create_task(self.driver.outbox.run())

    async def hear(self, event: EngineEvent | None) -> None:
        """Hear what happened in the engine; None if it came (back)."""
        if event is None:
            await self.replicator.on_engine_up()
        elif not isinstance(event, ContainerEvent):
            self.replicator.on_network_event(event)
        if not isinstance(event, ContainerEvent):  # the engine's version, the number of networks
            self.heartbeat.on_change()
        await self.names.on_event(event)


class OwnName:
    """The name of this host, for its own containers: on each network the address at which they reach it, with
    `host_access`. Other hosts do not learn it: their containers reach this host over the wire."""

    def __init__(self, cache: ResponseCache, identity: Identity) -> None:
        """None yet."""
        self._cache = cache
        self._identity = identity
        self._known: dict[str, NameRecord] = {}

    def set(self, reach: Iterable[HostReach]) -> None:
        """These are all networks on which containers reach this host."""
        identity = self._identity
        records = {
            f"host/{each.network.shared_id}": NameRecord(
                network=each.network.shared_id,
                network_name=each.network.name,
                endpoint="",
                container="",
                names=[identity.name],
                address=each.address,
                address6=each.address6,
                host=identity.host,
                at=0,
            )
            for each in reach
            if each.address or each.address6
        }
        if records != self._known:
            self._cache.update(put=records.items(), deleted=self._known.keys() - records.keys())
            self._known = records


class ContainersOfNetworks:
    """Addresses of the containers of all hosts, on the networks whose names this host follows: a lower bound of those
    that are held of a pool. This host does not read the addresses that others take."""

    def __init__(self) -> None:
        """None yet."""
        self._numbers: dict[tuple[str, int], IntervalSet] = {}

    def change(self, network: str, version: int, number: int, here: bool) -> None:
        """An endpoint on a network (the id in the cluster) has got an address, or has given it up. See `OnAddress`."""
        numbers = self._numbers.setdefault((network, version), IntervalSet())
        if here:
            numbers.add(number)
            return
        numbers.discard(number)
        if not numbers:
            del self._numbers[network, version]

    def held_in(self, network: str, version: int, first: int, stop: int) -> int:
        """Count of the addresses `[first, stop)` that containers of a network (the id in the cluster) have."""
        numbers = self._numbers.get((network, version))
        return numbers.held_in(first, stop) if numbers else 0


class NetworksInUse:
    """Networks of the cluster that containers of this host are on. The resolver answers names without their network
    from these."""

    def __init__(
        self,
        tables: Tables,
        cache: ResponseCache,
        on_deleted: Callable[[EndpointRecord], None] = lambda _endpoint: None,
    ) -> None:
        """Unknown until `load`: then the resolver answers from all networks. `on_deleted` is called after `drop`."""
        self._users: tuple[Callable[[frozenset[str]], None], ...] = ()
        self._tables = tables
        self._cache = cache
        self._on_deleted = on_deleted
        self._networks: dict[str, str] = {}  # ids in the cluster, by endpoint
        self._used = frozenset[str]()
        self._loaded = False

    def tell(self, *users: Callable[[frozenset[str]], None]) -> None:
        """Call these with the networks when they are known and whenever they change, before the resolver answers so."""
        self._users = users

    async def load(self) -> None:
        """Read what is there from an earlier run."""
        shared = await shared_ids(self._tables)
        for each in (row.record for row in await self._tables.endpoints.scan()):
            if each.is_live and each.network in shared:
                self._networks.setdefault(each.id, shared[each.network])
        self._loaded = True
        self._tell(frozenset(self._networks.values()))

    def add(self, endpoint: EndpointRecord, network: str) -> None:
        """An endpoint is made on the network with this id in the cluster."""
        self._networks[endpoint.id] = network
        if self._loaded and network not in self._used:
            self._tell(self._used | {network})

    def drop(self, endpoint: EndpointRecord) -> None:
        """An endpoint is gone."""
        network = self._networks.pop(endpoint.id, None)
        if self._loaded and network in self._used and network not in self._networks.values():
            self._tell(self._used - {network})
        self._on_deleted(endpoint)

    def _tell(self, used: frozenset[str]) -> None:
        self._used = used
        for each in self._users:
            each(used)
        self._cache.set_networks_here(used)


class NamesFeed(Protocol):
    """Follows the names of the networks that are wanted."""

    def want(self, networks: Iterable[str]) -> None:
        """See `Feed.want`."""


class ClusterNetworks(Protocol):
    """The networks of the cluster, as replication knows them."""

    on_networks: Callable[[], None]

    def defined(self) -> set[str]:
        """See `Replicator.defined`."""
        ...

    def namesakes(self, networks: Collection[str]) -> set[str]:
        """See `Replicator.namesakes`."""
        ...


class FollowedNetworks:
    """Networks whose names this host follows: those that its containers are on, with their namesakes; or all."""

    def __init__(self, feed: NamesFeed, networks: ClusterNetworks, *, follow_all: bool = False) -> None:
        """Nothing is followed before `use`. With `follow_all` those of all networks that are defined are followed."""
        self._feed = feed
        self._networks = networks
        self._follow_all = follow_all
        self._used: frozenset[str] | None = None
        self._due = False
        networks.on_networks = self._follow_soon

    def use(self, networks: frozenset[str]) -> None:
        """Containers of this host are on these networks (ids in the cluster)."""
        self._used = networks
        self._follow()

    def _follow(self) -> None:
        self._due = False
        used = self._used or frozenset()
        self._feed.want(used | (self._networks.defined() if self._follow_all else self._networks.namesakes(used)))

    def _follow_soon(self) -> None:
        """Networks of the cluster came or went; of many at once, what that means is worked out once."""
        if not self._due and (self._used or (self._follow_all and self._used is not None)):
            self._due = True
            asyncio.get_running_loop().call_soon(self._follow)


def join_cluster(  # noqa: PLR0913, PLR0917 - all that a driver stands on
    config: Config,
    settings: Settings,
    local: Store,
    shared: ClusterStore,
    kernel: Kernel,
    engine: Engine,
    identity: Identity,
    *,
    earlier: tuple[str, ...] = (),
    clocks: Clocks | None = None,
    ttl: float = TTL_SECONDS,
) -> tuple[Driver, GlobalScope]:
    """A driver whose networks and addresses are those of a cluster, and what it has besides; nothing runs yet.

    `earlier` are the earlier runs of the driver here, `ttl` in seconds is the length of the host's lease.

    Raises:
        Invalid: `dns` in the configuration is no address.
    """
    clocks = clocks or Clocks()
    member = _member(config, identity, earlier)
    problems, store_read, cache = NetworkProblems(), asyncio.Event(), ResponseCache(config.dns_ttl, identity.host)
    unfenced = Tables(shared, local)
    heartbeat = Heartbeat(shared, unfenced, member, lambda: host_facts(unfenced, engine), ttl=ttl, clocks=clocks)
    # all but the heartbeat: nothing is written before this run is surely this host in the cluster
    fenced = FencedStore(shared, heartbeat)
    tables = Tables(fenced, local)
    names = _name_watcher(tables, engine, identity, cache, clocks)
    in_use = NetworksInUse(tables, cache, names.on_endpoint_deleted)
    hooks = ClusterHooks(heartbeat.name_of, problems.admission, in_use.drop, in_use.add)
    driver = Driver.build(tables, kernel, identity, settings, hooks=hooks, now=clocks.wall, steady=clocks.steady)
    times = {"now": clocks.wall, "steady": clocks.steady}
    driver.host_access.on_reach = OwnName(cache, identity).set
    replicator = Replicator(
        fenced, tables, engine, driver.networks, identity.host, problems=problems, on_read=store_read.set, **times
    )

    def names_read() -> None:  # that Consul went back in time shows only to those who watch what has changed since
        names.resync()
        store_read.set()

    heartbeat.tell(cache.set_living, names_read)
    feed = Feed(fenced, tables.names, cache, on_read=names_read, on_hosts=heartbeat.hear_of)
    exchange, containers = _host_addresses(shared, heartbeat, driver, clocks), _containers(config, cache)
    in_use.tell(FollowedNetworks(feed, replicator, follow_all=config.dns_networks == "all").use, exchange.want)
    resolver = Resolver(cache, read_address(config.dns)) if config.dns else None
    above = (feed, resolver, driver, _reclaimer(config, heartbeat, driver, clocks), store_read, in_use, containers)
    return driver, GlobalScope(heartbeat, exchange, replicator, names, *above)


def _member(config: Config, identity: Identity, earlier: tuple[str, ...]) -> Member:
    """This run of this host as a member of the cluster."""
    run = identity.host, identity.name, identity.boot, identity.incarnation
    return Member(*run, __version__, earlier, page=bool(config.page))


def _name_watcher(
    tables: Tables, engine: Engine, identity: Identity, cache: ResponseCache, clocks: Clocks
) -> NameWatcher:
    """The watcher of this host's names, which its own resolver knows as soon as they are written."""
    publisher = Publisher(tables, identity.host, steady=clocks.steady)
    publisher.on_own = cache.update_own
    return NameWatcher(engine, lambda: shared_ids(tables), publisher, identity.host, now=clocks.wall)


def _containers(config: Config, cache: ResponseCache) -> ContainersOfNetworks:
    containers = ContainersOfNetworks()
    if config.metrics:  # nobody else wants to know
        cache.tell_addresses(containers.change)
    return containers


def _reclaimer(config: Config, heartbeat: Heartbeat, driver: Driver, clocks: Clocks) -> Reclaimer:
    tables, kernel, grace = driver.tables, driver.kernel, config.host_grace
    return Reclaimer(heartbeat, tables, driver.pools, driver.addresses, kernel, grace=grace, steady=clocks.steady)


def _host_addresses(shared: ClusterStore, heartbeat: Heartbeat, driver: Driver, clocks: Clocks) -> HostAddressExchange:
    tables, avoided, own = driver.tables, driver.addresses.avoided, driver.hosts.refresh
    return HostAddressExchange(shared, tables, heartbeat, avoided, own, now=clocks.wall)


async def shared_ids(tables: Tables) -> dict[str, str]:
    """The networks of the cluster that this host has: their ids in the cluster by the engine's ids."""
    networks = [row.record for row in await tables.networks.scan()]
    return {each.id: each.shared_id for each in networks if each.cluster}


async def host_facts(tables: Tables, engine: Engine) -> HostSummary:
    """The summary of this host for `hosts/`; the engine's version is "" if it does not answer in time."""
    version = ""
    try:
        async with asyncio.timeout(ENGINE_SECONDS):
            version = (await engine.info()).version
    except (Unavailable, TimeoutError):
        log.debug("the engine does not say its version now")
    endpoints = [row.record for row in await tables.endpoints.scan() if row.record.is_live]
    return HostSummary(version, len(await tables.networks.scan()), len(endpoints))
