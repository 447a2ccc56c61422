"""How a container gets its link: plain, made here and moved by the engine, or direct, made where it is wanted.

A move costs the kernel more than all else that a start needs, and engines let no plugin choose a name. So with `-o
attach=direct` the link is made inside the container's network namespace, if that is there at Join: with engines from 28
on it always is, with older ones when a running container is connected.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_interface

from macvlan_global.attach.advertise import Advertiser, telling
from macvlan_global.attach.deferred_delete import DeferredDeletion
from macvlan_global.attach.endpoint_options import settings_of
from macvlan_global.attach.engine_quirks import EngineQuirks
from macvlan_global.attach.options import AttachWay, NetworkOptions
from macvlan_global.errors import Invalid
from macvlan_global.kernel.ports import InterfaceConfig, Kernel, LinkFact, MacvlanSpec
from macvlan_global.parents.rules import Parent
from macvlan_global.store.records import EndpointRecord, NetworkRecord, SubnetRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import parse_address, parse_subnet

log = logging.getLogger(__name__)

PREFIX = "mv"
"""How names of links begin that are made inside a container, if nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A link as it was made: its name inside the container, or "" for one that the engine is to move; then `why_plain`
    says why it was not made inside, "" if it was not to be."""

    ifname: str = ""
    why_plain: str = ""


class Attacher:
    """Makes links of endpoints, and takes them away. Every method may be repeated."""

    def __init__(self, kernel: Kernel, tables: Tables, *, default: AttachWay = "plain") -> None:
        """`default` is for networks that do not say."""
        self._kernel = kernel
        self.traits = EngineQuirks(tables.identity)
        self._announcer = Advertiser(kernel)
        self.remover = DeferredDeletion(kernel, tables.endpoints)
        self._default = default

    async def run(self) -> None:
        """Announce links and take away those that containers left, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announcer.run())
            tasks.create_task(self.remover.run())

    def way(self, options: NetworkOptions, ifname_asked: str) -> AttachWay:
        """How an endpoint is wanted. Who asks for a name wants the only way that has names.

        Raises:
            Invalid: the network says that it is to be the other way.
        """
        if ifname_asked and options.attach == "plain":
            raise Invalid(
                f"the interface name {ifname_asked} cannot be given: the network was made with -o attach=plain, with "
                "which the engine chooses names"
            )
        if options.attach:
            return options.attach
        return "direct" if ifname_asked or options.ifname else self._default

    async def attach(
        self, network: NetworkRecord, endpoint: EndpointRecord, parent: Parent, options: NetworkOptions, sandbox: str
    ) -> Attached:
        """Make the link of an endpoint, in the way that its record says.

        Raises:
            Conflict: the kernel refuses the MAC, the parent, the name or an address.
            Unavailable: the parent went down.
        """
        spec = MacvlanSpec(
            endpoint.link,
            parent.name,
            options.mode,
            "" if options.mode == "passthru" and endpoint.mac == parent.mac else endpoint.mac,
            options.mtu,
        )
        told = telling(network.options)
        why_plain = self.traits.why_not_inside() if endpoint.attach == "direct" else ""
        await self.remover.clear(sandbox)
        if endpoint.attach == "direct" and not why_plain:
            leg = _leg(network, endpoint, options)
            made = await self._kernel.add_in_sandbox(spec, endpoint.mac, sandbox, leg)
            if made.name:
                self._announcer.now(endpoint, sandbox, told)
                return Attached(made.name)
            why_plain = made.why_not
        if why_plain:
            log.warning("network %s: a container is attached the plain way: %s", network.id[:12], why_plain)
        await self._make_plain(spec, endpoint, parent)
        self._announcer.once_moved(endpoint, sandbox, told)
        return Attached(why_plain=why_plain)

    async def take_out(self, endpoint: EndpointRecord) -> None:
        """Delete the link inside the container, however it came there.

        Deleting it where it is spares the kernel the move back to the host's namespace, which costs as much as the
        deletion. If the link is not found there, the engine moves it back and `delete` deletes it.
        """
        if endpoint.sandbox:
            await self._kernel.delete_in_sandbox(endpoint.sandbox, endpoint.mac, endpoint.link)

    async def leave(self, endpoint: EndpointRecord, options: NetworkOptions | None) -> None:
        """Have the link of an endpoint taken out, now or, if nobody else can come to have its MAC, in a moment.

        `options` are its network's, None if that is not known any more.
        """
        self._announcer.forget(endpoint)
        own_mac = options and not endpoint.mac_asked and options.mac == "random" and options.mode != "passthru"
        if not (endpoint.is_inside and own_mac and await self.remover.begin(endpoint)):
            await self.take_out(endpoint)

    async def retire(self, row: Row[EndpointRecord]) -> bool:
        """See to it that nothing stays in the container of an endpoint that the engine deletes; whether its record is
        kept for that, and goes by itself."""
        self._announcer.forget(row.record)
        if await self.remover.retire(row):
            return True
        if row.record.attach == "direct":  # nobody else takes it away
            await self.take_out(row.record)
        return False

    async def delete(self, endpoint: EndpointRecord) -> bool:
        """Delete the link on the host; whether it was there."""
        return await self._kernel.delete(endpoint.link)

    async def is_in_use(self, endpoint: EndpointRecord) -> bool:
        """Whether the link is inside a container."""
        if not endpoint.sandbox:
            return False
        return await self._kernel.find_in_sandbox(endpoint.sandbox, endpoint.mac, endpoint.link)

    async def revive(self, network: NetworkRecord, endpoint: EndpointRecord) -> None:
        """Set the link of an endpoint up again that the engine set down while it took another one out of the container.

        An engine that was restarted under running containers (live-restore) knows links that it did not move by
        nothing but an empty name, and takes all of them for the one that leaves (`releaseOSSboxResources` in
        libnetwork).
        """
        leg = _leg(network, endpoint, NetworkOptions())
        if await self._kernel.revive_in_sandbox(endpoint.sandbox, endpoint.link, leg):
            self._announcer.now(endpoint, endpoint.sandbox, telling(network.options))
            log.warning("the engine had set down link %s in a container; it is up again", endpoint.link)

    async def _make_plain(self, spec: MacvlanSpec, endpoint: EndpointRecord, parent: Parent) -> None:
        found = await self._kernel.link(spec.name)
        if found and not await self._is_leftover(found, parent, endpoint):
            return
        if found:
            await self._kernel.delete(spec.name)
        await self._kernel.add_macvlan(spec)
        if endpoint.mac_asked:
            # the kernel tells whether a MAC is in use on the parent (by a link of another driver, say) only when the
            # link is set up; the engine would do that too late for a clear error
            await self._kernel.set_up(spec.name)
            await self._kernel.set_down(spec.name)

    async def _is_leftover(self, found: LinkFact, parent: Parent, endpoint: EndpointRecord) -> bool:
        lower = await self._kernel.link(parent.name)
        return lower is None or found.lower != lower.index or found.mac != endpoint.mac


def plain_against_wish(network: NetworkRecord, endpoints: Iterable[EndpointRecord]) -> str:
    """What an operator must know of containers whose links were to be made inside and are not; "" for none."""
    reasons = [each.why_plain for each in endpoints if each.why_plain and each.network == network.id]
    if not reasons:
        return ""
    count = "1 container is" if len(reasons) == 1 else f"{len(reasons)} containers are"
    return f"network {network.name or network.id[:12]}: {count} attached the plain way (eth0, …): {reasons[-1]}"


def subnet_of(network: NetworkRecord, address: str) -> SubnetRecord | None:
    """The subnet of a network that holds a bare address."""
    parsed = parse_address(address, "address")
    return next((each for each in network.subnets if parsed in parse_subnet(each.subnet, "subnet")), None)


def gateway_of(network: NetworkRecord, address: str) -> str:
    """The gateway of the subnet that holds a bare address, "" if there is none: each subnet has its own."""
    subnet = subnet_of(network, address) if address else None
    return subnet.gateway if subnet and not network.internal else ""


def _leg(network: NetworkRecord, endpoint: EndpointRecord, options: NetworkOptions) -> InterfaceConfig:
    given = [each for each in (endpoint.address, endpoint.address6) if each]
    prefixes = {each: subnet.subnet.partition("/")[2] for each in given if (subnet := subnet_of(network, each))}
    return InterfaceConfig(
        endpoint.ifname_asked or options.ifname or PREFIX,
        numbered=not endpoint.ifname_asked,
        addresses=tuple(ip_interface(f"{each}/{prefix}") for each, prefix in prefixes.items()),
        settings=settings_of(endpoint.sysctls),
        gateways=tuple(parse_address(gateway, "gateway") for each in given if (gateway := gateway_of(network, each))),
    )
