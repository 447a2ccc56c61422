"""Advertise the addresses of new container interfaces: gratuitous ARP (an ARP announcement, RFC 5227 section 2.3) and
unsolicited neighbour advertisements (RFC 4861 section 7.2.6), so that neighbours replace the MAC they know.

Engines before 28 send none, and engine 28 advertises 0.0.0.0 for a plugin's IPv4 addresses: it takes the first four
bytes of an address that Go keeps in sixteen. It happens beside the engine's requests, which never wait for it.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from macvlan_global import tasks
from macvlan_global.errors import MacvlanGlobalError
from macvlan_global.kernel.ports import ContainerLink, Kernel
from macvlan_global.options.engine_keys import EVERY_KEY, TIMES_KEY

log = logging.getLogger(__name__)

TIMES, EVERY_MS = 3, 1000
"""The engine's defaults."""
MOST_TIMES, EVERY_RANGE_MS = 3, (100, 2000)
MOVED_SECONDS = 30.0
LOOK_SECONDS = 0.05
MOST_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Advertisement:
    """Schedule of advertisements for a new interface: how many (0: none), and the seconds in between."""

    times: int = TIMES
    every: float = EVERY_MS / 1000


@dataclass(frozen=True, slots=True)
class _Job:
    link: ContainerLink
    advertisement: Advertisement
    moved: bool
    """Whether the engine still has to move the link."""


def advertisement_of(options: Mapping[str, str]) -> Advertisement:
    """The advertisement that a network's options ask for. Values out of range give the default: engines from 28 on
    have checked them."""
    times = _number(options.get(TIMES_KEY, ""), TIMES, 0, MOST_TIMES)
    return Advertisement(times, _number(options.get(EVERY_KEY, ""), EVERY_MS, *EVERY_RANGE_MS) / 1000)


class Advertiser:
    """Advertises the addresses of this host's container interfaces on tasks of its own, see `run`."""

    def __init__(self, kernel: Kernel) -> None:
        """`kernel` reaches into containers."""
        self._kernel = kernel
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(MOST_WAITING)
        self._wanted: set[str] = set()  # aliases

    def advertise(self, link: ContainerLink, advertisement: Advertisement, *, once_moved: bool = False) -> None:
        """Advertise the addresses of a link that is inside its container and up; with `once_moved`, as soon as the
        engine has moved it there."""
        if not advertisement.times:
            return
        self._wanted.add(link.alias)
        try:
            self._jobs.put_nowait(_Job(link, advertisement, once_moved))
        except asyncio.QueueFull:
            log.debug("too many containers start at once: the addresses of %s are not advertised", link.alias)

    def forget(self, alias: str) -> None:
        """Advertise the addresses of the link with this alias no more: it is about to be deleted."""
        self._wanted.discard(alias)

    async def run(self) -> None:
        """Do the work, until cancelled."""
        await tasks.each(self._jobs, self._work_off, "advertising the addresses of a container", at_once=MOST_WAITING)

    async def _work_off(self, job: _Job) -> None:
        try:
            done = await (self._once_moved(job) if job.moved else self._advertise(job))
            for _ in range(job.advertisement.times - 1):
                if not done:
                    break
                await asyncio.sleep(job.advertisement.every)
                done = await self._advertise(job)
        except MacvlanGlobalError as error:  # it is a courtesy, and the container may have ended: nothing for operators
            log.debug("the addresses of %s are not advertised: %s", job.link.alias, error)
        finally:
            self._wanted.discard(job.link.alias)

    async def _once_moved(self, job: _Job) -> bool:
        wait = LOOK_SECONDS
        while job.link.alias in self._wanted and wait < MOVED_SECONDS:
            # not at once: the engine is still at work on it, and the kernel would have both wait for each other
            await asyncio.sleep(wait)
            wait *= 1.5
            if await self._advertise(job):
                return True
        return False

    async def _advertise(self, job: _Job) -> bool:
        return job.link.alias in self._wanted and await self._kernel.advertise(job.link)


def _number(text: str, default: int, least: int, most: int) -> int:
    found = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else default
    return found if least <= found <= most else default
