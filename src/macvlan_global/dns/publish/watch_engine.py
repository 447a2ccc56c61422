"""Learns from the engine what this host's containers are called, and hands it to the publisher.

An event says only that something happened to a container. So each event makes its container be looked at, and what is
there is compared with what was last published of it. Looks at one container never overlap.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from macvlan_global.dns.publish.publisher import NamedEndpoint, Publisher, records_of
from macvlan_global.engine.ports import ContainerEvent, Engine, EngineContainer, EngineEvent, NetworkEvent
from macvlan_global.errors import Unavailable
from macvlan_global.store.records import EndpointRecord, NameRecord, PortRecord

log = logging.getLogger(__name__)

Networks = Callable[[], Awaitable[Mapping[str, str]]]
"""The networks of the cluster that this host has: their ids in the cluster by the engine's ids."""


class NamesHere:
    """The names of this host's containers. `run` does the work; what is heard is only noted."""

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
        self._to_look_at: set[str] = set()
        self._gone: set[str] = set()
        self._looking: set[str] = set()
        self._something = asyncio.Event()

    async def hear(self, event: EngineEvent | None) -> None:
        """Hear what happened in the engine; None if it came (back), and something may have been missed."""
        if event is None:
            self.miss()
        elif isinstance(event, ContainerEvent):
            if event.action in {"die", "destroy"}:
                self._gone |= self._published.pop(event.container, set())
            else:
                self._to_look_at.add(event.container)
        elif isinstance(event, NetworkEvent) and event.container:
            self._to_look_at.add(event.container)
        self._something.set()

    def miss(self) -> None:
        """Something may have been missed, or the store may have lost it: all names are compared."""
        self._publisher.miss()

    def endpoint_gone(self, endpoint: EndpointRecord) -> None:
        """Hear that an endpoint of this host was deleted."""
        self._gone.add(endpoint.id)
        self._something.set()

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publisher.run(self.read))
            while True:
                await self._something.wait()
                self._something.clear()
                gone, self._gone = self._gone, set()
                for endpoint in gone:
                    tasks.create_task(self._withdraw(endpoint))
                ready, self._to_look_at = self._to_look_at - self._looking, self._to_look_at & self._looking
                for container in ready:
                    self._looking.add(container)
                    tasks.create_task(self._look(container))

    async def read(self) -> list[NameRecord]:
        """The records of every container of ours that the engine runs now.

        Raises:
            Unavailable: it does not answer.
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

    async def _look(self, container: str) -> None:
        try:
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
        except Unavailable as error:
            log.debug("the names of container %s are learnt later: %s", container[:12], error)
            self._publisher.miss()
        except Exception:  # a bug on this side task must not stop the driver that containers rely on
            log.exception("learning the names of container %s failed", container[:12])
            self._publisher.miss()
        finally:
            self._looking.discard(container)
            self._something.set()  # it may have been heard of meanwhile

    async def _withdraw(self, endpoint: str) -> None:
        try:
            await self._publisher.withdraw(endpoint)
        except Exception:
            log.exception("withdrawing the names of endpoint %s failed", endpoint[:12])
            self._publisher.miss()

    def _records(self, found: EngineContainer, here: Mapping[str, str]) -> list[NameRecord]:
        legs = [
            NamedEndpoint(
                here[each.network], each.network_name, each.endpoint, each.address, each.address6, each.mac, each.names
            )
            for each in found.legs
            if each.network in here and each.endpoint and (each.address or each.address6)
        ]
        ports = {(each.port, each.protocol) for each in (*found.exposed, *found.published)}
        return records_of(
            found.id,
            found.name,
            found.hostname,
            legs,
            [PortRecord(port=port, protocol=protocol) for port, protocol in ports],
            host=self._host,
            at=self._now(),
        )
