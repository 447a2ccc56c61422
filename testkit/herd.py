"""A herd: all hosts of a large cluster and the store's one line, on virtual time, with every byte counted.

The drivers are the real ones, as in `simulation`; nobody draws lots for messages. Each request and each piece of news
takes its share of the line to the store, so what all hosts do at once takes as long as it would. The store itself
answers at once: its processors and disks are not part of this.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.ports import Batch, Entry, Lease
from testkit.fake_engine import Container, Subnet
from testkit.shared_line import SharedLine
from testkit.simulated_host import PARENT, TTL, SimulatedHost, Surroundings
from testkit.simulated_store import GIVE_UP, QUIET, Life, SimulatedLease, Weather, at_once

T = TypeVar("T")

LATENCY = 0.0005
"""Seconds for a request and its answer on an idle line."""
HEAD = 300
"""Bytes of a request or an answer besides keys and values: headers of HTTP and TCP."""
FACTOR = 1.5
"""Bytes on the line for each byte of a key or a value: JSON and base64."""
WATCH_GIVES_UP = 5.0
"""Seconds for which a watch tries to reach the store again."""
EACH = 2
"""Containers of a host."""
WITHIN = 20
"""Hosts whose containers are on one network."""
SETTLE = 150.0
"""Seconds for what follows later: repair begins again when nothing is younger than its grace period."""


def size_of(entries: Sequence[Entry]) -> int:
    """Bytes of a message with these entries."""
    return HEAD + round(FACTOR * sum(len(each.key) + len(each.value) for each in entries))


@dataclass(slots=True)
class Traffic:
    """Counts of one host since they were last taken: requests, bytes both ways, and whole reads by what was read."""

    requests: int = 0
    bytes: int = 0
    whole: Counter[str] = field(default_factory=Counter)


class _Place:
    """A place in a watch: what was told until then, and what is told next."""

    def __init__(self, told: AsyncGenerator[Batch]) -> None:
        self._told = told
        self._next: asyncio.Task[Batch] | None = None

    async def next(self, broken: asyncio.Event) -> Batch | None:
        """The next batch; None if the line breaks before."""
        loop = asyncio.get_running_loop()
        self._next = self._next or loop.create_task(anext(self._told))
        breaks = loop.create_task(broken.wait())
        await asyncio.wait({self._next, breaks}, return_when=asyncio.FIRST_COMPLETED)
        breaks.cancel()
        if broken.is_set():
            return None
        batch, self._next = self._next.result(), None
        return batch


@dataclass(slots=True)
class Trunk:
    """The store at the end of its line. While it is `broken` it answers nobody."""

    store: MemoryStore
    line: SharedLine
    traffic: dict[str, Traffic] = field(default_factory=dict)
    broken: asyncio.Event = field(default_factory=asyncio.Event)


class HerdStore:
    """The store as one host reaches it: see `macvlan_global.store.ports.ClusterStore`."""

    def __init__(self, trunk: Trunk, life: Life, host: str, *, copies: bool = False) -> None:
        """`life` is that of the driver's run. With `copies` what the host gets is its own, as over a line: whoever
        measures its memory finds it there."""
        self._trunk = trunk
        self._life = life
        self._host = host
        self._copies = copies
        self._quiet_until = 0.0

    @property
    def _traffic(self) -> Traffic:
        return self._trunk.traffic.setdefault(self._host, Traffic())

    async def get(self, key: str) -> Entry | None:
        """See `Store.get`."""
        return await self._ask(lambda: self._trunk.store.get(key), len(key), _one)

    async def scan(self, prefix: str) -> list[Entry]:
        """See `Store.scan`."""
        self._traffic.whole[prefix] += 1
        return list(self._own(await self._ask(lambda: self._trunk.store.scan(prefix), len(prefix), size_of, bulk=True)))

    async def create(self, key: str, value: bytes) -> Entry | None:
        """See `Store.create`."""
        return await self._ask(lambda: self._trunk.store.create(key, value), len(key) + len(value))

    async def replace(self, entry: Entry, value: bytes) -> Entry | None:
        """See `Store.replace`."""
        return await self._ask(lambda: self._trunk.store.replace(entry, value), len(entry.key) + len(value))

    async def delete(self, entry: Entry) -> bool:
        """See `Store.delete`."""
        return await self._ask(lambda: self._trunk.store.delete(entry), len(entry.key))

    async def lease(self, seconds: float) -> Lease:
        """See `ClusterStore.lease`."""
        return SimulatedLease(await self._ask(lambda: self._trunk.store.lease(seconds)), self._ask)

    async def create_with(self, lease: Lease, key: str, value: bytes, over: Entry | None = None) -> Entry | None:
        """See `ClusterStore.create_with`."""
        inner = lease.inner if isinstance(lease, SimulatedLease) else lease
        return await self._ask(lambda: self._trunk.store.create_with(inner, key, value, over), len(key) + len(value))

    async def watch(self, prefix: str, after: object = None) -> AsyncGenerator[Batch]:
        """See `ClusterStore.watch`. It resumes after any outage: this store forgets no history."""
        await self._ask(lambda: self._trunk.store.get(prefix))
        place = after if isinstance(after, _Place) else _Place(self._trunk.store.watch(prefix))
        if place is after:
            yield Batch(False, position=place)
        while batch := await place.next(self._trunk.broken):
            self._traffic.whole[prefix] += batch.whole
            await self._carry(size_of(batch.entries) + sum(map(len, batch.gone)))
            yield replace(batch, entries=tuple(self._own(batch.entries)), position=place)
            del batch
        await asyncio.sleep(WATCH_GIVES_UP)
        raise Unavailable("the store does not answer")

    def _own(self, entries: Iterable[Entry]) -> Iterable[Entry]:
        if not self._copies:
            return entries
        return (
            msgspec.structs.replace(each, key="".join(list(each.key)), value=bytes(bytearray(each.value)))
            for each in entries
        )

    async def close(self) -> None:
        """See `Store.close`. What is behind it stays."""

    async def _ask(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        sent: int = 0,
        size: Callable[[Any], int] = lambda _answer: HEAD,
        *,
        bulk: bool = False,
    ) -> T:
        self._life.begin("")
        loop = asyncio.get_running_loop()
        if loop.time() < self._quiet_until:
            raise Unavailable("the store did not answer a moment ago")
        self._traffic.requests += 1
        try:
            # a whole read may take as long as bytes come
            async with asyncio.timeout(None if bulk and not self._trunk.broken.is_set() else GIVE_UP):
                if self._trunk.broken.is_set():
                    await loop.create_future()
                await self._carry(HEAD + round(FACTOR * sent))
                answer = at_once(work)
                await self._carry(size(answer))
                return answer
        except TimeoutError:
            self._quiet_until = loop.time() + QUIET
            raise Unavailable("the store does not answer") from None

    async def _carry(self, size: int) -> None:
        self._traffic.bytes += size
        await asyncio.sleep(LATENCY / 2)
        await self._trunk.line.carry(size)


def _one(entry: Entry | None) -> int:
    return size_of([entry] if entry else [])


@dataclass(frozen=True, slots=True)
class Passed:
    """Cost of a part of the story: seconds until all hosts were well, bytes of each host, and the most whole reads of
    one prefix that any host made, by prefix."""

    seconds: float
    bytes_each: float
    whole: Mapping[str, int]


class Herd:
    """Many hosts with some containers each. A network is on every host, and has containers on a group of them."""

    def __init__(self, hosts: int, *, rate: float) -> None:
        """`rate` is that of the line to the store, in bytes a second."""
        lot = random.Random(hosts)  # noqa: S311 - it guards nothing
        self._trunk = Trunk(MemoryStore(), SharedLine(rate))
        weather = Weather(lot, slowest=0.001)
        self._around = Surroundings(self._trunk.store, weather, lot, [], connect=partial(HerdStore, self._trunk))
        self.hosts = [SimulatedHost(self._around, f"h{number}", 0.0) for number in range(hosts)]

    async def settle(self) -> Passed:
        """Bring the cluster up, one host after the other, with its networks and containers."""
        for host in self.hosts:
            await host.start()
        groups = [self.hosts[first : first + WITHIN] for first in range(0, len(self.hosts), WITHIN)]
        names = [f"n{number}" for number in range(len(groups))]
        for number, (name, group) in enumerate(zip(names, groups, strict=True)):
            await group[0].engine.create_network(name, Subnet(f"10.{number}.0.0/16"), options={"parent": PARENT})
        while not all(host.engine.has(name) for host in self.hosts for name in names):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(1.0)
        for name, group in zip(names, groups, strict=True):
            for host in group:
                for each in range(EACH):
                    await host.engine.run(f"{host.name}-c{each}", name)
        await asyncio.sleep(SETTLE)
        return await self._until_well()

    async def rest(self, seconds: float) -> Passed:
        """Nothing happens for a while."""
        await asyncio.sleep(seconds)
        return await self._until_well()

    async def lose_store(self, seconds: float) -> Passed:
        """The store is away for a while, and then comes back to all at once."""
        self._trunk.broken.set()
        await asyncio.sleep(seconds)
        self._trunk.broken.clear()
        self._take_traffic()
        return await self._until_well()

    async def lose_power(self) -> Passed:
        """Power goes, and comes back to all at once; containers begin again when their drivers serve."""
        ran = {host: list(host.engine.containers.values()) for host in self.hosts}
        for host in self.hosts:
            host.lose_power()
        await asyncio.sleep(2 * TTL + 5.0)  # all leases end
        self._take_traffic()
        booted = [asyncio.ensure_future(self._boot(host, ran[host])) for host in self.hosts]
        passed = await self._until_well()
        await asyncio.gather(*booted)
        return passed

    def end(self) -> None:
        """Switch everything off.

        Raises:
            BaseException: what ended a task that must not end.
        """
        for host in self.hosts:
            host.crash()
        if self._around.bugs:
            raise self._around.bugs[0]

    async def _boot(self, host: SimulatedHost, ran: Sequence[Container]) -> None:
        await host.start()
        assert host.run is not None
        await host.run.changed.wait()
        for each in ran:
            await host.engine.repeat_stop(each)
            await host.engine.run(each.name, each.network)

    async def _until_well(self) -> Passed:
        """Wait until every host is well, and then for the consequences."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while not all(self._is_well(host) for host in self.hosts):  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        seconds = loop.time() - begun
        await asyncio.sleep(SETTLE)
        return self._passed(seconds)

    def _passed(self, seconds: float) -> Passed:
        taken = self._take_traffic()
        whole: dict[str, int] = {}
        for each in taken:
            for prefix, count in (+each.whole).items():
                whole[prefix] = max(whole.get(prefix, 0), count)
        return Passed(seconds, sum(each.bytes for each in taken) / len(self.hosts), whole)

    def _take_traffic(self) -> list[Traffic]:
        taken, self._trunk.traffic = self._trunk.traffic, {}
        return list(taken.values())

    def _is_well(self, host: SimulatedHost) -> bool:
        """Whether a host serves, is in the cluster, sees all others, and answers names."""
        run = host.run
        return bool(
            run
            and run.serving
            and not run.scope.heartbeat.why_not_member()
            and len(run.scope.heartbeat.live()) == len(self.hosts)
            and run.scope.feed.following
        )
