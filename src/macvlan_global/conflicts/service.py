"""The parts of the conflict watch, wired: the watch, the check of gateways, and vendors."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from macvlan_global.conflicts.gateways import GatewayCheck
from macvlan_global.conflicts.vendors import Vendors
from macvlan_global.conflicts.watch import ConflictWatch
from macvlan_global.driver.driver import Driver


@dataclass(frozen=True, slots=True)
class ConflictService:
    """The watch for conflicts, the check of gateways, and vendors of MACs."""

    watch: ConflictWatch
    gateways: GatewayCheck
    vendors: Vendors

    @classmethod
    def build(cls, driver: Driver, *, host_name: Callable[[str], str] = str) -> Self:
        """Wire the parts; nothing runs yet. `host_name` gives the name of another host by its id."""
        watch = ConflictWatch(driver, host_name=host_name)
        return cls(watch, GatewayCheck(driver, watch), Vendors())

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.watch.run())
            group.create_task(self.gateways.run())

    def notices(self) -> list[str]:
        """Gateways that nobody answers for, and what keeps conflicts from being seen, in words for operators."""
        return [*self.watch.notices(), *self.gateways.problems()]
