"""An engine of a simulation: it asks as Docker asks, writes down what it was told, and repeats what it must.

A container's leg goes RequestAddress, CreateEndpoint, Join; and back Leave, DeleteEndpoint, ReleaseAddress. What Docker
does not check (errors of the second row), this engine does not check either.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from macvlan_global.driver.driver import Driver
from macvlan_global.driver.requests import EndpointRequest, NetworkRequest, SubnetRequest
from macvlan_global.engine.ports import EngineNetwork, EngineSubnet
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.ipam.pool_id import DEFAULT_SPACE
from macvlan_global.store.records import DefinitionRecord, SubnetRecord
from testkit.fake_engine import OUR_IPAM, Container, FakeEngine, Subnet, engine_id
from testkit.history import Event, Outcome
from testkit.simulated_host import SimulatedHost

OPTIONS = {"parent": "eth0"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user asks of a container's addresses, "" for any; with `v6` alone, what the second subnet gives."""

    ip: str = ""
    ip6: str = ""


class SimulatedEngine(FakeEngine):
    """Calls whichever driver runs on `host`. Networks go by name, containers by a name that is used once."""

    def __init__(self, driver: Driver, host: SimulatedHost) -> None:
        """The first driver is there, or about to be."""
        super().__init__(driver, host.kernel)
        self._host = host
        self._around = host.around
        self._made = 0
        self._under_way: Counter[str] = Counter()
        self.stopped: list[Container] = []
        """Containers that ended, the newest last."""

    # ------------------------------------------------------------- networks

    async def create(self, name: str, subnets: Sequence[Subnet], *, cluster: str = "") -> str:
        """`docker network create`, or with `cluster` what replication does for a network of that id; its id here."""
        self._made += 1
        network = engine_id(f"{self._host.name} {name} {self._made}")
        options = {"network": cluster} if cluster else {}
        taken: list[tuple[str, str]] = []
        held: list[tuple[str, str]] = []
        begun = self._around.now()
        try:
            wanted = [await self._have_pool(replace(each, options=options), taken, held) for each in subnets]
            asked = NetworkRequest(network, OPTIONS, subnets=tuple(wanted))
            await self._host.call(lambda driver: driver.networks.create(asked))
        except MacvlanGlobalError:
            await self._let_go(held, [pool for pool, _ in taken])
            raise
        for each in wanted:
            for address in filter(None, (each.gateway, *each.aux.values())):
                self._note("fix", begun, "ok", cluster or network, str(address))
        seen = [
            EngineSubnet(str(had.subnet), asked.range, str(had.gateway or ""), {k: str(x) for k, x in had.aux.items()})
            for had, asked in zip(wanted, subnets, strict=True)
        ]
        self._networks[name] = EngineNetwork(
            network, name, OUR_IPAM, options=OPTIONS, ipam_options=options, subnets=tuple(seen)
        )
        self._pools[name] = taken
        return network

    async def join_network(self, definition: DefinitionRecord) -> str:
        """Make a network that another host published."""
        subnets = [Subnet(each.subnet, each.range, each.gateway, each.aux) for each in definition.subnets]
        return await self.create(definition.name, subnets, cluster=definition.id)

    async def remove(self, name: str) -> None:
        """`docker network rm` of a network without containers. The engine does not look at errors."""
        network = self._networks.pop(name)
        pools = self._pools.pop(name)
        with contextlib.suppress(MacvlanGlobalError):
            await self._host.call(lambda driver: driver.networks.delete(network.id))
        await self._let_go([], [pool for pool, _ in pools])

    def has(self, name: str) -> EngineNetwork | None:
        """The network of this name."""
        return self._networks.get(name)

    def network_names(self) -> list[str]:
        """Every network, the oldest first."""
        return list(self._networks)

    def is_busy(self, name: str) -> bool:
        """Whether a container is on a network, is coming or going."""
        return bool(self._under_way[name] or self._networks[name].endpoints)

    def definition(self, name: str) -> DefinitionRecord:
        """A network as this host would publish it."""
        network = self._networks[name]
        return DefinitionRecord(
            id=network.ipam_options.get("network", network.id),
            name=name,
            options=network.options,
            subnets=[
                SubnetRecord(space=DEFAULT_SPACE, subnet=x.subnet, range=x.range, gateway=x.gateway, aux=x.aux)
                for x in network.subnets
            ],
            host=self._host.id,
            at=self._host.clock(),
        )

    # ----------------------------------------------------------- containers

    async def start(self, network: str, wish: Wish) -> Container:
        """`docker run`. A failure takes everything back."""
        with self._busy(network):
            return await self._start_on(network, wish)

    async def _start_on(self, network: str, wish: Wish) -> Container:
        self._made += 1
        name = f"{self._host.name}-c{self._made}"
        endpoint = engine_id(f"{name} {self._host.boots}")
        here = self._networks[network].id
        got: list[tuple[str, str]] = []
        created = False
        legs = self._host.legs[endpoint] = []
        try:
            for pool, asked in self._wanted(network, wish):
                address = await self._request(endpoint, pool, asked)
                got.append((pool, address))
                legs.append(_bare(address))
            v4, v6 = (next((each for _, each in got if (":" in each) == six), "") for six in (False, True))
            await self._create_endpoint(EndpointRequest.read(here, endpoint, v4, v6), got)
            created = True
            sandbox = f"/run/netns/{endpoint[:12]}"
            joined = await self._host.call(lambda driver: driver.endpoints.join(here, endpoint, sandbox))
            if network not in self._networks or joined.link not in self._host.kernel.hosted:
                raise _Vanished("the link is not there")
        except MacvlanGlobalError:
            await self._take_down(here, endpoint, got, created=created)
            raise
        self._host.kernel.move(joined.link, sandbox)
        pools = tuple(pool for pool, _ in got)
        mac = self._host.kernel.sandboxed[sandbox]["eth0"].mac
        container = Container(name, network, endpoint, v4, v6, mac, sandbox, joined, pools)
        self.containers[name] = container
        self._show(container)
        for _, address in got:
            self._note("run", self._around.now(), "ok", endpoint, address)
        return container

    async def end(self, name: str) -> None:
        """`docker stop`."""
        container = self.containers.pop(name)
        here = self._networks[container.network].id
        got = [
            (pool, address)
            for pool, address in zip(
                container.pools, filter(None, (container.address, container.address6)), strict=True
            )
        ]
        with self._busy(container.network):
            await self._take_down(here, container.endpoint, got, container=container)
        self.stopped.append(container)

    async def repeat_end(self, container: Container) -> None:
        """Take down once more what is down: late messages of a container that ended."""
        network = self._networks.get(container.network)
        with contextlib.suppress(MacvlanGlobalError):
            if network:
                await self._host.call(lambda driver: driver.endpoints.delete(network.id, container.endpoint))
            for pool, address in zip(
                container.pools, filter(None, (container.address, container.address6)), strict=True
            ):
                await self._release_of(container.endpoint, pool, address)

    def lose_power(self) -> list[Container]:
        """Every container stops, and nobody is told; which they were."""
        now = self._around.now()
        for endpoint, addresses in self._host.legs.items():
            for address in addresses:
                self._around.note(Event("vanish", self._host.name, now, now, "ok", endpoint, address))
        self._host.legs.clear()
        ended = list(self.containers.values())
        self.containers.clear()
        self._networks = {name: replace(network, endpoints=()) for name, network in self._networks.items()}
        return ended

    # --------------------------------------------------------------- inside

    @contextlib.contextmanager
    def _busy(self, network: str) -> Iterator[None]:
        self._under_way[network] += 1
        try:
            yield
        finally:
            self._under_way[network] -= 1

    def _wanted(self, network: str, wish: Wish) -> list[tuple[str, str]]:
        """Each pool that gives an address, and what is wished of it: the first of each family."""
        wanted = []
        for version, asked in ((4, wish.ip), (6, wish.ip6)):
            pools = [pool for pool, cidr in self._pools[network] if (":" in cidr) == (version == 6)]
            wanted += [(pools[0], asked)] if pools else []
        return wanted

    async def _request(self, endpoint: str, pool: str, asked: str) -> str:
        begun = self._around.now()
        try:
            address = await self._host.call(lambda driver: driver.ipam.request_address(pool, asked))
        except MacvlanGlobalError:
            self._note("request", begun, "failed", endpoint, asked, asked=bool(asked))
            raise
        self._note("request", begun, "ok", endpoint, address, asked=bool(asked))
        return address

    async def _create_endpoint(self, wanted: EndpointRequest, got: list[tuple[str, str]]) -> None:
        begun = self._around.now()
        outcome: Outcome = "failed"
        try:
            await self._host.call(lambda driver: driver.endpoints.create(wanted))
            outcome = "ok"
        finally:
            for _, address in got:
                self._note("create", begun, outcome, wanted.id, address)

    async def _take_down(
        self,
        network: str,
        endpoint: str,
        got: list[tuple[str, str]],
        *,
        created: bool = True,
        container: Container | None = None,
    ) -> None:
        if created:
            with contextlib.suppress(MacvlanGlobalError):
                await self._host.call(lambda driver: driver.endpoints.leave(network, endpoint))
            if container:
                self._move_back(container)
            for _, address in got:
                self._note("delete", self._around.now(), "ok", endpoint, address)
            with contextlib.suppress(MacvlanGlobalError):
                await self._host.call(lambda driver: driver.endpoints.delete(network, endpoint))
        for pool, address in got:
            await self._release_of(endpoint, pool, address)
        self._host.legs.pop(endpoint, None)
        if container:
            self._hide(container)

    def _move_back(self, container: Container) -> None:
        links = self._host.kernel.sandboxed.get(container.sandbox, {})
        if "eth0" in links:
            self._host.kernel.move_back(container.sandbox, "eth0", container.joined.link)

    async def _release_of(self, endpoint: str, pool: str, address: str) -> None:
        """Written down from the first call to the last answer, and each request that arrives: one that is sent twice
        may let go when the other one was answered long ago."""

        async def arrive(driver: Driver) -> None:
            begun = self._around.now()
            try:
                await driver.ipam.release_address(pool, address)
            finally:
                self._note("release", begun, "ok", endpoint, address)

        begun = self._around.now()
        try:
            with contextlib.suppress(MacvlanGlobalError):
                await self._host.call(arrive)
        finally:
            self._note("release", begun, "ok", endpoint, address)

    async def _release(self, pool: str, address: str) -> None:
        with contextlib.suppress(MacvlanGlobalError):
            await self._host.call(lambda driver: driver.ipam.release_address(pool, address))

    async def _let_go(self, addresses: Sequence[tuple[str, str]], pools: Sequence[str]) -> None:
        for pool, address in addresses:
            await self._release(pool, address)
        for pool in pools:
            with contextlib.suppress(MacvlanGlobalError):
                await self._host.call(lambda driver: driver.ipam.release_pool(pool))  # noqa: B023 - awaited here

    async def _have_pool(
        self, subnet: Subnet, taken: list[tuple[str, str]], held: list[tuple[str, str]]
    ) -> SubnetRequest:
        host, options, ipv6 = self._host, dict(subnet.options), ":" in subnet.subnet
        pool, cidr = await host.call(
            lambda driver: driver.ipam.request_pool(subnet.subnet, subnet.range, options, ipv6=ipv6)
        )
        taken.append((pool, cidr))
        own = {}
        for label, asked in (("", subnet.gateway), *subnet.aux.items()):
            if asked:
                own[label] = await self._own_address(pool, asked, gateway=not label)
                held.append((pool, own[label]))
        return SubnetRequest.read(DEFAULT_SPACE, cidr, own.pop("", ""), own)

    async def _own_address(self, pool: str, asked: str, *, gateway: bool) -> str:
        return await self._host.call(lambda driver: driver.ipam.request_address(pool, asked, gateway=gateway))

    def _note(
        self,
        what: Literal["request", "create", "run", "delete", "release", "fix"],
        begun: float,
        outcome: Outcome,
        holder: str,
        address: str,
        *,
        asked: bool = False,
    ) -> None:
        self._around.note(
            Event(what, self._host.name, begun, self._around.now(), outcome, holder, _bare(address), asked)
        )


class _Vanished(MacvlanGlobalError):
    """What the engine was told to be there is not."""


def _bare(address: str) -> str:
    return address.partition("/")[0]
