"""The double of an engine keeps the promises of real ones, in this process and as Docker's API on a socket.

Real engines are held to the same suite by `tests/e2e/test_engine_api.py`.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from macvlan_global.engine.docker import DockerEngine
from testkit.engine_contract import ENGINE_CONTRACT, Check, EngineRig
from testkit.rig import Rig
from testkit.served_engine import ServedEngine

OPTIONS = {"parent": "eth0"}


@pytest.fixture
async def double() -> EngineRig:
    """The double, with a driver in this process."""
    engine = (await Rig.build("eth0")).engine
    return EngineRig(engine, engine.run, engine.stop, engine.stop_only, OPTIONS)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[EngineRig]:
    """The port over Docker's API, which the double serves."""
    engine = (await Rig.build("eth0")).engine
    server, client = ServedEngine(engine), DockerEngine(f"unix://{tmp_path}/docker.sock")
    await server.start(tmp_path / "docker.sock")
    yield EngineRig(client, engine.run, engine.stop, engine.stop_only, OPTIONS)
    await client.close()
    await server.stop()


@pytest.mark.parametrize("check", ENGINE_CONTRACT, ids=lambda check: check.__name__)
async def test_the_double(check: Check, double: EngineRig) -> None:
    """One promise, kept by the double; each says in its docstring what it is."""
    await check(double)


@pytest.mark.parametrize("check", ENGINE_CONTRACT, ids=lambda check: check.__name__)
async def test_the_double_on_a_socket(check: Check, served: EngineRig) -> None:
    """One promise, kept by the double behind Docker's API."""
    await check(served)
