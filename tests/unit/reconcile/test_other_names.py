"""Networks of ours that the engine shows under another name of their driver than `driver_name`."""

from dataclasses import replace

from macvlan_global.engine.ports import EngineNetwork
from macvlan_global.reconcile.apply import Reconciler
from testkit.fake_engine import Subnet
from testkit.rig import Rig

CALLED = "macvlan-global:latest"


async def _misnamed(rig: Rig) -> EngineNetwork:
    """A network that the driver was asked for, by a name that is not that of its configuration."""
    await rig.engine.create_network("lan", Subnet("10.8.0.0/24", gateway="10.8.0.1"), options={"parent": "eth0.7"})
    made = rig.engine.has("lan")
    assert made
    return replace(made, driver=CALLED, ipam_driver=CALLED)


async def test_a_network_that_the_engine_shows_under_another_name_is_kept() -> None:
    """It has its record, pool and parent after a repair, which tells the name to set; its containers start."""
    rig = await Rig.build()
    rig.engine.learn(await _misnamed(rig))
    before = await rig.snapshot()
    reconciler = Reconciler(rig.driver, grace=0, now=rig.clock)
    assert await reconciler.reconcile(rig.engine) == []
    assert await rig.snapshot() == before
    (problem,) = reconciler.problems
    assert f"calls the driver of network lan {CALLED}" in problem
    assert f"set driver_name to {CALLED}" in problem
    assert await rig.driver.ipam.request_address("macvlan-global/10.8.0.0/24", "") == "10.8.0.2/24"


async def test_a_container_on_it_keeps_what_it_has() -> None:
    """The engine is asked for its endpoints as for those of other networks of ours; with the right name all is well."""
    rig = await Rig.build()
    network = await _misnamed(rig)
    await rig.engine.run("web", "lan")
    running = rig.engine.has("lan")
    assert running
    rig.engine.learn(replace(network, endpoints=running.endpoints))
    before = await rig.snapshot()
    reconciler = Reconciler(rig.driver, grace=0, now=rig.clock)
    assert await reconciler.reconcile(rig.engine) == []
    assert await rig.snapshot() == before
    rig.engine.learn(running)
    assert await reconciler.reconcile(rig.engine) == []
    assert reconciler.problems == []


async def test_a_network_that_is_under_no_name_goes() -> None:
    """It was removed while the driver was down: nothing else is left of it."""
    rig = await Rig.build()
    await _misnamed(rig)
    rig.engine.forget_network("lan")
    await rig.mend()
    assert await rig.driver.networks.all() == []
    assert await rig.driver.pools.all() == []


async def test_a_network_without_records_is_not_taken_for_ours() -> None:
    """Only the request that made it proves whose it is."""
    rig = await Rig.build()
    await rig.engine.create_network("theirs", driver=CALLED)
    reconciler = Reconciler(rig.driver, grace=0, now=rig.clock)
    assert await reconciler.reconcile(rig.engine) == []
    assert reconciler.problems == []
