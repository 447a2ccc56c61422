"""Limits follow the speed of the machine, and what suites took is told before they begin."""

import asyncio
from pathlib import Path

import pytest

from lab.speed import WORK_SECONDS, Allowance, pace, patience, read_load, within
from lab.suite import expected, read_times, write_times


class Machine:
    """A clock that tests set, and a pace."""

    def __init__(self) -> None:
        """Idle."""
        self.now = 1000.0
        self.pace = 1.0

    def allowance(self, seconds: float) -> Allowance:
        """A limit on this machine."""
        return Allowance(seconds, clock=lambda: self.now, pace=lambda: self.pace)


@pytest.mark.parametrize(
    ("load", "runnable", "work", "times"),
    [
        (0.0, 1, 1.0, 1.0),
        (1.9, 2, 1.4, 1.4),
        (8.0, 2, 1.0, 4.0),
        (0.5, 6, 1.0, 3.0),
        (4.0, 4, 5.0, 5.0),
        (900.0, 3, 1.0, 10.0),
    ],
)
def test_pace_of_a_machine_with_two_processors(load: float, runnable: int, work: float, times: float) -> None:
    """What waits for a processor, and what work takes on it, make all things last longer; idle is never quicker."""
    assert pace(load=load, runnable=runnable, processors=2, work=work * WORK_SECONDS) == pytest.approx(times)


def test_the_kernels_words_are_read() -> None:
    """The average of a minute, and who wants a processor at this moment."""
    assert read_load("2.43 1.35 0.71 5/142 2307\n") == (2.43, 5)


def test_a_limit_lasts_as_much_longer_as_the_machine_is_slower() -> None:
    """Also if it gets busy only after the limit began, and is idle again before it ends."""
    machine = Machine()
    limit = machine.allowance(10)
    for pace_of_it, seconds, over in ((1.0, 5, False), (4.0, 16, False), (1.0, 0.5, False), (1.0, 0.6, True)):
        machine.pace = pace_of_it
        machine.now += seconds
        assert limit.over == over
    assert str(limit) == "10 s (here 22 s, as this machine is slow or busy)"


def test_a_limit_begins_again_with_progress() -> None:
    """Work of any length is not ended while it goes on."""
    machine = Machine()
    limit = machine.allowance(10)
    for _ in range(5):
        machine.now += 9
        assert not limit.over
        limit.begin_again()
    machine.now += 11
    assert limit.over
    assert str(limit) == "10 s"


def test_patience_is_never_less_than_what_was_asked() -> None:
    """An idle machine gets what is written, a busy one more."""
    assert patience(5) >= 5


def test_what_suites_took_is_kept(tmp_path: Path) -> None:
    """A suite that never passed here is not known; nor is anything where a file is missing or broken."""
    times = tmp_path / "build/times.json"
    assert read_times(times) == {}
    write_times(times, {"e2e": 412.34})
    assert expected(["e2e", "demo"], read_times(times)) == ["  e2e: 412 s last time", "  demo: not known yet"]
    times.write_text("[]")
    assert read_times(times) == {}
    times.write_text('{"e2e"')
    assert read_times(times) == {}


async def test_a_block_that_is_not_done_in_time_is_ended() -> None:
    """As by `asyncio.timeout`; one that is done leaves nothing behind that would end what comes after it."""
    async with within(60):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with within(0.05):
            await asyncio.Event().wait()
