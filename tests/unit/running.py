"""The real daemon on doubles, and commands that ask it: all in this process, on sockets below a folder of the test."""

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.speed import within
from lab.unixhttp import UnixConnection
from macvlan_global.cli.app import Failed, run
from macvlan_global.config import Config
from macvlan_global.daemon import Daemon
from macvlan_global.doctor.findings import Finding
from macvlan_global.driver.driver import Driver
from macvlan_global.engine.ports import EngineEvent, EngineNetwork
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.store.ports import ClusterStore
from testkit.fake_engine import OUR_IPAM, FakeEngine
from testkit.fake_kernel import FakeKernel
from testkit.plugin_calls import InProcess
from testkit.rig import Rig

SPACE = "macvlan-global"
LAN, ISOLATED, ENDPOINT = "1a" * 32, "2b" * 32, "3c" * 32


@dataclass(frozen=True, slots=True)
class Output:
    """Printed text and the exit code of a command; `error` is the text that `main` would print on stderr."""

    text: str
    error: str
    code: int

    @property
    def rows(self) -> list[list[str]]:
        """The lines of a table, split where there are at least three blanks."""
        return [[cell for cell in line.split("   ") if cell] for line in self.text.splitlines()]

    @property
    def json(self) -> Any:
        """The text read as JSON."""
        return json.loads(self.text)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> Output:
    """A command line as `main` runs it, in this process."""
    capsys.readouterr()
    error, code = "", 0
    try:
        code = run("macvlan-global", list(arguments))
    except Failed as failure:
        error, code = failure.message, failure.code
    except MacvlanGlobalError as failure:
        error, code = str(failure), 1
    return Output(capsys.readouterr().out, error, code)


class SteadyEngine(FakeEngine):
    """An engine whose stream of events stays open; `followed` once the daemon has reconciled with it."""

    def __init__(self, driver: Driver, kernel: FakeKernel) -> None:
        """As `FakeEngine`."""
        super().__init__(InProcess(driver), kernel)
        self.followed = asyncio.Event()

    async def events(self) -> AsyncGenerator[EngineEvent | None]:
        """See `Engine.events`: the stream opens, and nothing happens."""
        yield None
        self.followed.set()
        await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Running:
    """A running daemon, its doubles, and its configuration."""

    config: Config
    kernel: FakeKernel
    engine: "SteadyEngine"
    capsys: pytest.CaptureFixture[str]

    async def cli(self, *arguments: str) -> Output:
        """A command that asks this daemon."""
        return await asyncio.to_thread(command, self.capsys, *arguments, "--admin-socket", self.config.admin_socket)

    async def call(self, method: str, **body: object) -> dict[str, Any]:
        """A request of the engine on the plugin socket; an error in the answer fails the test."""
        answer = await asyncio.to_thread(self._post, method, body)
        assert not answer.get("Err"), answer
        assert not answer.get("Error"), answer
        return answer

    def _post(self, method: str, body: dict[str, object]) -> dict[str, Any]:
        connection = UnixConnection(Path(self.config.socket), timeout=20)
        connection.request("POST", f"/{method}", json.dumps(body))
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    async def metrics(self) -> str:
        """What it tells Prometheus."""
        return await asyncio.to_thread(_get, self.config.metrics, "/metrics")

    async def create_network(self, identity: str, name: str, subnets: dict[str, str], **options: str) -> None:
        """`docker network create`; `subnets` are gateways by subnet."""
        data: dict[str, list[dict[str, Any]]] = {"IPv4Data": [], "IPv6Data": []}
        for subnet, gateway in subnets.items():
            ipv6 = ":" in subnet
            pool = await self.call("IpamDriver.RequestPool", AddressSpace=SPACE, Pool=subnet, Options={}, V6=ipv6)
            kind = {"RequestAddressType": "com.docker.network.gateway"}
            await self.call("IpamDriver.RequestAddress", PoolID=pool["PoolID"], Address=gateway, Options=kind)
            fields = {"AddressSpace": SPACE, "Pool": subnet, "Gateway": f"{gateway}/{subnet.partition('/')[2]}"}
            data["IPv6Data" if ipv6 else "IPv4Data"].append(fields)
        wanted = {"com.docker.network.generic": options}
        await self.call("NetworkDriver.CreateNetwork", NetworkID=identity, Options=wanted, **data)
        self.engine.learn(EngineNetwork(identity, name, OUR_IPAM, options=dict(options)))

    async def create_endpoint(self, network: str, endpoint: str, subnet: str, address: str) -> None:
        """`docker run --ip`, up to the endpoint."""
        found = await self.call("IpamDriver.RequestAddress", PoolID=f"{SPACE}/{subnet}", Address=address, Options={})
        interface = {"Address": found["Address"], "AddressIPv6": "", "MacAddress": ""}
        ids = {"NetworkID": network, "EndpointID": endpoint}
        await self.call("NetworkDriver.CreateEndpoint", **ids, Interface=interface, Options={})


def free_address() -> str:
    """HOST:PORT on loopback where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def _get(address: str, path: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    name: str = "anna",
    shared: ClusterStore | None = None,
    networks: Iterable[EngineNetwork] = (),
    findings: Iterable[Finding] = (),
    **settings: Any,
) -> AsyncIterator[Running]:
    """A daemon with eth1 and eth2, up, below `folder`; with `shared` in global scope on that store. Its engine has
    `networks`: those of an earlier run, say; its doctor has these `findings`."""
    config = Config(
        socket=str(folder / f"{name}.sock"),
        admin_socket=str(folder / f"{name}-admin.sock"),
        state_dir=str(folder / f"{name}-state"),
        host_name=name,
        dns="",
    )
    if shared:
        config = msgspec.structs.replace(config, store="consul://127.0.0.1:8500")
    config = msgspec.structs.replace(config, **settings)
    kernel = FakeKernel("eth1", "eth2")
    engine = SteadyEngine((await Rig.build(kernel=kernel)).driver, kernel)
    for each in networks:
        engine.learn(each)

    def open_shared(_url: str, _access: object, _crowd: object) -> ClusterStore:
        assert shared is not None
        return shared

    found = list(findings)
    async with Daemon(config, kernel=kernel, engine=engine, open_cluster_store=open_shared, look=lambda _: found):
        async with within(60):
            await engine.followed.wait()
        yield Running(config, kernel, engine, capsys)


async def with_networks(daemon: Running) -> None:
    """Make LAN and ISOLATED: two subnets, parents of which the second exists, one endpoint; a parent that is down."""
    await daemon.create_network(LAN, "lan", {"10.65.0.0/24": "10.65.0.1", "fd65::/64": "fd65::1"}, parent="eth7, eth1")
    more = {"parent": "eth2", "macvlan_mode": "private"}
    await daemon.create_network(ISOLATED, "isolated", {"10.66.0.0/24": "10.66.0.1"}, **more)
    await daemon.create_endpoint(LAN, ENDPOINT, "10.65.0.0/24", "10.65.0.9")
    await daemon.kernel.set_down("eth2")
