"""Membership of the cluster as this process has seen it: the living hosts, and since when others are gone. Pure.

It is told what happened, and when by a monotonic clock. Not knowing is not death: while nothing is seen, every host
counts as living, and a time in which nothing was seen is no time in which a host was gone.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from macvlan_global.store.records import AliveRecord

MOST_HEARD = 8
"""Hosts at a time of which only names of containers are known: anybody may write those, and each costs a search."""


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
        self._heard: set[str] = set()  # hosts without a row, of which others told
        self._waiting: OrderedDict[str, float] = OrderedDict()  # more of them, and when each was heard of
        self._gone_since: dict[str, float] = {}
        self._since: float | None = None
        self._arrivals: Counter[str] = Counter()

    @property
    def live(self) -> Mapping[str, AliveRecord]:
        """The hosts that live, by id, as last seen."""
        return self._alive

    @property
    def names(self) -> Mapping[str, str]:
        """Names of the hosts that are known, living or not, by id."""
        return self._names

    def add_names(self, names: Mapping[str, str]) -> None:
        """Learn the names of hosts; the name that a living host gives itself counts more. Those that are known stay: a
        store that was restored from an older copy may know nothing of a host, whose names arrived since."""
        self._heard -= names.keys()
        self._names |= names
        self._names |= {host: record.name for host, record in self._alive.items()}
        self._take_up()

    def hear_of(self, hosts: Iterable[str], now: float) -> None:
        """Note that containers of these hosts (ids) have names. One that nobody knows is gone from now on: its driver
        may have died when the store was restored from an older copy, before it wrote anything but names.

        There are `MOST_HEARD` of them at most until `forget`; the others wait, since nobody tells of them again.
        """
        for host in sorted({*hosts} - self._names.keys() - self._waiting.keys() - {self._own}):
            self._waiting[host] = now
        self._take_up()

    def forget(self, host: str) -> None:
        """Nothing is left of a host. If it was only heard of, it is not known any more, and the next one is."""
        if host in self._heard:
            self._heard.discard(host)
            self._names.pop(host, None)
            self._take_up()

    def _take_up(self) -> None:
        while self._waiting and len(self._heard) < MOST_HEARD:
            host, heard = self._waiting.popitem(last=False)
            if host not in self._names:
                self._heard.add(host)
                self._names[host] = host[:12]
                self._gone_since[host] = heard if self._since is None else max(heard, self._since)

    def replace_all(self, alive: Iterable[AliveRecord], now: float) -> MembershipChange:
        """Take these for the living hosts, and no others."""
        before = self._alive
        self._alive = {record.id: record for record in alive}
        self._arrivals.update(self._alive.keys() - before.keys())
        self._heard -= self._alive.keys()
        self._names |= {record.id: record.name for record in self._alive.values()}
        self._since = now
        self._gone_since.clear()
        self._take_up()
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
                self._arrivals[record.id] += 1
            self._alive[record.id] = record
            self._names[record.id] = record.name
            self._heard.discard(record.id)
            self._gone_since.pop(record.id, None)
        self._take_up()
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

    def arrivals(self, host: str) -> int:
        """Times that this process saw the host come."""
        return self._arrivals[host]
