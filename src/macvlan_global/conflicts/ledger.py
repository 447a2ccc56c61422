"""Ledger of conflicts: the latest of them, each once, and how often it was seen. No I/O, no clock."""

from collections import OrderedDict
from dataclasses import dataclass, replace

from macvlan_global.conflicts.claims import How
from macvlan_global.conflicts.judge import Holding

CONFLICTS_MOST = 1000
CURRENT_SECONDS = 600.0
"""A conflict is shown as a problem for so long after its last frame."""


@dataclass(frozen=True, slots=True)
class AddressConflict:
    """A device `mac` claims the address of `holding` on the segment of `parent` (VLAN 0: untagged). `other` names it if
    it is a container or a link of ours. `first` and `last` are seconds since the epoch, `count` is that of its frames.

    With `same_mac` the device has another address, `claimed`, and the MAC of the holder.
    """

    holding: Holding
    holder_mac: str
    mac: str
    how: How
    parent: str
    vlan: int
    first: float
    last: float
    count: int
    other: str = ""
    claimed: str = ""
    same_mac: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        """Identity of the conflict: seen again, it is the same one. A container's name may come later; one that starts
        again has another endpoint."""
        holding = self.holding
        who = "" if holding.kind == "container" else holding.name
        return self.parent, str(holding.address), holding.kind, who, self.mac, self.claimed

    @property
    def where(self) -> str:
        """Its parent, with the VLAN."""
        return f"{self.parent} (VLAN {self.vlan})" if self.vlan else self.parent

    @property
    def text(self) -> str:
        """The conflict for operators, with what to do behind a `;`."""
        if self.same_mac:
            return (
                f"the MAC {self.mac} of {self.holder} is in use on {self.where} by a device with the address "
                f"{self.claimed} too; give one of them another MAC"
            )
        device = f"{self.other} ({self.mac})" if self.other else self.mac
        return (
            f"address {self.holding.address} of {self.holder} is in conflict on {self.where}: {device} {self.how} it; "
            "give that device another address, or exclude this one"
        )

    @property
    def holder(self) -> str:
        """The holder of the address in words."""
        holding = self.holding
        if holding.kind == "gateway":
            return f"the gateway of {holding.name}"
        at = f" on host {holding.host}" if holding.host and not holding.here else ""
        return f"container {holding.name}{at}" if holding.kind == "container" else f"host {holding.name}"


class Ledger:
    """The conflicts seen last; the one that was not seen for longest goes when there is no room."""

    def __init__(self, most: int = CONFLICTS_MOST) -> None:
        """Keep up to `most` conflicts."""
        self._most = most
        self._conflicts: OrderedDict[tuple[str, ...], AddressConflict] = OrderedDict()
        self.frames: dict[str, int] = {"container": 0, "host": 0, "gateway": 0}
        """Frames of conflicts since the driver began, by the kind of the holder."""

    def __len__(self) -> int:
        """Count of the conflicts kept."""
        return len(self._conflicts)

    def add(self, seen: AddressConflict) -> tuple[AddressConflict, bool]:
        """Add a conflict, or add what was seen of it to the one that is known; that, and whether it is new."""
        known = self._conflicts.pop(seen.key, None)
        if known:
            seen = replace(seen, first=known.first, count=known.count + seen.count)
        elif len(self._conflicts) >= self._most:
            self._conflicts.popitem(last=False)
        self._conflicts[seen.key] = seen
        self.frames[seen.holding.kind] += seen.count - (known.count if known else 0)
        return seen, known is None

    def all(self) -> list[AddressConflict]:
        """The conflicts kept, the one seen last at the end."""
        return list(self._conflicts.values())

    def current(self, now: float) -> list[AddressConflict]:
        """The conflicts that were seen lately."""
        return [each for each in self._conflicts.values() if abs(now - each.last) < CURRENT_SECONDS]
