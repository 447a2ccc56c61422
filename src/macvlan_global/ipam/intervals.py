"""Sets of whole numbers kept as sorted runs, and the remembered ones of a wire, in the order of their last use. Pure.

Why not a bitmap or a set: the pool may be a /8 or a /64, and the question asked of it is "the next number that is
*not* in it". With runs, a full stretch of a pool is one step, whatever its length, so a pool that is 99 % full costs
what an empty one costs.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


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

    def refill(self, start: int, stop: int, numbers: Iterable[int]) -> None:
        """Hold these numbers of `[start, stop)`, and no others of it."""
        self.cut(start, stop)
        inside = IntervalSet(each for each in numbers if start <= each < stop)
        at = bisect_left(self._starts, start)
        self._starts[at:at] = inside._starts
        self._ends[at:at] = inside._ends
        self._size += len(inside)
        for edge in (at + len(inside._starts), at):  # the runs on either side may go on here
            if 0 < edge < len(self._starts) and self._ends[edge - 1] == self._starts[edge]:
                del self._ends[edge - 1], self._starts[edge]

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


class LastResorts:
    """Remembered addresses of one wire, as numbers: they are given to others last, the longest unused first.

    An address may be remembered for several reasons: a user chose it, and containers had it by their names. It stays
    until the last reason is gone.
    """

    def __init__(self) -> None:
        """Nothing is remembered."""
        self._numbers = IntervalSet()
        self._reasons: dict[int, set[str]] = {}
        self._used: dict[int, tuple[int, int]] = {}  # by number, sorts by the last use
        self._latest = 0, 0

    def __contains__(self, number: int) -> bool:
        """Whether the address is remembered."""
        return number in self._reasons

    def __iter__(self) -> Iterator[int]:
        """The addresses, the longest unused first."""
        return iter(sorted(self._reasons, key=self._used.__getitem__))

    def next_other(self, start: int, stop: int) -> int | None:
        """The smallest number in `[start, stop)` that is not remembered, or None."""
        return self._numbers.next_free(start, stop)

    def held_in(self, start: int, stop: int) -> int:
        """Count of the remembered addresses in `[start, stop)`."""
        return self._numbers.held_in(start, stop)

    def reasons(self, number: int) -> frozenset[str]:
        """The reasons for which an address is remembered."""
        return frozenset(self._reasons.get(number, ()))

    def add(self, number: int, reason: str, revision: int | None = None) -> None:
        """Remember an address for a reason. Its place in the order is that of the store's revision at which it was
        used, if that is later than what is known; without one it was used just now, and is the last."""
        used = (self._latest[0], self._latest[1] + 1) if revision is None else (revision, 0)
        self._latest = max(self._latest, used)
        self._used[number] = max(used, self._used.get(number, used))
        self._reasons[number] = self._reasons.get(number, set()) | {reason}
        self._numbers.add(number)

    def drop(self, number: int, reason: str) -> None:
        """End a reason to remember an address."""
        left = self._reasons.get(number, set()) - {reason}
        if left:
            self._reasons[number] = left
        else:
            self._reasons.pop(number, None)
            self._used.pop(number, None)
            self._numbers.discard(number)

    def clear(self) -> None:
        """Forget all."""
        self._reasons.clear()
        self._used.clear()
        self._numbers.fill(())
