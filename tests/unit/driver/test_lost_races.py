"""A record that changes while a request changes it too: both changes hold."""

import msgspec
import pytest

from macvlan_global.driver.requests import EndpointRequest
from macvlan_global.errors import Conflict
from macvlan_global.kernel.ports import MacvlanSpec
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Entry
from testkit.fake_engine import Subnet, engine_id
from testkit.rig import Rig

A, B, E1 = engine_id("a"), engine_id("b"), engine_id("e1")


class RivalStore(MemoryStore):
    """A store in which somebody else is faster: before each first `replace` of a key, `rival` changes its record."""

    def __init__(self) -> None:
        """No rival yet."""
        super().__init__()
        self.rival: dict[str, str] = {}
        self.races = 0
        self._met: set[str] = set()

    def let_in(self, **fields: str) -> None:
        """From now on the rival writes these fields, once for each key that has them."""
        self.rival = fields
        self._met.clear()

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """Let the rival go first."""
        record = msgspec.json.decode(entry.value)
        if self.rival and entry.key not in self._met and self.rival.keys() <= record.keys():
            self._met.add(entry.key)
            self.races += 1
            await super().replace(entry, msgspec.json.encode(record | self.rival))
        return await super().replace(entry, value)


async def _rig() -> tuple[Rig, RivalStore]:
    disk = RivalStore()
    rig = await Rig.build("eth0", "eth1", disk=disk)
    return rig, disk


async def test_a_network_that_is_named_while_it_moves_is_on_its_new_parent() -> None:
    """So the removal of another network does not take that parent away under a running container."""
    rig, disk = await _rig()
    await rig.engine.create_network("a", Subnet("10.0.0.0/24"), options={"parent": "eth1.10,eth0.20"})
    await rig.engine.create_network("b", Subnet("10.1.0.0/24"), options={"parent": "eth0.20"})
    await rig.kernel.delete("eth1")
    disk.let_in(name="a")
    container = await rig.engine.run("web", "a")
    network = await rig.driver.networks.get(A)
    assert disk.races
    assert (network.name, network.parent) == ("a", "eth0.20")
    await rig.engine.remove_network("b")
    assert "eth0.20" in rig.kernel.hosted
    assert rig.kernel.sandboxed[container.sandbox]


async def test_a_network_that_moves_while_it_is_named_is_on_its_new_parent() -> None:
    """The name is written to the record that the move left."""
    rig, disk = await _rig()
    await rig.engine.create_network("a", Subnet("10.0.0.0/24"), options={"parent": "eth0.20"})
    disk.let_in(parent="eth1.10")
    await rig.driver.networks.name(A, "lan")
    network = await rig.driver.networks.get(A)
    assert disk.races == 1
    assert (network.name, network.parent) == ("lan", "eth1.10")


async def test_a_network_that_is_named_while_it_is_created_keeps_its_name() -> None:
    """The record is written twice: before and after its pools are claimed."""
    rig, disk = await _rig()
    disk.let_in(name="a")
    await rig.engine.create_network("a", Subnet("10.0.0.0/24"), options={"parent": "eth0.20"})
    network = await rig.driver.networks.get(A)
    assert disk.races
    assert (network.name, [each.subnet for each in network.subnets]) == ("a", ["10.0.0.0/24"])


async def _endpoint(rig: Rig) -> None:
    await rig.engine.create_network("a", Subnet("10.0.0.0/24"), options={"parent": "eth0"})
    await rig.driver.endpoints.create(EndpointRequest.read(A, E1, mac="02:00:00:00:00:01"))


async def test_an_endpoint_whose_container_is_named_while_it_joins_has_its_sandbox() -> None:
    """And the name."""
    rig, disk = await _rig()
    await _endpoint(rig)
    disk.let_in(container="web")
    await rig.driver.endpoints.join(A, E1, "/netns/c1")
    endpoint = await rig.driver.endpoints.get(A, E1)
    assert disk.races == 1
    assert (endpoint.container, endpoint.sandbox, endpoint.parent) == ("web", "/netns/c1", "eth0")


async def test_an_endpoint_whose_container_is_named_while_its_join_fails_keeps_the_name() -> None:
    """Only the fields of the join are undone."""
    rig, disk = await _rig()
    await _endpoint(rig)
    await rig.kernel.add_macvlan(MacvlanSpec("other", "eth0", "bridge", "02:00:00:00:00:01", 0))
    await rig.kernel.set_up("other")
    disk.let_in(container="web")
    with pytest.raises(Conflict):
        await rig.driver.endpoints.join(A, E1, "/netns/c1")
    endpoint = await rig.driver.endpoints.get(A, E1)
    assert (endpoint.container, endpoint.sandbox, endpoint.parent) == ("web", "", "")
