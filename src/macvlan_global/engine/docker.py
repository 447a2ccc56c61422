"""The engine port over the Docker API (version 1.41, which engines 20.10 to 29 all speak), by aiohttp."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from macvlan_global.engine.ports import (
    EngineEndpoint,
    EngineInfo,
    EngineNetwork,
    EngineSubnet,
    NetworkEvent,
)
from macvlan_global.errors import Invalid, Unavailable

DRIVER = "macvlan-global"
API = "v1.41"
ANSWER = aiohttp.ClientTimeout(total=30)
STREAM = aiohttp.ClientTimeout(total=None, connect=30)
NOT_FOUND = 404
DEFAULT_SOCKETS = {"/var/run/docker.sock", "/run/docker.sock"}
PID_FILE = Path("/run/docker.pid")  # /var/run is a link to /run where systemd runs
SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)


class DockerEngine:
    """See `macvlan_global.engine.ports.Engine`."""

    def __init__(self, docker_host: str, driver: str = DRIVER) -> None:
        """`docker_host` as Docker's own `-H`: `unix:///path` or `tcp://host:port`. The engine need not run yet.

        Raises:
            Invalid: `docker_host` is neither.
        """
        kind, _, where = docker_host.partition("://")
        if kind not in {"unix", "tcp"} or not where:
            raise Invalid(f"--docker-host {docker_host!r} is neither unix:///path nor tcp://host:port")
        self._docker_host = docker_host
        self._driver = driver
        self._socket = where if kind == "unix" else ""
        self._base = f"http://{'docker' if kind == 'unix' else where}/{API}"
        self._session: aiohttp.ClientSession | None = None

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        found = await self._get("/info")
        return EngineInfo(
            version=found.get("ServerVersion", ""),
            plugins=tuple((found.get("Plugins") or {}).get("Network") or ()),
            swarm=(found.get("Swarm") or {}).get("LocalNodeState") == "active",
            live_restore=bool(found.get("LiveRestoreEnabled")),
            labels=tuple(found.get("Labels") or ()),
        )

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        listed = await self._get("/networks")
        ours = [each["Id"] for each in listed if each["Driver"] == self._driver]
        # one that went while we asked is None
        found = [await self._get(f"/networks/{network}") for network in ours]
        return [_network(each) for each in found if each]

    async def sandbox(self, container_id: str) -> str:
        """See `Engine.sandbox`."""
        found = await self._get(f"/containers/{container_id}/json") or {}
        return str((found.get("NetworkSettings") or {}).get("SandboxKey", ""))

    async def events(self) -> AsyncIterator[NetworkEvent | None]:
        """See `Engine.events`."""
        asked = {"filters": json.dumps({"type": ["network"]})}
        with self._asking():
            url = f"{self._base}/events"
            async with self._open().get(url, params=asked, timeout=STREAM) as stream:
                yield None
                async for line in stream.content:
                    event = json.loads(line)
                    attributes = event["Actor"].get("Attributes") or {}
                    if attributes.get("type") == self._driver:
                        yield NetworkEvent(event["Action"], event["Actor"]["ID"], attributes.get("name", ""))

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(self._socket) if self._socket else aiohttp.TCPConnector()
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    async def _get(self, path: str) -> Any:
        """The JSON at this path, or None if there is none."""
        with self._asking():
            async with self._open().get(self._base + path, timeout=ANSWER) as response:
                if response.status == NOT_FOUND:
                    return None
                response.raise_for_status()
                return await response.json()

    def _refuse_to_wake(self) -> None:
        """Where systemd listens for the engine (docker.socket), to connect is to start it: an operator who stopped it
        would see it come back. dockerd removes its pid file when it ends."""
        if self._socket in DEFAULT_SOCKETS and SYSTEMD.exists() and not PID_FILE.exists():
            raise Unavailable(f"the Docker Engine at {self._docker_host} is not running (there is no {PID_FILE})")

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._refuse_to_wake()
        try:
            yield
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError, json.JSONDecodeError) as error:  # noqa: UP041
            # aiohttp's own text of a refused connection speaks of TLS, where there is none
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(f"the Docker Engine at {self._docker_host} does not answer: {text}") from error


def _network(found: dict[str, Any]) -> EngineNetwork:
    ipam = found.get("IPAM") or {}
    containers = found.get("Containers") or {}
    return EngineNetwork(
        id=found["Id"],
        name=found["Name"],
        ipam_driver=ipam.get("Driver", ""),
        internal=bool(found.get("Internal")),
        options=dict(found.get("Options") or {}),
        ipam_options=dict(ipam.get("Options") or {}),
        subnets=tuple(_subnet(each) for each in ipam.get("Config") or ()),
        endpoints=tuple(_endpoint(key, each) for key, each in containers.items()),
    )


def _endpoint(container_id: str, found: dict[str, Any]) -> EngineEndpoint:
    return EngineEndpoint(
        id=found.get("EndpointID", ""),
        container=found.get("Name", ""),
        mac=found.get("MacAddress", ""),
        address=found.get("IPv4Address", "").partition("/")[0],
        address6=found.get("IPv6Address", "").partition("/")[0],
        # the engine's key for an endpoint of no container begins with "ep-"
        container_id="" if container_id.startswith("ep-") else container_id,
    )


def _subnet(config: dict[str, Any]) -> EngineSubnet:
    return EngineSubnet(
        subnet=config.get("Subnet", ""),
        range=config.get("IPRange", ""),
        gateway=config.get("Gateway", ""),
        aux=dict(config.get("AuxiliaryAddresses") or {}),
    )
