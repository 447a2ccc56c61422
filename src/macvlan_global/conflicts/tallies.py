"""Tallies of frames by the claim that they make: a claim is decoded once and judged now and then, however often it is
repeated. No I/O, no clock.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from macvlan_global.conflicts.claims import AddressClaim, claim_in, claim_key
from macvlan_global.conflicts.judge import Sighting
from macvlan_global.kernel.ports import NeighbourFrame

KEYS_MOST = 4096
IDLE_SECONDS = 60.0
"""A claim that was not repeated for so long makes room for others."""
FORGOTTEN_SECONDS = 600.0
"""A claim that was not repeated for so long begins anew: many devices are heard every few minutes only."""
_SENT, _TO_ONE = b"sent ", b"to one "


@dataclass(slots=True)
class Tally:
    """Frames of one claim (None: they make none): `begun` at the very first, `first` and `last` since it was judged. It
    rests until then if the claim was nothing new."""

    claim: AddressClaim | None
    outgoing: bool
    begun: float
    first: float
    last: float
    hits: int = 0
    rests_until: float = 0.0

    @property
    def steady(self) -> float:
        """Seconds for which the claim is repeated by now."""
        return self.last - self.begun


class Tallies:
    """Claims on one segment and their frames. `overflow` counts frames that found no room."""

    def __init__(self, most: int = KEYS_MOST) -> None:
        """Keep up to `most` claims."""
        self._most = most
        self._by_key: dict[bytes, Tally] = {}
        self._is_full = False
        self.overflow = 0

    def __len__(self) -> int:
        """Count of the claims kept."""
        return len(self._by_key)

    def add(self, frames: Iterable[NeighbourFrame], now: float) -> None:
        """Count frames that came at `now` (seconds since the epoch)."""
        known = self._by_key
        for frame, outgoing in frames:
            key = claim_key(frame)
            if outgoing:
                key = _SENT + key
            elif not frame[0] & 1:  # the group bit of the destination (IEEE 802)
                key = _TO_ONE + key
            tally = known.get(key)
            if tally is None:
                if len(known) >= self._most and not self._made_room(now):
                    self.overflow += 1
                    continue
                known[key] = tally = Tally(claim_in(frame), outgoing, now, now, now)
            elif not tally.hits:
                tally.first = now
            tally.hits += 1
            tally.last = now

    def take(
        self, now: float, concerns: Callable[[AddressClaim], bool] = lambda _claim: True
    ) -> Iterator[tuple[Sighting, Tally]]:
        """The claims that were made since the last call, each with its tally; without those that rest, unless one
        `concerns` what is known by now."""
        self._drop_idle(now, FORGOTTEN_SECONDS)
        self._is_full = False
        for key, each in list(self._by_key.items()):
            count, each.hits = each.hits, 0
            if count and each.claim and (each.rests_until <= now or concerns(each.claim)):
                to_one = key.startswith(_TO_ONE)
                reflected = not each.outgoing and _SENT + key in self._by_key
                seen = Sighting(each.claim, each.first, each.last, count, each.outgoing, reflected, to_one)
                yield seen, each

    def _made_room(self, now: float) -> bool:
        """Whether there is room once idle claims are gone; they are looked for once between two calls of `take`."""
        if not self._is_full:
            self._drop_idle(now, IDLE_SECONDS)
            self._is_full = len(self._by_key) >= self._most
        return not self._is_full

    def _drop_idle(self, now: float, seconds: float) -> None:
        idle = [key for key, each in self._by_key.items() if not each.hits and abs(now - each.last) > seconds]
        for key in idle:
            del self._by_key[key]
