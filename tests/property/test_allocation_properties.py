"""The address book against a model, as an engine with lost answers, repeats and late releases would use it."""

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from macvlan_global.errors import Exhausted
from macvlan_global.ipam.addresses import Addresses
from macvlan_global.ipam.allocator import COOLING_SECONDS
from macvlan_global.ipam.cache import PoolCache
from macvlan_global.ipam.conflicts import AddressTaken
from macvlan_global.ipam.owners import Holder, Identity
from macvlan_global.ipam.pools import Pools
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import PoolRecord
from macvlan_global.store.table import Tables
from macvlan_global.subnets import from_number, parse_subnet, usable
from testkit.fake_clock import FakeClock
from tests.property.examples import examples

SUBNETS = {"192.168.1.0/29": 6, "192.168.1.0/31": 2, "fd00::/126": 3, "10.0.0.0/28": 14}


class AddressBook(RuleBasedStateMachine):
    """Requests in any order, some twice, some late, with restarts of the driver between them."""

    reserved: Bundle[str] = Bundle("reserved")
    claims: Bundle[tuple[str, str]] = Bundle("claims")
    past: Bundle[tuple[str, str]] = Bundle("past")

    @initialize(subnet=st.sampled_from(sorted(SUBNETS)))
    def create(self, subnet: str) -> None:
        """A network with a small pool, so that it fills."""
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.subnet, self.size = subnet, SUBNETS[subnet]
        self.pool = f"macvlan-global/{subnet}"
        self.owners: dict[str, str] = {}
        self.asked: set[str] = set()
        self.unasked: set[str] = set()
        self.endpoints = 0
        self.restart()
        self.do(self.pools.reserve("macvlan-global", ip_network(subnet)))
        self.record: PoolRecord = self.do(self.pools.claim(ip_network(subnet), "n1"))

    @rule()
    def restart(self) -> None:
        """The driver is killed and started again: only the store lasts."""

        tables, identity = Tables(self.store, self.store), Identity("a", "run")
        cache = PoolCache(host="a", shared=False)
        self.book = Addresses(tables, cache, identity, now=self.clock)
        self.pools = Pools(tables, cache, self.book, identity, now=self.clock)
        self.do(self.pools.load())

    @rule(seconds=st.sampled_from([1.0, COOLING_SECONDS]))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.advance(seconds)

    @rule(target=reserved)
    def request_any(self) -> Any:
        """An address of the book's choosing: one that nobody has, and none only if there is none."""
        try:
            address = str(self.do(self.book.reserve_next(self.do(self.pools.find(self.pool)))).address)
        except Exhausted:
            assert len(self.held()) == self.size, "addresses are left"
            return multiple()
        assert address not in self.held()
        self.unasked.add(address)
        return address

    @rule(target=reserved, number=st.integers(0, 15))
    def request_this(self, number: int) -> Any:
        """`--ip`: given, and given again, unless somebody has it."""
        address = self.address(number)
        try:
            self.do(self.book.reserve(self.do(self.pools.find(self.pool)), ip_address(address)))
        except AddressTaken:
            assert address in self.owners or address in self.unasked
            return multiple()
        assert address not in self.owners
        assert address not in self.unasked
        self.asked.add(address)
        return address

    @rule(target=claims, address=reserved)
    def claim(self, address: str) -> Any:
        """CreateEndpoint: the first of those who were given the address gets it."""
        self.endpoints += 1
        endpoint = f"e{self.endpoints}"
        try:
            self.do(self.book.claim(self.record, ip_address(address), Holder("endpoint", "n1", endpoint)))
        except AddressTaken:
            assert address in self.owners
            return multiple()
        assert address not in self.owners
        self.owners[address] = endpoint
        self.asked.discard(address)
        self.unasked.discard(address)
        return address, endpoint

    @rule(claim=claims)
    def claim_again(self, claim: tuple[str, str]) -> None:
        """A repeated CreateEndpoint of who has it changes nothing."""
        address, endpoint = claim
        if self.owners.get(address) == endpoint:
            self.do(self.book.claim(self.record, ip_address(address), Holder("endpoint", "n1", endpoint)))

    @rule(address=reserved)
    def release(self, address: str) -> None:
        """ReleaseAddress, in time, late or repeated: only a reservation goes."""
        self.do(self.book.release("macvlan-global", ip_address(address)))
        self.asked.discard(address)
        self.unasked.discard(address)

    @rule(target=past, claim=consumes(claims))
    def unclaim(self, claim: tuple[str, str]) -> tuple[str, str]:
        """DeleteEndpoint."""
        address, endpoint = claim
        self.do(self.book.unclaim("macvlan-global", ip_address(address), Holder("endpoint", "n1", endpoint)))
        if self.owners.get(address) == endpoint:
            del self.owners[address]
            self.asked.add(address)  # until its release, which `release` draws
        return claim

    @rule(claim=past)
    def unclaim_late(self, claim: tuple[str, str]) -> None:
        """DeleteEndpoint once more, long after: a successor keeps the address."""
        address, endpoint = claim
        self.do(self.book.unclaim("macvlan-global", ip_address(address), Holder("endpoint", "n1", endpoint)))

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        """Each owner, and nobody else; usage agrees."""
        if not hasattr(self, "record"):
            return
        records = self.do(self.book.all())
        assert {each.address: each.endpoint for each in records if each.kind == "endpoint"} == self.owners
        assert {each.address for each in records if each.kind == "reserved"} == self.asked | self.unasked
        assert self.pools.usage(self.record) == (len(self.held()), self.size)

    def teardown(self) -> None:
        """Nothing of an example stays."""
        if hasattr(self, "loop"):
            self.loop.close()

    def held(self) -> set[str]:
        """Every address that somebody has."""
        return self.asked | self.unasked | set(self.owners)

    def address(self, number: int) -> str:
        """One of the pool's addresses."""
        subnet = parse_subnet(self.subnet, "subnet")
        return str(from_number(usable(subnet)[0] + number % self.size, subnet))

    def do(self, work: Any) -> Any:
        """Run to the end."""
        return self.loop.run_until_complete(work)


AddressBook.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestAddressBook = AddressBook.TestCase
