"""A set of whole numbers kept as sorted runs. Pure.

Why not a bitmap or a set: the pool may be a /8 or a /64, and the question asked of it is "the next number that is
*not* in it". With runs, a full stretch of a pool is one step, whatever its length, so a pool that is 99 % full costs
what an empty one costs.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class IntervalSet:
    """Numbers, kept as runs `[start, end)`. Adding and removing are idempotent."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        """Hold `numbers`; they may come in any order, repeats included."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._size = 0
        self.fill(numbers)

    def fill(self, numbers: Iterable[int]) -> None:
        """Hold these numbers, and no others."""
        self._starts.clear()
        self._ends.clear()
        self._size = 0
        for number in sorted(set(numbers)):
            if self._ends and self._ends[-1] == number:
                self._ends[-1] = number + 1
            else:
                self._starts.append(number)
                self._ends.append(number + 1)
            self._size += 1

    def __len__(self) -> int:
        """Count of the numbers held."""
        return self._size

    def __contains__(self, number: int) -> bool:
        """Whether `number` is held."""
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._ends[at]

    def add(self, number: int) -> None:
        """Hold `number`, joining the runs on either side."""
        at = bisect_right(self._starts, number)
        if at and number < self._ends[at - 1]:
            return
        self._size += 1
        joins_left = at > 0 and self._ends[at - 1] == number
        joins_right = at < len(self._starts) and self._starts[at] == number + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif joins_left:
            self._ends[at - 1] = number + 1
        elif joins_right:
            self._starts[at] = number
        else:
            self._starts.insert(at, number)
            self._ends.insert(at, number + 1)

    def discard(self, number: int) -> None:
        """Hold `number` no longer, splitting its run where needed."""
        at = bisect_right(self._starts, number) - 1
        if at < 0 or number >= self._ends[at]:
            return
        self._size -= 1
        start, end = self._starts[at], self._ends[at]
        if start == number and end == number + 1:
            del self._starts[at], self._ends[at]
        elif start == number:
            self._starts[at] = number + 1
        elif end == number + 1:
            self._ends[at] = number
        else:
            self._ends[at] = number
            self._starts.insert(at + 1, number + 1)
            self._ends.insert(at + 1, end)

    def cut(self, start: int, stop: int) -> None:
        """Hold no number of `[start, stop)` any longer."""
        first = max(0, bisect_right(self._starts, start) - 1)
        last = bisect_left(self._starts, stop)
        runs = [
            run
            for begin, end in zip(self._starts[first:last], self._ends[first:last], strict=True)
            for run in ((begin, min(end, start)), (max(begin, stop), end))
            if run[0] < run[1]
        ]
        self._size -= self.held_in(start, stop)
        self._starts[first:last] = [begin for begin, _ in runs]
        self._ends[first:last] = [end for _, end in runs]

    def next_free(self, start: int, stop: int) -> int | None:
        """The smallest number in `[start, stop)` that is not held, or None."""
        at = bisect_right(self._starts, start) - 1
        candidate = self._ends[at] if at >= 0 and start < self._ends[at] else start
        return candidate if candidate < stop else None

    def held_in(self, start: int, stop: int) -> int:
        """Count of the numbers of `[start, stop)` that are held."""
        first = max(0, bisect_right(self._starts, start) - 1)
        last = bisect_left(self._starts, stop)
        return sum(max(0, min(self._ends[at], stop) - max(self._starts[at], start)) for at in range(first, last))
