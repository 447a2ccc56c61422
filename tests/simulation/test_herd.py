"""All hosts at once: the store comes back to them, or power does. Here the store plays one that was away, and the line
to it is as slow for so few hosts as 1 Gbit/s is for a thousand.
"""

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from typing import TypeVar

from testkit.herd import Herd, Passed
from testkit.virtual_time import LeanLoop

T = TypeVar("T")

HOSTS = int(os.environ.get("MACVLAN_GLOBAL_TESTS_HERD") or 40)
"""A thousand are for a run by hand."""
RATE = 125e6 / 1000
"""Bytes a second of each host's share of a line of 1 Gbit/s."""
REENTRY = {"alive/", "hosts/"}
"""Read by hosts whose leases have ended, as they enter the cluster again."""
RETRY_SECONDS = 15.0
"""Between two tries of a host that waits for the store, at most."""


def _play(story: Callable[[Herd], Coroutine[None, None, T]], hosts: int = HOSTS) -> T:
    random.seed(1)  # our own code draws its pauses from here

    async def play() -> T:
        herd = Herd(hosts, rate=hosts * RATE)
        await herd.settle()
        try:
            return await story(herd)
        finally:
            herd.end()

    with asyncio.Runner(loop_factory=LeanLoop) as runner:
        return runner.run(play())


def test_after_an_outage_in_which_nothing_was_lost_nobody_reads_everything() -> None:
    """Shorter than the leases of hosts, a minute, or an hour: watches go on where they were. Hosts enter the cluster
    again without asking who else is there."""

    async def story(herd: Herd) -> list[Passed]:
        return [await herd.lose_store(seconds) for seconds in (10.0, 60.0, 3600.0)]

    for passed in _play(story):
        assert set(passed.whole) <= REENTRY, passed
        assert max(passed.whole.values(), default=0) <= 2, passed
        assert passed.seconds <= _seconds(passed), passed


def test_after_a_power_cut_all_hosts_serve_again_and_no_step_reads_twice() -> None:
    """A start loads the addresses; repair reads them without the engine, with it, once the watches have begun, and once
    nothing is younger than its grace period."""

    async def story(herd: Herd) -> Passed:
        return await herd.lose_power()

    passed = _play(story)
    assert max(passed.whole.values()) <= 5, passed
    assert passed.seconds <= _seconds(passed), passed


def test_a_host_at_rest_pays_the_same_in_a_cluster_three_times_as_large() -> None:
    """Bytes of half an hour, with all periodic work, for hosts whose networks are as large."""

    async def story(herd: Herd) -> Passed:
        return await herd.rest(1800.0)

    small, large = (_play(story, hosts) for hosts in (20, 60))
    assert large.bytes_each <= 1.2 * small.bytes_each


def _seconds(passed: Passed) -> float:
    """The time that it takes: a try that waits for its turn, and all bytes over the line."""
    return RETRY_SECONDS + passed.bytes_each / RATE
