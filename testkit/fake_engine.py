"""The double of a Docker Engine: its networks, its containers, its events, and the order in which it calls a driver.

One model for all tests. A `Plugin` carries its calls: to a driver in this process, on virtual time, or over a socket;
`served_engine` shows it as Docker's API. An endpoint goes RequestAddress, CreateEndpoint, Join; and back Leave,
DeleteEndpoint, ReleaseAddress. Docker ignores errors on the way back, and so does this.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from macvlan_global.engine.ports import (
    NO_IPAM,
    ContainerEvent,
    EngineContainer,
    EngineEndpoint,
    EngineEvent,
    EngineInfo,
    EngineLeg,
    EngineNetwork,
    EngineSubnet,
    NetworkEvent,
    NewNetwork,
)
from macvlan_global.errors import Conflict, Invalid, MacvlanGlobalError, NotFound
from macvlan_global.ipam.pool_id import DEFAULT_SPACE, NETWORK_OPTION
from macvlan_global.libnetwork.handlers import GATEWAY, GENERIC, INTERNAL, NAME_KEY, REQUEST_TYPE
from macvlan_global.subnets import parse_address, parse_subnet
from testkit.fake_kernel import FakeKernel
from testkit.history import Event, Outcome, What
from testkit.plugin_calls import Plugin

OUR_DRIVER = OUR_IPAM = "macvlan-global"
IFNAME = "eth0"


def engine_id(name: str) -> str:
    """An id as the engine makes them, the same for the same name: 64 hexadecimal digits."""
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Subnet:
    """One subnet in `docker network create`; "" means not given. The options of all make the IPAM options."""

    subnet: str
    range: str = ""
    gateway: str = ""
    aux: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Joined:
    """The reply of Join: the link to move into the container, bare gateways ("" if none), and the name of the link
    there if the driver made it inside."""

    link: str
    gateway: str = ""
    gateway6: str = ""
    ifname: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """A running container with one leg in one network. Addresses are CIDR text, "" if none; `joined` is None before
    Join."""

    name: str
    network: str
    endpoint: str
    address: str
    address6: str
    mac: str
    sandbox: str
    joined: Joined | None = None
    pools: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The engine's id of it."""
        return engine_id(self.name)

    @property
    def got(self) -> list[tuple[str, str]]:
        """Pools by their ids, and the addresses (CIDR) from them."""
        return list(zip(self.pools, filter(None, (self.address, self.address6)), strict=True))

    @property
    def addresses(self) -> list[str]:
        """Its addresses, bare."""
        return [bare(each) for _, each in self.got]


class FakeEngine:
    """See `macvlan_global.engine.ports.Engine`. Networks and containers go by name; `containers` run.

    With `tells_names` it tells the IPAM driver the name of a container, as engines from 29.0 on. With `early` the
    namespace of a container is there when the driver is asked to join it, as with engines from 28 on. Every question
    `raises` an error if there is one; `refuses` is its reply to a new network, "" if it makes it.
    """

    def __init__(
        self,
        plugin: Plugin,
        links: FakeKernel | None = None,
        *,
        host: str = "",
        note: Callable[[Event], None] = lambda _event: None,
        now: Callable[[], float] = time.monotonic,
        new_ids: bool = False,
    ) -> None:
        """Call the driver behind `plugin`, and move container links in `links`, if there are any to move.

        Engines of different hosts give one name different ids; with `new_ids` a network gets another id each time.
        Each request, and what came of it, is written down by `note`, with times from `now`.
        """
        self.host = host
        self.plugin = plugin
        self.links = links
        self.containers: dict[str, Container] = {}
        self.stopped: list[Container] = []
        """Containers that ended, the newest last."""
        self.legs: dict[str, list[str]] = {}
        """Bare addresses of the endpoints that are being made, are there, or are being removed."""
        self.added: list[str] = []
        """Names of the networks made through the port, in order."""
        self.early = False
        self.tells_names = False
        self.raises: Exception | None = None
        self.refuses = ""
        self.referred: dict[str, list[str]] = {}
        """Names of stopped containers that refer to a network, by its name."""
        self.asked: Counter[str] = Counter()
        """Requests that the questions of the port come to, by method."""
        self._note = note
        self._now = now
        self._new_ids = new_ids
        self._made = 0
        self._losses = 0
        self._networks: dict[str, EngineNetwork] = {}
        self._pools: dict[str, list[tuple[str, str]]] = {}
        self._making: set[str] = set()
        self._endpoints: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
        self._listeners: list[asyncio.Queue[EngineEvent | None]] = []

    def id_of(self, name: str) -> str:
        """The id of the network with this name, or of whatever the name is for."""
        return self._networks[name].id if name in self._networks else engine_id(self.host + name)

    def first_endpoint_id(self, name: str, network: str) -> str:
        """The id of the first endpoint of a container's name on a network."""
        return engine_id(f"{self.host}{name} in {network}")

    def new_endpoint_id(self, name: str, network: str) -> str:
        """The id of a container's next endpoint: the same for the first one of a name, and never used twice."""
        key = f"{self.host}{name} in {network}"
        self._endpoints[key] += 1
        return engine_id(key if self._endpoints[key] == 1 else f"{key} {self._endpoints[key]}")

    # ------------------------------------------------------------- as a user

    def told_name(self, name: str) -> str:
        """The name of a container as the IPAM driver is told it."""
        return name

    async def create_network(
        self,
        name: str,
        *subnets: Subnet,
        options: Mapping[str, str] | None = None,
        internal: bool = False,
        driver: str = OUR_DRIVER,
        ipam: str = "",
    ) -> str:
        """`docker network create`; the network's id. A failure releases what was taken, as the engine does.

        Without `ipam`, our driver has our IPAM driver, and every other one the engine's.
        """
        wanted = NewNetwork(
            name,
            dict(options or {}),
            internal=internal,
            ipam_options={key: value for each in subnets for key, value in each.options.items()},
            subnets=tuple(EngineSubnet(each.subnet, each.range, each.gateway, dict(each.aux)) for each in subnets),
        )
        return await self._make(wanted, driver, ipam or (OUR_IPAM if driver == OUR_DRIVER else "default"))

    async def remove_network(self, name: str) -> None:
        """`docker network rm`.

        Raises:
            Conflict: containers are on it.
        """
        network = self._networks[name]
        if self.is_busy(name):
            raise Conflict(f"the Docker Engine refuses: network {name} has active endpoints")
        del self._networks[name]
        pools = self._pools.pop(name)
        if not network.driver:
            await self._try("NetworkDriver.DeleteNetwork", NetworkID=network.id)
        if not network.ipam_driver:
            for (pool, _), subnet in zip(pools, network.subnets, strict=True):
                own = (subnet.gateway, *subnet.aux.values()) if network.driver else ()
                for address in filter(None, own):
                    await self._try("IpamDriver.ReleaseAddress", PoolID=pool, Address=address)
                await self._try("IpamDriver.ReleasePool", PoolID=pool)
        self._tell_network("destroy", network)

    async def run(
        self, name: str, network: str, *, ip: str = "", ip6: str = "", mac: str = "", join: bool = True
    ) -> Container:
        """`docker run`: the link ends up in the container's namespace. A failure takes everything back.

        Without `join` it has no link before `join` is called.
        """
        with self._busy(network):
            container = await self._start(name, network, (ip, ip6), mac, join=join)
        self.containers[name] = container
        self._show(container)
        for address in container.addresses:
            self._write("run", self._now(), "ok", container.endpoint, address)
        if join:
            self._tell_start(container)
        return container

    async def fail(self, name: str, network: str, *, ip: str = "") -> None:
        """`docker run` that fails after the container got its address, for a reason that is not the driver's."""
        endpoint = self.new_endpoint_id(name, network)
        with self._busy(network):
            for pool, address in await self._take_addresses(name, endpoint, network, (ip, "")):
                await self._give_back(endpoint, pool, address)
            self.legs.pop(endpoint, None)

    async def join(self, name: str) -> None:
        """Give a container its link.

        Raises:
            MacvlanGlobalError: the driver does not make it; the container runs on without.
        """
        container = self.containers[name]
        joined = await self._join(self.id_of(container.network), container.endpoint, container.sandbox)
        if name in self.containers:
            self.containers[name] = replace(container, joined=joined)
            self._tell_start(container)

    async def stop(self, name: str) -> None:
        """`docker stop`."""
        container = self.containers.pop(name)
        if container.joined:
            self._tell(ContainerEvent("die", container.id, name))
        with self._busy(container.network):
            ours = not self._networks[container.network].driver
            network = self.id_of(container.network)
            await self._take_down(network, container.endpoint, container.got, container, created=ours)
        self._end_namespace(container.sandbox)
        self.stopped.append(container)
        if container.joined:
            self._tell_network("disconnect", self._networks.get(container.network), container.id)

    async def stop_only(self, name: str, network: str) -> None:
        """`docker stop` of a container that is not removed: it refers to its network still."""
        await self.stop(name)
        self.referred.setdefault(network, []).append(name)

    async def repeat_stop(self, container: Container) -> None:
        """Take down once more a container that is down: late messages of one that ended."""
        network = self._networks.get(container.network)
        if network:
            await self._try("NetworkDriver.DeleteEndpoint", NetworkID=network.id, EndpointID=container.endpoint)
        for pool, address in container.got:
            await self._give_back(container.endpoint, pool, address)

    # -------------------------------------------------------- as a rare event

    def lose_power(self) -> list[Container]:
        """Every container stops, and nobody is told; they are returned."""
        now = self._now()
        for endpoint, addresses in self.legs.items():
            for address in addresses:
                self._write("vanish", now, "ok", endpoint, address)
        self.legs.clear()
        ended = list(self.containers.values())
        self.containers.clear()
        self._networks = {name: replace(network, endpoints=()) for name, network in self._networks.items()}
        self.break_streams()
        return ended

    def lose_data(self) -> None:
        """Its folder was emptied while it did not run."""
        self._losses += 1
        self._networks.clear()
        self._pools.clear()
        for name in list(self.containers):
            self.forget(name)

    def forget(self, name: str) -> None:
        """The container goes without the driver being told, as when the driver is down."""
        container = self.containers.pop(name)
        self._end_namespace(container.sandbox)
        self._hide(container)

    def forget_endpoint(self, name: str) -> None:
        """The engine knows the container's leg no longer, and the container runs on."""
        self._hide(self.containers[name])

    def forget_network(self, name: str) -> None:
        """The network goes without the driver being told, or with an error from it, which the engine ignores."""
        del self._networks[name], self._pools[name]

    def learn(self, network: EngineNetwork) -> None:
        """A network comes with its endpoints, and the driver is not told: it was, and lost its state."""
        self._networks[network.name] = _shown(network)

    def call(self, plugin: Plugin, links: FakeKernel) -> None:
        """From now on another driver is there, after a restart; networks and containers are what they were."""
        self.plugin, self.links = plugin, links

    def break_streams(self) -> None:
        """End every stream of events."""
        for each in self._listeners:
            each.put_nowait(None)

    # ------------------------------------------------------------- to be seen

    def has(self, name: str) -> EngineNetwork | None:
        """The network of this name, whether the engine answers or not."""
        return self._networks.get(name)

    def names(self) -> list[str]:
        """Names of the networks, the oldest first."""
        return list(self._networks)

    def pool_of(self, name: str) -> str:
        """The id of a network's first pool."""
        return self._pools[name][0][0]

    def gateway_of(self, name: str) -> str:
        """The gateway of a network's first subnet."""
        return self._networks[name].subnets[0].gateway

    def is_busy(self, name: str) -> bool:
        """Whether a container is on a network, is coming or going."""
        return bool(self._under_way[name] or self._networks[name].endpoints)

    # ------------------------------------------------------------ as the port

    async def info(self) -> EngineInfo:
        """See `Engine.info`."""
        self._answer("info")
        own = engine_id(f"{self.host} data {self._losses}")
        return EngineInfo("28.5.2", (OUR_IPAM,), swarm=False, live_restore=False, labels=(), id=own)

    async def networks(self) -> list[EngineNetwork]:
        """See `Engine.networks`."""
        self._answer("networks")
        ours = [each for each in self._networks.values() if not each.driver]
        self.asked["networks"] += len(ours)  # each is looked at
        return ours

    async def referring(self, network: EngineNetwork) -> list[str]:
        """See `Engine.referring`."""
        self._answer("referring")
        running = [each.name for each in self.containers.values() if each.network == network.name]
        return sorted({*running, *self.referred.get(network.name, ())})

    async def ipam_networks(self) -> list[EngineNetwork]:
        """See `Engine.ipam_networks`."""
        self._answer("ipam_networks")
        theirs = [each for each in self._networks.values() if each.driver]
        return [each for each in theirs if not each.ipam_driver]

    async def sandbox(self, container_id: str) -> str:
        """See `Engine.sandbox`."""
        self._answer("sandbox")
        return next((each.sandbox for each in self.containers.values() if each.id == container_id), "")

    async def sandboxes(self) -> set[str]:
        """See `Engine.sandboxes`."""
        self._answer("sandboxes")
        return {each.sandbox for each in self.containers.values()} - {""}

    async def every_network(self) -> list[EngineNetwork]:
        """See `Engine.every_network`."""
        self._answer("every_network")
        return [replace(each, endpoints=()) for each in self._networks.values()]

    async def endpoint_ids(self) -> set[str]:
        """See `Engine.endpoint_ids`."""
        self._answer("endpoint_ids")
        shown = {leg.id for each in await self.networks() for leg in each.endpoints}
        return shown | {leg.id for each in self._networks.values() for leg in each.endpoints}

    async def named(self, name: str) -> EngineNetwork | None:
        """See `Engine.named`."""
        self._answer("named")
        return self._networks.get(name)

    async def add_network(self, wanted: NewNetwork) -> str:
        """See `Engine.add_network`."""
        self._answer("add_network")
        made = await self._make(wanted, OUR_DRIVER, wanted.ipam_driver or OUR_IPAM)
        self.added.append(wanted.name)
        return made

    async def delete_network(self, network_id: str) -> None:
        """See `Engine.delete_network`."""
        self._answer("delete_network")
        for network in [each for each in self._networks.values() if each.id == network_id]:
            await self.remove_network(network.name)

    async def container(self, container_id: str) -> EngineContainer | None:
        """See `Engine.container`."""
        self._answer("container")
        for each in self.containers.values():
            if container_id in {each.name, each.id}:
                address, address6 = bare(each.address), bare(each.address6)
                network = self.id_of(each.network)
                leg = EngineLeg(network, each.network, each.endpoint, address, address6, each.mac)
                return EngineContainer(each.id, each.name, each.id[:12], True, (leg,))
        return None

    async def events(self) -> AsyncGenerator[EngineEvent | None]:
        """See `Engine.events`."""
        self._answer("events")
        queue: asyncio.Queue[EngineEvent | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            yield None
            while event := await queue.get():
                yield event
        finally:
            self._listeners.remove(queue)

    async def close(self) -> None:
        """See `Engine.close`."""

    # -------------------------------------------------------------- networks

    async def _make(self, wanted: NewNetwork, driver: str, ipam: str) -> str:
        name = wanted.name
        if name in self._networks or name in self._making:
            raise Conflict(f"the Docker Engine refuses: network with name {name} already exists")
        if self.refuses:
            raise Invalid(f"the Docker Engine refuses: {self.refuses}")
        self._made += 1
        made = engine_id(f"{self.host} {name} {self._made}" if self._new_ids else self.host + name)
        self._making.add(name)
        pools: list[tuple[str, str]] = []
        subnets = wanted.subnets
        try:
            if driver == OUR_DRIVER or ipam == OUR_IPAM:
                pools, subnets = await self._have_driver_make(made, wanted, driver, ipam)
        finally:
            self._making.discard(name)
        network = EngineNetwork(
            made,
            name,
            ipam,
            wanted.internal,
            wanted.options,
            wanted.ipam_options,
            subnets,
            driver=driver,
            labels=wanted.labels,
            attachable=wanted.attachable,
            ipv4=wanted.ipv4,
            ipv6=wanted.ipv6,
        )
        network = self._networks[name] = _shown(network)
        self._pools[name] = pools
        self._tell_network("create", network)
        return made

    async def _have_driver_make(
        self, network: str, wanted: NewNetwork, driver: str, ipam: str
    ) -> tuple[list[tuple[str, str]], tuple[EngineSubnet, ...]]:
        """Take pools with their own addresses, and create the network; the pools by id, and the subnets as made."""
        taken: list[tuple[str, str]] = []
        held: list[tuple[str, str]] = []
        begun = self._now()
        try:
            data = [await self._take_pool(subnet, wanted.ipam_options, taken, held) for subnet in wanted.subnets]
            nothing = [{"AddressSpace": "null", "Pool": "0.0.0.0/0"}] if ipam == NO_IPAM else []
            ipv4, ipv6 = ([each for each in data if (":" in each["Pool"]) == six] for six in (False, True))
            options: dict[str, object] = {GENERIC: wanted.options} | ({INTERNAL: True} if wanted.internal else {})
            if driver == OUR_DRIVER:
                await self.plugin.call(
                    "NetworkDriver.CreateNetwork",
                    NetworkID=network,
                    Options=options,
                    IPv4Data=ipv4 or nothing,
                    IPv6Data=ipv6,
                )
        except MacvlanGlobalError:
            for pool, address in held:
                await self._try("IpamDriver.ReleaseAddress", PoolID=pool, Address=address)
            for pool, _ in taken:
                await self._try("IpamDriver.ReleasePool", PoolID=pool)
            raise
        gateways = {each["Gateway"] for each in data}
        for _, address in held:
            owner = wanted.ipam_options.get(NETWORK_OPTION, network)
            self._write("fix", begun, "ok", owner, address, asked=address in gateways)
        seen = (
            EngineSubnet(
                each["Pool"],
                asked.range,
                bare(each["Gateway"]),
                {label: bare(address) for label, address in each["AuxAddresses"].items()},
            )
            for each, asked in zip(data, wanted.subnets, strict=True)
        )
        return taken, tuple(seen)

    async def _take_pool(
        self,
        subnet: EngineSubnet,
        options: Mapping[str, str],
        taken: list[tuple[str, str]],
        held: list[tuple[str, str]],
    ) -> dict[str, Any]:
        """A pool, with its gateway and aux addresses, as CreateNetwork tells it."""
        reply = await self.plugin.call(
            "IpamDriver.RequestPool",
            AddressSpace=DEFAULT_SPACE,
            Pool=subnet.subnet,
            SubPool=subnet.range,
            Options=dict(options),
            V6=":" in subnet.subnet,
        )
        pool = reply["PoolID"]
        taken.append((pool, reply["Pool"]))
        own = {}
        for label, asked in (("", subnet.gateway), *subnet.aux.items()):
            if asked:
                kind = {} if label else {REQUEST_TYPE: GATEWAY}
                found = await self.plugin.call("IpamDriver.RequestAddress", PoolID=pool, Address=asked, Options=kind)
                own[label] = found["Address"]
                held.append((pool, own[label]))
        gateway = own.pop("", "")
        return {"AddressSpace": DEFAULT_SPACE, "Pool": reply["Pool"], "Gateway": gateway, "AuxAddresses": own}

    # ------------------------------------------------------------- containers

    async def _start(self, name: str, network: str, wish: tuple[str, str], mac: str, *, join: bool) -> Container:
        here, endpoint = self.id_of(network), self.new_endpoint_id(name, network)
        sandbox = f"/run/docker/netns/{engine_id(name)[:12]}"
        ours = not self._networks[network].driver
        if not ours and self._networks[network].ipam_driver:
            return Container(name, network, endpoint, "", "", mac, sandbox)
        got: list[tuple[str, str]] = []
        created, joined = False, None
        try:
            got += await self._take_addresses(name, endpoint, network, wish)
            v4, v6 = (next((each for _, each in got if (":" in each) == six), "") for six in (False, True))
            if not ours:
                return Container(name, network, endpoint, v4, v6, mac, sandbox, None, tuple(pool for pool, _ in got))
            mac = await self._create_endpoint(
                here, endpoint, got, {"Address": v4, "AddressIPv6": v6, "MacAddress": mac}
            )
            created = True
            if join:
                joined = await self._join(here, endpoint, sandbox)
            if network not in self._networks:
                raise NotFound(f"network {network} went meanwhile")
        except MacvlanGlobalError:
            await self._take_down(here, endpoint, got, created=created)
            self._end_namespace(sandbox)
            raise
        return Container(name, network, endpoint, v4, v6, mac, sandbox, joined, tuple(pool for pool, _ in got))

    async def _take_addresses(
        self, name: str, endpoint: str, network: str, wish: tuple[str, str]
    ) -> list[tuple[str, str]]:
        """An address of each family that the network has: the pools, and the addresses (CIDR). All or none."""
        got: list[tuple[str, str]] = []
        legs = self.legs[endpoint] = []
        told = {NAME_KEY: self.told_name(name)} if self.tells_names else {}
        for version, asked in zip((4, 6), wish, strict=True):
            pool = self._pool_for(network, version, asked)
            if not pool:
                continue
            begun = self._now()
            try:
                reply = await self.plugin.call("IpamDriver.RequestAddress", PoolID=pool, Address=asked, Options=told)
            except MacvlanGlobalError:
                self._write("request", begun, "failed", endpoint, asked, asked=bool(asked))
                for each in got:
                    await self._give_back(endpoint, *each)
                self.legs.pop(endpoint, None)
                raise
            got.append((pool, reply["Address"]))
            legs.append(bare(reply["Address"]))
            self._write("request", begun, "ok", endpoint, reply["Address"], asked=bool(asked))
        return got

    def _pool_for(self, network: str, version: int, wish: str) -> str:
        """The first pool of the family, or the one that holds the address asked for; "" if there is none."""
        pools = [(pool, cidr) for pool, cidr in self._pools[network] if (":" in cidr) == (version == 6)]
        first = pools[0][0] if pools else ""
        return next((pool for pool, cidr in pools if _holds(cidr, wish)), first) if wish else first

    async def _create_endpoint(
        self, network: str, endpoint: str, got: Sequence[tuple[str, str]], interface: Mapping[str, str]
    ) -> str:
        """The MAC of the new endpoint: the one asked for, or the driver's choice."""
        begun = self._now()
        outcome: Outcome = "failed"
        try:
            reply = await self.plugin.call(
                "NetworkDriver.CreateEndpoint", NetworkID=network, EndpointID=endpoint, Interface=interface, Options={}
            )
            outcome = "ok"
        finally:
            for _, address in got:
                self._write("create", begun, outcome, endpoint, address)
        return interface["MacAddress"] or str((reply.get("Interface") or {}).get("MacAddress", ""))

    async def _join(self, network: str, endpoint: str, sandbox: str) -> Joined:
        if self.early and self.links:
            self.links.namespaces.add(sandbox)
        reply = await self.plugin.call(
            "NetworkDriver.Join", NetworkID=network, EndpointID=endpoint, SandboxKey=sandbox, Options={}
        )
        name = reply["InterfaceName"]
        link, inside = name["SrcName"], "" if name["SrcName"] else name["DstPrefix"]
        if link and self.links:
            if link not in self.links.hosted:
                raise NotFound(f"the link {link} is not there")
            self.links.move(link, sandbox)
        return Joined(link, reply.get("Gateway", ""), reply.get("GatewayIPv6", ""), inside)

    async def _take_down(
        self,
        network: str,
        endpoint: str,
        got: Sequence[tuple[str, str]],
        container: Container | None = None,
        *,
        created: bool = True,
    ) -> None:
        ids = {"NetworkID": network, "EndpointID": endpoint}
        if created:
            await self._try("NetworkDriver.Leave", **ids)
            if container and container.joined:
                self._move_back(container, container.joined.link)
            for _, address in got:
                self._write("delete", self._now(), "ok", endpoint, address)
            await self._try("NetworkDriver.DeleteEndpoint", **ids)
        for pool, address in got:
            await self._give_back(endpoint, pool, address)
        self.legs.pop(endpoint, None)
        if container:
            self._hide(container)

    def _move_back(self, container: Container, link: str) -> None:
        if self.links and link and IFNAME in self.links.sandboxed.get(container.sandbox, {}):
            self.links.move_back(container.sandbox, IFNAME, link)

    def _end_namespace(self, sandbox: str) -> None:
        if self.links and all(each.sandbox != sandbox for each in self.containers.values()):
            self.links.end_namespace(sandbox)

    async def _give_back(self, endpoint: str, pool: str, address: str) -> None:
        begun = self._now()
        try:
            await self._try("IpamDriver.ReleaseAddress", PoolID=pool, Address=bare(address))
        finally:  # power that is lost meanwhile cancels this, and the driver may have let go all the same
            self._write("release", begun, "ok", endpoint, address)

    async def _try(self, method: str, **fields: object) -> None:
        """On the way back the engine logs an error and goes on."""
        with contextlib.suppress(MacvlanGlobalError):
            await self.plugin.call(method, **fields)

    # ----------------------------------------------------------------- inside

    @contextlib.contextmanager
    def _busy(self, network: str) -> Iterator[None]:
        self._under_way[network] += 1
        try:
            yield
        finally:
            self._under_way[network] -= 1

    def _show(self, container: Container) -> None:
        network = self._networks[container.network]
        address, address6 = bare(container.address), bare(container.address6)
        seen = EngineEndpoint(container.endpoint, container.name, container.mac, address, address6, container.id)
        self._networks[network.name] = replace(network, endpoints=(*network.endpoints, seen))

    def _hide(self, container: Container) -> None:
        if network := self._networks.get(container.network):
            left = tuple(each for each in network.endpoints if each.id != container.endpoint)
            self._networks[network.name] = replace(network, endpoints=left)

    def _answer(self, question: str) -> None:
        self.asked[question] += 1
        if self.raises:
            raise self.raises

    def _tell_start(self, container: Container) -> None:
        self._tell_network("connect", self._networks.get(container.network), container.id)
        self._tell(ContainerEvent("start", container.id, container.name))

    def _tell_network(self, action: str, network: EngineNetwork | None, container: str = "") -> None:
        if network and (not network.driver or action == "destroy"):
            self._tell(NetworkEvent(action, network.id, network.name, container))

    def _tell(self, event: EngineEvent) -> None:
        for each in self._listeners:
            each.put_nowait(event)

    def _write(
        self, what: What, begun: float, outcome: Outcome, holder: str, address: str, *, asked: bool = False
    ) -> None:
        self._note(Event(what, self.host, begun, self._now(), outcome, holder, bare(address), asked))


def _shown(network: EngineNetwork) -> EngineNetwork:
    """A network as the port has it, which does not tell what the engine calls our drivers."""
    driver, ipam = network.driver, network.ipam_driver
    return replace(network, driver="" if driver == OUR_DRIVER else driver, ipam_driver="" if ipam == OUR_IPAM else ipam)


def bare(address: str) -> str:
    """An address without its prefix length; "" for none."""
    return address.partition("/")[0]


def _holds(cidr: str, address: str) -> bool:
    return parse_address(address, "address") in parse_subnet(cidr, "subnet")
