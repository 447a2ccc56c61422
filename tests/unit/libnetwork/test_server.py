"""The socket as the engine sees it: HTTP over a unix socket, on a driver over fakes."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.speed import patience, within
from lab.unixhttp import UnixConnection
from macvlan_global.libnetwork.handlers import Handlers
from macvlan_global.libnetwork.http import CONTENT_TYPE, MAX_BODY
from macvlan_global.libnetwork.server import ACCEPTED_AT_ONCE, PluginServer
from macvlan_global.listening import listen
from macvlan_global.metrics.counts import Metrics
from testkit.fake_engine import engine_id
from testkit.rig import Rig
from tests.unit.no_descriptors import no_descriptors

N1, E1 = engine_id("n1"), engine_id("e1")
GENERIC = "com.docker.network.generic"
POOL = "macvlan-global/192.168.1.0/24"


@dataclass
class Answer:
    """What came back."""

    status: int
    body: Any
    content_type: str


@dataclass
class Plugin:
    """The driver behind its socket."""

    path: Path
    rig: Rig

    async def post(
        self, path: str, body: object = None, *, method: str = "POST", headers: dict[str, str] | None = None
    ) -> Answer:
        """Send bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await asyncio.to_thread(self._post, path, data, method, headers or {})

    def _post(self, path: str, data: bytes, method: str, headers: dict[str, str]) -> Answer:
        connection = UnixConnection(self.path, timeout=patience(10))
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
            return Answer(response.status, json.loads(text or b"null"), response.headers["Content-Type"])
        finally:
            connection.close()

    async def ok(self, path: str, body: object = None) -> Any:
        """The body of an answer that is no error."""
        answer = await self.post(path, body)
        assert answer.status == 200
        assert "Err" not in answer.body
        assert "Error" not in answer.body
        return answer.body

    async def create_network(self, **options: str) -> None:
        """What `docker network create` sends."""
        await self.ok(
            "/IpamDriver.RequestPool", {"Pool": "192.168.1.0/24", "Options": None, "SubPool": "", "V6": False}
        )
        gateway = {"RequestAddressType": "com.docker.network.gateway"}
        await self.ok("/IpamDriver.RequestAddress", {"PoolID": POOL, "Address": "192.168.1.1", "Options": gateway})
        await self.ok("/NetworkDriver.CreateNetwork", creation(**options))


def creation(**options: Any) -> dict[str, Any]:
    """A CreateNetwork request."""
    data = {"AddressSpace": "macvlan-global", "Pool": "192.168.1.0/24", "Gateway": "192.168.1.1/24"}
    return {
        "NetworkID": N1,
        "Options": {GENERIC: {"parent": "eth0", **options}, "com.docker.network.enable_ipv6": False},
        "IPv4Data": [{**data, "AuxAddresses": None}],
        "IPv6Data": [],
    }


@pytest.fixture
async def plugin(tmp_path: Path) -> AsyncIterator[Plugin]:
    """Serving at a socket of its own."""
    rig = await Rig.build("eth0")
    server = PluginServer(Handlers(rig.driver).routes(), Metrics())
    path = tmp_path / "plugin.sock"
    await server.start(listen(path, what="the plugin socket"))
    yield Plugin(path, rig)
    await server.stop()


async def test_a_container_from_network_to_removal(plugin: Plugin) -> None:
    """Every request that an engine sends, in its order."""
    assert await plugin.ok("/Plugin.Activate") == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert (await plugin.ok("/NetworkDriver.GetCapabilities"))["Scope"] == "local"
    assert await plugin.ok("/IpamDriver.GetCapabilities") == {
        "RequiresMACAddress": False,
        "RequiresRequestReplay": False,
    }
    assert await plugin.ok("/IpamDriver.GetDefaultAddressSpaces") == {
        "LocalDefaultAddressSpace": "macvlan-global",
        "GlobalDefaultAddressSpace": "macvlan-global",
    }
    assert await plugin.ok("/NetworkDriver.GwAllocCheck", {"Options": {}}) == {"SkipIPv4": True, "SkipIPv6": True}
    before = await plugin.rig.snapshot()
    await plugin.create_network()
    asked = await plugin.ok("/IpamDriver.RequestAddress", {"PoolID": POOL, "Address": "", "Options": None})
    assert asked == {"Address": "192.168.1.2/24", "Data": {}}
    ids = {"NetworkID": N1, "EndpointID": E1}
    interface = {"Address": asked["Address"], "AddressIPv6": "", "MacAddress": ""}
    created = await plugin.ok("/NetworkDriver.CreateEndpoint", {**ids, "Interface": interface, "Options": {}})
    assert list(created["Interface"]) == ["MacAddress"], "what was given must not be echoed"
    joined = await plugin.ok("/NetworkDriver.Join", {**ids, "SandboxKey": "/netns/c1", "Options": {}})
    assert joined["InterfaceName"] == {"SrcName": f"mg-{E1[:12]}", "DstPrefix": "eth"}
    assert (joined["Gateway"], joined["DisableGatewayService"]) == ("192.168.1.1", True)
    info = await plugin.ok("/NetworkDriver.EndpointOperInfo", ids)
    assert info["Value"]["parent"] == "eth0"
    for path in ("ProgramExternalConnectivity", "RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
        assert await plugin.ok(f"/NetworkDriver.{path}", ids) == {}
    await plugin.ok("/IpamDriver.ReleaseAddress", {"PoolID": POOL, "Address": "192.168.1.2"})
    await plugin.ok("/NetworkDriver.DeleteNetwork", {"NetworkID": N1})
    await plugin.ok("/IpamDriver.ReleasePool", {"PoolID": POOL})
    assert await plugin.rig.snapshot() == before


async def test_swarm_gets_the_users_options_back(plugin: Plugin) -> None:
    """What AllocateNetwork does not hand back, no node ever sees."""
    answer = await plugin.ok("/NetworkDriver.AllocateNetwork", {"NetworkID": N1, "Options": {"parent": "eth0"}})
    assert answer == {"Options": {"parent": "eth0"}}
    assert await plugin.ok("/NetworkDriver.AllocateNetwork", {"NetworkID": N1}) == {"Options": {}}
    assert await plugin.ok("/NetworkDriver.FreeNetwork", {"NetworkID": N1}) == {}
    for path in ("DiscoverNew", "DiscoverDelete"):
        data = {"DiscoveryType": 1, "DiscoveryData": {"Address": "10.0.0.1", "Self": True}}
        assert await plugin.ok(f"/NetworkDriver.{path}", data) == {}


async def test_repeated_requests_give_the_same_answers(plugin: Plugin) -> None:
    """The engine repeats a call when the connection breaks."""
    await plugin.create_network()
    ids = {"NetworkID": N1, "EndpointID": E1}
    interface = {"Address": "192.168.1.9/24", "AddressIPv6": "", "MacAddress": ""}
    gateway = {"RequestAddressType": "com.docker.network.gateway"}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/NetworkDriver.CreateNetwork", creation()),
        ("/IpamDriver.RequestAddress", {"PoolID": POOL, "Address": "192.168.1.9"}),
        ("/NetworkDriver.CreateEndpoint", {**ids, "Interface": interface}),
        ("/NetworkDriver.Join", {**ids, "SandboxKey": "/netns/c1"}),
        ("/NetworkDriver.EndpointOperInfo", ids),
        ("/NetworkDriver.Leave", ids),
        ("/NetworkDriver.DeleteEndpoint", ids),
        ("/IpamDriver.ReleaseAddress", {"PoolID": POOL, "Address": "192.168.1.9"}),
        ("/NetworkDriver.DeleteNetwork", {"NetworkID": N1}),
        ("/IpamDriver.RequestPool", {"Pool": "192.168.1.0/24"}),
        ("/IpamDriver.RequestAddress", {"PoolID": POOL, "Address": "192.168.1.1", "Options": gateway}),
        ("/IpamDriver.ReleasePool", {"PoolID": POOL}),
    ]
    for path, body in requests:
        answers = [await plugin.ok(path, body) for _ in range(2)]
        assert answers[0] == answers[1], path


async def test_a_given_mac_is_not_echoed(plugin: Plugin) -> None:
    """The engine refuses an answer that changes what it gave."""
    await plugin.create_network()
    interface = {"Address": "192.168.1.9/24", "MacAddress": "02:00:00:00:00:aa"}
    body = {"NetworkID": N1, "EndpointID": E1, "Interface": interface}
    assert await plugin.ok("/NetworkDriver.CreateEndpoint", body) == {"Interface": None}


@pytest.mark.parametrize(
    ("path", "body", "key", "words"),
    [
        ("/IpamDriver.RequestPool", {"Pool": "x"}, "Error", "--subnet 'x'"),
        ("/IpamDriver.RequestPool", {"Pool": "10.0.0.0/24", "Options": {"a": "b"}}, "Error", "--ipam-opt a"),
        ("/IpamDriver.RequestAddress", {"PoolID": "x"}, "Error", "not a pool id"),
        ("/IpamDriver.RequestAddress", {"PoolID": POOL}, "Error", "there is no pool"),
        ("/IpamDriver.ReleaseAddress", {"PoolID": POOL, "Address": "x"}, "Error", "not an IP address"),
        ("/IpamDriver.ReleasePool", {"PoolID": "x"}, "Error", "not a pool id"),
        ("/NetworkDriver.CreateNetwork", {"NetworkID": "a/b"}, "Err", "NetworkID 'a/b'"),
        ("/NetworkDriver.CreateNetwork", {"NetworkID": ""}, "Err", "NetworkID ''"),
        ("/NetworkDriver.CreateNetwork", {"NetworkID": "n" * 129}, "Err", "NetworkID"),
        ("/NetworkDriver.CreateNetwork", {"NetworkID": "n", "Options": {GENERIC: []}}, "Err", "map of strings"),
        ("/NetworkDriver.CreateNetwork", {"NetworkID": "n", "Options": {GENERIC: {"mtu": 7}}}, "Err", "map of strings"),
        ("/NetworkDriver.CreateNetwork", {"NetworkID": "n", "Options": {GENERIC: {"x": ""}}}, "Err", "unknown option"),
        ("/NetworkDriver.CreateEndpoint", {"NetworkID": "n", "EndpointID": "e"}, "Err", "network n is not known"),
        ("/NetworkDriver.CreateEndpoint", {"NetworkID": "n", "EndpointID": "é"}, "Err", "EndpointID"),
        ("/NetworkDriver.Join", {"NetworkID": "n", "EndpointID": "e"}, "Err", "not known"),
        ("/NetworkDriver.EndpointOperInfo", {"NetworkID": "n", "EndpointID": "e"}, "Err", "not known"),
    ],
)
async def test_a_request_that_cannot_be_is_an_error_where_the_engine_looks(
    plugin: Plugin, path: str, body: object, key: str, words: str
) -> None:
    """Status 200, as the engine wants it; the other key is absent; nothing is left behind."""
    before = await plugin.rig.snapshot()
    answer = await plugin.post(path, body)
    assert (answer.status, list(answer.body)) == (200, [key])
    assert words in answer.body[key]
    assert await plugin.rig.snapshot() == before


@pytest.mark.parametrize(
    "path", ["/NetworkDriver.DeleteNetwork", "/NetworkDriver.DeleteEndpoint", "/NetworkDriver.Leave"]
)
async def test_letting_go_of_the_unknown_is_fine(plugin: Plugin, path: str) -> None:
    """It is gone, which is what was asked for."""
    assert await plugin.ok(path, {"NetworkID": N1, "EndpointID": E1}) == {}


async def test_the_internal_option_may_have_any_shape(plugin: Plugin) -> None:
    """Engines send a boolean; what is neither true nor "true" is no."""
    await plugin.ok("/IpamDriver.RequestPool", {"Pool": "192.168.1.0/24"})
    for value, internal in ((True, True), ("true", True), (False, False), ([], False), ({}, False), (None, False)):
        body = creation()
        body["Options"]["com.docker.network.internal"] = value
        await plugin.ok("/NetworkDriver.CreateNetwork", body)
        assert (await plugin.rig.driver.networks.get(N1)).internal is internal


@pytest.mark.parametrize(
    "path", ["/", "/NetworkDriver.Nonsense", "/networkdriver.join", "/VolumeDriver.Create", "/%ff"]
)
async def test_an_unknown_path_is_404(plugin: Plugin, path: str) -> None:
    """Which the engine takes for "not implemented"; the body still is JSON."""
    answer = await plugin.post(path, {})
    assert answer.status == 404
    assert "not known" in answer.body["Err"]


@pytest.mark.parametrize("content_type", [None, "application/json", "text/plain", "application/x-nonsense; a=b", ";;;"])
async def test_any_content_type_will_do(plugin: Plugin, content_type: str | None) -> None:
    """Engines differ, and some send none."""
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await plugin.post("/IpamDriver.RequestPool", {"Pool": "192.168.1.0/24"}, headers=headers)
    assert answer.body["PoolID"] == POOL
    assert answer.content_type.startswith(CONTENT_TYPE)


@pytest.mark.parametrize(("path", "key"), [("/NetworkDriver.Join", "Err"), ("/IpamDriver.RequestPool", "Error")])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'{"NetworkID":{},"Pool":{}}', b"\xff", b"[" * 100_000])
async def test_what_is_no_message_is_400_with_the_reason(plugin: Plugin, path: str, key: str, body: bytes) -> None:
    """Empty, cut off, of the wrong type, not text, nested without end."""
    answer = await plugin.post(path, body)
    assert (answer.status, list(answer.body)) == (400, [key])
    assert "the request" in answer.body[key]


async def test_a_container_may_publish_all_its_ports(plugin: Plugin) -> None:
    """The engine names each of them twice, in some seven megabytes."""
    options = {
        "com.docker.network.endpoint.exposedports": [{"Proto": 17, "Port": port} for port in range(1, 65536)],
        "com.docker.network.portmap": [
            {"Proto": 17, "IP": "", "Port": port, "HostIP": "192.0.2.1", "HostPort": port, "HostPortEnd": port}
            for port in range(1, 65536)
        ],
    }
    body = json.dumps({"NetworkID": "n" * 64, "EndpointID": "e" * 64, "Interface": {}, "Options": options}).encode()
    answer = await plugin.post("/NetworkDriver.CreateEndpoint", body)
    assert answer.status == 200
    assert "is not known to macvlan-global" in answer.body["Err"]


async def test_bodies_over_sixteen_mebibytes_are_refused(plugin: Plugin) -> None:
    """One of just that size is read."""
    frame = len(b'{"Pool":""}')
    fits = await plugin.post("/IpamDriver.RequestPool", b'{"Pool":"%s"}' % (b"x" * (MAX_BODY - frame)))
    assert fits.status == 200
    over = await plugin.post("/IpamDriver.RequestPool", b'{"Pool":"%s"}' % (b"x" * (MAX_BODY - frame + 1)))
    assert (over.status, list(over.body)) == (413, ["Error"])


async def test_a_bug_is_told_as_one_and_the_next_request_is_served(plugin: Plugin) -> None:
    """Its text goes into the log, not to the engine."""
    plugin.rig.kernel.failing["link"] = ValueError("secret detail")
    answer = await plugin.post("/NetworkDriver.CreateNetwork", creation())
    assert answer.status == 200
    assert "internal error" in answer.body["Err"]
    assert "secret" not in answer.body["Err"]
    assert (await plugin.post("/Plugin.Activate")).status == 200


async def test_many_at_once_are_all_answered(plugin: Plugin) -> None:
    """A hundred containers ask for an address at the same time."""
    await plugin.create_network()
    answers = await asyncio.gather(*(plugin.ok("/IpamDriver.RequestAddress", {"PoolID": POOL}) for _ in range(100)))
    assert len({each["Address"] for each in answers}) == 100


async def test_a_caller_that_hangs_up_does_not_stop_the_others(plugin: Plugin) -> None:
    """In the middle of its body."""

    def hang_up() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as broken:
            broken.connect(str(plugin.path))
            broken.sendall(b"POST /NetworkDriver.Join HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

    await asyncio.to_thread(hang_up)
    assert (await plugin.post("/Plugin.Activate")).status == 200


async def test_without_descriptors_little_is_logged_and_who_waits_is_served_later(
    plugin: Plugin, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio tries again after a second, and logs each connection that it tried to accept."""
    callers = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3 * ACCEPTED_AT_ONCE)]
    with contextlib.ExitStack() as stack:
        for each in callers:
            stack.enter_context(each).setblocking(False)
        with no_descriptors():
            for each in callers:
                each.connect(str(plugin.path))
            async with within(30):
                while not caplog.records:  # noqa: ASYNC110 - nothing else tells of it
                    await asyncio.sleep(0.01)
            assert len(caplog.records) <= ACCEPTED_AT_ONCE
        request = b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        loop = asyncio.get_running_loop()
        for each in callers:
            async with within(30):
                await loop.sock_sendall(each, request)
                assert (await loop.sock_recv(each, 100)).startswith(b"HTTP/1.1 200")


async def test_the_socket_is_for_root_only(plugin: Plugin) -> None:
    """Who can speak to it can make links as root."""
    assert plugin.path.stat().st_mode & 0o777 == 0o600
