"""Reclaiming of dead hosts' addresses, pools and names: after the grace period, or when an operator removes a host.

Every host does it beside the others. `reclaim` (pure) tells what is due and what must be probed first; here it is
probed, it is asked once more whether the host is dead, and exactly the record that was read is deleted.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from macvlan_global.cluster.heartbeat import Heartbeat
from macvlan_global.cluster.host_list import HostLine, find_dead, read_host_list
from macvlan_global.cluster.reclaim import Claim, due, plan, reserved_pools, stranded
from macvlan_global.errors import Internal, MacvlanGlobalError
from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.owners import network_claims
from macvlan_global.ipam.pools import Pools
from macvlan_global.ipam.subnet_use import SpaceSubnet, is_kept_by
from macvlan_global.kernel.ports import Kernel
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import AddressRecord, HostRecord, NameRecord, PoolRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.tasks import forever

log = logging.getLogger(__name__)

GRACE_SECONDS = 600.0
MOST_REMOVED = 1000
"""Of so many removed networks, the latest, names of dead hosts are looked for: containers may have run there on."""
DeadHosts = Mapping[str, float | None]
"""The hosts (ids) that one pass takes for dead, and for how many seconds each was seen gone when it began; None if an
operator says so."""
LOOK_EACH = 0.03
"""Seconds by which hosts spread that they look for dead ones, for each host."""
AT_ONCE = 16
"""Claims probed at a time: each takes some seconds, and three frames on the wire."""


@dataclass(frozen=True, slots=True)
class NotReclaimed:
    """An address that was not given back, and why."""

    record: AddressRecord
    reason: str


@dataclass(slots=True)
class ReclaimResult:
    """The addresses that were given back and those that were not; numbers of names and pools that were."""

    given: list[AddressRecord] = field(default_factory=list)
    kept: list[NotReclaimed] = field(default_factory=list)
    names: int = 0
    pools: int = 0


@dataclass(frozen=True, slots=True)
class Removal:
    """The outcome of an operator's removal of a host. `forgotten` if nothing of it is left."""

    host: HostRecord
    outcome: ReclaimResult
    forgotten: bool


@dataclass(frozen=True, slots=True)
class _Next:
    """The time from which a dead host is looked at again, None if nothing of it is left. Void if it has come since."""

    due: float | None
    arrivals: int


@dataclass(frozen=True, slots=True)
class _Nameless:
    """A dead host that was seen to have no names: its row in `hosts` by then, which it writes anew when it comes."""

    row: Entry
    arrivals: int


class Reclaimer:
    """One per process."""

    def __init__(  # noqa: PLR0913 - each of another owner
        self,
        heartbeat: Heartbeat,
        tables: Tables,
        pools: Pools,
        addresses: Addresses,
        kernel: Kernel,
        *,
        grace: float = GRACE_SECONDS,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """`grace` in seconds is how long a host must be gone; `steady` is a clock that is never set."""
        self._heartbeat = heartbeat
        self._tables = tables
        self._pools = pools
        self._addresses = addresses
        self._kernel = kernel
        self._grace = grace
        self._steady = steady
        self._next: dict[str, _Next] = {}
        self._nameless: dict[str, _Nameless] = {}
        self._logged: dict[tuple[str, str], str] = {}

    async def run(self) -> NoReturn:
        """Look for dead hosts from time to time, until cancelled."""
        every = max(1.0, min(30.0, self._grace / 20))

        async def look() -> None:
            await asyncio.sleep(every + self._heartbeat.crowd.spread(every, LOOK_EACH))
            await self.look()

        await forever("reclaiming addresses of dead hosts", look, first=1.0, last=every)

    async def look(self) -> ReclaimResult:
        """Give back what may be given back now. Costs nothing while no host is dead.

        Raises:
            Unavailable: the store cannot be reached.
        """
        gone = {host: self._heartbeat.gone_for(host) for host in self._heartbeat.known()}
        long_gone = {host: seconds for host, seconds in gone.items() if seconds is not None}
        # a host may come and go between two looks
        self._next = {
            host: each
            for host, each in self._next.items()
            if host in long_gone and each.arrivals == self._heartbeat.arrivals(host)
        }
        if not long_gone:
            self._logged.clear()
        waiting = {host: seconds for host, seconds in long_gone.items() if self._is_due(host)}
        of_age = due(waiting, self._grace, self._heartbeat.member.id, self._heartbeat.live())
        dead = {host: waiting[host] for host in of_age}
        if not dead:
            return ReclaimResult()
        arrivals = {host: self._heartbeat.arrivals(host) for host in dead}
        marked = await self._mark(dead)
        use = self._addresses.held.use
        used = {host: await use.of(host) for host in sorted(dead)}
        subnets = {each for those in used.values() for each in those}
        held = await self._addresses.held.within_each(subnets)
        # after a gap in what is seen, names are looked for only of hosts that may have been back, or whose rows may:
        # the store was restored from an older copy. `used` alone does not tell: another driver may give the addresses
        same = {host for host, (row, _) in marked.items() if self._nameless.get(host) == _Nameless(row, arrivals[host])}
        named = {host for host in dead if used[host] or host not in same}
        outcome = await self._give_back(dead, held, subnets, named, ask=True)
        await self._end_use(dead, used, held, outcome)
        left = {each.record.host for each in outcome.kept}
        # what a host that was back left besides addresses was passed over
        left |= {host for host in sorted(dead) if not await self._still_dead(host, dead)}
        known = self._heartbeat.known()
        self._nameless |= {host: _Nameless(row, arrivals[host]) for host, (_, row) in marked.items()}
        self._nameless = {host: each for host, each in self._nameless.items() if host in known and host not in left}
        again = self._steady() + self._grace
        self._next |= {host: _Next(again if host in left else None, arrivals[host]) for host in dead}
        for host in sorted(dead):
            self._heartbeat.forget(host)
        self._heartbeat.hear_of(left)  # after those that wait, if that is all that is known of it
        return outcome

    async def host_list(self) -> list[HostLine]:
        """Every host of the cluster, by name.

        Raises:
            Unavailable: the store cannot be reached.
        """
        return await read_host_list(self._tables)

    async def remove(self, name: str, *, force: bool = False) -> Removal:
        """Give back at once what a host held that is gone for good, and forget it if nothing is left.

        What somebody on the wire answers for is kept; with `force` nobody is asked.

        Raises:
            NotFound: no such host.
            Conflict: it is alive, or several are meant.
            Unavailable: the store cannot be reached.
        """
        host = find_dead(await self.host_list(), name)
        dead = {host.id: None}
        await self._mark(dead)
        held = await self._addresses.all()
        subnets = {(each.space, each.subnet) for each in held if each.host == host.id}
        outcome = await self._give_back(dead, held, subnets, set(dead), ask=not force)
        forgotten = not outcome.kept and await self._still_dead(host.id, dead)
        if forgotten:
            await self._addresses.held.use.end_of(host.id, await self._addresses.held.use.of(host.id))
            await self._tables.host_addresses.drop(host.id)
            await self._addresses.avoided.forget_host(host.id)
            await self._tables.reports.drop(host.id)
            await self._tables.hosts.drop(host.id)
            log.info("host %s (%s) was removed by an operator", host.name, host.id[:12])
        return Removal(host, outcome, forgotten)

    async def _mark(self, dead: Collection[str]) -> dict[str, tuple[Entry, Entry]]:
        """Write down that these hosts are taken for dead, before anything of them goes: one that comes back sees it,
        and writes the row anew. The rows before and after that, of those that have one."""
        rows = {}
        for host in sorted(dead):
            with contextlib.suppress(Internal):  # a newer version wrote its row
                before = await self._tables.hosts.get(host)
                after = await self._tables.hosts.change(host, reclaimed=True)
                if before and after:
                    rows[host] = before.entry, after.entry
        return rows

    def _is_due(self, host: str) -> bool:
        known = self._next.get(host)
        return known is None or (known.due is not None and self._steady() >= known.due)

    async def _give_back(
        self,
        dead: DeadHosts,
        addresses: Sequence[AddressRecord],
        subnets: Collection[SpaceSubnet],
        named: Collection[str],
        *,
        ask: bool,
    ) -> ReclaimResult:
        """Give back what dead hosts have of these addresses, which are all of these subnets, their pools, and the names
        of those that may be `named`."""
        # what is held was read before what is here: an endpoint that comes meanwhile is then seen
        pools = [row.record for row in await self._tables.pools.scan()]
        networks = [row.record for row in await self._tables.networks.scan()]
        outcome = ReclaimResult()
        free = asyncio.Semaphore(AT_ONCE)

        async def settle(claim: Claim) -> None:
            async with free:
                await self._settle(claim, dead, outcome, ask=ask)

        async with asyncio.TaskGroup() as tasks:
            for claim in plan(dead, addresses, pools, networks):
                tasks.create_task(settle(claim))
        for pool in reserved_pools(dead, pools):
            if await self._still_dead(pool.host, dead) and await self._pools.give_back(pool):
                log.info("subnet %s, reserved on dead host %s, is reclaimed", pool.subnet, self._name(pool.host))
                outcome.pools += 1
        await self._drop_stranded(dead, subnets, outcome)
        if named:
            await self._drop_names(named, dead, outcome, pools)
        return outcome

    async def _end_use(
        self,
        dead: DeadHosts,
        used: Mapping[str, list[SpaceSubnet]],
        held: Sequence[AddressRecord],
        outcome: ReclaimResult,
    ) -> None:
        """Forget the subnets in which dead hosts have nothing left: whoever looks later reads nothing of them."""
        known = {row.record.id for row in await self._tables.definitions.scan()}
        known |= {row.record.shared_id for row in await self._tables.networks.scan()}
        given = {(each.space, each.address) for each in outcome.given}
        rest = [each for each in held if (each.space, each.address) not in given]
        for host, subnets in used.items():
            left = {(each.space, each.subnet) for each in rest if is_kept_by(each, host, known)}
            if await self._still_dead(host, dead):
                await self._addresses.held.use.end_of(host, [each for each in subnets if each not in left])

    async def _drop_stranded(self, dead: DeadHosts, subnets: Collection[SpaceSubnet], outcome: ReclaimResult) -> None:
        """Give back claims of dead hosts for networks that they never published, which would block their subnets, and
        what is left of removed networks: perhaps a dead host was the last that had containers on them."""
        tables = self._tables
        pools = [row.record for row in await tables.pools.scan()]
        removed = {row.record.id for row in await tables.removed.scan()}
        known = {row.record.id for row in await tables.definitions.scan()} | removed
        known |= {row.record.shared_id for row in await tables.networks.scan()}
        theirs = {each.network for each in pools if each.host in dead} - known - {""}
        beside = {(each.space, each.subnet) for each in pools if each.network in theirs}
        addresses = await self._addresses.held.within_each({*subnets, *beside})
        ended = {each.network for each in pools if (each.space, each.subnet) in subnets}
        # another network may have its pool by now
        ended |= {claim.network for each in addresses for claim in network_claims(each)}
        for network in sorted(ended & removed):
            await self._pools.drop_network(network, if_empty=True, subnets=subnets)
        networks = stranded(dead, addresses, pools, known)
        if not networks or await tables.definitions.unreadable():  # one that we cannot read may be of these
            return
        for network in networks:
            makers = {each.host for each in pools if each.network == network}
            makers |= {each.host for each in addresses if each.network == network}
            if not all([await self._still_dead(host, dead) for host in makers]):
                continue
            if await self._pools.drop_network(network, if_empty=True, subnets=subnets):
                log.info("network %s, which a dead host was creating, is dropped", network[:12])
                outcome.pools += sum(1 for pool in pools if pool.network == network)

    async def _obstacle(self, claim: Claim) -> str:
        """The reason for which addresses must stay, "" if they may go."""
        if claim.out_of_reach:
            return claim.out_of_reach
        try:
            for record in claim.records:
                if await self._is_here(record):
                    return "a container of this host has it"
                for parent in claim.parents:
                    if await self._kernel.probe(parent, record.address):
                        return f"a device answers for {record.address} on {parent}"
        except MacvlanGlobalError as error:  # nobody knows, then
            return str(error)
        return ""

    async def _is_here(self, record: AddressRecord) -> bool:
        """Whether a container of this host has the address: from the parent it cannot be heard."""
        endpoints = [row.record for row in await self._tables.endpoints.scan()]
        networks = {row.record.id: row.record for row in await self._tables.networks.scan()}
        here = [networks.get(each.network) for each in endpoints if record.address in {each.address, each.address6}]
        return any(subnet.space == record.space for network in here if network for subnet in network.subnets)

    async def _settle(self, claim: Claim, dead: DeadHosts, outcome: ReclaimResult, *, ask: bool) -> None:
        obstacle = await self._obstacle(claim) if ask else ""
        for record in claim.records:  # what is in the way of one is in the way of all
            try:
                reason = obstacle or await self._let_go(record, dead, outcome)
            except MacvlanGlobalError as error:
                reason = str(error)
            if reason:
                outcome.kept.append(NotReclaimed(record, reason))
                self._log_kept(record, reason)

    def _log_kept(self, record: AddressRecord, reason: str) -> None:
        """Log it once: it is found anew after each grace period."""
        key = (record.space, record.address)
        level = logging.DEBUG if self._logged.get(key) == reason else logging.INFO
        log.log(level, "address %s of dead host %s stays: %s", record.address, self._name(record.host), reason)
        self._logged[key] = reason

    async def _let_go(self, record: AddressRecord, dead: DeadHosts, outcome: ReclaimResult) -> str:
        """Give an address back; the reason if it stays, "" if the host does not have it any more."""
        if not await self._still_dead(record.host, dead):
            return "its host is back, or may have been"
        if await self._addresses.give_back(record):
            log.info("address %s of dead host %s is reclaimed", record.address, self._name(record.host))
            outcome.given.append(record)
            if await self._tables.removed.get(record.network):  # perhaps this was all that kept its pool
                subnet = record.space, record.subnet
                await self._pools.drop_network(record.network, if_empty=True, subnets=[subnet])
            return ""
        row = await self._tables.addresses.get(record.space, record.address)
        return "its record changed meanwhile" if row and row.record.host == record.host else ""

    async def _drop_names(
        self, named: Collection[str], dead: DeadHosts, outcome: ReclaimResult, pools: Collection[PoolRecord]
    ) -> None:
        """Names go once their endpoint holds no address any more."""
        holding = {(each.record.host, each.record.network, each.record.endpoint) for each in outcome.kept}
        present, removed = await self._networks_with_names(outcome, pools)
        for network in sorted(present | removed):
            whole = network in removed and len(named) > 1
            for host, row in await self._names_below(network, sorted(named), whole=whole):
                if (host, network, row.record.endpoint) in holding or not await self._still_dead(host, dead):
                    continue
                if await self._tables.names.delete(row):
                    outcome.names += 1

    async def _names_below(
        self, network: str, hosts: Sequence[str], *, whole: bool
    ) -> list[tuple[str, Row[NameRecord]]]:
        """The names that these hosts have on a network; with `whole` all of the network are read for that, once."""
        names = self._tables.names
        if not whole:
            return [(host, row) for host in hosts for row in await names.scan(network, host)]
        below = {names.key(network, host): host for host in hosts}
        found = [(below.get(row.entry.key.rpartition("/")[0]), row) for row in await names.scan(network)]
        return [(host, row) for host, row in found if host]

    async def _networks_with_names(
        self, outcome: ReclaimResult, pools: Collection[PoolRecord]
    ) -> tuple[set[str], set[str]]:
        """The networks (ids in the cluster) below which a host may have names: those that are there, and removed ones,
        of which few names are left. Those of all networks are not read."""
        tables = self._tables
        reclaimed = [*outcome.given, *(each.record for each in outcome.kept)]
        found = {each.network for each in reclaimed} | {each.network for each in pools}
        found |= {row.record.id for row in await tables.definitions.scan()}
        found |= {row.record.shared_id for row in await tables.networks.scan()}
        removed = sorted((row.record for row in await tables.removed.scan()), key=lambda each: each.at)
        return found - {""}, {each.id for each in removed[-MOST_REMOVED:]} - found - {""}

    async def _still_dead(self, host: str, dead: DeadHosts) -> bool:
        """Whether a host was dead for the whole of the pass. The store is asked: the membership may be old if this
        process was held up. A host that came back takes the mark away once its key is there; so the key is asked for
        first, and one that has lost its key again, as in a short outage, was back all the same."""
        if await self._tables.alive.get(host):
            return False
        row = await self._tables.hosts.find(host)
        if row and not row.record.reclaimed:
            return False
        before, gone = dead[host], self._heartbeat.gone_for(host)
        return before is None or (gone is not None and gone >= before)

    def _name(self, host: str) -> str:
        return self._heartbeat.name_of(host)
