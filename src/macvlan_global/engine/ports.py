"""The port of the Docker Engine: everything that the driver requests of it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

NO_IPAM = "null"
"""The engine's IPAM driver that gives no addresses. Its networks have no subnets (the engine shows 0.0.0.0/0)."""


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

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those that it has."""
        return tuple(filter(None, (self.address, self.address6)))

    @property
    def described(self) -> str:
        """It, as the operator knows it: by its container, with what it has."""
        return f"{self.container or self.id[:12]} ({', '.join(self.addresses) or self.mac})"


@dataclass(frozen=True, slots=True)
class EngineNetwork:
    """A network as the engine has it.

    `driver` and `ipam_driver` are "" if they are ours, by whatever names the engine of this host knows these: hosts
    whose engines call the driver differently see the same. Others have the engine's name for them. `ipv4` and `ipv6`
    tell which families it was made with; engines before 28 always have the former. `scope` is "swarm" for what the
    swarm's managers look after. `twins` are other networks of the very same name, which engines before 25 can come to
    have. `referring` names the containers that are on it, running or stopped; it is looked up only where it matters.
    """

    id: str
    name: str
    ipam_driver: str
    internal: bool = False
    options: dict[str, str] = field(default_factory=dict)
    ipam_options: dict[str, str] = field(default_factory=dict)
    subnets: tuple[EngineSubnet, ...] = ()
    endpoints: tuple[EngineEndpoint, ...] = ()
    driver: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    scope: str = "local"
    twins: tuple["EngineNetwork", ...] = ()
    referring: tuple[str, ...] = ()

    @property
    def is_made_here(self) -> bool:
        """Whether the driver here was surely told of it: a manager shows the whole swarm's networks, and a node makes
        one when its first container comes."""
        return self.scope != "swarm" or bool(self.endpoints)


@dataclass(frozen=True, slots=True)
class NewNetwork:
    """A network of our driver that the engine is to make. Subnets keep their order; `ipam_driver` is "" for ours."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    internal: bool = False
    attachable: bool = False
    ipv4: bool = True
    ipv6: bool = False
    ipam_options: dict[str, str] = field(default_factory=dict)
    subnets: tuple[EngineSubnet, ...] = ()
    ipam_driver: str = ""


@dataclass(frozen=True, slots=True)
class EnginePort:
    """A port of a container: its number, and "tcp", "udp" or "sctp"."""

    port: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class EngineLeg:
    """A container's leg in a network, seen from the container. Bare addresses; `endpoint` is "" if it does not run.

    `names` are the aliases that the user gave and what the engine answers for, in the engine's order.
    """

    network: str
    network_name: str
    endpoint: str
    address: str = ""
    address6: str = ""
    mac: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineContainer:
    """A container, its legs in all its networks, and its ports: `exposed` to others, `published` on the host."""

    id: str
    name: str
    hostname: str
    running: bool
    legs: tuple[EngineLeg, ...] = ()
    exposed: tuple[EnginePort, ...] = ()
    published: tuple[EnginePort, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The engine itself.

    `id` tells its data about networks from any other: it is another one once these were lost, though the engine may
    go by the same name then (`docker info` shows the same ID after /var/lib/docker was emptied, before engine 23).
    """

    version: str
    plugins: tuple[str, ...]
    swarm: bool
    live_restore: bool
    labels: tuple[str, ...]
    id: str = ""


@dataclass(frozen=True, slots=True)
class NetworkEvent:
    """Something happened to a network of our driver: `action` is create, destroy, connect or disconnect.

    Networks of other drivers are told of too when they are destroyed: the name may be wanted for one of ours. `name`
    is the network's; `container` is the id of the container that came or went, "" in the other actions.
    """

    action: str
    network: str
    name: str
    container: str = ""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something happened to any container: `action` is start, die, rename or destroy. `name` is what it is called
    now."""

    action: str
    container: str
    name: str


EngineEvent = NetworkEvent | ContainerEvent


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

    async def ipam_networks(self) -> list[EngineNetwork]:
        """Every network of another driver with addresses of our IPAM driver, with its endpoints."""
        ...

    async def sandbox(self, container_id: str) -> str:
        """The path of a container's network namespace; "" if it has none or is gone."""
        ...

    async def sandboxes(self) -> set[str]:
        """The paths of the network namespaces of all containers that run: a question for each of them."""
        ...

    async def every_network(self) -> list[EngineNetwork]:
        """Every network of any driver, without its endpoints: one question, however many there are."""
        ...

    async def endpoint_ids(self) -> set[str]:
        """Ids of the endpoints on the networks of all drivers, also of those that are being made: a question for each
        network."""
        ...

    async def named(self, name: str) -> EngineNetwork | None:
        """The network of this very name, whatever its driver, with its endpoints; ours first if there are twins."""
        ...

    async def add_network(self, wanted: NewNetwork) -> str:
        """Have the engine make a network of our driver, and of our IPAM driver unless it names another; its id.

        The engine calls the driver meanwhile: never await this while it waits for an answer of ours.

        Raises:
            Conflict: it has a network of this name.
            Invalid: it refuses; the text is the engine's.
        """
        ...

    async def delete_network(self, network_id: str) -> None:
        """Have the engine remove a network; one that is not there is no error. The engine calls the driver meanwhile.

        Raises:
            Conflict: containers are on it.
            Invalid: it refuses; the text is the engine's.
        """
        ...

    async def referring(self, network: EngineNetwork) -> list[str]:
        """Names of the containers that are on a network, running or stopped: these need it when they start."""
        ...

    async def container(self, container_id: str) -> EngineContainer | None:
        """The container with this id or name; None if there is none."""
        ...

    def events(self) -> AsyncGenerator[EngineEvent | None]:
        """Events of our networks and of containers from now on; the first item is None: the stream is open.

        It ends when the engine closes it. Whoever reads it closes it (`contextlib.aclosing`).
        """
        ...

    async def close(self) -> None:
        """Let go. Idempotent."""
        ...
