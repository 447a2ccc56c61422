"""The engine port over the Docker API, by aiohttp.

It speaks version 1.41, that of engine 20.10, unless the engine refuses it: engines 29.0 to 29.2 want 1.44 at least.
Then it asks the engine for the oldest that it takes, and does so again if another engine is there one day.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Any, NoReturn
from urllib.parse import quote

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from macvlan_global.engine.inspected import container, event, event_of_beginning, network, network_request, refers_to
from macvlan_global.engine.ports import EngineContainer, EngineEvent, EngineInfo, EngineNetwork, NewNetwork
from macvlan_global.engine.socket_activation import SOCKETS, reason_not_to_wake
from macvlan_global.errors import Conflict, Invalid, Unavailable

DRIVER = "macvlan-global"
OLDEST_API = (1, 41)
NO_IPV4_API = (1, 48)
"""The API version of networks without IPv4: older ones ignore the wish, and the network gets an IPv4 subnet."""
OTHER_API = b"supported API version is"
"""In what an engine says to a client that is too old for it, or too new."""
OK = 200
ANSWER_SECONDS = 30
TIMES = aiohttp.ClientTimeout(total=None, connect=30)
"""For a connection only: aiohttp's `total` takes a cancellation of the task that comes in the same turn of the loop for
its own, and the task would go on. So the whole of an answer has asyncio's timeout."""
LONGEST_EVENT = 256 * 1024
"""Bytes of an event that are kept."""
SAID_MOST = 300
"""Characters of an error of the engine that are told."""
NOT_FOUND = 404
IN_THE_WAY = {403, 409}  # containers are on it, and the name is taken
REFUSED = 400
ACTIONS = ("create", "destroy", "connect", "disconnect", "start", "die", "rename")

_BROKEN = (aiohttp.ClientError, HttpProcessingError, OSError, EOFError)
"""Errors of the transport; timeouts are OSErrors."""
_UNREADABLE = (LookupError, TypeError, AttributeError, ValueError, RecursionError)
"""Errors of taking apart what is no JSON, or other JSON than Docker's."""


class _RefusedError(Unavailable):
    """The engine answered with an error."""


class DockerEngine:
    """See `macvlan_global.engine.ports.Engine`."""

    def __init__(
        self,
        docker_host: str,
        driver: str = DRIVER,
        ipam_driver: str = DRIVER,
        *,
        open_session: "Callable[[str], aiohttp.ClientSession] | None" = None,
    ) -> None:
        """`docker_host` as Docker's own `-H`: `unix:///path` or `tcp://host:port`. The engine need not run yet.

        Networks are made with `driver` and `ipam_driver`, the engine's names of ours. `open_session` is for tests: it
        makes the HTTP client, for the socket at a path or, with "", for TCP.

        Raises:
            Invalid: `docker_host` is neither.
        """
        kind, _, where = docker_host.partition("://")
        if kind not in {"unix", "tcp"} or not where:
            raise Invalid(f"--docker-host {docker_host!r} is neither unix:///path nor tcp://host:port")
        self._docker_host = docker_host
        self._driver = driver
        self._ipam_driver = ipam_driver
        self._socket = where if kind == "unix" else ""
        self._root = f"http://{'docker' if kind == 'unix' else where}"
        self._open_session = open_session or self._new_session
        self._session: aiohttp.ClientSession | None = None
        self._api: tuple[int, ...] = OLDEST_API

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        found = await self._get("/info")
        none = await self._get("/networks/none") or {}
        with self._reading():
            return EngineInfo(
                version=found.get("ServerVersion", ""),
                plugins=tuple((found.get("Plugins") or {}).get("Network") or ()),
                swarm=(found.get("Swarm") or {}).get("LocalNodeState") == "active",
                live_restore=bool(found.get("LiveRestoreEnabled")),
                labels=tuple(found.get("Labels") or ()),
                # this network is made with the engine's data, and has its id as long as they last
                id=none.get("Id", ""),
            )

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        listed = await self._get("/networks")
        with self._reading():
            ours = [each["Id"] for each in listed if each["Driver"] == self._driver]
            # one that went while we asked is None
            found = [await self._get(f"/networks/{network_id}") for network_id in ours]
            return [self._network(each) for each in found if each]

    async def ipam_networks(self) -> list[EngineNetwork]:
        """See `Engine.ipam_networks`. A network for `--config-from` only has settings, and no addresses."""
        listed = await self._get("/networks")
        with self._reading():
            theirs = [
                each["Id"]
                for each in listed
                if each["Driver"] != self._driver
                and (each.get("IPAM") or {}).get("Driver") == self._ipam_driver
                and not each.get("ConfigOnly")
            ]
            found = [await self._get(f"/networks/{network_id}") for network_id in theirs]
            return [self._network(each) for each in found if each]

    async def every_network(self) -> list[EngineNetwork]:
        """See `Engine.every_network`."""
        with self._reading():
            return [replace(self._network(each), endpoints=()) for each in await self._get("/networks")]

    async def endpoint_ids(self) -> set[str]:
        """See `Engine.endpoint_ids`."""
        with self._reading():
            found = [await self._get(f"/networks/{each['Id']}") for each in await self._get("/networks")]
            legs = [leg for each in found if each for leg in (each.get("Containers") or {}).values()]
            return {leg["EndpointID"] for leg in legs}

    async def named(self, name: str) -> EngineNetwork | None:
        """See `Engine.named`."""
        if "/" in name or not name.strip("."):  # the engine's router takes these for other paths
            return await self._one_of(name)
        try:
            found = await self._get(f"/networks/{quote(name, safe='')}")
        except _RefusedError:
            return await self._one_of(name)  # engines before 25 refuse to choose between two of a name
        with self._reading():
            # without a network of the name, the engine takes it for the beginning of an id
            return self._network(found) if found and found["Name"] == name else None

    async def add_network(self, wanted: NewNetwork) -> str:
        """See `Engine.add_network`."""
        body = network_request(wanted, self._driver, self._ipam_driver)
        least = OLDEST_API if wanted.ipv4 else await self._without_ipv4()
        reply = await self._ask("POST", "/networks/create", body, least)
        with self._reading():
            return str(reply["Id"])

    async def delete_network(self, network_id: str) -> None:
        """See `Engine.delete_network`."""
        await self._ask("DELETE", f"/networks/{network_id}")

    async def referring(self, network: EngineNetwork) -> list[str]:
        """See `Engine.referring`."""
        # by name too: a container that was never started knows no id
        filters = json.dumps({"network": [network.id, network.name]})
        listed = await self._get(f"/containers/json?all=1&filters={quote(filters, safe='')}")
        with self._reading():
            return sorted(name for each in listed if (name := refers_to(each, network)))

    async def container(self, container_id: str) -> EngineContainer | None:
        """See `Engine.container`."""
        found = await self._get(f"/containers/{container_id}/json")
        with self._reading():
            return container(found) if found else None

    async def sandbox(self, container_id: str) -> str:
        """See `Engine.sandbox`."""
        found = await self._get(f"/containers/{container_id}/json") or {}
        with self._reading():
            return str((found.get("NetworkSettings") or {}).get("SandboxKey", ""))

    async def sandboxes(self) -> set[str]:
        """See `Engine.sandboxes`."""
        with self._reading():
            running = [str(each["Id"]) for each in await self._get("/containers/json")]
        return {await self.sandbox(each) for each in running} - {""}

    async def events(self) -> AsyncGenerator[EngineEvent | None]:
        """See `Engine.events`."""
        asked = {"filters": json.dumps({"type": ["network", "container"], "event": ACTIONS})}
        with self._asking():
            async with self._answer("GET", "/events", params=asked) as stream:
                if stream.status != OK:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await self._refuse(stream)
                yield None
                async with aclosing(event_lines(stream.content.iter_any())) as lines:
                    async for line, cut in lines:
                        if seen := event_of_beginning(line) if cut else event(json.loads(line), self._driver):
                            yield seen

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _network(self, found: dict[str, Any]) -> EngineNetwork:
        return network(found, self._driver, self._ipam_driver)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._open_session(self._socket)
        return self._session

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, least: tuple[int, ...] = OLDEST_API, **asked: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The engine's answer, in the API version that is spoken with it, but in no older one than `least`."""
        while True:
            spoken = self._api
            api = max(spoken, least)
            url = f"{self._root}/v{api[0]}.{api[1]}{path}"
            async with self._open().request(method, url, timeout=TIMES, **asked) as response:
                if not await self._is_for_another_api(response, spoken):
                    yield response
                    return

    async def _is_for_another_api(self, response: aiohttp.ClientResponse, spoken: tuple[int, ...]) -> bool:
        """Whether the engine refused the API version that was spoken, and another one is known by now."""
        if response.status != REFUSED or OTHER_API not in await response.read():
            return False
        if self._api == spoken:  # else another request has found it out meanwhile
            async with self._open().request("GET", f"{self._root}/version", timeout=TIMES) as told:
                self._api = max(OLDEST_API, _numbers((await told.json()).get("MinAPIVersion") or ""))
        return self._api != spoken

    async def _get(self, path: str) -> Any:
        """The JSON at this path, or None if there is none."""
        with self._asking():
            async with asyncio.timeout(ANSWER_SECONDS), self._answer("GET", path) as response:
                if response.status == NOT_FOUND:
                    return None
                if response.status >= REFUSED:
                    await self._refuse(response)
                return await response.json()

    async def _refuse(self, response: aiohttp.ClientResponse) -> NoReturn:
        """Raise what an answer with an error says."""
        text = " ".join((await response.read()).decode(errors="replace").split())
        with suppress(*_UNREADABLE):
            text = " ".join(str(json.loads(text)["message"]).split())
        raise _RefusedError(
            f"the Docker Engine at {self._docker_host} answers with an error: {response.status} {text[:SAID_MOST]}"
        )

    async def _one_of(self, name: str) -> EngineNetwork | None:
        """Of several networks of one name, ours if there is one, with the others as its twins."""
        with self._reading():
            same = [each["Id"] for each in await self._get("/networks") if each["Name"] == name]
            found = [self._network(each) for each in [await self._get(f"/networks/{one}") for one in same] if each]
        found.sort(key=lambda each: bool(each.driver))
        return replace(found[0], twins=tuple(found[1:])) if found else None

    async def _ask(self, method: str, path: str, body: Any = None, least: tuple[int, ...] = OLDEST_API) -> Any:
        """Have something done; the JSON that is answered, None if there is none or nothing to do it to."""
        with self._asking():
            async with asyncio.timeout(ANSWER_SECONDS), self._answer(method, path, least, json=body) as response:
                if response.status < REFUSED:
                    return await response.json() if await response.read() else None
                if response.status == NOT_FOUND and method == "DELETE":
                    return None
                said = await response.json(content_type=None)
                text = " ".join(str(said.get("message", "")).split())
        raise (Conflict if response.status in IN_THE_WAY else Invalid)(f"the Docker Engine refuses: {text}")

    async def _without_ipv4(self) -> tuple[int, ...]:
        """The version of the API for a network that has no IPv4."""
        found = await self._get("/version")
        with self._reading():
            version = _numbers(found.get("ApiVersion", ""))
        if version < NO_IPV4_API:
            raise Invalid("a network without IPv4 needs Docker Engine 28 or newer")
        return NO_IPV4_API

    def _new_session(self, socket: str) -> aiohttp.ClientSession:
        connections = aiohttp.TraceConfig()
        if socket in SOCKETS:
            connections.on_connection_create_start.append(self._refuse_to_wake)
        connector = aiohttp.UnixConnector(socket) if socket else aiohttp.TCPConnector()
        return aiohttp.ClientSession(connector=connector, trace_configs=[connections])

    async def _refuse_to_wake(self, *_: object) -> None:
        """Do not start an engine that an operator stopped: see `macvlan_global.engine.socket_activation`. For each new
        connection, as one that is there wakes nobody."""
        if reason := await asyncio.to_thread(reason_not_to_wake):
            raise Unavailable(f"the Docker Engine at {self._docker_host} is not running ({reason})")

    @contextmanager
    def _asking(self) -> Iterator[None]:
        with self._reading():
            try:
                yield
            except _BROKEN as error:
                # aiohttp's own text of a refused connection speaks of TLS, where there is none
                text = getattr(error, "strerror", None) or str(error) or type(error).__name__
                raise Unavailable(f"the Docker Engine at {self._docker_host} does not answer: {text}") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _UNREADABLE as error:
            raise Unavailable(
                f"the answer of the Docker Engine at {self._docker_host} cannot be parsed "
                f"({type(error).__name__}: {error}); is it Docker 20.10 or later?"
            ) from error


async def event_lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[tuple[bytes, bool]]:
    """Lines of a stream that comes in pieces. Of one that is longer than `LONGEST_EVENT` only the beginning is kept,
    and True beside it says so: an event of a container has all its labels, which may be megabytes."""
    line = bytearray()
    async for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for each in ended:
            line += each[: LONGEST_EVENT - len(line)]
            if line.strip():
                yield bytes(line), len(line) == LONGEST_EVENT
            line = bytearray()
        line += rest[: LONGEST_EVENT - len(line)]
    if line.strip():
        yield bytes(line), len(line) == LONGEST_EVENT


def _numbers(version: str) -> tuple[int, ...]:
    """Of "1.48" (1, 48): versions are compared so. Empty if it is no such version."""
    numbers = tuple(int(part) for part in version.split(".") if part.isdecimal())
    return numbers if len(numbers) > 1 else ()
