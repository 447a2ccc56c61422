"""Addresses that are avoided, as a process knows them."""

import random
import time
from ipaddress import ip_address

import msgspec
import pytest

from macvlan_global.ipam.avoided import HOST_MOST, SEEN_MOST, Avoided
from macvlan_global.ipam.avoided_tables import AvoidedTables
from macvlan_global.ipam.owners import without_container
from macvlan_global.ipam.remembered_names import RememberedNames
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch, Entry
from macvlan_global.store.records import (
    AddressRecord,
    HostAddress,
    HostAddressesRecord,
    NetworkClaim,
    RememberedRecord,
    StaticAddressRecord,
)
from macvlan_global.store.table import Tables


def test_of_one_host_so_many_addresses_are_kept() -> None:
    """Whatever wrote its record: anybody may write into the store."""
    avoided = Avoided()
    many = [HostAddress(address=f"10.{number // 250}.0.{number % 250 + 1}", link="eth0") for number in range(1000)]
    avoided.set_host("a", many)
    assert len(avoided.numbers(4)) == HOST_MOST
    avoided.replace_hosts({"b": many})
    assert (len(avoided.numbers(4)), avoided.of_host("a"), len(avoided.of_host("b"))) == (HOST_MOST, (), HOST_MOST)


def test_addresses_of_hosts_are_those_that_were_told_last() -> None:
    """Hosts come, change and go in any order, and share addresses: a gateway, or one that two hosts have by mistake."""
    lot = random.Random(5)  # noqa: S311 - it guards nothing
    avoided, told = Avoided(), dict[str, tuple[HostAddress, ...]]()
    texts = ("10.8.0.1", "10.8.0.2", "fd00::1", "FD00:0::1")
    every = [HostAddress(address=each, link="eth0", gateway=gateway) for each in texts for gateway in (False, True)]
    for _ in range(500):
        host, some = lot.choice("abc"), tuple(lot.choices(every, k=lot.randrange(4)))
        if lot.random() < 0.2:
            told = {each: those for each, those in told.items() if lot.random() < 0.5} | {host: some}
            avoided.replace_hosts(told)
        else:
            told[host] = some
            avoided.set_host(host, some)
        for address in map(ip_address, texts):
            expected = sorted(
                {
                    (each.gateway, of)
                    for of, those in told.items()
                    for each in those
                    if ip_address(each.address) == address
                }
            )
            assert sorted((each.gateway, each.host) for each in avoided.on_hosts(address)) == expected
            assert [each.gateway for each in avoided.on_hosts(address)] == [gateway for gateway, _ in expected]
            assert (int(address) in avoided.numbers(address.version)) == bool(expected)


class CountedText(str):
    """An address as text that counts how often it is parsed."""

    __slots__ = ()

    parsed = 0

    def __str__(self) -> str:
        """The plain text, as `ipaddress` asks for it."""
        CountedText.parsed += 1
        return super().__str__()


def test_what_other_hosts_have_is_not_gone_through_for_the_change_of_one() -> None:
    """A cluster of ten thousand that comes back after a power cut tells of ten thousand changes, and all have one
    gateway."""
    avoided, begun = Avoided(), CountedText.parsed
    gateway = HostAddress(address=CountedText("10.8.0.1"), link="eth0", gateway=True)
    for number in range(2, 102):
        own = HostAddress(address=CountedText(f"10.8.0.{number}"), link="eth0")
        avoided.set_host(f"h{number}", [own, gateway])
    assert CountedText.parsed - begun == 200
    assert len(avoided.on_hosts(ip_address("10.8.0.1"))) == 100


@pytest.mark.parametrize(("passes", "kept"), [(1, 1), (299, 1), (300, 0), (-86400, 0)])
def test_an_address_that_was_seen_is_avoided_for_minutes_whatever_the_clock_says(passes: float, kept: int) -> None:
    """A clock that is set back by years must not keep it from containers for years."""
    avoided, address = Avoided(), ip_address("10.8.0.9")
    avoided.see("s", address, 1000.0, 1000.0 + 300)
    avoided.expire(1000.0 + passes)
    assert len(avoided.seen("s", 4)) == kept


def test_frames_from_before_nobody_replied_say_nothing() -> None:
    """They are judged seconds after they passed, and the device may be gone. Later ones count; so do earlier ones once
    the clock was set."""
    avoided, address = Avoided(), ip_address("10.8.0.9")
    avoided.forget_seen("s", address, 1000.0)
    avoided.see("s", address, 1000.0, 1300.0)
    assert len(avoided.seen("s", 4)) == 0
    avoided.see("s", address, 1000.5, 1300.5)
    assert len(avoided.seen("s", 4)) == 1
    for set_back in (avoided.clear_seen, lambda: avoided.expire(900.0)):
        avoided.forget_seen("s", address, 1001.0)
        set_back()
        avoided.see("s", address, 800.0, 1100.0)
        assert len(avoided.seen("s", 4)) == 1


def test_of_so_many_addresses_is_it_known_that_nobody_replied() -> None:
    """Whoever asks for one after another takes no memory without end."""
    avoided, first = Avoided(), ip_address("10.8.0.0")
    for number in range(SEEN_MOST + 1):
        avoided.forget_seen("s", first + number, 1000.0)
    for number in range(SEEN_MOST + 1):
        avoided.see("s", first + number, 999.0, 1300.0)
    assert int(first) in avoided.seen("s", 4)
    assert len(avoided.seen("s", 4)) == 1


@pytest.mark.parametrize("whole", [True, False])
async def test_what_the_store_says_of_this_host_does_not_count(whole: bool) -> None:
    """Its kernel knows; the record may be old, or anybody's."""
    avoided = Avoided()
    tables = AvoidedTables(Tables(MemoryStore(), MemoryStore()), avoided, "a")
    own, foreign = HostAddress(address="10.8.0.5", link="eth0"), HostAddress(address="10.8.0.9", link="eth0")
    avoided.set_host("a", [own])
    records = [HostAddressesRecord(id=each, name=each, addresses=[foreign], at=0) for each in ("a", "b")]
    entries = [
        Entry(f"avoided/hosts/{each.id}", msgspec.json.encode(each), number, leased=False)
        for number, each in enumerate(records)
    ]
    await tables.take(Batch(whole, tuple(entries)))
    assert (avoided.of_host("a"), avoided.of_host("b")) == ((own,), (foreign,))


async def test_a_name_keeps_an_address_that_its_container_has_already() -> None:
    """One of two is another one this time: the row is its own all the same."""
    tables = Tables(MemoryStore(), MemoryStore())
    names = RememberedNames(tables, Avoided(), "a")
    before = RememberedRecord(
        network="n", name="web", space="s", address="10.8.0.2", address6="fd08::2", host="a", at=0
    )
    assert await names.own(before)
    asked = AddressRecord(
        space="s", subnet="10.8.0.0/24", address="10.8.0.2", kind="reserved", host="a", incarnation="r", at=0
    )
    await tables.addresses.create(asked, "s", "10.8.0.2")
    now = msgspec.structs.replace(before, address6="fd08::3")
    assert await names.own(now)
    assert names.rows() == [now]


def test_an_address_of_networks_is_nobodys_choice_once_its_container_is_gone() -> None:
    """The network asked for it; what its container's user chose ends with the container."""
    claim = NetworkClaim(kind="gateway", network="n1", host="b")
    held = AddressRecord(
        space="s",
        subnet="10.8.0.0/24",
        address="10.8.0.1",
        kind="endpoint",
        network="n1",
        endpoint="e1",
        host="a",
        incarnation="r",
        at=0,
        static=True,
        sharers=[claim],
    )
    left = without_container(held)
    assert left
    assert (left.kind, left.host, left.endpoint, left.static, left.asked) == ("gateway", "b", "", False, True)


async def test_a_static_address_that_another_host_remembers_is_remembered_by_the_last_one() -> None:
    """It would be forgotten with that host."""
    store = MemoryStore()
    released = AddressRecord(
        space="s",
        subnet="10.8.0.0/24",
        address="10.8.0.2",
        kind="endpoint",
        network="n",
        endpoint="e",
        host="a",
        incarnation="r",
        at=0,
        static=True,
    )
    tables = AvoidedTables(Tables(store, store), Avoided(), "a")
    other = StaticAddressRecord(space="s", address="10.8.0.2", host="b", at=time.time())
    entry = await store.create("avoided/static/s/010.008.000.002", msgspec.json.encode(other))
    assert entry
    await tables.take(Batch(True, (entry,)))
    await tables.remember(released)
    assert [each.host for each in tables.static()] == ["a"]
    assert [row.record.host for row in await Tables(store, store).static_addresses.scan()] == ["a"]


async def test_a_name_that_was_used_again_meanwhile_is_not_forgotten() -> None:
    """Whoever wants to forget it has seen an older row."""
    tables = Tables(MemoryStore(), MemoryStore())
    names = RememberedNames(tables, Avoided(), "a")
    seen = RememberedRecord(network="n", name="web", space="s", address="10.8.0.2", host="a", at=0)
    assert await names.own(seen)
    await names.touch(seen, 5)
    await names.expire(seen)
    assert [each.at for each in names.rows()] == [5]
    await names.expire(names.rows()[0])
    assert names.rows() == []
