"""The allocator: proposes the next free address of a subnet. Pure: no clock, no store.

Addresses are whole numbers here. Allocation is next-fit: it walks on from the last address handed out and comes round,
so that a freed address rests before it is reused. An `Occupancy` is the belief of one process about one address space,
since networks of a space may overlap. It is a hint: the truth is the store's create-if-absent, and a candidate that
turns out to be taken is marked, and the next one proposed.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator

from macvlan_global.ipam.intervals import IntervalSet, LastResorts
from macvlan_global.subnets import Address, Subnet, from_number, usable

COOLING_SECONDS = 60.0
"""Quarantine of a freed address: it is passed over for so long while others are free.

Neighbours on the wire remember the old holder's MAC for about that long (RFC 1122 2.3.2.1 suggests a minute).
"""

GATEWAYS_MOST = 16
"""Candidates for a gateway that was not named."""


class Occupancy:
    """Taken addresses of one address space and IP version, as numbers, with a cursor in each window that walks on and a
    queue of addresses cooling off."""

    def __init__(
        self,
        taken: Iterable[int],
        cursor: int | None = None,
        *,
        spread: Iterator[float] | None = None,
        hosts: IntervalSet | None = None,
        remembered: LastResorts | None = None,
        seen: IntervalSet | None = None,
    ) -> None:
        """Start from what the store holds; `cursor` is the number handed out last, if known.

        `spread` gives offsets to begin at, as fractions of a window from 0 to 1, which differ from host to host.
        Without it a window is begun at its first number. What `hosts` have themselves is never chosen, nor what was
        `seen` in use outside, and what is `remembered` only if nothing else is left; all may change later.
        """
        self.taken = IntervalSet(taken)
        self._cooling: OrderedDict[int, float] = OrderedDict()
        self._cursor = cursor
        self._cursors: dict[tuple[int, int], int | None] = {}  # by window
        self._spread = spread
        self._hosts = hosts if hosts is not None else IntervalSet()
        self._remembered = remembered if remembered is not None else LastResorts()
        self._seen = seen if seen is not None else IntervalSet()

    def learn(self, first: int, stop: int, taken: Iterable[int]) -> None:
        """Replace the taken numbers of `[first, stop)` by those in the store. Those that cool off here are passed over
        as before."""
        self.taken.refill(first, stop, [*taken, *self._cooling])

    def jump(self, first: int, stop: int) -> None:
        """Go on at another offset of a window: another host allocates here too."""
        self._cursors[first, stop] = None

    def go_on(self, first: int, stop: int, last: int) -> None:
        """Go on behind `last` in a window: an earlier run of the driver handed it out."""
        self._cursors[first, stop] = last

    def forget(self, first: int, stop: int) -> None:
        """Take every number of `[first, stop)` for free: no pool has it any more."""
        self.taken.cut(first, stop)
        for number in [each for each in self._cooling if first <= each < stop]:
            del self._cooling[number]
        self._cursors = {each: last for each, last in self._cursors.items() if not first <= each[0] < stop}

    def take(self, number: int) -> None:
        """Mark `number` as held."""
        self._cooling.pop(number, None)
        self.taken.add(number)

    def free(self, number: int, now: float) -> None:
        """Give `number` back; it cools off before it is chosen again, unless nothing else is left."""
        if number in self.taken:
            self._cooling[number] = now
            self._cooling.move_to_end(number)

    def choose(
        self, first: int, stop: int, now: float, *, remembered: bool = True, skipped: Collection[int] = ()
    ) -> int | None:
        """Choose and mark the next number in `[first, stop)` that is none of `skipped`; None if every one is held.

        Walks on from the last choice and comes round, so that a freed address rests as long as the pool allows. Without
        `remembered`, an address that is remembered is not chosen even if nothing else is left.
        """
        self._end_cooling(now)
        number = self._next(first, stop, skipped)
        if number is None:
            last = self._last_resorts(first, stop, remembered=remembered)
            number = next((each for each in last if each not in skipped), None)
        if number is not None:
            self.take(number)
            self._cursors[first, stop] = number
        return number

    def held_in(self, first: int, stop: int) -> int:
        """Count of the numbers of the window that are held, without those that cool off."""
        cooling = sum(1 for number in self._cooling if first <= number < stop)
        return self.taken.held_in(first, stop) - cooling

    def cooling(self) -> list[int]:
        """The numbers that cool off, in order."""
        return sorted(self._cooling)

    def count(self) -> int:
        """Count of all numbers that are held, without those that cool off."""
        return len(self.taken) - len(self._cooling)

    def _next(self, first: int, stop: int, skipped: Collection[int]) -> int | None:
        cursor = self._cursors.get((first, stop), self._cursor)
        if cursor is not None and first <= cursor < stop:
            begin = cursor + 1
        else:
            begin = first + (int(next(self._spread) * (stop - first)) if self._spread else 0)
        found = self._next_free(begin, stop, skipped)
        return self._next_free(first, begin, skipped) if found is None else found

    def _next_free(self, start: int, stop: int, skipped: Collection[int]) -> int | None:
        """The smallest number in `[start, stop)` that nobody holds, nobody else has, and that is neither remembered nor
        `skipped`."""
        number: int | None = start
        while number is not None:
            begun = number
            others = (self._hosts.next_free, self._seen.next_free, self._remembered.next_other)
            for skip in (self.taken.next_free, *others):
                number = skip(number, stop) if number is not None else None
            if number == begun and number not in skipped:
                return number
            if number == begun:
                number += 1
        return None

    def _last_resorts(self, first: int, stop: int, *, remembered: bool) -> Iterator[int]:
        """The choices in a full window, the best first: the coolest, then remembered ones, the longest unused first, of
        which those that cool off come last."""
        cooling = [number for number in self._cooling if first <= number < stop and not self._is_elsewhere(number)]
        yield from (number for number in cooling if number not in self._remembered)
        if remembered:
            kept = (number for number in self._remembered if first <= number < stop and not self._is_elsewhere(number))
            yield from (number for number in kept if number not in self.taken)
            yield from (number for number in cooling if number in self._remembered)

    def _is_elsewhere(self, number: int) -> bool:
        return number in self._hosts or number in self._seen

    def _end_cooling(self, now: float) -> None:
        while self._cooling:
            number, since = next(iter(self._cooling.items()))
            if abs(now - since) < COOLING_SECONDS:  # the clock may have been set back: then it has cooled off, too
                return
            del self._cooling[number]
            self.taken.discard(number)


def start_offsets(host: str, subnet: str) -> Iterator[float]:
    """Endless offsets as fractions from 0 to 1: the same each time for one host and subnet, different between hosts."""
    number = 0
    while True:
        digest = hashlib.sha256(f"{host} {subnet} {number}".encode()).digest()
        yield int.from_bytes(digest[:6]) / 2**48
        number += 1


def gateway_candidates(
    subnet: Subnet, window: tuple[int, int] | None, preferred: Collection[Address]
) -> Iterator[Address]:
    """Addresses for a gateway that was not named, the best first: those `preferred` that are in the subnet, then others
    outside of the `window` of its range, if it has one. Of a large subnet not all."""
    first, stop = usable(subnet)
    yield from (each for each in preferred if each in subnet and first <= int(each) < stop)
    outside = range(first, stop)
    if window:
        low, high = window
        outside = range(first, low) if first < low else range(high, stop)
    yield from (from_number(number, subnet) for number in outside[:GATEWAYS_MOST])
