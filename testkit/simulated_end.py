"""Invariants of the store at any time, and, when a simulation is over and all is repaired, that nothing is missing or
left over."""

import contextlib
import random
from collections.abc import Collection, Mapping, Sequence

from macvlan_global.errors import Exhausted, NotFound
from macvlan_global.replication.definition import cluster_id, differences
from macvlan_global.store.records import AddressRecord, DefinitionRecord, NameRecord, SubnetRecord
from macvlan_global.store.table import Tables
from macvlan_global.subnets import dynamic_window, from_number, parse_subnet
from testkit.fake_engine import Container
from testkit.history import Verdict, Violation, compare_end
from testkit.simulated_host import SimulatedHost

SMALL = 8
"""Pools of up to so many addresses are handed out to the last one."""


class End:
    """Looks at the store itself, past all hosts, and at every host."""

    def __init__(
        self,
        tables: Tables,
        hosts: Sequence[SimulatedHost],
        lot: random.Random,
    ) -> None:
        """`tables` are those of the store; a driver serves on each host."""
        self._tables = tables
        self._hosts = hosts
        self._lot = lot

    async def unheld(self) -> list[Violation]:
        """Containers that run and whose addresses are not theirs in the store, at any time while it loses nothing."""
        held = {row.record.address: row.record.endpoint for row in await self._tables.addresses.scan()}
        return [
            Violation("claim lost", address, f"of {container.name}, which runs", (container.endpoint,))
            for host in self._hosts
            for container in host.engine.containers.values()
            for address in container.addresses
            if held.get(address) != container.endpoint
        ]

    def one_mac_each(self) -> list[Violation]:
        """Containers that run on one network and have one MAC. A store that lost rows may bring that about."""
        found: list[Violation] = []
        seen: dict[tuple[str, str], str] = {}
        for host in self._hosts:
            for each in host.engine.containers.values():
                network = host.engine.has(each.network)
                key = (cluster_id(network) if network else each.network, each.mac)
                if key in seen:
                    found.append(Violation("MAC of two", each.mac, f"{each.name} and {seen[key]}", (each.endpoint,)))
                seen[key] = each.name
        return found

    async def examine(self, verdict: Verdict, *, restored: bool = False) -> list[Violation]:
        """All that is not as it should be. Two holders that are excused are in order if repair tells of it.

        So is who has not his address since the store was `restored`, with it the claim of one that was gone for good
        on a host that lost its state: nobody lives who could give that back, as long as somebody answers for it. Nor
        the other address that this claim held: both are given back together. The same, restored or not, where hosts
        have the address themselves by now: they answer for it. Nor a gateway or aux address of a network that was
        removed and is there again, as the restored store has it, or that was made before the container's host could
        claim its address again. Nor one that a container was given before its network's host could claim it again,
        which it tells of: the network is then not made anywhere else. Nor is a network made where another one, removed
        and there again, has its subnet in the restored store, which the host tells of, too.
        """
        living = {}
        by_endpoint: dict[str, SimulatedHost] = {}
        unsettled = []
        for host in self._hosts:
            for container in host.engine.containers.values():
                living[container.endpoint] = host.id, container.addresses
                by_endpoint[container.endpoint] = host
                unsettled += await _not_intact(host, container)
        defined = [row.record for row in await self._tables.definitions.scan()]
        fixed = {
            each.id: [address for subnet in each.subnets for address in (subnet.gateway, *subnet.aux.values())]
            for each in defined
        }
        records = [row.record for row in await self._tables.addresses.scan()]
        unsettled += compare_end(records, living, fixed)
        former = {each for host in self._hosts for each in host.former_ids} if restored else set()
        claims = [each for each in records if each.kind == "endpoint" and each.host in former]
        undead = [each.address for each in claims]
        routers = [each for addresses in fixed.values() for each in addresses] if restored else []
        answered = {address for _, addresses in living.values() for address in addresses}
        kept = {each.endpoint for each in claims if each.address in answered}
        on_hosts = self._on_hosts_by_now(records)
        beside = {each.address for each in claims if each.endpoint in kept} | on_hosts
        kept |= {each.endpoint for each in records if each.address in on_hosts}  # their names stay, too
        found = [
            each
            for each in unsettled
            if not (each.kind == "held by nobody" and each.address in beside)
            and not _is_told(each, verdict, by_endpoint, [*undead, *routers])
        ]
        found += [
            Violation("pool held by nobody", row.record.subnet, f"network {row.record.network[:16]!r}")
            for row in await self._tables.pools.scan()
            if row.record.network not in fixed
        ]
        found += await self._forgotten_by_engines()
        found += await self._names(kept)
        lost = self._told_as_lost(found) if restored else []
        found = [each for each in found if each not in lost]
        barred = {network for each in lost for network in each.holders}
        for definition in defined:
            found += [] if definition.id in barred else self._networks(definition, defined if restored else [])
            for subnet in definition.subnets:
                found += await self._fill(definition, subnet, records)
        return found

    def _on_hosts_by_now(self, records: Sequence[AddressRecord]) -> set[str]:
        """Addresses held for hosts that lost their state, of which a host has one itself: a probe is answered."""
        former = {each for host in self._hosts for each in host.former_ids}
        own = {address for host in self._hosts for address in host.own}
        theirs = [(each.endpoint or each.address, each.address) for each in records if each.host in former]
        answered = {holder for holder, address in theirs if address in own}
        return {address for holder, address in theirs if holder in answered}

    async def remove_hosts(self) -> None:
        """An operator removes the hosts that are gone for good, after the others gave back what they could.

        What is left was claimed on networks that are removed: no host has a parent any more on which it could ask. By
        force it goes, unless something else is in the way of it.
        """
        for former in [each for host in self._hosts for each in host.former_ids]:
            run = self._lot.choice(self._hosts).run
            assert run is not None
            with contextlib.suppress(NotFound):
                kept = (await run.scope.reclaimer.remove(former)).outcome.kept
                if kept and all("has no parent on this host" in each.reason for each in kept):
                    await run.scope.reclaimer.remove(former, force=True)

    async def _names(self, undead: Collection[str]) -> list[Violation]:
        """Every container that runs has its name in the store, with all its addresses, and nobody else has one.

        `undead` are endpoints of hosts that are gone for good, whose claims nobody can give back.
        """
        read = [row.record for row in await self._tables.names.scan()]
        rows = {(each.network, each.host, each.endpoint): each for each in read}
        found = []
        for host in self._hosts:
            for each in host.engine.containers.values():
                network = host.engine.has(each.network)
                assert network
                record = rows.pop((cluster_id(network), host.id, each.endpoint), None)
                wanted = cluster_id(network), each.network, each.name, each.addresses
                if record is None:
                    found.append(Violation("name missing", ", ".join(each.addresses), f"{each.name} on {host.name}"))
                elif (said := _said(record)) != wanted:
                    text = f"of {each.name} on {host.name}: {said} instead of {wanted}"
                    found.append(Violation("name wrong", ", ".join(each.addresses), text))
        return found + [
            Violation("name left over", each.address or each.address6, f"{each.names} on {each.host[:12]}")
            for each in rows.values()
            if each.endpoint not in undead
        ]

    async def _forgotten_by_engines(self) -> list[Violation]:
        """Networks that hosts have records of and their engines do not: such a record keeps its parent, too."""
        return [
            Violation("network left over", row.record.shown, f"on {host.name}, whose engine does not have it")
            for host in self._hosts
            if host.run
            for row in await host.run.driver.tables.networks.scan()
            if row.record.id not in {each.id for each in await host.engine.every_network()}
        ]

    def _told_as_lost(self, found: Sequence[Violation]) -> list[Violation]:
        """Gateways and aux addresses that a host with their network says it cannot claim."""
        told = [problem for host in self._hosts if host.run for problem in host.run.reconciler.problems]
        return [
            each
            for each in found
            if each.kind == "gateway or aux address lost"
            and any(problem.startswith(f"address {each.address} ") and " is in use by " in problem for problem in told)
        ]

    def _networks(self, definition: DefinitionRecord, restored: Sequence[DefinitionRecord]) -> list[Violation]:
        """A network of the cluster is on every host, as it is defined, if none of those `restored` has its subnet."""
        found = []
        for host in self._hosts:
            network = host.engine.has(definition.name)
            if network is None:
                if _is_told_as_taken(definition, host, restored):
                    continue
                found.append(Violation("network not everywhere", definition.name, f"is not on {host.name}"))
            elif cluster_id(network) != definition.id or differences(definition, network):
                text = f"is on {host.name} as {cluster_id(network)[:12]}: {differences(definition, network)}"
                found.append(Violation("network not as defined", definition.name, text))
        return found

    async def _own_of_former_hosts(self) -> set[str]:
        """Addresses of identities that hosts lost and that nobody could remove: somebody answers for what they held."""
        lost = {each for host in self._hosts for each in host.former_ids}
        rows = [row.record for row in await self._tables.host_addresses.scan() if row.record.id in lost]
        return {each.address for record in rows for each in record.addresses}

    async def _fill(
        self, definition: DefinitionRecord, subnet: SubnetRecord, records: list[AddressRecord]
    ) -> list[Violation]:
        """Hand out all that is left of a small pool, and give it back."""
        whole = parse_subnet(subnet.subnet, "subnet")
        first, stop = dynamic_window(whole, parse_subnet(subnet.range, "range") if subnet.range else None)
        host = self._lot.choice(self._hosts)
        if stop - first > SMALL or host.engine.has(definition.name) is None:
            return []
        held = {record.address for record in records}
        own = {address for each in self._hosts for address in each.own} | await self._own_of_former_hosts()
        wanted = {str(from_number(number, whole)) for number in range(first, stop)} - held - own
        pool = "/".join(filter(None, (subnet.space, subnet.subnet, subnet.range)))
        got = set()
        assert host.run is not None
        with contextlib.suppress(Exhausted):
            while True:
                got.add((await host.run.driver.ipam.request_address(pool, "")).partition("/")[0])
        for address in got:
            await host.run.driver.ipam.release_address(pool, address)
        if got == wanted:
            return []
        text = f"asked on {host.name}: {sorted(wanted - got)} cannot be had, {sorted(got - wanted)} are too many"
        return [Violation("pool not handed out to its last address", subnet.subnet, text)]


def _said(record: NameRecord) -> tuple[str, str, str, list[str]]:
    addresses = [each for each in (record.address, record.address6) if each]
    return record.network, record.network_name, record.names[0], addresses


async def _not_intact(host: SimulatedHost, container: Container) -> list[Violation]:
    """A container that runs has its link, and its host's driver knows its endpoint."""
    assert host.run is not None
    found = []
    address = ", ".join(container.addresses)
    if not host.kernel.sandboxed.get(container.sandbox):
        found.append(Violation("running container touched", address, f"{container.name} lost its link"))
    if await host.run.driver.endpoints.find(container.endpoint) is None:
        text = f"{container.name} on {host.name}"
        found.append(Violation("endpoint forgotten", address, text, (container.endpoint,)))
    return found


def _is_told_as_taken(definition: DefinitionRecord, host: SimulatedHost, restored: Sequence[DefinitionRecord]) -> bool:
    """Whether a host says that it cannot make a network because one of those that the restored store has takes part
    of its subnet."""
    others = [f"network {each.name} has it" for each in restored if each.id != definition.id]
    return host.run is not None and any(
        problem.name == definition.name and " overlaps with " in problem.reason and other in problem.reason
        for problem in host.run.scope.replicator.problems.all()
        for other in others
    )


def _is_told(found: Violation, verdict: Verdict, hosts: Mapping[str, SimulatedHost], undead: Sequence[str]) -> bool:
    """Whether an endpoint lacks an address because the store lost it, and repair on its host says so."""
    lost = [*undead, *(each.address for each in verdict.excused if set(found.holders) & set(each.holders))]
    return any(
        address in found.address.split(", ") and address in problem
        for address in lost
        for endpoint in found.holders
        if (host := hosts.get(endpoint)) and host.run
        for problem in host.run.reconciler.problems
    )
