"""Names that nobody in his right mind has."""

import pytest
from msgspec import structs

from macvlan_global.dns.publish.publisher import Publisher
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.records import NameRecord, PortRecord
from macvlan_global.store.table import Tables
from tests.unit.dns.names import ask, key, knowing, record

ODD = ("", ".", "a..b", "*", "a\nb", "x" * 300, "localhost", "ÄÖ", "\0", "1.0.65.10.in-addr.arpa", "_80._tcp.x", " ")
ADDRESSES = ("not an address", "fe80::1%eth0", "10.65.0.1/24", "fd00::1", "0", "::ffff:10.65.0.1", "9" * 400)


@pytest.mark.parametrize("address", ADDRESSES)
def test_odd_records_are_no_trouble_to_the_others(address: str) -> None:
    """They come, are asked for in every way, change and go; who is beside them is found."""
    odd = structs.replace(
        record(1, *ODD, "odd"),
        address=address,
        address6=address,
        ports=[PortRecord(port=99999), PortRecord(port=-1, protocol="\n")],
    )
    cache = knowing(odd, record(2, "web"))
    for name in ("odd", "web", "_99999._tcp.odd", "odd.lan"):
        for kind in ("A", "AAAA", "SRV", "ANY"):
            ask(cache, name, kind)
    assert [each.to_text() for each in ask(cache, "web").answer[0]] == ["10.65.0.2"]
    cache.update(deleted=[key(odd), key(record(2))])
    assert len(cache) == 0


async def test_junk_below_our_own_names_is_replaced_or_goes() -> None:
    """Nobody else writes there. What a newer version wrote stays."""
    store = MemoryStore()
    tables = Tables(store, MemoryStore())
    names = tables.names
    one = record(1, "web")
    below = f"names/{one.network}/h1"
    await store.create(key(one), b"junk")
    await store.create(f"{below}/gone", b"junk")
    await store.create(f"{below}/newer", b'{"v":2}')

    async def read() -> list[NameRecord]:
        return [one]

    await Publisher(tables, "h1").compare(read)
    assert [row.record.names[0] for row in await names.scan()] == ["web"]
    assert await names.unreadable() == [f"{below}/newer"]
