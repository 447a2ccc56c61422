"""Pools and addresses as this process last saw them. All of it is a hint; the truth is in the store.

Three hints, one for each read of the store that it saves:

* parsed pools, by id, so that a request does not read its pool;
* the taken addresses of each subnet (`allocator.Occupancy`), from which candidates are chosen;
* rows that were written moments ago (`RecentWrites`), so that the next request of a pair does not read them again.

And two facts that may be nowhere else: pools of the cluster's networks that are being joined on this host just now, and
the addresses that this host reserved or claimed and did not release. A store that was restored from an older copy has
forgotten the latest of them, while their containers run or are being started.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from macvlan_global.errors import Invalid
from macvlan_global.ipam.allocator import Occupancy, start_offsets
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.store.records import AddressRecord, PoolRecord
from macvlan_global.store.table import Row
from macvlan_global.subnets import Address, Subnet, dynamic_window, from_number, usable

CREATE_WINDOW_SECONDS = 60.0
"""The longest wait of what is reserved for its CreateNetwork or CreateEndpoint. The engine repeats a broken call for
15 s."""

RECENT_SECONDS = 10.0
"""A written row is used without a read for so long. Not for ever: a store that was restored from an older copy may
count its revisions anew, and then the revision of long ago could be that of somebody else's record."""

RECENT_MOST = 1024
"""The most written rows that are kept."""


@dataclass(frozen=True, slots=True)
class ParsedPool:
    """A pool record and its subnet; `window` is the part handed out unasked, as numbers `[first, stop)`."""

    record: PoolRecord
    subnet: Subnet
    window: tuple[int, int]

    @property
    def dynamic(self) -> str:
        """The part handed out unasked, in CIDR form."""
        return self.record.range or self.record.subnet

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


class PoolCache:
    """The hints of one process. `recent` are its latest writes of addresses."""

    def __init__(self, *, host: str, shared: bool) -> None:
        """Empty. If the store is `shared`, each host begins at an offset of its own in a subnet."""
        self.recent = RecentWrites()
        self._pools: dict[str, ParsedPool] = {}
        self._occupied: dict[tuple[str, str], Occupancy] = {}
        self._joining: dict[str, tuple[str, float]] = {}  # network and time, by pool id
        # this host's own, by space and subnet: when an address was reserved, None once it is claimed
        self._own: dict[tuple[str, str], dict[int, float | None]] = {}
        self._host = host
        self._shared = shared

    def load(self, pools: Iterable[PoolRecord], addresses: Iterable[AddressRecord]) -> None:
        """Begin anew with the records of the store; the walk of each subnet goes on behind this host's last address."""
        self.recent = RecentWrites()
        self._pools.clear()
        self._occupied.clear()
        self._own.clear()
        for pool in pools:
            self.remember(pool)
        for key, records in _by_subnet(addresses).items():
            mine = [each for each in records if each.host == self._host]
            self._own[key] = {number(each): each.at if each.kind == "reserved" else None for each in mine}
            last = max(mine, key=lambda each: each.at, default=None)
            self._occupied[key] = Occupancy(
                [number(each) for each in records], number(last) if last else None, spread=self._offsets(key)
            )

    def learn(self, addresses: Iterable[AddressRecord], now: float) -> None:
        """Replace the taken addresses of every known pool: these are all that the store has."""
        held = _by_subnet(addresses)
        for pool in self._pools.values():
            self.learn_subnet(pool.record, held.get((pool.record.space, pool.record.subnet), ()), now)

    def learn_subnet(self, record: PoolRecord, addresses: Iterable[AddressRecord], now: float) -> None:
        """Replace the taken addresses of one subnet. This host's own stay taken, also if the store has lost them."""
        own = self._own.get((record.space, record.subnet), {})
        kept = [address for address, at in own.items() if at is None or abs(now - at) <= CREATE_WINDOW_SECONDS]
        self.occupancy(record).learn([*(number(each) for each in addresses), *kept])

    def wrote(self, row: Row[AddressRecord], now: float) -> None:
        """Take a row into account that this process wrote."""
        self.recent.add(row, now)
        self.occupancy(row.record).take(number(row.record))
        own = self._own.setdefault((row.record.space, row.record.subnet), {})
        own[number(row.record)] = now if row.record.kind == "reserved" else None

    def not_taken(self, record: PoolRecord, candidate: int, now: float) -> None:
        """Free a candidate that could not be reserved, unless another request of this host has it by now."""
        if candidate not in self._own.get((record.space, record.subnet), {}):
            self.occupancy(record).free(candidate, now)

    def dropped(self, record: AddressRecord, now: float) -> None:
        """Take into account that nobody has this address any more."""
        self._own.get((record.space, record.subnet), {}).pop(number(record), None)
        self.occupancy(record).free(number(record), now)

    def disown(self, space: str, address: str) -> None:
        """Take into account that this host has let go of an address, whatever the store says of it now."""
        wanted = ip_address(address)
        for (each_space, subnet), own in self._own.items():
            if each_space == space and (":" in subnet) == (wanted.version == 6):
                own.pop(int(wanted), None)

    def get(self, pool: str) -> ParsedPool | None:
        """The pool with this id, if it is known here."""
        return self._pools.get(pool)

    def remember(self, record: PoolRecord) -> ParsedPool:
        """Keep a pool as it is now."""
        subnet = ip_network(record.subnet)
        part = ip_network(record.range) if record.range else None
        self._pools[pool_id(record)] = pool = ParsedPool(record, subnet, dynamic_window(subnet, part))
        return pool

    def forget(self, pool: str) -> None:
        """Keep the pool with this id no longer."""
        self._pools.pop(pool, None)

    def shares_subnet(self, record: PoolRecord) -> bool:
        """Whether a known pool has this subnet in this space."""
        return any(
            (each.record.space, each.record.subnet) == (record.space, record.subnet) for each in self._pools.values()
        )

    def occupancy(self, record: PoolRecord | AddressRecord) -> Occupancy:
        """The taken addresses of the subnet of a pool or an address."""
        key = record.space, record.subnet
        if key not in self._occupied:
            self._occupied[key] = Occupancy([], spread=self._offsets(key))
        return self._occupied[key]

    def forget_occupancy(self, record: PoolRecord) -> None:
        """Keep no addresses of a subnet that no pool has any more."""
        self._occupied.pop((record.space, record.subnet), None)
        self._own.pop((record.space, record.subnet), None)

    def usage(self, record: PoolRecord) -> tuple[int, int]:
        """Usage of a pool's window: addresses held, and its size; (0, 0) if the pool is not known."""
        pool = self.get(pool_id(record))
        if pool is None:
            return 0, 0
        first, stop = pool.window
        return self.occupancy(record).held_in(first, stop), stop - first

    # ----------------------------------------------------------------- joining

    def begin_joining(self, record: PoolRecord, now: float) -> None:
        """The network of this pool is being made here too."""
        self._joining[pool_id(record)] = record.network, now

    def end_joining(self, *, network: str = "", pool: str = "") -> None:
        """The network with this id, or that of the pool with this id, is made here, or is not made after all."""
        self._joining = {key: each for key, each in self._joining.items() if key != pool and each[0] != network}

    def joined_by(self, record: PoolRecord, now: float) -> str:
        """The network that is joining this pool on this host just now; "" if none."""
        network, since = self._joining.get(pool_id(record), ("", 0.0))
        return network if abs(now - since) <= CREATE_WINDOW_SECONDS else ""

    def joined(self, subnets: Iterable[str], now: float) -> str:
        """The one network that is joining pools with these subnets just now; "" if there is none, or several."""
        wanted = set(subnets)
        records = [each.record for each in self._pools.values() if each.record.subnet in wanted]
        found = {self.joined_by(record, now) for record in records} - {""}
        return found.pop() if len(found) == 1 else ""

    def _offsets(self, key: tuple[str, str]) -> Iterator[float] | None:
        return start_offsets(self._host, " ".join(key)) if self._shared else None


def number(record: AddressRecord) -> int:
    """The address of a record as a number."""
    return int(ip_address(record.address))


def _by_subnet(addresses: Iterable[AddressRecord]) -> dict[tuple[str, str], list[AddressRecord]]:
    """Records by their space and subnet."""
    found: dict[tuple[str, str], list[AddressRecord]] = {}
    for record in addresses:
        found.setdefault((record.space, record.subnet), []).append(record)
    return found
