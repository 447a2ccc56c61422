"""What this process believes about pools and addresses. A hint for choosing; the truth is in the store."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from macvlan_global.errors import Invalid
from macvlan_global.ipam.allocator import Occupancy, places_of
from macvlan_global.ipam.pool_id import pool_id
from macvlan_global.store.records import AddressRecord, PoolRecord
from macvlan_global.subnets import Address, Subnet, dynamic_window, from_number, parse_address, parse_subnet, usable


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as it is worked with: `window` is what may be handed out unasked, as numbers `[first, stop)`."""

    record: PoolRecord
    subnet: Subnet
    window: tuple[int, int]

    def refuse_unusable(self, address: Address, *, gateway: bool) -> None:
        """Let an address pass that an interface of this subnet may have.

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


class PoolCache:
    """Pools by id, and which addresses of each subnet are taken."""

    def __init__(
        self, pools: Iterable[PoolRecord] = (), addresses: Iterable[AddressRecord] = (), *, host: str, shared: bool
    ) -> None:
        """Begin with what the store holds. If it is `shared`, each host begins elsewhere in a subnet."""
        self._pools: dict[str, PoolView] = {}
        self._occupied: dict[tuple[str, str], Occupancy] = {}
        self._host = host
        self._shared = shared
        for pool in pools:
            self.remember(pool)
        held: dict[tuple[str, str], list[AddressRecord]] = {}
        for record in addresses:
            held.setdefault((record.space, record.subnet), []).append(record)
        for key, records in held.items():
            last = max((each for each in records if each.host == host), key=lambda each: each.at, default=None)
            self._occupied[key] = Occupancy(
                [number(each.address) for each in records],
                number(last.address) if last else None,
                spread=self._places(key),
            )

    def get(self, pool: str) -> PoolView | None:
        """The pool with this id, if it is known here."""
        return self._pools.get(pool)

    def remember(self, record: PoolRecord) -> PoolView:
        """Know a pool, as it is now."""
        subnet = parse_subnet(record.subnet, "pool")
        part = parse_subnet(record.range, "range") if record.range else None
        self._pools[pool_id(record)] = view = PoolView(record, subnet, dynamic_window(subnet, part))
        return view

    def forget(self, pool: str) -> None:
        """Know a pool no longer."""
        self._pools.pop(pool, None)

    def records(self) -> Iterator[PoolRecord]:
        """Each pool."""
        return (view.record for view in self._pools.values())

    def shares_subnet(self, record: PoolRecord) -> bool:
        """Whether a pool that is known has this subnet in this space."""
        return any(
            (view.record.space, view.record.subnet) == (record.space, record.subnet) for view in self._pools.values()
        )

    def occupancy(self, record: PoolRecord | AddressRecord) -> Occupancy:
        """What is taken of the subnet of a pool or an address."""
        key = record.space, record.subnet
        if key not in self._occupied:
            self._occupied[key] = Occupancy([], spread=self._places(key))
        return self._occupied[key]

    def learn(self, record: PoolRecord, addresses: Iterable[AddressRecord]) -> None:
        """Believe these addresses, which are all that the store has, about the subnet of a pool."""
        self.occupancy(record).learn(number(each.address) for each in addresses if each.subnet == record.subnet)

    def forget_occupancy(self, record: PoolRecord) -> None:
        """Nobody has the subnet any more."""
        self._occupied.pop((record.space, record.subnet), None)

    def _places(self, key: tuple[str, str]) -> Iterator[float] | None:
        return places_of(self._host, " ".join(key)) if self._shared else None

    def usage(self, record: PoolRecord) -> tuple[int, int]:
        """How many addresses of a pool's window are held, and how many it has."""
        view = self.get(pool_id(record))
        if view is None:
            return 0, 0
        first, stop = view.window
        return self.occupancy(record).held_in(first, stop), stop - first


def number(address: str) -> int:
    """A bare address as a number."""
    return int(parse_address(address, "address"))
