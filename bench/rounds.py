"""Taking turns: A, B, then B, A, and so on, so that a drift of the machine meets all sides alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Figures = dict[str, float]
"""Figures of one turn of a side, by name."""

Samples = dict[str, dict[str, list[float]]]
"""By side and name, one figure for each round."""

Unit = Literal["ms", "us", "s", "MB", "kB", "/s", "Gbit/s"]

Side = Callable[[], Figures]


def take_turns(sides: Mapping[str, Side], rounds: int, *, warm_up: int = 1, pause: float = 0.0) -> Samples:
    """Let every side have one turn in each round. Figures of the first `warm_up` rounds are thrown away.

    After each turn there is a pause of so many seconds: for what the kernel finishes while nobody waits for it, and
    what would else be in the way of the next side.
    """
    samples: Samples = {name: {} for name in sides}
    order = list(sides)
    for number in range(warm_up + rounds):
        for name in order:
            for figure, value in sides[name]().items():
                if number >= warm_up:
                    samples[name].setdefault(figure, []).append(value)
            time.sleep(pause)
        order.reverse()
    return samples


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and where the middle four fifths of the samples lie."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        """Of at least one sample."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        tenths = statistics.quantiles(samples, n=10, method="inclusive")
        return cls(statistics.median(samples), tenths[0], tenths[-1])


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    `ours` and `yardstick` hold a figure for each round, in `unit`; no yardstick means that `ours` itself is held
    against the goal. `goal` is a ratio then, or a figure in `unit`; None if there is none. `sense` tells what is good.
    """

    what: str
    unit: Unit
    ours: Sequence[float]
    yardstick: Sequence[float] = ()
    beside: str = ""
    goal: float | None = None
    sense: Literal["at most", "at least"] = "at most"

    def ratio(self) -> Spread | None:
        """Of each round's figures, since those were taken next to each other; None if there is none to take."""
        if not self.yardstick:
            return None
        ratios = [ours / other for ours, other in zip(self.ours, self.yardstick, strict=True) if other]
        return Spread.of(ratios) if ratios else None

    def met(self) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if self.goal is None:
            return None
        ratio = self.ratio()
        if self.yardstick and not ratio:
            return None
        reached = ratio.median if ratio else Spread.of(self.ours).median
        return reached <= self.goal if self.sense == "at most" else reached >= self.goal
