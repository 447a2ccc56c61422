"""Giving back what a dead host held: after the grace period, and by an operator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import pytest

from macvlan_global.cluster.heartbeat import Clocks, Heartbeat, HostSummary, Member
from macvlan_global.cluster.membership import MOST_HEARD
from macvlan_global.cluster.reclaimer import Reclaimer, ReclaimResult
from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.errors import Conflict, NotFound, Unavailable
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.ports import Station
from macvlan_global.store.layout import StoreLayout
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import (
    AddressRecord,
    AliveRecord,
    DefinitionRecord,
    EndpointRecord,
    HostRecord,
    NameRecord,
    NetworkRecord,
    PoolRecord,
    RemovedRecord,
    StaticAddressRecord,
    SubnetRecord,
    SubnetUseRecord,
)
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock
from testkit.fake_kernel import FakeKernel

pytestmark = pytest.mark.virtual_time

OWN, DEAD, THIRD = "a" * 32, "b" * 32, "c" * 32
SPACE, SUBNET = "s", "10.8.0.0/24"
GRACE = 600.0


class SlowKernel(FakeKernel):
    """Something happens while the wire is asked."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def probe(self, parent: str, address: str, *, tries: int = 3, wait: float = 1.0) -> Station | None:
        """See `Kernel.probe`."""
        if self.meanwhile:
            await self.meanwhile()
        return await super().probe(parent, address, tries=tries, wait=wait)


class SlowStore(MemoryStore):
    """Something happens right after a deletion of an address."""

    afterwards: Callable[[], Awaitable[None]] | None = None
    given = 0
    """Addresses that scans gave."""
    name_scans = 0
    """Scans of names."""

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        found = await super().scan(prefix)
        self.name_scans += prefix.startswith("names/")
        self.given += sum(each.key.startswith("addresses/") for each in found)
        return found

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        deleted = await super().delete(entry)
        if self.afterwards and entry.key.startswith("addresses/"):
            await self.afterwards()
        return deleted


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until something is so."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came")


@dataclass
class Site:
    """A host that lives, with a network on eth1, and what the store says of the dead one."""

    shared: SlowStore
    tables: Tables
    kernel: SlowKernel
    heartbeat: Heartbeat
    reclaimer: Reclaimer
    clock: FakeClock
    running: "asyncio.Task[None]"

    async def hold(self, address: str, endpoint: str = "e1", **other: object) -> AddressRecord:
        """An address of the dead host's."""
        facts = {"kind": "endpoint", "network": "lan", "endpoint": endpoint, "host": DEAD, "at": 0, **other}
        facts.setdefault("subnet", "fd18::/64" if ":" in address else SUBNET)
        record = AddressRecord(space=SPACE, address=address, incarnation="i", **facts)  # type: ignore[arg-type]  # fields by name
        used = SubnetUseRecord(host=record.host, space=SPACE, subnet=record.subnet)
        await self.tables.used.put(used, used.host, SPACE, used.subnet)
        await self.tables.addresses.put(record, SPACE, address)
        return record

    async def name(self, endpoint: str, address: str, network: str = "lan", host: str = DEAD) -> None:
        """A name of the dead host's, or of another one."""
        record = NameRecord(
            network=network, network_name="lan", endpoint=endpoint, container="c", names=["web"], host=host, at=0
        )
        await self.tables.names.put(record, network, host, endpoint)

    async def beat(self, record: AliveRecord) -> None:
        """A host comes in."""
        key, value = self.tables.alive.key(record.id), msgspec.json.encode(record)
        assert await self.shared.create_with(await self.shared.lease(1e9), key, value)

    async def interrupt(self, meanwhile: Callable[[], Awaitable[object]] | None = None) -> None:
        """The store is not seen for a moment, in which something may happen; then all are dead for long again."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.reclaimer.look()
        if meanwhile:
            await meanwhile()
        self.running = asyncio.ensure_future(self.heartbeat.run())
        await until(lambda: self.heartbeat.gone_for(DEAD) is not None)
        self.clock.advance(2 * GRACE)

    async def held(self) -> list[str]:
        """The addresses that are held."""
        return [row.record.address for row in await self.tables.addresses.scan()]

    async def names(self) -> list[str]:
        """The endpoints that have names."""
        return [row.record.endpoint for row in await self.tables.names.scan()]


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """The dead host has a row, and no key."""
    shared, clock, kernel = SlowStore(), FakeClock(0), SlowKernel("eth1")
    tables = Tables(shared, MemoryStore())
    driver = Driver.build(tables, kernel, Identity(OWN, "run1", "boot1", "anna"), Settings("global", shared=True))

    async def facts() -> HostSummary:
        return HostSummary()

    heartbeat = Heartbeat(shared, tables, Member(OWN, "anna", "boot1", "run1"), facts, clocks=Clocks(steady=clock))
    await StoreLayout(shared).check()
    await tables.hosts.put(HostRecord(id=DEAD, name="bert", version="1", seen=5), DEAD)
    await tables.pools.put(PoolRecord(space=SPACE, subnet=SUBNET, network="lan", at=0), SPACE, SUBNET)
    subnet = SubnetRecord(space=SPACE, subnet=SUBNET)
    await tables.networks.put(
        NetworkRecord(id="own", cluster="lan", given={}, subnets=[subnet], parent="eth1", at=0), "own"
    )
    await heartbeat.announce()
    running: asyncio.Task[None] = asyncio.ensure_future(heartbeat.run())
    await until(lambda: OWN in heartbeat.live())
    reclaimer = Reclaimer(heartbeat, tables, driver.pools, driver.addresses, kernel, grace=GRACE, steady=clock)
    built = Site(shared, tables, kernel, heartbeat, reclaimer, clock, running)
    yield built
    built.running.cancel()
    await asyncio.gather(built.running, return_exceptions=True)


async def _see(site: Site, *, alive: bool) -> None:
    """The dead host comes back, or goes again."""
    if alive:
        await site.beat(AliveRecord(id=DEAD, name="bert", boot="x", incarnation="y", at=0))
    else:
        await site.tables.alive.drop(DEAD)
    await until(lambda: (DEAD in site.heartbeat.live()) == alive)


async def test_nothing_is_taken_before_the_grace_period(site: Site) -> None:
    """Not a second; nobody is even asked."""
    await site.hold("10.8.0.2")
    site.clock.advance(GRACE - 1)
    await site.reclaimer.look()
    assert (await site.held(), site.kernel.probed) == (["10.8.0.2"], [])
    site.clock.advance(1)
    await site.reclaimer.look()
    assert (await site.held(), site.kernel.probed) == ([], [("eth1", "10.8.0.2")])


async def test_who_answers_keeps_his_address_and_his_name(site: Site) -> None:
    """The host only looks dead; it is asked again a grace period later, and not before."""
    await site.hold("10.8.0.2")
    await site.hold("fd18::2")
    await site.name("e1", "10.8.0.2")
    await site.hold("10.8.0.3", "e2")
    await site.name("e2", "10.8.0.3")
    site.kernel.neighbours["eth1"] = {"fd18::2"}
    site.clock.advance(GRACE)
    outcome = await site.reclaimer.look()
    assert {each.record.address: each.reason for each in outcome.kept} == {
        "10.8.0.2": "a device answers for fd18::2 on eth1",
        "fd18::2": "a device answers for fd18::2 on eth1",
    }
    assert [each.address for each in outcome.given] == ["10.8.0.3"]
    assert await site.held() == ["10.8.0.2", "fd18::2"]
    assert await site.names() == ["e1"]
    site.kernel.neighbours.clear()
    site.clock.advance(GRACE - 1)
    assert not (await site.reclaimer.look()).given
    site.clock.advance(1)
    await site.reclaimer.look()
    assert (await site.held(), await site.names()) == ([], [])


async def test_a_host_that_comes_back_keeps_everything(site: Site) -> None:
    """And the next time it goes the grace period begins anew."""
    await site.hold("10.8.0.2")
    site.clock.advance(GRACE - 1)
    await _see(site, alive=True)
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    await _see(site, alive=False)
    site.clock.advance(GRACE - 1)
    await site.reclaimer.look()
    assert await site.held() == ["10.8.0.2"]
    site.clock.advance(1)
    await site.reclaimer.look()
    assert await site.held() == []


async def test_what_was_seen_is_checked_before_anything_goes(site: Site) -> None:
    """A process that was held up may not have heard yet that the host is back; the store is asked."""
    await site.hold("10.8.0.2")
    await site.name("e1", "10.8.0.2")
    await site.tables.pools.put(PoolRecord(space=SPACE, subnet="10.9.0.0/24", host=DEAD, at=0), SPACE, "10.9.0.0/24")
    site.clock.advance(GRACE)
    await site.beat(AliveRecord(id=DEAD, name="bert", boot="x", incarnation="y", at=0))
    outcome = await site.reclaimer.look()
    assert [each.reason for each in outcome.kept] == ["its host is back, or may have been"]
    assert (await site.held(), await site.names()) == (["10.8.0.2"], ["e1"])
    assert await site.tables.pools.get(SPACE, "10.9.0.0/24") is not None


@pytest.mark.parametrize("noticed", ["in the store", "in the membership"])
async def test_a_host_that_is_back_and_gone_again_within_a_pass_keeps_everything(site: Site, noticed: str) -> None:
    """The villain is a host, whose lease ends once more while the wire is asked. It has taken away the mark that others
    give back what it had; or it looked before that was there, but it was seen. The grace period begins anew."""
    await site.hold("10.8.0.2")
    await site.name("e1", "10.8.0.2")
    await site.tables.pools.put(PoolRecord(space=SPACE, subnet="10.9.0.0/24", host=DEAD, at=0), SPACE, "10.9.0.0/24")

    async def back_and_gone() -> None:
        site.kernel.meanwhile = None
        if noticed == "in the store":
            await site.tables.hosts.change(DEAD, reclaimed=False)
        else:
            await _see(site, alive=True)
            await _see(site, alive=False)

    site.clock.advance(GRACE)
    site.kernel.meanwhile = back_and_gone
    outcome = await site.reclaimer.look()
    assert [each.reason for each in outcome.kept] == ["its host is back, or may have been"]
    assert (outcome.pools, await site.held(), await site.names()) == (0, ["10.8.0.2"], ["e1"])
    site.clock.advance(GRACE)
    assert (await site.reclaimer.look()).pools == 1
    assert (await site.held(), await site.names()) == ([], [])


@pytest.mark.parametrize("by_operator", [True, False])
async def test_names_of_a_host_that_was_back_go_the_next_time(site: Site, by_operator: bool) -> None:
    """The villain is a host that takes the mark away in the middle of a pass, and dies. Nothing of it was kept but what
    the pass did not come to any more."""
    await site.hold("10.8.0.2")
    await site.name("e1", "10.8.0.2")

    async def back_and_gone() -> None:
        site.shared.afterwards = None
        await site.tables.hosts.change(DEAD, reclaimed=False)

    site.clock.advance(GRACE)
    site.shared.afterwards = back_and_gone
    if by_operator:
        assert not (await site.reclaimer.remove("bert")).forgotten
    else:
        assert (await site.reclaimer.look()).kept == []
    assert (await site.held(), await site.names()) == ([], ["e1"])
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    assert await site.names() == []


async def test_a_record_that_changes_while_the_wire_is_asked_is_left(site: Site) -> None:
    """Whoever wrote it anew has it: the host itself, or a third one that took it."""
    own, third = await site.hold("10.8.0.2"), await site.hold("10.8.0.3", "e2")
    site.clock.advance(GRACE)

    async def write_anew() -> None:
        await site.hold(own.address, at=7)
        await site.hold(third.address, "e9", host=THIRD)

    site.kernel.meanwhile = write_anew
    outcome = await site.reclaimer.look()
    assert [(each.record.address, each.reason) for each in outcome.kept] == [
        ("10.8.0.2", "its record changed meanwhile")
    ]
    assert outcome.given == []
    assert await site.held() == ["10.8.0.2", "10.8.0.3"]


async def test_what_cannot_be_asked_is_not_given_back(site: Site) -> None:
    """The parent is down, or the network is not here, or a container of this host has the address."""
    await site.hold("10.8.0.2", "e1")
    await site.hold("fd18::3", "e2", network="elsewhere")
    await site.hold("10.8.0.4", "e3")
    endpoint = EndpointRecord(network="own", id="x", address="10.8.0.4", mac="m", link="l", boot="boot1", at=0)
    await site.tables.endpoints.put(endpoint, "own", "x")
    await site.kernel.set_down("eth1")
    site.clock.advance(GRACE)
    outcome = await site.reclaimer.look()
    assert {each.record.address: each.reason for each in outcome.kept} == {
        "10.8.0.2": "interface eth1 cannot be probed for addresses: it is down; set it up (ip link set eth1 up)",
        "fd18::3": "network elsewhere has no parent on this host to probe on",
        "10.8.0.4": "a container of this host has it",
    }


async def test_what_networks_hold_stays(site: Site) -> None:
    """Whoever wrote it: gateway and aux addresses outlive the host. What was only reserved goes, its pool too."""
    await site.hold("10.8.0.1", "", kind="gateway")
    await site.hold("10.8.0.9", "", kind="aux", label="printer")
    await site.hold("10.8.0.5", "", kind="reserved", network="")
    await site.tables.pools.put(PoolRecord(space=SPACE, subnet="10.9.0.0/24", host=DEAD, at=0), SPACE, "10.9.0.0/24")
    site.clock.advance(GRACE)
    outcome = await site.reclaimer.look()
    assert (await site.held(), outcome.pools) == (["10.8.0.1", "10.8.0.9"], 1)
    assert [row.record.subnet for row in await site.tables.pools.scan()] == [SUBNET]


async def test_a_network_that_died_in_the_making_blocks_no_subnet(site: Site) -> None:
    """Its host claimed the subnet and never told of the network. What the cluster knows stays, and what is in use."""
    for network, third in (("made", "1"), ("told", "2"), ("gone", "3"), ("used", "4")):
        subnet = f"10.9.{third}.0/24"
        await site.tables.pools.put(
            PoolRecord(space=SPACE, subnet=subnet, network=network, host=DEAD, at=0), SPACE, subnet
        )
        await site.hold(f"10.9.{third}.1", "", kind="gateway", network=network)
    await site.tables.definitions.put(DefinitionRecord(id="told", name="told", host=DEAD, at=0), "told")
    await site.tables.removed.put(RemovedRecord(id="gone", name="gone", host=DEAD, at=0), "gone")
    await site.hold("10.9.4.2", network="used")
    site.clock.advance(GRACE)
    outcome = await site.reclaimer.look()
    assert (outcome.pools, await site.held()) == (1, ["10.9.2.1", "10.9.3.1", "10.9.4.1", "10.9.4.2"])
    assert await site.tables.pools.get(SPACE, "10.9.1.0/24") is None


async def test_what_is_kept_of_a_network_of_another_driver_stays(site: Site) -> None:
    """The villain is the store: it was cut off from a host on which a container runs. Its network is in no definition,
    and nobody else has a parent of it to probe on. Once an operator says that the host is gone, all of it goes."""
    subnet = "10.9.0.0/24"
    pool = PoolRecord(space=SPACE, subnet=subnet, network="bridge", driver="ipvlan", host=DEAD, at=0)
    await site.tables.pools.put(pool, SPACE, subnet)
    await site.hold("10.9.0.1", "", kind="gateway", network="bridge", subnet=subnet)
    await site.hold("10.9.0.5", "", kind="reserved", network="bridge", subnet=subnet)
    site.clock.advance(GRACE)
    outcome = await site.reclaimer.look()
    assert [(each.record.address, each.reason) for each in outcome.kept] == [
        ("10.9.0.5", "network bridge has no parent on this host to probe on")
    ]
    assert (outcome.pools, await site.held()) == (0, ["10.9.0.1", "10.9.0.5"])
    assert await site.tables.pools.get(SPACE, subnet) is not None
    assert (await site.reclaimer.remove("bert", force=True)).forgotten
    assert (await site.held(), await site.tables.pools.get(SPACE, subnet)) == ([], None)


async def test_what_is_left_of_a_removed_network_goes_though_another_one_has_its_pool(site: Site) -> None:
    """Its host died before it let go of the gateway. A container that still runs on it keeps its network's claims."""
    for network, last in (("gone", 1), ("used", 2)):
        await site.tables.removed.put(RemovedRecord(id=network, name=network, host=DEAD, at=0), network)
        await site.hold(f"10.8.0.{last}", "", kind="gateway", network=network)
    await site.hold("10.8.0.3", network="used", host=OWN)
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    assert await site.held() == ["10.8.0.2", "10.8.0.3"]


async def test_what_a_newer_version_published_is_not_stranded(site: Site) -> None:
    """A definition that cannot be read may be of any network."""
    await site.hold("10.8.0.1", "", kind="gateway", network="made")
    await site.tables.definitions.put(DefinitionRecord(v=99, id="made", name="made", host=DEAD, at=0), "made")
    await site.reclaimer.remove("bert")
    assert await site.held() == ["10.8.0.1"]


async def test_a_store_that_goes_away_costs_nothing(site: Site) -> None:
    """An address that could not be given back is kept, with the reason, and tried again later."""
    await site.hold("10.8.0.2")
    site.clock.advance(GRACE)
    site.kernel.failing["probe"] = Unavailable("on purpose")
    outcome = await site.reclaimer.look()
    assert [each.reason for each in outcome.kept] == ["on purpose"]
    assert await site.held() == ["10.8.0.2"]


async def test_two_hosts_at_once_give_back_once(site: Site) -> None:
    """Each deletes exactly the record that it read."""
    for number in range(2, 40):
        await site.hold(f"10.8.0.{number}", f"e{number}")
    other = Reclaimer(
        site.heartbeat,
        site.tables,
        site.reclaimer._pools,
        site.reclaimer._addresses,
        site.kernel,
        grace=GRACE,
        steady=site.clock,
    )
    site.clock.advance(GRACE)
    one, two = await asyncio.gather(site.reclaimer.look(), other.look())
    assert sorted(each.address for each in one.given + two.given) == sorted(f"10.8.0.{each}" for each in range(2, 40))
    assert one.kept + two.kept == []
    assert await site.held() == []


async def test_a_host_with_nothing_left_is_looked_at_once(site: Site) -> None:
    """Until it has been back: a dead host must not cost a scan every half minute for ever."""
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    await site.hold("10.8.0.2")
    site.clock.advance(10 * GRACE)
    await site.reclaimer.look()
    assert await site.held() == ["10.8.0.2"]
    await _see(site, alive=True)
    await site.reclaimer.look()
    await _see(site, alive=False)
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    assert await site.held() == []


async def test_a_host_that_was_back_between_two_looks_is_looked_at_again(site: Site) -> None:
    """The villain is a host that starts, takes an address and dies for good within seconds. It had nothing before."""
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    await _see(site, alive=True)
    await site.hold("10.8.0.2")
    await _see(site, alive=False)
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    assert await site.held() == []


async def test_it_is_written_down_before_anything_goes(site: Site) -> None:
    """So a host that comes back in the middle of it knows that it has to claim everything anew."""
    await site.hold("10.8.0.2")
    marked: list[bool] = []

    async def look() -> None:
        row = await site.tables.hosts.get(DEAD)
        marked.append(row is not None and row.record.reclaimed)

    site.shared.afterwards = look
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    assert marked == [True]


async def test_names_of_a_host_that_has_no_row_go_too(site: Site) -> None:
    """The store was restored from an older copy, and the host wrote nothing but names before it died for good."""
    record = NameRecord(
        network="lan", network_name="lan", endpoint="e9", container="c", names=["web"], host=THIRD, at=0
    )
    await site.tables.names.put(record, "lan", THIRD, "e9")
    site.clock.advance(10 * GRACE)
    site.heartbeat.hear_of({THIRD})
    site.clock.advance(0.9 * GRACE)
    await site.reclaimer.look()
    assert await site.names() == ["e9"]
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    assert await site.names() == []
    assert THIRD not in site.heartbeat.known()


@pytest.mark.parametrize("held", [False, True])
async def test_names_of_however_many_hosts_without_rows_go(site: Site, held: bool) -> None:
    """The villain is the store: it was restored from an older copy, and lost the rows of many hosts, which are dead.
    Their names are told of once. Hosts of which something stays are in nobody's way."""
    hosts = [f"{number:032x}" for number in range(1, 3 * MOST_HEARD + 1)]
    for host in hosts:
        record = NameRecord(
            network="lan", network_name="lan", endpoint="e9", container="c", names=["web"], host=host, at=0
        )
        await site.tables.names.put(record, "lan", host, "e9")
    if held:
        for number, host in enumerate(hosts[:MOST_HEARD], 2):
            await site.hold(f"10.8.0.{number}", "e9", host=host)
            site.kernel.neighbours.setdefault("eth1", set()).add(f"10.8.0.{number}")
    site.heartbeat.hear_of(hosts)
    for _ in range(3):
        site.clock.advance(2 * GRACE)
        await site.reclaimer.look()
    assert len(await site.names()) == (MOST_HEARD if held else 0)
    assert len(site.heartbeat.known().keys() - {OWN, DEAD}) == (MOST_HEARD if held else 0)
    assert len(site.kernel.probed) == (MOST_HEARD if held else 0)
    site.kernel.neighbours.clear()
    site.clock.advance(2 * GRACE)
    await site.reclaimer.look()
    assert (await site.names(), await site.held()) == ([], [])


async def _many_dead(site: Site) -> list[str]:
    """Nineteen more dead hosts, and a hundred removed networks: on each of these a host that is dead has a name, and
    so has one that nobody takes for dead. The clock is past the grace period of all."""
    hosts = [DEAD, *(f"{number:032x}" for number in range(1, 20))]
    for host in hosts:
        await site.tables.hosts.put(HostRecord(id=host, name=host, seen=5), host)
    for number in range(100):
        network = f"gone{number}"
        await site.tables.removed.put(RemovedRecord(id=network, name=network, host=OWN, at=number), network)
        await site.name("e1", "", network, hosts[number % len(hosts)])
        await site.name("e2", "", network, OWN)
    await site.interrupt()
    return hosts


async def test_a_removed_network_is_searched_once_for_all_dead_hosts(site: Site) -> None:
    """And an interruption of the store is no reason to search again: nothing of them can have come."""
    await _many_dead(site)
    before = site.shared.name_scans
    assert (await site.reclaimer.look()).names == 100
    assert site.shared.name_scans - before <= 100 + 20  # and the one network that is there for each host
    assert await site.names() == ["e2"] * 100
    await site.interrupt()
    before = site.shared.name_scans
    assert await site.reclaimer.look() == ReclaimResult()
    assert site.shared.name_scans == before


@pytest.mark.parametrize("how", ["it was back", "it was back and seen", "an older copy"])
async def test_names_that_came_in_an_interruption_go(site: Site, how: str) -> None:
    """The villains: a host, whose network has another driver for its addresses, came back and died; an operator, who
    put a copy of the store back from before its things went."""
    await site.hold("10.8.0.2")
    await site.name("e1", "10.8.0.2")
    hosts, copy = await _many_dead(site), site.shared.save()
    await site.reclaimer.look()
    assert await site.names() == ["e2"] * 100

    async def was_back() -> None:
        await site.tables.hosts.put(HostRecord(id=DEAD, name="bert", seen=9), DEAD)
        await site.name("e3", "", "gone7")

    async def older_copy() -> None:
        site.shared.restore(copy)

    if how == "it was back and seen":
        await _see(site, alive=True)
        await site.name("e3", "", "gone7")
        await _see(site, alive=False)
        await site.interrupt()
    else:
        await site.interrupt(was_back if how == "it was back" else older_copy)
    assert len(await site.names()) > 100
    await site.reclaimer.look()
    assert (await site.names(), len(hosts)) == (["e2"] * 100, 20)
    assert await site.held() == []


async def test_an_operator_removes_a_host_at_once(site: Site) -> None:
    """By name or by the beginning of its id; nothing of it is left."""
    await site.hold("10.8.0.2")
    await site.name("e1", "10.8.0.2")
    removal = await site.reclaimer.remove("bert")
    assert (removal.forgotten, [each.address for each in removal.outcome.given]) == (True, ["10.8.0.2"])
    assert (removal.outcome.names, site.kernel.probed) == (1, [("eth1", "10.8.0.2")])
    assert [line.record.name for line in await site.reclaimer.host_list()] == ["anna"]
    with pytest.raises(NotFound, match="there is no host 'bert' in the cluster; there is: anna"):
        await site.reclaimer.remove("bert")


async def test_a_host_that_comes_back_while_an_operator_removes_it_stays_known(site: Site) -> None:
    """What it had is gone; it enters the cluster again, and takes new addresses."""
    await site.hold("10.8.0.2")

    async def back() -> None:
        site.shared.afterwards = None
        await site.beat(AliveRecord(id=DEAD, name="bert", boot="x", incarnation="y", at=0))

    site.shared.afterwards = back
    removal = await site.reclaimer.remove("bert")
    assert (removal.forgotten, removal.outcome.kept) == (False, [])
    assert [line.record.name for line in await site.reclaimer.host_list()] == ["anna", "bert"]


async def test_static_addresses_that_a_removed_host_remembered_are_anybody_s(site: Site) -> None:
    """And no others."""
    for address, host in (("10.8.0.2", DEAD), ("10.8.0.3", THIRD)):
        record = StaticAddressRecord(space=SPACE, address=address, host=host, at=0)
        await site.tables.static_addresses.put(record, SPACE, address)
    assert (await site.reclaimer.remove("bert")).forgotten
    assert [row.record.address for row in await site.tables.static_addresses.scan()] == ["10.8.0.3"]


async def test_an_operator_does_not_take_what_answers_unless_he_forces_it(site: Site) -> None:
    """The host stays known while an address of it is kept."""
    await site.hold("10.8.0.2")
    site.kernel.neighbours["eth1"] = {"10.8.0.2"}
    removal = await site.reclaimer.remove(DEAD[:8])
    assert (removal.forgotten, await site.held()) == (False, ["10.8.0.2"])
    assert [each.reason for each in removal.outcome.kept] == ["a device answers for 10.8.0.2 on eth1"]
    assert (await site.reclaimer.remove("bert", force=True)).forgotten
    assert (await site.held(), len(site.kernel.probed)) == ([], 1)


async def test_a_living_host_is_not_removed(site: Site) -> None:
    """Nor is one of several that are meant."""
    with pytest.raises(Conflict, match="host anna is alive; stop its containers and its driver first"):
        await site.reclaimer.remove("anna", force=True)
    await site.tables.hosts.put(HostRecord(id=THIRD, name="bert", seen=1), THIRD)
    with pytest.raises(Conflict, match=f"several hosts that are down are meant by 'bert'.*{DEAD[:12]}, {THIRD[:12]}"):
        await site.reclaimer.remove("bert")
    await site.tables.hosts.put(HostRecord(id=THIRD, name="anna", seen=1), THIRD)
    assert (await site.reclaimer.remove("anna")).host.id == THIRD  # the one that is down: the machine was set up anew


async def test_the_list_knows_hosts_by_what_they_left(site: Site) -> None:
    """Living ones, dead ones, and those of which only addresses or an unused subnet are left; a newer one lives."""
    await site.hold("10.8.0.2")
    await site.hold("10.8.0.1", "", kind="gateway")
    await site.hold("10.8.0.7", "e7", host=THIRD)
    newer = "d" * 32
    await site.tables.hosts.put(HostRecord(id=newer, name="dora", seen=2), newer)
    await site.beat(AliveRecord(v=99, id=newer, name="dora", boot="x", incarnation="y", at=0))
    found = [(line.record.name, line.live, line.addresses) for line in await site.reclaimer.host_list()]
    assert found == [("anna", True, 0), ("bert", False, 1), (THIRD[:12], False, 1), ("dora", True, 0)]
    assert (await site.reclaimer.remove(THIRD)).forgotten
    asked = PoolRecord(space=SPACE, subnet="10.9.0.0/24", host=THIRD, at=0)
    await site.tables.pools.put(asked, SPACE, asked.subnet)
    assert (await site.reclaimer.remove(THIRD)).outcome.pools == 1


async def test_only_the_subnets_that_a_dead_host_used_are_read(site: Site) -> None:
    """However many others there are; when nothing is left, whose turn comes later reads none of them."""
    await site.hold("10.8.0.2")
    for number in range(100):
        other = AddressRecord(
            space=SPACE,
            subnet="10.9.0.0/24",
            address=f"10.9.0.{number}",
            kind="reserved",
            host=THIRD,
            incarnation="i",
            at=0,
        )
        await site.tables.addresses.put(other, SPACE, other.address)
    site.clock.advance(GRACE)
    before = site.shared.given
    assert [each.address for each in (await site.reclaimer.look()).given] == ["10.8.0.2"]
    assert site.shared.given - before <= 3
    assert await site.tables.used.scan(DEAD) == []


async def test_a_subnet_in_which_something_stays_is_looked_at_again(site: Site) -> None:
    """A device answers for one address; those of its network are nobody's to give back."""
    await site.hold("10.8.0.1", kind="gateway", endpoint="")
    await site.hold("10.8.0.2")
    site.kernel.neighbours["eth1"] = {"10.8.0.2"}
    site.clock.advance(GRACE)
    assert len((await site.reclaimer.look()).kept) == 1
    assert len(await site.tables.used.scan(DEAD)) == 1
    site.kernel.neighbours["eth1"] = set()
    site.clock.advance(GRACE + 1)
    assert len((await site.reclaimer.look()).given) == 1
    assert await site.tables.used.scan(DEAD) == []
    assert await site.held() == ["10.8.0.1"]


async def test_an_operators_removal_finds_what_is_in_no_subnet_that_was_told(site: Site) -> None:
    """Somebody deleted these rows: it reads all addresses, on purpose."""
    await site.hold("10.8.0.2")
    await site.tables.used.drop(DEAD, SPACE, SUBNET)
    assert [each.address for each in (await site.reclaimer.remove("bert")).outcome.given] == ["10.8.0.2"]


@pytest.mark.parametrize("down", [True, False])
async def test_what_a_dead_host_had_on_a_removed_network_is_probed_for_where_its_subnet_is(
    site: Site, down: bool
) -> None:
    """The network has no parent any more. Another one has its subnet, and is on its wire."""
    await site.tables.removed.put(RemovedRecord(id="gone", name="gone", host=DEAD, at=0), "gone")
    await site.hold("10.8.0.7", DEAD, kind="host", network="gone")
    await site.hold("10.8.0.8", "e8", network="gone")
    if down:
        await site.kernel.set_down("eth1")
    site.clock.advance(GRACE)
    outcome = await site.reclaimer.look()
    assert ["cannot be probed" in each.reason for each in outcome.kept] == ([True, True] if down else [])
    assert await site.held() == (["10.8.0.7", "10.8.0.8"] if down else [])


async def test_the_same_address_in_another_space_is_another_wire(site: Site) -> None:
    """A container of this host has it there."""
    subnet = SubnetRecord(space="far", subnet=SUBNET)
    far = NetworkRecord(id="far", name="far", given={}, subnets=[subnet], parent="eth1", at=0)
    await site.tables.networks.put(far, "far")
    endpoint = EndpointRecord(network="far", id="x", address="10.8.0.4", mac="m", link="l", boot="boot1", at=0)
    await site.tables.endpoints.put(endpoint, "far", "x")
    await site.hold("10.8.0.4", "e4")
    site.clock.advance(GRACE)
    await site.reclaimer.look()
    assert await site.held() == []
