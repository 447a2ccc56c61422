"""Claimants of addresses: which MACs claimed an address lately, and in which span of time; and those that are probed
for. No I/O, no clock.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from macvlan_global.conflicts.judge import SETTLE_SECONDS, Span
from macvlan_global.subnets import Address

FORGOTTEN_SECONDS = 300.0
"""A MAC that claimed an address for so long no more begins anew."""
ADDRESSES_MOST = 2048
MACS_MOST = 8
PROBES_MOST = 4
"""Probes for one suspect before it is left alone for `FORGOTTEN_SECONDS`. Two that both answer are a conflict."""
PROBE_SECONDS = SETTLE_SECONDS + 0.5
"""Interval of probes: answers to one and to the next are no late frames of each other."""


class Claimants:
    """Spans of claims by address and MAC; the addresses that were claimed last are kept."""

    def __init__(self) -> None:
        """Nobody claimed anything."""
        self._spans: OrderedDict[Address, dict[str, Span]] = OrderedDict()

    def note(self, address: Address, mac: str, first: float, last: float) -> Mapping[str, Span]:
        """Frames from `first` to `last` (seconds since the epoch) claim an address for a MAC; all spans of it."""
        spans = self._spans.setdefault(address, {})
        self._spans.move_to_end(address)
        for each in [each for each, span in spans.items() if abs(last - span.last) > FORGOTTEN_SECONDS]:
            del spans[each]
        takes_turn = bool(spans) and next(reversed(spans)) != mac
        known = spans.pop(mac, None) or Span(first, last)
        if len(spans) >= MACS_MOST:
            del spans[next(iter(spans))]
        spans[mac] = Span(known.first, last, known.turns + takes_turn)
        if len(self._spans) > ADDRESSES_MOST:
            self._spans.popitem(last=False)
        return spans

    def of(self, address: Address) -> Mapping[str, Span]:
        """The spans of an address, by MAC."""
        return self._spans.get(address, {})

    def is_claimed(self, address: Address, since: float) -> bool:
        """Whether anybody claimed an address since then."""
        return any(span.last >= since for span in self.of(address).values())


@dataclass(slots=True)
class ProbeCount:
    """Probes for a suspect, and the times of the first and the latest one."""

    first: float
    last: float
    count: int = 1


class Suspects:
    """Suspects (`ConflictVerdict`) that were probed for, by address and MAC; the latest are kept."""

    def __init__(self) -> None:
        """Nobody was probed for."""
        self._probed: OrderedDict[tuple[Address, str], ProbeCount] = OrderedDict()

    def is_due(self, address: Address, mac: str, now: float) -> bool:
        """Whether a probe is due for a suspect; it counts as sent then."""
        known = self._probed.pop((address, mac), None)
        if known is None or now - known.first > FORGOTTEN_SECONDS:
            known, due = ProbeCount(now, now), True
        elif due := known.count < PROBES_MOST and now - known.last >= PROBE_SECONDS:
            known.last, known.count = now, known.count + 1
        self._probed[address, mac] = known
        if len(self._probed) > ADDRESSES_MOST:
            self._probed.popitem(last=False)
        return due
