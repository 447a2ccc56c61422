"""An engine whose data are put back from an older copy, while the driver runs and while it does not."""

import asyncio
import logging

import pytest

from macvlan_global.engine.ports import NetworkEvent
from macvlan_global.errors import Conflict
from macvlan_global.replication.decide import LOST_SECONDS
from macvlan_global.replication.definition import cluster_id
from macvlan_global.replication.replicator import RESYNC_SECONDS
from macvlan_global.replication.seen import SeenNetworks
from testkit.cluster_rig import ClusterRig
from testkit.fake_clock import FakeClock
from tests.unit.replication.test_replicator import Pair, Site, pair, settled, until

__all__ = ["pair"]
pytestmark = pytest.mark.virtual_time


async def _shared(pair: Pair, *names: str) -> dict[str, str]:
    """Networks that a made long ago and b has too: their ids."""
    made = {name: await pair.a.create(name, f"10.{8 + n}.0.0/24") for n, name in enumerate(names)}
    await until(lambda: all(pair.b.engine.has(name) for name in names), "the networks on b")
    await settled(pair.a, pair.b)
    pair.rig.clock.advance(120)
    return made


async def _a_while_later(pair: Pair, site: Site) -> None:
    """Long enough for what is missing to count as lost, or as removed."""
    await site.replicator.on_engine_up()
    await asyncio.sleep(RESYNC_SECONDS)
    pair.rig.clock.advance(LOST_SECONDS)
    await asyncio.sleep(RESYNC_SECONDS)
    await settled(pair.a, pair.b)


@pytest.mark.parametrize("publisher", ["a", "b"])
async def test_what_the_copy_lacks_is_made_again(pair: Pair, publisher: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each network, whoever published it, and none is removed anywhere; the log names them."""
    made = await _shared(pair, "lan", "dmz")
    site, other = (pair.a, pair.b) if publisher == "a" else (pair.b, pair.a)
    there = [other.engine.id_of(name) for name in made]
    for name in made:
        site.engine.forget_network(name)
    await _a_while_later(pair, site)
    assert {name: cluster_id(found) for name in made if (found := site.engine.has(name))} == made
    assert [other.engine.id_of(name) for name in made] == there
    assert await site.tables.removed.scan() == []
    ids = {each.id for each in await site.engine.every_network()}
    assert {row.record.id for row in await site.tables.networks.scan()} == ids
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    for name in made:
        text = f"the engine has lost network {name}, which the cluster has; it is made again; if you removed it, "
        assert warnings.count(f"{text}remove it again: docker network rm {name}") == 1


async def test_what_is_made_again_can_be_lost_again_and_removed(pair: Pair) -> None:
    """Nothing of the first time is left that decides the next."""
    await _shared(pair, "lan")
    for _ in range(2):
        pair.a.engine.forget_network("lan")
        await _a_while_later(pair, pair.a)
        assert pair.a.engine.has("lan")
        pair.rig.clock.advance(120)
    await pair.a.engine.remove_network("lan")
    await until(lambda: not pair.b.engine.has("lan"), "the removal on b")


async def test_a_removal_whose_deletion_fails_is_none_the_less_one(pair: Pair) -> None:
    """The villain is the kernel: it refuses to delete the link of a container that has gone unseen. The engine drops
    the network all the same, and neither its event nor another request of it is needed."""
    await _shared(pair, "lan")
    await pair.a.engine.run("web", "lan")
    pair.a.engine.forget("web")
    pair.a.host.kernel.failing["delete"] = Conflict("device or resource busy")
    with pytest.raises(Conflict):
        await pair.a.host.plugin.call("NetworkDriver.DeleteNetwork", NetworkID=pair.a.engine.id_of("lan"))
    pair.a.engine.forget_network("lan")
    await _a_while_later(pair, pair.a)
    assert not pair.a.engine.has("lan")
    assert not pair.b.engine.has("lan")


async def test_a_removal_that_only_the_event_tells_is_one(pair: Pair) -> None:
    """The engine could not reach the driver, which runs."""
    await _shared(pair, "lan")
    network = pair.a.engine.id_of("lan")
    pair.a.engine.forget_network("lan")
    pair.a.replicator.on_network_event(NetworkEvent("destroy", network, "lan"))
    await _a_while_later(pair, pair.a)
    assert not pair.a.engine.has("lan")
    assert not pair.b.engine.has("lan")


async def test_a_deletion_that_comes_late_is_a_removal(pair: Pair) -> None:
    """The engine lists the network no longer, and its request is on the way."""
    await _shared(pair, "lan")
    network = pair.a.engine.id_of("lan")
    pair.a.engine.forget_network("lan")
    await pair.a.replicator.on_engine_up()
    await asyncio.sleep(RESYNC_SECONDS)
    pair.rig.clock.advance(LOST_SECONDS - 1)
    await pair.a.host.plugin.call("NetworkDriver.DeleteNetwork", NetworkID=network)
    await until(lambda: not pair.b.engine.has("lan"), "the removal on b")
    await _a_while_later(pair, pair.a)
    assert not pair.a.engine.has("lan")


async def test_a_removal_while_the_store_is_away_is_one() -> None:
    """It is remembered on the disk, and told later."""
    rig = await ClusterRig.build(new_ids=True)
    site = await Site.build("a", rig.shared.client(), rig)
    async with site.runs():
        await site.create("lan")
        await until(site.replicator.defined, "the definition")
        await settled(site)
        rig.clock.advance(120)
        site.host.faults.away = True
        await site.engine.remove_network("lan")
        await asyncio.sleep(RESYNC_SECONDS)
        rig.clock.advance(LOST_SECONDS)
        await asyncio.sleep(RESYNC_SECONDS)
        assert not site.engine.has("lan")
        assert [row.record.kind for row in await site.tables.pending.scan()] == ["removal"]


async def test_what_this_run_did_not_see_was_removed() -> None:
    """The driver was restarted too: nobody knows, and the operator may have removed it."""
    rig = await ClusterRig.build(new_ids=True)
    site = await Site.build("a", rig.shared.client(), rig)
    async with site.runs():
        await site.create("lan")
        await until(site.replicator.defined, "the definition")
        await settled(site)
    rig.clock.advance(120)
    site.engine.forget_network("lan")
    site.restart()
    async with site.runs():
        await until(lambda: site.replicator.actions["WriteTombstone", "applied"], "the removal")
        assert not site.engine.has("lan")


def test_networks_without_a_record_are_forgotten() -> None:
    """Also what was told of them: there are never more than this host has networks."""
    clock, ending = FakeClock(0), {"c"}
    seen = SeenNetworks(ending.__contains__, clock)
    for each in ("a", "b", "c"):
        seen.saw(each)
    seen.ended("b")
    seen.saw("b")  # by a list that was asked for before
    assert [seen.lost_for(each) for each in ("a", "b", "c", "d")] == [0, None, None, None]
    clock.advance(5)
    assert seen.lost_for("a") == 5
    seen.saw("a")
    assert seen.lost_for("a") == 0
    seen.keep({"b"})
    seen.keep({"a", "b"})
    assert [seen.lost_for(each) for each in ("a", "b")] == [None, None]
