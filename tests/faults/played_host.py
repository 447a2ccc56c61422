"""A host of the run: a real driver, a played engine above it, and users who start and stop containers without rest."""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

from lab import Host
from lab.driver import SOCKET, Driver
from testkit.history import Event, Outcome, What
from tests.faults.played_engine import PlayedEngine, PlayedLeg, PlayedNetwork, long_id
from tests.faults.plugin_calls import Gone, Plugin, Refused

USERS = 8
"""Of each host, each with one thing under way."""
CONTAINERS = (8, 22)
"""How many a host has, more or less."""
KEPT = 3
"""So many of the containers of a host have links, and stay for longer."""
TWICE = 0.02
"""The chance that a request is made twice."""
WISHES = 0.2
"""The chance that a container wants a certain address."""
REMEMBERED = 40


class PlayedHost:
    """What its users do is drawn by its own lots; what came of it is written into the history that all hosts share."""

    def __init__(self, machine: Host, driver: Driver, history: list[Event], lot: random.Random) -> None:
        """Nothing runs yet."""
        self.machine = machine
        self.driver = driver
        self.plugin = Plugin(machine.run_folder / SOCKET)
        self.engine = PlayedEngine(machine.name, self.plugin)
        self.known: dict[str, str] = {}
        """Endpoints by what the driver's log calls them: container's name, or the beginning of the id."""
        self._history = history
        self._lot = lot
        self._made = 0
        self._kept: list[PlayedLeg] = []
        self._passing: list[PlayedLeg] = []
        self._legs: dict[str, PlayedLeg] = {}  # all that have, or are about to get, an address
        self._ended: deque[PlayedLeg] = deque(maxlen=REMEMBERED)
        self._users: list[asyncio.Task[None]] = []
        self._resting = False

    @property
    def name(self) -> str:
        """Of the machine."""
        return self.machine.name

    def living(self) -> list[PlayedLeg]:
        """Every container that runs."""
        return [*self._kept, *self._passing]

    async def start(self) -> None:
        """Start engine and driver; returns once the driver answers."""
        await self.engine.start(self.machine.run_folder / "docker.sock")
        await asyncio.to_thread(self.driver.start)

    async def stop(self) -> None:
        """Stop both."""
        self.plugin.close()
        await asyncio.to_thread(self.driver.stop)
        await self.engine.stop()

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
        await self.engine.stop()
        now = time.time()
        for leg in self._legs.values():
            if leg.address:
                self._note("vanish", leg, now)
            leg.network.legs.pop(leg.endpoint, None)
        self._ended.extend(self.living())
        self._kept, self._passing, self._legs = [], [], {}
        self.plugin.close()

    async def come_back(self) -> None:
        """The machine boots; its engine takes down, late, what ran when the power went."""
        await self.start()
        self.begin()
        for leg in list(self._ended)[-4:]:
            await self._late(leg)

    async def end(self, leg: PlayedLeg) -> None:
        """Stop a container."""
        for lists in (self._kept, self._passing):
            if leg in lists:
                lists.remove(leg)
        leg.network.legs.pop(leg.endpoint, None)
        if leg.joined:
            self.engine.disconnected(leg)
        await self._whatever(self.plugin.call("NetworkDriver.Leave", **_ids(leg)))
        self._note("delete", leg, time.time())
        await self._whatever(self._maybe_twice("NetworkDriver.DeleteEndpoint", **_ids(leg)))
        await self._release(leg)
        self._ended.append(leg)

    async def join_all(self) -> None:
        """Give each container that runs its link: none may look dead for the lack of one."""
        for leg in self.living():
            if not leg.joined:
                await self._join(leg)

    async def take(self, network: str, address: str) -> None:
        """Start a container that wants this very address.

        Raises:
            Refused, Gone: it does not get it, or cannot start.
        """
        leg = self._new_leg()
        leg.network = self.engine.networks[network]
        await self._run(leg, address)

    async def _use(self) -> None:
        while not self._resting:
            try:
                await self._something()
            except Gone:
                await asyncio.sleep(0.5)
            except Refused as refusal:
                await asyncio.sleep(0.3 if refusal.away else 0)

    async def _something(self) -> None:
        drawn = self._lot.random()
        if drawn < 0.03 and self._ended:
            await self._late(self._lot.choice(self._ended))
        elif drawn < 0.05 and self._kept:
            await self.end(self._kept[0])
        elif drawn < 0.1:
            await self._fail(self._new_leg())
        elif len(self._kept) + len(self._passing) < self._lot.randint(*CONTAINERS) or not self._passing:
            leg = self._new_leg()
            await self._run(leg, self._wish(leg.network))
        else:
            await self.end(self._passing[0])

    # ------------------------------------------------------------ containers

    def _new_leg(self) -> PlayedLeg:
        self._made += 1
        name = f"{self.name}-c{self._made}"
        networks = [self.engine.networks["wide"]] * 5 + [self.engine.networks["tight"]]
        leg = PlayedLeg(name, long_id(name), self._lot.choice(networks))
        self.known[name] = self.known[leg.endpoint[:12]] = leg.endpoint
        self._legs[leg.endpoint] = leg
        return leg

    async def _run(self, leg: PlayedLeg, wish: str) -> None:
        keep = len(self._kept) < KEPT
        await self._request(leg, wish)
        begun = time.time()
        asked = {**_ids(leg), "Interface": {"Address": leg.address}}
        try:
            await self._maybe_twice("NetworkDriver.CreateEndpoint", **asked)
        except (Refused, Gone):
            self._note("create", leg, begun, "failed")
            await self._release(leg)
            raise
        self._note("create", leg, begun)
        leg.network.legs[leg.endpoint] = leg
        (self._kept if keep else self._passing).append(leg)
        if keep:
            try:
                await self._join(leg)
            except (Refused, Gone):
                await self.end(leg)
                raise
            self.engine.connected(leg)
        self._note("run", leg, time.time())
        await self.plugin.call("NetworkDriver.EndpointOperInfo", **_ids(leg))

    async def _fail(self, leg: PlayedLeg) -> None:
        """A container gets an address, and does not start for another reason."""
        await self._request(leg, self._wish(leg.network))
        await self._release(leg)

    async def _late(self, leg: PlayedLeg) -> None:
        """What was said when a container ended is said once more, whoever has its address now."""
        await self._whatever(self.plugin.call("NetworkDriver.DeleteEndpoint", **_ids(leg)))
        await self._release(leg)

    async def _join(self, leg: PlayedLeg) -> None:
        await self._maybe_twice("NetworkDriver.Join", **_ids(leg), SandboxKey=f"/run/netns/{leg.name}")
        leg.joined = True

    async def _request(self, leg: PlayedLeg, wish: str) -> None:
        call = self._maybe_twice if wish else self.plugin.call  # else the second one would get another address
        begun = time.time()
        try:
            answer = await call("IpamDriver.RequestAddress", PoolID=leg.network.pool, Address=wish)
        except (Refused, Gone):
            self._legs.pop(leg.endpoint, None)
            raise
        leg.address = answer["Address"]
        self._note("request", leg, begun, asked=bool(wish))

    async def _release(self, leg: PlayedLeg) -> None:
        begun = time.time()
        asked = {"PoolID": leg.network.pool, "Address": leg.bare}
        try:
            await self._whatever(self._maybe_twice("IpamDriver.ReleaseAddress", **asked))
        finally:  # power that is lost meanwhile cancels this, and the driver may have let go all the same
            self._note("release", leg, begun)
        self._legs.pop(leg.endpoint, None)

    def _wish(self, network: PlayedNetwork) -> str:
        """Mostly any, else one of a few, so that others want it too."""
        if self._lot.random() >= WISHES:
            return ""
        return network.fixed[0].rpartition(".")[0] + f".{self._lot.randrange(1, 21)}"

    async def _maybe_twice(self, path: str, **fields: Any) -> dict[str, Any]:
        ask = self.plugin.twice if self._lot.random() < TWICE else self.plugin.call
        return await ask(path, **fields)

    async def _whatever(self, work: Coroutine[Any, Any, object]) -> None:
        """Engines do not look at errors of the way back."""
        with contextlib.suppress(Refused, Gone):
            await work

    def _note(self, what: What, leg: PlayedLeg, begun: float, outcome: Outcome = "ok", *, asked: bool = False) -> None:
        self._history.append(Event(what, self.name, begun, time.time(), outcome, leg.endpoint, leg.bare, asked))


def _ids(leg: PlayedLeg) -> dict[str, str]:
    return {"NetworkID": leg.network.id, "EndpointID": leg.endpoint}
