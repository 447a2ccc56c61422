"""The route of a `docker run` through the rooms, as it is really taken: calls follow the arrows of the imports."""

import functools
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import macvlan_global
from macvlan_global.libnetwork.handlers import Handlers
from macvlan_global.libnetwork.server import PluginServer
from macvlan_global.listening import listen
from macvlan_global.metrics.counts import Metrics
from macvlan_global.store.sqlite import open_sqlite
from testkit.fake_engine import engine_id
from testkit.rig import Rig
from tests.docs.imports import matrix, room
from tests.unit.libnetwork.test_server import Plugin

PACKAGE = Path(macvlan_global.__file__).parent
CALL_BACK = {"tasks", "keyed_lock", "deadline", "blocking_calls"}
"""Rooms whose purpose is to run what they are given."""
N1, E1 = engine_id("n1"), engine_id("e1")
POOL = "macvlan-global/192.168.1.0/24"


@dataclass
class Trace:
    """Modules in the order in which they were first entered, and calls that go against the arrows."""

    modules: list[str] = field(default_factory=list)
    climbs: set[str] = field(default_factory=set)

    @contextmanager
    def of(self) -> Iterator[None]:
        """Record what this thread calls within the block."""
        may = matrix()

        def entered(frame: FrameType, event: str, _argument: object) -> None:
            callee = _module(frame)
            if event != "call" or callee is None:
                return
            if callee not in self.modules:
                self.modules.append(callee)
            caller = _module(frame.f_back)
            if caller is None or room(caller) in {room(callee), *CALL_BACK}:
                return
            if room(callee) not in may[room(caller)]:
                self.climbs.add(f"{caller} calls {callee}.{frame.f_code.co_qualname}")

        sys.setprofile(entered)
        try:
            yield
        finally:
            sys.setprofile(None)


def _module(frame: FrameType | None) -> str | None:
    """The module of the package that a frame runs in; None for other code."""
    return _module_of(frame.f_code.co_filename) if frame else None


@functools.cache
def _module_of(file: str) -> str | None:
    path = Path(file)
    if not path.is_relative_to(PACKAGE):
        return None
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.fixture
async def plugin(tmp_path: Path) -> AsyncIterator[Plugin]:
    """The driver on a real state file, behind its socket."""
    rig = await Rig.build(disk=open_sqlite(tmp_path / "state.db"))
    server = PluginServer(Handlers(rig.driver).routes(), Metrics())
    path = tmp_path / "plugin.sock"
    await server.start(listen(path, what="the plugin socket"))
    yield Plugin(path, rig)
    await server.stop()
    await rig.disk.close()


async def _network(plugin: Plugin) -> None:
    await plugin.ok("/IpamDriver.RequestPool", {"AddressSpace": "macvlan-global", "Pool": "192.168.1.0/24"})
    ipv4 = [{"AddressSpace": "macvlan-global", "Pool": "192.168.1.0/24"}]
    options = {"com.docker.network.generic": {"parent": "eth0"}}
    await plugin.ok("/NetworkDriver.CreateNetwork", {"NetworkID": N1, "Options": options, "IPv4Data": ipv4})


async def _run(plugin: Plugin) -> None:
    given = await plugin.ok("/IpamDriver.RequestAddress", {"PoolID": POOL})
    endpoint = {"NetworkID": N1, "EndpointID": E1}
    await plugin.ok("/NetworkDriver.CreateEndpoint", {**endpoint, "Interface": {"Address": given["Address"]}})
    await plugin.ok("/NetworkDriver.Join", {**endpoint, "SandboxKey": "/run/docker/netns/x"})


async def _stop(plugin: Plugin) -> None:
    endpoint = {"NetworkID": N1, "EndpointID": E1}
    await plugin.ok("/NetworkDriver.Leave", endpoint)
    await plugin.ok("/NetworkDriver.DeleteEndpoint", endpoint)
    await plugin.ok("/IpamDriver.ReleaseAddress", {"PoolID": POOL, "Address": "192.168.1.1"})


async def test_no_call_of_a_container_s_life_climbs(plugin: Plugin) -> None:
    """A network is created, a container runs on it and ends: each call goes to a room that the caller may import."""
    trace = Trace()
    with trace.of():
        await _network(plugin)
        await _run(plugin)
        await _stop(plugin)
        await plugin.ok("/NetworkDriver.DeleteNetwork", {"NetworkID": N1})
    assert trace.climbs == set()


async def test_the_route_of_a_docker_run(plugin: Plugin) -> None:
    """It begins at the socket, and enters no more files than somebody can read in an afternoon."""
    await _network(plugin)
    trace = Trace()
    with trace.of():
        await _run(plugin)
    entered = [name.removeprefix("macvlan_global.") for name in trace.modules]
    assert entered[:3] == ["libnetwork.http", "libnetwork.server", "libnetwork.codec"]
    assert len(entered) <= 48  # as ARCHITECTURE says


async def test_a_climb_is_seen(plugin: Plugin) -> None:
    """A call from a lower room into a higher one, by a function that was handed down, does not go unnoticed."""
    trace = Trace()
    await _network(plugin)
    changes: Any = plugin.rig.driver.networks.wrong_with  # answers no record: that it is called is all that counts
    with trace.of():
        await plugin.rig.driver.tables.networks.update(changes, N1)
    assert any(climb.startswith("macvlan_global.store.table calls") for climb in trace.climbs)
