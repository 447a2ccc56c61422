"""Attach containers: make an endpoint's macvlan link, plain or direct, and delete it again.

In mode plain the link is made on the host, and the engine moves it into the container. A move costs the kernel more
than all else that a start needs, and engines let no plugin choose a name. So in mode direct (`-o attach=direct`) the
link is made inside the container's network namespace, if that is there at Join: with engines from 28 on it always is,
with older ones when a running container is connected. Else the link is plain, for a reason that the record keeps.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from macvlan_global.attach.advertise import Advertiser, advertisement_of
from macvlan_global.attach.container_interface import container_link, interface_config
from macvlan_global.attach.deferred_delete import DeferredDeletion
from macvlan_global.attach.engine_quirks import EngineQuirks
from macvlan_global.errors import Conflict, Invalid
from macvlan_global.kernel.ports import Kernel, LinkFact, MacvlanSpec
from macvlan_global.options.network import AttachWay, NetworkOptions
from macvlan_global.parents.rules import Parent
from macvlan_global.store.known_engine import KnownEngine
from macvlan_global.store.records import EndpointRecord, NetworkRecord
from macvlan_global.store.table import Row, Tables

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attached:
    """A link that was made: its name inside the container, "" for a plain one, which the engine is to move. `why_plain`
    is the reason for which a link in mode direct is plain."""

    ifname: str = ""
    why_plain: str = ""


class Attacher:
    """Makes and deletes the links of endpoints. Every method is idempotent."""

    def __init__(self, kernel: Kernel, tables: Tables, *, default: AttachWay = "plain") -> None:
        """`default` is the attach mode of networks that were made without one."""
        self._kernel = kernel
        self.quirks = EngineQuirks(KnownEngine(tables))
        self._advertiser = Advertiser(kernel)
        self.deferred = DeferredDeletion(kernel, tables.endpoints)
        self._default = default

    async def run(self) -> None:
        """Advertise addresses and do deferred deletions, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._advertiser.run())
            tasks.create_task(self.deferred.run())

    def mode(self, options: NetworkOptions, ifname_asked: str) -> AttachWay:
        """Attach mode of an endpoint. A requested interface name implies `direct`.

        Raises:
            Invalid: a name is requested on a network with `-o attach=plain`.
        """
        if ifname_asked and options.attach == "plain":
            raise Invalid(
                f"interface name {ifname_asked} was requested on a network with -o attach=plain, where the engine "
                "chooses names; leave it out, or create the network with -o attach=direct"
            )
        if options.attach:
            return options.attach
        return "direct" if ifname_asked or options.ifname else self._default

    async def attach(
        self, network: NetworkRecord, endpoint: EndpointRecord, parent: Parent, options: NetworkOptions, sandbox: str
    ) -> Attached:
        """Make the link of an endpoint, in the mode of its record, for the container whose network namespace is
        `sandbox`.

        Raises:
            Conflict: the kernel refuses the MAC, the parent, the name or an address.
            Unavailable: the parent went down.
        """
        spec = MacvlanSpec(
            endpoint.link,
            parent.name,
            options.mode,
            "" if options.mode == "passthru" and endpoint.mac == parent.mac else endpoint.mac,
            # networks of older releases, where Docker's option had no effect, may ask for more than the parent can do
            min(options.mtu, parent.mtu or options.mtu) if options.mtu_key != "mtu" else options.mtu,
        )
        link = replace(container_link(endpoint), sandbox=sandbox)
        advertisement = advertisement_of(network.given)
        why_plain = self.quirks.why_not_inside() if endpoint.attach == "direct" else ""
        await self.deferred.delete_now(sandbox)
        if endpoint.attach == "direct" and not why_plain:
            made = await self._kernel.add_in_sandbox(spec, link, interface_config(network, endpoint, options))
            if made.name:
                self._advertiser.advertise(link, advertisement)
                return Attached(made.name)
            why_plain = made.why_not
        if why_plain:
            log.warning("network %s: a container is attached in mode plain: %s", network.id[:12], why_plain)
        await self._make_plain(spec, endpoint, parent)
        self._advertiser.advertise(link, advertisement, once_moved=True)
        return Attached(why_plain=why_plain)

    async def delete_inside(self, endpoint: EndpointRecord) -> None:
        """Delete the link inside the container, plain or direct.

        Deleting it where it is spares the kernel the move back to the host's namespace, which costs as much as the
        deletion. If the link is not found there, the engine moves it back and `delete` deletes it.
        """
        if endpoint.sandbox:
            await self._kernel.delete_in_sandbox(container_link(endpoint))

    async def leave(self, endpoint: EndpointRecord, options: NetworkOptions | None) -> None:
        """Delete the link of an endpoint inside its container: now, or deferred if no other link can have its MAC.

        `options` are its network's, None if the network is not known any more.
        """
        self._advertiser.forget(endpoint.link)
        random_mac = options and (options.mac == "random" or not (options.mac or endpoint.name))
        own_mac = options and random_mac and not endpoint.mac_asked and options.mode != "passthru"
        if not (endpoint.is_inside and own_mac and await self.deferred.defer(endpoint)):
            await self.delete_inside(endpoint)

    async def finish(self, row: Row[EndpointRecord]) -> bool:
        """Finish an endpoint that the engine deletes: no link of it stays in the container. True if the record must be
        kept for a deferred deletion, which drops it."""
        self._advertiser.forget(row.record.link)
        if await self.deferred.keep_record(row):
            return True
        if row.record.attach == "direct":  # nobody else deletes it
            await self.delete_inside(row.record)
        return False

    async def delete(self, endpoint: EndpointRecord) -> bool:
        """Delete the link on the host; whether it was there."""
        return await self._kernel.delete(endpoint.link)

    async def find(self, endpoint: EndpointRecord) -> bool | None:
        """Whether the link is inside its container; None if the container's namespace is gone, or it never joined one.
        See `Kernel.find_in_sandbox`."""
        return await self._kernel.find_in_sandbox(container_link(endpoint)) if endpoint.sandbox else None

    async def mark(self, endpoint: EndpointRecord) -> bool:
        """Give the link inside its container the alias that it lacks, as an earlier version made it; whether it did."""
        return bool(endpoint.sandbox) and await self._kernel.mark_in_sandbox(container_link(endpoint))

    async def restore(self, network: NetworkRecord, endpoint: EndpointRecord) -> None:
        """Set a direct link up again that the engine set down while it took another one out of the container.

        An engine that was restarted under running containers (live-restore) knows links that it did not move by
        nothing but an empty name, and takes all of them for the one that leaves (`releaseOSSboxResources` in
        libnetwork).
        """
        link = container_link(endpoint)
        if await self._kernel.restore(link, interface_config(network, endpoint, NetworkOptions())):
            self._advertiser.advertise(link, advertisement_of(network.given))
            log.warning("the engine had set link %s of a container down; it is up again", endpoint.link)

    async def _make_plain(self, spec: MacvlanSpec, endpoint: EndpointRecord, parent: Parent) -> None:
        try:
            await self._kernel.add_macvlan(spec)
        except Conflict:
            found = await self._kernel.link(spec.name)
            if found is None:
                raise
            if not await self._is_leftover(found, parent, endpoint):
                return  # the request came again
            await self._kernel.delete(spec.name)
            await self._kernel.add_macvlan(spec)
        if endpoint.mac_asked:
            # the kernel tells whether a MAC is in use on the parent (by a link of another driver, say) only when the
            # link is set up; the engine would do that too late for a clear error
            await self._kernel.set_up(spec.name)
            await self._kernel.set_down(spec.name)

    async def _is_leftover(self, found: LinkFact, parent: Parent, endpoint: EndpointRecord) -> bool:
        lower = await self._kernel.link(parent.name)
        seen = (found.lower, found.mac, found.alias)
        return lower is None or seen != (lower.index, endpoint.mac, endpoint.link)


def plain_against_wish(network: NetworkRecord, endpoints: Iterable[EndpointRecord]) -> str:
    """The warning for operators about containers with a plain link on a network in mode direct; "" if there is none."""
    reasons = [each.why_plain for each in endpoints if each.why_plain and each.network == network.id]
    if not reasons:
        return ""
    count = "1 container is" if len(reasons) == 1 else f"{len(reasons)} containers are"
    return f"network {network.shown}: {count} attached in mode plain (eth0, …): {reasons[-1]}"
