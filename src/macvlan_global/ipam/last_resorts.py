"""Remembered addresses of one wire: they are given to others last, the longest unused first. Pure.

An address may be remembered for several reasons: a user chose it, and containers had it by their names. It stays until
the last reason is gone.
"""

from collections.abc import Iterator

from macvlan_global.ipam.intervals import IntervalSet


class LastResorts:
    """Addresses as numbers, in the order in which they are given to others."""

    def __init__(self) -> None:
        """Nothing is remembered."""
        self._numbers = IntervalSet()
        self._reasons: dict[int, set[str]] = {}

    def __contains__(self, number: int) -> bool:
        """Whether the address is remembered."""
        return number in self._reasons

    def __iter__(self) -> Iterator[int]:
        """The addresses, the longest unused first."""
        return iter(self._reasons)

    def next_other(self, start: int, stop: int) -> int | None:
        """The smallest number in `[start, stop)` that is not remembered, or None."""
        return self._numbers.next_free(start, stop)

    def reasons(self, number: int) -> frozenset[str]:
        """The reasons for which an address is remembered."""
        return frozenset(self._reasons.get(number, ()))

    def add(self, number: int, reason: str) -> None:
        """Remember an address that was used just now: it is the last in the order."""
        self._reasons[number] = self._reasons.pop(number, set()) | {reason}
        self._numbers.add(number)

    def drop(self, number: int, reason: str) -> None:
        """End a reason to remember an address."""
        left = self._reasons.get(number, set()) - {reason}
        if left:
            self._reasons[number] = left
        else:
            self._reasons.pop(number, None)
            self._numbers.discard(number)

    def clear(self) -> None:
        """Forget all."""
        self._reasons.clear()
        self._numbers.fill(())
