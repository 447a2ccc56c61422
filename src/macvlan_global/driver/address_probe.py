"""Who outside of our books has an address: the wire of a network's parent is asked before a container gets one.

The long form of RFC 5227 (three probes, one to two seconds apart) is for a host that takes an address for good, and too
slow for the start of a container. Here two questions go out, a tenth of a second apart: see ADR 25.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from macvlan_global.attach.options import parse_options
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.kernel.ports import Kernel, Station
from macvlan_global.store.records import NetworkRecord, PoolRecord
from macvlan_global.store.table import Tables

log = logging.getLogger(__name__)

K = TypeVar("K")

TRIES = 2
WAIT_SECONDS = 0.1
"""For an answer to each question. Who is on a LAN and awake answers within milliseconds; the second question is there
because a frame may be lost."""

REMEMBERED_SECONDS = 3600.0
"""How long an operator is told of who was found."""
REMEMBERED_MOST = 64
KNOWN_MOST = 256


@dataclass(frozen=True, slots=True)
class Seen:
    """What an operator should know, and when it was so last."""

    words: str
    at: float


class AddressProbe:
    """Asks wires for the address book, and remembers who was found."""

    def __init__(
        self,
        tables: Tables,
        kernel: Kernel,
        ready_parent: Callable[[NetworkRecord], Awaitable[str]],
        *,
        default: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`ready_parent` has a network's parent there and up, and tells its name; `default` is for networks that do not
        say whether their wire is asked."""
        self._tables = tables
        self._kernel = kernel
        self._ready_parent = ready_parent
        self._default = default
        self._now = now
        # the networks of pools, and whether their wire is asked: neither ever changes, and most are not asked for
        self._wanted: dict[str, bool] = {}
        self._found: dict[tuple[str, str], Seen] = {}  # by network and address
        self._deaf: dict[str, Seen] = {}  # by network

    async def in_use(self, pool: PoolRecord, address: str) -> str:
        """Who has the address; see `ipam.owners.InUse`. A wire that cannot be asked is no obstacle, and told once."""
        if not pool.network or not self._wanted.get(pool.network, True):
            return ""
        network = await self._network_of(pool)
        if network is None or not self._is_wanted(network):
            return ""
        try:
            parent = await self._ready_parent(network)
            station = await self._kernel.probe(parent, address, tries=TRIES, wait=WAIT_SECONDS)
        except MacvlanGlobalError as error:
            self._cannot_ask(network, str(error))
            return ""
        self._deaf.pop(network.shared_id, None)
        self._found.pop((network.shared_id, address), None)
        if station is None:
            return ""
        words, who = _told(station, parent)
        _keep(self._found, (network.shared_id, address), Seen(f"{address} {words}", self._now()))
        return who

    async def problems(self) -> list[str]:
        """Who was found lately, and which wires could not be asked, each with what to do behind a `;`."""
        here = {row.record.shared_id for row in await self._tables.networks.scan()} if self._found or self._deaf else ()
        for network, address in list(self._found):
            if network not in here:
                del self._found[network, address]
        for network in list(self._deaf):
            if network not in here:
                del self._deaf[network]
        return [each.words for each in (*self._lately(self._found), *self._lately(self._deaf))]

    def _lately(self, seen: Mapping[Any, Seen]) -> list[Seen]:
        return [each for each in seen.values() if abs(self._now() - each.at) < REMEMBERED_SECONDS]

    def _is_wanted(self, network: NetworkRecord) -> bool:
        said = parse_options(network.options, strict=False).probe
        wanted = self._default if said is None else said
        if len(self._wanted) >= KNOWN_MOST:
            self._wanted.clear()
        self._wanted[network.shared_id] = wanted
        return wanted

    async def _network_of(self, pool: PoolRecord) -> NetworkRecord | None:
        """The network of a pool on this host; None while it is being made, when the engine asks for aux addresses."""
        if row := await self._tables.networks.get(pool.network):
            return row.record
        for row in await self._tables.networks.scan():
            if row.record.shared_id == pool.network:
                return row.record
        return None

    def _cannot_ask(self, network: NetworkRecord, reason: str) -> None:
        name = network.name or network.id[:12]
        words = f"addresses of network {name} are given without asking the wire: {reason}"
        before = self._deaf.get(network.shared_id)
        if before is None or before.words != words:
            log.warning("%s", words)
        _keep(self._deaf, network.shared_id, Seen(words, self._now()))


def _told(station: Station, parent: str) -> tuple[str, str]:
    """What an operator reads of who was found, and who asked for the address."""
    if not station.mac:
        words = f"is this host's on {station.link}; exclude the address, or take it off {station.link}"
        return words, f"this host has it on {station.link}"
    words = f"answers on {parent} from {station.mac}, and nobody of ours has it"
    return f"{words}; take that device off, or exclude the address", f"{station.mac} answers for it on {parent}"


def _keep(seen: dict[K, Seen], key: K, what: Seen) -> None:
    """Remember it as the latest; the oldest is forgotten for it."""
    seen.pop(key, None)
    if len(seen) >= REMEMBERED_MOST:
        del seen[next(iter(seen))]
    seen[key] = what
