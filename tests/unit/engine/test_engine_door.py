"""Nothing foreign comes out of the engine's port: whatever happens below, its callers see one of the six classes."""

from collections.abc import Awaitable, Callable
from typing import cast

import aiohttp
import pytest

from macvlan_global.engine.docker import DockerEngine
from macvlan_global.engine.ports import NewNetwork
from macvlan_global.errors import MacvlanGlobalError
from testkit.foreign_errors import GARBAGE, BrokenHttp, broken_http

pytestmark = pytest.mark.virtual_time

WANTED = NewNetwork("lan")


async def _events(engine: DockerEngine) -> None:
    async for _ in engine.events():
        pass


OPERATIONS: dict[str, Callable[[DockerEngine], Awaitable[object]]] = {
    "info": lambda engine: engine.info(),
    "networks": lambda engine: engine.networks(),
    "every_network": lambda engine: engine.every_network(),
    "endpoint_ids": lambda engine: engine.endpoint_ids(),
    "named": lambda engine: engine.named("lan"),
    "add_network": lambda engine: engine.add_network(WANTED),
    "delete_network": lambda engine: engine.delete_network("n1"),
    "container": lambda engine: engine.container("c1"),
    "sandbox": lambda engine: engine.sandbox("c1"),
    "sandboxes": lambda engine: engine.sandboxes(),
    "events": _events,
}


async def _foreign(name: str, http: BrokenHttp) -> Exception | None:
    """The foreign exception that comes out of an operation, None if there is none."""
    engine = DockerEngine("tcp://engine:1", open_session=lambda _: cast("aiohttp.ClientSession", http))
    try:
        await OPERATIONS[name](engine)
    except MacvlanGlobalError:
        pass
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return error
    finally:
        await engine.close()
    return None


async def test_every_error_of_the_transport_becomes_one_of_ours() -> None:
    """At each step of a request, for each operation."""
    foreign = {
        f"{name}: {error!r} at {step}": found
        for name in OPERATIONS
        for error, step in broken_http(few=name != "info")
        if (found := await _foreign(name, BrokenHttp(error, step)))
    }
    assert foreign == {}


@pytest.mark.parametrize("status", [200, 201, 400, 403, 404, 409, 500])
async def test_an_answer_that_nobody_understands_becomes_an_error_of_ours(status: int) -> None:
    """Something else listens there, or a later engine says it in another way."""
    foreign = {
        f"{name}: {body[:30]!r}": found
        for name in OPERATIONS
        for body in GARBAGE
        if (found := await _foreign(name, BrokenHttp(body=body, status=status)))
    }
    assert foreign == {}
