"""The table of addresses: a subnet is read by itself, and what is under another key is left alone."""

import asyncio
from ipaddress import ip_network

import msgspec
import pytest

from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import AddressRecord
from macvlan_global.store.table import Tables


class Counting(MemoryStore):
    """A store that counts the entries it gives."""

    given = 0

    async def scan(self, prefix: str) -> list[Entry]:
        """As always."""
        found = await super().scan(prefix)
        self.given += len(found)
        return found


def record(address: str, space: str = "s", subnet: str = "10.0.0.0/8") -> AddressRecord:
    """A reservation."""
    return AddressRecord(space=space, subnet=subnet, address=address, kind="reserved", host="h", incarnation="r", at=0)


ADDRESSES = (
    *("10.8.0.0", "10.8.0.9", "10.8.0.127", "10.8.0.128", "10.8.1.0", "10.80.0.9", "0.0.0.1"),
    *("fd00::9", "fd00::1:9"),
)


@pytest.fixture
async def tables() -> Tables:
    """Some addresses of two spaces."""
    tables = Tables(Counting(), MemoryStore())
    for address in ADDRESSES:
        for space in ("s", "s2"):
            subnet = "fd00::/64" if ":" in address else "10.0.0.0/8"
            await tables.addresses.create(record(address, space, subnet), space, address)
    return tables


@pytest.mark.parametrize(
    ("subnet", "held"),
    [
        ("10.8.0.0/24", ["10.8.0.0", "10.8.0.9", "10.8.0.127", "10.8.0.128"]),
        ("10.8.0.0/25", ["10.8.0.0", "10.8.0.9", "10.8.0.127"]),
        ("10.8.0.0/23", ["10.8.0.0", "10.8.0.9", "10.8.0.127", "10.8.0.128", "10.8.1.0"]),
        ("10.8.0.9/32", ["10.8.0.9"]),
        ("0.0.0.0/0", [each for each in sorted(ADDRESSES, key=len) if ":" not in each]),
        ("fd00::/112", ["fd00::9"]),
        ("fd00::/64", ["fd00::9", "fd00::1:9"]),
        ("::/0", ["fd00::9", "fd00::1:9"]),
        ("192.168.1.0/24", []),
    ],
)
async def test_a_subnet_is_read_by_itself(tables: Tables, subnet: str, held: list[str]) -> None:
    """All of its addresses, those of one space and one family, and none besides."""
    rows = await tables.addresses.scan_within("s", ip_network(subnet))
    assert sorted(row.record.address for row in rows) == sorted(held)
    assert {row.record.space for row in rows} <= {"s"}


async def test_no_row_of_another_subnet_is_read() -> None:
    """That is what the keys are for: its cost does not grow with the others."""
    store = Counting()
    tables = Tables(store, MemoryStore())
    for number in range(200):
        await tables.addresses.create(record(f"10.8.{number}.9"), "s", f"10.8.{number}.9")
    assert len(await tables.addresses.scan_within("s", ip_network("10.8.64.0/21"))) == 8
    assert store.given == 8


@pytest.mark.parametrize(
    "key", ["10.8.0.9", "010.008.000.010", "010.008.000.009x", "010.008.000.009/x", "010.008.000.09"]
)
async def test_what_is_under_another_key_is_left_alone(key: str) -> None:
    """As an older version wrote it, and as a hand mistypes it."""
    store = MemoryStore()
    tables = Tables(store, MemoryStore())
    await store.create(f"addresses/s/{key}", msgspec.json.encode(record("10.8.0.9")))
    assert await tables.addresses.scan() == await tables.addresses.scan_within("s", ip_network("10.8.0.0/24")) == []
    assert await tables.addresses.unreadable() == [f"addresses/s/{key}"]


async def test_another_spelling_is_the_same_address() -> None:
    """Names of containers may be written by others; what they say is looked up all the same."""
    tables = Tables(MemoryStore(), MemoryStore())
    await tables.addresses.create(record("fd00::9", subnet="fd00::/64"), "s", "fd00::9")
    assert await tables.addresses.get("s", "FD00:0::0009") == await tables.addresses.get("s", "fd00::9") is not None
    with pytest.raises(ValueError, match="zz"):
        await tables.addresses.get("s", "zz")


async def test_parts_of_a_subnet_are_asked_for_side_by_side() -> None:
    """The time of one answer, and not of eleven: none comes before all were asked for."""
    asked, all_asked = 0, asyncio.Event()

    class Slow(MemoryStore):
        async def scan(self, prefix: str) -> list[Entry]:
            nonlocal asked
            asked += 1
            if asked == 11:
                all_asked.set()
            await all_asked.wait()
            return await super().scan(prefix)

    async with asyncio.timeout(10):
        assert await Tables(Slow(), MemoryStore()).addresses.scan_within("s", ip_network("10.0.0.0/17")) == []
