"""The undo stack."""

import asyncio
from functools import partial

import pytest

from macvlan_global.driver.undo import Leftovers, Undo
from macvlan_global.errors import Conflict, Unavailable


class Steps:
    """Undos that say that they ran."""

    def __init__(self) -> None:
        """None ran yet."""
        self.undone: list[str] = []
        self.leftovers = Leftovers()

    async def undo(self, name: str, error: Exception | None = None) -> None:
        """Say so, and fail if told to."""
        self.undone.append(name)
        if error:
            raise error


async def _fail_with(steps: Steps, error: BaseException, *bad: Exception | None) -> None:
    async with Undo("the test", steps.leftovers) as undo:
        for number, problem in enumerate(bad):
            undo.push(f"{number}", partial(steps.undo, f"{number}", problem))
        raise error


async def test_success_undoes_nothing() -> None:
    """What was done stays done."""
    steps = Steps()
    async with Undo("the test", steps.leftovers) as undo:
        undo.push("a", lambda: steps.undo("a"))
    assert steps.undone == []
    assert not steps.leftovers.suspected.is_set()


async def test_failure_undoes_in_reverse_and_goes_on_its_way() -> None:
    """The caller gets the error itself."""
    steps = Steps()
    with pytest.raises(Conflict, match="first"):
        await _fail_with(steps, Conflict("first"), None, None)
    assert steps.undone == ["1", "0"]
    assert not steps.leftovers.suspected.is_set()


@pytest.mark.parametrize("problem", [Unavailable("no"), ValueError("a bug")])
async def test_an_undo_that_fails_does_not_stop_the_others(
    problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, repair is told, and the first error is the one that is told."""
    steps = Steps()
    with pytest.raises(Conflict, match="first"):
        await _fail_with(steps, Conflict("first"), None, problem)
    assert steps.undone == ["1", "0"]
    assert "so did undoing 1" in caplog.text
    assert steps.leftovers.suspected.is_set()


async def test_a_cancelled_request_is_undone() -> None:
    """The engine hung up, or the driver stops. What the engine released meanwhile is repair's to find."""
    steps = Steps()
    waiting = asyncio.Event()

    async def work() -> None:
        async with Undo("the test", steps.leftovers) as undo:
            undo.push("a", lambda: steps.undo("a"))
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(work())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps.undone == ["a"]
    assert steps.leftovers.suspected.is_set()


@pytest.mark.parametrize("is_given_up", [False, True])
async def test_leftovers_are_suspected_once_all_is_undone(is_given_up: bool) -> None:
    """The store plays it: it is slow, and what an undo writes last is the youngest. An undo may be cancelled, too."""
    steps = Steps()
    begun, undoing, goes_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def undo() -> None:
        undoing.set()
        await goes_on.wait()

    async def work() -> None:
        async with Undo("the test", steps.leftovers) as stack:
            stack.push("a", undo)
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(work())
    await begun.wait()
    task.cancel()
    await undoing.wait()
    assert not steps.leftovers.suspected.is_set()
    if is_given_up:
        task.cancel()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps.leftovers.suspected.is_set()
