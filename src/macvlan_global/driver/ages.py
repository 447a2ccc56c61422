"""How old something is, although the clock may be set at any time."""

from collections.abc import Callable


class Ages:
    """Tells the young from the old: by a steady clock what this run saw being made, by the clock what it did not."""

    def __init__(self, seconds: float, now: Callable[[], float], steady: Callable[[], float]) -> None:
        """Young is what is younger than `seconds`. `now` may be set, `steady` never is."""
        self._seconds = seconds
        self._now = now
        self._steady = steady
        self._made: dict[str, float] = {}

    def begin(self, key: str) -> None:
        """It is being made."""
        made = self._steady()
        self._made = {each: at for each, at in self._made.items() if made - at < self._seconds} | {key: made}

    def is_young(self, key: str, at: float) -> bool:
        """Whether it is young. `at` is when it was written, by a clock that may have been ahead then, or is now."""
        made = self._made.get(key)
        age = self._now() - at if made is None else self._steady() - made
        return abs(age) < self._seconds
