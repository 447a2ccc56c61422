"""Reconciles the host's shims with the networks that want host access: after each container that came or went, when the
kernel tells of a change, and in each repair.

A request of the engine waits for it a moment only, and never fails by it: what fails is logged, is in `problems` for
the operator, and is tried again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Protocol

from macvlan_global.errors import Conflict, MacvlanGlobalError, Unavailable
from macvlan_global.host_access.desired import (
    AddressNeed,
    Desired,
    HostAccessFacts,
    HostReach,
    ShimStep,
    WantedShim,
    desired,
    needs,
    steps,
)
from macvlan_global.kernel.names import SHIM_PREFIX, mac_from_text, shim_name
from macvlan_global.kernel.ports import Kernel, Shim
from macvlan_global.options.network import NetworkOptions
from macvlan_global.store.records import HostAccessRecord, NetworkRecord, SubnetRecord
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Address
from macvlan_global.tasks import attempt, forever, when

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
"""The longest that a request of the engine waits until the host reaches its container."""
SETTLE_SECONDS = 0.2
"""Changes of the kernel come in bursts: they are looked at once, so long after the first."""
AGAIN_SECONDS = 300.0
RETRY_SECONDS = 10.0
"""Time between two looks at everything when nothing happens, and when something failed."""


class AddressGiver(Protocol):
    """Addresses of pools for the host itself."""

    async def reserve(self, subnet: SubnetRecord, address: Address | None) -> str:
        """Reserve this address of a subnet, or the next one; bare.

        Raises:
            Invalid: no interface of the subnet can have it.
            Conflict: somebody else has it.
            Exhausted: there is none.
        """
        ...

    async def cancel(self, subnet: SubnetRecord, address: str) -> None:
        """Cancel a reservation."""
        ...

    async def claim(self, network: str, subnet: SubnetRecord, address: Address) -> None:
        """Claim an address for this host on a network (its id in the cluster). Idempotent.

        Raises:
            Conflict: somebody else has it.
        """
        ...

    async def release(self, network: str, space: str, address: Address) -> None:
        """Give an address back, if this host has it."""
        ...


@dataclass(frozen=True, slots=True)
class HostAccessSettings:
    """Settings of the operator: `default` is for networks that do not say, `addresses` are chosen for this host."""

    default: bool = False
    addresses: Sequence[Address] = ()


class HostAccess:
    """The shims of this host. Every method may be called by many at once."""

    def __init__(  # noqa: PLR0913 - each of another owner
        self,
        tables: Tables,
        kernel: Kernel,
        giver: AddressGiver,
        host: str,
        boot: str,
        settings: HostAccessSettings,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`host` is the id of this host, `boot` that of this boot."""
        self._tables = tables
        self._kernel = kernel
        self._giver = giver
        self._host = host
        self._boot = boot
        self._settings = settings
        self._now = now
        self._one_at_a_time = asyncio.Lock()
        self._asked = self._served = 0
        self._known: dict[str, Shim] | None = None  # by parent, as they were left; None if that is not known
        self._in_use = asyncio.Event()
        self._due = asyncio.Event()
        self._changed = False
        self._begun: set[asyncio.Task[bool]] = set()
        self._observed_at = 0.0
        self.on_reach: Callable[[Sequence[HostReach]], None] = lambda _reach: None
        """Called with the addresses at which containers reach the host, once they do. It must be quick."""
        self.problems: list[str] = []
        """Failures of the last time, for the operator."""
        self.on_problems: Callable[[], None] = lambda: None
        """Called when `problems` changed."""

    def wants(self, network: NetworkRecord) -> bool:
        """Whether the host and containers of a network shall reach each other."""
        options: NetworkOptions = network.options
        return options.wants_host_access(default=self._settings.default)

    async def on_change(self, network: NetworkRecord) -> None:
        """A network, or a container on it, came or went. Waits a moment for it to be done; never fails."""
        if self.wants(network) or self._known:
            task = asyncio.get_running_loop().create_task(attempt("host access", self.update()))
            self._begun.add(task)
            task.add_done_callback(self._begun.discard)
            # it goes on if it is late, or the request is broken off: an address that it just reserved would be nobody's
            await asyncio.wait({task}, timeout=WAIT_SECONDS)

    async def update(self, *, observe: bool = False) -> None:
        """Make the shims what they must be; whoever comes while that is under way shares the next time.

        With `observe` the kernel is asked how they are; else they are taken for what they were left as.
        """
        self._asked += 1
        mine = self._asked
        async with self._one_at_a_time:
            if self._served >= mine and not observe:
                return
            serves = self._asked
            if observe:
                self._known = None
            try:
                problems = await self._update(renew=observe)
            except BaseException as error:
                self._known = None
                if not isinstance(error, MacvlanGlobalError):
                    raise
                problems = [f"the host may not reach its containers: {error}"]
            if problems:
                self._known = None
            for each in (each for each in problems if each not in self.problems):
                log.warning("host access: %s", each)
            before, self.problems, self._served = self.problems, problems, serves
            if before != problems:
                self.on_problems()

    async def leave(self) -> None:
        """End what changes began, which has a moment to be done. Call it after the last request. Idempotent."""
        if begun := set(self._begun):
            _, late = await asyncio.wait(begun, timeout=WAIT_SECONDS)
            for each in late:
                each.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def run(self) -> None:
        """Follow the kernel's changes and look again from time to time, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forever("following changes of links and routes", self._follow, first=1.0, last=10.0))
            tasks.create_task(forever("host access", self._update_again, first=1.0, last=10.0))

    async def _follow(self) -> AsyncGenerator[None]:
        await self._in_use.wait()  # a host without such networks follows nothing
        async with contextlib.aclosing(self._kernel.shims.changes()) as changes:
            async for _ in changes:
                self._changed = True
                self._due.set()
                yield

    async def _update_again(self) -> None:
        await self._in_use.wait()
        loop = asyncio.get_running_loop()
        async with when(self._due, at_most=RETRY_SECONDS, settle=SETTLE_SECONDS):
            changed, self._changed = self._changed, False
            if changed or self.problems or loop.time() - self._observed_at >= AGAIN_SECONDS:
                self._observed_at = loop.time()
                await self.update(observe=True)

    async def _update(self, *, renew: bool) -> list[str]:
        """See `update`; the problems. With `renew` addresses that the host was given are claimed again."""
        every = [row.record for row in await self._tables.networks.scan()]
        networks = [each for each in every if self.wants(each)]
        if not networks and self._known == {} and not await self._tables.host_access.scan():
            return []
        if networks:
            self._in_use.set()
        own = (await self._kernel.own_addresses()).addresses if networks else ()
        endpoints = [row.record for row in await self._tables.endpoints.scan()] if networks else []
        lost = await self._renew(networks) if renew else []
        given = await self._given(networks)
        facts = HostAccessFacts(networks, endpoints, own, given, self._boot, self._settings.addresses)
        unmet = await self._give_all(needs(facts))
        wanted = desired(replace(facts, given=await self._given(networks)))
        problems = await self._apply(wanted, {each.parent for each in every})
        if await self._give_back(networks) and unmet and not problems:  # it may be what another network waits for
            return [*lost, *await self._update(renew=False)]
        self.on_reach(wanted.reach)
        return [*wanted.problems, *lost, *unmet, *problems]

    async def _apply(self, wanted: Desired, parents: Iterable[str]) -> list[str]:
        """Make the shims the wanted ones; the problems. `parents` are those of all networks."""
        known, others = self._known, frozenset[str]()
        problems: list[str] = []
        if known is None or wanted.shims.keys() - known.keys():  # one that is to be made may be there, another driver's
            known, others = await self._look(wanted, parents)
        left: dict[str, Shim] = {}
        for parent in known.keys() - wanted.shims.keys():
            await self._kernel.shims.delete(known[parent].name)
            log.info("deleted the shim %s: no network wants it any more", known[parent].name)
        for parent, shim in wanted.shims.items():
            if await self._kernel.link(parent) is None:
                continue  # it is told of the network; when it comes, the kernel tells
            try:
                if (name := shim_name(parent)) in others:
                    raise Conflict(
                        f"another driver on this host has the link {name}; set host_access=false for the networks of "
                        f"one of the two, or, if no other driver runs here, delete it (ip link delete {name})"
                    )
                left[parent] = await self._correct(shim, known.get(parent), problems)
            except MacvlanGlobalError as error:
                problems.append(f"the host does not reach containers on {parent}: {error}")
        self._known = left
        return problems

    async def _look(self, wanted: Desired, parents: Iterable[str]) -> tuple[dict[str, Shim], frozenset[str]]:
        """This driver's shims that are wanted, by parent, and the names of those of other drivers. Those of this driver
        that are not wanted are deleted."""
        known, others = {}, set()
        by_name = {shim_name(each): each for each in wanted.shims}
        for each in await self._kernel.shims.all():
            parent = by_name.get(each.name, "")
            if not self._is_own(each, wanted.shims.get(parent), parents):
                others.add(each.name)
            elif parent and await self._stands_on(each, parent):
                known[parent] = each
            else:
                await self._kernel.shims.delete(each.name)
                log.info("deleted the shim %s: no network wants it", each.name)
        return known, frozenset(others)

    def _is_own(self, shim: Shim, wanted: WantedShim | None, parents: Iterable[str]) -> bool:
        """Whether a shim is this driver's. Another driver may be on this host (a managed plugin beside a service),
        whose shims are to be left alone.

        It has a MAC that this driver gives. If the state folder was lost, and the host's id with it, the shim leads to
        a container that this driver has adopted since: another driver's shim leads to its own containers only.
        """
        # what a shim stands on is not the parent it was made for if that is a macvlan link, and names may be cut
        named = {*parents, shim.parent, shim.name.removeprefix(SHIM_PREFIX)}
        if shim.mac in {self._mac(each) for each in named}:
            return True
        ours = {(each.address, each.mac) for each in wanted.paths} if wanted else set()
        return any((each.address, each.mac) in ours for each in shim.paths)

    async def _stands_on(self, shim: Shim, parent: str) -> bool:
        """Whether a shim is that of a parent. On a macvlan link it stands on what that link stands on."""
        if shim.parent == parent:
            return True
        link = await self._kernel.link(parent)
        return link is not None and link.kind == "macvlan"

    async def _correct(self, wanted: WantedShim, found: Shim | None, problems: list[str]) -> Shim:
        """Make one shim the wanted one; the shim as it is left. What fails of it is added to `problems`."""
        shims, mac = self._kernel.shims, self._mac(wanted.parent)
        if found and found.mac != mac and not wanted.paths:  # see `_is_own`; no container remembers its MAC any more
            await shims.delete(found.name)
            log.info("deleted the shim %s, which was made before the state folder was lost", found.name)
            found = None
        if found is None:
            name = await shims.add(wanted.parent, mac=mac, ipv6=wanted.ipv6)
            log.info("made the shim %s: the host reaches containers on %s over it", name, wanted.parent)
            found = Shim(name, wanted.parent, mac, ipv6=wanted.ipv6)
        elif not found.settled or found.ipv6 != wanted.ipv6:
            await shims.settle(found.name, ipv6=wanted.ipv6)
        for step in steps(wanted, found):
            try:
                await self._take(found.name, step)
            except MacvlanGlobalError as error:
                problems.append(f"the host may not reach {step.address}: {error}")
        return replace(found, settled=True, ipv6=wanted.ipv6, addresses=wanted.addresses, paths=wanted.paths)

    def _mac(self, parent: str) -> str:
        """The MAC of a shim: the same each time that it is made, since containers remember it for a while, and another
        one than that of another driver on this host, which has another host id."""
        return mac_from_text(f"{self._host} {parent}")

    async def _take(self, name: str, step: ShimStep) -> None:
        shims = self._kernel.shims
        if step.path:
            await shims.add_path(name, step.path)
        elif step.verb == "lead away":
            await shims.delete_path(name, step.address)
        elif step.verb == "add":
            await shims.add_address(name, step.address)
        else:
            await shims.delete_address(name, step.address)

    async def _given(self, networks: Iterable[NetworkRecord]) -> dict[tuple[str, str], Address]:
        """The addresses that the host was given on these networks, by network and subnet."""
        ids = {each.id for each in networks}
        rows = [row.record for row in await self._tables.host_access.scan()]
        return {(each.network, each.subnet): ip_address(each.address) for each in rows if each.network in ids}

    async def _give_all(self, needed: Iterable[AddressNeed]) -> list[str]:
        """Give the host what it needs; the problems."""
        problems, had = [], set()
        for need in list(needed):
            shim = need.subnet.space, need.network.parent, need.address
            if need.address and shim in had:  # it serves all networks on that shim
                continue
            try:
                await self._give(need)
                had.add(shim)
            except MacvlanGlobalError as error:
                why = f"{need.address} of host_access_addresses: {error}" if need.address else error
                who = f"the host gets no address of {need.subnet.subnet} on network {need.network.shown}"
                problems.append(f"{who}: {why}")
        return problems

    async def _give(self, need: AddressNeed) -> None:
        network, subnet = need.network, need.subnet
        earlier = await self._tables.host_access.get(network.id, subnet.subnet)
        record = HostAccessRecord(
            network=network.id,
            cluster=network.shared_id,
            space=subnet.space,
            subnet=subnet.subnet,
            address=await self._giver.reserve(subnet, need.address),
            at=self._now(),
        )
        try:
            if earlier:  # it leaves the shim before somebody else can have it
                await self._take_off(earlier.record, network)
            # before the claim: a claim without a record would be nobody's to give back
            await self._tables.host_access.put(record, network.id, subnet.subnet)
        except BaseException:  # each try would take another one
            await self._giver.cancel(subnet, record.address)
            raise
        if earlier:  # after the record that named it, which a start would believe; repair gives back what stays behind
            await self._giver.release(earlier.record.cluster, earlier.record.space, ip_address(earlier.record.address))
        await self._claim(record, subnet)
        log.info("the host has the address %s on network %s", record.address, network.shown)

    async def _take_off(self, record: HostAccessRecord, network: NetworkRecord) -> None:
        """Take an address that another one follows off the shim."""
        self._known = None
        if network.parent:
            await self._kernel.shims.delete_address(shim_name(network.parent), ip_address(record.address))

    async def _renew(self, networks: Iterable[NetworkRecord]) -> list[str]:
        """Claim again what the host was given: the store may have lost it. The problems."""
        subnets = {(each.id, subnet.subnet): subnet for each in networks for subnet in each.subnets}
        problems = []
        for record in [row.record for row in await self._tables.host_access.scan()]:
            if subnet := subnets.get((record.network, record.subnet)):
                try:
                    await self._claim(record, subnet)
                except Unavailable as error:  # the store is away, and the address stays as it is
                    log.debug("host access: %s", error)
                except MacvlanGlobalError as error:
                    problems.append(f"the host loses its address {record.address}: {error}")
        return problems

    async def _claim(self, record: HostAccessRecord, subnet: SubnetRecord) -> None:
        try:
            await self._giver.claim(record.cluster, subnet, ip_address(record.address))
        except Conflict:  # the next one is chosen the next time
            await self._tables.host_access.drop(record.network, record.subnet)
            raise

    async def _give_back(self, networks: Iterable[NetworkRecord]) -> bool:
        """Give back addresses of networks that are gone or want none any more, once they are on no shim; whether there
        were any."""
        ids = {each.id for each in networks}
        left = [row.record for row in await self._tables.host_access.scan() if row.record.network not in ids]
        shims = await self._kernel.shims.all() if left else []
        used = {str(address) for each in shims for address in each.addresses}
        free = [each for each in left if each.address not in used]
        for record in free:
            await self._giver.release(record.cluster, record.space, ip_address(record.address))
            await self._tables.host_access.drop(record.network, record.subnet)
        return bool(free)
