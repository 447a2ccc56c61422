"""What only the engine knows, learnt on tasks of our own: what a network and a container are called."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from macvlan_global.driver.driver import Driver
from macvlan_global.engine.ports import Engine, EngineEvent, NetworkEvent
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.metrics import Metrics
from macvlan_global.reconcile.apply import Reconciler

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 2.0
AGAIN_SECONDS = 3600.0
"""How long a repair is good for. One that follows a start looks once more when nothing of it is young any more."""
CLAIM_SECONDS = 1.0
"""How often an address is asked for that a container uses and somebody else has, since the store had lost it."""
SETTLE_SECONDS = 0.5
"""Containers often start in bursts: names are learnt once the events have been still for so long."""


Listener = Callable[[EngineEvent | None], Awaitable[None]]
"""Told of each event, and of None when the engine came (back). It hands over to a task of its own: others wait."""


async def learn_names(driver: Driver, engine: Engine) -> None:
    """Write down the names of our networks and of the containers on them.

    Raises:
        Unavailable: the engine does not answer.
    """
    endpoints = {each.id: each for each in await driver.endpoints.all()}
    for network in await engine.networks():
        await driver.networks.name(network.id, network.name)
        for endpoint in network.endpoints:
            if ours := endpoints.get(endpoint.id):
                await driver.endpoints.name(ours, endpoint.container)


class EngineFollower:
    """Repairs whenever the engine comes (back), and learns names from its events."""

    def __init__(
        self, driver: Driver, engine: Engine, reconciler: Reconciler, metrics: Metrics, *listeners: Listener
    ) -> None:
        """`run` does the work, and tells the listeners."""
        self._driver = driver
        self.engine = engine
        self._reconciler = reconciler
        self._metrics = metrics
        self._listeners = listeners
        self._something_new = asyncio.Event()
        self._came_back = asyncio.Event()
        self._store_read = asyncio.Event()
        self.following = False
        """Whether the engine's events are being received."""

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._learn())
            tasks.create_task(self._mend_again())
            tasks.create_task(self._mend_with_store())
            tasks.create_task(self._claim_again())

    def store_read(self) -> None:
        """Hear that the cluster store was read anew: it was away, or it was restored and is older than this host."""
        self._store_read.set()

    async def _follow(self) -> None:
        wait = FIRST_RETRY_SECONDS
        while True:
            try:
                async for event in self.engine.events():
                    if event is None:
                        self.following = True
                        wait = FIRST_RETRY_SECONDS
                        await self._driver.attacher.traits.learn(await self.engine.info())
                        self._metrics.corrected(len(await self._reconciler.reconcile(self.engine)))
                        self._came_back.set()
                    await self._take(event)
                log.info("the engine closed its stream of events")
            except Unavailable as error:
                log.debug("waiting for the engine: %s", error)
            except Conflict:  # the driver must not go on as it is
                raise
            except Exception:  # a bug on this side task must not stop the driver that containers rely on
                log.exception("following the engine failed; it is tried again")
            self.following = False
            await asyncio.sleep(wait)
            wait = min(wait * 2, LAST_RETRY_SECONDS)

    async def _take(self, event: EngineEvent | None) -> None:
        if event is None or event.action in {"connect", "rename"}:
            self._something_new.set()
        elif isinstance(event, NetworkEvent) and event.action == "create":
            await self._driver.networks.name(event.network, event.name)
        for listener in self._listeners:
            await listener(event)

    async def _mend_again(self) -> None:
        """What was too young when the engine came is looked at once it is not, and then from time to time."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._came_back.wait(), AGAIN_SECONDS)
            self._came_back.clear()
            await asyncio.sleep(self._reconciler.grace + 1)
            if self.following:
                await self._mend()

    async def _mend_with_store(self) -> None:
        """What the store lost is claimed again at once: until then others could be given it."""
        while True:
            await self._store_read.wait()
            await asyncio.sleep(SETTLE_SECONDS)  # several watches tell it
            self._store_read.clear()
            await self._mend()
            self._came_back.set()

    async def _claim_again(self) -> None:
        while True:
            await asyncio.sleep(CLAIM_SECONDS)
            try:
                await self._reconciler.claim_again()
            except Exception:
                log.exception("claiming addresses again failed; it is tried again")

    async def _mend(self) -> None:
        try:
            self._metrics.corrected(len(await self._reconciler.reconcile(self.engine)))
        except Exception:
            log.exception("the repair failed; it is tried again later")

    async def _learn(self) -> None:
        while True:
            await self._something_new.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._something_new.clear()
            try:
                await learn_names(self._driver, self.engine)
            except Unavailable as error:
                log.debug("names are not learnt: %s", error)
            except Exception:
                log.exception("learning names failed; it is tried again")
