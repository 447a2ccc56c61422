"""A scrape: right counts of networks and their pools, from memory, at the cost of the networks alone."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import macvlan_global
from macvlan_global.admin.readings import Readings
from macvlan_global.config import Config
from macvlan_global.errors import Conflict
from macvlan_global.metrics.counts import Metrics
from macvlan_global.metrics.exposition import text_of
from macvlan_global.metrics.samples import Samples
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.engine_follower import EngineFollower
from macvlan_global.store.memory import MemoryStore
from testkit.fake_engine import Subnet
from testkit.rig import Rig

PACKAGE = str(Path(macvlan_global.__file__).parent)
LAN = Subnet("10.8.0.0/22", range="10.8.2.0/23", gateway="10.8.0.1", aux={"router": "10.8.2.9"})


async def _readings(rig: Rig) -> Readings:
    reconciler = Reconciler(rig.driver, grace=60, now=rig.clock)
    follower = EngineFollower(rig.driver, rig.engine, reconciler, Metrics())
    readings = Readings(Config(), rig.driver, follower, Metrics(), {})
    await readings.load()
    return readings


def _pools(samples: Samples, subnet: str) -> dict[str, float]:
    kinds = ("addresses", "held_addresses", "reserved_addresses", "free_addresses", "remembered_addresses")
    found = {}
    for kind in kinds:
        for (_, each), value in samples.of(f"pool_{kind}"):
            if each == subnet and isinstance(value, int | float):
                found[kind.removesuffix("addresses").rstrip("_") or "size"] = value
    return found


async def test_a_pool_is_counted_by_its_range() -> None:
    """Its size, what is held in it by containers and aux addresses, and what is free; the gateway is outside of it."""
    rig = await Rig.build("eth1")
    await rig.engine.create_network("lan", LAN, options={"parent": "eth1"})
    readings = await _readings(rig)
    await rig.engine.run("web", "lan")
    await rig.engine.run("db", "lan", ip="10.8.3.7")
    found = _pools(await readings.read(), LAN.subnet)
    assert found == {"size": 511, "held": 3, "reserved": 0, "free": 508, "remembered": 0}
    await rig.engine.stop("db")
    found = _pools(await readings.read(), LAN.subnet)
    assert (found["held"], found["remembered"]) == (2, 1)  # it cools off, and is kept for whom --ip was


async def test_a_reservation_is_shown_until_it_is_claimed_or_given_back() -> None:
    """An address that was asked for and that no container has yet is held, and reserved."""
    rig = await Rig.build("eth1")
    await rig.engine.create_network("lan", LAN, options={"parent": "eth1"})
    readings = await _readings(rig)
    pool = await rig.driver.pools.find(f"macvlan-global/{LAN.subnet}/{LAN.range}")
    given = [(await rig.driver.addresses.reserve_next(pool)).address for _ in range(2)]
    found = _pools(await readings.read(), LAN.subnet)
    assert (found["held"], found["reserved"]) == (3, 2)
    await rig.driver.addresses.release(pool.record.space, given[0])
    found = _pools(await readings.read(), LAN.subnet)
    assert (found["held"], found["reserved"]) == (2, 1)
    again = await _readings(await Rig.build(disk=rig.disk, kernel=rig.kernel))
    found = _pools(await again.read(), LAN.subnet)
    assert (found["held"], found["reserved"]) == (2, 1)


async def test_endpoints_and_links_are_counted_by_network() -> None:
    """As containers come and go, and the same by a driver that starts anew."""
    rig = await Rig.build("eth1", "eth2")
    for name, subnet, parent in (("lan", LAN, "eth1"), ("dmz", Subnet("10.9.0.0/24"), "eth2")):
        network = await rig.engine.create_network(name, subnet, options={"parent": parent})
        await rig.driver.networks.name(network, name)
    readings = await _readings(rig)
    for number in range(3):
        await rig.engine.run(f"web{number}", "lan")
    await rig.engine.run("later", "lan", join=False)
    await rig.engine.run("other", "dmz")
    await rig.engine.stop("web0")
    for each in (readings, await _readings(await Rig.build(disk=rig.disk, kernel=rig.kernel))):
        samples = await each.read()
        assert dict(samples.of("network_endpoints")) == {("lan",): 3, ("dmz",): 1}
        assert dict(samples.of("network_links"))["lan", "plain"] == 2
        assert dict(samples.of("held"))["endpoints",] == 4
        assert dict(samples.of("network_parent_info")) == {("lan", "eth1"): 1, ("dmz", "eth2"): 1}


async def test_a_network_that_is_gone_is_not_shown() -> None:
    """Neither it nor its pool, parent or endpoints."""
    rig = await Rig.build("eth1")
    await rig.engine.create_network("lan", LAN, options={"parent": "eth1"})
    readings = await _readings(rig)
    await rig.engine.remove_network("lan")
    samples = await readings.read()
    assert [samples.of(each) for each in ("network_endpoints", "pool_addresses", "parent_state")] == [[], [], []]
    assert dict(samples.of("held")) == {("networks",): 0, ("endpoints",): 0, ("addresses",): 0}


async def test_parents_have_one_state() -> None:
    """Up, down or missing as the kernel has them, and unknown if it does not say."""
    rig = await Rig.build("eth1", "eth2", "eth3")
    for name, parent in (("a", "eth1"), ("b", "eth2"), ("c", "eth3")):
        await rig.engine.create_network(name, Subnet(f"10.{ord(name)}.0.0/24"), options={"parent": parent})
    await rig.kernel.set_down("eth2")
    await rig.kernel.delete("eth3")
    readings = await _readings(rig)
    samples = await readings.read()
    states = [labels for labels, value in samples.of("parent_state") if value]
    assert states == [("eth1", "up"), ("eth2", "down"), ("eth3", "missing")]
    rig.faults.away = True
    samples = await readings.read()
    assert [labels[1] for labels, value in samples.of("parent_state") if value] == ["unknown"] * 3


# ------------------------------------------------------------------ its cost


@dataclass
class Lines:
    """Lines of the package that were run."""

    count: int = 0


@contextmanager
def _lines() -> Iterator[Lines]:
    lines = Lines()

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        lines.count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


async def _cost(containers: int) -> tuple[int, int]:
    """Lines that a scrape runs with so many containers, and steps of the store and the kernel's state that it takes."""
    rig = await Rig.build("eth1", disk=MemoryStore())
    await rig.engine.create_network("lan", LAN, options={"parent": "eth1"})
    readings = await _readings(rig)
    for number in range(containers):
        await rig.engine.run(f"web{number}", "lan", ip=f"10.8.0.{2 * number + 3}" if number < 100 else "")
    await readings.read()
    rig.faults.taken.clear()
    with _lines() as lines:
        await readings.read()
    return lines.count, len([each for each in rig.faults.taken if "link" not in each])


async def test_a_scrape_costs_the_same_with_ten_times_as_many_containers() -> None:
    """It visits no row of them and no address, and asks no store."""
    few, many = await _cost(20), await _cost(200)
    assert few[1] == many[1] == 0
    assert many[0] <= few[0] + 20  # of a first scrape, say; 180 containers more are not looked at


async def test_samples_become_text() -> None:
    """What is read is what is described: nothing is refused, and each network has its line."""
    rig = await Rig.build("eth1")
    network = await rig.engine.create_network("lan", LAN, options={"parent": "eth1"})
    text = text_of(await (await _readings(rig)).read()).decode()
    assert f'macvlan_global_network_endpoints{{network="{network[:12]}"}} 0.0' in text
    assert re.search(r'^macvlan_global_build_info{scope="local",store="sqlite",version=".+"} 1.0$', text, re.MULTILINE)


async def test_repair_is_counted_by_kind_and_outcome() -> None:
    """What it corrected, what it could not, and its time."""
    rig = await Rig.build("eth1")
    await rig.engine.create_network("lan", LAN, options={"parent": "eth1"})
    await rig.engine.run("web", "lan", join=False)
    readings = await _readings(rig)
    rig.engine.forget("web")
    rig.clock.advance(100)
    reconciler = readings.follower.reconciler
    assert await reconciler.reconcile(rig.engine, 0)
    samples = await readings.read()
    assert dict(samples.of("repair_corrections_total"))["DeleteEndpoint", "applied"] == 1
    assert [value for _, value in samples.of("repair_problems")] == [0]
    assert len(reconciler.durations) == 1


async def test_probes_are_counted_by_result() -> None:
    """Free, in use by a device, and impossible where the segment cannot be probed."""
    rig = await Rig.build("eth1")
    rig.kernel.neighbours["eth1"] = {"10.8.3.20"}
    await rig.engine.create_network("lan", LAN, options={"parent": "eth1", "probe": "true"})
    readings = await _readings(rig)
    await rig.engine.run("web", "lan", ip="10.8.3.21")
    with pytest.raises(Conflict):
        await rig.engine.run("db", "lan", ip="10.8.3.20")
    rig.faults.refused = "probe"
    await rig.engine.run("mail", "lan", ip="10.8.3.22")
    counts = dict((await readings.read()).of("probes_total"))
    assert counts == {("free",): 1, ("in_use",): 1, ("impossible",): 1}
    assert len(rig.driver.probe.times) == 2
