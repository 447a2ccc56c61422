"""The driver as a whole: its parts, wired to each other, over whatever kernel and store they are given."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from macvlan_global.attach.attach import Attacher
from macvlan_global.attach.options import AttachWay
from macvlan_global.driver.address_probe import AddressProbe
from macvlan_global.driver.endpoints import Endpoints, describe_endpoint
from macvlan_global.driver.networks import Networks
from macvlan_global.driver.outbox import Outbox
from macvlan_global.ipam.auto_pool import DEFAULT_AUTO_POOLS, AutoPool
from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pools import Pools
from macvlan_global.kernel.ports import Kernel
from macvlan_global.parents.choose import ParentChooser
from macvlan_global.parents.owned import OwnedParents
from macvlan_global.store.records import AddressRecord, NetworkRecord
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Subnet


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may set about the driver. `aliases` are parent lists by name; `shared` says that other hosts
    use the store of the shared tables too; `probe` and `attach` are for networks that do not say. Scope `swarm` says
    that the engine's swarm mode shares networks instead."""

    scope: str = "local"
    shared: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    auto_pools: Sequence[AutoPool] = DEFAULT_AUTO_POOLS
    probe: bool = False
    attach: AttachWay = "plain"


class _Peers:
    """Answers the address book about holders; see `ipam.pools.Peers`."""

    def __init__(
        self,
        tables: Tables,
        identity: Identity,
        endpoints: Callable[[], Endpoints],
        host_name: Callable[[str], str],
    ) -> None:
        self._tables = tables
        self._identity = identity
        self._endpoints = endpoints
        self._host_name = host_name

    async def is_stale(self, address: AddressRecord) -> bool:
        return await self._endpoints().is_stale(address)

    async def network_name(self, network: str) -> str:
        removed = await self._tables.removed.get(network)
        if removed:
            return f"{removed.record.name} (removed, and containers still run on it)"
        for row in await self._tables.networks.scan():
            if row.record.shared_id == network and row.record.name:
                return row.record.name
        defined = {row.record.id: row.record.name for row in await self._tables.definitions.scan()}
        return defined.get(network, network[:12])

    async def endpoint_name(self, address: AddressRecord) -> str:
        if address.host != self._identity.host:
            row = await self._tables.names.get(address.host, address.endpoint)
            names = row.record.names if row else []
            return f"container {names[0]}" if names else f"endpoint {address.endpoint[:12]}"
        found = await self._endpoints().find(address.endpoint)
        return describe_endpoint(found) if found else f"endpoint {address.endpoint[:12]}"

    def host_name(self, host: str) -> str:
        if host == self._identity.host:
            return self._identity.name or host
        return self._host_name(host)


@dataclass(frozen=True, slots=True)
class Driver:
    """Networks, endpoints and addresses of one host. Front ends call these, and nothing below them."""

    identity: Identity
    tables: Tables
    kernel: Kernel
    owned: OwnedParents
    pools: Pools
    networks: Networks
    endpoints: Endpoints
    on_wire: AddressProbe
    attacher: Attacher
    outbox: Outbox | None = None

    @classmethod
    def build(  # noqa: PLR0913 - each of another owner
        cls,
        tables: Tables,
        kernel: Kernel,
        identity: Identity,
        settings: Settings,
        *,
        host_name: Callable[[str], str] = str,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> Self:
        """Wire the parts. Call `pools.load()` before the first request. `host_name` knows other hosts by their id.

        `steady` is a clock that nobody sets, `now` if there is none.
        """

        async def routes() -> list[Subnet]:
            facts = await kernel.routes()
            return [*facts.destinations, *(address.network for _, address in facts.addresses)]

        outbox = Outbox(tables, identity.host, now=now) if settings.shared else None

        async def ready_parent(network: NetworkRecord) -> str:
            return (await networks.ready_parent(network)).name

        on_wire = AddressProbe(tables, kernel, ready_parent, default=settings.probe, now=now)
        pools = Pools(
            tables,
            identity,
            auto_pools=settings.auto_pools,
            routes=routes,
            peers=_Peers(tables, identity, lambda: endpoints, host_name),
            later=outbox.add if outbox else None,
            in_use=on_wire.in_use,
            now=now,
        )
        if outbox:
            outbox.attach(pools)
        owned = OwnedParents(kernel, tables.links, identity.boot, now=now)
        parents = ParentChooser(kernel, owned, settings.aliases, settings.scope)
        networks = Networks(
            tables, pools, kernel, owned, parents, outbox=outbox, swarm=settings.scope == "swarm", now=now
        )
        attacher = Attacher(kernel, tables, default=settings.attach)
        endpoints = Endpoints(tables, pools, kernel, networks, identity, attacher, now=now, steady=steady)
        return cls(identity, tables, kernel, owned, pools, networks, endpoints, on_wire, attacher, outbox)
