"""What was written a moment ago is changed without being read again, and never if somebody else changed it."""

from dataclasses import dataclass, field

import pytest

from macvlan_global.errors import Conflict
from macvlan_global.ipam.owners import Holder, Identity
from macvlan_global.ipam.pools import Pools
from macvlan_global.ipam.recent_writes import MOST, SECONDS, RecentWrites
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import AddressRecord, PoolRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import Subnet
from testkit.fake_clock import FakeClock
from testkit.fake_peers import FakePeers

SPACE, SUBNET = "macvlan-global", "10.8.0.0/24"
POOL = f"{SPACE}/{SUBNET}"
RECORD = PoolRecord(space=SPACE, subnet=SUBNET, at=0)
ENDPOINT, OTHER = Holder("endpoint", "n1", "e1"), Holder("endpoint", "n1", "e2")


class NotingStore(MemoryStore):
    """Notes what is asked about addresses."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        super().__init__()
        self.asked: list[str] = []

    def _note(self, what: str, key: str) -> None:
        if key.startswith("addresses/"):
            self.asked.append(what)

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        self._note("get", key)
        return await super().get(key)

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        self._note("create", key)
        return await super().create(key, value)

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        self._note("replace", entry.key)
        return await super().replace(entry, value)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        self._note("delete", entry.key)
        return await super().delete(entry)


@dataclass
class Heartbeat:
    """Address books of several hosts on one store."""

    store: NotingStore = field(default_factory=NotingStore)
    clock: FakeClock = field(default_factory=FakeClock)

    async def book(self, host: str) -> Pools:
        """The book of one of them, with the pool reserved."""

        async def routes() -> list[Subnet]:
            return []

        async def later(_record: object) -> None:
            raise AssertionError("the store is not away")

        tables = Tables(self.store, self.store)
        identity = Identity(host, f"run of {host}")
        pools = Pools(tables, identity, routes=routes, peers=FakePeers(), later=later, now=self.clock)
        await pools.load()
        return pools

    async def held(self) -> list[AddressRecord]:
        """Every address that somebody has."""
        return [row.record for row in await Tables(self.store, self.store).addresses.scan()]


async def _reserve(book: Pools, address: str) -> str:
    return (await book.request_address(POOL, address)).partition("/")[0]


@pytest.fixture
async def hosts() -> Heartbeat:
    """Two could be on it; the pool is there."""
    hosts = Heartbeat()
    await (await hosts.book("a")).request_pool(SUBNET, "", {}, ipv6=False)
    return hosts


@pytest.mark.parametrize("asked", ["", "10.8.0.9"])
async def test_a_container_that_comes_and_goes_asks_the_store_four_times(hosts: Heartbeat, asked: str) -> None:
    """Once for each request of the engine."""
    book = await hosts.book("a")
    address = await _reserve(book, asked)
    await book.claim(RECORD, address, ENDPOINT)
    await book.unclaim(SPACE, address, ENDPOINT)
    await book.release_address(POOL, address)
    assert hosts.store.asked == ["create", "replace", "replace", "delete"]
    assert await hosts.held() == []


async def test_a_container_that_stays_is_read_again_when_it_goes(hosts: Heartbeat) -> None:
    """What was written long ago is not believed in."""
    book = await hosts.book("a")
    address = await _reserve(book, "")
    await book.claim(RECORD, address, ENDPOINT)
    hosts.clock.advance(SECONDS + 1)
    hosts.store.asked.clear()
    await book.unclaim(SPACE, address, ENDPOINT)
    await book.release_address(POOL, address)
    assert hosts.store.asked == ["get", "replace", "delete"]
    assert await hosts.held() == []


async def test_what_somebody_else_has_by_now_is_not_claimed(hosts: Heartbeat) -> None:
    """Whoever was given it meanwhile keeps it, and the container does not start."""
    book, other = await hosts.book("a"), await hosts.book("b")
    address = await _reserve(book, "10.8.0.9")
    assert await other.give_back((await hosts.held())[0])
    await other.claim(RECORD, address, OTHER)
    before = await hosts.held()
    with pytest.raises(Conflict):
        await book.claim(RECORD, address, ENDPOINT)
    assert await hosts.held() == before


async def test_what_somebody_else_has_by_now_is_not_let_go_of(hosts: Heartbeat) -> None:
    """Neither by the end of the endpoint nor by the release that follows."""
    book, other = await hosts.book("a"), await hosts.book("b")
    address = await _reserve(book, "10.8.0.9")
    await book.claim(RECORD, address, ENDPOINT)
    assert await other.give_back((await hosts.held())[0])
    await other.claim(RECORD, address, OTHER)
    before = await hosts.held()
    await book.unclaim(SPACE, address, ENDPOINT)
    await book.release_address(POOL, address)
    assert await hosts.held() == before


async def test_what_was_reserved_and_taken_meanwhile_is_not_released(hosts: Heartbeat) -> None:
    """A release that comes late, within the time in which what was written is believed in."""
    book, other = await hosts.book("a"), await hosts.book("b")
    address = await _reserve(book, "10.8.0.9")
    assert await other.give_back((await hosts.held())[0])
    await _reserve(other, "10.8.0.9")
    before = await hosts.held()
    await book.release_address(POOL, address)
    assert await hosts.held() == before


async def test_a_claim_that_is_repeated_is_a_claim(hosts: Heartbeat) -> None:
    """And a release while it lasts changes nothing."""
    book = await hosts.book("a")
    address = await _reserve(book, "")
    for _ in range(2):
        await book.claim(RECORD, address, ENDPOINT)
    await book.release_address(POOL, address)
    assert [each.endpoint for each in await hosts.held()] == ["e1"]


def _row(address: str) -> Row[AddressRecord]:
    record = AddressRecord(
        space=SPACE, subnet=SUBNET, address=address, kind="reserved", host="a", incarnation="i", at=0
    )
    return Row(record, Entry(address, b"", 1))


def test_a_row_is_used_once_and_not_when_it_is_old() -> None:
    """Also if the clock was set back."""
    rows = RecentWrites()
    for now, known in ((100.0, True), (100.0 + SECONDS, True), (101.0 + SECONDS, False), (99.0 - SECONDS, False)):
        rows.wrote(_row("a"), 100.0)
        assert (rows.take(SPACE, "a", now) is not None) is known
        assert rows.take(SPACE, "a", 100.0) is None


def test_the_oldest_are_forgotten() -> None:
    """A host with many containers does not pay for it for ever."""
    rows = RecentWrites()
    for number in range(MOST + 3):
        rows.wrote(_row(str(number)), 0.0)
    assert len(rows) == MOST
    assert rows.take(SPACE, "2", 0.0) is None
    assert rows.take(SPACE, "3", 0.0)
