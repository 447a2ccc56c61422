"""What we ask the engine, in our words."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EngineSubnet:
    """One subnet of a network. CIDR text, bare gateway, aux addresses by name."""

    subnet: str
    range: str = ""
    gateway: str = ""
    aux: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineEndpoint:
    """A container's leg in a network. Bare addresses; `container` is its name, `container_id` "" if it has none."""

    id: str
    container: str
    mac: str
    address: str = ""
    address6: str = ""
    container_id: str = ""


@dataclass(frozen=True, slots=True)
class EngineNetwork:
    """A network of our driver as the engine has it."""

    id: str
    name: str
    ipam_driver: str
    internal: bool = False
    options: dict[str, str] = field(default_factory=dict)
    ipam_options: dict[str, str] = field(default_factory=dict)
    subnets: tuple[EngineSubnet, ...] = ()
    endpoints: tuple[EngineEndpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The engine itself."""

    version: str
    plugins: tuple[str, ...]
    swarm: bool
    live_restore: bool
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NetworkEvent:
    """Something happened to a network of our driver: `action` is create, destroy, connect or disconnect."""

    action: str
    network: str
    name: str


class Engine(Protocol):
    """The Docker Engine of this host.

    Raises (each method):
        Unavailable: it does not answer.
    """

    async def info(self) -> EngineInfo:
        """Version and plugins."""
        ...

    async def networks(self) -> list[EngineNetwork]:
        """Every network of our driver, with its endpoints."""
        ...

    async def sandbox(self, container_id: str) -> str:
        """The path of a container's network namespace; "" if it has none or is gone."""
        ...

    def events(self) -> AsyncIterator[NetworkEvent | None]:
        """Events of our networks from now on; the first item is None: the stream is open."""
        ...

    async def close(self) -> None:
        """Let go. Idempotent."""
        ...
