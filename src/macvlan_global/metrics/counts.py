"""Counts and times as plain integers, for hot paths. Each object is written by one thread; a scrape only reads."""

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Literal

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0)
"""Upper bounds of the time buckets, in seconds."""

WATCHED_MOST = 1024
"""Writes of one prefix that are followed until its watch delivers them."""
LAG_SECONDS = 60.0
"""A lag is shown for so long after it was measured: without writes there is nothing to measure."""

Outcome = Literal["answered", "refused", "failed"]


class TimeBuckets:
    """Histogram of durations in seconds: how many fell between each two of `BOUNDS`, and their sum."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        """None yet."""
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def __len__(self) -> int:
        """Number of durations."""
        return sum(self.counts)


class RequestCounts:
    """Requests of one method of the plugin protocol."""

    __slots__ = ("outcomes", "times")

    def __init__(self) -> None:
        """None yet."""
        self.times = TimeBuckets()
        self.outcomes: dict[Outcome, int] = {"answered": 0, "refused": 0, "failed": 0}


class Metrics:
    """Counts of requests and corrections. One per process."""

    def __init__(self) -> None:
        """Start at zero."""
        self.requests: dict[str, RequestCounts] = {}
        """By method, for methods that were called."""
        self.corrections = 0
        """Corrections that repair made."""

    def observe(self, method: str, seconds: float, outcome: Outcome) -> None:
        """Count a request that was answered, refused with an error, or failed by a bug."""
        counts = self.requests.get(method)
        if counts is None:
            counts = self.requests[method] = RequestCounts()
        counts.times.add(seconds)
        counts.outcomes[outcome] += 1

    def corrected(self, count: int) -> None:
        """Count corrections of a reconciliation."""
        self.corrections += count


class OperationCounts:
    """Operations of one kind on a store. `done` includes those that found nothing; `lost` are writes that lost a race,
    `unavailable` those that the store did not answer."""

    __slots__ = ("done", "lost", "times", "unavailable")

    def __init__(self) -> None:
        """None yet."""
        self.done = self.lost = self.unavailable = 0
        self.times = TimeBuckets()


class WatchCounts:
    """State of the watches of one table, of which there may be one for each group of its keys: whether they are open,
    how often one was lost, and how far they are behind.

    The lag is that of this host's own writes, from the moment they are sent until a watch delivers them. Times are
    seconds of a clock that nobody sets.
    """

    __slots__ = ("_absent", "_open", "lag", "lag_at", "lost", "waiting")

    def __init__(self, now: float) -> None:
        """None is open yet."""
        self.lost = 0
        self.lag = 0.0
        self.lag_at = now
        self.waiting: OrderedDict[str, float] = OrderedDict()  # by key, when it was sent
        self._open: Counter[str] = Counter()  # by prefix: the page has watches of its own
        self._absent: dict[str, float] = {}  # by prefix, since when changes are missed

    @property
    def closed_at(self) -> float | None:
        """Since when a watch has been missing; None if all are open."""
        return min(self._absent.values(), default=None)

    def begins(self, prefix: str, now: float) -> None:
        """A watch is being opened."""
        if not self._open[prefix]:
            self._absent.setdefault(prefix, now)

    def sent(self, key: str, now: float) -> None:
        """A key is being written. Where nobody watches, none is waited for."""
        if len(self.waiting) < WATCHED_MOST and any(each in self._open for each in _prefixes(key)):
            self.waiting.setdefault(key, now)

    def delivered(self, prefix: str, keys: list[str], now: float, *, whole: bool, first: bool) -> None:
        """A watch delivered these keys; with `whole`, all that there is. The first time it is open from now on."""
        self._open[prefix] += first
        self._absent.pop(prefix, None)
        if not self.waiting:
            return
        seen = [each for each in self.waiting if each.startswith(prefix)] if whole else keys
        sent = [at for key in seen if (at := self.waiting.pop(key, None)) is not None]
        if sent:
            self.lag, self.lag_at = now - min(sent), now

    def ended(self, prefix: str, now: float, *, was_open: bool, lost: bool) -> None:
        """A watch ended: it was lost, or nobody wants it any more."""
        self.lost += lost
        self._open[prefix] -= was_open
        if self._open[prefix]:
            return
        for key in [each for each in self.waiting if each.startswith(prefix)]:
            del self.waiting[key]
        if lost:
            self._absent.setdefault(prefix, now)
        else:
            self._absent.pop(prefix, None)
            del self._open[prefix]

    def behind(self, now: float) -> float:
        """Seconds by which the watch is behind: since it ended, or since the oldest write that it has not delivered, or
        the lag that was measured in the last minute."""
        if (closed_at := self.closed_at) is not None:
            return now - closed_at
        oldest = next(iter(self.waiting.values()), now)
        lately = self.lag if now - self.lag_at < LAG_SECONDS else 0.0
        return max(now - oldest, lately)


def _prefixes(key: str) -> Iterator[str]:
    """The prefixes of a key that end with a slash."""
    at = key.find("/")
    while at >= 0:
        yield key[: at + 1]
        at = key.find("/", at + 1)


class StoreCounts:
    """Operations on one store, and its watches by table, as `names/`."""

    def __init__(self) -> None:
        """None yet; a store that was not asked counts as one that answers."""
        self.operations: dict[str, OperationCounts] = {}
        self.watches: dict[str, WatchCounts] = {}
        self.is_up = True
        """Whether the last operation was answered."""
