"""What this process wrote a moment ago. Pure.

The engine's calls follow each other: RequestAddress, then CreateEndpoint; DeleteEndpoint, then ReleaseAddress. The
second one changes what the first one wrote, under the condition that it still is that. To read it again in between says
nothing more: if somebody else changed it, the write is refused, and then it is read.
"""

from collections import OrderedDict

from macvlan_global.store.records import AddressRecord
from macvlan_global.store.table import Row

SECONDS = 10.0
"""How long a row is used without a look. Not for ever: a store that was restored from an older copy may count its
revisions anew, and then the revision of long ago could be that of somebody else's record."""

MOST = 1024
"""So many rows are kept."""


class RecentWrites:
    """Rows of addresses, each for a few seconds, and each to be used once."""

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._rows: OrderedDict[tuple[str, str], tuple[Row[AddressRecord], float]] = OrderedDict()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._rows)

    def wrote(self, row: Row[AddressRecord], now: float) -> None:
        """Remember what was written."""
        key = row.record.space, row.record.address
        self._rows[key] = row, now
        self._rows.move_to_end(key)
        if len(self._rows) > MOST:
            self._rows.popitem(last=False)

    def take(self, space: str, address: str, now: float) -> Row[AddressRecord] | None:
        """The row of an address, if it was written just now; it is forgotten, since whoever takes it will change it."""
        row, at = self._rows.pop((space, address), (None, 0.0))
        return row if abs(now - at) <= SECONDS else None
