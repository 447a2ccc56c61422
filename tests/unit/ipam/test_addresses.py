"""Conflicts carry what is in the way, and a dead holder's row is replaced only while it is current."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address, ip_network

import msgspec
import pytest

from macvlan_global.errors import Conflict, Exhausted, Invalid, Unavailable
from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.cache import ParsedPool, PoolCache
from macvlan_global.ipam.conflicts import AddressTaken, PoolOverlaps, PoolTaken
from macvlan_global.ipam.owners import Holder, Identity, network_claims
from macvlan_global.ipam.pools import Pools
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import AddressRecord, PendingRecord, PoolRecord
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock
from testkit.faults import Faults, FaultyStore

SPACE, SUBNET = "macvlan-global", ip_network("192.168.1.0/29")
NINE = ip_address("192.168.1.3")
DEAD, LIVE = Holder("endpoint", "n1", "dead"), Holder("endpoint", "n1", "live")


@dataclass
class Book:
    """One host's pools and addresses, on a store that other hosts may use."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=FakeClock)
    host: str = "a"

    def __post_init__(self) -> None:
        """Nothing is cached."""
        self.tables = Tables(self.store, self.store)
        self.cache, identity = PoolCache(host=self.host, shared=True), Identity(self.host, "run")
        self.addresses = Addresses(self.tables, self.cache, identity, shared=True, now=self.clock)
        self.pools = Pools(self.tables, self.cache, self.addresses, identity, now=self.clock)

    async def pool(self, space: str = SPACE) -> ParsedPool:
        """The pool of a network."""
        record = await self.pools.reserve(space, SUBNET)
        return await self.pools.find(f"{record.space}/{record.subnet}")


@pytest.fixture
def book() -> Book:
    """An empty store."""
    return Book()


@pytest.mark.parametrize("way", ["reserve", "claim"])
async def test_a_taken_address_is_told_with_its_row_and_may_be_taken_from_a_dead_holder(book: Book, way: str) -> None:
    """The caller decides who is dead."""
    pool = await book.pool()
    await book.addresses.claim(pool.record, NINE, DEAD)

    async def want(**more: object) -> None:
        if way == "reserve":
            await book.addresses.reserve(pool, NINE, **more)  # type: ignore[arg-type]
        else:
            await book.addresses.claim(pool.record, NINE, LIVE, **more)  # type: ignore[arg-type]

    with pytest.raises(AddressTaken) as refused:
        await want()
    assert (refused.value.row.record.endpoint, refused.value.row.record.address) == ("dead", str(NINE))
    await want(dead=refused.value.row)
    (held,) = await book.addresses.all()
    assert held.endpoint == ("" if way == "reserve" else "live")


@pytest.mark.parametrize("way", ["reserve", "claim"])
async def test_a_record_that_changed_since_it_was_found_dead_is_not_replaced(book: Book, way: str) -> None:
    """Its holder wrote it anew: it lives after all."""
    pool = await book.pool()
    await book.addresses.claim(pool.record, NINE, DEAD)
    seen = await book.tables.addresses.get(SPACE, str(NINE))
    assert seen
    await book.tables.addresses.replace(seen, msgspec.structs.replace(seen.record, at=seen.record.at + 1))
    with pytest.raises(AddressTaken) as refused:
        if way == "reserve":
            await book.addresses.reserve(pool, NINE, dead=seen)
        else:
            await book.addresses.claim(pool.record, NINE, LIVE, dead=seen)
    assert refused.value.row.record.at == seen.record.at + 1
    assert [each.endpoint for each in await book.addresses.all()] == ["dead"]


async def test_a_full_pool_of_another_space_does_not_fill_this_one(book: Book) -> None:
    """Also after the taken addresses were read anew, as happens when the last one is asked for."""
    red, blue = await book.pool("red"), await book.pool("blue")
    for _ in range(6):
        await book.addresses.reserve_next(red)
    with pytest.raises(Exhausted):
        await book.addresses.reserve_next(red)
    got = [(await book.addresses.reserve_next(blue)).address for _ in range(6)]
    assert sorted(got) == list(SUBNET.hosts())
    with pytest.raises(Exhausted):
        await book.addresses.reserve_next(blue)


async def test_what_another_host_gave_back_is_found_when_nothing_else_is_left(book: Book) -> None:
    """The cache is out of date; before a pool is called full the store is read."""
    pool, other = await book.pool(), Book(book.store, book.clock, "b")
    held = await other.addresses.reserve_next(pool)
    for _ in range(5):
        await book.addresses.reserve_next(pool)
    assert await other.addresses.cancel(held)
    assert (await book.addresses.reserve_next(pool)).address == held.address


@pytest.mark.parametrize("claimed", [False, True])
async def test_a_store_that_forgot_does_not_give_an_own_address_twice(book: Book, claimed: bool) -> None:
    """The store plays an older copy: what this host reserved or claimed since is not there, and stays taken here."""
    pool = await book.pool()
    held = await book.addresses.reserve_next(pool)
    if claimed:
        await book.addresses.claim(pool.record, held.address, Holder("endpoint", "n1", "e1"))
    for entry in await book.store.scan("addresses/"):
        assert await book.store.delete(entry)
    book.cache.learn(pool.record, [], book.clock())
    given = {(await book.addresses.reserve_next(pool)).address for _ in range(5)}
    assert held.address not in given
    with pytest.raises(Exhausted):
        await book.addresses.reserve_next(pool)


async def test_a_reservation_that_came_to_nothing_is_free_after_a_while(book: Book) -> None:
    """The store forgot it, and no CreateEndpoint can follow any more."""
    pool = await book.pool()
    held = await book.addresses.reserve_next(pool)
    for entry in await book.store.scan("addresses/"):
        assert await book.store.delete(entry)
    book.clock.advance(61)
    book.cache.learn(pool.record, [], book.clock())
    given = {(await book.addresses.reserve_next(pool)).address for _ in range(6)}
    assert held.address in given


async def test_addresses_to_be_passed_over_are_not_given_and_stay_free(book: Book) -> None:
    """Even if nothing else is left."""
    pool = await book.pool()
    free = ip_address("192.168.1.6")
    with pytest.raises(Exhausted):
        for _ in range(6):
            await book.addresses.reserve_next(pool, passed_over=[free])
    assert (await book.addresses.reserve_next(pool)).address == free


async def test_a_reservation_that_somebody_replaced_is_not_cancelled(book: Book) -> None:
    """It was claimed meanwhile."""
    pool = await book.pool()
    reserved = await book.addresses.reserve(pool, NINE)
    await book.addresses.claim(pool.record, NINE, LIVE)
    assert not await book.addresses.cancel(reserved)
    assert [each.endpoint for each in await book.addresses.all()] == ["live"]


async def test_pools_in_each_others_way_are_told_with_both_records(book: Book) -> None:
    """The driver words them."""
    await book.pool()
    await book.pools.claim(SUBNET, "n1")
    with pytest.raises(PoolOverlaps) as overlap:
        await book.pools.reserve(SPACE, SUBNET)
    assert (overlap.value.wanted.subnet, overlap.value.other.network) == (str(SUBNET), "n1")
    with pytest.raises(PoolTaken) as taken:
        await book.pools.claim(SUBNET, "n2")
    assert taken.value.record.network == "n1"


async def test_a_range_outside_its_subnet_is_no_pool(book: Book) -> None:
    """Nothing is written."""
    with pytest.raises(Invalid, match="--ip-range"):
        await book.pools.reserve(SPACE, SUBNET, ip_network("10.0.0.0/30"))
    assert await book.pools.all() == []


@pytest.mark.parametrize("way", ["unclaim", "release", "settle", "give back"])
async def test_what_this_host_lets_go_of_is_free_though_the_store_forgot_it(book: Book, way: str) -> None:
    """The store plays an older copy: an address that is not in it is not kept for ever."""
    pool, holder = await book.pool(), Holder("endpoint", "n1", "e1")
    held = await book.addresses.reserve_next(pool)
    await book.addresses.claim(pool.record, held.address, holder)
    row = await book.tables.addresses.get(pool.record.space, str(held.address))
    assert row
    for entry in await book.store.scan("addresses/"):
        assert await book.store.delete(entry)
    book.clock.advance(61)
    if way == "unclaim":
        await book.addresses.unclaim(pool.record.space, held.address, holder)
    elif way == "release":
        await book.addresses.release(pool.record.space, held.address)
    elif way == "settle":
        late = PendingRecord(kind="release", space=pool.record.space, address=str(held.address), endpoint="e1", at=0)
        await book.addresses.settle(late)
    else:
        assert not await book.addresses.give_back(row.record)
    given = {(await book.addresses.reserve_next(pool)).address for _ in range(6)}
    assert held.address in given


async def test_a_deletion_whose_answer_is_lost_keeps_no_address(book: Book) -> None:
    """The row may be gone, and then nothing would ever tell that the address is free."""
    pool = await book.pool()
    held = await book.addresses.reserve_next(pool)
    faults = Faults()
    tables = Tables(FaultyStore(book.store, faults), book.store)
    addresses = Addresses(tables, book.cache, Identity("a", "run"), shared=True, now=book.clock)
    await addresses.claim(pool.record, held.address, Holder("endpoint", "n1", "e1"))
    row = await tables.addresses.get(pool.record.space, str(held.address))
    assert row
    faults.arm(1, after=True)
    with pytest.raises(Unavailable):
        await addresses.drop(row)
    book.clock.advance(61)
    assert held.address in {(await addresses.reserve_next(pool)).address for _ in range(6)}


async def test_a_lost_pool_is_written_anew_once_and_not_over_another_networks(book: Book) -> None:
    """A reservation by another host that saw it free is no obstacle; a second time nothing is written."""
    lost = PoolRecord(space=SPACE, subnet=str(SUBNET), network="n1", host="a", at=1)
    other = Book(book.store, host="b")
    await other.pool()
    for _ in range(2):
        await book.pools.restore(lost)
        assert await book.pools.all() == [lost]
    with pytest.raises(PoolOverlaps):
        await other.pools.restore(msgspec.structs.replace(lost, network="n2"))
    assert await book.pools.all() == [lost]


NOBODYS = AddressRecord(
    space=SPACE, address=str(NINE), subnet=str(SUBNET), kind="reserved", host="a", incarnation="run", at=0
)


def late_release(book: Book, endpoint: str = "e1") -> PendingRecord:
    """A release of the address that waits for the store from now on."""
    run = book.addresses.late.begin(SPACE, str(NINE), endpoint)
    return PendingRecord(
        kind="release", space=SPACE, address=str(NINE), endpoint=endpoint, incarnation=run, at=book.clock()
    )


@pytest.mark.parametrize("passes", [1, 0, -3600], ids=["a second passes", "at once", "the clock is set back"])
async def test_a_late_release_ends_no_claim_that_was_made_anew_since(book: Book, passes: float) -> None:
    """The engine repeats a request that failed, with the same endpoint, and the claim of the first try was made."""
    pool, holder = await book.pool(), Holder("endpoint", "n1", "e1")
    await book.addresses.claim(pool.record, NINE, holder)
    late = late_release(book)
    book.clock.advance(passes)
    await book.addresses.claim(pool.record, NINE, holder)
    await book.addresses.settle(late)
    assert [each.endpoint for each in await book.addresses.all()] == ["e1"]
    await book.addresses.settle(late_release(book))
    assert await book.addresses.all() == []


async def test_a_late_release_under_way_ends_no_claim_that_is_made_meanwhile(book: Book) -> None:
    """Whichever of the two reads the record first."""
    pool, holder = await book.pool(), Holder("endpoint", "n1", "e1")
    slow = Tables(FaultyStore(book.store), book.store)
    book.addresses = Addresses(slow, book.cache, Identity("a", "run"), shared=True, now=book.clock)
    for turns in range(8):
        await book.addresses.claim(pool.record, NINE, holder)
        late = late_release(book)
        settling = asyncio.ensure_future(book.addresses.settle(late))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.gather(settling, book.addresses.claim(pool.record, NINE, holder))
        assert [each.endpoint for each in await book.addresses.all()] == ["e1"], turns


async def test_a_late_release_is_not_void_by_a_request_that_is_refused(book: Book) -> None:
    """Somebody else asks for the address first, and does not get it."""
    pool = await book.pool()
    await book.addresses.reserve_kept(pool, NINE, None)
    late = late_release(book, "")
    with pytest.raises(AddressTaken):
        await book.addresses.reserve(pool, NINE)
    await book.addresses.settle(late)
    assert await book.addresses.all() == []


async def test_a_late_release_is_void_if_one_of_several_requests_gets_the_address(book: Book) -> None:
    """Another one that asked for it by name, began earlier and is refused later does not bring the release back."""
    pool = await book.pool()
    late = late_release(book, "")
    with pytest.raises(AddressTaken), book.addresses.late.taking(NOBODYS):
        reserved = await book.addresses.reserve_kept(pool, NINE, None)
        raise AddressTaken(reserved.row)
    await book.addresses.settle(late)
    assert [each.address for each in await book.addresses.all()] == [str(NINE)]


async def test_a_late_release_that_comes_while_an_address_is_taken_anew_is_of_an_earlier_holder(book: Book) -> None:
    """Its answer was lost, and the address is free by then."""
    pool = await book.pool()
    with book.addresses.late.taking(NOBODYS):
        late = late_release(book, "")
        await book.addresses.reserve_kept(pool, NINE, None)
    await book.addresses.settle(late)
    assert [each.address for each in await book.addresses.all()] == [str(NINE)]


async def test_a_late_release_outlives_requests_that_another_one_was_faster_than(book: Book) -> None:
    """Two of them at once, one of which chose the address from those that seemed free."""
    pool = await book.pool()
    held = await book.addresses.reserve_kept(pool, NINE, None)
    late = late_release(book, "")
    with pytest.raises(AddressTaken), book.addresses.late.taking(held.row.record):
        with book.addresses.late.taking(held.row.record) as attempt:
            attempt.is_lost = True
        await book.addresses.reserve_kept(pool, NINE, None)
    await book.addresses.settle(late)
    assert await book.addresses.all() == []


async def test_a_late_release_of_an_earlier_run_ends_what_that_run_had_by_then(book: Book) -> None:
    """Not what this run has, nor what that one claimed after it."""
    pool, holder = await book.pool(), Holder("endpoint", "n1", "e1")
    await book.addresses.claim(pool.record, NINE, holder)
    book.clock.advance(1)
    late = late_release(book)
    later = Addresses(book.tables, book.cache, Identity("a", "run2"), shared=True, now=book.clock)
    await later.settle(msgspec.structs.replace(late, at=late.at - 2))
    assert [each.endpoint for each in await later.all()] == ["e1"]
    await later.settle(late)
    assert await later.all() == []
    await later.claim(pool.record, NINE, holder)
    await later.settle(msgspec.structs.replace(late, at=late.at + 3600))
    assert [each.endpoint for each in await later.all()] == ["e1"]


async def test_a_late_release_frees_no_reservation_of_another_host(book: Book) -> None:
    """This host's own was lost meanwhile, or given back by an operator."""
    pool = await book.pool()
    late = late_release(book, "")
    other = Book(book.store, host="b")
    await other.addresses.reserve(pool, NINE)
    await book.addresses.settle(late)
    assert [each.host for each in await book.addresses.all()] == ["b"]


async def test_a_pool_that_another_host_reserved_is_not_claimed(book: Book) -> None:
    """Its network is being created there."""
    other = Book(book.store, host="b")
    await other.pools.reserve(SPACE, SUBNET)
    with pytest.raises(Conflict, match="was released while the network was being created"):
        await book.pools.claim(SUBNET, "n1")
    assert [each.network for each in await book.pools.all()] == [""]


class Meanwhile(MemoryStore):
    """A store that another host writes just before the next row is changed or deleted."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        await self._let_others()
        return await super().replace(entry, value)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        await self._let_others()
        return await super().delete(entry)

    async def _let_others(self) -> None:
        work, self.meanwhile = self.meanwhile, None
        if work:
            await work()


async def test_a_container_that_starts_as_the_gateway_of_a_network_that_is_removed_keeps_its_address() -> None:
    """Its claim comes after the network was seen to be empty."""
    store = Meanwhile()
    one = Book(store)
    two = Book(store, one.clock, "b")
    await one.pool()
    record = await one.pools.claim(SUBNET, "n1")
    gateway = ip_address("192.168.1.1")
    await one.addresses.claim(record, gateway, Holder("gateway", "n1"))
    pool = await two.pools.find(f"{SPACE}/{SUBNET}")
    await two.addresses.reserve(pool, gateway)
    store.meanwhile = partial(two.addresses.claim, record, gateway, LIVE)
    assert not await one.addresses.drop_network("n1", [(SPACE, str(SUBNET))], if_empty=True)
    (held,) = await one.addresses.all()
    assert (held.kind, held.endpoint, held.host) == ("endpoint", "live", "b")
    assert await one.addresses.drop_network("n1", [(SPACE, str(SUBNET))])
    assert await one.addresses.all() == []


@pytest.mark.parametrize("network", ["n1", "n2"])
async def test_a_container_that_starts_while_its_pool_goes_keeps_its_reservation(network: str) -> None:
    """The villain is another host, which is back and starts a container on a network of another driver: after that
    network was seen to be empty, or on a second one, which has lost its own pool of the same subnet."""
    store = Meanwhile()
    one = Book(store)
    two = Book(store, one.clock, "b")
    await one.pool()
    record = await one.pools.claim(SUBNET, "n1")
    await one.addresses.claim(record, ip_address("192.168.1.1"), Holder("gateway", "n1"))
    foreign = msgspec.structs.replace(record, network=network, driver="ipvlan")
    store.meanwhile = partial(two.addresses.hold, foreign, NINE)
    assert await one.pools.drop_network("n1", if_empty=True)
    (held,) = await one.addresses.all()
    assert (held.kind, held.address, held.network, held.host) == ("reserved", str(NINE), network, "b")
    assert not await one.addresses.drop_network(network, [(SPACE, str(SUBNET))], if_empty=True)
    assert await one.addresses.drop_network(network, [(SPACE, str(SUBNET))])
    assert await one.addresses.all() == []


@pytest.mark.parametrize("if_empty", [True, False])
async def test_a_network_that_is_removed_leaves_hosts_what_they_have_themselves(if_empty: bool) -> None:
    """Another host has an address on its shim, and a stopped container, so it keeps the network for now."""
    one = Book()
    two = Book(one.store, one.clock, "b")
    await one.pool()
    record = await one.pools.claim(SUBNET, "n1")
    await one.addresses.claim(record, ip_address("192.168.1.1"), Holder("gateway", "n1"))
    await two.addresses.claim(record, NINE, Holder("host", "n1", "b"))
    assert await one.pools.drop_network("n1", if_empty=if_empty)
    (held,) = await one.addresses.all()
    assert (held.kind, held.address, held.host) == ("host", str(NINE), "b")
    await two.addresses.unclaim(SPACE, NINE, Holder("host", "n1", "b"), release_follows=False)
    assert await one.addresses.all() == []


class Stalls(MemoryStore):
    """A disk that deletes, and whose answer does not come while it stalls."""

    stalls = away = False

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        if self.away:
            raise Unavailable("the disk")
        return await super().scan(prefix)

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        deleted = await super().delete(entry)
        if self.stalls:
            await asyncio.Event().wait()
        return deleted


async def test_a_release_that_was_broken_off_keeps_no_address_from_a_host_alone() -> None:
    """It is done on the disk, though the engine's request met its deadline before. The last address is found again."""
    store = Stalls()
    book = Book(store)
    book.addresses = Addresses(book.tables, book.cache, Identity("a", "run"), now=book.clock)
    pool = await book.pool()
    got = [(await book.addresses.reserve_next(pool)).address for _ in range(6)]
    store.stalls = True
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await book.addresses.release(SPACE, got[3])
    store.stalls = False
    other = await book.pool("other")
    for _ in range(6):
        await book.addresses.reserve_next(other)
    with pytest.raises(Exhausted):  # nothing of it is in doubt
        await book.addresses.reserve_next(other)
    store.away = True
    with pytest.raises(Unavailable):  # nor is this looked at
        await book.addresses.reserve_next(pool)
    store.away = False
    assert (await book.addresses.reserve_next(pool)).address == got[3]
    with pytest.raises(Exhausted):
        await book.addresses.reserve_next(pool)


async def test_the_end_of_a_pool_takes_no_reservation_of_the_next_one() -> None:
    """Another network of the subnet asks for its gateway while the pool of the last one is being deleted."""
    store = Meanwhile()
    book = Book(store)
    await book.pool()
    record = await book.pools.claim(SUBNET, "n1")

    async def next_network() -> None:
        pool = await book.pools.find(f"{SPACE}/{SUBNET}")
        await book.addresses.reserve(pool, NINE, for_network=True)

    store.meanwhile = next_network
    assert await book.pools.give_back(record)
    assert [each.address for each in await book.addresses.all()] == [str(NINE)]


async def test_an_address_that_networks_shared_is_free_when_the_other_host_lets_go_of_it() -> None:
    """This host has let go of it before, and does not take it for its own any more."""
    one = Book()
    two = Book(one.store, one.clock, "b")
    pool = await one.pool()
    for book, network in ((one, "n1"), (two, "n2")):
        await book.addresses.claim(pool.record, NINE, Holder("gateway", network))
    held = [(await one.addresses.reserve_next(pool)).address for _ in range(5)]
    assert NINE not in held
    for book, network in ((one, "n1"), (two, "n2")):
        assert await book.addresses.drop_network(network, [(SPACE, str(SUBNET))])
    assert (await one.addresses.reserve_next(pool)).address == NINE


@pytest.mark.parametrize("holder", [Holder("endpoint", "n2", "e"), Holder("host", "n2", "a")])
async def test_only_networks_share_an_address(book: Book, holder: Holder) -> None:
    """The gateway of one network is no address for a container or a host on another one."""
    pool = await book.pool()
    await book.addresses.claim(pool.record, NINE, Holder("gateway", "n1"))
    with pytest.raises(AddressTaken):
        await book.addresses.claim(pool.record, NINE, holder)
    await book.addresses.claim(pool.record, NINE, Holder("aux", "n2", label="router"))


async def test_a_gateway_that_networks_share_outlives_the_container_that_was_it(book: Book) -> None:
    """All claims of networks are there again, and the address is free when the last of them ends."""
    pool = await book.pool()
    record = await book.pools.claim(SUBNET, "n1")
    for network in ("n1", "n2", "n3"):
        await book.addresses.claim(record, NINE, Holder("gateway", network))
    await book.addresses.reserve(await book.pools.find(f"{SPACE}/{SUBNET}"), NINE)
    await book.addresses.claim(record, NINE, LIVE)
    await book.addresses.unclaim(SPACE, NINE, LIVE, release_follows=False)
    for network in ("n1", "n3", "n2"):
        (held,) = await book.addresses.all()
        assert {each.network for each in network_claims(held)} >= {network, "n2"}
        await book.addresses.end_claims(held, network)
    assert (pool.record.subnet, await book.addresses.all()) == (str(SUBNET), [])


async def test_a_gateway_that_a_container_elsewhere_is_stays_when_its_claim_is_given_back(book: Book) -> None:
    """The host that wrote the network's claim has lost the network, and the other one's container runs on it."""
    other = Book(book.store, book.clock, "b")
    await book.pool()
    record = await book.pools.claim(SUBNET, "n1")
    await book.addresses.claim(record, NINE, Holder("gateway", "n1"))
    await other.addresses.reserve(await other.pools.find(f"{SPACE}/{SUBNET}"), NINE)
    await other.addresses.claim(record, NINE, LIVE)
    (before,) = await book.addresses.all()
    await book.addresses.end_claims(before, "n1")
    assert await book.addresses.all() == [before]
    await other.addresses.unclaim(SPACE, NINE, LIVE, release_follows=False)
    (left,) = await book.addresses.all()
    await book.addresses.end_claims(left, "n1")
    assert await book.addresses.all() == []


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_request_is_repeated_only_through_the_same_pool(book: Book, restarted: bool) -> None:
    """Of two pools that overlap neither is a network's yet. The driver may have begun anew since the first request."""
    wide = ip_network("192.168.0.0/16")
    await book.pool()
    await book.pools.reserve(SPACE, wide)
    await book.addresses.reserve(await book.pools.find(f"{SPACE}/{SUBNET}"), NINE)
    if restarted:
        book = Book(book.store, book.clock)
        await book.pools.load()
    pool, other = [await book.pools.find(f"{SPACE}/{each}") for each in (SUBNET, wide)]
    with pytest.raises(AddressTaken):
        await book.addresses.reserve(other, NINE)
    await book.addresses.reserve(pool, NINE)
    assert book.pools.end_asking(f"{SPACE}/{wide}", SPACE, NINE)
    await book.addresses.reserve(other, NINE, for_network=True)  # two networks that are made at once have it in common
    assert book.pools.end_asking(f"{SPACE}/{SUBNET}", SPACE, NINE)
    assert not book.pools.end_asking(f"{SPACE}/{wide}", SPACE, NINE)


async def test_a_container_on_another_driver_s_network_may_have_its_gateway(book: Book) -> None:
    """Its claim was lost, that of the network was not: it is held once, and repeated for nothing."""
    await book.pools.restore(PoolRecord(space=SPACE, subnet=str(SUBNET), network="n1", driver="ipvlan", host="a", at=0))
    (record,) = await book.pools.all()
    await book.addresses.claim(record, NINE, Holder("gateway", "n1"))
    for _ in range(2):
        await book.addresses.hold(record, NINE)
    (held,) = await book.addresses.all()
    assert (held.kind, held.network, [each.kind for each in held.sharers]) == ("reserved", "n1", ["gateway"])
    await book.addresses.release(SPACE, NINE)
    assert await book.addresses.all() == [held]
    await book.addresses.release(SPACE, NINE, foreign="n1")
    (held,) = await book.addresses.all()
    assert (held.kind, held.network, held.sharers) == ("gateway", "n1", [])


# --------------------------------------------- answers that come late


class LateAnswers(MemoryStore):
    """A store whose first answer to an operation on pools waits until it `goes`; `asked` is set when it is done."""

    def __init__(self, method: str) -> None:
        """`method` is the operation."""
        super().__init__()
        self.method = method
        self.asked, self.goes = asyncio.Event(), asyncio.Event()

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        return await self._answer("get", key, await super().get(key))

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._answer("create", key, await super().create(key, value))

    async def _answer(self, method: str, key: str, answer: Entry | None) -> Entry | None:
        if method == self.method and key.startswith("pools/") and not self.asked.is_set():
            self.asked.set()
            await self.goes.wait()
        return answer


@pytest.mark.parametrize("request_is", ["reserve", "take_over", "join"])
async def test_a_late_answer_to_a_request_for_a_pool_takes_it_from_no_network(request_is: str) -> None:
    """The engine has repeated the request, and a network has claimed the pool since."""
    store = LateAnswers("create")
    book = Book(store)
    removed = PoolRecord(space=SPACE, subnet=str(SUBNET), network="old", host="a", at=0)
    requests = {
        "reserve": partial(book.pools.reserve, SPACE, SUBNET),
        "take_over": partial(book.pools.take_over, removed),
        "join": partial(book.pools.join, SPACE, SUBNET, None, "old"),
    }
    late = asyncio.ensure_future(requests[request_is]())
    await store.asked.wait()
    if request_is == "join":
        await book.pools.drop_network("old")
    await book.pools.reserve(SPACE, SUBNET)
    await book.pools.claim(SUBNET, "n1")
    store.goes.set()
    await late
    pool = await book.pools.find(f"{SPACE}/{SUBNET}")
    assert (pool.record.network, book.pools.is_any_unclaimed()) == ("n1", False)


async def test_a_late_answer_of_what_a_pool_was_takes_it_from_no_network() -> None:
    """It was read before a network claimed it."""
    store = LateAnswers("get")
    book, driver = Book(store), Book(store)  # the first one has started anew
    await driver.pools.reserve(SPACE, SUBNET)
    late = asyncio.ensure_future(book.pools.find(f"{SPACE}/{SUBNET}"))
    await store.asked.wait()
    await book.pools.claim(SUBNET, "n1")
    store.goes.set()
    assert (await late).record.network == "n1"
    assert (await book.pools.find(f"{SPACE}/{SUBNET}")).record.network == "n1"
