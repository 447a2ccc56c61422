"""Addresses that the books have free and a device outside has: refused, or passed over."""

import asyncio
from dataclasses import dataclass, field

import pytest

from macvlan_global.errors import Conflict, Exhausted, Unavailable
from macvlan_global.ipam.addresses import FOREIGN_MOST
from macvlan_global.ipam.allocator import COOLING_SECONDS
from macvlan_global.ipam.owners import Holder, Identity
from macvlan_global.ipam.pools import Pools
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import PendingRecord, PoolRecord
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Subnet
from testkit.fake_clock import FakeClock
from testkit.fake_peers import FakePeers
from testkit.faults import Faults, FaultyStore

SUBNET = "192.168.1.0/24"
POOL = f"macvlan-global/{SUBNET}"
SMALL = "192.168.1.0/29"


@dataclass
class Outside:
    """A wire: the addresses that devices outside have, and what was asked. Who asks may be kept waiting."""

    devices: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    everybody: bool = False
    store: MemoryStore = field(default_factory=MemoryStore)
    faults: Faults = field(default_factory=Faults)
    clock: FakeClock = field(default_factory=FakeClock)
    kept: list[PendingRecord] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    answer: asyncio.Event = field(default_factory=asyncio.Event)
    goes_away: bool = False

    def __post_init__(self) -> None:
        """At first everybody answers at once."""
        self.answer.set()

    async def in_use(self, pool: PoolRecord, address: str) -> str:
        """See `ipam.owners.InUse`. With `goes_away` the store does, too, as soon as somebody has answered."""
        assert pool.network == "n1"
        self.asked.append(address)
        self.begun.set()
        await self.answer.wait()
        if not self.everybody and address not in self.devices:
            return ""
        self.faults.away = self.goes_away
        return f"02:00:00:00:00:07 answers for {address}"

    async def open(self, subnet: str = SUBNET, *, shared: bool = False) -> Pools:
        """A book with one network's pool; with `shared`, on a store that may be away."""

        async def routes() -> list[Subnet]:
            return []

        async def later(record: PendingRecord) -> None:
            self.kept.append(record)

        pools = Pools(
            Tables(FaultyStore(self.store, self.faults), self.store),
            Identity("a", "run"),
            routes=routes,
            peers=FakePeers(),
            later=later if shared else None,
            in_use=self.in_use,
            now=self.clock,
        )
        await pools.request_pool(subnet, "", {}, ipv6=False)
        await pools.claim_pool(subnet, "n1")
        return pools


@pytest.fixture
def outside() -> Outside:
    """A wire with nobody on it."""
    return Outside()


async def test_an_address_asked_for_is_refused_if_a_device_has_it(outside: Outside) -> None:
    """With who has it and what to do; nothing of it stays, and when the device has gone it is given."""
    pools = await outside.open()
    outside.devices.add("192.168.1.20")
    with pytest.raises(Conflict) as refused:
        await pools.request_address(POOL, "192.168.1.20")
    assert str(refused.value) == (
        "address 192.168.1.20 is in use on the wire: 02:00:00:00:00:07 answers for 192.168.1.20; "
        "use another, or take that device off"
    )
    assert await pools.addresses() == []
    outside.devices.clear()
    assert await pools.request_address(POOL, "192.168.1.20") == "192.168.1.20/24"


async def test_a_gateway_is_not_asked_for(outside: Outside) -> None:
    """It is a device outside as a rule, and is meant to be there."""
    pools = await outside.open()
    outside.devices.add("192.168.1.254")
    assert await pools.request_address(POOL, "192.168.1.254", gateway=True) == "192.168.1.254/24"
    assert outside.asked == []


async def test_an_address_of_our_choosing_is_another_one(outside: Outside) -> None:
    """What devices have is passed over, and the books hold only what was given."""
    pools = await outside.open()
    outside.devices |= {"192.168.1.1", "192.168.1.2"}
    assert await pools.request_address(POOL, "") == "192.168.1.3/24"
    assert outside.asked == ["192.168.1.1", "192.168.1.2", "192.168.1.3"]
    assert [each.address for each in await pools.addresses()] == ["192.168.1.3"]


async def test_what_a_device_had_is_not_tried_again_for_a_minute(outside: Outside) -> None:
    """It cools off behind what containers gave back before; afterwards the device may have gone."""
    pools = await outside.open(SMALL)
    small = f"macvlan-global/{SMALL}"
    for number in range(2, 7):
        await pools.request_address(small, f"192.168.1.{number}")
    for number in (2, 6):
        await pools.release_address(small, f"192.168.1.{number}/29")
    outside.clock.advance(1)
    outside.devices.add("192.168.1.1")
    assert [await pools.request_address(small, "") for _ in range(2)] == ["192.168.1.2/29", "192.168.1.6/29"]
    assert outside.asked.count("192.168.1.1") == 1
    outside.clock.advance(COOLING_SECONDS)
    outside.devices.clear()
    assert await pools.request_address(small, "") == "192.168.1.1/29"


async def test_a_pool_whose_rest_devices_have_is_exhausted(outside: Outside) -> None:
    """Each is asked about once, the error says what is in the way, and no reservation stays."""
    pools = await outside.open(SMALL)
    outside.devices |= {f"192.168.1.{number}" for number in range(2, 7)}
    small = f"macvlan-global/{SMALL}"
    await pools.request_address(small, "")
    with pytest.raises(Exhausted) as refused:
        await pools.request_address(small, "")
    assert str(refused.value) == (
        "no free address was found in 192.168.1.0/29: 5 that nobody of ours has are in use on the wire, such as "
        "192.168.1.2: 02:00:00:00:00:07 answers for 192.168.1.2; give containers a --ip-range that no other device uses"
    )
    assert sorted(outside.asked) == [f"192.168.1.{number}" for number in range(1, 7)]
    assert [each.address for each in await pools.addresses()] == ["192.168.1.1"]
    outside.devices.clear()
    assert {await pools.request_address(small, "") for _ in range(5)} == {
        f"192.168.1.{number}/29" for number in range(2, 7)
    }


async def test_the_engine_does_not_wait_for_a_wire_where_everything_answers(outside: Outside) -> None:
    """A router may answer in the name of all: a request ends after so many, and the next one goes on from there."""
    pools = await outside.open()
    outside.everybody = True
    for _ in range(2):
        with pytest.raises(Exhausted, match=f"{FOREIGN_MOST} that nobody of ours has are in use on the wire"):
            await pools.request_address(POOL, "")
    assert outside.asked == [f"192.168.1.{number}" for number in range(1, 2 * FOREIGN_MOST + 1)]
    assert await pools.addresses() == []


@pytest.mark.parametrize("address", ["", "192.168.1.20"], ids=["any", "asked-for"])
async def test_a_request_that_nobody_waits_for_leaves_no_reservation(outside: Outside, address: str) -> None:
    """The engine hung up while the wire was being asked."""
    pools = await outside.open()
    outside.answer.clear()
    request = asyncio.create_task(pools.request_address(POOL, address))
    await outside.begun.wait()
    assert len(await pools.addresses()) == 1
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await pools.addresses() == []


@pytest.mark.parametrize("address", ["", "192.168.1.1"], ids=["any", "asked-for"])
async def test_a_reservation_is_given_back_later_if_the_store_goes_away(outside: Outside, address: str) -> None:
    """Just after somebody answered. The request fails, and the release waits for the store."""
    pools = await outside.open(shared=True)
    outside.everybody = outside.goes_away = True
    with pytest.raises((Conflict, Unavailable)):
        await pools.request_address(POOL, address)
    (kept,) = outside.kept
    assert kept.address == outside.asked[0]
    outside.faults.away = False
    assert [each.address for each in await pools.addresses()] == outside.asked
    await pools.settle(kept)
    assert await pools.addresses() == []


async def test_two_that_ask_for_one_address_do_not_get_what_a_device_has(outside: Outside) -> None:
    """Both wait for the same wire."""
    pools = await outside.open(shared=True)
    outside.devices.add("192.168.1.20")
    both = [pools.request_address(POOL, "192.168.1.20") for _ in range(2)]
    assert [type(each) for each in await asyncio.gather(*both, return_exceptions=True)] == [Conflict] * 2
    assert await pools.addresses() == []


async def test_what_one_of_us_has_is_refused_without_asking(outside: Outside) -> None:
    """The books know who it is, which the wire does not tell."""
    pools = await outside.open()
    pool = await pools.claim_pool(SUBNET, "n1")
    await pools.claim(pool, "192.168.1.9", Holder("endpoint", "n1", "e1"))
    with pytest.raises(Conflict, match="in use by container e1"):
        await pools.request_address(POOL, "192.168.1.9")
    assert outside.asked == []
