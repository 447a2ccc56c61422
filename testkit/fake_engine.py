"""An engine in memory: it calls the driver in the order in which Docker does, and remembers what Docker would."""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from macvlan_global.driver.driver import Driver
from macvlan_global.driver.endpoints import JoinResult
from macvlan_global.driver.requests import EndpointRequest, NetworkRequest, SubnetRequest
from macvlan_global.engine.ports import (
    EngineContainer,
    EngineEndpoint,
    EngineEvent,
    EngineInfo,
    EngineLeg,
    EngineNetwork,
    EngineSubnet,
    NewNetwork,
)
from macvlan_global.errors import Conflict, MacvlanGlobalError
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.subnets import parse_address, parse_subnet
from testkit.fake_kernel import FakeKernel

OUR_IPAM = "macvlan-global"


def engine_id(name: str) -> str:
    """An id as the engine makes them, the same for the same name: 64 hexadecimal digits."""
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Subnet:
    """What a user gives to `docker network create` about one subnet; "" means not given."""

    subnet: str
    range: str = ""
    gateway: str = ""
    aux: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Container:
    """A running container with one leg in one network. Addresses are CIDR text, "" if none."""

    name: str
    network: str
    endpoint: str
    address: str
    address6: str
    mac: str
    sandbox: str
    joined: JoinResult
    pools: tuple[str, ...] = ()


class FakeEngine:
    """See `macvlan_global.engine.ports.Engine`. Networks and containers go by name here; `containers` run.

    With `early` the namespace of a container is there when the driver is asked to join it, as with engines from 28 on.
    """

    def __init__(self, driver: Driver, kernel: FakeKernel, *, host: str = "") -> None:
        """Call `driver`, and move links in `kernel`. Engines of different hosts give one name different ids."""
        self._host_name = host
        self._driver = driver
        self._kernel = kernel
        self._networks: dict[str, EngineNetwork] = {}
        self._pools: dict[str, list[tuple[str, str]]] = {}
        self.containers: dict[str, Container] = {}
        self.early = False

    def id_of(self, name: str) -> str:
        """The id of the network with this name."""
        return engine_id(self._host_name + name)

    # ------------------------------------------------------------- as a user

    async def create_network(
        self, name: str, *subnets: Subnet, options: Mapping[str, str] | None = None, internal: bool = False
    ) -> str:
        """`docker network create`; the network's id. A failure releases what was taken, as the engine does."""
        network = self.id_of(name)
        taken: list[tuple[str, str]] = []
        held: list[tuple[str, str]] = []
        try:
            wanted = [await self._take_pool(subnet, taken, held) for subnet in subnets]
            await self._driver.networks.create(
                NetworkRequest(network, dict(options or {}), internal, tuple(wanted)),
            )
        except MacvlanGlobalError:
            await self._give_back(held, [pool for pool, _ in taken])
            raise
        self._networks[name] = EngineNetwork(
            network, name, OUR_IPAM, internal, dict(options or {}), {}, tuple(_seen(each) for each in wanted)
        )
        self._pools[name] = taken
        return network

    async def run(self, name: str, network: str, *, ip: str = "", ip6: str = "", mac: str = "") -> Container:
        """`docker run`: the link ends up in the container's namespace. A failure takes everything back."""
        addresses: list[tuple[str, str]] = []
        endpoint = self.id_of(f"{name} in {network}")
        try:
            container = await self._start(name, network, endpoint, addresses, (ip, ip6, mac))
        except MacvlanGlobalError:
            with contextlib.suppress(MacvlanGlobalError):
                await self._driver.endpoints.leave(self.id_of(network), endpoint)
            with contextlib.suppress(MacvlanGlobalError):
                await self._driver.endpoints.delete(self.id_of(network), endpoint)
            await self._give_back(addresses, [])
            raise
        self.containers[name] = container
        self._show(container)
        return container

    async def stop(self, name: str) -> None:
        """`docker stop`."""
        container = self.containers.pop(name)
        network = self.id_of(container.network)
        await self._driver.endpoints.leave(network, container.endpoint)
        if container.joined.link and "eth0" in self._kernel.sandboxed.get(container.sandbox, {}):
            self._kernel.move_back(container.sandbox, "eth0", container.joined.link)
        await self._driver.endpoints.delete(network, container.endpoint)
        for pool, address in zip(container.pools, filter(None, (container.address, container.address6)), strict=True):
            await self._driver.ipam.release_address(pool, address)
        self._hide(container)

    async def remove_network(self, name: str) -> None:
        """`docker network rm`."""
        network = self._networks.pop(name)
        await self._driver.networks.delete(network.id)
        for pool, _ in self._pools.pop(name):
            await self._driver.ipam.release_pool(pool)

    def forget(self, name: str) -> None:
        """The container goes without the driver being told, as when the driver is down."""
        container = self.containers.pop(name)
        self._kernel.sandboxed.pop(container.sandbox, None)
        self._hide(container)

    def forget_endpoint(self, name: str) -> None:
        """The engine knows the container's leg no longer, and the container runs on."""
        self._hide(self.containers[name])

    def forget_network(self, name: str) -> None:
        """The network goes without the driver being told, or with an error from it, which the engine ignores."""
        del self._networks[name], self._pools[name]

    def learn(self, network: EngineNetwork) -> None:
        """A network comes with its endpoints, and the driver is not told: it was, and lost its state."""
        self._networks[network.name] = network

    def call(self, driver: Driver, kernel: FakeKernel) -> None:
        """From now on another driver is there, after a restart; networks and containers are what they were."""
        self._driver, self._kernel = driver, kernel

    # ------------------------------------------------------------ as the port

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return EngineInfo("28.5.2", (OUR_IPAM,), swarm=False, live_restore=False, labels=())

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        return list(self._networks.values())

    async def sandbox(self, container_id: str) -> str:
        """See `Engine.sandbox`."""
        return next((each.sandbox for each in self.containers.values() if engine_id(each.name) == container_id), "")

    async def sandboxes(self) -> set[str]:
        """See `Engine.sandboxes`."""
        return {each.sandbox for each in self.containers.values()} - {""}

    async def every_network(self) -> list[EngineNetwork]:
        """See `Engine.every_network`."""
        return [replace(each, endpoints=()) for each in self._networks.values()]

    async def named(self, name: str) -> EngineNetwork | None:
        """See `Engine.named`."""
        return self._networks.get(name)

    async def add_network(self, wanted: NewNetwork) -> str:
        """See `Engine.add_network`."""
        if wanted.name in self._networks:
            raise Conflict(f"the Docker Engine refuses: network with name {wanted.name} already exists")
        subnets = [
            Subnet(each.subnet, each.range, each.gateway, each.aux, wanted.ipam_options) for each in wanted.subnets
        ]
        made = await self.create_network(wanted.name, *subnets, options=wanted.options, internal=wanted.internal)
        self._networks[wanted.name] = replace(
            self._networks[wanted.name],
            labels=wanted.labels,
            attachable=wanted.attachable,
            ipam_options=wanted.ipam_options,
            ipv4=wanted.ipv4,
            ipv6=wanted.ipv6,
        )
        return made

    async def delete_network(self, network_id: str) -> None:
        """See `Engine.delete_network`."""
        for network in [each for each in self._networks.values() if each.id == network_id]:
            if network.endpoints:
                raise Conflict(f"the Docker Engine refuses: network {network.name} has active endpoints")
            await self.remove_network(network.name)

    async def container(self, container_id: str) -> EngineContainer | None:
        """See `Engine.container`."""
        for each in self.containers.values():
            if container_id in {each.name, engine_id(each.name)}:
                network, address, address6 = self.id_of(each.network), _bare(each.address), _bare(each.address6)
                leg = EngineLeg(network, each.network, each.endpoint, address, address6, each.mac)
                return EngineContainer(engine_id(each.name), each.name, engine_id(each.name)[:12], True, (leg,))
        return None

    async def events(self) -> AsyncGenerator[EngineEvent | None]:
        """See `Engine.events`: the stream opens, and closes."""
        yield None

    async def close(self) -> None:
        """See `Engine.close`."""

    # ---------------------------------------------------------------- inside

    async def _give_back(self, addresses: Sequence[tuple[str, str]], pools: Sequence[str]) -> None:
        """As the engine does: an error is logged there, and the rest is given back."""
        for pool, address in addresses:
            with contextlib.suppress(MacvlanGlobalError):
                await self._driver.ipam.release_address(pool, address)
        for pool in pools:
            with contextlib.suppress(MacvlanGlobalError):
                await self._driver.ipam.release_pool(pool)

    async def _take_pool(
        self, subnet: Subnet, taken: list[tuple[str, str]], held: list[tuple[str, str]]
    ) -> SubnetRequest:
        ipv6 = ":" in subnet.subnet
        pool, cidr = await self._driver.ipam.request_pool(subnet.subnet, subnet.range, dict(subnet.options), ipv6=ipv6)
        taken.append((pool, cidr))
        gateway = ""
        if subnet.gateway:
            gateway = await self._driver.ipam.request_address(pool, subnet.gateway, gateway=True)
            held.append((pool, gateway))
        aux = {}
        for label, address in subnet.aux.items():
            aux[label] = await self._driver.ipam.request_address(pool, address)
            held.append((pool, aux[label]))
        return SubnetRequest.read(DEFAULT_SPACE, cidr, gateway, aux)

    async def _start(
        self,
        name: str,
        network: str,
        endpoint: str,
        addresses: list[tuple[str, str]],
        asked: tuple[str, str, str],
    ) -> Container:
        ip, ip6, mac = asked
        got = {4: "", 6: ""}
        for version, wish in ((4, ip), (6, ip6)):
            pool = self._pool_for(network, version, wish)
            if pool:
                got[version] = await self._driver.ipam.request_address(pool, wish)
                addresses.append((pool, got[version]))
        wanted = EndpointRequest.read(self.id_of(network), endpoint, got[4], got[6], mac)
        mac = await self._driver.endpoints.create(wanted)
        sandbox = f"/run/docker/netns/{engine_id(name)[:12]}"
        if self.early:
            self._kernel.namespaces.add(sandbox)
        joined = await self._driver.endpoints.join(self.id_of(network), endpoint, sandbox)
        if not joined.ifname:
            self._kernel.move(joined.link, sandbox)
        pools = tuple(pool for pool, _ in addresses)
        return Container(name, network, endpoint, got[4], got[6], mac, sandbox, joined, pools)

    def _pool_for(self, network: str, version: int, wish: str) -> str:
        """The first pool of the family, or the one that holds the address asked for."""
        pools = [(pool, cidr) for pool, cidr in self._pools[network] if (":" in cidr) == (version == 6)]
        if wish:
            return next((pool for pool, cidr in pools if _holds(cidr, wish)), pools[0][0])
        return pools[0][0] if pools else ""

    def _show(self, container: Container) -> None:
        network = self._networks[container.network]
        seen = EngineEndpoint(
            container.endpoint,
            container.name,
            container.mac,
            _bare(container.address),
            _bare(container.address6),
            engine_id(container.name),
        )
        self._networks[network.name] = replace(network, endpoints=(*network.endpoints, seen))

    def _hide(self, container: Container) -> None:
        network = self._networks[container.network]
        left: Sequence[EngineEndpoint] = [each for each in network.endpoints if each.id != container.endpoint]
        self._networks[network.name] = replace(network, endpoints=tuple(left))


def _seen(wanted: SubnetRequest) -> EngineSubnet:
    aux = {label: str(address) for label, address in wanted.aux.items()}
    return EngineSubnet(str(wanted.subnet), "", str(wanted.gateway or ""), aux)


def _bare(address: str) -> str:
    return str(parse_address(address, "address")) if address else ""


def _holds(cidr: str, address: str) -> bool:
    return parse_address(address, "address") in parse_subnet(cidr, "subnet")
