"""The driver as a whole: its parts, each built from earlier ones, over any kernel and store.

ipam (Addresses, Pools) ─► Outbox
attach, ipam.owners     ─► Liveness ─► Holders ─► AddressClaims ─► Networks ─► NameMemory ─► Endpoints
                                                                      └─► AddressProbe ─┴─► IpamDriver ─► HostAccess
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from macvlan_global.attach.attach import Attacher
from macvlan_global.driver.address_probe import AddressProbe
from macvlan_global.driver.addresses import IpamDriver
from macvlan_global.driver.claims import AddressClaims
from macvlan_global.driver.endpoint_table import EndpointTable
from macvlan_global.driver.endpoints import Endpoints
from macvlan_global.driver.holders import Holders
from macvlan_global.driver.host_addresses import HostAddresses
from macvlan_global.driver.host_claims import HostClaims
from macvlan_global.driver.liveness import Liveness
from macvlan_global.driver.name_memory import NameMemory
from macvlan_global.driver.networks import Networks
from macvlan_global.driver.outbox import Outbox
from macvlan_global.host_access.access import HostAccess, HostAccessSettings
from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.auto_pool import DEFAULT_AUTO_POOLS, AutoPool
from macvlan_global.ipam.cache import PoolCache
from macvlan_global.ipam.owners import Identity
from macvlan_global.ipam.pools import Pools
from macvlan_global.kernel.ports import Kernel
from macvlan_global.options.network import AttachWay
from macvlan_global.parents.choose import ParentChooser
from macvlan_global.parents.owned import OwnedParents
from macvlan_global.store.records import EndpointRecord
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Address


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the operator. `aliases` are parent lists by name; `shared` says that other hosts
    use the store of the shared tables too; `probe`, `attach` and `host_access` are for networks that do not
    say; `access_addresses` are addresses of this host for `host_access`. Scope `swarm` says
    that the engine's swarm mode shares networks instead."""

    scope: str = "local"
    shared: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    auto_pools: Sequence[AutoPool] = DEFAULT_AUTO_POOLS
    probe: bool = False
    attach: AttachWay = "plain"
    host_access: bool = False
    access_addresses: Sequence[Address] = ()


@dataclass(frozen=True, slots=True)
class ClusterHooks:
    """Calls of the driver into the rooms of a cluster, which exist before it. The defaults are those of a host alone.

    `host_name` gives the name of another host by its id. `admission` gives the reason why no further container may
    start on a network (the engine's id), "" if one may, and how many may be on it all the same. `on_created` is told of
    each endpoint that is made, before its container runs, with the network's id in the cluster; `on_deleted` of each
    that is gone.
    """

    host_name: Callable[[str], str] = str
    admission: Callable[[str], tuple[str, int]] = lambda _network: ("", 0)
    on_deleted: Callable[[EndpointRecord], None] = lambda _endpoint: None
    on_created: Callable[[EndpointRecord, str], None] = lambda _endpoint, _network: None


ALONE = ClusterHooks()


@dataclass(frozen=True, slots=True)
class Driver:
    """Networks, endpoints and addresses of one host. Front ends call these, and nothing below them.

    `ipam` answers Docker's IPAM requests; `claims` are made by networks and endpoints; `pools` and `addresses` are the
    records below both, for views, repair and reclaim.
    """

    identity: Identity
    tables: Tables
    kernel: Kernel
    owned: OwnedParents
    pools: Pools
    addresses: Addresses
    claims: AddressClaims
    networks: Networks
    endpoints: Endpoints
    liveness: Liveness
    probe: AddressProbe
    memory: NameMemory
    ipam: IpamDriver
    attacher: Attacher
    hosts: HostAddresses
    host_access: HostAccess
    outbox: Outbox | None

    @classmethod
    def build(  # noqa: PLR0913 - each of another owner
        cls,
        tables: Tables,
        kernel: Kernel,
        identity: Identity,
        settings: Settings,
        *,
        hooks: ClusterHooks = ALONE,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> Self:
        """Wire the parts. `steady` is a clock that nobody sets. Call `pools.load()` before the first request."""
        clock = steady or now
        cache = PoolCache(host=identity.host, shared=settings.shared, steady=clock)
        addresses = Addresses(tables, cache, identity, shared=settings.shared, now=now, steady=clock)
        pools = Pools(tables, cache, addresses, identity, auto_pools=settings.auto_pools, now=now)
        outbox = Outbox(tables, pools, addresses, identity.host, now=now) if settings.shared else None
        attacher, table = Attacher(kernel, tables, default=settings.attach), EndpointTable(tables.endpoints)
        liveness = Liveness(table, kernel, attacher, identity, now=now, steady=steady)
        holders = Holders(tables, table, identity, liveness, host_name=hooks.host_name)
        claims, swarm = AddressClaims(pools, addresses, holders, outbox), settings.scope == "swarm"
        owned = OwnedParents(kernel, tables.links, identity.boot, now=now)
        parents = ParentChooser(kernel, owned, settings.aliases, settings.scope)
        networks = Networks(
            tables,
            claims,
            kernel,
            owned,
            parents,
            liveness,
            outbox=outbox,
            swarm=swarm,
            admission=hooks.admission,
            now=now,
        )
        memory = NameMemory(tables, addresses, networks, table, identity.host, now=now, steady=steady)
        created, deleted = hooks.on_created, hooks.on_deleted
        endpoints = Endpoints(
            table, claims, networks, attacher, liveness, memory, on_created=created, on_deleted=deleted, now=now
        )
        probe = AddressProbe(tables, kernel, networks, cache.avoided, default=settings.probe, now=now)
        hosts = HostAddresses(kernel, cache.avoided, identity.host, host_name=hooks.host_name)
        left = networks.leftovers
        ipam = IpamDriver(pools, addresses, holders, probe, kernel, hosts, memory, left, outbox=outbox)
        giver = HostClaims(ipam, claims, identity.host)
        wanted = HostAccessSettings(settings.host_access, settings.access_addresses)
        access = HostAccess(tables, kernel, giver, identity.host, identity.boot, wanted, now=now)
        networks.on_change = endpoints.on_change = access.on_change
        above = (endpoints, liveness, probe, memory, ipam, attacher, hosts, access, outbox)
        return cls(identity, tables, kernel, owned, pools, addresses, claims, networks, *above)
