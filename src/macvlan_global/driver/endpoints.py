"""Endpoints of this host: containers' interfaces on our networks, from CreateEndpoint to DeleteEndpoint.

CreateEndpoint chooses a MAC, records the endpoint and claims its addresses; `name_memory` knows whether they stay with
the container's name. Join makes its link on the parent of the network (`attach/` does), Leave deletes it in the
container, DeleteEndpoint deletes the record and gives up the claims. Requests about one endpoint take turns. The record
comes before the link and goes after it, so that whatever a crash leaves behind has a record for reconciliation.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import msgspec

from macvlan_global.attach.attach import Attacher
from macvlan_global.driver.claims import AddressClaims
from macvlan_global.driver.endpoint_table import EndpointCounts, EndpointTable
from macvlan_global.driver.holders import describe_endpoint
from macvlan_global.driver.liveness import Liveness
from macvlan_global.driver.name_memory import NameMemory
from macvlan_global.driver.networks import Networks, nobody
from macvlan_global.driver.requests import EndpointRequest, refuse_derived_mac
from macvlan_global.driver.undo import Undo
from macvlan_global.errors import Conflict, Invalid, MacvlanGlobalError, NotFound
from macvlan_global.ipam.owners import Holder
from macvlan_global.kernel.names import link_name, mac_from_address, mac_from_name, random_mac
from macvlan_global.keyed_lock import KeyedLock
from macvlan_global.store.records import EndpointRecord, NetworkRecord, PoolRecord, SubnetRecord
from macvlan_global.subnets import Address

S = TypeVar("S")
T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JoinResult:
    """Reply to Join: the link for the engine to move into the container, bare gateways ("" if none), and the name of a
    direct link there, "" for a plain one, which the engine moves and names."""

    link: str
    gateway: str
    gateway6: str
    ifname: str = ""


class Endpoints:
    """Endpoints of this host. Every method may be repeated and called by many at once."""

    def __init__(  # noqa: PLR0913 - each of another owner
        self,
        table: EndpointTable,
        claims: AddressClaims,
        networks: Networks,
        attacher: Attacher,
        liveness: Liveness,
        memory: NameMemory,
        *,
        on_created: Callable[[EndpointRecord, str], None] = lambda _endpoint, _network: None,
        on_deleted: Callable[[EndpointRecord], None] = lambda _endpoint: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`liveness` also has the boot that is recorded with each endpoint, `memory` the names of their containers.

        `on_created` is called with each endpoint that was made, and its network's id in the cluster, `on_deleted` with
        each that was deleted. They must be quick: the engine waits.
        """
        self._endpoints = table
        self._claims = claims
        self._networks = networks
        networks.drop_endpoint = self.drop
        self._attacher = attacher
        self._liveness = liveness
        self._memory = memory
        self._leftovers = networks.leftovers
        self._now = now
        self._on_created = on_created
        self._on_deleted = on_deleted
        self.on_change: Callable[[NetworkRecord], Awaitable[None]] = nobody
        """Called with a network on which a container got its link, or lost it. It must not fail."""
        # who may be on a parent is decided by comparing endpoints, so two decisions must not overlap
        self._comparing = asyncio.Lock()
        self._turns = KeyedLock()
        self._made: set[str] = set()  # ids of those that this run made and answered

    async def create(self, request: EndpointRequest) -> str:
        """Create an endpoint, claim its addresses, and return its MAC.

        Raises:
            NotFound: no such network here.
            Invalid: an address is outside the network's subnets; an interface name on a network with attach=plain.
            Conflict: an address or the MAC is in use; a passthru network has its one container; the endpoint exists
                with other addresses or another MAC.
        """
        async with self._turns.of(request.id):
            network = await self._networks.get(request.network)
            self._liveness.begin(request.id)  # also if it is repeated: the engine has it, and sets its container up
            before = await self._endpoints.get(request.network, request.id)
            if before:
                if not _same(before.record, request):
                    raise Conflict(f"endpoint {request.id[:12]} exists already, with other addresses or another MAC")
                if request.id in self._made:  # the engine may go by the first answer: it holds, wherever the store is
                    return before.record.mac
                return await self._create_again(network, before.record)
            await self._networks.admit(network)
            record = await self._new(network, request)
            async with Undo(operation := f"create endpoint {request.id[:12]}", self._leftovers) as undo:
                # first: a write whose answer is lost may be done, and the engine asks next time with another id
                undo.push("its record", lambda: self._endpoints.drop(record))
                if self._claims.in_own_store and not self._may_clash(network, record):
                    # asked in one turn, so mostly in one transaction; no claim is on the disk before its record
                    undo.push("its addresses", lambda: self._claims.let_go(network, record))
                    _, record = await _both(self._endpoints.put(record), self._claim_by_name(network, record))
                else:
                    await self._write_down(network, record)
                    undo.push("its addresses", lambda: self._claims.let_go(network, record))
                    record = await self._claim_by_name(network, record)
                await self._refuse_mac(network, record)
            self._made.add(request.id)
            self._leftovers.created(request.id, operation)
            self._memory.created(network, record)
            self._on_created(record, network.shared_id)
            return record.mac

    async def join(self, network_id: str, endpoint_id: str, sandbox: str) -> JoinResult:
        """Make the endpoint's link: plain, for the engine to move into the container, or direct, inside it.

        Raises:
            NotFound: no such network or endpoint here.
            Unavailable: no parent is usable now.
            Conflict: the kernel refuses the MAC, the parent, the name or an address.
        """
        async with self._turns.of(endpoint_id):
            network = await self._networks.get(network_id)
            endpoint = await self._endpoints.need(network_id, endpoint_id)
            self._liveness.begin(endpoint_id)
            parent = await self._networks.ready_parent(network)
            before = {name: getattr(endpoint, name) for name in ("sandbox", "parent", "why_plain")}
            async with Undo(f"join endpoint {endpoint_id[:12]}", self._leftovers) as undo:
                undo.push("its record", lambda: self._endpoints.change(endpoint, **before))
                now = {"sandbox": sandbox, "parent": parent.name, "why_plain": ""}
                joining = msgspec.structs.replace(endpoint, **now)
                # a container that has joined already keeps its link: this request came again, or late
                joined = endpoint.sandbox == sandbox
                if not joined:
                    undo.push("its link", lambda: self._attacher.delete(joining))
                if joining.attach == "direct":
                    # the record tells in which container the link is before there is one, in case of a crash
                    joining = await self._endpoints.change(endpoint, **now)
                    if not joined:
                        undo.push("its link inside", lambda: self._attacher.delete_inside(joining))
                    made = await self._attacher.attach(network, joining, parent, network.options, sandbox)
                else:  # a plain one has its name on this host from the endpoint's id; the engine moves it afterwards
                    joining, made = await _both(
                        self._endpoints.change(endpoint, **now),
                        self._attacher.attach(network, joining, parent, network.options, sandbox),
                    )
                if made.why_plain:
                    await self._endpoints.change(joining, why_plain=made.why_plain)
            await self.on_change(network)
            gateways = {each.version: str(gw) for each in joining.addresses if (gw := network.gateway_of(each))}
            return JoinResult(joining.link, gateways.get(4, ""), gateways.get(6, ""), made.ifname)

    async def leave(self, network_id: str, endpoint_id: str) -> None:
        """Delete the link inside the container. Idempotent."""
        if row := await self._endpoints.get(network_id, endpoint_id):
            network = await self._networks.find(network_id)
            await self._attacher.leave(row.record, network.options if network else None)

    async def delete(self, network_id: str, endpoint_id: str, *, release_follows: bool = True) -> None:
        """Delete an endpoint, its link and its claims. Idempotent.

        Its addresses stay reserved until the engine releases them. With `release_follows=False`, for reconciliation,
        they are free at once.

        Raises:
            Conflict: without a release to follow, the link is in a container by now.
        """
        operation = f"delete endpoint {endpoint_id[:12]}"
        left = self._leftovers.of(operation) if release_follows else contextlib.nullcontext()  # repair looks again
        async with left, self._turns.of(endpoint_id):
            row = await self._endpoints.get(network_id, endpoint_id)
            if row is None:
                return
            self._made.discard(endpoint_id)
            deleted = await self._attacher.delete(row.record)
            if not release_follows and not deleted and await self._liveness.is_in_use(row.record):
                raise Conflict(f"{describe_endpoint(row.record)} has just come into use")
            network = await self._networks.find(network_id)
            if network:
                await self._claims.let_go(network, row.record, release_follows=release_follows)
                self._memory.deleted(network, row.record)
            if await self._attacher.finish(row):
                self._endpoints.forget(row.record)
            else:
                await self._endpoints.drop(row.record)
            self._leftovers.deleted(endpoint_id)
            if row.record.is_inside:
                await self._restore_siblings(row.record)
            self._on_deleted(row.record)
            if network and row.record.sandbox:
                await self.on_change(network)

    async def drop(self, network: NetworkRecord, endpoint: EndpointRecord) -> None:
        """Drop an endpoint that its network takes along, and tell of its end; its link and claims have gone."""
        await self._endpoints.drop(endpoint)
        await self._tell_deleted(network, endpoint)

    async def adopt(self, request: EndpointRequest, *, sandbox: str, container: str) -> None:
        """Record an endpoint that the engine has and the state lost, and claim its addresses.

        Raises:
            NotFound: its network is not known.
            Conflict: somebody else claims an address of it; it is recorded, and the other one claimed, all the same.
        """
        async with self._turns.of(request.id):
            network = await self._networks.get(request.network)
            if await self._endpoints.get(network.id, request.id):  # its own request has come meanwhile
                return
            record = EndpointRecord(
                network=network.id,
                id=request.id,
                address=str(request.address or ""),
                address6=str(request.address6 or ""),
                mac=request.mac,
                link=link_name(request.id),
                parent=network.parent,
                sandbox=sandbox,
                boot=self._liveness.boot,
                at=self._now(),
                container=container,
            )
            await self._endpoints.put(record)  # it stays whoever has its addresses: the container runs
            try:
                await self._claim_each(network, record)
            finally:
                self._on_created(record, network.shared_id)
                await self.on_change(network)

    async def claim_again(self, endpoint_id: str) -> None:
        """Claim the addresses of an endpoint again, in case the store lost them. Nothing to do if it is gone.

        Raises:
            Conflict: somebody else claims an address of it; the other one is claimed all the same.
        """
        async with self._turns.of(endpoint_id):
            if found := await self.find(endpoint_id):
                await self._claim_each(await self._networks.get(found.network), found)

    async def get(self, network_id: str, endpoint_id: str) -> EndpointRecord:
        """The endpoint.

        Raises:
            NotFound: it is not known on this host.
        """
        return await self._endpoints.need(network_id, endpoint_id)

    async def all(self) -> list[EndpointRecord]:
        """Every endpoint of this host that the engine has."""
        return await self._endpoints.all()

    async def load(self) -> None:
        """Read what `counts` tells of, once."""
        await self._endpoints.load()

    def counts(self, network_id: str) -> EndpointCounts:
        """Counts of a network's endpoints, from memory."""
        return self._endpoints.counts(network_id)

    def take_macs(self) -> list[str]:
        """MACs of endpoints that were made or changed since the last call: see `EndpointTable.take_macs`."""
        return self._endpoints.take_macs()

    async def find(self, endpoint_id: str) -> EndpointRecord | None:
        """The endpoint of this host with this id, in whichever network."""
        return await self._endpoints.find(endpoint_id)

    async def name(self, endpoint: EndpointRecord, container: str) -> None:
        """Record the name of an endpoint's container."""
        with contextlib.suppress(NotFound):
            await self._endpoints.change(endpoint, container=container)

    # ---------------------------------------------------------------- inside

    async def _new(self, network: NetworkRecord, request: EndpointRequest) -> EndpointRecord:
        """The record of a new endpoint, with its MAC."""
        name = await self._name(network, request)
        return EndpointRecord(
            network=network.id,
            id=request.id,
            address=str(request.address or ""),
            address6=str(request.address6 or ""),
            mac=await self._mac(network, request, name),
            mac_asked=bool(request.mac),
            link=link_name(request.id),
            boot=self._liveness.boot,
            at=self._now(),
            name=name,
            ifname_asked=request.options.ifname,
            sysctls=request.options.sysctls,
            attach=self._attacher.mode(network.options, request.options.ifname),
        )

    async def _name(self, network: NetworkRecord, request: EndpointRequest) -> str:
        """The name of a new endpoint's container; "" if it is not known, or if the MAC that is derived from it is that
        of another container, whose user chose it."""
        name = self._memory.name_for(network, request.addresses)
        if not name or request.mac or not _derives_mac(network):
            return name
        mac = mac_from_name(network.shared_id, name)
        others = [each for each in await self._endpoints.with_mac(mac) if each.id != request.id]
        if any([not await self._liveness.is_dead(each) for each in others]):
            log.info("container %s has not the MAC of its name: %s has it", name, describe_endpoint(others[0]))
            return ""
        try:
            if self._memory.may_be_of_another(network, name, mac):  # else no start reads whole subnets
                await self._claims.refuse_mac(network, mac, request.id)
        except MacvlanGlobalError as error:
            log.info("container %s has not the MAC of its name: %s", name, error)
            return ""
        return name

    async def _create_again(self, network: NetworkRecord, record: EndpointRecord) -> str:
        """Finish a creation whose answer the engine did not get, and return the MAC. It may have been interrupted
        anywhere.

        Raises:
            Conflict: see `create`. The engine takes the endpoint for never made, so nothing of it stays, unless it is
                in use.
        """
        async with Undo(f"create endpoint {record.id[:12]}", self._leftovers) as undo:
            if not record.sandbox:
                undo.push("its record", lambda: self._endpoints.drop(record))
                undo.push("its addresses", lambda: self._claims.let_go(network, record))
                undo.push("its followers", lambda: self._tell_deleted(network, record))
            claimed = await self._claim_by_name(network, record)
            await self._refuse_mac(network, claimed)
        return claimed.mac

    async def _tell_deleted(self, network: NetworkRecord, record: EndpointRecord) -> None:
        """Tell of the end of an endpoint that may have been told of."""
        self._made.discard(record.id)
        self._memory.deleted(network, record)
        self._on_deleted(record)

    async def _refuse_mac(self, network: NetworkRecord, record: EndpointRecord) -> None:
        """Raise Conflict if a container of another host has the MAC: one that a user chose, or that is only half of an
        IPv6 address."""
        from_6 = network.options.mac == "address" and not record.address
        if record.mac_asked or from_6:
            await self._claims.refuse_mac(network, record.mac, record.id)

    async def _claim_each(self, network: NetworkRecord, endpoint: EndpointRecord) -> None:
        """Claim the addresses of an endpoint that is in use, each whatever becomes of the other.

        Raises:
            Conflict: somebody else claims one of them.
        """
        try:
            await self._claim(network, msgspec.structs.replace(endpoint, address6=""), in_use=True)
        finally:
            await self._claim(network, msgspec.structs.replace(endpoint, address=""), in_use=True)

    async def _restore_siblings(self, gone: EndpointRecord) -> None:
        """Restore the direct links that remain in the container of a deleted endpoint: see `Attacher.restore`."""
        siblings = [
            (network, each)
            for each in await self._endpoints.in_sandbox(gone.sandbox)
            if each.is_inside and each.id != gone.id and (network := await self._networks.find(each.network))
        ]
        # the first one leads out, as with engines: those choose by the network's name
        for network, endpoint in sorted(siblings, key=lambda pair: pair[0].name):
            await self._attacher.restore(network, endpoint)

    async def _mac(self, network: NetworkRecord, request: EndpointRequest, name: str) -> str:
        if request.mac:
            refuse_derived_mac(network, request)
            return request.mac
        if network.options.mode == "passthru":
            # a passthru link and its parent are one station: another MAC would change the parent's
            parent = await self._networks.ready_parent(network)
            return parent.mac or random_mac(os.urandom)
        if network.options.mac == "address" and request.addresses:
            return mac_from_address(str(request.addresses[0]))
        if name and not network.options.mac:
            return mac_from_name(network.shared_id, name)
        return random_mac(os.urandom)

    def _may_clash(self, network: NetworkRecord, record: EndpointRecord) -> bool:
        """Whether the MAC may be that of another link on the parent: a random one clashes with none, and of a name
        it is looked at before."""
        options = network.options
        return record.mac_asked or options.mac == "address" or options.mode == "passthru"

    async def _write_down(self, network: NetworkRecord, record: EndpointRecord) -> None:
        if not self._may_clash(network, record):
            await self._endpoints.put(record)
            return
        async with self._comparing:
            await self._check_neighbours(network, record)
            await self._endpoints.put(record)

    async def _check_neighbours(self, network: NetworkRecord, endpoint: EndpointRecord) -> None:
        """Raise Conflict if the endpoint's link would clash with another one on its parent."""
        options = network.options
        parent = await self._networks.parent_link(network)
        if parent and parent.mac == endpoint.mac and options.mode != "passthru":
            raise Conflict(f"--mac-address {endpoint.mac} is the MAC of the parent {parent.name}; use another")
        sharing = {each.id for each in await self._networks.all() if each.parent == network.parent}
        for other in await self.all():
            if other.id == endpoint.id or other.network not in sharing:
                continue
            # first, because containers of a passthru network would share the parent's MAC too
            if options.mode == "passthru" and not await self._liveness.is_dead(other):
                raise Conflict(
                    f"network {network.shown} is in mode passthru, which carries one container at a "
                    f"time: {describe_endpoint(other)} is on it"
                )
            if other.mac == endpoint.mac and not await self._liveness.is_dead(other):
                raise Conflict(
                    f"--mac-address {endpoint.mac} is in use on the parent {network.parent}: "
                    f"{describe_endpoint(other)} has it; use another"
                )

    async def _claim_by_name(self, network: NetworkRecord, record: EndpointRecord) -> EndpointRecord:
        """Claim the addresses, and beside that the name; without the name, the MAC that is derived from it is not this
        endpoint's either. The record as it is then."""
        if not record.name:
            await self._claim(network, record)
            return record
        owned, _ = await asyncio.gather(self._memory.own(network, record), self._claim(network, record))
        if owned:
            return record
        log.info("container %s is not the only one of its name on network %s", record.name, network.shown)
        if record.mac_asked or not _derives_mac(network):
            return await self._endpoints.change(record, name="")
        record = await self._endpoints.change(record, name="", mac=random_mac(os.urandom))
        await self._claim(network, record)  # all hosts go by the MAC that is written there
        return record

    async def _claim(self, network: NetworkRecord, endpoint: EndpointRecord, *, in_use: bool = False) -> None:
        for address in endpoint.addresses:
            subnet = network.subnet_of(address)
            if subnet is None:
                subnets = ", ".join(each.subnet for each in network.subnets)
                raise Invalid(f"address {address} is in no subnet of network {network.shown} ({subnets})")
            if subnet.space and not in_use and await self._is_networks(subnet, address):
                raise Conflict(
                    f"address {address} is in use by network {network.shown} as its gateway or an aux address"
                )
            if subnet.space:
                pool = PoolRecord(space=subnet.space, subnet=subnet.subnet, range=subnet.range, at=0)
                holder = Holder("endpoint", network.shared_id, endpoint.id, mac=endpoint.mac)
                await self._claims.claim(pool, address, holder, in_use=in_use)

    async def _is_networks(self, subnet: SubnetRecord, address: Address) -> bool:
        """Whether an address is an aux address of its network, or its gateway and the user of the container did not
        choose that: known from the record, as the store may have lost the claim."""
        if str(address) in subnet.aux.values():
            return True
        return str(address) == subnet.gateway and not await self._claims.is_static(subnet.space, address)


async def _both(first: Awaitable[S], second: Awaitable[T]) -> tuple[S, T]:
    """The results of two steps side by side, of which the first begins first. If one fails, the other has ended too
    when its error is raised."""
    one, other = await asyncio.gather(first, second, return_exceptions=True)
    for each in (one, other):
        if isinstance(each, BaseException):
            raise each
    return cast("tuple[S, T]", (one, other))


def _derives_mac(network: NetworkRecord) -> bool:
    """Whether containers of a network have MACs that are derived from their names, if those are known."""
    return not network.options.mac and network.options.mode != "passthru"


def _same(record: EndpointRecord, request: EndpointRequest) -> bool:
    return (
        record.address == str(request.address or "")
        and record.address6 == str(request.address6 or "")
        and (not request.mac or record.mac == request.mac)
    )
