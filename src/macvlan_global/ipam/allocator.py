"""Which address comes next. Pure: no clock, no store.

An `Occupancy` is what one process believes about one subnet. It is a hint, not the truth: the truth is the store's
create-if-absent, and a candidate that turns out to be taken is simply marked and the next one asked for.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from macvlan_global.ipam.intervals import IntervalSet

COOLING_SECONDS = 60.0
"""How long a freed address is passed over while others are free.

Neighbours on the wire remember the old holder's MAC for about that long (RFC 1122 2.3.2.1 suggests a minute).
"""


class Occupancy:
    """Taken addresses of one subnet, as numbers, with a cursor that walks on and a queue of addresses cooling off."""

    def __init__(
        self, taken: Iterable[int], cursor: int | None = None, *, spread: Iterator[float] | None = None
    ) -> None:
        """Start from what the store holds; `cursor` is the number handed out last, if known.

        `spread` gives places to begin at, as fractions of a window from 0 to 1, which differ from host to host.
        Without it a window is begun at its first number.
        """
        self.taken = IntervalSet(taken)
        self._cooling: OrderedDict[int, float] = OrderedDict()
        self._cursor = cursor
        self._spread = spread

    def learn(self, taken: Iterable[int]) -> None:
        """Believe what the store holds now. What cools off here is passed over as before."""
        self.taken = IntervalSet([*taken, *self._cooling])

    def jump(self) -> None:
        """Somebody else allocates where we do: go on at another place."""
        self._cursor = None

    def take(self, number: int) -> None:
        """Mark `number` as held."""
        self._cooling.pop(number, None)
        self.taken.add(number)

    def free(self, number: int, now: float) -> None:
        """Give `number` back; it cools off before it is chosen again, unless nothing else is left."""
        if number in self.taken:
            self._cooling[number] = now
            self._cooling.move_to_end(number)

    def choose(self, first: int, stop: int, now: float) -> int | None:
        """Choose and mark the next number in `[first, stop)`; None if every one is held.

        Walks on from the last choice and comes round, so that a freed address rests as long as the pool allows.
        """
        self._end_cooling(now)
        number = self._next(first, stop)
        if number is None:
            number = next((cold for cold in self._cooling if first <= cold < stop), None)
        if number is not None:
            self.take(number)
            self._cursor = number
        return number

    def held_in(self, first: int, stop: int) -> int:
        """How many numbers of the window are held, not counting those that cool off."""
        cooling = sum(1 for number in self._cooling if first <= number < stop)
        return self.taken.held_in(first, stop) - cooling

    def _next(self, first: int, stop: int) -> int | None:
        if self._cursor is not None and first <= self._cursor < stop:
            begin = self._cursor + 1
        else:
            begin = first + (int(next(self._spread) * (stop - first)) if self._spread else 0)
        found = self.taken.next_free(begin, stop)
        return self.taken.next_free(first, begin) if found is None else found

    def _end_cooling(self, now: float) -> None:
        while self._cooling:
            number, since = next(iter(self._cooling.items()))
            if now - since < COOLING_SECONDS:
                return
            del self._cooling[number]
            self.taken.discard(number)


def places_of(host: str, subnet: str) -> Iterator[float]:
    """Without end: fractions from 0 to 1, the same each time for a host and a subnet, and unlike those of others."""
    number = 0
    while True:
        digest = hashlib.sha256(f"{host} {subnet} {number}".encode()).digest()
        yield int.from_bytes(digest[:6]) / 2**48
        number += 1
