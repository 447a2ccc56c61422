"""Pools and addresses as Docker asks for them: who gets which, and who may let go of it."""

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from macvlan_global.driver.driver import Driver, Settings
from macvlan_global.driver.liveness import YOUNG_SECONDS
from macvlan_global.errors import Conflict, Exhausted, Invalid, NotFound
from macvlan_global.ipam.allocator import COOLING_SECONDS
from macvlan_global.ipam.auto_pool import DEFAULT_AUTO_POOLS, AutoPool
from macvlan_global.ipam.cache import CREATE_WINDOW_SECONDS
from macvlan_global.ipam.owners import Holder, Identity
from macvlan_global.kernel.ports import RouteFacts
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import NetworkRecord, PoolRecord
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock
from testkit.fake_kernel import FakeKernel
from testkit.faults import Faults, FaultyStore

SUBNET = "192.168.1.0/24"


@dataclass
class Book:
    """A store of addresses, and all that drivers on it stand on."""

    store: MemoryStore = field(default_factory=MemoryStore)
    faults: Faults = field(default_factory=Faults)
    kernel: FakeKernel = field(default_factory=FakeKernel)
    clock: FakeClock = field(default_factory=FakeClock)

    def open(self, host: str = "a", *auto: AutoPool, steady: FakeClock | None = None) -> Driver:
        """A driver over the same store, as after a restart or on another host. Without a `steady` clock the other one
        is never set."""
        tables = Tables(FaultyStore(self.store, self.faults), self.store)
        settings = Settings(auto_pools=auto or DEFAULT_AUTO_POOLS)
        return Driver.build(tables, self.kernel, Identity(host, "run"), settings, now=self.clock, steady=steady)

    async def claimed(self, driver: Driver, subnet: str = SUBNET, part: str = "", network: str = "n1") -> PoolRecord:
        """A pool of a network that is called lan-ID."""
        record = NetworkRecord(id=network, name=f"lan-{network}", given={}, at=0)
        await driver.tables.networks.put(record, network)
        await driver.ipam.request_pool(subnet, part, {}, ipv6=":" in subnet)
        return await driver.claims.claim_pool(ip_network(subnet), network)


@pytest.fixture
def book() -> Book:
    """An empty store."""
    return Book()


@pytest.fixture
def driver(book: Book) -> Driver:
    """The driver of one host."""
    return book.open()


# ------------------------------------------------------------------- pools


async def test_a_pool_is_reserved_then_claimed(book: Book, driver: Driver) -> None:
    """The id holds the space and the subnet."""
    assert await driver.ipam.request_pool(SUBNET, "", {}, ipv6=False) == (f"macvlan-global/{SUBNET}", SUBNET)
    assert (await driver.pools.all())[0].network == ""
    assert (await driver.claims.claim_pool(ip_network(SUBNET), "n1")).network == "n1"
    assert (await driver.pools.all())[0].network == "n1"


async def test_repeated_pool_requests_and_claims_give_the_same_answer(book: Book, driver: Driver) -> None:
    """Nothing is there twice."""
    first = await driver.ipam.request_pool(SUBNET, "", {}, ipv6=False)
    assert await driver.ipam.request_pool(SUBNET, "", {}, ipv6=False) == first
    claims = [await driver.claims.claim_pool(ip_network(SUBNET), "n1") for _ in range(2)]
    assert claims[0] == claims[1]
    assert len(await driver.pools.all()) == 1


@pytest.mark.parametrize("part", ["", "192.168.1.64/26"])
async def test_the_very_same_pool_is_refused_and_names_who_has_it(book: Book, driver: Driver, part: str) -> None:
    """The same subnet with the same range, or both without one. Nothing of the refused one stays."""
    await book.claimed(driver, part=part)
    with pytest.raises(Conflict, match="lan-n1"):
        await driver.ipam.request_pool(SUBNET, part, {}, ipv6=False)
    assert [(pool.subnet, pool.network) for pool in await driver.pools.all()] == [(SUBNET, "n1")]


@pytest.mark.parametrize("other", ["192.168.1.128/25", "192.168.0.0/16"])
async def test_pools_that_overlap_share_the_wire(book: Book, driver: Driver, other: str) -> None:
    """A part of a subnet, or a wider one: an address has one holder, whichever pool it came from."""
    one = await book.claimed(driver)
    await book.claimed(driver, other, network="n2")
    pool = f"macvlan-global/{other}"
    await driver.claims.claim(one, ip_address("192.168.1.130"), Holder("endpoint", "n1", "e1"))
    with pytest.raises(Conflict, match="endpoint e1"):
        await driver.ipam.request_address(pool, "192.168.1.130")
    assert await driver.ipam.request_address(pool, "192.168.1.131") == f"192.168.1.131/{other.partition('/')[2]}"
    with pytest.raises(Conflict, match="a container that is starting"):
        await book.open("b").ipam.request_address(f"macvlan-global/{SUBNET}", "192.168.1.131")


async def test_another_space_may_reuse_a_subnet(book: Book, driver: Driver) -> None:
    """And the same address is then held twice, once in each."""
    await book.claimed(driver)
    pool, _ = await driver.ipam.request_pool(SUBNET, "", {"space": "blue"}, ipv6=False)
    assert pool == f"blue/{SUBNET}"
    assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "192.168.1.9") == "192.168.1.9/24"
    assert await driver.ipam.request_address(pool, "192.168.1.9") == "192.168.1.9/24"


async def test_two_networks_share_a_subnet_if_each_has_its_own_range(book: Book, driver: Driver) -> None:
    """Dynamic addresses come from the own range; ranges may overlap, and what one has given the other passes over."""
    one = await book.claimed(driver, part="192.168.1.64/26", network="n1")
    two = await book.claimed(driver, part="192.168.1.128/26", network="n2")
    assert (one.range, two.range) == ("192.168.1.64/26", "192.168.1.128/26")
    assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}/{one.range}", "") == "192.168.1.64/24"
    assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}/{two.range}", "") == "192.168.1.128/24"
    await book.claimed(driver, part="192.168.1.64/27", network="n3")
    await book.claimed(driver, network="n4")
    assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}/192.168.1.64/27", "") == "192.168.1.65/24"
    assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "") == "192.168.1.1/24"
    assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}/{one.range}", "") == "192.168.1.66/24"


async def test_networks_on_one_subnet_do_not_get_each_others_addresses(book: Book, driver: Driver) -> None:
    """`--ip` may leave the range, but an address has one owner in the whole space."""
    one = await book.claimed(driver, part="192.168.1.64/26", network="n1")
    await book.claimed(driver, part="192.168.1.128/26", network="n2")
    await driver.claims.claim(one, ip_address("192.168.1.130"), Holder("endpoint", "n1", "e1"))
    with pytest.raises(Conflict, match="endpoint e1"):
        await driver.ipam.request_address(f"macvlan-global/{SUBNET}/192.168.1.128/26", "192.168.1.130")


async def test_removing_one_of_two_networks_on_a_subnet_leaves_the_other_whole(book: Book, driver: Driver) -> None:
    """Its pool and its addresses, reserved ones included."""
    one = await book.claimed(driver, part="192.168.1.64/26", network="n1")
    two = await book.claimed(driver, part="192.168.1.128/26", network="n2")
    await driver.claims.claim(one, ip_address("192.168.1.64"), Holder("endpoint", "n1", "e1"))
    await driver.claims.claim(two, ip_address("192.168.1.128"), Holder("endpoint", "n2", "e2"))
    await driver.ipam.request_address(f"macvlan-global/{SUBNET}/{two.range}", "192.168.1.140")
    await driver.pools.drop_network("n1")
    assert {each.address for each in await driver.addresses.all()} == {"192.168.1.128", "192.168.1.140"}
    assert [pool.network for pool in await driver.pools.all()] == ["n2"]


async def test_a_pool_leaves_what_another_host_has_reserved_for_a_container_that_starts(
    book: Book, driver: Driver
) -> None:
    """Its network is removed here meanwhile: the address is nobody else's before the other host gives it back."""
    await book.claimed(driver)
    other = book.open("b")
    await other.pools.load()
    pool = f"macvlan-global/{SUBNET}"
    address = await other.ipam.request_address(pool, "")
    await driver.ipam.request_address(pool, "")
    await driver.pools.drop_network("n1", ends_here=True)
    assert {(each.host, each.address) for each in await driver.addresses.all()} == {("b", address.partition("/")[0])}
    await other.ipam.release_address(pool, address)
    assert await driver.addresses.all() == []


async def test_two_networks_that_want_one_pool_at_once_and_one_gets_it(book: Book, driver: Driver) -> None:
    """Both may reserve it, since a repeat looks the same; one claims it."""
    for _ in range(2):
        await driver.ipam.request_pool(SUBNET, "", {}, ipv6=False)
    done = await asyncio.gather(
        *(driver.claims.claim_pool(ip_network(SUBNET), each) for each in ("n1", "n2")), return_exceptions=True
    )
    assert sum(isinstance(each, PoolRecord) for each in done) == 1
    assert sum(isinstance(each, Conflict) for each in done) == 1


async def test_a_claim_takes_the_pool_that_was_just_reserved(book: Book, driver: Driver) -> None:
    """An older reservation in another space is not meant."""
    await driver.ipam.request_pool(SUBNET, "", {"space": "old"}, ipv6=False)
    book.clock.advance(CREATE_WINDOW_SECONDS + 1)
    await driver.ipam.request_pool(SUBNET, "", {"space": "new"}, ipv6=False)
    assert (await driver.claims.claim_pool(ip_network(SUBNET), "n1")).space == "new"


async def test_a_claim_that_could_mean_two_pools_is_refused(book: Book, driver: Driver) -> None:
    """Better an error than the wrong space."""
    for space in ("red", "blue"):
        await driver.ipam.request_pool(SUBNET, "", {"space": space}, ipv6=False)
    with pytest.raises(Conflict, match="at once"):
        await driver.claims.claim_pool(ip_network(SUBNET), "n1")
    assert [pool.network for pool in await driver.pools.all()] == ["", ""]


@pytest.mark.parametrize("seconds", [-86400, 86400])
async def test_a_clock_that_is_set_does_not_make_a_claim_mean_the_other_pool(book: Book, seconds: int) -> None:
    """Two networks are created at once, and the clock is set between their reservations."""
    driver = book.open(steady=FakeClock(0))
    await driver.ipam.request_pool(SUBNET, "", {}, ipv6=False)
    book.clock.advance(seconds)
    await driver.ipam.request_pool(SUBNET, "192.168.1.64/29", {}, ipv6=False)
    with pytest.raises(Conflict, match="at once"):
        await driver.claims.claim_pool(ip_network(SUBNET), "n1")


@pytest.mark.parametrize("seconds", [-86400, 0, 86400])
@pytest.mark.parametrize("again", [False, True])
async def test_a_clock_that_is_set_while_the_driver_starts_does_not_either(
    book: Book, seconds: int, *, again: bool
) -> None:
    """The driver died after both reservations, or between them, and the engine waited for the next one."""
    steady = FakeClock(0)
    before = book.open(steady=steady)
    await before.ipam.request_pool(SUBNET, "", {}, ipv6=False)
    await before.ipam.request_pool(SUBNET, "192.168.1.64/29", {}, ipv6=False)
    book.clock.advance(seconds)
    steady.advance(CREATE_WINDOW_SECONDS + 1)
    driver = book.open(steady=steady)
    await driver.pools.load()
    if again:
        await driver.ipam.request_pool(SUBNET, "192.168.1.64/29", {}, ipv6=False)
    with pytest.raises(Conflict, match="at once"):
        await driver.claims.claim_pool(ip_network(SUBNET), "n1")
    steady.advance(CREATE_WINDOW_SECONDS + 1)
    await driver.ipam.request_pool(SUBNET, "192.168.1.64/29", {}, ipv6=False)
    assert (await driver.claims.claim_pool(ip_network(SUBNET), "n1")).range == "192.168.1.64/29"


async def test_a_clock_that_is_set_does_not_end_the_reservation_of_another_host(book: Book) -> None:
    """It is this host's clock; the other one is creating its network just now."""
    steady = FakeClock(0)
    other, driver = book.open("b"), book.open(steady=steady)
    await other.ipam.request_pool(SUBNET, "", {}, ipv6=False)
    for passes in (0, 86400):
        book.clock.advance(passes)
        with pytest.raises(Conflict, match="a network is being created with it"):
            await driver.ipam.request_pool(SUBNET, "", {}, ipv6=False)
    steady.advance(CREATE_WINDOW_SECONDS + 1)
    await driver.ipam.request_pool(SUBNET, "", {}, ipv6=False)


async def test_a_claim_of_what_nobody_reserved_is_refused(book: Book, driver: Driver) -> None:
    """The reservation was given back meanwhile (a late release): its range and space would not be known."""
    with pytest.raises(Conflict, match="was released while the network was being created; try again"):
        await driver.claims.claim_pool(ip_network(SUBNET), "n1")
    assert await driver.pools.all() == []


async def test_a_claim_of_what_another_network_has_is_refused(book: Book, driver: Driver) -> None:
    """It names the network."""
    await book.claimed(driver)
    with pytest.raises(Conflict, match="lan-n1"):
        await driver.claims.claim_pool(ip_network(SUBNET), "n2")


async def test_a_claimed_pool_is_not_released_by_the_engines_late_or_repeated_release(
    book: Book, driver: Driver
) -> None:
    """Only its network lets go of it."""
    await book.claimed(driver)
    await driver.ipam.release_pool(f"macvlan-global/{SUBNET}")
    assert len(await driver.pools.all()) == 1


async def test_a_reserved_pool_is_released_with_what_is_reserved_in_it(book: Book, driver: Driver) -> None:
    """Twice is once, and the subnet is free for anybody again."""
    pool, _ = await driver.ipam.request_pool(SUBNET, "", {}, ipv6=False)
    await driver.ipam.request_address(pool, "192.168.1.1", gateway=True)
    for _ in range(2):
        await driver.ipam.release_pool(pool)
    assert (await driver.pools.all(), await driver.addresses.all()) == ([], [])
    await driver.ipam.request_pool("192.168.0.0/16", "", {}, ipv6=False)


async def test_an_engine_that_releases_an_unknown_pool_is_not_disturbed(driver: Driver) -> None:
    """It is gone already."""
    await driver.ipam.release_pool("macvlan-global/10.9.9.0/24")


@pytest.mark.parametrize("pool", ["", "x", "macvlan-global", "macvlan-global/10.0.0.0/24/x", "a/b/c/d/e/f"])
async def test_what_is_no_pool_id_is_refused(driver: Driver, pool: str) -> None:
    """And not found."""
    with pytest.raises(NotFound):
        await driver.ipam.request_address(pool, "")


@pytest.mark.parametrize(
    ("subnet", "part", "options"),
    [
        ("192.168.1.1/24", "", {}),
        ("x", "", {}),
        ("127.0.0.0/16", "", {}),
        ("239.1.0.0/24", "", {}),
        ("ff02::/64", "", {}),
        (SUBNET, "192.168.2.0/25", {}),
        (SUBNET, "x", {}),
        ("", "192.168.1.0/25", {}),
        (SUBNET, "", {"spcae": "x"}),
        (SUBNET, "", {"space": ""}),
        (SUBNET, "", {"space": "a/b"}),
        (SUBNET, "", {"space": "é"}),
        (SUBNET, "", {"space": "x" * 33}),
    ],
)
async def test_a_bad_pool_request_takes_nothing(
    driver: Driver, subnet: str, part: str, options: dict[str, str]
) -> None:
    """Each is an error that names the option."""
    with pytest.raises(Invalid, match="--"):
        await driver.ipam.request_pool(subnet, part, options, ipv6=False)
    assert await driver.pools.all() == []


async def test_a_range_as_wide_as_its_subnet_is_no_range(driver: Driver) -> None:
    """So that the pool is the same with it and without."""
    assert (await driver.ipam.request_pool(SUBNET, SUBNET, {}, ipv6=False))[0] == f"macvlan-global/{SUBNET}"


# -------------------------------------------------------------- auto pools


async def test_auto_pools_avoid_routes_pools_and_each_other(book: Book) -> None:
    """Even when they are asked for at once."""
    auto = AutoPool(ip_network("10.8.0.0/21"), 24)
    driver = book.open("a", auto)
    book.kernel.route_facts = RouteFacts((ip_network("10.8.0.0/23"), ip_network("10.8.4.7/32")))
    await book.claimed(driver, "10.8.3.128/25")
    got = await asyncio.gather(*(driver.ipam.request_pool("", "", {}, ipv6=False) for _ in range(3)))
    assert {subnet for _, subnet in got} == {"10.8.2.0/24", "10.8.5.0/24", "10.8.6.0/24"}


async def test_auto_pools_leap_over_a_wide_route(book: Book) -> None:
    """A VPN that routes half of a huge base costs one step, not millions."""
    driver = book.open("a", AutoPool(ip_network("10.0.0.0/8"), 30))
    book.kernel.route_facts = RouteFacts((ip_network("10.0.0.0/9"),))
    assert (await driver.ipam.request_pool("", "", {}, ipv6=False))[1] == "10.128.0.0/30"


async def test_auto_pools_end(book: Book) -> None:
    """When all are given, the error says where more would come from."""
    driver = book.open("a", AutoPool(ip_network("10.8.0.0/24"), 25))
    for _ in range(2):
        await driver.ipam.request_pool("", "", {}, ipv6=False)
    with pytest.raises(Exhausted, match="auto_pools"):
        await driver.ipam.request_pool("", "", {}, ipv6=False)


async def test_auto_pools_of_both_families(driver: Driver) -> None:
    """Each family has its own base."""
    assert ip_network((await driver.ipam.request_pool("", "", {}, ipv6=False))[1]).version == 4
    assert ip_network((await driver.ipam.request_pool("", "", {}, ipv6=True))[1]).version == 6


# --------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("subnet", "addresses"),
    [
        ("10.0.0.0/29", [f"10.0.0.{last}/29" for last in range(1, 7)]),
        ("10.0.0.0/30", ["10.0.0.1/30", "10.0.0.2/30"]),
        ("10.0.0.0/31", ["10.0.0.0/31", "10.0.0.1/31"]),
        ("10.0.0.7/32", ["10.0.0.7/32"]),
        ("fd00::/126", ["fd00::1/126", "fd00::2/126", "fd00::3/126"]),
        ("fd00::/127", ["fd00::/127", "fd00::1/127"]),
        ("fd00::7/128", ["fd00::7/128"]),
    ],
)
async def test_a_pool_is_filled_to_its_last_address(
    book: Book, driver: Driver, subnet: str, addresses: list[str]
) -> None:
    """Then it is full, which the error says with what helps; usage agrees."""
    record = await book.claimed(driver, subnet)
    pool = f"macvlan-global/{subnet}"
    assert [await driver.ipam.request_address(pool, "") for _ in addresses] == addresses
    with pytest.raises(Exhausted, match="no free address"):
        await driver.ipam.request_address(pool, "")
    assert driver.pools.usage(record) == (len(addresses), len(addresses))


async def test_a_range_that_holds_no_usable_address_is_full(book: Book, driver: Driver) -> None:
    """The network address alone."""
    await book.claimed(driver, part="192.168.1.0/32")
    with pytest.raises(Exhausted):
        await driver.ipam.request_address(f"macvlan-global/{SUBNET}/192.168.1.0/32", "")


async def test_many_callers_at_once_get_different_addresses(book: Book, driver: Driver) -> None:
    """A hundred of them fill a pool of a hundred and twenty-six."""
    await book.claimed(driver, "10.0.0.0/25")
    got = await asyncio.gather(*(driver.ipam.request_address("macvlan-global/10.0.0.0/25", "") for _ in range(100)))
    assert len(set(got)) == 100


async def test_two_hosts_on_one_store_get_different_addresses(book: Book, driver: Driver) -> None:
    """What one remembers is a hint; the store decides."""
    await book.claimed(driver, "10.0.0.0/26")
    other = book.open("b")
    await other.pools.load()
    got = await asyncio.gather(
        *(each.ipam.request_address("macvlan-global/10.0.0.0/26", "") for each in (driver, other) for _ in range(31))
    )
    assert len(set(got)) == 62
    with pytest.raises(Exhausted):
        await other.ipam.request_address("macvlan-global/10.0.0.0/26", "")


async def test_an_address_that_was_asked_for_is_the_same_when_it_is_asked_for_again(book: Book, driver: Driver) -> None:
    """The engine repeats a broken call."""
    await book.claimed(driver)
    for _ in range(2):
        assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "192.168.1.9") == "192.168.1.9/24"
    assert len(await driver.addresses.all()) == 1


async def test_an_address_reserved_unasked_is_not_given_to_who_asks_for_it(book: Book, driver: Driver) -> None:
    """It is on its way to somebody else."""
    await book.claimed(driver)
    given = await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "")
    with pytest.raises(Conflict, match="that is starting"):
        await driver.ipam.request_address(f"macvlan-global/{SUBNET}", given)


async def test_of_two_containers_that_ask_for_one_address_one_claims_it(book: Book, driver: Driver) -> None:
    """Both requests look like repeats; the claim decides, and the loser's release takes nothing from the winner."""
    record = await book.claimed(driver)
    pool = f"macvlan-global/{SUBNET}"
    for _ in range(2):
        await driver.ipam.request_address(pool, "192.168.1.9")
    holders = [Holder("endpoint", "n1", each) for each in ("e1", "e2")]
    done = await asyncio.gather(
        *(driver.claims.claim(record, ip_address("192.168.1.9"), each) for each in holders), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in done) == ["Conflict", "NoneType"]
    await driver.ipam.release_address(pool, "192.168.1.9/24")
    assert [each.kind for each in await driver.addresses.all()] == ["endpoint"]


async def test_a_release_before_the_claim_of_a_second_asker_does_not_stop_it(book: Book, driver: Driver) -> None:
    """The claim takes what nobody reserved."""
    record = await book.claimed(driver)
    await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "192.168.1.9")
    await driver.ipam.release_address(f"macvlan-global/{SUBNET}", "192.168.1.9")
    await driver.claims.claim(record, ip_address("192.168.1.9"), Holder("endpoint", "n1", "e1"))
    assert [each.endpoint for each in await driver.addresses.all()] == ["e1"]


async def test_a_late_unclaim_never_frees_a_successors_address(book: Book, driver: Driver) -> None:
    """Only who holds it lets go of it."""
    record = await book.claimed(driver)
    old, new = Holder("endpoint", "n1", "old"), Holder("endpoint", "n1", "new")
    await driver.claims.claim(record, ip_address("192.168.1.9"), old)
    await driver.claims.unclaim(record.space, ip_address("192.168.1.9"), old)
    await driver.claims.claim(record, ip_address("192.168.1.9"), new)
    await driver.claims.unclaim(record.space, ip_address("192.168.1.9"), old)
    assert [each.endpoint for each in await driver.addresses.all()] == ["new"]


async def test_a_claim_by_its_holder_is_idempotent_and_by_another_one_refused(book: Book, driver: Driver) -> None:
    """The error names the container and the host."""
    record = await book.claimed(driver)
    for _ in range(2):
        await driver.claims.claim(record, ip_address("192.168.1.9"), Holder("endpoint", "n1", "e1"))
    with pytest.raises(Conflict, match="endpoint e1 on host a"):
        await driver.claims.claim(record, ip_address("192.168.1.9"), Holder("endpoint", "n1", "e2"))


async def test_what_a_dead_endpoint_holds_can_be_taken(book: Book, driver: Driver) -> None:
    """By asking for it, and by claiming it; the dead one's late unclaim then changes nothing."""
    record = await book.claimed(driver)
    dead, live = Holder("endpoint", "n1", "dead"), Holder("endpoint", "n1", "live")
    await driver.claims.claim(record, ip_address("192.168.1.9"), dead)
    book.clock.advance(YOUNG_SECONDS)
    driver.liveness.learn([], driver.liveness.moment())  # the engine knows no endpoint of this name
    assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "192.168.1.9") == "192.168.1.9/24"
    await driver.claims.claim(record, ip_address("192.168.1.9"), live)
    await driver.claims.unclaim(record.space, ip_address("192.168.1.9"), dead)
    assert [each.endpoint for each in await driver.addresses.all()] == ["live"]


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        (Holder("gateway", "n2"), "by network lan-n2 as its gateway"),
        (Holder("aux", "n1", label="router"), "by network lan-n1 as its aux address router"),
    ],
)
async def test_gateways_and_aux_addresses_are_not_given_to_containers(
    book: Book, driver: Driver, holder: Holder, words: str
) -> None:
    """The error says what the address is. (A container may be the gateway of its own network.)"""
    record = await book.claimed(driver)
    await book.claimed(driver, part="192.168.1.64/26", network="n2")
    await driver.claims.claim(record, ip_address("192.168.1.1"), holder)
    with pytest.raises(Conflict, match=words):
        await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "192.168.1.1")
    assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "") == "192.168.1.2/24"


async def test_an_aux_address_may_be_the_gateway_too(book: Book, driver: Driver) -> None:
    """As Docker's own IPAM allows, and another network's: one router, one wire. It is free when the last one goes."""
    record = await book.claimed(driver)
    for holder in (Holder("gateway", "n1"), Holder("aux", "n1", label="router"), Holder("aux", "n2", label="router")):
        for _ in range(2):
            await driver.claims.claim(record, ip_address("192.168.1.1"), holder)
    (held,) = await driver.addresses.all()
    assert [(held.kind, held.network), *((each.kind, each.network) for each in held.sharers)] == [
        ("gateway", "n1"),
        ("aux", "n2"),
    ]
    await driver.addresses.drop_network("n1", [(record.space, record.subnet)])
    (held,) = await driver.addresses.all()
    assert (held.kind, held.network, held.label, held.sharers) == ("aux", "n2", "router", [])
    await driver.addresses.drop_network("n2", [(record.space, record.subnet)])
    assert await driver.addresses.all() == []


async def test_a_gateway_that_nobody_names_is_the_first_usable_address(book: Book, driver: Driver) -> None:
    """Or the next one outside the range if a container has that, or a host."""
    record = await book.claimed(driver, part="192.168.1.64/26")
    pool = f"macvlan-global/{SUBNET}/192.168.1.64/26"
    for _ in range(2):
        assert await driver.ipam.request_address(pool, "", gateway=True) == "192.168.1.1/24"
    await driver.ipam.release_address(pool, "192.168.1.1")
    await driver.claims.claim(record, ip_address("192.168.1.1"), Holder("endpoint", "n1", "e1"))
    book.kernel.route_facts = RouteFacts(addresses=(("eth0", ip_interface("192.168.1.2/24")),))
    assert await driver.ipam.request_address(pool, "", gateway=True) == "192.168.1.3/24"


async def test_a_gateway_that_nobody_names_is_that_of_the_host_if_it_is_in_the_subnet(
    book: Book, driver: Driver
) -> None:
    """A device that is there, not an invention; in the range, too, and that of another network, too."""
    book.kernel.route_facts = RouteFacts(
        gateways=(("eth1", ip_address("10.0.0.1")), ("eth0", ip_address("192.168.1.100")))
    )
    record = await book.claimed(driver, part="192.168.1.64/26")
    await driver.claims.claim(record, ip_address("192.168.1.100"), Holder("gateway", "n1"))
    await driver.ipam.request_pool(SUBNET, "192.168.1.128/26", {}, ipv6=False)
    pool = f"macvlan-global/{SUBNET}/192.168.1.128/26"
    assert await driver.ipam.request_address(pool, "", gateway=True) == "192.168.1.100/24"


async def test_no_gateway_is_invented_inside_a_range(book: Book, driver: Driver) -> None:
    """A range at the beginning of its subnet: the first address behind it."""
    await driver.ipam.request_pool(SUBNET, "192.168.1.0/26", {}, ipv6=False)
    pool = f"macvlan-global/{SUBNET}/192.168.1.0/26"
    assert await driver.ipam.request_address(pool, "", gateway=True) == "192.168.1.64/24"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("192.168.2.1", "not in the subnet"),
        ("fd00::1", "not in the subnet"),
        ("192.168.1.0", "network or broadcast"),
        ("192.168.1.255", "network or broadcast"),
        ("x", "--ip"),
    ],
)
async def test_an_address_that_cannot_be_is_refused(book: Book, driver: Driver, address: str, words: str) -> None:
    """With what would work."""
    await book.claimed(driver)
    with pytest.raises(Invalid, match=words):
        await driver.ipam.request_address(f"macvlan-global/{SUBNET}", address)
    assert await driver.addresses.all() == []


async def test_a_freed_address_rests(book: Book, driver: Driver) -> None:
    """Others come first while there are any; after its rest it comes in its turn."""
    await book.claimed(driver, "10.0.0.0/29")
    pool = "macvlan-global/10.0.0.0/29"
    first = await driver.ipam.request_address(pool, "")
    await driver.ipam.release_address(pool, first)
    later = [await driver.ipam.request_address(pool, "") for _ in range(5)]
    assert first not in later
    assert await driver.ipam.request_address(pool, "") == first


async def test_a_freed_address_can_be_asked_for_at_once(book: Book, driver: Driver) -> None:
    """`docker rm` and `docker run --ip` of the same address, one after the other."""
    await book.claimed(driver)
    for _ in range(2):
        assert await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "192.168.1.9") == "192.168.1.9/24"
        await driver.ipam.release_address(f"macvlan-global/{SUBNET}", "192.168.1.9")


async def test_after_a_restart_held_addresses_are_known_and_the_walk_goes_on(book: Book, driver: Driver) -> None:
    """The last one handed out is remembered by its time."""
    record = await book.claimed(driver)
    pool = f"macvlan-global/{SUBNET}"
    for _ in range(3):
        book.clock.advance(1)
        last = await driver.ipam.request_address(pool, "")
    await driver.claims.claim(record, ip_address(last.partition("/")[0]), Holder("endpoint", "n1", "e1"))
    await driver.ipam.release_address(pool, "192.168.1.1")
    again = book.open()
    await again.pools.load()
    assert again.pools.usage(record) == (2, 254)
    assert await again.ipam.request_address(pool, "") == "192.168.1.4/24"


async def test_usage_counts_the_window_and_not_what_cools_off(book: Book, driver: Driver) -> None:
    """An address outside the range is not in it."""
    record = await book.claimed(driver, part="192.168.1.64/26")
    pool = f"macvlan-global/{SUBNET}/192.168.1.64/26"
    await driver.ipam.request_address(pool, "192.168.1.9")
    given = await driver.ipam.request_address(pool, "")
    assert driver.pools.usage(record) == (1, 64)
    await driver.ipam.release_address(pool, given)
    assert driver.pools.usage(record) == (0, 64)
    book.clock.advance(COOLING_SECONDS)
    assert driver.pools.usage(record) == (0, 64)


async def test_usage_of_an_unknown_pool_is_nothing(driver: Driver) -> None:
    """It may just have been removed."""
    assert driver.pools.usage(PoolRecord(space="x", subnet=SUBNET, at=0)) == (0, 0)


async def test_giving_back_takes_only_what_is_still_the_same(book: Book, driver: Driver) -> None:
    """Repair decides on what it saw; what changed meanwhile is left alone."""
    record = await book.claimed(driver)
    await driver.ipam.request_address(f"macvlan-global/{SUBNET}", "192.168.1.9")
    seen = (await driver.addresses.all())[0]
    await driver.claims.claim(record, ip_address("192.168.1.9"), Holder("endpoint", "n1", "e1"))
    assert not await driver.addresses.give_back(seen)
    assert await driver.addresses.give_back((await driver.addresses.all())[0])
    assert not await driver.addresses.give_back(seen)
    assert not await driver.pools.give_back(PoolRecord(space=record.space, subnet=SUBNET, at=record.at))
    assert await driver.pools.give_back(record)
    assert await driver.pools.all() == []


async def test_a_lost_answer_of_the_store_does_not_lead_to_two_owners(book: Book, driver: Driver) -> None:
    """The address that was created unseen stays held until repair gives it back; the next request gets another."""
    await book.claimed(driver)
    pool = f"macvlan-global/{SUBNET}"
    book.faults.arm(1, after=True)
    with pytest.raises(type(book.faults.error)):
        await driver.ipam.request_address(pool, "")
    assert await driver.ipam.request_address(pool, "") == "192.168.1.2/24"
    assert [each.address for each in await driver.addresses.all()] == ["192.168.1.1", "192.168.1.2"]
