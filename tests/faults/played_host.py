"""A host of the run: a real driver, a played engine above it, and users who start and stop containers without rest."""

import asyncio
import contextlib
import random
import time
from collections import deque
from pathlib import Path
from typing import Any

from lab import Host
from lab.driver import SOCKET, Driver
from macvlan_global.errors import MacvlanGlobalError
from testkit.fake_engine import Container, FakeEngine
from testkit.history import Event
from testkit.plugin_calls import NoAnswer
from testkit.plugin_socket import Refused, SocketPlugin
from testkit.served_engine import ServedEngine

USERS = 8
"""Of each host, each with one thing under way."""
CONTAINERS = (8, 22)
"""How many a host has, more or less."""
KEPT = 3
"""So many of the containers of a host have links, and stay for longer."""
TWICE = 0.2
"""The chance that a request is made twice."""
WISHES = 0.2
"""The chance that a container wants a certain address."""
REMEMBERED = 40


class DrawnPlugin(SocketPlugin):
    """Sends some requests twice, as its lot draws it, but those to which another answer may come the second time."""

    def __init__(self, socket: Path, lot: random.Random) -> None:
        """Draw from `lot`."""
        super().__init__(socket)
        self._lot = lot

    async def call(self, method: str, **fields: object) -> dict[str, Any]:
        """See `SocketPlugin.call`."""
        once = method == "NetworkDriver.Leave" or (method == "IpamDriver.RequestAddress" and not fields["Address"])
        if not once and self._lot.random() < TWICE:
            return await self.twice(method, **fields)
        return await super().call(method, **fields)


class PlayedHost:
    """What its users do is drawn by its own lots; what came of it is written into the history that all hosts share."""

    def __init__(self, machine: Host, driver: Driver, history: list[Event], lot: random.Random) -> None:
        """Nothing runs yet."""
        self.machine = machine
        self.driver = driver
        self.plugin = DrawnPlugin(machine.run_folder / SOCKET, lot)
        self.engine = FakeEngine(self.plugin, host=machine.name, note=history.append, now=time.time)
        self._served = ServedEngine(self.engine)
        self.known: dict[str, str] = {}
        """Endpoints by what the driver's log calls them: container's name, or the beginning of the id."""
        self._lot = lot
        self._made = 0
        self._kept: list[str] = []
        self._passing: list[str] = []
        self._ended: deque[Container] = deque(maxlen=REMEMBERED)
        self._users: list[asyncio.Task[None]] = []
        self._resting = False

    @property
    def name(self) -> str:
        """Of the machine."""
        return self.machine.name

    def living(self) -> list[Container]:
        """Every container that runs."""
        return list(self.engine.containers.values())

    async def start(self) -> None:
        """Start engine and driver; returns once the driver answers."""
        await self._served.start(self.machine.run_folder / "docker.sock")
        await asyncio.to_thread(self.driver.start)

    async def stop(self) -> None:
        """Stop both."""
        self.plugin.close()
        await asyncio.to_thread(self.driver.stop)
        await self._served.stop()

    # ----------------------------------------------------------------- users

    def begin(self) -> None:
        """Let users do what they do."""
        self._resting = self.plugin.off = False
        self._users = [asyncio.ensure_future(self._use()) for _ in range(USERS)]

    async def rest(self) -> None:
        """Let each user finish what he does, and do no more."""
        self._resting = True
        await asyncio.gather(*self._users)

    async def lose_power(self) -> None:
        """Everything on the machine ends at once; nobody is told."""
        self.plugin.off = True
        await asyncio.to_thread(self.driver.kill)
        for user in self._users:
            user.cancel()
        await asyncio.gather(*self._users, return_exceptions=True)
        await self._served.stop()
        self._ended.extend(self.engine.lose_power())
        self._kept, self._passing = [], []
        self.plugin.close()

    async def come_back(self) -> None:
        """The machine boots; its engine takes down, late, what ran when the power went."""
        await self.start()
        self.begin()
        for container in list(self._ended)[-4:]:
            await self.engine.repeat_stop(container)

    async def end(self, name: str) -> None:
        """Stop a container."""
        for names in (self._kept, self._passing):
            if name in names:
                names.remove(name)
        await self.engine.stop(name)
        self._ended.append(self.engine.stopped.pop())

    async def join_all(self) -> None:
        """Give each container that runs its link: none may look dead for the lack of one."""
        for container in self.living():
            if not container.joined:
                await self.engine.join(container.name)

    async def take(self, network: str, address: str) -> None:
        """Start a container that wants this very address.

        Raises:
            Refused, NoAnswer: it does not get it, or cannot start.
        """
        await self._run(self._new_name(network), network, address)

    async def _use(self) -> None:
        while not self._resting:
            try:
                await self._something()
            except NoAnswer:
                await asyncio.sleep(0.5)
            except Refused as refusal:
                await asyncio.sleep(0.3 if refusal.away else 0)

    async def _something(self) -> None:
        drawn = self._lot.random()
        network = self._lot.choice(["wide"] * 4 + ["beside", "tight"])
        if drawn < 0.03 and self._ended:
            await self.engine.repeat_stop(self._lot.choice(self._ended))
        elif drawn < 0.05 and self._kept:
            await self.end(self._kept[0])
        elif drawn < 0.1:
            await self.engine.fail(self._new_name(network), network, ip=self._wish(network))
        elif len(self._kept) + len(self._passing) < self._lot.randint(*CONTAINERS) or not self._passing:
            await self._run(self._new_name(network), network, self._wish(network))
        else:
            await self.end(self._passing[0])

    # ------------------------------------------------------------ containers

    def _new_name(self, network: str) -> str:
        self._made += 1
        name = f"{self.name}-c{self._made}"
        endpoint = self.engine.first_endpoint_id(name, network)
        self.known[name] = self.known[endpoint[:12]] = endpoint
        return name

    async def _run(self, name: str, network: str, wish: str) -> None:
        keep = len(self._kept) < KEPT
        container = await self.engine.run(name, network, ip=wish, join=keep)
        (self._kept if keep else self._passing).append(name)
        ids = {"NetworkID": self.engine.id_of(network), "EndpointID": container.endpoint}
        with contextlib.suppress(MacvlanGlobalError):
            await self.plugin.call("NetworkDriver.EndpointOperInfo", **ids)

    def _wish(self, network: str) -> str:
        """Mostly any, else one of a few, so that others want it too."""
        if self._lot.random() >= WISHES:
            return ""
        return f"{self.engine.gateway_of(network).rpartition('.')[0]}.{self._lot.randrange(1, 21)}"
