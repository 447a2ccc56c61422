"""Late releases: those that wait for the store while it is away, and whether one is still meant when the store is back.

An engine repeats a request that failed, with the same endpoint. If the claim of the first try reached the store and its
answer was lost, the release of that claim waits when the second try claims the address: it must not end that claim. The
store's record does not tell the two apart, nor does a clock that may be set meanwhile. So a driver keeps count of the
releases of its own run; what an earlier run kept is void if this run has taken the address.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from macvlan_global.ipam.conflicts import AddressTaken
from macvlan_global.store.records import AddressRecord, PendingRecord


@dataclass(slots=True)
class _Taking:
    """Requests that are taking one address now. `waits` says that a release of it waited when one of them began, and
    `is_taken` that one of them has taken it since, or may have."""

    requests: int = 0
    waits: bool = False
    is_taken: bool = False


@dataclass(slots=True)
class Attempt:
    """One request that takes an address. `is_lost` says that another holder was faster."""

    is_lost: bool = False


class LateReleases:
    """Releases of one run of the driver that wait for the store, by space, address and endpoint ("" if reserved)."""

    def __init__(self, incarnation: str) -> None:
        """None yet. `incarnation` is the run."""
        self._incarnation = incarnation
        self._waiting: set[tuple[str, str, str]] = set()
        self._taking: dict[tuple[str, str, str], _Taking] = {}

    def begin(self, space: str, address: str, endpoint: str) -> str:
        """From now on this release waits; the id of the run, to be kept with it."""
        self._waiting.add((space, address, endpoint))
        return self._incarnation

    @contextmanager
    def taking(self, record: AddressRecord) -> Iterator[Attempt]:
        """Write a record that takes an address in the block. A release of the same holder that waits is void before it
        is written, as the answer may be lost; but not if another holder has the address: the block raises AddressTaken
        then, or says so in the attempt.

        Several requests may take an address at once: if one of them gets it, none of the others brings back a release.
        If none gets it after all, and the store was away, nothing gives the old one back but repair.
        """
        key = record.space, record.address, record.endpoint
        taking = self._taking.setdefault(key, _Taking())
        taking.requests += 1
        if key in self._waiting:
            self._waiting.discard(key)
            taking.waits, taking.is_taken = True, False
        attempt = Attempt()
        try:
            yield attempt
        except AddressTaken:
            attempt.is_lost = True
            raise
        finally:
            taking.requests -= 1
            if not attempt.is_lost:
                taking.is_taken = True
                self._waiting.discard(key)  # it came meanwhile, from an earlier holder
            if not taking.requests:
                del self._taking[key]
                if taking.waits and not taking.is_taken:
                    self._waiting.add(key)

    def is_void(self, release: PendingRecord, held: AddressRecord) -> bool:
        """Whether this host took the address anew since the release was kept. `held` is the record of the address as it
        is, and must be read before: whoever takes the address later changes it."""
        if release.incarnation == self._incarnation:
            return (release.space, release.address, release.endpoint) not in self._waiting
        return held.incarnation == self._incarnation or held.at > release.at
