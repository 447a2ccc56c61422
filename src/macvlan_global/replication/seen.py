"""Evidence of this run of the driver: the networks that it saw in the engine, and the ends of which the engine told.

An engine that removes a network asks the driver for its deletion first, and sends an event afterwards. So a network
that was seen, that has a record still, and of whose end nothing was told, was not removed: the engine lost it, as when
its data are put back from an older copy. Of one that was not seen this run knows nothing.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(slots=True)
class _Sighting:
    """Of one network. `missing_since` is on the steady clock, None while the engine lists it."""

    ended: bool = False
    missing_since: float | None = None


class SeenNetworks:
    """Networks of this host, by the engine's ids."""

    def __init__(self, is_ending: Callable[[str], bool], steady: Callable[[], float]) -> None:
        """None was seen. `is_ending` says of a network whether its deletion was asked for, `steady` gives seconds."""
        self._is_ending = is_ending
        self._steady = steady
        self._seen: dict[str, _Sighting] = {}

    def saw(self, network: str) -> None:
        """The engine has it."""
        self._seen.setdefault(network, _Sighting()).missing_since = None

    def ended(self, network: str) -> None:
        """The engine told of its end. A list of networks that was asked for before may still have it."""
        if sighting := self._seen.get(network):
            sighting.ended = True

    def keep(self, networks: Collection[str]) -> None:
        """Forget all but these."""
        self._seen = {each: sighting for each, sighting in self._seen.items() if each in networks}

    def lost_for(self, network: str) -> float | None:
        """Seconds since the first such question about a network that the engine no longer has; None if it may have been
        removed."""
        sighting = self._seen.get(network)
        if sighting is None or sighting.ended or self._is_ending(network):
            return None
        if sighting.missing_since is None:
            sighting.missing_since = self._steady()
        return self._steady() - sighting.missing_since
