"""Writes that ring a bell: what changes a key of a followed group rings the group's bell in the same transaction.

So there is no change without its ring, and no ring is lost: not if an answer is, nor if a driver dies. A host rings a
bell that is as it saw it last. Whoever was too late reads the bells, and tries again with another one. Writes of this
host that arrive meanwhile go together, and ring once.
"""

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from macvlan_global.errors import Unavailable
from macvlan_global.store.followed import ends_with_network
from macvlan_global.store.remote.batching import Batcher
from macvlan_global.store.remote.bell import BELLS as COUNT
from macvlan_global.store.remote.bell import Bell, new_bell, read_bell, rung
from macvlan_global.store.remote.consul_keys import BELLS, ConsulKeys
from macvlan_global.store.remote.consul_messages import (
    CONFLICT,
    NOT_FOUND,
    OK,
    ConsulTxn,
    Result,
    StepError,
    checked,
    decode,
    found,
    index_of,
    pairs_in,
    reasons,
    refused,
)
from macvlan_global.store.remote.members import Answer, AnswerLost, NotAsked, Request

STEPS = 64
"""Steps of a transaction that Consul takes."""

BYTES = 300_000
"""Bytes of values in a transaction; Consul takes 512 KiB of them in base64."""

FIRST_PAUSE, LAST_PAUSE = 0.004, 0.25
"""Seconds that a writer waits at most after a bell was rung by another one: a little, then longer each time."""

KEPT = 256
"""Bells that are kept in mind as they were last seen."""

SWEEP = 60.0
"""Seconds after the last key of a network was deleted until its bell is, if none has come since."""

# lower case on purpose: aiohttp sends a "PUT" a second time by itself if the connection breaks, and we must know of it
PUT = "put"
DELETE = "delete-cas"

Operations = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of one write: a result for each operation but deletions, or the refusal of all of them."""

    results: Sequence[Result] = ()
    refusal: Answer | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """The operations of one write, all on one key."""

    key: str
    operations: Operations


@dataclass(frozen=True, slots=True)
class SeenBells:
    """The bells of a group by their number, the indexes at which each was written, and that of all of them.

    `indexes` has those that cannot be read, too.
    """

    bells: Mapping[str, Bell]
    indexes: Mapping[str, int]
    index: int


@dataclass(frozen=True, slots=True)
class LostRing:
    """A bell that could not be rung: its number, the index at which we had seen it, and Consul's answer."""

    number: str
    index: int
    answer: Answer


class Refusals:
    """Tells a refusal for good from a race that was lost."""

    def __init__(self) -> None:
        """Nothing was refused yet."""
        self.lost: LostRing | None = None
        """The ring that was refused last, until `look`."""
        self._unexplained = 0

    def look(self, seen: SeenBells) -> None:
        """Look at the bells as they are after `lost`, and forget that.

        Raises:
            Unavailable: with Consul's reason. Nobody else has rung, and so it was the last time: then we lost no race,
                and another try would not help. We may only read, say. Once it may be that a bell came and went.
        """
        lost, self.lost = self.lost, None
        if lost is None:
            return
        is_explained = seen.indexes.get(lost.number, 0) != lost.index
        self._unexplained = 0 if is_explained else self._unexplained + 1
        if self._unexplained > 1:
            raise refused(lost.answer)


def share_of(write: Write, bells: int = 0) -> float:
    """The share of a transaction that a write takes, with so many bells."""
    steps = len(write.operations) + bells
    size = sum(len(each.get("Value") or b"") for each in write.operations)
    return max(steps / STEPS, size / BYTES)


def done_each(writes: Sequence[Write], results: Iterable[Result]) -> list[Done]:
    """The outcomes of writes that were done together."""
    rest = iter(results)
    # a deletion has no result
    counts = (sum(each["Verb"] != DELETE for each in write.operations) for write in writes)
    return [Done([result for _, result in zip(range(count), rest)]) for count in counts]  # noqa: B905 # it takes as many


class Bells:
    """The bells of groups, as this client saw them last."""

    def __init__(self, keys: ConsulKeys) -> None:
        """None is known yet."""
        self._keys = keys
        self._members = keys.members
        self.watched = 0
        """Groups that are watched now."""
        self._seen: dict[str, SeenBells] = {}
        self._writes: dict[str, Batcher[Write, Done]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._sweeps: dict[str, asyncio.TimerHandle] = {}
        self._sweeping = set[asyncio.Task[None]]()

    # --- reading

    def request(self, group: str, options: str = "recurse&consistent") -> Request:
        """A request for the bells of a group."""
        return self._keys.read_request(f"{BELLS}{group}", options)

    def take(self, group: str, answer: Answer) -> SeenBells:
        """Take the bells of a group as they were read."""
        pairs = pairs_in(answer)
        prefix = f"{BELLS}{group}"
        there = {self._keys.key(pair.key).removeprefix(prefix): pair for pair in pairs}
        bells = {number: bell for number, pair in there.items() if (bell := read_bell(pair.value or b""))}
        indexes = {number: pair.modify_index for number, pair in there.items()}
        seen = SeenBells(bells, indexes, index_of(answer))
        before = self._seen.get(group)
        # answers may overtake each other; a history that went back shows when a bell is rung next
        if before is None or before.index < seen.index:
            self._remember(group, seen)
        return seen

    async def find(self, group: str) -> SeenBells:
        """The bells of a group as they are now. If there is none, one is made.

        Raises:
            Unavailable: the store does not answer, or does not let us write.
        """

        async def look(until: float) -> SeenBells:
            refusals = Refusals()
            while True:
                seen = await self._read(group, until)
                if seen.bells:
                    return seen
                refusals.look(seen)
                number = min(seen.indexes, default="0")
                index = seen.indexes.get(number, 0)
                answer = await self._transact([self._ring(group, number, new_bell(), index)], until)
                if answer.status == CONFLICT:
                    refusals.lost = LostRing(number, index, answer)
                else:
                    checked(answer)

        async with self._members.operation() as until:
            return await self._members.read(look, until)

    async def _read(self, group: str, until: float) -> SeenBells:
        return self.take(group, await self._members.ask(self.request(group), until))

    def _remember(self, group: str, seen: SeenBells) -> None:
        self._seen.pop(group, None)
        self._seen[group] = seen
        if len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]

    # --- writing

    async def write(self, group: str, write: Write, until: float) -> Done:
        """Do a write of a key in a group, and ring its bell; what came of it.

        Raises:
            NotAsked, AnswerLost: see there.
            Unavailable: Consul refuses, or too many others ring.
        """
        if group not in self._writes:

            async def send(writes: Sequence[Write], until: float) -> Sequence[Done] | None:
                async with self._locks.setdefault(group, asyncio.Lock()):
                    return await self._send(group, writes, until)

            self._writes[group] = Batcher[Write, Done](send, gather=None, share=partial(share_of, bells=1))
        batcher = self._writes[group]
        try:
            done = await batcher.ask(write.key, write, until)
            if done.refusal is None and write.operations[-1]["Verb"] == DELETE:
                self.sweep_later(group)
            return done
        finally:
            if batcher.is_idle and self._writes.get(group) is batcher:
                del self._writes[group]
                self._locks.pop(group, None)

    async def _send(self, group: str, writes: Sequence[Write], until: float) -> Sequence[Done] | None:
        outcomes: dict[int, Done] = {}
        lost = 0
        refusals = Refusals()
        while waiting := [number for number in range(len(writes)) if number not in outcomes]:
            some = [writes[number] for number in waiting]
            # only a read that began after the loss tells whether somebody has rung: watches bring older ones
            known = None if refusals.lost else self._seen.get(group)
            seen = known or await self._read(group, until)
            refusals.look(seen)
            number = str(random.randrange(COUNT))  # noqa: S311 - it spreads hosts
            bell = rung(seen.bells.get(number) or new_bell(), (write.key[len(group) :] for write in some))
            steps = [each for write in some for each in write.operations]
            index = seen.indexes.get(number, 0)
            ring = self._ring(group, number, bell, index)
            answer = await self._transact([*steps, ring], until)
            if answer.status == OK:
                results = decode(answer.body, ConsulTxn).results or ()
                self._rung(group, number, bell, results)
                outcomes |= dict(zip(waiting, done_each(some, results), strict=True))
                continue
            errors = reasons(answer) if answer.status == CONFLICT else []
            if not errors:
                if len(writes) > 1:
                    return None
                return [Done(refusal=answer if answer.status == CONFLICT else checked(answer))]
            outcomes |= dict(_refusals(answer, waiting, some, errors))
            if any(each.op_index >= len(steps) for each in errors):
                self._seen.pop(group, None)  # somebody else has rung
                refusals.lost, lost = LostRing(number, index, answer), lost + 1
                await self._wait_for_others(group, lost, until)
        return [outcomes[number] for number in range(len(writes))]

    async def _wait_for_others(self, group: str, lost: int, until: float) -> None:
        if lost < 2:
            return  # what we had seen was old, it may be
        pause = random.uniform(0, min(LAST_PAUSE, FIRST_PAUSE * 2**lost))  # noqa: S311 - it spreads hosts
        if asyncio.get_running_loop().time() + pause >= until:
            raise Unavailable(f"Consul: too many hosts write below {group} at the same time; try again")
        await asyncio.sleep(pause)

    def _ring(self, group: str, number: str, bell: Bell, index: int) -> dict[str, Any]:
        name = self._keys.name(f"{BELLS}{group}{number}")
        return {"Verb": "cas", "Key": name, "Value": msgspec.json.encode(bell), "Index": index}

    def _rung(self, group: str, number: str, bell: Bell, results: Sequence[Result]) -> None:
        if not results or (pair := results[-1].kv) is None:
            raise Unavailable("Consul's answer cannot be parsed: it has no result; is it Consul 1.8 or later?")
        if seen := self._seen.get(group):
            bells = {**seen.bells, number: bell}
            # the index of all stays: what others have rung before is not known yet
            self._remember(group, SeenBells(bells, {**seen.indexes, number: pair.modify_index}, seen.index))

    async def _transact(self, operations: Sequence[Mapping[str, Any]], until: float) -> Answer:
        body = msgspec.json.encode([{"KV": operation} for operation in operations])
        return await self._members.ask(Request(PUT, "/v1/txn", body, self._keys.headers), until)

    # --- the end of a bell

    def sweep_later(self, group: str) -> None:
        """Delete the bell of a network in a while, if no key is in the group then: networks come and go."""
        if ends_with_network(group) and group not in self._sweeps:
            loop = asyncio.get_running_loop()
            pause = SWEEP * random.uniform(1, 2)  # noqa: S311 - it spreads hosts
            self._sweeps[group] = loop.call_later(pause, self._begin_sweep, group)

    def _begin_sweep(self, group: str) -> None:
        self._sweeps.pop(group, None)
        task = asyncio.get_running_loop().create_task(self._sweep(group))
        self._sweeping.add(task)
        task.add_done_callback(self._sweeping.discard)

    async def _sweep(self, group: str) -> None:
        try:
            async with self._members.operation() as until:
                seen = await self._read(group, until)
                if seen.indexes and (await self.ask_index(group, until)) is None:
                    prefix = f"{BELLS}{group}"
                    # whoever has made a key since has rung, and then nothing is deleted
                    steps = [
                        {"Verb": DELETE, "Key": self._keys.name(f"{prefix}{number}"), "Index": index}
                        for number, index in seen.indexes.items()
                    ]
                    await self._transact(steps[:STEPS], until)
        except (NotAsked, AnswerLost, Unavailable):
            self.sweep_later(group)

    async def ask_index(self, group: str, until: float) -> int | None:
        """The index of Consul's history at which a key of a group was last written or deleted; None if there is none.

        The answer has neither keys nor values: all keys are one folder to Consul.

        Raises:
            NotAsked, AnswerLost: see there.
            Unavailable: Consul refuses.
        """
        answer = await self._members.ask(self._keys.read_request(group[:-1], "keys&separator=/&consistent"), until)
        if found(answer).status == NOT_FOUND or self._keys.name(group) not in decode(answer.body, list[str]):
            return None
        return index_of(answer)

    async def ask_own_index(self, group: str, until: float) -> int:
        """The index at which a bell of a group was rung last, or was deleted.

        Raises:
            NotAsked, AnswerLost: see there.
            Unavailable: Consul refuses.
        """
        return index_of(found(await self._members.ask(self.request(group, "keys&consistent"), until)))

    async def close(self) -> None:
        """Stop what waits."""
        for each in self._sweeps.values():
            each.cancel()
        self._sweeps.clear()
        for task in self._sweeping:
            task.cancel()
        await asyncio.gather(*self._sweeping, return_exceptions=True)


def _refusals(
    answer: Answer, waiting: Sequence[int], some: Sequence[Write], errors: Sequence[StepError]
) -> Iterable[tuple[int, Done]]:
    """The refusals of the writes that could not be done, each with its own reasons."""
    first = 0
    for number, write in zip(waiting, some, strict=True):
        steps = range(first, first + len(write.operations))
        first = steps.stop
        if whats := [each.what for each in errors if each.op_index in steps]:
            yield number, Done(refusal=replace(answer, body="; ".join(whats).encode()))
