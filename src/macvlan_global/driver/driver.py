"""The driver as a whole: its parts, wired to each other, over whatever kernel and store they are given."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from macvlan_global.driver.endpoints import Endpoints
from macvlan_global.driver.networks import Networks
from macvlan_global.ipam.pools import DEFAULT_AUTO_POOLS, AutoPool, Identity, Pools
from macvlan_global.kernel.ports import Kernel
from macvlan_global.links.host import HostParents
from macvlan_global.links.owned import ParentLinks
from macvlan_global.store.records import AddressRecord, Tables
from macvlan_global.subnets import Subnet


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set about the driver. `aliases` are parent lists by name."""

    scope: str = "local"
    aliases: Mapping[str, str] = field(default_factory=dict)
    auto_pools: Sequence[AutoPool] = DEFAULT_AUTO_POOLS


@dataclass(frozen=True, slots=True)
class Driver:
    """Networks, endpoints and addresses of one host. Front ends call these, and nothing below them."""

    identity: Identity
    tables: Tables
    kernel: Kernel
    owned: ParentLinks
    pools: Pools
    networks: Networks
    endpoints: Endpoints

    @classmethod
    def build(
        cls,
        tables: Tables,
        kernel: Kernel,
        identity: Identity,
        settings: Settings,
        *,
        now: Callable[[], float] = time.time,
    ) -> Self:
        """Wire the parts. Call `pools.load()` before the first request."""

        async def is_stale(address: AddressRecord) -> bool:
            return await endpoints.is_stale(address)

        async def routes() -> list[Subnet]:
            facts = await kernel.routes()
            return [*facts.destinations, *(address.network for _, address in facts.addresses)]

        pools = Pools(tables, identity, auto_pools=settings.auto_pools, routes=routes, is_stale=is_stale, now=now)
        owned = ParentLinks(kernel, tables.links, now=now)
        parents = HostParents(kernel, owned, settings.aliases, settings.scope)
        networks = Networks(tables, pools, kernel, owned, parents, now=now)
        endpoints = Endpoints(tables, pools, kernel, networks, identity, now=now)
        return cls(identity, tables, kernel, owned, pools, networks, endpoints)
