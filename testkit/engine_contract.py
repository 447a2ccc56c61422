"""Promises of an engine as the port shows it, which the double keeps as real engines do. Each check is one promise.

A check gets an engine without networks of its driver, and leaves none behind if it passes.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from macvlan_global.engine.ports import ContainerEvent, Engine, EngineEvent, EngineSubnet, NetworkEvent, NewNetwork
from macvlan_global.errors import Conflict
from macvlan_global.subnets import parse_address, parse_subnet

SECONDS = 30.0
SUBNET = EngineSubnet("10.9.1.0/24", "10.9.1.128/25", "10.9.1.254", {"printer": "10.9.1.7"})


@dataclass(frozen=True, slots=True)
class EngineRig:
    """An engine, and what its user does: `run` and `stop` start a container on a network and take it away, by name;
    `stop_only` leaves it there, stopped, on its network.
    `options` are those that a network of its driver needs."""

    engine: Engine
    run: Callable[[str, str], Awaitable[object]]
    stop: Callable[[str], Awaitable[object]]
    stop_only: Callable[[str, str], Awaitable[object]]
    options: dict[str, str] = field(default_factory=dict)

    async def make(self, name: str = "lan") -> str:
        """A network; its id."""
        return await self.engine.add_network(
            NewNetwork(name, self.options, labels={"team": "blue"}, attachable=True, subnets=(SUBNET,))
        )

    async def make_other(self) -> str:
        """A second network; its id."""
        return await self.engine.add_network(NewNetwork("other", self.options))


Check = Callable[[EngineRig], Awaitable[None]]


async def a_network_is_made_as_it_is_described(rig: EngineRig) -> None:
    """By name, among those of the driver, and among all."""
    made = await rig.make()
    seen = await rig.engine.named("lan")
    assert seen is not None
    assert (seen.id, seen.name, seen.labels, seen.subnets) == (made, "lan", {"team": "blue"}, (SUBNET,))
    assert (seen.attachable, seen.internal, seen.scope) == (True, False, "local")
    assert rig.options.items() <= seen.options.items()
    assert await rig.engine.networks() == [seen]
    assert seen in await rig.engine.every_network()
    await rig.engine.delete_network(made)


async def a_name_is_given_once(rig: EngineRig) -> None:
    """A second network of the name is a conflict, and the first one stays."""
    made = await rig.make()
    with pytest.raises(Conflict, match="network with name lan already exists"):
        await rig.make()
    assert [each.id for each in await rig.engine.networks()] == [made]
    await rig.engine.delete_network(made)


async def a_network_is_found_by_its_whole_name(rig: EngineRig) -> None:
    """Neither a part of the name nor of the id will do."""
    made = await rig.make()
    assert await rig.engine.named("la") is None
    assert await rig.engine.named(made[:12]) is None
    await rig.engine.delete_network(made)
    assert await rig.engine.named("lan") is None


async def a_network_in_use_stays(rig: EngineRig) -> None:
    """Its removal is a conflict while a container is on it, and no error once it is gone."""
    made = await rig.make()
    await rig.run("web", "lan")
    with pytest.raises(Conflict, match="active endpoints"):
        await rig.engine.delete_network(made)
    await rig.stop("web")
    await rig.engine.delete_network(made)
    await rig.engine.delete_network(made)
    assert await rig.engine.networks() == []


async def a_container_and_its_network_show_each_other(rig: EngineRig) -> None:
    """The same endpoint, address and MAC from both sides; by name and by id; with a namespace while it runs."""
    made = await rig.make()
    await rig.run("web", "lan")
    container = await rig.engine.container("web")
    assert container is not None
    assert container == await rig.engine.container(container.id)
    assert (container.name, container.running) == ("web", True)
    [leg] = container.legs
    network = await rig.engine.named("lan")
    assert network is not None
    [endpoint] = network.endpoints
    assert (leg.network, leg.network_name, leg.endpoint) == (made, "lan", endpoint.id)
    assert endpoint.id in await rig.engine.endpoint_ids()
    assert (leg.address, leg.mac) == (endpoint.address, endpoint.mac)
    assert (endpoint.container, endpoint.container_id) == ("web", container.id)
    assert parse_address(leg.address, "address") in parse_subnet(SUBNET.range, "range")
    sandbox = await rig.engine.sandbox(container.id)
    assert sandbox in await rig.engine.sandboxes()
    await rig.stop("web")
    assert await rig.engine.sandbox(container.id) == ""
    await rig.engine.delete_network(made)


async def containers_that_stopped_refer_to_their_network(rig: EngineRig) -> None:
    """Running or not, by name; those of another network do not."""
    made, other = await rig.make(), await rig.make_other()
    networks = {each.id: each for each in await rig.engine.networks()}
    assert await rig.engine.referring(networks[made]) == []
    await rig.run("web", "lan")
    assert await rig.engine.referring(networks[made]) == ["web"]
    await rig.stop_only("web", "lan")
    assert await rig.engine.referring(networks[made]) == ["web"]
    assert await rig.engine.referring(networks[other]) == []
    await rig.engine.delete_network(other)
    await rig.engine.delete_network(made)


async def events_tell_what_happens_in_order(rig: EngineRig) -> None:
    """The stream opens, and tells of networks and of containers that come and go."""
    seen: list[EngineEvent | None] = []
    opened, ended = asyncio.Event(), asyncio.Event()

    async def follow() -> None:
        async with contextlib.aclosing(rig.engine.events()) as events:
            async for event in events:
                seen.append(event)
                opened.set()
                if isinstance(event, NetworkEvent) and (event.action, event.name) == ("destroy", "lan"):
                    ended.set()

    async with asyncio.timeout(SECONDS):
        following = asyncio.ensure_future(follow())
        await opened.wait()
        while len(seen) == 1:  # engines open the stream a moment before they listen to what happens
            await rig.engine.delete_network(await rig.make("first"))
        made = await rig.make()
        await rig.run("web", "lan")
        container = await rig.engine.container("web")
        assert container is not None
        await rig.stop("web")
        await rig.engine.delete_network(made)
        await ended.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    ends = [each for each in seen if isinstance(each, ContainerEvent) and each.action == "destroy"]
    before = [each for each in seen if isinstance(each, NetworkEvent) and each.name == "first"]
    told = [each for each in seen if each not in ends and each not in before]
    usual: list[EngineEvent | None] = [
        None,
        NetworkEvent("create", made, "lan"),
        NetworkEvent("connect", made, "lan", container.id),
        ContainerEvent("start", container.id, "web"),
        ContainerEvent("die", container.id, "web"),
        NetworkEvent("disconnect", made, "lan", container.id),
        NetworkEvent("destroy", made, "lan"),
    ]
    network_first = [*usual[:4], usual[5], usual[4], usual[6]]  # so does engine 29 tell it
    assert told in (usual, network_first), told


ENGINE_CONTRACT: tuple[Check, ...] = (
    a_network_is_made_as_it_is_described,
    a_name_is_given_once,
    a_network_is_found_by_its_whole_name,
    a_network_in_use_stays,
    a_container_and_its_network_show_each_other,
    containers_that_stopped_refer_to_their_network,
    events_tell_what_happens_in_order,
)
