"""Liveness of container endpoints: whether an endpoint of this host still exists in the kernel.

An endpoint is dead if it is of an earlier boot, or if its interface is neither in the host's namespace nor in its
container's. A young one counts as alive: between CreateEndpoint and Join the engine sets the container up.
"""

import time
from collections.abc import Callable

from macvlan_global.attach.attach import Attacher
from macvlan_global.driver.endpoint_table import EndpointTable
from macvlan_global.ipam.owners import Identity
from macvlan_global.kernel.ports import Kernel
from macvlan_global.store.records import AddressRecord, EndpointRecord

YOUNG_SECONDS = 60.0
"""Age up to which an endpoint may be without an interface."""


class Ages:
    """Minimum-age check: monotonic for objects that this process created, wall clock for the rest."""

    def __init__(self, seconds: float, now: Callable[[], float], steady: Callable[[], float]) -> None:
        """Young is under `seconds` old. `now` is the wall clock, which may be set; `steady` never is."""
        self._seconds = seconds
        self._now = now
        self._steady = steady
        self._begun: dict[str, float] = {}

    def begin(self, key: str) -> None:
        """The object with this key is being created."""
        begun = self._steady()
        self._begun = {each: at for each, at in self._begun.items() if begun - at < self._seconds} | {key: begun}

    def is_young(self, key: str, at: float) -> bool:
        """Whether it is young. `at` is the wall clock in its record, which may have been ahead, or is ahead now."""
        begun = self._begun.get(key)
        age = self._now() - at if begun is None else self._steady() - begun
        return abs(age) < self._seconds


class Liveness:
    """Endpoints of this host and boot, compared with the kernel."""

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

    def begin(self, endpoint_id: str) -> None:
        """The endpoint is being created: it is young from now on."""
        self._ages.begin(endpoint_id)

    async def is_alive(self, endpoint: EndpointRecord) -> bool:
        """Whether the kernel shows the endpoint's interface, or it is too young to tell."""
        if endpoint.boot != self.boot:
            return False
        if self._ages.is_young(endpoint.id, endpoint.at) or await self._kernel.link(endpoint.link):
            return True
        return await self.is_in_use(endpoint)

    async def is_in_use(self, endpoint: EndpointRecord) -> bool:
        """Whether the kernel shows the endpoint's interface inside its container, in this boot."""
        return endpoint.boot == self.boot and await self._attacher.is_in_use(endpoint)

    async def is_stale(self, address: AddressRecord) -> bool:
        """Whether an address is claimed by an endpoint of this host that is dead. Others' endpoints are not known."""
        if address.kind != "endpoint" or address.host != self._host:
            return False
        found = await self._endpoints.find(address.endpoint)
        if found is None:
            return not self._ages.is_young(address.endpoint, address.at)
        return not await self.is_alive(found)
