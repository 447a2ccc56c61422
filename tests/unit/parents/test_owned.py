"""Links that we make: written down first, made, and taken away when nothing uses them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from macvlan_global.errors import Conflict, Invalid, NotFound, Unavailable
from macvlan_global.kernel.ports import MacvlanSpec
from macvlan_global.parents.owned import OwnedParents
from macvlan_global.parents.rules import Parent
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.table import Tables
from testkit.fake_kernel import FakeKernel

pytestmark = pytest.mark.virtual_time

VLAN = Parent("vlan", "eth0.10", master="eth0", vlan_id=10)
DUMMY = Parent("dummy", "dm-0123456789ab")
ETH0 = Parent("existing", "eth0")


@pytest.fixture
def kernel() -> FakeKernel:
    """A host with eth0."""
    return FakeKernel("eth0")


@pytest.fixture
def owned(kernel: FakeKernel) -> OwnedParents:
    """Nothing made yet."""
    return OwnedParents(kernel, Tables(MemoryStore(), MemoryStore()).links)


@pytest.mark.parametrize("parent", [VLAN, DUMMY])
async def test_a_parent_is_made_up_and_owned_then_removed(
    kernel: FakeKernel, owned: OwnedParents, parent: Parent
) -> None:
    """And removing it again is nothing."""
    assert await owned.ensure(parent)
    assert kernel.hosted[parent.name].up
    assert list(await owned.owned()) == [parent.name]
    assert await owned.remove(parent.name)
    assert not await owned.remove(parent.name)
    assert parent.name not in kernel.hosted
    assert await owned.owned() == {}


async def test_ensuring_twice_makes_one(kernel: FakeKernel, owned: OwnedParents) -> None:
    """The second time nothing is made."""
    assert await owned.ensure(VLAN)
    assert not await owned.ensure(VLAN)


async def test_what_was_there_before_is_not_ours_and_never_removed(kernel: FakeKernel, owned: OwnedParents) -> None:
    """Nor set up."""
    await kernel.add_vlan("eth0.10", "eth0", 10)
    assert not await owned.ensure(VLAN)
    assert not await owned.ensure(ETH0)
    assert not await owned.remove("eth0.10")
    assert not await owned.remove("eth0")
    assert {"eth0", "eth0.10"} <= set(kernel.hosted)
    assert not kernel.hosted["eth0.10"].up


async def test_a_parent_of_ours_that_is_down_is_set_up(kernel: FakeKernel, owned: OwnedParents) -> None:
    """By ensuring it."""
    await owned.ensure(VLAN)
    await kernel.set_down("eth0.10")
    assert not await owned.ensure(VLAN)
    assert kernel.hosted["eth0.10"].up


async def test_a_parent_that_has_just_gone_is_not_found(kernel: FakeKernel, owned: OwnedParents) -> None:
    """Between the choice and its use."""
    with pytest.raises(NotFound, match="was deleted while it was being used"):
        await owned.ensure(Parent("existing", "eth7"))


async def test_another_link_of_the_same_name_is_left_alone(kernel: FakeKernel, owned: OwnedParents) -> None:
    """Somebody put it in our link's place: it is neither used, nor set up, nor deleted."""
    await owned.ensure(VLAN)
    await kernel.delete("eth0.10")
    await kernel.add_vlan("eth0.10", "eth0", 20)
    with pytest.raises(Conflict, match="not the one that macvlan-global made"):
        await owned.ensure(VLAN)
    assert not kernel.hosted["eth0.10"].up
    assert await owned.remove("eth0.10")
    assert "eth0.10" in kernel.hosted
    assert await owned.owned() == {}


@pytest.mark.parametrize("method", ["add_vlan", "set_up"])
async def test_a_failed_making_leaves_nothing(kernel: FakeKernel, owned: OwnedParents, method: str) -> None:
    """No link, no record."""
    kernel.failing[method] = Unavailable("no")
    with pytest.raises(Unavailable):
        await owned.ensure(VLAN)
    assert "eth0.10" not in kernel.hosted
    assert await owned.owned() == {}


async def test_a_failed_remaking_keeps_the_ownership(kernel: FakeKernel, owned: OwnedParents) -> None:
    """The network that uses it still does; the next try may succeed."""
    await owned.ensure(VLAN)
    await kernel.delete("eth0.10")
    kernel.failing["add_vlan"] = Unavailable("no")
    with pytest.raises(Unavailable):
        await owned.ensure(VLAN)
    assert list(await owned.owned()) == ["eth0.10"]


async def _fails_to_ensure(owned: OwnedParents, kernel: FakeKernel) -> None:
    kernel.failing["add_vlan"] = Unavailable("no")
    with pytest.raises(Unavailable):
        await owned.ensure(VLAN)


async def _fails_to_restore(owned: OwnedParents, kernel: FakeKernel) -> None:
    kernel.failing["add_vlan"] = Unavailable("no")
    with pytest.raises(Unavailable):
        await owned.restore((await owned.owned())["eth0.10"])


async def _is_broken_off(owned: OwnedParents, kernel: FakeKernel) -> None:
    kernel.failing["add_vlan"] = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await owned.ensure(VLAN)


async def _cannot_take_it_back(owned: OwnedParents, kernel: FakeKernel) -> None:
    kernel.failing |= {"add_vlan": Unavailable("no"), "delete": Unavailable("no")}
    with pytest.raises(Unavailable):
        await owned.ensure(VLAN)


@pytest.mark.parametrize("fails", [_fails_to_ensure, _fails_to_restore, _is_broken_off, _cannot_take_it_back])
@pytest.mark.parametrize("boot", ["boot1", "boot2"])
async def test_what_the_operator_makes_after_a_failed_remaking_is_his(
    kernel: FakeKernel, fails: Callable[[OwnedParents, FakeKernel], Awaitable[None]], boot: str
) -> None:
    """The kernel plays it, and he helps himself: it is not deleted with the network."""
    table = Tables(MemoryStore(), MemoryStore()).links
    await OwnedParents(kernel, table, "boot1").ensure(VLAN)
    await kernel.delete("eth0.10")
    owned = OwnedParents(kernel, table, boot)
    await fails(owned, kernel)
    kernel.add_operators_vlan("eth0.10", "eth0", 10)
    assert not await owned.ensure(VLAN)
    await owned.remove("eth0.10")
    assert "eth0.10" in kernel.hosted
    assert await owned.owned() == {}


@pytest.mark.parametrize("again", [False, True])
async def test_what_is_made_though_its_making_failed_is_ours(kernel: FakeKernel, again: bool) -> None:
    """The kernel plays it: it does not answer, nor the deletion. So it goes with its network, or with a repair."""
    owned = OwnedParents(kernel, Tables(MemoryStore(), MemoryStore()).links, "boot1")
    if again:
        await owned.ensure(VLAN)
        await kernel.delete("eth0.10")
    kernel.failing |= {"set_up": Unavailable("no"), "delete": Unavailable("no")}
    with pytest.raises(Unavailable):
        await owned.ensure(VLAN)
    assert "eth0.10" in kernel.hosted
    assert await owned.remove("eth0.10")
    assert "eth0.10" not in kernel.hosted


async def test_a_lost_link_is_restored_from_its_record(kernel: FakeKernel, owned: OwnedParents) -> None:
    """After a reboot, or a deletion behind our back; a second time there is nothing to do."""
    await owned.ensure(VLAN)
    record = (await owned.owned())["eth0.10"]
    await kernel.delete("eth0.10")
    assert await owned.restore(record)
    assert kernel.hosted["eth0.10"].up
    assert not await owned.restore(record)


async def test_a_link_is_restored_on_the_master_that_has_its_name_now(kernel: FakeKernel) -> None:
    """The kernel plays it: at a reboot it numbers the interfaces the other way round, and their alternative names stay
    with them. Where such a name is gone, the master is the one of before."""
    table = Tables(MemoryStore(), MemoryStore()).links
    kernel.add_device("eth1")
    kernel.altnames["lan"] = "eth0"
    await OwnedParents(kernel, table, "boot0").ensure(Parent("vlan", "lan.10", master="eth0", vlan_id=10))
    for boot, altnames in (("boot1", {"lan": "eth1"}), ("boot2", {})):
        await kernel.delete("lan.10")
        kernel.altnames = dict(altnames)
        owned = OwnedParents(kernel, table, boot)
        assert await owned.restore((await owned.owned())["lan.10"])
        assert kernel.hosted["lan.10"].lower == kernel.hosted["eth1"].index
        assert (await owned.owned())["lan.10"].master == "eth1"


async def test_a_link_whose_master_is_away_cannot_be_restored_now(kernel: FakeKernel, owned: OwnedParents) -> None:
    """The parent appears late: not found, and nothing changes."""
    await owned.ensure(VLAN)
    record = (await owned.owned())["eth0.10"]
    await kernel.delete("eth0")
    with pytest.raises(NotFound):
        await owned.restore(record)
    assert list(await owned.owned()) == ["eth0.10"]


async def test_a_link_that_went_with_its_network_is_not_restored(kernel: FakeKernel, owned: OwnedParents) -> None:
    """The engine plays it: it removed the network after repair had looked."""
    await owned.ensure(VLAN)
    record = (await owned.owned())["eth0.10"]
    await owned.remove("eth0.10")
    assert not await owned.restore(record)
    assert "eth0.10" not in kernel.hosted
    assert await owned.owned() == {}


async def test_a_parent_that_another_link_stands_on_stays(kernel: FakeKernel, owned: OwnedParents) -> None:
    """The kernel would delete that one too; it goes once nothing is on it."""
    await owned.ensure(VLAN)
    await kernel.add_vlan("eth0.10.20", "eth0.10", 20)
    assert not await owned.remove("eth0.10")
    assert {"eth0.10", "eth0.10.20"} <= set(kernel.hosted)
    await kernel.delete("eth0.10.20")
    assert await owned.remove("eth0.10")
    assert "eth0.10" not in kernel.hosted


@pytest.mark.parametrize("parent", [VLAN, DUMMY])
async def test_a_parent_that_a_container_of_another_driver_stands_on_stays(
    kernel: FakeKernel, owned: OwnedParents, parent: Parent
) -> None:
    """Its link is in another namespace; the parent goes with the last of them."""
    await owned.ensure(parent)
    await kernel.add_macvlan(MacvlanSpec("tmp", parent.name, "bridge", "02:00:00:00:00:99"))
    kernel.move("tmp", "/netns/other")
    assert not await owned.remove(parent.name)
    assert kernel.sandboxed["/netns/other"]
    kernel.end_namespace("/netns/other")
    assert await owned.remove(parent.name)
    assert parent.name not in kernel.hosted


async def test_without_a_complete_list_nothing_is_removed(kernel: FakeKernel, owned: OwnedParents) -> None:
    """Links kept changing while they were listed, so whether another one stands on the parent is not known."""
    await owned.ensure(VLAN)
    kernel.failing["upper_of"] = Unavailable("listing links: the list changed while it was read, each time")
    with pytest.raises(Unavailable):
        await owned.remove("eth0.10")
    assert ("eth0.10" in kernel.hosted, list(await owned.owned())) == (True, ["eth0.10"])
    assert await owned.remove("eth0.10")


INNER = Parent("vlan", "eth0.10.20", master="eth0.10", vlan_id=20, below=VLAN)


async def test_a_vlan_in_a_vlan_is_made_with_its_master(kernel: FakeKernel, owned: OwnedParents) -> None:
    """Both are up and ours; the master goes after what stands on it."""
    assert await owned.ensure(INNER)
    assert kernel.hosted["eth0.10"].up
    assert kernel.hosted["eth0.10.20"].lower == kernel.hosted["eth0.10"].index
    assert set(await owned.owned()) == {"eth0.10", "eth0.10.20"}
    assert not await owned.remove("eth0.10")
    assert await owned.remove("eth0.10.20")
    assert await owned.remove("eth0.10")


async def test_a_vlan_in_a_vlan_that_fails_leaves_no_master(kernel: FakeKernel, owned: OwnedParents) -> None:
    """Unless the master was there before."""
    too_long = Parent("vlan", "a-name-too-long.20", master="eth0.10", vlan_id=20, below=VLAN)
    with pytest.raises(Invalid):
        await owned.ensure(too_long)
    assert "eth0.10" not in kernel.hosted
    assert await owned.owned() == {}
    await owned.ensure(VLAN)
    with pytest.raises(Invalid):
        await owned.ensure(too_long)
    assert "eth0.10" in kernel.hosted


async def test_a_vlan_that_came_meanwhile_is_told_by_its_name(kernel: FakeKernel, owned: OwnedParents) -> None:
    """The kernel's EEXIST in words, with the parent to use."""
    await kernel.add_vlan("vlan10", "eth0", 10)
    with pytest.raises(Conflict, match=r"VLAN 10 of eth0 is vlan10 here; use -o parent=vlan10"):
        await owned.ensure(VLAN)
    assert await owned.owned() == {}


async def test_a_vlan_in_another_namespace_is_told_to_be_there(kernel: FakeKernel, owned: OwnedParents) -> None:
    """The kernel has it, and this host does not see it."""
    await kernel.add_vlan("vlan10", "eth0", 10)
    kernel.move("vlan10", "/netns/box")
    with pytest.raises(Conflict, match="look in other network namespaces"):
        await owned.ensure(VLAN)
