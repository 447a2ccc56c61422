"""A request is answered in time, with the name of what it waited for, and undone behind the answer."""

import asyncio

import pytest

from macvlan_global.deadline import Deadline, held, waiting_for
from macvlan_global.driver.undo import Leftovers, Undo
from macvlan_global.errors import Conflict, Unavailable

pytestmark = pytest.mark.virtual_time


async def _hang() -> None:
    await asyncio.Event().wait()


async def test_what_is_done_in_time_is_the_result() -> None:
    """Its value, or its error."""

    async def fail() -> None:
        raise Conflict("no")

    deadline = Deadline(9)
    assert await deadline.run("it", asyncio.sleep(8, "done")) == "done"
    with pytest.raises(Conflict, match="no"):
        await deadline.run("it", fail())


async def test_what_hangs_is_answered_with_what_it_waits_for() -> None:
    """The innermost wait that goes on, and none that is over or beside."""

    async def work() -> None:
        with waiting_for("the first"):
            await asyncio.sleep(1)
        with waiting_for("the outer"):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(brief())
                tasks.create_task(inner())

    async def brief() -> None:
        with waiting_for("the brief"):
            await asyncio.sleep(2)

    async def inner() -> None:
        with waiting_for("the inner"):
            await _hang()

    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Unavailable, match="Join was not done within 9 s: it waits for the inner; try again"):
        await Deadline(9).run("Join", work())
    assert loop.time() - began == 9


async def test_what_it_did_is_undone_behind_the_answer() -> None:
    """Undoing may take as long as the request did; the answer does not wait for it."""
    undone = []

    async def undo() -> None:
        await asyncio.sleep(5)
        undone.append("step")

    async def work() -> None:
        async with Undo("it", Leftovers()) as stack:
            stack.push("its step", undo)
            await _hang()

    deadline = Deadline(9)
    with pytest.raises(Unavailable, match="it waits for this host"):
        await deadline.run("it", work())
    assert undone == []
    await deadline.settle(3)
    assert undone == []
    await deadline.settle(3)
    assert undone == ["step"]


async def test_who_waits_for_a_lock_is_told_so_and_leaves_it_free() -> None:
    """The next one gets it once its holder is done."""
    lock = asyncio.Lock()

    async def work() -> str:
        async with held(lock, "other requests"):
            return "done"

    deadline = Deadline(9)
    async with lock:
        with pytest.raises(Unavailable, match="it waits for other requests"):
            await deadline.run("it", work())
    assert await deadline.run("it", work()) == "done"
