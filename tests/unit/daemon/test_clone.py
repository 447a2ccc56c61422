"""A clone of a living host, machine id and all: it frees nothing, serves nothing, and says why."""

import asyncio
import contextlib
import json
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from lab.unixhttp import UnixConnection
from macvlan_global.config import Config
from macvlan_global.daemon import Daemon
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import ClusterStore
from testkit.fake_engine import FakeEngine
from testkit.fake_kernel import FakeKernel
from testkit.faults import Faults, FaultyStore
from testkit.rig import Rig
from tests.unit.running import ENDPOINT, SPACE, command, running, with_networks

WAITS = "another run of this host is in the cluster"
POOL = f"{SPACE}/10.65.0.0/24"


@contextlib.asynccontextmanager
async def _clone(folder: Path, store: ClusterStore) -> AsyncIterator[tuple[Config, "asyncio.Task[None]"]]:
    """A machine that was made from the disk of anna's, and booted: the driver on it starts. Its engine has nothing."""
    shutil.copytree(folder / "anna-state", folder / "clone-state")
    config = Config(
        socket=str(folder / "clone.sock"),
        admin_socket=str(folder / "clone-admin.sock"),
        state_dir=str(folder / "clone-state"),
        host_name="clone",
        dns="",
        store="consul://127.0.0.1:8500",
        repair_grace=0,
    )
    rig = await Rig.build("eth1", "eth2")
    engine: FakeEngine = rig.engine
    kernel: FakeKernel = rig.kernel
    daemon = Daemon(
        config,
        kernel=kernel,
        engine=engine,
        open_cluster_store=lambda _url, _access, _crowd: store,
        boot=lambda: "elsewhere",
    )

    async def serve() -> None:
        async with daemon:
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    yield config, task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a log tells nobody that it was written
            await asyncio.sleep(0.01)


async def _contents(store: MemoryStore) -> dict[str, bytes]:
    """Everything that hosts share, but for the hosts themselves."""
    prefixes = ("addresses/", "pools/", "names/", "definitions/", "removed/")
    return {entry.key: entry.value for each in prefixes for entry in await store.scan(each)}


def _ask(config: Config, method: str, body: dict[str, str]) -> str:
    """The error that the engine is told; "" if it is none."""
    connection = UnixConnection(Path(config.socket), timeout=20)
    connection.request("POST", f"/{method}", json.dumps(body))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return str(answer.get("Err") or answer.get("Error") or "")


async def test_the_clone_of_a_living_host_serves_nothing_and_frees_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for as long as a lease can last, answers nobody meanwhile, and the log has the reason."""
    shared = MemoryStore()
    async with running(tmp_path, capsys, shared=shared.client()) as anna:
        await with_networks(anna)
        before = await _contents(shared)
        assert f"addresses/{POOL.partition('/')[0]}/010.065.000.009" in before
        async with _clone(tmp_path, shared.client()) as (config, clone):
            await _until(lambda: WAITS in caplog.text)
            assert not clone.done()
            with socket.socket(socket.AF_UNIX) as engine:
                engine.connect(config.socket)
                engine.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                engine.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    await asyncio.to_thread(engine.recv, 1)
            assert not Path(config.admin_socket).exists()
            assert await _contents(shared) == before
        assert await _contents(shared) == before
        assert (await anna.cli("status")).code == 0


async def test_a_clone_that_starts_without_the_store_frees_nothing_when_that_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """As any host it serves what it can meanwhile. Then neither repair, nor releases, nor the engine's requests reach
    the store."""
    shared, faults = MemoryStore(), Faults()
    async with running(tmp_path, capsys, shared=shared.client()) as anna:
        await with_networks(anna)
        before = await _contents(shared)
        faults.away = True
        async with _clone(tmp_path, FaultyStore(shared.client(), faults)) as (config, _):
            await _until(lambda: Path(config.admin_socket).exists())
            faults.away = False
            await _until(lambda: WAITS in caplog.text)
            asked = await asyncio.to_thread(
                _ask, config, "IpamDriver.RequestAddress", {"PoolID": POOL, "Address": "10.65.0.9"}
            )
            assert "10.65.0.9 is in use" in asked or WAITS in asked
            asked = await asyncio.to_thread(_ask, config, "IpamDriver.RequestAddress", {"PoolID": POOL, "Address": ""})
            assert WAITS in asked
            gone = {"NetworkID": "1a" * 32, "EndpointID": ENDPOINT}
            await asyncio.to_thread(_ask, config, "NetworkDriver.DeleteEndpoint", gone)
            release = {"PoolID": POOL, "Address": "10.65.0.9"}
            await asyncio.to_thread(_ask, config, "IpamDriver.ReleaseAddress", release)
            await asyncio.to_thread(command, capsys, "repair", "--admin-socket", config.admin_socket)
            await asyncio.sleep(0)
            assert await _contents(shared) == before
        assert await _contents(shared) == before
