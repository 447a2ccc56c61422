"""Every step of every request fails once: before it was done, and after it was done with the answer lost.

Not hand-picked: a request is run again and again, with its first step failing, then its second, until it gets through.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from macvlan_global.errors import MacvlanGlobalError
from testkit.brief import STRIDE
from testkit.fake_engine import Container, Subnet, engine_id
from testkit.rig import Rig

pytestmark = pytest.mark.virtual_time

LAN = (
    Subnet("192.168.1.0/24", "192.168.1.64/26", "192.168.1.1", {"router": "192.168.1.2"}),
    Subnet("fd00::/64", gateway="fd00::1"),
)
N1, E1 = engine_id("n1"), engine_id("c1 in n1")
MAX_STEPS = 200


@dataclass
class Case:
    """A request, what comes before it, and the state it starts from."""

    prepare: Callable[[Rig], Awaitable[object]]
    request: Callable[[Rig], Awaitable[object]]


async def _nothing(_rig: Rig) -> None:
    return None


async def _network(rig: Rig) -> None:
    await rig.engine.create_network("n1", *LAN, options={"parent": "eth0.10"})


async def _container(rig: Rig) -> None:
    await _network(rig)
    await rig.engine.run("c1", "n1", ip="192.168.1.70", mac="02:00:00:00:00:aa")


async def _network_inside(rig: Rig) -> None:
    rig.engine.early = True
    await rig.engine.create_network("n1", *LAN, options={"parent": "eth0.10", "attach": "direct"})


async def _container_inside(rig: Rig) -> None:
    await _network_inside(rig)
    await rig.engine.run("c1", "n1", ip="192.168.1.70", mac="02:00:00:00:00:aa")


async def _create_isolated(rig: Rig) -> None:
    await rig.engine.create_network("n1", *LAN)


async def _run(rig: Rig) -> None:
    await rig.engine.run("c1", "n1")


async def _run_asking(rig: Rig) -> None:
    await rig.engine.run("c1", "n1", ip="192.168.1.70", ip6="fd00::9", mac="02:00:00:00:00:aa")


TAKING = {
    "create a network on a sub-interface": Case(_nothing, _network),
    "create an isolated network": Case(_nothing, _create_isolated),
    "run a container": Case(_network, _run),
    "run a container with its own address and MAC": Case(_network, _run_asking),
    "run a container whose link is made inside": Case(_network_inside, _run_asking),
}


async def _fail_each_step(case: Case, check: Callable[[Rig, Any, int], Awaitable[None]], *, after: bool) -> int:
    """Run the case with each of its steps failing in turn, and `check` after each; how many steps there were.

    A step may fail without the request failing (an undo, or a release that the engine does not wait for): what then
    is left must be right too.
    """
    for step in range(1, MAX_STEPS, STRIDE):
        rig = await Rig.build("eth0")
        await case.prepare(rig)
        before = await rig.snapshot()
        rig.faults.arm(step, after=after)
        failed = False
        try:
            await case.request(rig)
        except MacvlanGlobalError:
            failed = True
        steps = len(rig.faults.taken)
        rig.faults.arm(0)
        if steps < step:
            assert not failed
            return steps
        assert failed, f"step {step} failed, and nobody was told"
        await check(rig, before, step)
    raise AssertionError(f"more than {MAX_STEPS} steps")


@pytest.mark.parametrize("name", TAKING)
async def test_a_request_that_fails_at_any_step_leaves_nothing(name: str) -> None:
    """Store and kernel are as before, once the engine has released what it took; no repair is needed."""

    async def check(rig: Rig, before: Any, step: int) -> None:
        assert await rig.snapshot() == before, f"step {step}"

    assert await _fail_each_step(TAKING[name], check, after=False) > 10


@pytest.mark.parametrize("name", TAKING)
async def test_what_a_lost_answer_leaves_is_put_right_by_repair(name: str) -> None:
    """The step was done and we were not told: repair with no grace brings store and kernel back to before."""

    async def check(rig: Rig, before: Any, step: int) -> None:
        await rig.mend()
        assert await rig.snapshot() == before, f"step {step}"
        assert await rig.mend() == [], f"step {step}: repair is not done in one go"

    assert await _fail_each_step(TAKING[name], check, after=True) > 10


@pytest.mark.parametrize("name", TAKING)
async def test_a_request_that_failed_at_any_step_works_the_second_time(name: str) -> None:
    """Whatever the first try left does not stand in the way."""

    async def check(rig: Rig, _before: Any, _step: int) -> None:
        await TAKING[name].request(rig)
        network = await rig.driver.networks.get(N1)
        assert [each.gateway for each in network.subnets] == ["192.168.1.1", "fd00::1"]

    for after in (False, True):
        await _fail_each_step(TAKING[name], check, after=after)


async def _leave(rig: Rig) -> None:
    await rig.driver.endpoints.leave(N1, E1)


async def _delete_endpoint(rig: Rig) -> None:
    await rig.driver.endpoints.delete(N1, E1)


async def _delete_network(rig: Rig) -> None:
    await rig.driver.networks.delete(N1)


LETTING_GO = {
    "leave": Case(_container, _leave),
    "delete an endpoint": Case(_container, _delete_endpoint),
    "leave, with the link made inside": Case(_container_inside, _leave),
    "delete an endpoint whose link was made inside": Case(_container_inside, _delete_endpoint),
    "delete a network": Case(_network, _delete_network),
    "delete a network with a container left on it": Case(_container, _delete_network),
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", LETTING_GO)
async def test_letting_go_that_failed_at_any_step_is_finished_by_a_repeat(name: str, *, after: bool) -> None:
    """The engine repeats it, or the operator does; in the end all is as if nothing had failed."""
    case = LETTING_GO[name]
    smooth = await Rig.build("eth0")
    await case.prepare(smooth)
    await case.request(smooth)
    goal = _without_random(await smooth.snapshot())

    async def check(rig: Rig, _before: Any, step: int) -> None:
        await case.request(rig)
        assert _without_random(await rig.snapshot()) == goal, f"step {step}"

    assert await _fail_each_step(case, check, after=after) > 0


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", ["delete an endpoint", "delete a network"])
async def test_letting_go_that_failed_is_finished_by_repair(name: str, *, after: bool) -> None:
    """Docker ignores an error from us here, so nobody repeats it: the engine's view is the truth."""
    case = LETTING_GO[name]
    smooth = await Rig.build("eth0")
    await case.prepare(smooth)
    await case.request(smooth)

    async def forget_and_mend(rig: Rig) -> None:
        if name == "delete an endpoint":
            rig.engine.forget("c1")
        else:
            rig.engine.forget_network("n1")
        await rig.mend()

    await forget_and_mend(smooth)
    goal = _without_random(await smooth.snapshot())

    async def check(rig: Rig, _before: Any, step: int) -> None:
        await forget_and_mend(rig)
        found = _without_random(await rig.snapshot())
        assert found["state"] == goal["state"], f"step {step}"
        assert found["host"] == goal["host"], f"step {step}"

    assert await _fail_each_step(case, check, after=after) > 0


def _without_random(snapshot: dict[str, Any]) -> dict[str, Any]:
    """MACs of the fake's devices follow from their order, which a second try changes."""
    return snapshot | {"host": {name: kind for name, (kind, _up, _mac) in snapshot["host"].items()}}


async def test_a_container_that_runs_is_whole() -> None:
    """What the tests above compare with is a state in which everything is there."""
    rig = await Rig.build("eth0")
    await _container(rig)
    container: Container = rig.engine.containers["c1"]
    assert rig.kernel.sandboxed[container.sandbox]["eth0"].mac == "02:00:00:00:00:aa"
    held = {each.address: each.kind for each in await rig.driver.addresses.all()}
    assert held == {
        "192.168.1.1": "gateway",
        "192.168.1.2": "aux",
        "192.168.1.70": "endpoint",
        "fd00::1": "gateway",
        "fd00::2": "endpoint",
    }
    assert await rig.mend() == []
