"""Late releases: those that wait for the store while it is away, and whether one is still meant when the store is back.

An engine repeats a request that failed, with the same endpoint. If the claim of the first try reached the store and its
answer was lost, the release of that claim waits when the second try claims the address: it must not end that claim. The
store's record does not tell the two apart, nor does a clock that may be set meanwhile. So a driver keeps count of the
releases of its own run; what an earlier run kept is void if this run has taken the address.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from macvlan_global.ipam.conflicts import AddressTaken
from macvlan_global.store.records import AddressRecord, PendingRecord


class LateReleases:
    """Releases of one run of the driver that wait for the store, by space, address and endpoint ("" if reserved)."""

    def __init__(self, incarnation: str) -> None:
        """None yet. `incarnation` is the run."""
        self._incarnation = incarnation
        self._waiting: set[tuple[str, str, str]] = set()

    def begin(self, space: str, address: str, endpoint: str) -> str:
        """From now on this release waits; the id of the run, to be kept with it."""
        self._waiting.add((space, address, endpoint))
        return self._incarnation

    @contextmanager
    def taking(self, record: AddressRecord) -> Iterator[None]:
        """Write a record that takes an address in the block. A release of the same holder that waits is void before it
        is written, as the answer may be lost; but not if another holder has the address."""
        key = record.space, record.address, record.endpoint
        waits = key in self._waiting
        self._waiting.discard(key)
        try:
            yield
        except AddressTaken:
            if waits:
                self._waiting.add(key)
            raise

    def is_void(self, release: PendingRecord, held: AddressRecord) -> bool:
        """Whether this host took the address anew since the release was kept. `held` is the record of the address as it
        is, and must be read before: whoever takes the address later changes it."""
        if release.incarnation == self._incarnation:
            return (release.space, release.address, release.endpoint) not in self._waiting
        return held.incarnation == self._incarnation or held.at > release.at
