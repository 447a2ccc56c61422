"""What was written a moment ago is changed without being read again, and never if somebody else changed it."""

from dataclasses import dataclass, field
from ipaddress import ip_address

import msgspec
import pytest

from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.cache import RECENT_MOST, RECENT_SECONDS, PoolCache, RecentWrites
from macvlan_global.ipam.conflicts import AddressTaken
from macvlan_global.ipam.owners import Holder, Identity
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import AddressRecord, NetworkClaim, PoolRecord
from macvlan_global.store.table import Row, Tables
from macvlan_global.subnets import Address
from testkit.fake_clock import FakeClock

SPACE, SUBNET = "macvlan-global", "10.8.0.0/24"
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
class Books:
    """Address books of several hosts on one store."""

    store: NotingStore = field(default_factory=NotingStore)
    clock: FakeClock = field(default_factory=FakeClock)

    def book(self, host: str) -> Addresses:
        """The book of one of them."""
        cache = PoolCache(host=host, shared=True)
        identity = Identity(host, f"run of {host}")
        return Addresses(Tables(self.store, self.store), cache, identity, shared=True, now=self.clock)

    async def held(self) -> list[AddressRecord]:
        """Every address that somebody has."""
        return [row.record for row in await Tables(self.store, self.store).addresses.scan()]


async def _reserve(book: Addresses, address: str = "") -> Address:
    pool = PoolCache(host="", shared=False).remember(RECORD)
    reserved = await (book.reserve(pool, ip_address(address)) if address else book.reserve_next(pool))
    return reserved.address


@pytest.fixture
def hosts() -> Books:
    """Two could be on it."""
    return Books()


@pytest.mark.parametrize("asked", ["", "10.8.0.9"])
async def test_a_container_that_comes_and_goes_asks_the_store_four_times(hosts: Books, asked: str) -> None:
    """Once for each request of the engine."""
    book = hosts.book("a")
    address = await _reserve(book, asked)
    await book.claim(RECORD, address, ENDPOINT)
    await book.unclaim(SPACE, address, ENDPOINT)
    await book.release(SPACE, address)
    assert hosts.store.asked == ["create", "replace", "replace", "delete"]
    assert await hosts.held() == []


async def test_a_container_that_stays_is_read_again_when_it_goes(hosts: Books) -> None:
    """What was written long ago is not believed in."""
    book = hosts.book("a")
    address = await _reserve(book)
    await book.claim(RECORD, address, ENDPOINT)
    hosts.clock.advance(RECENT_SECONDS + 1)
    hosts.store.asked.clear()
    await book.unclaim(SPACE, address, ENDPOINT)
    await book.release(SPACE, address)
    assert hosts.store.asked == ["get", "replace", "delete"]
    assert await hosts.held() == []


async def test_what_somebody_else_has_by_now_is_not_claimed(hosts: Books) -> None:
    """Whoever was given it meanwhile keeps it, and the container does not start."""
    book, other = hosts.book("a"), hosts.book("b")
    address = await _reserve(book, "10.8.0.9")
    assert await other.give_back((await hosts.held())[0])
    await other.claim(RECORD, address, OTHER)
    before = await hosts.held()
    with pytest.raises(AddressTaken):
        await book.claim(RECORD, address, ENDPOINT)
    assert await hosts.held() == before


async def test_what_somebody_else_has_by_now_is_not_let_go_of(hosts: Books) -> None:
    """Neither by the end of the endpoint nor by the release that follows."""
    book, other = hosts.book("a"), hosts.book("b")
    address = await _reserve(book, "10.8.0.9")
    await book.claim(RECORD, address, ENDPOINT)
    assert await other.give_back((await hosts.held())[0])
    await other.claim(RECORD, address, OTHER)
    before = await hosts.held()
    await book.unclaim(SPACE, address, ENDPOINT)
    await book.release(SPACE, address)
    assert await hosts.held() == before


async def test_what_was_reserved_and_taken_meanwhile_is_not_released(hosts: Books) -> None:
    """A release that comes late, within the time in which what was written is believed in."""
    book, other = hosts.book("a"), hosts.book("b")
    address = await _reserve(book, "10.8.0.9")
    assert await other.give_back((await hosts.held())[0])
    await _reserve(other, "10.8.0.9")
    before = await hosts.held()
    await book.release(SPACE, address)
    assert await hosts.held() == before


async def test_a_claim_that_is_repeated_is_a_claim(hosts: Books) -> None:
    """And a release while it lasts changes nothing."""
    book = hosts.book("a")
    address = await _reserve(book)
    for _ in range(2):
        await book.claim(RECORD, address, ENDPOINT)
    await book.release(SPACE, address)
    assert [each.endpoint for each in await hosts.held()] == ["e1"]


def _row(address: str) -> Row[AddressRecord]:
    record = AddressRecord(
        space=SPACE, subnet=SUBNET, address=address, kind="reserved", host="a", incarnation="i", at=0
    )
    return Row(record, Entry(address, b"", 1))


def test_a_row_is_used_once_and_not_when_it_is_old() -> None:
    """Also if the clock was set back."""
    rows = RecentWrites()
    for age, known in ((0.0, True), (RECENT_SECONDS, True), (RECENT_SECONDS + 1, False), (-RECENT_SECONDS - 1, False)):
        rows.add(_row("a"), 100.0)
        assert (rows.take(SPACE, "a", 100.0 + age) is not None) is known
        assert rows.take(SPACE, "a", 100.0) is None


def test_the_oldest_are_forgotten() -> None:
    """A host with many containers does not pay for it for ever."""
    rows = RecentWrites()
    for number in range(RECENT_MOST + 3):
        rows.add(_row(str(number)), 0.0)
    assert len(rows) == RECENT_MOST
    assert rows.take(SPACE, "2", 0.0) is None
    assert rows.take(SPACE, "3", 0.0)


def test_a_candidate_that_another_request_has_got_meanwhile_is_not_freed() -> None:
    """Two requests of one host want an address; the one that does not get it must not give it to a third."""
    cache = PoolCache(host="a", shared=True)
    cache.remember(RECORD)
    held = AddressRecord(
        space=SPACE, subnet=SUBNET, address="10.8.0.9", kind="reserved", host="a", incarnation="r", at=0
    )
    cache.wrote(Row(held, Entry("addresses/x", b"", 1)), 0)
    cache.not_taken(RECORD, int(ip_address("10.8.0.9")), 0)
    assert cache.usage(RECORD)[0] == 1


def test_a_container_keeps_the_address_of_a_network_that_lets_go_of_it() -> None:
    """It is the gateway of that network; a store that was restored has lost both claims."""
    cache = PoolCache(host="a", shared=True)
    cache.remember(RECORD)
    held = AddressRecord(
        space=SPACE,
        subnet=SUBNET,
        address="10.8.0.1",
        kind="endpoint",
        network="n1",
        endpoint="e1",
        host="a",
        incarnation="r",
        at=0,
        sharers=[NetworkClaim(kind="gateway", network="n1", host="a")],
    )
    cache.wrote(Row(held, Entry("addresses/x", b"", 1)), 0)
    cache.disown_network("n1")
    cache.learn(RECORD, [], 0)
    assert cache.usage(RECORD)[0] == 1


@pytest.mark.parametrize(("networks", "driver", "held"), [({"n1"}, "", 1), ({"n2"}, "", 0), ({"n2"}, "bridge", 1)])
def test_what_an_earlier_run_claimed_for_a_network_that_is_gone_is_free(
    networks: set[str], driver: str, held: int
) -> None:
    """Another host gave it back, and told nobody. Networks of other drivers are the engine's to tell of."""
    cache = PoolCache(host="a", shared=True)
    aux = AddressRecord(
        space=SPACE, subnet=SUBNET, address="10.8.0.1", kind="aux", network="n1", host="a", incarnation="r", at=0
    )
    cache.load([msgspec.structs.replace(RECORD, network="n1", driver=driver)], [aux])
    cache.disown_others(networks)
    cache.learn(RECORD, [], 0)
    assert cache.usage(RECORD)[0] == held
