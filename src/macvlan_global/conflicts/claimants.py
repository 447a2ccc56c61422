"""Claimants of addresses: which MACs claimed an address lately, and in which span of time. No I/O, no clock."""

from collections import OrderedDict
from collections.abc import Mapping

from macvlan_global.conflicts.judge import Span
from macvlan_global.subnets import Address

FORGOTTEN_SECONDS = 300.0
"""A MAC that claimed an address for so long no more begins anew."""
ADDRESSES_MOST = 2048
MACS_MOST = 8


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
