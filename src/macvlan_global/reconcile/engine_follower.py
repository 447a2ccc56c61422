"""Engine follower: subscribes to the engine's events, reconciles when the engine or the store comes back, and learns
the names of networks and containers, which no plugin request tells.

All of it runs on tasks of the driver: the engine may hold a lock while it waits for an answer of ours, so no request
handler calls its API.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from macvlan_global.driver.driver import Driver
from macvlan_global.engine.ports import Engine, EngineEvent, NetworkEvent
from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.metrics.counts import Metrics
from macvlan_global.reconcile.apply import Reconciler
from macvlan_global.reconcile.corrections import AdoptEndpoint, AdoptNetwork, Correction, HoldAddress
from macvlan_global.tasks import Crowd, forever, when

log = logging.getLogger(__name__)

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 2.0
AGAIN_SECONDS, AGAIN_EACH = 3600.0, 0.5
"""Seconds from a repair to the next when nothing happens, and by which hosts spread them, for each host."""
CLAIM_SPREAD, CLAIM_EACH = 5.0, 0.005
"""Seconds by which hosts spread that they claim again what a store has lost, and for each host: soon."""
APART_SECONDS = 60.0
"""Time between two reconciliations at least, if only the stream of events was interrupted."""
TOGETHER_SECONDS = 10.0
"""Time within which the engine and the store are taken to come back together."""
CLAIM_SECONDS = 1.0
"""Time between two tries to claim an address that a container uses and somebody else holds: the store had lost it."""
FOREIGN_SECONDS = 0.2
"""Time after RequestPool in which a network of ours is mostly created."""
SETTLE_SECONDS = 0.5
"""Containers often start in bursts: names are learnt once, so long after the first event."""


Listener = Callable[[EngineEvent | None], Awaitable[None]]
"""Called with each event, and with None when the stream of events opens. It must be quick: others wait for it."""


async def learn_names(driver: Driver, engine: Engine) -> None:
    """Record the names of our networks, and of the containers on them.

    Raises:
        Unavailable: the engine does not answer.
    """
    endpoints = {each.id: each for each in await driver.endpoints.all()}
    for network in await engine.networks():
        await driver.networks.name(network.id, network.name)
        for endpoint in network.endpoints:
            if ours := endpoints.get(endpoint.id):
                await driver.endpoints.name(ours, endpoint.container)


async def learn_names_of(driver: Driver, engine: Engine, containers: Iterable[str]) -> dict[str, Unavailable]:
    """Record the names of some containers (by id) and of their networks: one request of the engine for each. Those of
    which the engine did not tell, with the error: an inspection waits for a container that takes long to start."""
    failed = {}
    for each in containers:
        try:
            found = await engine.container(each)
        except Unavailable as error:
            failed[each] = error
            continue
        for leg in found.legs if found else ():
            if found and (ours := await driver.endpoints.find(leg.endpoint)):
                await driver.networks.name(leg.network, leg.network_name)
                await driver.endpoints.name(ours, found.name)
    return failed


class EngineFollower:
    """Reconciles when the engine or the store comes back, and passes the engine's events on."""

    def __init__(
        self,
        driver: Driver,
        engine: Engine,
        reconciler: Reconciler,
        metrics: Metrics,
        *listeners: Listener,
        store_read: asyncio.Event | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        """Nothing is asked before `run`. `crowd` are the hosts that repair with one store.

        `store_read` is set when the cluster store was read anew: it was away, or restored from a copy older than our
        records.
        """
        self._driver = driver
        self.engine = engine
        self.reconciler = reconciler
        self._metrics = metrics
        self._listeners = listeners
        self._names_due = asyncio.Event()
        self._unnamed: set[str] = set()  # containers whose names are to be learnt
        self._all_unnamed = False
        self._gone: set[str] = set()  # networks of other drivers that had pools of ours
        self._is_gone = asyncio.Event()
        self._reconciled_at: float | None = None  # with the engine, on the loop's clock
        self._came_back = asyncio.Event()
        self._store_read = store_read or asyncio.Event()
        self._crowd = crowd or Crowd()
        self._waits_for = ""  # the reason why the engine does not answer, as it was logged
        self.following = False
        """Whether the engine's events are being received."""

    async def run(self) -> None:
        """Run all tasks until cancelled. None of them ends by an error of its own.

        Raises:
            Conflict: a listener found that the driver must not go on as it is configured.
        """
        first, last = FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS
        async with asyncio.TaskGroup() as tasks:
            following = forever("following the engine", self._follow, first=first, last=last, fatal=(Conflict,))
            tasks.create_task(following)
            tasks.create_task(forever("learning names", self._learn, first=first, last=last))
            tasks.create_task(forever("the repair", self._reconcile_later, first=first, last=last))
            tasks.create_task(forever("the repair of claims", self._reconcile_with_store, first=first, last=last))
            tasks.create_task(forever("claiming addresses again", self._claim_again, first=first, last=last))
            other = "claiming pools of networks of other drivers"
            tasks.create_task(forever(other, self._claim_foreign, first=first, last=last))
            ended = "giving back pools of networks of other drivers"
            tasks.create_task(forever(ended, self._end_foreign, first=first, last=last))
            tasks.create_task(forever("the repair of lost pools", self._reconcile_pools, first=first, last=last))
            tasks.create_task(forever("the repair of leftovers", self._reconcile_leftovers, first=first, last=last))

    async def _follow(self) -> AsyncGenerator[None]:
        """Handle events until their stream ends; each item says that the engine answers."""
        try:
            async with contextlib.aclosing(self.engine.events()) as events:
                async for event in events:
                    if event is None:
                        self.following, self._waits_for = True, ""
                        await self._driver.attacher.quirks.learn(await self.engine.info())
                        await self._reconcile_unless_just_done()
                        await self._look_for_ended()
                        self._came_back.set()
                    await self._handle(event)
                    yield
            log.info("the engine closed its stream of events")
        except Unavailable as error:  # it starts, or is restarted
            log.log(
                logging.DEBUG if str(error) == self._waits_for else logging.INFO, "waiting for the engine: %s", error
            )
            self._waits_for = str(error)
        finally:
            self.following = False

    async def _handle(self, event: EngineEvent | None) -> None:
        if event is None:
            self._all_unnamed = True
            self._names_due.set()
        elif event.action in {"connect", "rename"} and event.container:
            self._unnamed.add(event.container)
            self._names_due.set()
        elif isinstance(event, NetworkEvent) and event.action == "create":
            await self._driver.networks.name(event.network, event.name)
        elif isinstance(event, NetworkEvent) and self._is_end_of_foreign(event):
            self._gone.add(event.network)
            self._is_gone.set()
        for listener in self._listeners:
            await listener(event)

    def _is_end_of_foreign(self, event: NetworkEvent) -> bool:
        return event.action == "destroy" and event.network in self._driver.pools.foreign()

    async def _look_for_ended(self) -> None:
        """Find the networks of other drivers whose end was not heard: the stream of events was closed. Their pools were
        released; all others are left to repair, which looks twice."""
        if ending := set(self._driver.pools.ending):
            self._gone |= ending - {each.id for each in await self.engine.every_network()}
            if self._gone:
                self._is_gone.set()

    async def _reconcile_later(self) -> None:
        """Reconcile once nothing is younger than the grace period that was there when the engine came back."""
        # at a start the engine and the store come within a moment, and one repair is for both
        async with when(self._came_back, at_most=AGAIN_SECONDS, settle=min(TOGETHER_SECONDS, self.reconciler.grace)):
            # all of a cluster may have begun to wait at the same moment
            await asyncio.sleep(self.reconciler.grace + 1 + self._crowd.spread(AGAIN_SECONDS / 2, AGAIN_EACH))
            if self.following:
                await self._reconcile_again()

    async def _reconcile_with_store(self) -> None:
        """Claim again at once what the store lost: until then others could be given it. Nobody tells of it twice, so it
        is due until the store has answered."""
        # several watches tell it
        async with when(self._store_read, settle=SETTLE_SECONDS + self._crowd.spread(CLAIM_SPREAD, CLAIM_EACH)):
            await self._reconcile_again(needs_store=True)
            self._came_back.set()

    async def _reconcile_unless_just_done(self) -> None:
        """Reconcile, unless that was done a moment ago: each time costs reads of the store. It follows later."""
        now = asyncio.get_running_loop().time()
        if self._reconciled_at is None or now - self._reconciled_at >= APART_SECONDS:
            await self._reconcile()
        else:
            log.info("the stream of the engine's events was opened again; the next repair follows in a minute")

    async def _reconcile(self, *, needs_store: bool = False) -> list[Correction]:
        done = await self.reconciler.reconcile(self.engine, needs_store=needs_store)
        self._reconciled_at = asyncio.get_running_loop().time()
        self._metrics.corrected(len(done))
        if any(isinstance(each, AdoptNetwork | AdoptEndpoint | HoldAddress) for each in done):
            self._driver.networks.leftovers.suspect("repair adopted what the engine may have removed meanwhile")
        return done

    async def _reconcile_again(self, *, needs_store: bool = False) -> None:
        """Reconcile, and look at the engine anew if that brought back a record which the listeners had to do without:
        they passed over the containers of a network that was not known.

        Raises:
            Unavailable: with `needs_store`, the store does not answer. What it does not take, if it refuses writes or
                goes away on the way, is left to the repair of leftovers.
        """
        done = await self._reconcile(needs_store=needs_store)
        if any(isinstance(each, AdoptNetwork | AdoptEndpoint) for each in done):
            await self._handle(None)
        if needs_store and self.reconciler.broken_off:
            self._driver.networks.leftovers.suspect(f"repair was broken off ({self.reconciler.broken_off})")

    async def _claim_again(self) -> None:
        await asyncio.sleep(CLAIM_SECONDS)
        await self.reconciler.claim_again()

    async def _claim_foreign(self) -> None:
        """Find the network of a pool that no CreateNetwork claims: it is of another driver. Until its pool is claimed
        another network could be given the same."""
        async with when(self._driver.pools.requested, settle=FOREIGN_SECONDS):
            while self._driver.pools.is_any_unclaimed():
                await self.reconciler.claim_foreign(self.engine)
                await self._driver.pools.looks.pause(CLAIM_SECONDS)

    async def _end_foreign(self) -> None:
        """Give back what networks of other drivers had, once the engine says that they are gone. If that is not heard,
        repair does."""
        async with when(self._is_gone):
            while self._gone:
                network = min(self._gone)
                await self._driver.pools.end_foreign(network)
                self._gone.discard(network)

    async def _reconcile_pools(self) -> None:
        """Repair soon after a pool was missed: its network, of this host, may have lost it."""
        async with when(self._driver.ipam.missed, settle=SETTLE_SECONDS):
            await self._reconcile_again(needs_store=True)
            await asyncio.sleep(APART_SECONDS)

    async def _reconcile_leftovers(self) -> None:
        """Repair a grace period after requests that may have left something, and again until store and engine have
        answered, and nothing of it looks young any more, as it does when the clock was set: nothing else is known to
        bring such a repair about. What a busy host has under way is young at one look, and not at the next."""
        async with when(self._driver.networks.leftovers.suspected):
            left: frozenset[tuple[str, str]] | None = None
            while left is None or left:
                await asyncio.sleep(self.reconciler.grace + 1 + self._crowd.spread(AGAIN_SECONDS / 2, AGAIN_EACH))
                if self.following:
                    await self._reconcile_again(needs_store=True)
                    young = self.reconciler.passed_over()
                    left = young if left is None or young is None else left & young

    async def _learn(self) -> None:
        async with when(self._names_due, settle=SETTLE_SECONDS):
            some, self._unnamed = self._unnamed, set()
            everything, self._all_unnamed = self._all_unnamed, False
            try:
                if everything:
                    await learn_names(self._driver, self.engine)
                elif failed := await learn_names_of(self._driver, self.engine, sorted(some)):
                    some = set(failed)
                    raise next(iter(failed.values()))
            except BaseException as error:
                if isinstance(error, Unavailable) and not self.following:  # it sends an event when it is back
                    log.debug("names are not learnt: %s", error)
                    return
                self._unnamed |= some
                self._all_unnamed = self._all_unnamed or everything
                raise
