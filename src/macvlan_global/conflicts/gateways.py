"""Gateways that nobody answers for. A gateway is probed for once after the first container of its network, then seldom,
and not at all while its answers are seen anyway.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from macvlan_global.conflicts.watch import ConflictWatch
from macvlan_global.driver.driver import Driver
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.store.records import EndpointRecord, NetworkRecord
from macvlan_global.subnets import Address
from macvlan_global.tasks import forever

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
SETTLE_SECONDS = 60.0
"""Age of the first container at which its gateway is probed for: until then the container asks for it itself."""
AGAIN_SECONDS = 3600.0
MISSING_SECONDS = 300.0
"""Interval of probes for a gateway that nobody answered for."""
PROBES, WAIT_SECONDS = 3, 1.0


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A gateway of a network on the parent that it has now."""

    network: str
    parent: str
    address: Address


class GatewayCheck:
    """Probes for the gateways of this host's networks that have containers here."""

    def __init__(self, driver: Driver, watch: ConflictWatch, *, now: Callable[[], float] = time.time) -> None:
        """`watch` knows which gateways claim their address anyway."""
        self._driver = driver
        self._watch = watch
        self._now = now
        self._asked: dict[GatewayKey, float] = {}
        self._missing: dict[GatewayKey, str] = {}

    async def run(self) -> None:
        """Check until cancelled."""

        async def check() -> None:
            await asyncio.sleep(LOOK_SECONDS)
            await self.check()

        await forever("checking gateways", check, first=1.0, last=60.0)

    def problems(self) -> list[str]:
        """The gateways that nobody answers for, in words for operators."""
        return list(self._missing.values())

    async def check(self) -> None:
        """Probe for the gateways that are due."""
        endpoints = await self._driver.endpoints.all()
        now = self._now()
        there = {each.network for each in endpoints if abs(now - each.at) >= SETTLE_SECONDS}
        networks = [each for each in await self._driver.networks.all() if each.id in there and not each.internal]
        wanted = [(key, network) for network in networks for key in _gateways(network, endpoints)]
        keys = {key for key, _ in wanted}
        self._asked = {key: at for key, at in self._asked.items() if key in keys}
        self._missing = {key: text for key, text in self._missing.items() if key in keys}
        for key, network in wanted:
            await self._check(key, network)

    async def _check(self, key: GatewayKey, network: NetworkRecord) -> None:
        now = self._now()
        segment = self._watch.segments.get(key.parent)
        if segment and segment.claimants.is_claimed(key.address, now - AGAIN_SECONDS):
            self._missing.pop(key, None)
            return
        again = MISSING_SECONDS if key in self._missing else AGAIN_SECONDS
        if key in self._asked and abs(now - self._asked[key]) < again:
            return
        self._asked[key] = now
        try:
            link = await self._driver.kernel.link(key.parent)
            if link is None or link.kind == "dummy":  # nobody else can be on it
                return
            station = await self._driver.kernel.probe(key.parent, str(key.address), tries=PROBES, wait=WAIT_SECONDS)
        except MacvlanGlobalError as error:
            log.debug("the gateway %s cannot be probed for: %s", key.address, error)
            return
        if station:
            self._missing.pop(key, None)
        else:
            self._note_missing(key, network)

    def _note_missing(self, key: GatewayKey, network: NetworkRecord) -> None:
        text = (
            f"nobody answers for {key.address}, the gateway of network {network.shown}, on {key.parent}; check that "
            "router and its VLAN, or create the network with the right --gateway"
        )
        if key not in self._missing:
            log.warning("%s", text)
        self._missing[key] = text


def _gateways(network: NetworkRecord, endpoints: list[EndpointRecord]) -> list[GatewayKey]:
    """The gateways of a network that are no containers of this host: those do not answer on their own parent."""
    ours = {address for each in endpoints for address in each.addresses}
    found = [each.gateway_address for each in network.subnets]
    return [GatewayKey(network.id, network.parent, each) for each in found if each and each not in ours]
