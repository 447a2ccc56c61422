"""Addresses that are avoided although no record of an address says so, as this process knows them.

Three kinds: addresses that hosts have themselves (with the gateways of their default routes), which no container gets;
those that devices outside were seen to use lately, which are not chosen; and remembered ones, which go to others last:
static ones, which a user once chose for a container, and those that containers had by their names
(`remembered_names`). Hosts' addresses are avoided in every address space: Linux answers for them on all interfaces
(arp_ignore in ip-sysctl.rst). No I/O.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from macvlan_global.ipam.intervals import IntervalSet, LastResorts
from macvlan_global.store.records import HostAddress, StaticAddressRecord
from macvlan_global.subnets import Address

SEEN_MOST = 1024
"""The most addresses in use outside that are kept for one address space: devices may claim any number."""
SEEN_LONGEST = 3600.0
"""Longer than any address is avoided for a device that was seen, in seconds."""
HOST_MOST = 256
"""The most addresses of one host that are kept: a record must stay small, whatever wrote it."""
STATIC = "static"
"""The reason to remember an address that a user chose."""


@dataclass(frozen=True, slots=True)
class OnHost:
    """An address that a host has itself on the interface `link`, or, as its `gateway`, reaches through it."""

    host: str
    link: str
    gateway: bool = False


_Holders = OnHost | dict[OnHost, None]
"""The hosts of an address: one, as of most, or a set in the order in which they came. All may have one gateway."""


class Avoided:
    """Addresses of hosts by host, and remembered ones by address space and IP version."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._hosts: dict[str, tuple[HostAddress, ...]] = {}
        self._on_hosts: dict[tuple[int, int], _Holders] = {}  # by version and number
        self._numbers: dict[int, IntervalSet] = {4: IntervalSet(), 6: IntervalSet()}
        self._static: dict[tuple[str, int], dict[int, StaticAddressRecord]] = {}
        self._remembered: dict[tuple[str, int], LastResorts] = {}
        self._seen: dict[tuple[str, int], dict[int, float]] = {}
        self._seen_numbers: dict[tuple[str, int], IntervalSet] = {}
        self._unanswered: dict[tuple[str, int], dict[int, float]] = {}  # when nobody replied for an address

    # ------------------------------------------------------------------ hosts

    def set_host(self, host: str, addresses: Iterable[HostAddress]) -> None:
        """Replace the addresses of a host by these; none of them, and the host is not known any more."""
        kept = tuple(addresses)[:HOST_MOST]
        before = self._hosts.pop(host, ())
        if kept:
            self._hosts[host] = kept
        if kept != before:  # what others have stays as it is: there may be ten thousand of them
            for each in before:
                self._take_off(each, host)
            for each in kept:
                self._put_on(each, host)

    def replace_hosts(self, hosts: Mapping[str, Iterable[HostAddress]]) -> None:
        """Replace the addresses of all hosts by these."""
        for host in [*(self._hosts.keys() - hosts.keys())]:
            self.set_host(host, ())
        for host, addresses in hosts.items():
            self.set_host(host, addresses)

    def of_host(self, host: str) -> tuple[HostAddress, ...]:
        """The addresses of a host, as far as they are known."""
        return self._hosts.get(host, ())

    def on_hosts(self, address: Address) -> list[OnHost]:
        """The hosts that have an address, or use it as their gateway; those that have it first."""
        there = self._on_hosts.get((address.version, int(address)), ())
        return [there] if isinstance(there, OnHost) else sorted(there, key=lambda each: each.gateway)

    def numbers(self, version: int) -> IntervalSet:
        """The addresses of hosts of this IP version, as numbers. It is always the same set, and kept up to date."""
        return self._numbers[version]

    # ---------------------------------------------------------------- outside

    def see(self, space: str, address: Address, at: float, until: float) -> None:
        """A device outside used an address `at` a time: it is not chosen `until` another one, both in seconds since the
        epoch. Frames are judged a while after they passed: one from before nobody replied for the address says nothing.
        """
        key = space, address.version
        if at <= self._unanswered.get(key, {}).get(int(address), float("-inf")):
            return
        times = self._seen.setdefault(key, {})
        times.pop(int(address), None)
        if len(times) >= SEEN_MOST:
            oldest = next(iter(times))
            del times[oldest]
            self.seen(*key).discard(oldest)
        times[int(address)] = until
        self.seen(*key).add(int(address))

    def seen(self, space: str, version: int) -> IntervalSet:
        """The addresses of a space that devices outside use, as numbers. It is always the same set."""
        return self._seen_numbers.setdefault((space, version), IntervalSet())

    def forget_seen(self, space: str, address: Address, at: float) -> None:
        """Nobody replied for an address `at` this time, in seconds since the epoch."""
        key = space, address.version
        unanswered = self._unanswered.setdefault(key, {})
        unanswered.pop(int(address), None)
        if len(unanswered) >= SEEN_MOST:
            del unanswered[next(iter(unanswered))]
        unanswered[int(address)] = at
        if self._seen.get(key, {}).pop(int(address), None) is not None:
            self.seen(*key).discard(int(address))

    def clear_seen(self) -> None:
        """Forget every address that devices were seen to use."""
        self._seen.clear()
        self._unanswered.clear()
        for numbers in self._seen_numbers.values():
            numbers.fill(())

    def expire(self, now: float) -> None:
        """Forget the addresses that were not seen in use for long enough, and those that were seen before the clock was
        set back: they would be avoided for as long as it was ahead."""
        for key, times in self._seen.items():
            for number in [number for number, until in times.items() if not now < until <= now + SEEN_LONGEST]:
                del times[number]
                self.seen(*key).discard(number)
        for times in self._unanswered.values():
            for number in [number for number, at in times.items() if not now - SEEN_LONGEST < at <= now]:
                del times[number]

    def _put_on(self, found: HostAddress, host: str) -> None:
        address, holder = ip_address(found.address), OnHost(host, found.link, found.gateway)
        key = address.version, int(address)
        there = self._on_hosts.get(key)
        if there is None:
            self._on_hosts[key] = holder
            self._numbers[address.version].add(int(address))
        elif isinstance(there, dict):
            there[holder] = None
        elif there != holder:
            self._on_hosts[key] = {there: None, holder: None}

    def _take_off(self, found: HostAddress, host: str) -> None:
        address, holder = ip_address(found.address), OnHost(host, found.link, found.gateway)
        key = address.version, int(address)
        there = self._on_hosts.get(key)
        if isinstance(there, dict):
            there.pop(holder, None)
        if not there or there == holder:
            self._on_hosts.pop(key, None)
            self._numbers[address.version].discard(int(address))

    # ------------------------------------------------------------- remembered

    def remembered(self, space: str, version: int) -> LastResorts:
        """The remembered addresses of a space. Always the same object, kept up to date."""
        return self._remembered.setdefault((space, version), LastResorts())

    def clear_static(self) -> None:
        """Forget all static addresses: what the store has of them is told anew."""
        for record in self.all_static():
            self.drop_static(record.space, record.address)

    def add_static(self, record: StaticAddressRecord, revision: int | None = None) -> None:
        """A user chose this address. `revision` is that of the row; without one it was written just now."""
        found = ip_address(record.address)
        self.static(record.space, found.version)[int(found)] = record
        self.remembered(record.space, found.version).add(int(found), STATIC, revision)

    def drop_static(self, space: str, address: str) -> None:
        """The address is remembered no longer. `address` is bare."""
        found = ip_address(address)
        self._static.get((space, found.version), {}).pop(int(found), None)
        self.remembered(space, found.version).drop(int(found), STATIC)

    def static(self, space: str, version: int) -> dict[int, StaticAddressRecord]:
        """The static addresses of a space, by number."""
        return self._static.setdefault((space, version), {})

    def count_static(self) -> int:
        """Count of the static addresses."""
        return sum(map(len, self._static.values()))

    def all_static(self) -> list[StaticAddressRecord]:
        """Every static address that is remembered."""
        return [record for those in self._static.values() for record in those.values()]
