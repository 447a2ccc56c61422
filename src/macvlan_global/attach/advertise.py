"""Telling neighbours which MAC has an address now: RFC 5227 section 2.3, RFC 4861 7.2.6.

Engines before 28 do not, and engine 28 tells them that the MAC has 0.0.0.0: it takes the first four bytes of an IPv4
address that an IPAM plugin gave, which Go keeps in sixteen. It happens beside the requests of the engine, which never
wait for it.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.kernel.ports import Kernel
from macvlan_global.store.records import EndpointRecord

log = logging.getLogger(__name__)

TIMES_KEY, EVERY_KEY = "com.docker.network.advertise_addr_nmsgs", "com.docker.network.advertise_addr_ms"
TIMES, EVERY_MS = 3, 1000
"""What engines do that are told nothing."""
MOST_TIMES, EVERY_RANGE_MS = 3, (100, 2000)
MOVED_SECONDS = 30.0
LOOK_SECONDS = 0.05
MOST_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Advertisement:
    """How often a new address is told, and how many seconds lie between."""

    times: int = TIMES
    every: float = EVERY_MS / 1000


@dataclass(frozen=True, slots=True)
class _Job:
    sandbox: str
    mac: str
    link: str
    told: Advertisement
    moved: bool
    """Whether the engine still has to move the link."""


def telling(options: Mapping[str, str]) -> Advertisement:
    """What a network's options say; engines from 28 on have checked them."""
    times = _number(options.get(TIMES_KEY, ""), TIMES, 0, MOST_TIMES)
    return Advertisement(times, _number(options.get(EVERY_KEY, ""), EVERY_MS, *EVERY_RANGE_MS) / 1000)


class Advertiser:
    """Announces addresses of containers of this host. `run` does the work."""

    def __init__(self, kernel: Kernel) -> None:
        """`kernel` reaches into containers."""
        self._kernel = kernel
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(MOST_WAITING)
        self._wanted: set[str] = set()

    def now(self, endpoint: EndpointRecord, sandbox: str, told: Advertisement) -> None:
        """Announce a link that is inside a container, and up."""
        if told.times:
            self._begin(_Job(sandbox, endpoint.mac, endpoint.link, told, moved=False))

    def once_moved(self, endpoint: EndpointRecord, sandbox: str, told: Advertisement) -> None:
        """Announce a link as soon as the engine has moved it into a container."""
        if told.times:
            self._begin(_Job(sandbox, endpoint.mac, endpoint.link, told, moved=True))

    def forget(self, endpoint: EndpointRecord) -> None:
        """Announce a link no more: it goes."""
        self._wanted.discard(endpoint.link)

    async def run(self) -> None:
        """Never returns."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._announce(await self._jobs.get()))

    def _begin(self, job: _Job) -> None:
        self._wanted.add(job.link)
        try:
            self._jobs.put_nowait(job)
        except asyncio.QueueFull:
            log.debug("too many containers at once: the addresses of one are not announced")

    async def _announce(self, job: _Job) -> None:
        try:
            told = await (self._when_moved(job) if job.moved else self._tell(job))
            for _ in range(job.told.times - 1):
                if not told:
                    break
                await asyncio.sleep(job.told.every)
                told = await self._tell(job)
        except MacvlanGlobalError as error:
            log.debug("the addresses of a container are not announced: %s", error)
        finally:
            self._wanted.discard(job.link)

    async def _when_moved(self, job: _Job) -> bool:
        wait = LOOK_SECONDS
        while job.link in self._wanted and wait < MOVED_SECONDS:
            # not at once: the engine is still at work on it, and the kernel would have both wait for each other
            await asyncio.sleep(wait)
            wait *= 1.5
            if await self._tell(job):
                return True
        return False

    async def _tell(self, job: _Job) -> bool:
        return job.link in self._wanted and await self._kernel.announce(job.sandbox, job.mac, job.link)


def _number(text: str, default: int, least: int, most: int) -> int:
    found = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else default
    return found if least <= found <= most else default
