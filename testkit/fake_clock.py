"""A clock that stands still until it is told to go on."""


class FakeClock:
    """Call it for the time, in seconds since the epoch."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        """Stand at `now`."""
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Go on."""
        self.now += seconds
