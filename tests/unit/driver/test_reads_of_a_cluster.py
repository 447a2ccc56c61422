"""What a host reads of the addresses of a cluster: those of the subnets that it uses, however many others there are."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec
import pytest

from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import AddressRecord, PoolRecord
from macvlan_global.store.table import Tables
from testkit.cluster_rig import ClusterHost, ClusterRig
from testkit.fake_engine import Subnet

LAN = Subnet("10.9.0.0/24", gateway="10.9.0.1")
OTHERS = 300


class CountingStore(MemoryStore):
    """A shared store that counts the addresses that it gives."""

    given = 0

    async def scan(self, prefix: str) -> list[Entry]:
        """As always."""
        found = await super().scan(prefix)
        self.given += sum(each.key.startswith("addresses/") for each in found)
        return found


@dataclass
class Site:
    """Host `a` has a container on `lan`; on a network that it has as well, only others have."""

    rig: ClusterRig
    store: CountingStore
    host: ClusterHost

    async def given_by(self, work: Awaitable[object]) -> int:
        """The number of addresses that the store gives meanwhile."""
        before = self.store.given
        await work
        return self.store.given - before


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Two hosts, and many containers that are only rows."""
    store = CountingStore()
    rig = ClusterRig(shared=store)
    one, other = await rig.host("a"), await rig.host("b")
    await one.publish("lan", LAN)
    await other.join("lan", one)
    await other.publish("large", Subnet("10.10.0.0/16", gateway="10.10.0.1"))
    await one.join("large", other)
    network = other.engine.id_of("large")
    tables = Tables(store, MemoryStore())
    for number in range(OTHERS):
        address = f"10.10.{1 + number // 200}.{number % 200 + 1}"
        record = AddressRecord(
            space=DEFAULT_SPACE,
            subnet="10.10.0.0/16",
            address=address,
            kind="endpoint",
            network=network,
            endpoint=f"e{number}",
            host="b",
            incarnation="r",
            at=0,
        )
        await store.create(tables.addresses.key(DEFAULT_SPACE, address), msgspec.json.encode(record))
    await one.engine.run("web", "lan")
    yield Site(rig, store, one)


@pytest.mark.parametrize(
    "work",
    [
        lambda site: site.rig.restart("a"),
        lambda site: site.host.mend(),
        lambda site: site.host.engine.run("next", "lan"),
        lambda site: site.host.engine.run("mac", "lan", mac="02:00:00:00:00:77"),
        lambda site: site.host.engine.stop("web"),
        lambda site: site.host.driver.pools.read_anew(
            [PoolRecord(space=DEFAULT_SPACE, subnet=LAN.subnet, network="n", at=0)]
        ),
    ],
    ids=["start", "repair", "a container", "a container with a MAC", "its end", "usage"],
)
async def test_nobody_reads_addresses_of_subnets_that_others_use(
    site: Site, work: Callable[[Site], Awaitable[object]]
) -> None:
    """Two rows of its own subnet, the gateway and the container, each once or twice."""
    assert await site.given_by(work(site)) <= 4


async def test_the_removal_of_a_network_reads_the_addresses_of_its_own_subnet(site: Site) -> None:
    """And of no other."""
    await site.host.engine.stop("web")
    assert await site.given_by(site.host.engine.remove_network("lan")) <= 4


async def test_the_copy_of_a_network_uses_nothing(site: Site) -> None:
    """Its gateway is claimed by whoever made it: nobody else writes into its subnet before a container comes."""
    assert [each.key for each in await site.store.scan("used/a/")] == [f"used/a/{DEFAULT_SPACE}/10.9.0.0_24"]


async def test_a_gateway_that_the_store_has_lost_is_claimed_by_hosts_without_a_container(site: Site) -> None:
    """The one key of it is read: no container may be given it."""
    tables = site.host.driver.tables
    await tables.addresses.drop(DEFAULT_SPACE, "10.10.0.1")
    (claimed,) = await site.host.mend()
    assert claimed.subject == "address 10.10.0.1"
    assert await site.host.mend() == []


async def test_what_a_crash_left_is_found_by_the_next_run(site: Site) -> None:
    """A reservation that no container came of, in a subnet where this host has nothing else."""
    pool = PoolRecord(space=DEFAULT_SPACE, subnet="10.10.0.0/16", network="x", at=0)
    parsed = site.host.driver.pools._cache.remember(pool)
    await site.host.driver.addresses.reserve_next(parsed)
    later = await site.rig.restart("a")
    (given,) = await later.mend()
    assert given.reason == "it is reserved, and no container of the engine has it"
