"""The driver as a whole: its parts, wired to each other, over whatever kernel and store they are given."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from macvlan_global.driver.endpoints import Endpoints, describe_endpoint
from macvlan_global.driver.networks import Networks
from macvlan_global.ipam.autopool import DEFAULT_AUTO_POOLS, AutoPool
from macvlan_global.ipam.holders import Identity
from macvlan_global.ipam.pools import Pools
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


class _Peers:
    """Answers the address book about holders; see `ipam.pools.Peers`."""

    def __init__(self, tables: Tables, endpoints: Callable[[], Endpoints]) -> None:
        self._tables = tables
        self._endpoints = endpoints

    async def is_stale(self, address: AddressRecord) -> bool:
        return await self._endpoints().is_stale(address)

    async def network_name(self, network: str) -> str:
        row = await self._tables.networks.get(network)
        return row.record.name if row and row.record.name else network[:12]

    async def endpoint_name(self, network: str, endpoint: str) -> str:
        row = await self._tables.endpoints.get(network, endpoint)
        return describe_endpoint(row.record) if row else f"endpoint {endpoint[:12]}"


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

        async def routes() -> list[Subnet]:
            facts = await kernel.routes()
            return [*facts.destinations, *(address.network for _, address in facts.addresses)]

        pools = Pools(
            tables,
            identity,
            auto_pools=settings.auto_pools,
            routes=routes,
            peers=_Peers(tables, lambda: endpoints),
            now=now,
        )
        owned = ParentLinks(kernel, tables.links, identity.boot, now=now)
        parents = HostParents(kernel, owned, settings.aliases, settings.scope)
        networks = Networks(tables, pools, kernel, owned, parents, now=now)
        endpoints = Endpoints(tables, pools, kernel, networks, identity, now=now)
        return cls(identity, tables, kernel, owned, pools, networks, endpoints)
