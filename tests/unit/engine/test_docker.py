"""The Docker API over HTTP: what is asked, and what its answers are in our words."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from macvlan_global.engine.docker import DockerEngine
from macvlan_global.engine.inspected import network
from macvlan_global.engine.ports import (
    ContainerEvent,
    EngineEndpoint,
    EngineInfo,
    EngineLeg,
    EnginePort,
    EngineSubnet,
    NetworkEvent,
    NewNetwork,
)
from macvlan_global.errors import Conflict, Invalid, Unavailable
from testkit.fake_docker_api import FakeDockerApi
from testkit.fake_http import HttpServer

NETWORK = {
    "Id": "n1",
    "Name": "lan",
    "Driver": "macvlan-global",
    "Scope": "local",
    "Internal": False,
    "EnableIPv6": True,
    "Options": {"parent": "eth0"},
    "Labels": {"who": "ops"},
    "IPAM": {
        "Driver": "macvlan-global",
        "Config": [
            {"Subnet": "10.65.0.0/24", "Gateway": "10.65.0.1/24", "AuxiliaryAddresses": {"router": "10.65.0.2"}},
            {"Subnet": "fd65::/64", "IPRange": "fd65::/80"},
        ],
    },
    "Containers": {
        "c1": {"EndpointID": "e1", "Name": "web", "MacAddress": "02:00:00:00:00:01", "IPv4Address": "10.65.0.9/24"},
        "ep-e2": {"EndpointID": "e2", "IPv6Address": "fd65::9/64"},
    },
}
CONTAINER = {
    "Id": "c1",
    "Name": "/web",
    "State": {"Running": True},
    "Config": {"Hostname": "c1c1", "ExposedPorts": {"443/udp": {}, "80/tcp": {}}, "Labels": {"a": "b"}},
    "HostConfig": {"PortBindings": {"8080/tcp": [{"HostPort": "80"}]}},
    "NetworkSettings": {
        "SandboxKey": "/run/netns/c1",
        "Networks": {
            "lan": {
                "NetworkID": "n1",
                "EndpointID": "e1",
                "IPAddress": "10.65.0.9",
                "Aliases": ["web"],
                "DNSNames": ["web", "c1c1"],
            }
        },
    },
}


@pytest.fixture
async def api() -> FakeDockerApi:
    """An engine with one network of ours, one of another driver, and a container."""
    other = {"Id": "n2", "Name": "other", "Driver": "bridge"}
    return FakeDockerApi(
        networks=[NETWORK, other],
        **{
            "networks/n1": NETWORK,
            "networks/lan": NETWORK,
            "networks/la": NETWORK,
            "networks/n2": other,
            "networks/none": {"Id": "none1"},
            "containers/c1/json": CONTAINER,
            "containers/json": [{"Id": "c1"}, {"Id": "gone"}],
            "version": {"ApiVersion": "1.51"},
        },
    )


@pytest.fixture
async def engine(api: FakeDockerApi) -> AsyncIterator[DockerEngine]:
    """The port over that engine."""
    async with HttpServer(api.answer) as server:
        made = DockerEngine(f"tcp://{server.address}")
        yield made
        await made.close()


async def test_info(engine: DockerEngine) -> None:
    """Version, plugins and labels; the id is that of the network `none`, which goes with the engine's data."""
    assert await engine.info() == EngineInfo(
        "28.5.2", ("bridge", "macvlan-global"), swarm=False, live_restore=True, labels=("zone=a",), id="none1"
    )


async def test_networks_of_ours_with_their_endpoints(engine: DockerEngine) -> None:
    """Addresses are bare; an endpoint of no container has no container id."""
    (found,) = await engine.networks()
    assert (found.id, found.name, found.options) == ("n1", "lan", {"parent": "eth0"})
    assert found.subnets == (
        EngineSubnet("10.65.0.0/24", "", "10.65.0.1", {"router": "10.65.0.2"}),
        EngineSubnet("fd65::/64", "fd65::/80"),
    )
    assert found.endpoints == (
        EngineEndpoint("e1", "web", "02:00:00:00:00:01", "10.65.0.9", container_id="c1"),
        EngineEndpoint("e2", "", "", address6="fd65::9"),
    )
    assert (found.ipv4, found.ipv6) == (True, True)


@pytest.mark.parametrize("called", ["macvlan-global", "macvlan-global:latest", "lan"])
async def test_our_drivers_are_ours_by_whatever_name(api: FakeDockerApi, called: str) -> None:
    """Of the driver's own names nothing is seen; that of another driver stays, as does the lack of one."""
    ours = {**NETWORK, "Driver": called, "IPAM": {"Driver": called}}
    mixed = {"Id": "n2", "Name": "mixed", "Driver": "bridge", "IPAM": {"Driver": called}}
    unfinished = {"Id": "n3", "Name": "unfinished", "Driver": "", "Scope": "swarm"}
    api.found |= {"/networks": [ours, mixed, unfinished], "/networks/n1": ours, "/networks/lan": ours}
    async with HttpServer(api.answer) as server:
        engine = DockerEngine(f"tcp://{server.address}", called, called)
        seen = {each.name: (each.driver, each.ipam_driver) for each in await engine.every_network()}
        assert seen == {"lan": ("", ""), "mixed": ("bridge", ""), "unfinished": ("unknown", "unknown")}
        for found in (*await engine.networks(), await engine.named("lan")):
            assert found is not None
            assert (found.id, found.driver, found.ipam_driver) == ("n1", "", "")
        await engine.close()


async def test_every_network_is_without_endpoints(engine: DockerEngine) -> None:
    """Of all drivers."""
    assert [(each.name, each.endpoints) for each in await engine.every_network()] == [("lan", ()), ("other", ())]


async def test_the_endpoints_of_all_networks(engine: DockerEngine, api: FakeDockerApi) -> None:
    """Of other drivers too; a network that went meanwhile has none."""
    other = {"Id": "n2", "Name": "other", "Driver": "else:1", "Containers": {"ep-e7": {"EndpointID": "e7"}}}
    api.found["/networks/n2"] = other
    assert await engine.endpoint_ids() == {"e1", "e2", "e7"}
    del api.found["/networks/n2"]
    assert await engine.endpoint_ids() == {"e1", "e2"}


async def test_a_network_by_name(engine: DockerEngine, api: FakeDockerApi) -> None:
    """The beginning of an id is no name; where a name is had twice, ours comes first and the other is its twin."""
    found = await engine.named("lan")
    assert found is not None
    assert found.id == "n1"
    assert await engine.named("la") is await engine.named("nope") is None
    twin = {"Id": "n3", "Name": "lan", "Driver": "bridge"}
    api.found |= {"/networks": [twin, NETWORK], "/networks/n3": twin, "/networks/lan": (400, {"message": "2 matches"})}
    found = await engine.named("lan")
    assert found is not None
    assert (found.id, [each.id for each in found.twins]) == ("n1", ["n3"])


async def test_a_network_is_made(engine: DockerEngine, api: FakeDockerApi) -> None:
    """With our drivers, and only the parts of a subnet that are given."""
    api.done["POST", "/networks/create"] = 201, {"Id": "new"}
    subnet = EngineSubnet("10.1.0.0/24", gateway="10.1.0.1", aux={"r": "10.1.0.2"})
    assert await engine.add_network(NewNetwork("wan", {"parent": "eth1"}, subnets=(subnet,))) == "new"
    ((_, _, body),) = api.asked
    assert (body["Name"], body["Driver"], body["CheckDuplicate"]) == ("wan", "macvlan-global", True)
    config = {"Subnet": "10.1.0.0/24", "Gateway": "10.1.0.1", "AuxiliaryAddresses": {"r": "10.1.0.2"}}
    assert body["IPAM"] == {"Driver": "macvlan-global", "Options": {}, "Config": [config]}
    assert "EnableIPv4" not in body
    assert api.versions == {"v1.41"}


async def test_a_network_without_ipv4_needs_a_newer_api(engine: DockerEngine, api: FakeDockerApi) -> None:
    """Older engines would give it an IPv4 subnet, so it is refused there."""
    api.done["POST", "/networks/create"] = 201, {"Id": "new"}
    await engine.add_network(NewNetwork("six", ipv4=False, ipv6=True))
    assert api.asked[0][2]["EnableIPv4"] is False
    assert "v1.48" in api.versions
    api.found["/version"] = {"ApiVersion": "1.41"}
    with pytest.raises(Invalid, match="needs Docker Engine 28 or newer"):
        await engine.add_network(NewNetwork("six", ipv4=False))


@pytest.mark.parametrize(("status", "kind"), [(409, Conflict), (403, Conflict), (400, Invalid), (500, Invalid)])
async def test_a_refusal_has_the_engines_words(
    engine: DockerEngine, api: FakeDockerApi, status: int, kind: type[Exception]
) -> None:
    """A name that is taken and a network in use are conflicts."""
    api.done["POST", "/networks/create"] = status, {"message": "network lan\nalready exists"}
    with pytest.raises(kind, match="the Docker Engine refuses: network lan already exists"):
        await engine.add_network(NewNetwork("lan"))


async def test_a_network_is_deleted(engine: DockerEngine, api: FakeDockerApi) -> None:
    """One that is gone already is no error."""
    api.done["DELETE", "/networks/n1"] = 204, None
    await engine.delete_network("n1")
    await engine.delete_network("gone")
    assert [path for _, path, _ in api.asked] == ["/networks/n1", "/networks/gone"]


async def test_a_container(engine: DockerEngine) -> None:
    """Its legs with all names once, its ports in order, its namespace; None if it is gone."""
    found = await engine.container("c1")
    assert found is not None
    assert (found.name, found.hostname, found.running, found.labels) == ("web", "c1c1", True, {"a": "b"})
    assert found.legs == (EngineLeg("n1", "lan", "e1", "10.65.0.9", names=("web", "c1c1")),)
    assert (found.exposed, found.published) == ((EnginePort(80), EnginePort(443, "udp")), (EnginePort(8080),))
    assert await engine.container("gone") is None
    assert (await engine.sandbox("c1"), await engine.sandbox("gone")) == ("/run/netns/c1", "")
    assert await engine.sandboxes() == {"/run/netns/c1"}


async def test_events(engine: DockerEngine, api: FakeDockerApi) -> None:
    """None once the stream is open; networks of ours, any network's end, and containers; no others."""

    def said(kind: str, action: str, identity: str, **attributes: str) -> dict[str, object]:
        return {"Type": kind, "Action": action, "Actor": {"ID": identity, "Attributes": attributes}}

    api.events = [
        said("network", "connect", "n1", name="lan", type="macvlan-global", container="c1"),
        said("network", "create", "n2", name="other", type="bridge"),
        said("network", "destroy", "n2", name="other", type="bridge"),
        said("container", "start", "c1", name="web"),
        said("container", "connect", "c1", name="web"),
    ]
    assert [each async for each in engine.events()] == [
        None,
        NetworkEvent("connect", "n1", "lan", "c1"),
        NetworkEvent("destroy", "n2", "other"),
        ContainerEvent("start", "c1", "web"),
    ]


async def test_an_engine_that_is_away() -> None:
    """The text names where it was asked, and why it did not answer."""
    for host, why in (("tcp://127.0.0.1:1", "Connect call failed"), ("unix:///none.sock", "No such file or directory")):
        engine = DockerEngine(host)
        with pytest.raises(Unavailable, match=f"the Docker Engine at {host} does not answer: {why}"):
            await engine.info()
        await engine.close()
    with pytest.raises(Invalid, match="neither unix:///path nor tcp://host:port"):
        DockerEngine("ssh://x")


async def test_an_engine_that_refuses_old_clients_is_asked_in_its_own_version(
    engine: DockerEngine, api: FakeDockerApi
) -> None:
    """As 29.0 does. Later requests are made in that version, and again in the usual one with an older engine."""
    api.oldest = "1.44"
    results = await asyncio.gather(*(engine.networks() for _ in range(3)))
    assert [len(each) for each in results] == [1, 1, 1]
    api.versions.clear()
    assert [each async for each in engine.events()] == [None]
    assert api.versions == {"v1.44"}
    api.newest, api.oldest = "1.41", "1.12"
    assert (await engine.info()).version == "28.5.2"
    api.versions.clear()
    await engine.info()
    assert api.versions == {"v1.41"}


async def test_an_error_of_the_engine_is_told_in_its_words(engine: DockerEngine, api: FakeDockerApi) -> None:
    """An engine that answers with an error, or a proxy in front of it. A stream that is refused is not open."""
    api.found |= {"/info": (403, {"message": "not  by\nthis proxy"}), "/events": (403, "<html>no</html>")}
    with pytest.raises(Unavailable, match=r"answers with an error: 403 not by this proxy$"):
        await engine.info()
    with pytest.raises(Unavailable, match=r'answers with an error: 403 "<html>no</html>"$'):
        await anext(engine.events())


async def test_a_long_event_costs_no_other_and_not_the_stream(engine: DockerEngine, api: FakeDockerApi) -> None:
    """A container with a megabyte of labels: it is told of, and so is what comes behind it."""
    labels = {f"label{number}": "x" * 1000 for number in range(1_000)}
    events = [
        {"Type": "container", "Action": action, "Actor": {"ID": each * 64, "Attributes": {"name": "web", **more}}}
        for each, action, more in (("a", "start", labels), ("a", "die", labels), ("b", "start", {}))
    ]
    api.events = events
    assert [each async for each in engine.events()] == [
        None,
        ContainerEvent("start", "a" * 64, ""),
        ContainerEvent("die", "a" * 64, ""),
        ContainerEvent("start", "b" * 64, "web"),
    ]


def test_subnets_are_spelled_as_everywhere_else() -> None:
    """Engines before 29 show them as the user typed them. Text that is no subnet stays what it is."""
    config = [
        {
            "Subnet": "FD00:0:0::/64",
            "IPRange": "FD00::0:0/80",
            "Gateway": "FD00::0:1/64",
            "AuxiliaryAddresses": {"r": "fd00:0::2"},
        },
        {"Subnet": "10.8.0.9/24", "IPRange": None, "Gateway": "10.8.0.1"},
        {"Subnet": "nonsense", "Gateway": "more"},
    ]
    found = network({"Id": "1a", "Name": "lan", "IPAM": {"Config": config}}, "lan", "lan")
    assert found.subnets == (
        EngineSubnet("fd00::/64", "fd00::/80", "fd00::1", {"r": "fd00::2"}),
        EngineSubnet("10.8.0.0/24", gateway="10.8.0.1"),
        EngineSubnet("nonsense", gateway="more"),
    )
