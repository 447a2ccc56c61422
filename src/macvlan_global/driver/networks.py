"""Networks of this host: CreateNetwork, DeleteNetwork, and a parent that is there and up for each container.

CreateNetwork checks the options, chooses the parent (`parents/`), records the network, claims its pools, gateways and
aux addresses, and makes the parent if it is a sub-interface of ours. DeleteNetwork takes all of it away again; in a
cluster it also writes the network's tombstone. A network whose parent is gone moves to another entry of its list as
long as no container runs on it. Decisions about parents compare networks, so there is one lock for them all. Steps
that fail are undone by the undo stack; names come from the engine's events, see `reconcile.engine_follower`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from ipaddress import IPv4Address, IPv6Interface

import msgspec

from macvlan_global.deadline import held
from macvlan_global.driver.claims import AddressClaims
from macvlan_global.driver.liveness import Liveness
from macvlan_global.driver.outbox import Outbox
from macvlan_global.driver.requests import (
    NetworkRequest,
    SubnetRequest,
    refuse_in_swarm,
    refuse_outside_swarm,
)
from macvlan_global.driver.swarm_ipv6 import derived_address, derived_subnet
from macvlan_global.driver.undo import Leftovers, Undo
from macvlan_global.errors import Conflict, Invalid, NotFound, Unavailable
from macvlan_global.ipam.owners import Holder
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.ipam.subnet_use import SpaceSubnet
from macvlan_global.kernel.ports import Kernel, LinkFact
from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.options.network import MIN_MTU_IPV6, NetworkOptions, parse_options
from macvlan_global.parents.choose import ParentChooser, ParentList
from macvlan_global.parents.owned import OwnedParents
from macvlan_global.parents.rules import Choice, Parent, no_usable_parent
from macvlan_global.store.records import EndpointRecord, NetworkRecord, PoolRecord, SubnetRecord
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Subnet

log = logging.getLogger(__name__)


async def nobody(_network: NetworkRecord) -> None:
    """The listener to changes of networks and their containers if there is none."""


class Networks:
    """Networks of this host. Every method may be repeated and called by many at once."""

    def __init__(  # noqa: PLR0913 - each of another owner
        self,
        tables: Tables,
        claims: AddressClaims,
        kernel: Kernel,
        owned: OwnedParents,
        parents: ParentChooser,
        liveness: Liveness,
        *,
        outbox: Outbox | None = None,
        swarm: bool = False,
        admission: Callable[[str], tuple[str, int]] = lambda _network: ("", 0),
        now: Callable[[], float] = time.time,
    ) -> None:
        """`owned` makes and removes parents, `parents` chooses them, `liveness` tells whether containers are on one;
        with an `outbox`, networks are the cluster's.

        `admission` gives the reason why no further container may start on a network (the engine's id), "" if one may,
        and how many may be on it all the same.

        In a `swarm` a node creates a network for its first container, and the user does not see an error of
        CreateNetwork. So every network is created, and Join reports what is wrong with it.
        """
        self._tables = tables
        self._claims = claims
        self._kernel = kernel
        self._owned = owned
        self._parents = parents
        self._liveness = liveness
        self._outbox = outbox
        self._swarm = swarm
        self._now = now
        self._admission = admission
        self.leftovers = Leftovers()
        """Suspected leftovers of requests about networks, endpoints, pools and addresses."""
        self.on_change: Callable[[NetworkRecord], Awaitable[None]] = nobody
        """Called with each network that was created or deleted. It must not fail."""
        self.drop_endpoint: Callable[[NetworkRecord, EndpointRecord], Awaitable[None]]
        """Drops an endpoint that its network takes along: see `Endpoints.drop`."""
        # decisions about parents compare networks, so two must not overlap
        self._deciding = asyncio.Lock()
        self._turns = KeyedLock()

    async def create(self, request: NetworkRequest, *, strict: bool = True) -> None:
        """Create a network: choose and make its parent, claim its pools and addresses. Idempotent.

        With `strict=False` (the engine has the network already) unknown options are ignored.

        Raises:
            Invalid: an option is unknown or malformed; no parent is usable.
            Conflict: a pool, an address or the parent belongs to another network.
        """
        joined = await self._joined(request)
        options = self._parse(request, strict=strict and not joined)  # those of a copy may be of another release
        async with self._turns.of(request.id), Undo(f"create network {request.id[:12]}", self.leftovers) as undo:
            derived = derived_subnet(options) if self._swarm else []
            subnets = [each.subnet for each in request.subnets] + [each.prefix for each in derived]
            if strict and not self._swarm:
                refuse_outside_swarm(request, options, joined=bool(joined), shared=self._outbox is not None)
            listed = await self._parents.listed(options.parent, options.parent_file)
            async with self._decision():
                before = await self._tables.networks.get(request.id)
                # a repeated request must not move the network, even if a better parent is there by now
                kept = await self._usable(before.record.parent) if before else None
                parent = kept or await self._first_parent(request.id, options, listed, subnets, joined=bool(joined))
                requested = NetworkRecord(
                    id=request.id,
                    cluster=joined or (request.id if self._outbox else ""),
                    given=request.options,
                    internal=request.internal,
                    parent=parent.name if parent else "",
                    at=self._now(),
                )
                if before is None:  # a failing repetition must not undo the first request
                    undo.push("its followers", lambda: self.on_change(requested))  # once it is gone
                    undo.push("its record", lambda: self._tables.networks.drop(request.id))
                # the record comes first: whatever a crash leaves behind is then found by its network
                record = await self._write(requested)
            if before is None and not joined:  # a joined pool belongs to the cluster
                undo.push("its addresses", lambda: self._drop_own(request.id, request.places))
            # not within the decision: these are many requests of the store, which others need not wait for
            claimed = [await self._claim_subnet(record.shared_id, each) for each in request.subnets]
            async with self._decision():
                made = await self._make(record, listed, subnets, parent) if parent else ""
                if made and before is None:
                    undo.push("its parent", lambda: self._undo_parent(made, request.id))
            if row := await self._tables.networks.change(request.id, subnets=[*claimed, *derived]):
                record = row.record
            self._claims.end_joining(record.shared_id)
            await self.on_change(record)
        if wrong := self.wrong_with(record):
            log.warning("network %s: no container can start on it: %s", request.id[:12], wrong)
        log.info("network %s created on parent %s", request.id[:12], parent.name if parent else "(none is usable now)")

    async def delete(self, network_id: str, *, everywhere: bool = True) -> None:
        """Delete a network, its claims, and a parent of ours that nothing else uses. Idempotent.

        If the cluster has it, the other hosts remove it too, each once nothing uses it there; with `everywhere=False`
        only this host forgets it. That is a guess: endpoints that the kernel shows in use stay, with their addresses.
        """
        operation = f"delete network {network_id[:12]}"
        left = self.leftovers.of(operation) if everywhere else nullcontext()  # repair looks again
        async with left, self._turns.of(network_id):
            row = await self._tables.networks.get(network_id)
            if row is None:
                return
            for endpoint in await self.endpoints(network_id):
                if not everywhere and await self._liveness.is_in_use(endpoint):
                    continue
                await self._kernel.delete(endpoint.link)
                # its own end failed, and its release had nothing to release then: another one does not follow
                await self._claims.let_go(row.record, endpoint, release_follows=False)
                await self.drop_endpoint(row.record, endpoint)
            record = await self._as_published(row.record)
            subnets = [(each.space, each.subnet) for each in record.subnets if each.space]
            tells = record.published and everywhere
            if not record.published:
                if record.shared_id == network_id:  # else it is a copy, and its claims are the cluster's
                    await self._drop_own(network_id, subnets)
            elif self._outbox and tells:
                await self._outbox.remove_network(record.shared_id, record.name, subnets)
            async with self._decision():
                # the record goes last: after a crash here, the next delete or reconciliation finishes
                await self._leave_parent(row.record.parent, network_id)
                await self._tables.networks.drop(network_id)
            if self._outbox and tells:
                await self._outbox.publish(record.shared_id)
        self.leftovers.deleted(network_id)
        await self.on_change(record)
        log.info("network %s deleted", network_id[:12])

    async def while_known(self, network_id: str, claim: Callable[[], Awaitable[object]]) -> None:
        """Make a claim of a network, or none if it was deleted meanwhile. A deletion waits for it, and then ends it."""
        async with self._turns.of(network_id):
            if await self._tables.networks.get(network_id):
                await claim()

    async def get(self, network_id: str) -> NetworkRecord:
        """The network.

        Raises:
            NotFound: it is not known on this host.
        """
        network = await self.find(network_id)
        if network is None:
            raise NotFound(
                f"network {network_id[:12]} is not known to macvlan-global on this host; its state was lost or it was "
                "made by another driver: remove the network and create it again"
            )
        return network

    async def find(self, network_id: str) -> NetworkRecord | None:
        """The network, None if it is not known on this host."""
        row = await self._tables.networks.get(network_id)
        return row.record if row else None

    async def find_shared(self, network_id: str) -> NetworkRecord | None:
        """The network with this id in the cluster, None if this host does not have it."""
        if row := await self._tables.networks.get(network_id):
            return row.record
        return next((each for each in await self.all() if each.shared_id == network_id), None)

    async def admit(self, network: NetworkRecord) -> None:
        """Raise Conflict if no container may start on this network now; the text has the reason and what to do."""
        reason, room = self._admission(network.id)
        if reason and len(await self.endpoints(network.id)) >= room:
            raise Conflict(reason)

    def wrong_with(self, network: NetworkRecord) -> str:
        """The reason why no container can start on a network as it is, "" if one can. Swarms have such networks."""
        try:
            self._refuse_at_join(network)
        except (Invalid, Conflict) as error:
            return str(error)
        return ""

    async def derived_address(self, network_id: str, address: IPv4Address) -> IPv6Interface | None:
        """The derived IPv6 address of an IPv4 address of a network in a swarm; None without -o ipv6-subnet.

        Raises:
            NotFound: the network is not known on this host.
        """
        subnet = (await self.get(network_id)).options.ipv6_subnet
        return derived_address(subnet, address) if subnet and self._swarm else None

    async def all(self) -> list[NetworkRecord]:
        """All networks of this host."""
        return [row.record for row in await self._tables.networks.scan()]

    def known(self) -> Collection[NetworkRecord]:
        """All networks of this host, from memory: see `KeptTable`."""
        return self._tables.networks.kept

    async def explain(self, network: NetworkRecord, listed: ParentList | None = None) -> Choice:
        """The parent that would be chosen now, with the verdict on each entry of its list, read now if not given."""
        listed = listed or await self._parents.listed(network.options.parent, network.options.parent_file)
        return await self._parents.choose(network.id, listed, [each.prefix for each in network.subnets])

    async def ready_parent(self, network: NetworkRecord) -> Parent:
        """The network's parent, which is there and up. It is chosen again if it is gone, or its alternative name in
        the list is that of another one now, and no container runs on it.

        A copy of another host's network chooses again for each first container: no user chose this host's parent.

        Raises:
            Unavailable: no entry is usable now; the text has the reason for each.
            Invalid, Conflict: the network cannot have containers; see `wrong_with`.
        """
        self._refuse_at_join(network)  # not when the endpoint is made: engine 20.10 would then never end the attachment
        if (current := await self._usable(network.parent)) and await self._stays(network):
            return current
        listed = await self._parents.listed(network.options.parent, network.options.parent_file)
        async with self._decision():
            network = await self.get(network.id)  # another container may have moved it meanwhile
            if (current := await self._usable(network.parent)) and await self._stays(network):
                return current
            choice = await self.explain(network, listed)
            if choice.parent is None:
                raise Unavailable(no_usable_parent(choice, listed.file))
            moves = choice.parent.name != network.parent
            if moves and await self._carries_containers(network):
                _, wrong = await self._parents.judge(network.parent)
                raise Unavailable(
                    f"the parent {network.parent} of network {network.shown} cannot be used now, and containers run on "
                    f"it: {wrong}; or stop them and the network moves to {choice.parent.name}"
                )
            await self._check(network.id, network.options, choice.parent, None)
            await self._owned.ensure(choice.parent)
            if moves:
                await self._move(network, choice.parent)
            return choice.parent

    async def parent_link(self, network: NetworkRecord) -> LinkFact | None:
        """The link of a network's parent, None if it is gone."""
        return await self._kernel.link(network.parent)

    async def remove_parent(self, parent: str) -> None:
        """Delete a parent of ours.

        Raises:
            Conflict: a network uses it now.
        """
        async with self._decision():
            if users := await self._others_on(parent, ""):
                raise Conflict(f"network {users[0].shown} uses the parent {parent}")
            await self._leave_parent(parent, "")

    async def name(self, network_id: str, name: str) -> None:
        """Record the engine's name of a network."""
        await self._tables.networks.change(network_id, name=name)

    async def endpoints(self, network_id: str) -> Sequence[EndpointRecord]:
        """The endpoints of a network on this host."""
        return [row.record for row in await self._tables.endpoints.scan(network_id) if row.record.is_live]

    def _decision(self) -> AbstractAsyncContextManager[None]:
        """The lock of decisions about parents."""
        return held(self._deciding, "other requests that decide about parents")

    async def _undo_parent(self, parent: str, network_id: str) -> None:
        """Delete a parent that was made for a network, unless another network has come to stand on it."""
        async with self._decision():
            await self._leave_parent(parent, network_id)

    async def _joined(self, request: NetworkRequest) -> str:
        """The network of the cluster that the requested one is a copy of, "" if it is none. A request that comes again
        finds the copy made."""
        if request.adopted:
            return request.cluster
        if joined := self._claims.joined(request.prefixes):
            return joined
        network = await self.find(request.id)
        return network.shared_id if network and network.shared_id != request.id else ""

    def _parse(self, request: NetworkRequest, *, strict: bool) -> NetworkOptions:
        """The options of a new network. In a swarm they are checked when a container joins: see `_refuse_at_join`."""
        try:
            return parse_options(request.options, strict=strict)
        except Invalid:
            if not self._swarm:
                raise
            return NetworkOptions()

    def _refuse_at_join(self, network: NetworkRecord) -> None:
        """Raise Invalid or Conflict if no container can start on a network that exists all the same."""
        if self._swarm:
            refuse_in_swarm(network)
        elif network.options_error:
            raise Invalid(network.options_error)

    async def _first_parent(
        self, network_id: str, options: NetworkOptions, listed: ParentList, subnets: list[Subnet], *, joined: bool
    ) -> Parent | None:
        """The parent of a new network; None for one of the cluster or of a swarm without a usable parent, or whose file
        is not read in time: it exists all the same."""
        try:
            parent = await self._choose(network_id, listed, subnets)
            await self._check(network_id, options, parent, subnets)
        except (Invalid, Conflict, Unavailable) as error:
            if not (joined or self._swarm):
                raise
            log.warning("network %s: no container can start on it here: %s", network_id[:12], error)
            return None
        return parent

    async def _make(self, record: NetworkRecord, listed: ParentList, subnets: list[Subnet], parent: Parent) -> str:
        """Make the parent of a new network, unless it is there; the name of the one that was made, "" if none was.

        If the kernel has that VLAN in a namespace that is not seen from here, the next usable entry of the list is it.
        """
        options, refused = record.options, dict[str, str]()
        while True:
            try:
                return parent.name if await self._owned.ensure(parent) else ""
            except Conflict as error:
                refused[parent.name] = str(error)
                choice = await self._parents.choose(record.id, listed, subnets, refused=refused)
                if choice.parent is None or choice.parent.name in refused:
                    raise
                parent = choice.parent
                await self._check(record.id, options, parent, subnets)
                await self._tables.networks.change(record.id, parent=parent.name)
                log.info("network %s: %s", record.id[:12], choice.explain())

    async def _choose(self, network_id: str, listed: ParentList, subnets: list[Subnet]) -> Parent:
        choice = await self._parents.choose(network_id, listed, subnets)
        if choice.parent is None:
            raise Invalid(no_usable_parent(choice, listed.file))
        if len(choice.verdicts) > 1 or listed.file:
            log.info("network %s: %s", network_id[:12], choice.explain())
        return choice.parent

    async def _usable(self, name: str) -> Parent | None:
        """The link of this name as a parent, None unless it is there, up, and can carry containers."""
        return (await self._parents.judge(name))[0] if name else None

    async def _stays(self, network: NetworkRecord) -> bool:
        """Whether a network keeps its usable parent, even if a better one is there."""
        own, options = network.shared_id == network.id, network.options
        if own and not options.parent_file:  # which no start of a container is to read
            subnets = [each.prefix for each in network.subnets]
            own = not await self._parents.leads_elsewhere(network.parent, options.parent, subnets)
        return own or await self._carries_containers(network)

    async def _carries_containers(self, network: NetworkRecord) -> bool:
        """Whether containers have links on the network's parent, up or down, as far as is known, or get them now."""
        if not network.parent:
            return False
        # a device that is gone took their links along; under one that was renamed they run on
        runs = self._liveness.may_run if await self._kernel.link(network.parent) else self._liveness.is_in_use
        for each in await self.endpoints(network.id):
            if each.sandbox and (await runs(each) or await self._kernel.link(each.link)):
                return True
        return False

    async def _check(
        self, network_id: str, options: NetworkOptions, parent: Parent, subnets: list[Subnet] | None
    ) -> None:
        """Raise Invalid or Conflict if this parent cannot carry the network; `subnets` are those of a new one."""
        key, mtu = options.mtu_key, options.mtu
        # with Docker's option, networks of older releases have the MTU of their parent if that is less
        if parent.mtu and mtu > parent.mtu and (key == "mtu" or subnets is not None):
            below = parent.master or parent.name
            raise Invalid(
                f"-o {key}={mtu} is above the MTU of the parent {below} ({parent.mtu}); use {parent.mtu} or less"
            )
        if mtu and mtu < MIN_MTU_IPV6 and any(subnet.version == 6 for subnet in subnets or ()):
            raise Invalid(f"-o {key}={mtu} is too small for IPv6; use {MIN_MTU_IPV6} or more")
        for other in await self._others_on(parent.name, network_id):
            mode = other.options.mode
            if "passthru" in {mode, options.mode}:
                use = "is in mode passthru" if mode == "passthru" else "is already using it"
                raise Conflict(
                    f"parent {parent.name} cannot be shared: network {other.shown} {use}, and a passthru network needs "
                    "the parent for itself. Use another parent, or remove that network"
                )

    async def _as_published(self, record: NetworkRecord) -> NetworkRecord:
        """The record with `published` set if the cluster defines this network: adopted records do not know."""
        if self._outbox and not record.published and record.shared_id == record.id:
            for row in await self._tables.definitions.scan():
                if row.record.id == record.id:
                    return msgspec.structs.replace(record, published=True, name=row.record.name)
        return record

    async def _drop_own(self, network_id: str, subnets: Sequence[SpaceSubnet]) -> None:
        """Release the claims of a network of this host in its subnets, unless the cluster defines it."""
        # keys of definitions are names, which a new network does not know yet
        if self._outbox and any(row.record.id == network_id for row in await self._tables.definitions.scan()):
            return
        if not await self._claims.drop_network(network_id, if_empty=self._outbox is not None, subnets=subnets):
            self.leftovers.suspect(f"network {network_id[:12]} has addresses of containers that are not known")

    async def _others_on(self, parent: str, network_id: str) -> list[NetworkRecord]:
        return [each for each in await self.all() if each.parent == parent and each.id != network_id]

    async def _leave_parent(self, parent: str, network_id: str) -> None:
        """Delete a parent of ours that only this network used, and its masters that are ours and carry nothing else."""
        owned = await self._owned.owned()
        while (record := owned.get(parent)) and not await self._others_on(parent, network_id):
            if not await self._owned.remove(parent):
                return
            parent = record.master

    async def _claim_subnet(self, shared_id: str, request: SubnetRequest) -> SubnetRecord:
        gateway = str(request.gateway or "")
        aux = {name: str(address) for name, address in request.aux.items()}
        if request.space != DEFAULT_SPACE:  # another IPAM driver gives the addresses
            return SubnetRecord(space="", subnet=str(request.subnet), gateway=gateway, aux=aux)
        pool = await self._claim_pool(request, shared_id)
        wanted = [(request.gateway, Holder("gateway", shared_id))] if request.gateway else []
        wanted += [(address, Holder("aux", shared_id, label=name)) for name, address in request.aux.items()]
        # side by side, as there may be many; all end before the first failure is raised, so that it can be undone
        claims = (self._claims.claim(pool, address, holder) for address, holder in wanted)
        for failed in await asyncio.gather(*claims, return_exceptions=True):
            if isinstance(failed, Conflict) and request.adopted:
                log.warning("network %s: %s", shared_id[:12], failed)
            elif failed:
                raise failed
        return SubnetRecord(space=pool.space, subnet=pool.subnet, range=pool.range, gateway=gateway, aux=aux)

    async def _claim_pool(self, request: SubnetRequest, shared_id: str) -> PoolRecord:
        """The pool of a subnet. A network that is adopted keeps its own, also if another network has it by now: its
        containers run. Repair tells of the conflict for as long as it lasts."""
        if request.adopted is None:
            return await self._claims.claim_pool(request.subnet, shared_id)
        try:
            await self._claims.restore_pool(request.adopted)
        except Conflict as error:
            log.warning("network %s: %s", shared_id[:12], error)
        return request.adopted

    async def _write(self, requested: NetworkRecord) -> NetworkRecord:
        """Write the record of a network that is created, for the first time or again: what was learnt of it stays."""
        fields = {name: getattr(requested, name) for name in ("given", "internal", "parent", "at")}
        row = await self._tables.networks.change(requested.id, **fields)
        if row is None and not self._swarm:  # which makes one network again and again
            self.leftovers.created(requested.id, f"create network {requested.id[:12]}")
        return (row or await self._tables.networks.put(requested, requested.id)).record

    async def _move(self, network: NetworkRecord, parent: Parent) -> None:
        if await self._tables.networks.change(network.id, parent=parent.name) is None:
            return
        log.warning("network %s moved from parent %s to %s", network.id[:12], network.parent, parent.name)
        await self._leave_parent(network.parent, network.id)
