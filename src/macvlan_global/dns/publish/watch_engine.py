"""Watch the engine's events and publish the names of this host's containers.

An event says only that something happened to a container. So each event enqueues its container; a task inspects it and
publishes the records of its endpoints, and withdraws those that it published before and that are gone. There is at most
one task for a container. An endpoint is also withdrawn when the driver deletes it, which comes before the event.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

from macvlan_global.dns.publish.publisher import NamedEndpoint, Publisher, name_records
from macvlan_global.dns.resolver.names import MOST_PORTS
from macvlan_global.engine.ports import ContainerEvent, Engine, EngineContainer, EngineEvent, NetworkEvent
from macvlan_global.store.records import EndpointRecord, NameRecord, PortRecord
from macvlan_global.tasks import attempt, forever, when

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.1
LAST_RETRY_SECONDS = 2.0

Networks = Callable[[], Awaitable[Mapping[str, str]]]
"""Reads the networks of the cluster on this host: their ids in the cluster by the engine's ids."""


class NameWatcher:
    """Keeps the published names of this host's containers current. `run` does the work; events only enqueue."""

    def __init__(
        self,
        engine: Engine,
        networks: Networks,
        publisher: Publisher,
        host: str,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`host` is this host's id; `now` gives seconds since the epoch."""
        self._engine = engine
        self._networks = networks
        self._publisher = publisher
        self._host = host
        self._now = now
        self._published: dict[str, set[str]] = {}  # endpoints by the id of their container
        self._containers: set[str] = set()  # queued
        self._deleted: set[str] = set()  # endpoints, queued
        self._active: set[str] = set()  # containers with a task
        self._queued = asyncio.Event()

    async def on_event(self, event: EngineEvent | None) -> None:
        """Enqueue the container of an event; None, when the event stream was opened (again), requests a resync."""
        if event is None:
            self.resync()
        elif isinstance(event, ContainerEvent):
            if event.action in {"die", "destroy"}:
                self._deleted |= self._published.pop(event.container, set())
                if event.container in self._active:  # the engine may have said before that it runs
                    self._containers.add(event.container)
            else:
                self._containers.add(event.container)
        elif isinstance(event, NetworkEvent) and event.container:
            self._containers.add(event.container)
        self._queued.set()

    def resync(self) -> None:
        """Request a comparison of all names: events may have been missed, or the store may have lost records."""
        self._publisher.resync()

    def on_endpoint_deleted(self, endpoint: EndpointRecord) -> None:
        """Enqueue an endpoint that the driver deleted."""
        self._deleted.add(endpoint.id)
        self._queued.set()

    async def run(self) -> NoReturn:
        """Publish until cancelled."""
        first, last = FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publisher.run(self.read))
            await forever("taking up events about names", lambda: self._dispatch(tasks), first=first, last=last)

    async def read(self) -> list[NameRecord]:
        """The records of every running container with an endpoint on a network of the cluster.

        Raises:
            Unavailable: the engine does not answer.
        """
        here = await self._networks()
        ids = {
            endpoint.container_id
            for network in await self._engine.networks()
            for endpoint in network.endpoints
            if endpoint.container_id
        }
        records: list[NameRecord] = []
        for each in sorted(ids):
            if found := await self._engine.container(each):
                made = self._records(found, here)
                self._published[each] = {record.endpoint for record in made}
                records += made
        return records

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        """Start a task for all that is queued, but for containers that have one."""
        async with when(self._queued):
            deleted, self._deleted = self._deleted, set()
            for endpoint in sorted(deleted):  # in one order, so that a simulated run can be played again
                tasks.create_task(self._publisher.withdraw(endpoint))
            ready, self._containers = self._containers - self._active, self._containers & self._active
            for container in sorted(ready):
                self._active.add(container)
                tasks.create_task(self._inspect(container))

    async def _inspect(self, container: str) -> None:
        name = f"publishing the names of container {container[:12]}"
        try:
            if not await attempt(name, self._publish(container), level=logging.DEBUG):
                self.resync()
        finally:
            self._active.discard(container)
            self._queued.set()  # it may have been queued meanwhile

    async def _publish(self, container: str) -> None:
        found = await self._engine.container(container)
        records = self._records(found, await self._networks()) if found else []
        endpoints = {record.endpoint for record in records}
        surplus = self._published.get(container, set()) - endpoints
        if endpoints:
            self._published[container] = endpoints
        else:
            self._published.pop(container, None)
        await self._publisher.publish(records)
        for endpoint in surplus:
            await self._publisher.withdraw(endpoint)

    def _records(self, found: EngineContainer, here: Mapping[str, str]) -> list[NameRecord]:
        if not found.running:  # it may be shown with the endpoint that it had when the host lost power
            return []
        endpoints = [
            NamedEndpoint(
                here[each.network], each.network_name, each.endpoint, each.address, each.address6, each.mac, each.names
            )
            for each in found.legs
            if each.network in here and each.endpoint and (each.address or each.address6)
        ]
        published, exposed = (
            {(each.port, each.protocol) for each in some} for some in (found.published, found.exposed)
        )
        ports = [*sorted(published), *sorted(exposed - published)]
        if len(ports) > MOST_PORTS and found.id not in self._published:
            text = "container %s exposes %d ports: only %d of them get SRV records, published ones first"
            log.warning(text, found.name, len(ports), MOST_PORTS)
        return name_records(
            found.id,
            found.name,
            found.hostname,
            endpoints,
            [PortRecord(port=port, protocol=protocol) for port, protocol in ports[:MOST_PORTS]],
            host=self._host,
            at=self._now(),
        )
