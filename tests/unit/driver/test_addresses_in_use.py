"""Addresses that are free in the store and in use on the segment: refused, or passed over."""

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

import pytest

from macvlan_global.driver.addresses import PASSED_OVER_MOST
from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.errors import Conflict, Exhausted, Unavailable
from macvlan_global.ipam.allocator import COOLING_SECONDS
from macvlan_global.ipam.owners import Holder, Identity
from macvlan_global.kernel.ports import Station
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import NetworkRecord
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock
from testkit.fake_kernel import NEIGHBOUR_MAC, FakeKernel
from testkit.faults import Faults, FaultyStore

SUBNET = "192.168.1.0/24"
POOL = f"macvlan-global/{SUBNET}"
SMALL = "192.168.1.0/29"


class Segment(FakeKernel):
    """A host whose eth0 leads to devices: the addresses that they have, and the probes sent.

    A probe may be kept waiting. With `everybody` a router replies for each address. With `cuts_off` the store is away
    as soon as a device has replied.
    """

    def __init__(self, store: Faults) -> None:
        """No device is there, and each probe ends at once."""
        super().__init__("eth0")
        self.devices: set[str] = set()
        self.probes: list[str] = []
        self.everybody = False
        self.cuts_off = False
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._store = store

    async def probe(self, parent: str, address: str, *, tries: int = 3, wait: float = 1.0) -> Station | None:
        """See `Kernel.probe`."""
        self.probes.append(address)
        self.begun.set()
        await self.go_on.wait()
        if not self.everybody and address not in self.devices:
            return None
        self._store.away = self.cuts_off
        return Station(mac=NEIGHBOUR_MAC)


@dataclass
class Host:
    """A host with a network that wants its segment probed, on a store that may be away."""

    faults: Faults = field(default_factory=Faults)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        """The store answers."""
        self.segment = Segment(self.faults)

    async def open(self, subnet: str = SUBNET, *, shared: bool = False) -> Driver:
        """A driver with the network's pool; with `shared`, other hosts use the store too."""
        tables = Tables(FaultyStore(MemoryStore(), self.faults), MemoryStore())
        driver = Driver.build(tables, self.segment, Identity("a", "run"), Settings(shared=shared), now=self.clock)
        record = NetworkRecord(id="n1", given={"parent": "eth0", "probe": "true"}, parent="eth0", at=0)
        await tables.networks.put(record, "n1")
        await driver.ipam.request_pool(subnet, "", {}, ipv6=False)
        await driver.claims.claim_pool(ip_network(subnet), "n1")
        return driver


@pytest.fixture
async def host() -> Host:
    """A segment with no device on it."""
    return Host()


async def test_an_address_asked_for_is_refused_if_a_device_has_it(host: Host) -> None:
    """With who has it and what to do; nothing of it stays, and when the device has gone it is given."""
    driver = await host.open()
    host.segment.devices.add("192.168.1.20")
    with pytest.raises(Conflict) as refused:
        await driver.ipam.request_address(POOL, "192.168.1.20")
    assert str(refused.value) == (
        f"address 192.168.1.20 is in use on the segment: {NEIGHBOUR_MAC} replies for it on eth0; "
        "use another, or remove that device"
    )
    assert await driver.addresses.all() == []
    host.segment.devices.clear()
    assert await driver.ipam.request_address(POOL, "192.168.1.20") == "192.168.1.20/24"


async def test_a_gateway_is_not_asked_for(host: Host) -> None:
    """It is a device outside as a rule, and is meant to be there."""
    driver = await host.open()
    host.segment.devices.add("192.168.1.254")
    assert await driver.ipam.request_address(POOL, "192.168.1.254", gateway=True) == "192.168.1.254/24"
    assert host.segment.probes == []


async def test_an_address_of_our_choosing_is_another_one(host: Host) -> None:
    """What devices have is passed over, and the books hold only what was given."""
    driver = await host.open()
    host.segment.devices |= {"192.168.1.1", "192.168.1.2"}
    assert await driver.ipam.request_address(POOL, "") == "192.168.1.3/24"
    assert host.segment.probes == ["192.168.1.1", "192.168.1.2", "192.168.1.3"]
    assert [each.address for each in await driver.addresses.all()] == ["192.168.1.3"]


async def test_what_a_device_had_is_not_tried_again_for_a_minute(host: Host) -> None:
    """It cools off behind what containers gave back before; afterwards the device may have gone."""
    driver = await host.open(SMALL)
    small = f"macvlan-global/{SMALL}"
    for number in range(2, 7):
        await driver.ipam.request_address(small, f"192.168.1.{number}")
    for number in (2, 6):
        await driver.ipam.release_address(small, f"192.168.1.{number}/29")
    host.clock.advance(1)
    host.segment.devices.add("192.168.1.1")
    assert [await driver.ipam.request_address(small, "") for _ in range(2)] == ["192.168.1.2/29", "192.168.1.6/29"]
    assert host.segment.probes.count("192.168.1.1") == 1
    host.clock.advance(COOLING_SECONDS)
    host.segment.devices.clear()
    assert await driver.ipam.request_address(small, "") == "192.168.1.1/29"


async def test_a_pool_whose_rest_devices_have_is_exhausted(host: Host) -> None:
    """Each is asked about once, the error says what is in the way, and no reservation stays."""
    driver = await host.open(SMALL)
    host.segment.devices |= {f"192.168.1.{number}" for number in range(2, 7)}
    small = f"macvlan-global/{SMALL}"
    await driver.ipam.request_address(small, "")
    with pytest.raises(Exhausted) as refused:
        await driver.ipam.request_address(small, "")
    assert str(refused.value) == (
        "no free address was found in 192.168.1.0/29: 5 candidates are in use on the segment, such as "
        f"192.168.1.2: {NEIGHBOUR_MAC} replies for it on eth0; give containers a --ip-range that no other device uses"
    )
    assert sorted(host.segment.probes) == [f"192.168.1.{number}" for number in range(1, 7)]
    assert [each.address for each in await driver.addresses.all()] == ["192.168.1.1"]
    host.segment.devices.clear()
    assert {await driver.ipam.request_address(small, "") for _ in range(5)} == {
        f"192.168.1.{number}/29" for number in range(2, 7)
    }


async def test_the_engine_does_not_wait_for_a_wire_where_everything_answers(host: Host) -> None:
    """A router may answer in the name of all: a request ends after so many, and the next one goes on from there."""
    driver = await host.open()
    host.segment.everybody = True
    for _ in range(2):
        with pytest.raises(Exhausted, match=f"{PASSED_OVER_MOST} candidates are in use on the segment"):
            await driver.ipam.request_address(POOL, "")
    assert host.segment.probes == [f"192.168.1.{number}" for number in range(1, 2 * PASSED_OVER_MOST + 1)]
    assert await driver.addresses.all() == []


@pytest.mark.parametrize("address", ["", "192.168.1.20"], ids=["any", "asked-for"])
async def test_a_request_that_nobody_waits_for_leaves_no_reservation(host: Host, address: str) -> None:
    """The engine hung up while the wire was being asked."""
    driver = await host.open()
    host.segment.go_on.clear()
    request = asyncio.create_task(driver.ipam.request_address(POOL, address))
    await host.segment.begun.wait()
    assert len(await driver.addresses.all()) == 1
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert await driver.addresses.all() == []


@pytest.mark.parametrize("address", ["", "192.168.1.1"], ids=["any", "asked-for"])
async def test_a_reservation_is_given_back_later_if_the_store_goes_away(host: Host, address: str) -> None:
    """Just after somebody answered. The request fails, and the release waits for the store."""
    driver = await host.open(shared=True)
    host.segment.everybody = host.segment.cuts_off = True
    with pytest.raises((Conflict, Unavailable)):
        await driver.ipam.request_address(POOL, address)
    assert driver.outbox
    (kept,) = await driver.outbox.waiting()
    assert kept.address == host.segment.probes[0]
    host.faults.away = False
    assert [each.address for each in await driver.addresses.all()] == host.segment.probes
    await driver.outbox.deliver()
    assert await driver.addresses.all() == []


async def test_two_that_ask_for_one_address_do_not_get_what_a_device_has(host: Host) -> None:
    """Both wait for the same wire."""
    driver = await host.open(shared=True)
    host.segment.devices.add("192.168.1.20")
    both = [driver.ipam.request_address(POOL, "192.168.1.20") for _ in range(2)]
    assert [type(each) for each in await asyncio.gather(*both, return_exceptions=True)] == [Conflict] * 2
    assert await driver.addresses.all() == []


async def test_what_one_of_us_has_is_refused_without_asking(host: Host) -> None:
    """The books know who it is, which the wire does not tell."""
    driver = await host.open()
    pool = await driver.claims.claim_pool(ip_network(SUBNET), "n1")
    await driver.claims.claim(pool, ip_address("192.168.1.9"), Holder("endpoint", "n1", "e1"))
    with pytest.raises(Conflict, match="in use by endpoint e1"):
        await driver.ipam.request_address(POOL, "192.168.1.9")
    assert host.segment.probes == []
