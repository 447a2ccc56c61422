"""Membership of the cluster as this process has seen it: the living hosts, and since when others are gone. Pure.

It is told what happened, and when by a monotonic clock. Not knowing is not death: while nothing is seen, every host
counts as living, and a time in which nothing was seen is no time in which a host was gone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from macvlan_global.store.records import AliveRecord


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """Names of the hosts that joined and left."""

    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.joined or self.left)


class Membership:
    """The hosts that live. Times are in seconds of a monotonic clock.

    How long a host has been gone counts from when this process saw it gone, without a gap: after a time in which
    nothing was seen (`on_lost`) it counts anew, since the host may have been back meanwhile.
    """

    def __init__(self, own: str) -> None:
        """`own` is the id of this host, which lives whatever the store says."""
        self._own = own
        self._alive: dict[str, AliveRecord] = {}
        self._names: dict[str, str] = {}
        self._gone_since: dict[str, float] = {}
        self._since: float | None = None

    @property
    def live(self) -> Mapping[str, AliveRecord]:
        """The hosts that live, by id, as last seen."""
        return self._alive

    @property
    def names(self) -> Mapping[str, str]:
        """Names of the hosts that are known, living or not, by id."""
        return self._names

    def add_names(self, names: Mapping[str, str]) -> None:
        """Replace the names that are known by these; the name that a living host gives itself counts more."""
        self._names = {**names, **{host: record.name for host, record in self._alive.items()}}

    def replace_all(self, alive: Iterable[AliveRecord], now: float) -> MembershipChange:
        """Take these for the living hosts, and no others."""
        before = self._alive
        self._alive = {record.id: record for record in alive}
        self._names |= {record.id: record.name for record in self._alive.values()}
        self._since = now
        self._gone_since.clear()
        return MembershipChange(
            tuple(record.name for host, record in self._alive.items() if host not in before),
            tuple(record.name for host, record in before.items() if host not in self._alive),
        )

    def update(self, came: Iterable[AliveRecord], gone: Iterable[str], now: float) -> MembershipChange:
        """Note that these came or changed, and that the hosts with these ids went."""
        left = []
        for host in gone:
            if record := self._alive.pop(host, None):
                left.append(record.name)
            self._gone_since[host] = now
        joined = []
        for record in came:
            if record.id not in self._alive:
                joined.append(record.name)
            self._alive[record.id] = record
            self._names[record.id] = record.name
            self._gone_since.pop(record.id, None)
        return MembershipChange(tuple(joined), tuple(left))

    def on_lost(self) -> None:
        """Note that nothing is seen from now on."""
        self._since = None

    def is_live(self, host: str) -> bool:
        """False only if it is known to be gone now."""
        return host == self._own or host in self._alive or self._since is None

    def gone_for(self, host: str, now: float) -> float | None:
        """Seconds for which this process has seen the host gone; None if it lives or nobody knows."""
        if self._since is None or self.is_live(host):
            return None
        return now - self._gone_since.get(host, self._since)
