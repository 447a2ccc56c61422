"""Endpoints are found by id and by sandbox without a scan."""

import pytest

from macvlan_global.driver.endpoint_table import EndpointCounts, EndpointTable
from macvlan_global.driver.requests import EndpointRequest
from macvlan_global.errors import NotFound
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from macvlan_global.store.records import EndpointRecord
from macvlan_global.store.table import Table
from testkit.fake_engine import Subnet, engine_id
from testkit.rig import Rig


class ScannedStore(MemoryStore):
    """Counts its scans."""

    def __init__(self) -> None:
        """Empty, and nothing counted."""
        super().__init__()
        self.scans: list[str] = []

    async def scan(self, prefix: str) -> list[Entry]:
        """As any store."""
        self.scans.append(prefix)
        return await super().scan(prefix)


def _record(network: str, endpoint: str, sandbox: str = "") -> EndpointRecord:
    return EndpointRecord(network=network, id=endpoint, mac="m", link="l", sandbox=sandbox, boot="b", at=1.0)


async def _ids(endpoints: EndpointTable, sandbox: str) -> list[str]:
    return [each.id for each in await endpoints.in_sandbox(sandbox)]


async def _table(store: MemoryStore, *records: EndpointRecord) -> Table[EndpointRecord]:
    table = Table(store, "endpoints", EndpointRecord)
    for each in records:
        await table.put(each, each.network, each.id)
    return table


async def test_what_an_earlier_run_wrote_is_found_after_one_scan() -> None:
    """Each further question reads the rows that it is about, and no others."""
    store = ScannedStore()
    endpoints = EndpointTable(
        await _table(store, _record("n1", "e1", "/a"), _record("n2", "e2", "/a"), _record("n1", "e3"))
    )
    for _ in range(3):
        row = await endpoints.find("e2")
        assert row is not None
        assert row.network == "n2"
        assert await _ids(endpoints, "/a") == ["e1", "e2"]
        assert await endpoints.find("e4") is None
    assert store.scans == ["endpoints/"]


async def test_what_is_written_later_is_found_where_it_is_now() -> None:
    """An endpoint that joined another sandbox is in that one only."""
    table = await _table(MemoryStore(), _record("n1", "e1", "/a"))
    endpoints = EndpointTable(table)
    assert await _ids(endpoints, "/a") == ["e1"]
    await endpoints.change(_record("n1", "e1"), sandbox="/b")
    await endpoints.put(_record("n1", "e2", "/b"))
    assert await _ids(endpoints, "/a") == []
    assert await _ids(endpoints, "/b") == ["e1", "e2"]


async def test_a_write_that_never_happened_is_not_found() -> None:
    """The index names a row, and only the table says that it is there."""
    endpoints = EndpointTable(await _table(MemoryStore()))
    with pytest.raises(NotFound, match="endpoint e1"):
        await endpoints.change(_record("n1", "e1"), sandbox="/a")
    assert await endpoints.find("e1") is None
    assert await _ids(endpoints, "/a") == []


async def test_a_deleted_endpoint_is_forgotten() -> None:
    """Also one that others share the sandbox with."""
    table = await _table(MemoryStore(), _record("n1", "e1", "/a"), _record("n1", "e2", "/a"))
    endpoints = EndpointTable(table)
    assert await _ids(endpoints, "/a") == ["e1", "e2"]
    await endpoints.drop(_record("n1", "e1", "/a"))
    assert await endpoints.find("e1") is None
    assert await _ids(endpoints, "/a") == ["e2"]


async def test_the_end_of_a_container_scans_nothing() -> None:
    """Leave and DeleteEndpoint read the rows of their network and endpoint, however many there are."""
    store = ScannedStore()
    rig = await Rig.build("eth0", disk=store)
    await rig.engine.create_network("n1", Subnet("192.168.1.0/24"), options={"parent": "eth0"})
    network, endpoint = engine_id("n1"), engine_id("e1")
    await rig.driver.ipam.request_address("macvlan-global/192.168.1.0/24", "192.168.1.9")
    await rig.driver.endpoints.create(EndpointRequest.read(network, endpoint, "192.168.1.9/24"))
    await rig.driver.endpoints.join(network, endpoint, "/netns/c1")
    store.scans.clear()
    await rig.driver.endpoints.leave(network, endpoint)
    await rig.driver.endpoints.delete(network, endpoint)
    assert store.scans == []


async def test_endpoints_are_counted_by_network_as_they_come_and_go() -> None:
    """By family and attach mode; those that an earlier run left leaving are none, and each is counted once."""
    leaving = EndpointRecord(network="n1", id="e9", mac="m", link="l", boot="b", at=1.0, state="leaving")
    table = await _table(MemoryStore(), _record("n1", "e1", "/a"), leaving)
    endpoints = EndpointTable(table)
    await endpoints.load()
    assert endpoints.counts("n1") == EndpointCounts(endpoints=1, plain=1)
    second = EndpointRecord(
        network="n1", id="e2", address="10.8.0.2", address6="fd08::2", mac="m", link="l", boot="b", at=1.0
    )
    await endpoints.put(second)
    await endpoints.put(second)
    assert endpoints.counts("n1") == EndpointCounts(endpoints=2, ipv4=1, ipv6=1, plain=1)
    second = await endpoints.change(second, sandbox="/b", attach="direct")
    assert endpoints.counts("n1") == EndpointCounts(endpoints=2, ipv4=1, ipv6=1, plain=1, direct=1)
    await table.change("n1", "e2", state="leaving")
    await endpoints.change(second, container="late")
    await endpoints.drop(_record("n1", "e1", "/a"))
    assert endpoints.counts("n1") == EndpointCounts()
    with pytest.raises(NotFound):
        await endpoints.change(_record("n1", "e3"), container="never there")
    assert endpoints.counts("n1") == EndpointCounts()
