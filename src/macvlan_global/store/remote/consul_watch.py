"""Watches on Consul: of a followed group by its bell, of any other prefix by reading all of it again.

Consul keeps who asks waiting until a key, or something below a prefix, has changed, and then tells it whole.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.ports import Batch
from macvlan_global.store.remote.bell import are_other_history, missed
from macvlan_global.store.remote.consul_keys import ConsulKeys
from macvlan_global.store.remote.consul_messages import found, index_of, pairs_in
from macvlan_global.store.remote.consul_ringing import PUT, Bells, SeenBells
from macvlan_global.store.remote.known import Known
from macvlan_global.store.remote.many import free
from macvlan_global.store.remote.members import BULK, DEADLINE, Answer, AnswerLost, NotAsked, Request
from macvlan_global.tasks import Crowd

WAIT = 300
"""Seconds that Consul may keep a watch waiting for news. It then sends everything again, so: long."""

WATCHES, WATCHED = 120, 100
"""Connections for watches, and groups that are watched at once, above which they take turns."""

TURN = 5.0
"""Seconds that Consul may keep a watch waiting that takes turns with others."""

PACE, ALL_PACE = 10e6, 200e6
"""Bytes that one watch of a prefix reads in a second at most, and those of all hosts together: with much below its
prefix, what changes soon after waits for that."""

GATHER = 0.02
"""Seconds between two looks at a bell that is rung often: what was rung meanwhile is read together."""

JITTER, JITTER_EACH = 0.03, 0.00003
"""Seconds by which many hosts spread what they read when a bell is rung, and those for each host."""

CHECK = 60.0
"""Seconds between two questions whether somebody wrote without ringing; longer where the question is dear."""

CHECKED_IN_A_SECOND = 1_000
"""Keys of a group that Consul goes through for such questions of one host, per second."""

READ_AGAIN = 15.0
"""Seconds over which many hosts spread that they read a group again, at most."""


@dataclass(slots=True)
class GroupPosition:
    """The place of a watch of a group: what it has told, and the bells at that time. `accounted` is an index of the
    history, up to which everything was read."""

    group: str
    known: Known
    seen: SeenBells
    accounted: int


class GroupWatch:
    """A watch of one followed group."""

    def __init__(self, keys: ConsulKeys, bells: Bells, group: str, crowd: Crowd) -> None:
        """Nothing is asked yet."""
        self._keys = keys
        self._members = keys.members
        self._bells = bells
        self._group = group
        self._crowd = crowd
        self._check_at = 0.0

    async def run(self, after: object = None) -> AsyncGenerator[Batch]:
        """See `ClusterStore.watch`."""
        self._bells.watched += 1
        try:
            if isinstance(after, GroupPosition) and after.group == self._group:
                at = after
                now: SeenBells | None = await self._bells.find(self._group)
            else:
                seen = await self._bells.find(self._group)
                entries, index = await self._keys.whole(self._group)
                known = await Known.of(entries)
                now, at = seen, GroupPosition(self._group, known, seen, max(index, seen.index))
                yield Batch(True, tuple(entries), position=at)
                await free(entries)  # all of a group: nobody needs it while this waits
            self._plan_check(at)
            is_first = at is after
            while True:
                batch = await self._changes(at, now)
                if is_first or batch.whole or batch.entries or batch.gone:
                    is_first = False
                    yield batch
                del batch
                await asyncio.sleep(random.uniform(GATHER / 2, GATHER))  # noqa: S311 - it spreads hosts
                now = await self._next(at)
        finally:
            self._bells.watched -= 1
            self._bells.sweep_later(self._group)

    async def _changes(self, at: GroupPosition, now: SeenBells | None) -> Batch:
        """The changes between a position and the bells that were read after it; None for those who do not tell all.

        The position is that after the batch when this returns, and what it was if this fails.
        """
        prefixes = missed(at.seen.bells, now.bells) if now else None
        if now is None or prefixes is None:
            return await self._read_again(at, now)
        below = [f"{self._group}{each}" for each in prefixes]
        entries = []
        if below:
            await asyncio.sleep(self._crowd.spread(JITTER, JITTER_EACH))
            entries = await self._keys.below(below)
        changed, gone = at.known.take(below, entries)
        at.seen, at.accounted = now, max(at.accounted, now.index)
        return Batch(False, changed, gone, position=at)

    async def _read_again(self, at: GroupPosition, now: SeenBells | None) -> Batch:
        went_back = now is not None and self._is_other_history(at, now)
        await asyncio.sleep(self._crowd.spread(READ_AGAIN))
        now = await self._bells.find(self._group)
        went_back |= self._is_other_history(at, now)
        entries, index = await self._keys.whole(self._group)
        changed, gone = await at.known.take_all(entries)
        at.seen, at.accounted = now, max(index, now.index)
        return Batch(True, tuple(entries), position=at) if went_back else Batch(False, changed, gone, position=at)

    @staticmethod
    def _is_other_history(at: GroupPosition, now: SeenBells) -> bool:
        """Whether the store was restored from an older copy."""
        # the bells of an empty group may have been deleted
        is_other = bool(at.known) and are_other_history(at.seen.bells, now.bells)
        return now.index < at.seen.index or is_other

    # --- news

    async def _next(self, at: GroupPosition) -> SeenBells | None:
        """The bells after one was rung, or after a long time; None if somebody wrote without ringing.

        An index that went back says that the store was restored from an older copy. Consul says so only to who asks
        without waiting: it ends what waits during a restore with the state of before, and lets those who come later
        wait for the old index. So that is done after every end of a wait that has brought no news.
        """
        seconds = WAIT if self._bells.watched <= WATCHED else TURN
        waiting = self._bells.request(self._group, f"recurse&consistent&index={at.seen.index}&wait={seconds:g}s")
        at_once = self._bells.request(self._group)
        loop = asyncio.get_running_loop()
        lost_since = 0.0
        asks_at_once = False
        while True:
            begun = loop.time()
            try:
                if loop.time() >= self._check_at:
                    index = await self._bells.ask_index(self._group, loop.time() + DEADLINE)
                    asks_at_once |= (
                        await self._bells.ask_own_index(self._group, loop.time() + DEADLINE) != at.seen.index
                    )
                    self._plan_check(at)
                    if not asks_at_once and self._is_unheard(at, index):
                        return None
                if not lost_since and not asks_at_once:
                    answer = await self._wait(waiting)
                    if answer is None:
                        continue  # a check is due
                    asks_at_once = index_of(answer) == at.seen.index and loop.time() - begun < seconds
                    if asks_at_once:
                        continue
                else:
                    answer = found(await self._members.long(at_once, BULK))
                return self._bells.take(self._group, answer)
            except (NotAsked, AnswerLost):
                lost_since = lost_since or loop.time()
                await self._members.reconnect_delay(lost_since)

    async def _wait(self, request: Request) -> Answer | None:
        """The answer of a request that waits for news; None if a check is due before."""
        loop = asyncio.get_running_loop()
        # Consul adds up to a sixteenth to the time
        task = asyncio.ensure_future(self._members.long(request, WAIT * 1.2))
        try:
            await asyncio.wait({task}, timeout=max(0.0, self._check_at - loop.time()))
            return found(task.result()) if task.done() else None
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # --- foreign writers

    def _plan_check(self, at: GroupPosition) -> None:
        seconds = max(CHECK, len(at.known) / CHECKED_IN_A_SECOND) * random.uniform(1, 2)  # noqa: S311 - it spreads hosts
        self._check_at = asyncio.get_running_loop().time() + seconds

    @staticmethod
    def _is_unheard(at: GroupPosition, index: int | None) -> bool:
        """Whether somebody wrote or deleted a key of the group without ringing its bell.

        All that a transaction does has one index of the history. So an index of the group that is larger than that of
        its bells is somebody else's, who knows no bell: `consul kv put`.
        """
        return bool(at.known) if index is None else index > at.accounted


class PrefixWatch:
    """A watch of any prefix."""

    def __init__(self, keys: ConsulKeys, prefix: str, crowd: Crowd) -> None:
        """Nothing is asked yet."""
        self._keys = keys
        self._members = keys.members
        self._prefix = prefix
        self._crowd = crowd

    async def run(self) -> AsyncGenerator[Batch]:
        """See `ClusterStore.watch`. It has no position."""
        entries, index = await self._keys.whole(self._prefix)
        known = await Known.of(entries)
        yield Batch(True, tuple(entries))
        await free(entries)  # the next change may come in an hour
        while True:
            if not known:
                await self._make_folder()
            batch, index, size = await self._changes(known, index)
            if batch.whole or batch.entries or batch.gone:
                yield batch
            del batch
            await asyncio.sleep(size / min(PACE, ALL_PACE / self._crowd.hosts))

    async def _changes(self, known: Known, index: int) -> tuple[Batch, int, int]:
        """The next changes, the index after them, and the bytes that they took."""
        answer = await self._next(index)
        entries = await self._keys.entries(pairs_in(answer))
        newest = known.newest
        changed, gone = await known.take_all(entries)
        # Only a store that was restored from an older copy has what was told behind what is, or tells of a key that was
        # written before what was told. An index that is smaller than before is no sign: that of a prefix is the one of
        # its last key or tombstone, and Consul forgets a tombstone after 15 minutes.
        went_back = index_of(answer) < newest or any(entry.revision <= index for entry in changed)
        batch = Batch(True, tuple(entries)) if went_back else Batch(False, changed, gone)
        return batch, index_of(answer), len(answer.body)

    async def _make_folder(self) -> None:
        """Put something below an empty prefix, which `scan` and `watch` pass over.

        Whoever waits for a prefix with nothing below it is woken by every write to any other key of the store.
        """
        name = self._keys.name(self._prefix)
        if name.endswith("/"):
            operation = {"Verb": "cas", "Key": name, "Value": b"", "Index": 0}
            request = Request(PUT, "/v1/txn", msgspec.json.encode([{"KV": operation}]), self._keys.headers)
            with contextlib.suppress(Unavailable, NotAsked, AnswerLost):  # it spares work, and no more
                async with self._members.operation() as until:
                    await self._members.ask(request, until)

    async def _next(self, index: int) -> Answer:
        """The prefix as it is after something changed in it, or after a long time. See `GroupWatch` for an index that
        went back."""
        request = self._keys.read_request(self._prefix, f"recurse&consistent&index={index}&wait={WAIT}s")
        at_once = self._keys.read_request(self._prefix, "recurse&consistent")
        loop = asyncio.get_running_loop()
        lost_since = 0.0
        while True:
            begun = loop.time()
            try:
                if not lost_since:
                    # Consul adds up to a sixteenth to the time
                    answer = found(await self._members.long(request, WAIT * 1.2))
                    if index_of(answer) != index or loop.time() - begun >= WAIT:
                        return answer
                return found(await self._members.long(at_once, BULK))
            except (NotAsked, AnswerLost):
                lost_since = lost_since or loop.time()
                await self._members.reconnect_delay(lost_since)
