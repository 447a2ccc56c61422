"""Pools and addresses as this process last saw them. All of it is a hint; the truth is in the store.

Three hints, one for each read of the store that it saves:

* parsed pools, by id, so that a request does not read its pool;
* the taken addresses of each address space (`allocator.Occupancy`), from which candidates are chosen, and those that
  are avoided (`avoided.Avoided`);
* rows that were written moments ago (`RecentWrites`), so that the next request of a pair does not read them again.

And two facts that may be nowhere else: pools of the cluster's networks that are being joined on this host just now, and
the addresses that this host reserved or claimed and did not release. A store that was restored from an older copy has
forgotten the latest of them, while their containers run or are being started.
"""

import asyncio
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Self

from macvlan_global.errors import Exhausted, Invalid
from macvlan_global.ipam.allocator import Occupancy, start_offsets
from macvlan_global.ipam.avoided import Avoided
from macvlan_global.ipam.conflicts import several_at_once
from macvlan_global.ipam.intervals import IntervalSet
from macvlan_global.ipam.owners import network_claims
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.store.records import AddressRecord, PoolRecord
from macvlan_global.store.table import Row
from macvlan_global.subnets import Address, Subnet, dynamic_window, from_number, overlap, usable

CREATE_WINDOW_SECONDS = 60.0
"""The longest wait of what is reserved for its CreateNetwork or CreateEndpoint. The engine repeats a broken call for
15 s."""

RECENT_SECONDS = 10.0
"""A written row is used without a read for so long. Not for ever: a store that was restored from an older copy may
count its revisions anew, and then the revision of long ago could be that of somebody else's record."""

RECENT_MOST = 1024
"""The most written rows that are kept."""

Wire = tuple[str, int]
"""An address space and an IP version: here one address has one holder, whatever its subnet."""


@dataclass(frozen=True, slots=True)
class ParsedPool:
    """A pool record and its subnet; `window` is the part handed out unasked, as numbers `[first, stop)`. Docker knows
    it by its `id`."""

    id: str
    record: PoolRecord
    subnet: Subnet
    window: tuple[int, int]

    @property
    def dynamic(self) -> str:
        """The part handed out unasked, in CIDR form."""
        return self.record.range or self.record.subnet

    def exhausted(self, seen: IntervalSet) -> Exhausted:
        """The error of a pool that is full, or of which devices outside use the rest (`seen`, as numbers)."""
        used = seen.held_in(*self.window)
        outside = f", of which {used} are in use by other devices" if used else ""
        return Exhausted(
            f"no free address is left in {self.dynamic}{outside}; stop a container, or make the --ip-range or "
            "--subnet wider"
        )

    def refuse_unusable(self, address: Address, *, gateway: bool) -> None:
        """Raise Invalid if no interface of this subnet may have the address.

        Raises:
            Invalid: it is outside, or the network or broadcast address.
        """
        option = "--gateway" if gateway else "address"
        if address not in self.subnet:
            raise Invalid(f"{option} {address} is not in the subnet {self.subnet}")
        first, stop = usable(self.subnet)
        if not first <= int(address) < stop and not gateway:
            raise Invalid(
                f"address {address} is the network or broadcast address of {self.subnet}; use one from "
                f"{from_number(first, self.subnet)} to {from_number(stop - 1, self.subnet)}"
            )


class RecentWrites:
    """Rows of addresses that were written moments ago, each to be used once.

    The engine's calls come in pairs: RequestAddress, then CreateEndpoint; DeleteEndpoint, then ReleaseAddress. The
    second one changes the row of the first one, on condition that it is still current. Reading it in between would say
    nothing more: if another host changed it, the write is refused, and then it is read.
    """

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._rows: OrderedDict[tuple[str, str], tuple[Row[AddressRecord], float]] = OrderedDict()

    def __len__(self) -> int:
        """Count of the rows kept."""
        return len(self._rows)

    def add(self, row: Row[AddressRecord], now: float) -> None:
        """Keep a row that was written now."""
        key = row.record.space, row.record.address
        self._rows[key] = row, now
        self._rows.move_to_end(key)
        if len(self._rows) > RECENT_MOST:
            self._rows.popitem(last=False)

    def take(self, space: str, address: str, now: float) -> Row[AddressRecord] | None:
        """The row of an address, if it is recent; it is forgotten, since the caller is about to change it."""
        row, at = self._rows.pop((space, address), (None, 0.0))
        return row if abs(now - at) <= RECENT_SECONDS else None


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address that this host reserved or claimed. `reserved_at` is None once it is claimed; `networks` have it as
    their gateway or an aux address."""

    reserved_at: float | None
    is_containers: bool
    networks: frozenset[str]

    @classmethod
    def of(cls, record: AddressRecord, now: float) -> Self:
        """The address of a record that was written now."""
        networks = frozenset(each.network for each in network_claims(record))
        reserved_at = now if record.kind == "reserved" else None
        return cls(reserved_at, record.kind in {"reserved", "endpoint"}, networks)

    def is_forgotten(self, now: float) -> bool:
        """Whether a reservation is too old for a claim to follow."""
        return self.reserved_at is not None and abs(now - self.reserved_at) > CREATE_WINDOW_SECONDS


@dataclass(frozen=True, slots=True)
class OwnClaim:
    """An address of a container of this host, as it was `known` once."""

    space: str
    address: Address
    known: OwnAddress


@dataclass(frozen=True, slots=True)
class PoolFill:
    """Counts of a pool's dynamic window, as far as is known: addresses that there are, that somebody holds, that this
    host reserved and did not claim yet, and that are remembered."""

    size: int
    held: int = 0
    reserved: int = 0
    remembered: int = 0


class PoolCache:
    """The hints of one process. `recent` are its latest writes of addresses, `avoided` what comes last or never."""

    def __init__(self, *, host: str, shared: bool, steady: Callable[[], float] = time.monotonic) -> None:
        """Empty. If the store is `shared`, each host begins at an offset of its own in a subnet. `steady` is a clock
        that is never set."""
        self.steady = steady
        """A clock that is never set."""
        self._begun = steady()
        self.recent = RecentWrites()
        self.avoided = Avoided()
        self.requested = asyncio.Event()
        """Set when this host has reserved a pool, or an address of one that may be another driver's network's."""
        self._pools: dict[str, ParsedPool] = {}
        self._occupied: dict[Wire, Occupancy] = {}
        self._joining: dict[str, tuple[str, float]] = {}  # network and steady time, by pool id
        self._reserved_pools: dict[str, float] = {}  # steady times, by pool id: those that this run has reserved
        self._own: dict[Wire, dict[int, OwnAddress]] = {}  # what this host has itself
        # those of `_own` that are not claimed yet, few at any time, and the pools through which they were asked for
        self._reserved: dict[Wire, dict[int, frozenset[str]]] = {}
        self._host = host
        self._shared = shared

    def load(self, pools: Iterable[PoolRecord], addresses: Iterable[AddressRecord]) -> None:
        """Begin anew with the records of the store; the walk of each pool goes on behind this host's last address."""
        self.recent = RecentWrites()
        self._pools.clear()
        self._occupied.clear()
        self._own.clear()
        self._reserved.clear()
        for pool in pools:
            self.remember(pool)
        for wire, records in _by_wire(addresses).items():
            mine = sorted((each for each in records if each.host == self._host), key=number)
            self._own[wire] = {number(each): OwnAddress.of(each, each.at) for each in mine}
            self._reserved[wire] = {number(each): self._unclaimed_of(each) for each in mine if each.kind == "reserved"}
            self._occupied[wire] = self._new_occupancy(wire, (number(each) for each in records))
            for parsed in self._pools.values():
                first, stop = parsed.window
                there = mine[bisect_left(mine, first, key=number) : bisect_left(mine, stop, key=number)]
                if there and wire_of(parsed.record) == wire:
                    self._occupied[wire].go_on(first, stop, number(max(there, key=lambda each: each.at)))

    def learn(self, record: PoolRecord, addresses: Iterable[AddressRecord], now: float) -> None:
        """Replace the taken addresses of the subnet of a pool by these, which are all that the store has of it. This
        host's own stay taken, also if the store has lost them."""
        subnet = ip_network(record.subnet)
        own = self._own.get(wire_of(record), {})
        kept = [address for address, each in own.items() if not each.is_forgotten(now)]
        first, stop = int(subnet.network_address), int(subnet.broadcast_address) + 1
        self.occupancy(record).learn(first, stop, [*(number(each) for each in addresses), *kept])

    def wrote(self, row: Row[AddressRecord], now: float) -> None:
        """Take a row into account that this process wrote."""
        self.recent.add(row, now)
        taken, wire = number(row.record), wire_of(row.record)
        self.occupancy(row.record).take(taken)
        self._own.setdefault(wire, {})[taken] = OwnAddress.of(row.record, now)
        reserved = self._reserved.setdefault(wire, {})
        through = reserved.pop(taken, frozenset())
        if row.record.kind == "reserved":  # one that names a network was asked for through no other's pool
            reserved[taken] = frozenset() if row.record.network else through

    def not_taken(self, record: PoolRecord, candidate: int, now: float) -> None:
        """Free a candidate that could not be reserved, unless another request of this host has it by now."""
        if candidate not in self._own.get(wire_of(record), {}):
            self.occupancy(record).free(candidate, now)

    def dropped(self, record: AddressRecord, now: float) -> None:
        """Take into account that nobody has this address any more."""
        freed, wire = number(record), wire_of(record)
        self._own.get(wire, {}).pop(freed, None)
        self._reserved.get(wire, {}).pop(freed, None)
        self.occupancy(record).free(freed, now)

    def disown(self, space: str, address: str) -> None:
        """Take into account that this host has let go of an address, whatever the store says of it now."""
        found = ip_address(address)
        self._own.get((space, found.version), {}).pop(int(found), None)
        self._reserved.get((space, found.version), {}).pop(int(found), None)

    def asked(self, pool: ParsedPool, address: Address) -> None:
        """This host has reserved an address through a pool: in the name of its network, if that is another driver's."""
        if not pool.record.driver:
            reserved = self._reserved.setdefault(wire_of(pool.record), {})
            reserved[int(address)] = reserved.get(int(address), frozenset()) | {pool.id}
        if not pool.record.network:  # as far as was known when it was asked for
            self.requested.set()

    def is_asked_elsewhere(self, pool: ParsedPool, address: Address, *, for_network: bool) -> bool:
        """Whether a reserved address was asked for through other pools, and not through this one. Networks that are
        being made may have one in common: `for_network` their pools do not count."""
        through = self._asked_through(pool.record.space, address)
        others = (each for each in through.values() if each.record.network or not for_network)
        return pool.id not in through and any(others)

    def is_open(self, pool: ParsedPool, address: Address, *, gateway: bool) -> bool:
        """Whether a reserved address was asked for through a pool of which it is not known whether its network is just
        being made, or is another driver's with containers. If the `gateway` of this pool is meant, through another."""
        through = self._asked_through(pool.record.space, address)
        open_pools = {key for key, each in through.items() if each.record.driver or not each.record.network}
        return bool(open_pools - {pool.id} if gateway else open_pools)

    def end_asking(self, pool: str, space: str, address: Address) -> bool:
        """The pool with this id releases an address; whether it stays, as it was asked for through another one."""
        reserved = self._reserved.get((space, address.version), {})
        if int(address) in reserved:
            reserved[int(address)] -= {pool}
        return bool(self._asked_through(space, address))

    def nameless(self) -> list[tuple[PoolRecord, Address]]:
        """Addresses that are reserved in nobody's name, each with the pool through which it was asked for, and that is
        of a network of another driver: whose it is was not known then."""
        found = []
        for (_, version), reserved in self._reserved.items():
            for address, through in reserved.items():
                pools = (self._pools[each].record for each in through if each in self._pools)
                found += [
                    (each, IPv4Address(address) if version == 4 else IPv6Address(address))
                    for each in pools
                    if each.driver
                ]
        return found

    def claims_of_containers(self) -> list[OwnClaim]:
        """The addresses that this host knows to be its containers'."""
        return [
            OwnClaim(space, IPv4Address(address) if version == 4 else IPv6Address(address), each)
            for (space, version), own in self._own.items()
            for address, each in own.items()
            if each.is_containers and each.reserved_at is None
        ]

    def disown_claim(self, claim: OwnClaim) -> None:
        """Take into account that nobody of this host has such an address any more, unless it was claimed anew."""
        if self._own.get((claim.space, claim.address.version), {}).get(int(claim.address)) is claim.known:
            self.disown(claim.space, str(claim.address))

    def get(self, pool: str) -> ParsedPool | None:
        """The pool with this id, if it is known here."""
        return self._pools.get(pool)

    def reserved(self, record: PoolRecord) -> None:
        """This run has reserved a pool now."""
        self._reserved_pools[pool_id(record)] = self.steady()
        self.remember(record)

    def is_just_reserved(self, record: PoolRecord) -> bool:
        """Whether a pool was reserved so lately that its network may be created next. A clock may be set, so what an
        earlier run has reserved counts from the beginning of this one: the engine may have waited for it."""
        return self.steady() - self._reserved_pools.get(pool_id(record), self._begun) <= CREATE_WINDOW_SECONDS

    def remember(self, record: PoolRecord) -> ParsedPool:
        """Keep a pool as it is now."""
        subnet = ip_network(record.subnet)
        part = ip_network(record.range) if record.range else None
        pool = ParsedPool(pool_id(record), record, subnet, dynamic_window(subnet, part))
        self._pools[pool.id] = pool
        return pool

    def is_any_reserved(self) -> bool:
        """Whether a known pool was reserved lately and is claimed by no network."""
        return any(self.is_just_reserved(each) for each in self.unclaimed())

    def unclaimed(self) -> list[PoolRecord]:
        """The known pools that this host has reserved, and that no network has claimed."""
        records = (each.record for each in self._pools.values())
        return [each for each in records if not each.network and each.host in {"", self._host}]

    def forget(self, pool: str) -> None:
        """Keep the pool with this id no longer."""
        self._pools.pop(pool, None)
        self._reserved_pools.pop(pool, None)

    def occupancy(self, record: PoolRecord | AddressRecord) -> Occupancy:
        """The taken addresses of the wire of a pool or an address."""
        wire = wire_of(record)
        if wire not in self._occupied:
            self._occupied[wire] = self._new_occupancy(wire, ())
        return self._occupied[wire]

    def forget_network(self, network: str) -> None:
        """Keep no pool of a network that is gone."""
        for pool in [each.record for each in self._pools.values() if each.record.network == network]:
            self.forget(pool_id(pool))
            self.forget_subnet(pool)
        self.disown_network(network)

    def disown_network(self, network: str) -> None:
        """Take into account that a network has no gateway and no aux addresses by this host any more. Whoever still
        has the network keeps them, and they are free when that host lets go of them."""
        for own in self._own.values():
            for address, each in list(own.items()):
                if network in each.networks:
                    own[address] = left = replace(each, networks=each.networks - {network})
                    if not (left.networks or left.is_containers):
                        del own[address]

    def disown_others(self, networks: Collection[str]) -> None:
        """Take into account that this host has no networks but these (ids in the cluster), and those of other drivers:
        what an earlier run claimed for others went with them, and another host may have given it back."""
        mine = {network for own in self._own.values() for each in own.values() for network in each.networks}
        foreign = {each.record.network for each in self._pools.values() if each.record.driver}
        for network in sorted(mine.difference(networks, foreign)):
            self.disown_network(network)

    def foreign(self) -> set[str]:
        """Networks of other drivers of this host that have a known pool."""
        pools = (each.record for each in self._pools.values())
        return {each.network for each in pools if each.driver and each.host == self._host}

    def forget_subnet(self, record: PoolRecord) -> None:
        """Keep no addresses of the subnet of a pool that is gone, unless another pool overlaps it."""
        subnet, wire = ip_network(record.subnet), wire_of(record)
        if any(wire_of(each.record) == wire and overlap(subnet, each.subnet) for each in self._pools.values()):
            return
        first, stop = int(subnet.network_address), int(subnet.broadcast_address) + 1
        self.occupancy(record).forget(first, stop)
        own = self._own.get(wire, {})
        for each in [each for each in own if first <= each < stop]:
            del own[each]
            self._reserved.get(wire, {}).pop(each, None)

    def usage(self, record: PoolRecord) -> tuple[int, int]:
        """Usage of a pool's window: addresses held, and its size; (0, 0) if the pool is not known."""
        pool = self.get(pool_id(record))
        if pool is None:
            return 0, 0
        first, stop = pool.window
        return self.occupancy(record).held_in(first, stop), stop - first

    def fills(self, windows: Iterable[tuple[str, int, int, int]]) -> list[PoolFill]:
        """Counts of windows, each by its space and IP version and as numbers `[first, stop)`. No address is looked at
        but those that cool off or are reserved just now: runs of held addresses are added up."""
        cooling: dict[Wire, list[int]] = {}
        found = []
        for space, version, first, stop in windows:
            wire = space, version
            occupied = self._occupied.get(wire)
            if occupied and wire not in cooling:
                cooling[wire] = occupied.cooling()
            cool = cooling.get(wire, [])
            resting = bisect_left(cool, stop) - bisect_left(cool, first)
            held = occupied.taken.held_in(first, stop) - resting if occupied else 0
            reserved = sum(first <= each < stop for each in self._reserved.get(wire, ()))
            remembered = self.avoided.remembered(space, version).held_in(first, stop)
            found.append(PoolFill(stop - first, held, reserved, remembered))
        return found

    def count(self) -> int:
        """Count of all addresses that are held, as far as is known."""
        return sum(each.count() for each in self._occupied.values())

    # ----------------------------------------------------------------- joining

    def begin_joining(self, record: PoolRecord) -> None:
        """The network of this pool is being made here too."""
        self._joining[pool_id(record)] = record.network, self.steady()

    def end_joining(self, *, network: str = "", pool: str = "") -> None:
        """The network with this id, or that of the pool with this id, is made here, or is not made after all."""
        self._joining = {key: each for key, each in self._joining.items() if key != pool and each[0] != network}

    def joined_by(self, record: PoolRecord) -> str:
        """The network that is joining this pool on this host just now, and has it; "" if none."""
        network, since = self._joining.get(pool_id(record), ("", 0.0))
        # a join that was broken off names its network still when the pool is the next one's
        is_joining = network == record.network and self.steady() - since <= CREATE_WINDOW_SECONDS
        return network if is_joining else ""

    def joined(self, subnets: Iterable[str]) -> str:
        """The network that is joining pools with exactly these subnets just now; "" if there is none.

        Raises:
            Conflict: another one with such a subnet is being created or joined here, too, and the protocol does not say
                which of them is meant.
        """
        wanted = set(subnets)
        joining: dict[str, set[str]] = {}
        reserved = False
        for record in (each.record for each in self._pools.values()):
            if network := self.joined_by(record):
                joining.setdefault(network, set()).add(record.subnet)
            elif not record.network and record.subnet in wanted:
                reserved |= self.is_just_reserved(record)
        found = [network for network, theirs in joining.items() if theirs == wanted]
        if len(found) + reserved > 1:
            raise several_at_once(", ".join(sorted(wanted)))
        return found[0] if found else ""

    def _asked_through(self, space: str, address: Address) -> dict[str, ParsedPool]:
        """The pools through which a reserved address was asked for, by their ids, as far as they are there still."""
        through = self._reserved.get((space, address.version), {}).get(int(address), frozenset())
        return {each: self._pools[each] for each in through if each in self._pools}

    def _unclaimed_of(self, record: AddressRecord) -> frozenset[str]:
        """The pools through which an earlier run may have reserved an address for a network that is being made, or for
        a container of another driver's network that was just made."""
        at = record.space, record.subnet
        pools = self.unclaimed() if record.kind == "reserved" and not record.network else []
        return frozenset(pool_id(each) for each in pools if (each.space, each.subnet) == at)

    def _new_occupancy(self, wire: Wire, taken: Iterable[int]) -> Occupancy:
        space, version = wire
        offsets = start_offsets(self._host, f"{space} {version}") if self._shared else None
        hosts, remembered = self.avoided.numbers(version), self.avoided.remembered(space, version)
        seen = self.avoided.seen(space, version)
        return Occupancy(taken, spread=offsets, hosts=hosts, remembered=remembered, seen=seen)


def number(record: AddressRecord) -> int:
    """The address of a record as a number."""
    return int(ip_address(record.address))


def wire_of(record: PoolRecord | AddressRecord) -> Wire:
    """The wire of a pool or an address."""
    return record.space, 6 if ":" in record.subnet else 4


def _by_wire(addresses: Iterable[AddressRecord]) -> dict[Wire, list[AddressRecord]]:
    """Records by their wire."""
    found: dict[Wire, list[AddressRecord]] = {}
    for record in addresses:
        found.setdefault(wire_of(record), []).append(record)
    return found
