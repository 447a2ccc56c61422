"""A store as one process of a simulation reaches it: each message takes its time, and may be lost.

How long a message takes is drawn from the schedule's lot, so the store meets the requests of all hosts in any order.
A request can be lost before it took effect or after, and can take effect when its sender has long given up.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from macvlan_global.errors import Unavailable
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch, Entry, Lease, Store
from testkit.faults import Faults

T = TypeVar("T")

GIVE_UP = 3.0
"""Seconds after which a request to a store that does not answer fails."""
QUIET = 1.0
"""Seconds for which, after that, further requests fail at once."""
LATE = 5.0
SLOW = 0.25
"""The share of what is asked of a disk that takes time."""


class Life(Faults):
    """One run of a driver. When it is over, nothing that is left of it changes anything any more."""

    def __init__(self) -> None:
        """It begins."""
        super().__init__()
        self.over = False

    def begin(self, name: str) -> int:
        """See `Faults.begin`: a step of the kernel."""
        if self.over:
            raise Unavailable("the process is dead")
        return 0


@dataclass(slots=True)
class Weather:
    """Loss and delay of messages between hosts and the shared store. Chances are from 0 to 1, times in seconds.

    `away` says that the store serves nobody, `cut_off` names the hosts that do not reach it. With `resumes` watches go
    on where they were, as those of etcd and Consul do; else each begins with everything, as after a long outage.
    """

    lot: random.Random
    slowest: float = 0.1
    lose_request: float = 0.0
    lose_answer: float = 0.0
    late: float = 0.0
    away: bool = False
    cut_off: set[str] = field(default_factory=set)
    resumes: bool = False
    era: int = 0
    """Grows with each snapshot that is put back: what was on its way then arrives nowhere."""
    struck: int = 0
    """Count of the messages that were lost or came late."""
    lines: list[tuple[str, MemoryStore]] = field(default_factory=list)
    """Open watches: by which host, and the client of the store that has nothing else to do."""

    def delay(self) -> float:
        """Delay of the next message: often short, sometimes long."""
        drawn = self.lot.random()
        return self.slowest * drawn * drawn

    def cut(self, host: str) -> None:
        """A host does not reach the store, and its watches break."""
        self.cut_off.add(host)
        self._break(host)

    def go(self) -> None:
        """The store serves nobody, and all watches break."""
        self.away = True
        for host in dict.fromkeys(host for host, _ in self.lines):
            self._break(host)

    def _break(self, host: str) -> None:
        for _, line in [each for each in self.lines if each[0] == host]:
            at_once(line.close)

    def calm(self) -> None:
        """From now on nothing is lost, and all is quick."""
        self.away = False
        self.cut_off.clear()
        self.lose_request = self.lose_answer = self.late = 0.0
        self.slowest = 0.001


class LocalStore:
    """A host's disk as a process has it: quick, and always there."""

    def __init__(self, inner: Store, life: Life, weather: Weather) -> None:
        """`inner` must do its work without waiting, as the store in memory does."""
        self._inner = inner
        self._life = life
        self._weather = weather

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        return await self._ask(lambda: self._inner.get(key))

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        return await self._ask(lambda: self._inner.scan(prefix))

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._ask(lambda: self._inner.create(key, value))

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        return await self._ask(lambda: self._inner.replace(entry, value))

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        return await self._ask(lambda: self._inner.delete(entry))

    async def close(self) -> None:
        """See `Store.close`. What is behind it stays."""

    async def _ask(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._life.begin("")
        if self._weather.lot.random() >= SLOW:  # others go on meanwhile, but the clock does not
            done = at_once(work)
            await asyncio.sleep(0)
            return done
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        answer.get_loop().call_later(self._weather.delay() / 100, self._arrive, answer, work)
        return await answer

    def _arrive(self, answer: "asyncio.Future[T]", work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        # of a process that died meanwhile the write may have reached the disk or not
        if not self._life.over or self._weather.lot.random() < 0.5:
            _tell(answer, at_once(work))
        elif not answer.done():
            answer.set_exception(Unavailable("the process is dead"))


@dataclass(slots=True)
class _Place:
    """A place in a watch: what was told until then, and in which era."""

    era: int
    told: dict[str, Entry] = field(default_factory=dict)

    def first(self, batch: Batch) -> Batch:
        """The first batch of a watch that goes on from here: what has changed since."""
        there = {each.key: each for each in batch.entries}
        changed = tuple(each for each in batch.entries if self.told.get(each.key) != each)
        return Batch(False, changed, tuple(key for key in self.told if key not in there))

    def after(self, batch: Batch, era: int) -> "_Place":
        """The place after a batch."""
        told = {} if batch.whole else {key: each for key, each in self.told.items() if key not in batch.gone}
        return _Place(era, told | {each.key: each for each in batch.entries})


class SharedStore(LocalStore):
    """The shared store as a process has it."""

    def __init__(self, inner: MemoryStore, life: Life, weather: Weather, host: str) -> None:
        """`host` is the name by which it may be cut off."""
        super().__init__(inner, life, weather)
        self._shared = inner
        self._host = host
        self._quiet_until = 0.0

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""
        return SimulatedLease(await self._ask(lambda: self._shared.lease(seconds)), self._ask)

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        inner = lease.inner if isinstance(lease, SimulatedLease) else lease
        return await self._ask(lambda: self._shared.create_with(inner, key, value, over))

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch]:
        """See `ClusterStore.watch`. News takes its time too, and is in order; nothing of it is lost."""
        await self._ask(lambda: self._shared.get(prefix))
        line = self._shared.client()
        self._weather.lines.append((self._host, line))
        place = after if isinstance(after, _Place) and after.era == self._weather.era else None
        try:
            async with contextlib.aclosing(line.watch(prefix)) as batches:
                async for seen in batches:
                    era = self._weather.era
                    await asyncio.sleep(self._weather.delay())
                    batch = place.first(seen) if place and seen.whole and place is after else seen
                    place = (place or _Place(era)).after(batch, era) if self._weather.resumes else None
                    yield replace(batch, position=place)
        finally:
            self._weather.lines.remove((self._host, line))

    async def _ask(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._life.begin("")
        loop = asyncio.get_running_loop()
        if loop.time() < self._quiet_until:
            raise Unavailable("the store did not answer a moment ago")
        answer: asyncio.Future[T] = loop.create_future()
        weather, fate = self._weather, self._weather.lot.random()
        loop.call_later(weather.delay(), self._at_store, answer, work, (fate, weather.era))
        return await answer

    def _at_store(
        self, answer: "asyncio.Future[T]", work: Callable[[], Coroutine[Any, Any, T]], sent: tuple[float, int]
    ) -> None:
        weather, loop = self._weather, answer.get_loop()
        fate, era = sent
        before, after = weather.lose_request, weather.lose_request + weather.lose_answer
        if weather.away or self._host in weather.cut_off or fate < before or era != weather.era:
            loop.call_later(GIVE_UP, self._fail, answer)
            weather.struck += 1
            return
        weather.struck += fate < after + weather.late
        if fate < after:
            loop.call_later(GIVE_UP, self._fail, answer)
            _unheard(work)
        elif fate < after + weather.late:
            loop.call_later(GIVE_UP, self._fail, answer)
            loop.call_later(GIVE_UP + weather.lot.random() * LATE, self._too_late, work, era)
        else:
            try:
                result = at_once(work)
            except Unavailable as refused:
                loop.call_later(weather.delay(), _refuse, answer, refused)
            else:
                loop.call_later(weather.delay(), _tell, answer, result)

    def _too_late(self, work: Callable[[], Coroutine[Any, Any, T]], era: int) -> None:
        if not self._weather.away and era == self._weather.era:
            _unheard(work)

    def _fail(self, answer: "asyncio.Future[T]") -> None:
        if not answer.done():
            self._quiet_until = answer.get_loop().time() + QUIET
            answer.set_exception(Unavailable("the store does not answer"))


class _Ask(Protocol):
    async def __call__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T: ...


class SimulatedLease:
    """A lease of the shared store, over messages."""

    def __init__(self, inner: Lease, ask: _Ask) -> None:
        """Made by `SharedStore.lease`."""
        self.inner = inner
        self._ask = ask

    async def renew(self) -> bool:
        """See `Lease.renew`."""
        return await self._ask(self.inner.renew)

    async def end(self) -> None:
        """See `Lease.end`."""
        await self._ask(self.inner.end)


def at_once(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The answer of a coroutine that waits for nothing."""
    coroutine = work()
    try:
        coroutine.send(None)
    except StopIteration as done:
        answer: T = done.value
        return answer
    coroutine.close()
    raise AssertionError("a store that waits")


def _unheard(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Do it at the store; whoever asked never hears how it ended."""
    with contextlib.suppress(Unavailable):
        at_once(work)


def _refuse(answer: "asyncio.Future[T]", refused: Unavailable) -> None:
    if not answer.done():
        answer.set_exception(refused)


def _tell(answer: "asyncio.Future[T]", result: T) -> None:
    if not answer.done():  # who asked may have died
        answer.set_result(result)
