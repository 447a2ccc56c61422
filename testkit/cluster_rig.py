"""Several drivers on fakes that share one store, each with a disk, a kernel and an engine of its own."""

from dataclasses import dataclass, field
from typing import Self

import msgspec

from macvlan_global.driver.driver import ALONE, ClusterHooks, Driver, Settings
from macvlan_global.driver.outbox import Outbox
from macvlan_global.ipam.owners import Identity
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.corrections import Correction
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import DefinitionRecord
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock
from testkit.fake_engine import FakeEngine, Subnet
from testkit.fake_kernel import FakeKernel
from testkit.faults import Faults, FaultyStore
from testkit.plugin_calls import InProcess

SETTINGS = Settings(scope="global", shared=True)


@dataclass(frozen=True, slots=True)
class ClusterHost:
    """One host of the rig. `faults` are those of its way to the shared store; the engine calls through `plugin`."""

    driver: Driver
    engine: FakeEngine
    kernel: FakeKernel
    disk: MemoryStore
    clock: FakeClock
    faults: Faults
    plugin: InProcess

    @property
    def outbox(self) -> Outbox:
        """The outbox of this host."""
        assert self.driver.outbox is not None
        return self.driver.outbox

    async def publish(self, name: str, *subnets: Subnet) -> str:
        """Create a network and write its definition, as replication does after the engine's event; its id."""
        network = await self.engine.create_network(name, *subnets, options={"parent": "eth0"})
        await self.driver.networks.name(network, name)
        definition = DefinitionRecord(id=network, name=name, host=self.driver.identity.host, at=self.clock())
        await self.driver.tables.definitions.create(definition, name)
        await self._note_published(network)
        return network

    async def join(self, name: str, creator: "ClusterHost") -> str:
        """Make another host's network here, as replication does; its id here."""
        network = creator.engine.id_of(name)
        found = next(each for each in await creator.engine.networks() if each.id == network)
        subnets = [
            Subnet(each.subnet, each.range, each.gateway, each.aux, {"network": network}) for each in found.subnets
        ]
        made = await self.engine.create_network(name, *subnets, options=found.options)
        await self.driver.networks.name(made, name)
        await self._note_published(made)
        return made

    async def mend(self, *, grace: float = 0) -> list[Correction]:
        """Repair with the engine's view; what was corrected."""
        return await Reconciler(self.driver, grace=grace, now=self.clock).reconcile(self.engine)

    async def _note_published(self, network: str) -> None:
        row = await self.driver.tables.networks.get(network)
        assert row is not None
        await self.driver.tables.networks.replace(row, msgspec.structs.replace(row.record, published=True))


@dataclass(slots=True)
class ClusterRig:
    """The shared store, and the hosts by their ids. With `new_ids` a network gets another id each time it is made."""

    shared: MemoryStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=FakeClock)
    hosts: dict[str, ClusterHost] = field(default_factory=dict)
    new_ids: bool = False
    _runs: int = 0

    @classmethod
    async def build(cls, *, new_ids: bool = False) -> Self:
        """A store, and no hosts yet."""
        return cls(new_ids=new_ids)

    async def host(self, name: str, hooks: ClusterHooks = ALONE) -> ClusterHost:
        """A new host with one device, eth0."""
        kernel = FakeKernel("eth0")
        made = await self._start(name, kernel, MemoryStore(), None, hooks)
        self.hosts[name] = made
        return made

    async def restart(self, name: str, hooks: ClusterHooks = ALONE) -> ClusterHost:
        """The driver of a host starts anew; its disk, kernel and engine are what they were."""
        old = self.hosts[name]
        self.hosts[name] = await self._start(name, old.kernel, old.disk, old, hooks)
        return self.hosts[name]

    def reach(self, *, away: bool) -> None:
        """Take the store away from every host, or give it back."""
        for each in self.hosts.values():
            each.faults.away = away

    async def _start(
        self, name: str, kernel: FakeKernel, disk: MemoryStore, old: ClusterHost | None, hooks: ClusterHooks = ALONE
    ) -> ClusterHost:
        self._runs += 1
        faults = old.faults if old else Faults()
        tables = Tables(FaultyStore(self.shared.client(), faults), disk)
        identity = Identity(name, f"run{self._runs}", "boot1")
        driver = Driver.build(tables, kernel, identity, SETTINGS, hooks=hooks, now=self.clock)
        if not faults.away:
            await driver.pools.load()
        plugin = InProcess(driver)
        engine = old.engine if old else FakeEngine(plugin, kernel, host=name, new_ids=self.new_ids)
        engine.call(plugin, kernel)
        return ClusterHost(driver, engine, kernel, disk, self.clock, faults, plugin)
