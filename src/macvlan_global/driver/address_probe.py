"""Duplicate address detection: probe the parent's segment (ARP, NDP) before an address is handed out.

RFC 5227 has a host send three ARP probes, one to two seconds apart, before it configures an address: too slow for the
start of a container. Here two probes are sent, a tenth of a second apart: see ADR 25. A segment that cannot be probed
(no carrier, no CAP_NET_RAW, a parent that is no Ethernet) is no obstacle; the operator is told of it.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from macvlan_global.driver.networks import Networks
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.ipam.avoided import Avoided
from macvlan_global.kernel.ports import Kernel, Station
from macvlan_global.metrics.counts import TimeBuckets
from macvlan_global.store.records import NetworkRecord, PoolRecord
from macvlan_global.store.table import Tables
from macvlan_global.subnets import Address

log = logging.getLogger(__name__)

K = TypeVar("K")

PROBES = 2
WAIT_SECONDS = 0.1
"""Wait for a reply to each probe. A station that is awake replies within milliseconds; the second probe is there
because a frame may be lost."""

REMEMBERED_SECONDS = 3600.0
"""Age up to which the operator is told of a station that was found."""
REMEMBERED_MOST = 64
KNOWN_MOST = 256


@dataclass(frozen=True, slots=True)
class ProbeFinding:
    """A message for the operator, and when it was true last."""

    text: str
    at: float


class AddressProbe:
    """Probes the segments of networks that want it, and remembers the stations found."""

    def __init__(
        self,
        tables: Tables,
        kernel: Kernel,
        networks: Networks,
        avoided: Avoided,
        *,
        default: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`networks` have their parents there and up; `default` is for networks without the option `probe`. What is
        found free is in use outside no longer for `avoided`."""
        self._tables = tables
        self._kernel = kernel
        self._networks = networks
        self._avoided = avoided
        self._default = default
        self._now = now
        # by the network of a pool, whether it is probed: neither ever changes, and most are not
        self._wanted: dict[str, bool] = {}
        self._found: dict[tuple[str, str], ProbeFinding] = {}  # by network and address
        self._unprobeable: dict[str, ProbeFinding] = {}  # by network
        self.results = {"free": 0, "in_use": 0, "impossible": 0}
        """Number of addresses by the result of their probe."""
        self.times = TimeBuckets()

    async def find_owner(self, pool: PoolRecord, address: Address) -> str:
        """The station on the segment of a pool's network that has an address, in words that follow "in use on the
        segment:"; "" if there is none, if the network is not probed, or if its segment cannot be probed.

        The containers of this host do not reply: the caller must have looked them up.
        """
        if not pool.network or not self._wanted.get(pool.network, True):
            return ""
        network = await self._networks.find_shared(pool.network)
        # none while it is being made, when the engine asks for aux addresses
        if network is None or not self._is_wanted(network):
            return ""
        started = time.perf_counter()
        try:
            parent = (await self._networks.ready_parent(network)).name
            station = await self._kernel.probe(parent, str(address), tries=PROBES, wait=WAIT_SECONDS)
        except MacvlanGlobalError as error:
            self.results["impossible"] += 1
            self._note_unprobeable(network, str(error))
            return ""
        self.times.add(time.perf_counter() - started)
        self.results["in_use" if station else "free"] += 1
        self._unprobeable.pop(network.shared_id, None)
        self._found.pop((network.shared_id, str(address)), None)
        if station is None:
            self._avoided.forget_seen(pool.space, address, self._now())
            return ""
        text, owner = _describe(station, parent)
        _keep(self._found, (network.shared_id, str(address)), ProbeFinding(f"{address} {text}", self._now()))
        return owner

    async def problems(self) -> list[str]:
        """The stations found lately, and the segments that could not be probed, each with what to do behind a `;`."""
        if not self._found and not self._unprobeable:
            return []
        here = {row.record.shared_id for row in await self._tables.networks.scan()}
        for network, address in list(self._found):
            if network not in here:
                del self._found[network, address]
        for network in list(self._unprobeable):
            if network not in here:
                del self._unprobeable[network]
        return [each.text for each in (*self._lately(self._found), *self._lately(self._unprobeable))]

    def _lately(self, findings: Mapping[Any, ProbeFinding]) -> list[ProbeFinding]:
        return [each for each in findings.values() if abs(self._now() - each.at) < REMEMBERED_SECONDS]

    def _is_wanted(self, network: NetworkRecord) -> bool:
        option = network.options.probe
        wanted = self._default if option is None else option
        if len(self._wanted) >= KNOWN_MOST:
            self._wanted.clear()
        self._wanted[network.shared_id] = wanted
        return wanted

    def _note_unprobeable(self, network: NetworkRecord, reason: str) -> None:
        text = f"addresses of network {network.shown} are handed out without probing the segment: {reason}"
        before = self._unprobeable.get(network.shared_id)
        if before is None or before.text != text:
            log.warning("%s", text)
        _keep(self._unprobeable, network.shared_id, ProbeFinding(text, self._now()))


def _describe(station: Station, parent: str) -> tuple[str, str]:
    """A station for the operator's status page, and for the error of the container that wanted its address."""
    if not station.mac:
        text = f"is this host's own on {station.link}; exclude the address, or remove it from {station.link}"
        return text, f"this host has it on {station.link}"
    text = f"is in use on {parent} by {station.mac}, which is no container of ours"
    return f"{text}; remove that device, or exclude the address", f"{station.mac} replies for it on {parent}"


def _keep(findings: dict[K, ProbeFinding], key: K, finding: ProbeFinding) -> None:
    """Keep a finding as the latest; the oldest is forgotten for it."""
    findings.pop(key, None)
    if len(findings) >= REMEMBERED_MOST:
        del findings[next(iter(findings))]
    findings[key] = finding
