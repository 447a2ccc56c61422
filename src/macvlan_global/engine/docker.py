"""The engine port over the Docker API, by aiodocker."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import aiodocker
import aiohttp

from macvlan_global.engine.ports import (
    EngineEndpoint,
    EngineInfo,
    EngineNetwork,
    EngineSubnet,
    NetworkEvent,
)
from macvlan_global.errors import Unavailable

DRIVER = "macvlan-global"
ANSWER_SECONDS = 30.0


@contextmanager
def _asking(docker_host: str) -> Iterator[None]:
    try:
        yield
    except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        text = str(error) or type(error).__name__
        raise Unavailable(f"the Docker Engine at {docker_host} does not answer: {text}") from error


class DockerEngine:
    """See `macvlan_global.engine.ports.Engine`."""

    def __init__(self, docker_host: str, driver: str = DRIVER) -> None:
        """Nothing is asked yet; the engine need not run."""
        self._docker_host = docker_host
        self._driver = driver
        self._docker: aiodocker.Docker | None = None

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        with _asking(self._docker_host):
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await self._client().system.info()
        return EngineInfo(
            version=found.get("ServerVersion", ""),
            plugins=tuple((found.get("Plugins") or {}).get("Network") or ()),
            swarm=(found.get("Swarm") or {}).get("LocalNodeState") == "active",
            live_restore=bool(found.get("LiveRestoreEnabled")),
            labels=tuple(found.get("Labels") or ()),
        )

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        with _asking(self._docker_host):
            async with asyncio.timeout(ANSWER_SECONDS):
                listed = await self._client().networks.list()
                ours = [each for each in listed if each["Driver"] == self._driver]
                return [found for each in ours if (found := await self._network(each["Id"]))]

    async def events(self) -> AsyncIterator[NetworkEvent | None]:
        """See `Engine.events`."""
        with _asking(self._docker_host):
            subscriber = self._client().events.subscribe()  # type: ignore[no-untyped-call]  # aiodocker's
            await self._client().version()  # aiodocker opens the stream in a task; this tells whether anybody answers
            yield None
            while (event := await subscriber.get()) is not None:
                attributes = (event.get("Actor") or {}).get("Attributes") or {}
                if event.get("Type") == "network" and attributes.get("type") == self._driver:
                    yield NetworkEvent(event["Action"], event["Actor"]["ID"], attributes.get("name", ""))

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._docker is not None:
            docker, self._docker = self._docker, None
            await docker.close()

    def _client(self) -> aiodocker.Docker:
        if self._docker is None:
            self._docker = aiodocker.Docker(url=self._docker_host)
        return self._docker

    async def _network(self, network_id: str) -> EngineNetwork | None:
        try:
            found = await (await self._client().networks.get(network_id)).show()
        except aiodocker.DockerError as error:
            if error.status == 404:  # it went while we asked
                return None
            raise
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
            endpoints=tuple([await self._endpoint(key, each) for key, each in containers.items()]),
        )

    async def _endpoint(self, container_id: str, found: dict[str, Any]) -> EngineEndpoint:
        sandbox = ""
        if not container_id.startswith("ep-"):  # the engine's key for an endpoint of no container
            try:
                container = await self._client().containers.container(container_id).show()
                sandbox = (container.get("NetworkSettings") or {}).get("SandboxKey", "")
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
        return EngineEndpoint(
            id=found.get("EndpointID", ""),
            container=found.get("Name", ""),
            mac=found.get("MacAddress", ""),
            address=found.get("IPv4Address", "").partition("/")[0],
            address6=found.get("IPv6Address", "").partition("/")[0],
            sandbox=sandbox,
        )


def _subnet(config: dict[str, Any]) -> EngineSubnet:
    return EngineSubnet(
        subnet=config.get("Subnet", ""),
        range=config.get("IPRange", ""),
        gateway=config.get("Gateway", ""),
        aux=dict(config.get("AuxiliaryAddresses") or {}),
    )
