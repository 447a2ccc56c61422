"""Liveness of container endpoints: whether an endpoint of this host still exists.

Unknown is not dead. The kernel proves that an endpoint is dead if it is of an earlier boot, or if its container's
network namespace is gone. If the namespace is there and the link is not found in it, the container may have changed
whatever the link is known by, or have moved it on; and a record that is missing, newer or unreadable proves nothing
either. Then only the engine knows: it must have been asked in this run of the driver, later than the endpoint was made,
and not have it. No request asks it: reconciliation does, and tells this module.

A young endpoint counts as alive: between CreateEndpoint and Join the engine sets the container up.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile

from macvlan_global.attach.attach import Attacher
from macvlan_global.driver.endpoint_table import EndpointTable
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.ports import Kernel
from macvlan_global.store.records import AddressRecord, EndpointRecord

YOUNG_SECONDS = 60.0
"""Age up to which an endpoint may be without an interface."""
CLOCK_SET_SECONDS = 2.0
"""Change of the wall clock against the monotonic one, between two looks, from which it was set: NTP slews it by less
than that in an hour."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment by both clocks, in seconds: `wall` may be set, `steady` never is."""

    wall: float
    steady: float


@dataclass(frozen=True, slots=True)
class EngineView:
    """The endpoints that the engine had, by id, and the moment before it was asked for them."""

    endpoints: frozenset[str]
    asked: Moment


class Ages:
    """Minimum-age check: monotonic for objects that this process created, wall clock for the rest."""

    def __init__(self, seconds: float, now: Callable[[], float], steady: Callable[[], float]) -> None:
        """Young is under `seconds` old. `now` is the wall clock, which may be set; `steady` never is."""
        self._seconds = seconds
        self._now = now
        self._steady = steady
        self._begun: dict[str, float] = {}
        self._kept_from = float("inf")
        self._offset = now() - steady()
        self._set_at = float("-inf")

    def begin(self, key: str) -> None:
        """The object with this key is being created."""
        self._begun.pop(key, None)  # the dict is in the order of their times
        self._begun[key] = begun = self._steady()
        self._forget_before(begun)

    def moment(self) -> Moment:
        """The present moment."""
        return Moment(self._now(), self._steady())

    def note_clock(self, change: float) -> None:
        """The wall clock was set by so many seconds since the last run of this boot began: see `was_clock_set`."""
        self._offset -= change

    def was_clock_set(self, seconds: float) -> bool:
        """Whether it was seen less than so many seconds ago that the wall clock was set: until then the times in
        records do not tell which of them are old."""
        offset = self._now() - self._steady()
        if abs(offset - self._offset) > CLOCK_SET_SECONDS:
            self._set_at = self._steady()
        self._offset = offset
        return self._steady() - self._set_at < seconds

    def begun_within(self, key: str, seconds: float) -> bool:
        """Whether this process began to create the object less than so many seconds ago."""
        begun = self._begun.get(key)
        return begun is not None and abs(self._steady() - begun) < seconds

    def keep_since(self, moment: Moment) -> None:
        """From now on also remember objects that were young, or not there, at this moment."""
        self._kept_from = moment.steady
        self._forget_before(self._steady())

    def is_young(self, key: str, at: float, moment: Moment | None = None) -> bool:
        """Whether it is young now, or was at an earlier moment or not there yet. `at` is the wall clock in its record,
        which may have been ahead, or is ahead now; if it was set a moment ago, nobody knows."""
        begun = self._begun.get(key)
        if begun is None and self.was_clock_set(self._seconds):
            return True
        seen = moment or self.moment()
        age = seen.wall - at if begun is None else seen.steady - begun
        not_yet = moment is not None and begun is not None and age < 0
        return not_yet or abs(age) < self._seconds

    def _forget_before(self, steady: float) -> None:
        first = min(steady, self._kept_from) - self._seconds
        for each in list(takewhile(lambda key: self._begun[key] <= first, self._begun)):
            del self._begun[each]


class Liveness:
    """Endpoints of this host and boot, compared with the kernel, and with what the engine said in this run."""

    def __init__(
        self,
        endpoints: EndpointTable,
        kernel: Kernel,
        attacher: Attacher,
        identity: Identity,
        *,
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
    ) -> None:
        """`identity` names this host and `boot`; `steady` is a clock that nobody sets, `now` if there is none."""
        self._endpoints = endpoints
        self._kernel = kernel
        self._attacher = attacher
        self._host = identity.host
        self.boot = identity.boot
        self._ages = Ages(YOUNG_SECONDS, now, steady or now)
        self._view: EngineView | None = None

    def begin(self, endpoint_id: str) -> None:
        """The engine requests the endpoint: it is young from now on."""
        self._ages.begin(endpoint_id)

    def was_requested(self, endpoint_id: str, seconds: float) -> bool:
        """Whether the engine requested the endpoint in this run, less than so many seconds ago (60 at most)."""
        return self._ages.begun_within(endpoint_id, seconds)

    def moment(self) -> Moment:
        """The present moment, to be taken before the engine is asked."""
        return self._ages.moment()

    def note_clock(self, change: float) -> None:
        """See `Ages.note_clock`."""
        self._ages.note_clock(change)

    def was_clock_set(self, seconds: float) -> bool:
        """See `Ages.was_clock_set`."""
        return self._ages.was_clock_set(seconds)

    def learn(self, endpoints: Iterable[str], asked: Moment) -> None:
        """Take in which endpoints the engine has, by id; `asked` is the moment before it was asked."""
        if self._view is None or self._view.asked.steady <= asked.steady:
            self._view = EngineView(frozenset(endpoints), asked)
            self._ages.keep_since(asked)

    async def is_dead(self, endpoint: EndpointRecord) -> bool:
        """Whether the endpoint is known to be dead: see above."""
        if endpoint.boot != self.boot:
            return True
        if self._ages.is_young(endpoint.id, endpoint.at) or await self._kernel.link(endpoint.link):
            return False
        return not await self.may_run(endpoint)

    async def may_run(self, endpoint: EndpointRecord) -> bool:
        """Whether a container may have the endpoint's interface: the kernel shows it there, or cannot tell, and the
        engine has not said that it does not have the endpoint."""
        if endpoint.boot != self.boot:
            return False
        found = await self._attacher.find(endpoint)
        if found is None and endpoint.sandbox:  # a link ends with its namespace
            return False
        return found or not self._engine_lacks(endpoint.id, endpoint.at)

    async def is_in_use(self, endpoint: EndpointRecord) -> bool:
        """Whether the kernel shows the endpoint's interface inside its container, in this boot."""
        return endpoint.boot == self.boot and bool(await self._attacher.find(endpoint))

    async def is_stale(self, address: AddressRecord) -> bool:
        """Whether an address is claimed by an endpoint of this host that is dead. Others' endpoints are not known."""
        if address.kind != "endpoint" or address.host != self._host:
            return False
        found = await self._endpoints.find(address.endpoint)
        if found is None:  # lost with an older copy of the state, or of a newer version, or unreadable
            return self._engine_lacks(address.endpoint, address.at)
        return await self.is_dead(found)

    def _engine_lacks(self, endpoint_id: str, at: float) -> bool:
        """Whether the engine was asked in this run and does not have an endpoint that was no longer young by then. `at`
        is the wall clock in its record."""
        view = self._view
        if view is None or endpoint_id in view.endpoints:
            return False
        return not self._ages.is_young(endpoint_id, at, view.asked)
