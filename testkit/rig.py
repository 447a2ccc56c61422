"""A whole driver on fakes, as a test wants it."""

import json
from dataclasses import dataclass
from typing import Any, Self

from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.ipam.owners import Identity
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.corrections import Correction
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Store
from macvlan_global.store.table import AVOIDED, Tables
from testkit.fake_clock import FakeClock
from testkit.fake_engine import FakeEngine
from testkit.fake_kernel import FakeKernel
from testkit.faults import Faults, FaultyStore
from testkit.plugin_calls import InProcess

HOST = Identity("a", "run1", "boot1")


@dataclass(frozen=True, slots=True)
class Rig:
    """The driver, what it stands on, and the engine that calls it. `disk` is what outlives the driver."""

    driver: Driver
    kernel: FakeKernel
    disk: Store
    clock: FakeClock
    engine: FakeEngine
    faults: Faults

    @classmethod
    async def build(  # noqa: PLR0913 - each of another owner
        cls,
        *devices: str,
        kernel: FakeKernel | None = None,
        disk: Store | None = None,
        settings: Settings | None = None,
        identity: Identity = HOST,
        clock: FakeClock | None = None,
        steady: FakeClock | None = None,
        engine: FakeEngine | None = None,
    ) -> Self:
        """A driver on a host with these devices (eth0 if none are named). Give what outlived an earlier one. Without a
        `steady` clock the other one is never set."""
        faults = Faults()
        if kernel is None:
            kernel = FakeKernel(*(devices or ("eth0",)))
        kernel.faults = faults
        disk = disk or MemoryStore()
        clock = clock or FakeClock()
        store = FaultyStore(disk, faults)
        driver = Driver.build(Tables(store, store), kernel, identity, settings or Settings(), now=clock, steady=steady)
        await driver.pools.load()
        if engine is None:
            engine = FakeEngine(InProcess(driver), kernel)
        engine.call(InProcess(driver), kernel)
        return cls(driver, kernel, disk, clock, engine, faults)

    async def mend(self, *, grace: float = 0, engine: bool = True) -> list[Correction]:
        """Repair, with the engine's view unless said otherwise; what was corrected."""
        reconciler = Reconciler(self.driver, grace=grace, now=self.clock)
        return await reconciler.reconcile(self.engine if engine else None)

    async def snapshot(self) -> dict[str, Any]:
        """Everything in the store and in the kernel, but times and indices, to be compared. Static addresses that are
        remembered are left out: they stay when their containers go."""
        entries = [each for each in await self.disk.scan("") if not each.key.startswith(AVOIDED)]
        state = {entry.key: _without_times(entry.value) for entry in entries}
        hosted = {name: (link.kind, link.up, link.mac) for name, link in self.kernel.hosted.items()}
        inside = {path: sorted(links) for path, links in self.kernel.sandboxed.items() if links}
        return {"state": state, "host": hosted, "containers": inside}


def _without_times(value: bytes) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(value)
    return {key: content for key, content in record.items() if key != "at"}
