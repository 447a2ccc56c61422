"""The engine port against real engines, with the built-in bridge: no driver of ours runs here."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest

from lab import ENGINES, Host, Wire
from lab.speed import within
from lab.unixhttp import ask
from macvlan_global.doctor.engine import ask_engine
from macvlan_global.engine.docker import DockerEngine
from macvlan_global.engine.ports import ContainerEvent, EngineEvent, EnginePort, EngineSubnet, NetworkEvent, NewNetwork
from macvlan_global.errors import Conflict, Invalid
from testkit.engine_contract import ENGINE_CONTRACT, Check, EngineRig

LAN = NewNetwork(
    "lan",
    options={"com.docker.network.bridge.enable_icc": "true"},
    labels={"team": "blue"},
    attachable=True,
    ipv6=True,
    ipam_options={"colour": "red"},
    subnets=(
        EngineSubnet("10.9.1.0/24", "10.9.1.128/25", "10.9.1.254", {"printer": "10.9.1.7"}),
        EngineSubnet("fd1a:9::/64", gateway="fd1a:9::fe"),
    ),
)


@pytest.fixture(scope="module", params=ENGINES)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host with an engine, and an interface that a network of another driver can have."""
    with Wire() as wire, Host("api") as host:
        wire.plug(host)
        host.start_engine(request.param)
        yield host


@pytest.fixture
async def engine(host: Host) -> AsyncIterator[DockerEngine]:
    """The port; networks that a test made go afterwards."""
    engine = DockerEngine(f"unix://{host.run_folder}/docker.sock", "bridge", "default")
    yield engine
    for network in await engine.networks():
        await engine.delete_network(network.id)
    await engine.close()


@pytest.mark.parametrize("check", ENGINE_CONTRACT, ids=lambda check: check.__name__)
async def test_contract(check: Check, host: Host, engine: DockerEngine) -> None:
    """One promise that the double of an engine keeps too."""

    async def run(name: str, network: str) -> None:
        command = ("run", "-d", "--init", f"--name={name}", f"--network={network}", "alpine", "sleep", "600")
        await asyncio.to_thread(host.docker, *command)

    async def stop(name: str) -> None:
        await asyncio.to_thread(host.docker, "rm", "-f", name)

    async def stop_only(name: str, _network: str) -> None:
        await asyncio.to_thread(host.docker, "stop", "-t", "1", name)

    try:
        await check(EngineRig(engine, run, stop, stop_only))
    finally:
        await asyncio.to_thread(host.run, ["sh", "-c", "docker ps -aq | xargs -r docker rm -f"], check=False)


async def test_a_network_is_made_as_it_is_described(engine: DockerEngine) -> None:
    """What the engine shows of it is what was asked for, subnets in their order."""
    made = await engine.add_network(LAN)
    seen = await engine.named("lan")
    assert seen is not None
    # the port's own drivers are bridge and default here
    assert (seen.id, seen.name, seen.driver, seen.ipam_driver) == (made, "lan", "", "")
    assert (seen.options, seen.labels, seen.ipam_options) == (LAN.options, LAN.labels, LAN.ipam_options)
    assert (seen.internal, seen.attachable, seen.ipv4, seen.ipv6, seen.scope) == (False, True, True, True, "local")
    assert seen.subnets == LAN.subnets
    assert {each.name: each for each in await engine.every_network() if not each.driver} == {"lan": seen}


async def test_a_name_is_given_once(engine: DockerEngine) -> None:
    """A second network of the name is refused, with the engine's words."""
    await engine.add_network(LAN)
    with pytest.raises(Conflict, match="network with name lan already exists"):
        await engine.add_network(NewNetwork("lan"))


async def test_the_engine_refuses(engine: DockerEngine) -> None:
    """Any other refusal is told apart from an engine that does not answer."""
    with pytest.raises(Invalid, match=r"the Docker Engine refuses: .*10\.9\.1\.1/33"):
        await engine.add_network(NewNetwork("odd", subnets=(EngineSubnet("10.9.1.1/33"),)))


async def test_a_network_is_found_by_its_whole_name(engine: DockerEngine) -> None:
    """A part of a name finds nothing, nor does the beginning of an id; other drivers' networks are found too."""
    made = await engine.add_network(LAN)
    assert await engine.named("la") is None
    assert await engine.named(made[:12]) is None
    host = await engine.named("host")
    assert host is not None
    assert host.driver == "host"


async def test_two_networks_of_a_name(host: Host, engine: DockerEngine) -> None:
    """Older engines make a second one if they are not told not to: ours is found, whichever was first."""
    wanted = {"Name": "lan", "Driver": "macvlan", "Options": {"parent": "eth1"}}
    socket, body = host.run_folder / "docker.sock", json.dumps(wanted).encode()
    status, first = ask(socket, "POST", "/v1.41/networks/create", body, "application/json")
    assert status == 201
    if (await engine.info()).version.startswith("20."):
        wanted["Driver"] = "bridge"
        body = json.dumps(wanted).encode()
        status, second = ask(socket, "POST", "/v1.41/networks/create", body, "application/json")
        assert status == 201
    else:
        second = first
        with pytest.raises(Conflict, match="already exists"):
            await engine.add_network(LAN)
    found = await engine.named("lan")
    assert found is not None
    assert found.id == second["Id"]
    assert [each.id for each in found.twins] == ([] if second == first else [first["Id"]])
    await engine.delete_network(first["Id"])


async def test_a_network_without_ipv4(engine: DockerEngine) -> None:
    """Engines from 28 on make it; an older one would give it an IPv4 subnet, so it is not asked."""
    six = NewNetwork("six", ipv4=False, ipv6=True, subnets=(EngineSubnet("fd1a:6::/64"),))
    if (await engine.info()).version.startswith("20."):
        with pytest.raises(Invalid, match="needs Docker Engine 28 or newer"):
            await engine.add_network(six)
        assert await engine.named("six") is None
    else:
        await engine.add_network(six)
        seen = await engine.named("six")
        assert seen is not None
        assert (seen.ipv4, seen.ipv6, seen.subnets[0].subnet, len(seen.subnets)) == (False, True, "fd1a:6::/64", 1)


async def test_removing_a_network(host: Host, engine: DockerEngine) -> None:
    """Refused while a container is on it, and no error if it is not there."""
    made = await engine.add_network(LAN)
    host.docker("run", "-d", "--init", "--name=web", "--network=lan", "alpine", "sleep", "600")
    with pytest.raises(Conflict, match="active endpoints"):
        await engine.delete_network(made)
    host.docker("rm", "-f", "web")
    await engine.delete_network(made)
    assert await engine.named("lan") is None
    await engine.delete_network(made)


async def test_what_a_container_shows(host: Host, engine: DockerEngine) -> None:
    """Names, legs, ports and labels, by name and by id; a stopped one has no endpoint."""
    network = await engine.add_network(LAN)
    command = ("--hostname=box", "--ip=10.9.1.9", "--network-alias=www", "-p", "80:80", "--expose=53/udp")
    identity = host.docker(
        *("run", "-d", "--init", "--name=web", "--network=lan", "--label=a=b", *command, "alpine", "sleep", "600")
    ).strip()
    seen = await engine.container("web")
    assert seen is not None
    assert seen == await engine.container(identity)
    assert (seen.id, seen.name, seen.hostname, seen.running) == (identity, "web", "box", True)
    assert (seen.exposed, seen.published) == ((EnginePort(53, "udp"), EnginePort(80)), (EnginePort(80),))
    assert seen.labels["a"] == "b"
    [leg] = seen.legs
    [endpoint] = (await engine.networks())[0].endpoints
    assert (leg.network, leg.network_name, leg.endpoint) == (network, "lan", endpoint.id)
    assert (leg.address, leg.address6, leg.mac) == ("10.9.1.9", endpoint.address6, endpoint.mac)
    assert {"www", identity[:12]} <= set(leg.names)
    assert await engine.sandboxes() == {await engine.sandbox(identity)} != {""}
    host.docker("stop", "web")
    assert await engine.sandboxes() == set()
    stopped = await engine.container("web")
    assert stopped is not None
    assert (stopped.running, stopped.legs[0].endpoint) == (False, "")
    host.docker("rm", "web")
    assert await engine.container("web") is None


async def test_events(host: Host, engine: DockerEngine) -> None:
    """Networks of the driver and containers, from the moment the stream is open; of others that they went."""
    opened = asyncio.Event()
    seen: list[EngineEvent] = []

    async def follow() -> None:
        async for event in engine.events():
            if event is None:
                opened.set()
            else:
                seen.append(event)
                if event.action == "destroy" and isinstance(event, NetworkEvent) and event.name == "lan":
                    return

    async with within(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(follow())
        await opened.wait()
        await asyncio.to_thread(host.docker, "network", "create", "-d", "macvlan", "-o", "parent=eth1", "other")
        other = await engine.named("other")
        await asyncio.to_thread(host.docker, "network", "rm", "other")
        network = await engine.add_network(LAN)
        made = (
            await asyncio.to_thread(
                host.docker, "run", "-d", "--init", "--name=web", "--network=lan", "alpine", "sleep", "600"
            )
        ).strip()
        await asyncio.to_thread(host.docker, "rename", "web", "shop")
        await asyncio.to_thread(host.docker, "rm", "-f", "shop")
        await engine.delete_network(network)
    assert other
    assert [each for each in seen if isinstance(each, NetworkEvent)] == [
        NetworkEvent("destroy", other.id, "other"),
        NetworkEvent("create", network, "lan"),
        NetworkEvent("connect", network, "lan", made),
        NetworkEvent("disconnect", network, "lan", made),
        NetworkEvent("destroy", network, "lan"),
    ]
    assert [each for each in seen if isinstance(each, ContainerEvent)] == [
        ContainerEvent("start", made, "web"),
        ContainerEvent("rename", made, "shop"),
        ContainerEvent("die", made, "shop"),
        ContainerEvent("destroy", made, "shop"),
    ]


async def test_its_data_are_known_again(host: Host, engine: DockerEngine) -> None:
    """A restart keeps the id; once the data about networks are lost, it is another one."""
    before = (await engine.info()).id
    assert before
    host.restart_engine()
    assert (await engine.info()).id == before
    host.stop_engine()
    host.run(["rm", "-rf", "/var/lib/docker/network/files"])
    host.restart_engine()
    assert (await engine.info()).id not in {"", before}


async def test_an_engine_that_refuses_old_clients() -> None:
    """As engines 29.0 to 29.2 do: networks, containers and the doctor's questions, in the oldest version that it takes.
    Then an engine of before that version is there."""
    with Wire() as wire, Host("strict") as host:
        wire.plug(host)
        host.start_engine(ENGINES[-1], env={"DOCKER_MIN_API_VERSION": "1.44"})
        socket = host.run_folder / "docker.sock"
        status, refusal = ask(socket, "GET", "/v1.41/info")
        assert (status, "Minimum supported API version is 1.44" in refusal["message"]) == (400, True)
        engine = DockerEngine(f"unix://{socket}", "bridge", "default")
        try:
            made = await engine.add_network(LAN)
            host.docker("run", "-d", "--init", "--name=web", "--network=lan", "alpine", "sleep", "600")
            [network] = await engine.networks()
            assert (network.id, [each.container for each in network.endpoints]) == (made, ["web"])
            async with contextlib.aclosing(engine.events()) as events:
                assert await anext(events) is None
                host.docker("rm", "-f", "web")
                assert await anext(events) == NetworkEvent("disconnect", made, "lan", network.endpoints[0].container_id)
            facts, _ = ask_engine(f"unix://{socket}")
            assert (facts.problem, facts.version) == ("", (await engine.info()).version)
            host.start_engine(ENGINES[0])
            assert (await engine.info()).version.startswith("20.10")
        finally:
            await engine.close()
