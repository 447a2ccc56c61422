"""Threads that do work in the order in which it came, and callers that go away meanwhile."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from lab.speed import patience, within
from macvlan_global.kernel.workers import ThreadLost, Workers


class Gate:
    """Work that a test lets go on."""

    def __init__(self) -> None:
        """Closed, and nobody stands before it."""
        self.reached = threading.Event()
        self.open = threading.Event()

    def pass_through(self) -> str:
        """Wait until it is open."""
        self.reached.set()
        self.open.wait(patience(30))
        return "through"

    async def is_reached(self) -> None:
        """Wait for somebody to stand before it."""
        assert await asyncio.to_thread(self.reached.wait, patience(30))


async def _turns() -> None:
    """Let the event loop do all that is due."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_work_is_done_in_its_order_by_one_thread() -> None:
    """Results and errors go to who asked."""
    workers, done = Workers("one"), []

    def work(number: int) -> Callable[[], int]:
        def call() -> int:
            done.append((number, threading.get_ident()))
            if number == 3:
                raise LookupError("three")
            return number

        return call

    results = await asyncio.gather(*(workers.run(work(number)) for number in range(6)), return_exceptions=True)
    assert [str(each) for each in results] == ["0", "1", "2", "three", "4", "5"]
    assert [number for number, _ in done] == list(range(6))
    assert len({thread for _, thread in done}) == 1
    assert done[0][1] != threading.get_ident()
    workers.close()


async def test_several_threads_work_side_by_side_and_no_more_than_allowed() -> None:
    """The third waits for one of the two."""
    workers, gates = Workers("two", 2), [Gate(), Gate(), Gate()]
    asked = [asyncio.ensure_future(workers.run(each.pass_through)) for each in gates]
    await gates[0].is_reached()
    await gates[1].is_reached()
    assert not gates[2].reached.is_set()
    gates[1].open.set()
    assert await asked[1] == "through"
    await gates[2].is_reached()
    for each in gates:
        each.open.set()
    assert await asyncio.gather(*asked) == ["through"] * 3
    workers.close()


@pytest.mark.parametrize("to_the_end", [False, True])
async def test_work_that_was_begun_is_waited_for_if_that_is_wanted(*, to_the_end: bool) -> None:
    """Its caller is cancelled either way; what waits behind it and is cancelled is never done."""
    workers, gate, done = Workers("one"), Gate(), []
    begun = asyncio.ensure_future(workers.run(gate.pass_through, to_the_end=to_the_end))
    await gate.is_reached()
    waiting = asyncio.ensure_future(workers.run(lambda: done.append("never"), to_the_end=to_the_end))
    await asyncio.sleep(0)
    for each in (begun, waiting):
        each.cancel()
    await asyncio.wait({waiting})
    assert begun.done() is not to_the_end
    gate.open.set()
    await asyncio.wait({begun})
    assert begun.cancelled()
    assert waiting.cancelled()
    assert await workers.run(lambda: "next") == "next"
    assert done == []
    workers.close()


async def test_a_second_cancellation_changes_nothing() -> None:
    """At the driver's end a request may be cancelled that its deadline had cancelled."""
    workers, gate = Workers("one"), Gate()
    begun = asyncio.ensure_future(workers.run(gate.pass_through, to_the_end=True))
    await gate.is_reached()
    for _ in range(3):
        begun.cancel()
        await _turns()
    assert not begun.done()
    gate.open.set()
    await asyncio.wait({begun})
    assert begun.cancelled()
    workers.close()


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_at_the_end_nobody_who_was_cancelled_waits(*, cancelled_first: bool) -> None:
    """A kernel that keeps a thread must not keep the driver from stopping."""
    workers, gate = Workers("one"), Gate()
    begun = asyncio.ensure_future(workers.run(gate.pass_through, to_the_end=True))
    await gate.is_reached()
    steps: list[Callable[[], object]] = [begun.cancel, workers.close]
    for step in steps if cancelled_first else reversed(steps):
        step()
        await _turns()
    assert begun.cancelled()
    gate.open.set()


async def test_at_the_end_what_was_asked_is_done_and_nothing_else() -> None:
    """Each thread says goodbye."""
    ended = threading.Event()
    workers, gate = Workers("one", at_end=ended.set), Gate()
    asked = asyncio.ensure_future(workers.run(gate.pass_through))
    await gate.is_reached()
    for _ in range(2):
        workers.close()
    with pytest.raises(RuntimeError, match="have ended"):
        await workers.run(str)
    assert not ended.is_set()
    gate.open.set()
    assert await asked == "through"
    assert await asyncio.to_thread(ended.wait, patience(30))


async def test_without_work_there_is_no_thread() -> None:
    """And its end is none."""
    before = threading.active_count()
    Workers("none", 4).close()
    assert threading.active_count() == before


def test_a_loop_that_ended_does_not_end_the_thread() -> None:
    """The next one is served by it."""
    workers, gate = Workers("one"), Gate()

    async def leave() -> None:
        asked = asyncio.ensure_future(workers.run(gate.pass_through))
        await gate.is_reached()
        asked.cancel()

    asyncio.run(leave())
    gate.open.set()
    assert asyncio.run(workers.run(lambda: "alive")) == "alive"
    workers.close()


async def test_a_thread_that_is_lost_does_nothing_more() -> None:
    """It could not leave a container's namespace, say. Its caller gets the cause, and others go on with a new one."""
    workers = Workers("one")

    def lose() -> None:
        threading.current_thread().name = "lost"
        raise ThreadLost from OSError("no way back")

    def name() -> str:
        return threading.current_thread().name

    lost, after = await asyncio.gather(workers.run(lose), workers.run(name), return_exceptions=True)
    assert repr(lost) == "OSError('no way back')"
    assert after != "lost"
    assert await workers.run(name) == after
    workers.close()


async def test_what_was_asked_before_the_end_is_done_though_the_thread_is_lost() -> None:
    """The threads are let go while the last of them gets lost."""
    workers, gate = Workers("one"), Gate()

    def lose() -> None:
        gate.pass_through()
        raise ThreadLost from OSError("no way back")

    asked = [asyncio.ensure_future(workers.run(each)) for each in (lose, lambda: None)]
    await gate.is_reached()
    workers.close()
    gate.open.set()
    async with within(30):
        lost, after = await asyncio.gather(*asked, return_exceptions=True)
    assert (repr(lost), after) == ("OSError('no way back')", None)
