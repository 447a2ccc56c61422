"""What a driver has besides in global scope: its place among the hosts, the networks of all, and names.

Part of the composition root: `daemon` builds it, hands it the engine's events, and runs it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from macvlan_global import __version__
from macvlan_global.cluster.heartbeat import Heartbeat, HostSummary, Member
from macvlan_global.cluster.reclaimer import Reclaimer
from macvlan_global.config import Config
from macvlan_global.dns.address import read_address
from macvlan_global.dns.publish.publisher import Publisher
from macvlan_global.dns.publish.watch_engine import NameWatcher
from macvlan_global.dns.resolver.cache import ResponseCache
from macvlan_global.dns.resolver.feed import Feed
from macvlan_global.dns.resolver.server import Resolver
from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.engine.ports import ContainerEvent, Engine, EngineEvent
from macvlan_global.errors import Unavailable
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.ports import Kernel
from macvlan_global.replication.replicator import Replicator
from macvlan_global.store.ports import ClusterStore
from macvlan_global.store.records import EndpointRecord, NetworkRecord
from macvlan_global.store.table import Tables

log = logging.getLogger(__name__)

ENGINE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class GlobalScope:
    """The parts. `resolver` is None if none is wanted."""

    heartbeat: Heartbeat
    replicator: Replicator
    names: NameWatcher
    feed: Feed
    resolver: Resolver | None
    driver: Driver
    reclaimer: Reclaimer

    @classmethod
    def build(cls, config: Config, store: ClusterStore, driver: Driver, engine: Engine, heartbeat: Heartbeat) -> Self:
        """Wire the parts to each other and to the driver.

        Raises:
            Invalid: `dns` in the configuration is no address.
        """
        host = driver.identity.host
        replicator = Replicator(store, driver.tables, engine, driver.networks, host)
        names = NameWatcher(engine, lambda: shared_ids(driver), Publisher(driver.tables.names, host), host)
        cache = ResponseCache(config.dns_ttl)
        resolver = Resolver(cache, read_address(config.dns)) if config.dns else None
        reclaimer = Reclaimer(heartbeat, driver.tables, driver.pools, driver.kernel, grace=config.host_grace)
        feed = Feed(store, driver.tables.names, cache)
        scope = cls(heartbeat, replicator, names, feed, resolver, driver, reclaimer)
        driver.networks.objection = scope.objection
        driver.endpoints.on_deleted = scope.endpoint_gone
        return scope

    async def run(self) -> None:
        """Never returns.

        Raises:
            Conflict: a living host has this one's name or identity.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.heartbeat.run())
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

    def on_store_read(self, tell: Callable[[], None]) -> None:
        """Have it told whenever the store was read anew: it was away, or was restored and is older than this host.

        Names tell of it too: that Consul went back in time shows only to those who watch what has changed since.
        """

        def names_read() -> None:
            self.names.resync()
            tell()

        self.feed.on_read = names_read
        self.replicator.on_read = tell

    def endpoint_gone(self, endpoint: EndpointRecord) -> None:
        """Hear that an endpoint of this host was deleted."""
        self.names.on_endpoint_deleted(endpoint)

    def objection(self, network: NetworkRecord) -> str:
        """Why no container may start on a network here, and what to do; "" if it may."""
        return self.replicator.admission_error(network.id)


def join_cluster(  # noqa: PLR0913, PLR0917 - all that a driver stands on
    config: Config,
    settings: Settings,
    tables: Tables,
    shared: ClusterStore,
    kernel: Kernel,
    engine: Engine,
    identity: Identity,
) -> tuple[Driver, GlobalScope]:
    """A driver whose networks and addresses are those of a cluster, and what it has besides; nothing runs yet.

    Raises:
        Invalid: `dns` in the configuration is no address.
    """
    member = Member(identity.host, identity.name, identity.boot, identity.incarnation, __version__)
    heartbeat = Heartbeat(shared, tables, member, lambda: host_facts(driver, engine))
    driver = Driver.build(tables, kernel, identity, settings, host_name=heartbeat.name_of, steady=time.monotonic)
    return driver, GlobalScope.build(config, shared, driver, engine, heartbeat)


async def shared_ids(driver: Driver) -> dict[str, str]:
    """The networks of the cluster that this host has: their ids in the cluster by the engine's ids."""
    return {each.id: each.shared_id for each in await driver.networks.all() if each.cluster}


async def host_facts(driver: Driver, engine: Engine) -> HostSummary:
    """What this host tells the others about itself."""
    version = ""
    try:
        async with asyncio.timeout(ENGINE_SECONDS):
            version = (await engine.info()).version
    except (Unavailable, TimeoutError):
        log.debug("the engine does not say its version now")
    return HostSummary(version, len(await driver.networks.all()), len(await driver.endpoints.all()))
