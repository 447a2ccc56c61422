"""An engine of one host of a cluster, in memory, with the driver's part in it played too.

`FakeEngine` calls a real driver; this one needs none. It keeps the records that a driver would keep, so that what
stands above the driver can be tried on several hosts at once.
"""

import itertools
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from macvlan_global.engine.ports import (
    EngineContainer,
    EngineEndpoint,
    EngineEvent,
    EngineInfo,
    EngineNetwork,
    EngineSubnet,
    NetworkEvent,
    NewNetwork,
)
from macvlan_global.errors import Conflict, Invalid, Unavailable
from macvlan_global.store.ports import Store
from macvlan_global.store.records import IdentityRecord, NetworkRecord, RemovedRecord
from macvlan_global.store.table import Tables

OURS = "macvlan-global"
_numbers = itertools.count(1)


def new_id() -> str:
    """An id as engines make them, never the same twice: 64 hexadecimal digits."""
    return f"{next(_numbers):064x}"


@dataclass(slots=True)
class Trouble:
    """Faults of the engine. `refuses` is its answer to a new network, "" if it makes it; every call raises `raises`."""

    away: bool = False
    refuses: str = ""
    raises: Exception | None = None


class FakeDocker:
    """See `macvlan_global.engine.ports.Engine`, and `macvlan_global.replication.apply.LocalNetworks`."""

    def __init__(self, host: str, shared: Store, local: Store, now: Callable[[], float]) -> None:
        """An engine without networks on the host with this id, whose records are in `local`."""
        self.host = host
        self.id = new_id()
        self.tables = Tables(shared, local)
        self.trouble = Trouble()
        self.driver_runs = True
        self.made: list[str] = []
        """Names of the networks that replication had it make, in order."""
        self.tell: Callable[[NetworkEvent], None] = lambda _event: None
        """Called for each event."""
        self._now = now
        self._networks: dict[str, EngineNetwork] = {}

    async def install(self) -> None:
        """Be known as this host's engine."""
        await self.tables.identity.put(IdentityRecord(id=self.host, engine=self.id), "this")

    # ------------------------------------------------------------- as a user

    async def create(
        self,
        name: str,
        subnet: str = "10.8.0.0/24",
        *,
        driver: str = OURS,
        options: Mapping[str, str] | None = None,
        local_scope: bool = False,
    ) -> str:
        """`docker network create`; the network's id."""
        network = EngineNetwork(
            new_id(), name, driver, options=dict(options or {}), subnets=(EngineSubnet(subnet),), driver=driver
        )
        return await self._add(network, "" if local_scope else network.id)

    async def rm(self, name: str) -> None:
        """`docker network rm`."""
        network = self._networks[name]
        if network.endpoints:
            raise Conflict(f"network {name} has active endpoints")
        del self._networks[name]
        if self.driver_runs and network.driver == OURS:
            await self.delete(network.id)
        self._tell("destroy", network)

    def start(self, container: str, name: str) -> None:
        """`docker run`."""
        network = self._networks[name]
        leg = EngineEndpoint(new_id(), container, "", container_id=new_id())
        self._networks[name] = replace(network, endpoints=(*network.endpoints, leg))
        self._tell("connect", network)

    def stop(self, container: str) -> None:
        """`docker rm --force`."""
        for name, network in self._networks.items():
            left = tuple(each for each in network.endpoints if each.container != container)
            if left != network.endpoints:
                self._networks[name] = replace(network, endpoints=left)
                self._tell("disconnect", network)

    def lose_data(self) -> None:
        """Its folder was emptied while it did not run."""
        self._networks.clear()
        self.id = new_id()

    def has(self, name: str) -> EngineNetwork | None:
        """The network of this name, whatever the trouble."""
        return self._networks.get(name)

    def names(self) -> Iterable[str]:
        """The names of its networks."""
        return sorted(self._networks)

    # ------------------------------------------------------------ as the driver

    async def delete(self, network_id: str, *, everywhere: bool = True) -> None:
        """See `LocalNetworks.delete`."""
        row = await self.tables.networks.get(network_id)
        if row and row.record.published and everywhere:
            record = RemovedRecord(id=row.record.cluster, name=row.record.name, host=self.host, at=self._now())
            await self.tables.removed.create(record, record.id)
            definition = await self.tables.definitions.get(record.name)
            if definition and definition.record.id == record.id:
                await self.tables.definitions.delete(definition)
        await self.tables.networks.drop(network_id)

    # ------------------------------------------------------------ as the port

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        self._answer()
        return EngineInfo("28.5.2", (OURS,), swarm=False, live_restore=False, labels=(), id=self.id)

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        self._answer()
        return [each for each in self._networks.values() if each.driver == OURS]

    async def every_network(self) -> list[EngineNetwork]:
        """See `Engine.every_network`."""
        self._answer()
        return [replace(each, endpoints=()) for each in self._networks.values()]

    async def named(self, name: str) -> EngineNetwork | None:
        """See `Engine.named`."""
        self._answer()
        return self._networks.get(name)

    async def add_network(self, wanted: NewNetwork) -> str:
        """See `Engine.add_network`."""
        self._answer()
        if self.trouble.refuses:
            raise Invalid(f"the Docker Engine refuses: {self.trouble.refuses}")
        network = EngineNetwork(
            id=new_id(),
            name=wanted.name,
            ipam_driver=OURS,
            internal=wanted.internal,
            options=wanted.options,
            ipam_options=wanted.ipam_options,
            subnets=wanted.subnets,
            driver=OURS,
            labels=wanted.labels,
            attachable=wanted.attachable,
            ipv4=wanted.ipv4,
            ipv6=wanted.ipv6,
        )
        made = await self._add(network, wanted.ipam_options["network"])
        self.made.append(wanted.name)
        return made

    async def delete_network(self, network_id: str) -> None:
        """See `Engine.delete_network`."""
        self._answer()
        for network in [each for each in self._networks.values() if each.id == network_id]:
            await self.rm(network.name)

    async def sandbox(self, container_id: str) -> str:
        """See `Engine.sandbox`: no container has one."""
        return f"/run/docker/netns/{container_id[:12]}"

    async def sandboxes(self) -> set[str]:
        """See `Engine.sandboxes`."""
        return {
            await self.sandbox(leg.container_id)
            for each in self._networks.values()
            for leg in each.endpoints
            if leg.container_id
        }

    async def container(self, container_id: str) -> EngineContainer | None:
        """See `Engine.container`: they are known by their legs only."""
        del container_id
        return None

    async def events(self) -> AsyncGenerator[EngineEvent | None]:
        """See `Engine.events`: the stream opens, and closes; `tell` has the events."""
        yield None

    async def close(self) -> None:
        """See `Engine.close`."""

    # ---------------------------------------------------------------- inside

    async def _add(self, network: EngineNetwork, cluster: str) -> str:
        if network.name in self._networks:
            raise Conflict(f"the Docker Engine refuses: network with name {network.name} already exists")
        if network.driver == OURS and self.driver_runs:
            record = NetworkRecord(
                id=network.id, name=network.name, cluster=cluster, given=network.options, at=self._now()
            )
            await self.tables.networks.put(record, network.id)
        self._networks[network.name] = network
        self._tell("create", network)
        return network.id

    def _tell(self, action: str, network: EngineNetwork) -> None:
        if self.driver_runs and (network.driver == OURS or action == "destroy"):
            self.tell(NetworkEvent(action, network.id, network.name))

    def _answer(self) -> None:
        if self.trouble.raises:
            raise self.trouble.raises
        if self.trouble.away:
            raise Unavailable("the Docker Engine does not answer")
