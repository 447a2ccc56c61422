"""What the replicator of a simulated host does, in short: the cluster's networks are made here, removed ones go."""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from macvlan_global.engine.ports import EngineNetwork
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.store.records import DefinitionRecord
from macvlan_global.store.table import Tables
from testkit.simulated_engine import SimulatedEngine
from testkit.simulated_host import GRACE, Run, SimulatedHost


class SimulatedReplication:
    """Compares when it is told to, and not twice at one time."""

    def __init__(self, host: SimulatedHost, engine: SimulatedEngine, tell: Callable[[str], None]) -> None:
        """`tell` takes what a reader of the story wants to know."""
        self._host = host
        self._engine = engine
        self._tell = tell
        self._comparing = asyncio.Lock()

    async def compare(self) -> None:
        """Make this host's networks what the cluster's are, as far as store and driver allow it now."""
        run = self._host.run
        if run is None or not run.serving:
            return
        with contextlib.suppress(MacvlanGlobalError):
            async with self._comparing:
                await self._compare(run)

    async def _compare(self, run: Run) -> None:
        tables = run.driver.tables
        removed = {row.record.id for row in await tables.removed.scan()}
        removed |= {row.record.network for row in await tables.pending.scan() if row.record.kind == "removal"}
        rows = await tables.definitions.scan()
        for row in rows:
            if row.record.id in removed:
                await tables.definitions.delete(row)
        defined = {row.record.name: row.record for row in rows if row.record.id not in removed}
        await self._tell_unseen_removals(run)
        for network in await self._engine.networks():
            await self._look_at(tables, network, removed, defined.get(network.name))
        for definition in defined.values():
            if self._engine.has(definition.name) is None:
                await self._engine.join_network(definition)
                self._tell(f"{self._host.name} has network {definition.name} too")

    async def _tell_unseen_removals(self, run: Run) -> None:
        """A network of the cluster that the engine no longer has was removed by its operator."""
        records = await run.driver.networks.all()
        known = {each.id for each in await self._engine.networks()}
        for record in records:
            if record.published and abs(self._host.clock() - record.at) > GRACE and record.id not in known:
                await run.driver.networks.delete(record.id)

    async def _look_at(
        self, tables: Tables, network: EngineNetwork, removed: set[str], definition: DefinitionRecord | None
    ) -> None:
        cluster = network.ipam_options.get("network", network.id)
        if self._engine.has(network.name) is None:
            return  # it went meanwhile
        if cluster in removed:
            if not self._engine.is_busy(network.name):
                await self._engine.remove(network.name)
        elif definition is None or definition.id == cluster:
            await self._publish(tables, network)

    async def _publish(self, tables: Tables, network: EngineNetwork) -> None:
        definition = self._engine.definition(network.name)
        row = await tables.networks.get(network.id)
        if row and not row.record.published:
            named = msgspec.structs.replace(row.record, published=True, name=network.name)
            await tables.networks.replace(row, named)
        await tables.definitions.create(definition, definition.name)
