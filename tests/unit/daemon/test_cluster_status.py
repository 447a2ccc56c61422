"""`status` in a cluster, as monitoring asks for it every few seconds: it does not read what hosts share."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from macvlan_global.store.layout import StoreLayout
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import AddressRecord, NameRecord
from macvlan_global.store.table import Tables
from testkit.faults import Faults, FaultyStore
from tests.unit.running import Running, running, with_networks

OTHERS = 300
NAMELESS = msgspec.json.encode(
    NameRecord(
        network="n" * 64, network_name="lan", endpoint="e" * 64, container="c", names=[], host="z", at=0, address="x"
    )
)


class Counted(FaultyStore):
    """A store in front of another one that counts what is read."""

    def __init__(self, inner: MemoryStore, faults: Faults) -> None:
        """Nothing was read yet."""
        super().__init__(inner, faults)
        self.read: Counter[str] = Counter()

    async def get(self, key: str) -> Entry | None:
        """As always."""
        self.read["get"] += 1
        return await super().get(key)

    async def scan(self, prefix: str) -> list[Entry]:
        """As always."""
        self.read[prefix] += 1
        return await super().scan(prefix)


async def _populated() -> MemoryStore:
    store = MemoryStore()
    tables = Tables(store, store)
    for number in range(OTHERS):
        address = f"10.99.{number // 200}.{number % 200 + 1}"
        record = AddressRecord(
            space="s", subnet="10.99.0.0/16", address=address, kind="reserved", host="z", incarnation="r", at=0
        )
        await store.create(tables.addresses.key("s", address), msgspec.json.encode(record))
    return store


async def _asked(daemon: Running, store: Counted) -> tuple[dict[str, Any], Counter[str]]:
    """What `status` says, and what was read meanwhile. Repair and watches read too, at times of their own: of several
    times it is the one with the fewest reads."""
    asked = []
    for _ in range(20):
        before = store.read.copy()
        found = (await daemon.cli("status", "--json")).json
        asked.append((found, store.read - before))
    return min(asked, key=lambda each: each[1].total())


async def test_status_reads_one_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its addresses are those of this host's containers; that the store is away is a problem of its own."""
    faults = Faults()
    store = Counted(await _populated(), faults)
    async with running(tmp_path, capsys, shared=store) as daemon:
        await with_networks(daemon)
        found, done = await _asked(daemon, store)
        assert (found["endpoints"], found["addresses"], found["store_problem"]) == (1, 1, "")
        assert [each for each in done if each.startswith(("addresses", "names", "pools", "definitions"))] == []
        assert done["get"] <= 3
        faults.away = True
        found = (await daemon.cli("status", "--json")).json
        assert found["addresses"] == 1
        assert found["store_problem"]
        faults.away = False


async def test_records_that_cannot_be_read_are_named_once_they_were_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until they can be read, or are gone."""
    store = MemoryStore()
    await StoreLayout(store).check()
    for key in ("pools/s/bad", "removed/bad", "hosts/bad"):
        await store.create(key, b"{}")
    async with running(tmp_path, capsys, shared=store.client()) as daemon:
        assert set((await daemon.cli("status", "--json")).json["foreign_records"]) >= {"pools/s/bad", "removed/bad"}
        for key in ("pools/s/bad", "removed/bad"):
            entry = await store.get(key)
            assert entry
            await store.delete(entry)
        assert not {"pools/s/bad", "removed/bad"} & set((await daemon.cli("status", "--json")).json["foreign_records"])


@pytest.mark.parametrize("name", [b'{"v": 9}', b"junk", NAMELESS], ids=["newer", "junk", "nameless"])
async def test_a_name_of_another_host_that_cannot_be_used_hides_no_address(
    name: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newer driver wrote it, or somebody who should not: the holder is shown by its id."""
    store = MemoryStore()
    tables = Tables(store, store)
    record = AddressRecord(
        space="s",
        subnet="10.99.0.0/16",
        address="10.99.0.9",
        kind="endpoint",
        network="n" * 64,
        endpoint="e" * 64,
        host="z",
        incarnation="r",
        at=0,
    )
    await store.create(tables.addresses.key("s", "10.99.0.9"), msgspec.json.encode(record))
    await store.create(tables.names.key(record.network, record.host, record.endpoint), name)
    async with running(tmp_path, capsys, shared=store.client()) as daemon:
        (found,) = (await daemon.cli("addresses", "--json")).json
    assert (found["address"], found["holder"]) == ("10.99.0.9", "e" * 12)
