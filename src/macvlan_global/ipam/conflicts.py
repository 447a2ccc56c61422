"""Conflicts over pools and addresses.

They carry records, not words: names of networks, containers and hosts are the driver's (`driver.holders`).
"""

from macvlan_global.errors import Conflict
from macvlan_global.store.records import AddressRecord, PoolRecord
from macvlan_global.store.table import Row


def several_at_once(subnets: str) -> Conflict:
    """The conflict of networks with one subnet that are being created at the same time, among which CreateNetwork does
    not choose: it names no pool, only subnets."""
    return Conflict(
        f"several networks with subnet {subnets} are being created at once; wait for the others, then try again"
    )


class AddressTaken(Conflict):
    """An address has another holder: `row` is the one in the store."""

    def __init__(self, row: Row[AddressRecord]) -> None:
        """`row` was read just now."""
        super().__init__(f"address {row.record.address} is in use")
        self.row = row


class PoolOverlaps(Conflict):
    """A pool (`wanted`) has subnet and range of a pool in the store (`other`)."""

    def __init__(self, wanted: PoolRecord, other: PoolRecord) -> None:
        """Both are in the same address space."""
        super().__init__(f"--subnet {wanted.subnet} overlaps with {other.subnet}")
        self.wanted = wanted
        self.other = other


class PoolTaken(Conflict):
    """A pool is claimed by another network: `record` is the one in the store."""

    def __init__(self, record: PoolRecord) -> None:
        """`record` was read from the store."""
        super().__init__(f"--subnet {record.subnet} is in use")
        self.record = record
