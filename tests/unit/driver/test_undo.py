"""The undo stack."""

import asyncio
from functools import partial

import pytest

from macvlan_global.driver.undo import Undo
from macvlan_global.errors import Conflict, Unavailable


class Steps:
    """Undos that say that they ran."""

    def __init__(self) -> None:
        """None ran yet."""
        self.undone: list[str] = []

    async def undo(self, name: str, error: Exception | None = None) -> None:
        """Say so, and fail if told to."""
        self.undone.append(name)
        if error:
            raise error


async def _fail_with(steps: Steps, error: BaseException, *bad: Exception | None) -> None:
    async with Undo("the test") as undo:
        for number, problem in enumerate(bad):
            undo.push(f"{number}", partial(steps.undo, f"{number}", problem))
        raise error


async def test_success_undoes_nothing() -> None:
    """What was done stays done."""
    steps = Steps()
    async with Undo("the test") as undo:
        undo.push("a", lambda: steps.undo("a"))
    assert steps.undone == []


async def test_failure_undoes_in_reverse_and_goes_on_its_way() -> None:
    """The caller gets the error itself."""
    steps = Steps()
    with pytest.raises(Conflict, match="first"):
        await _fail_with(steps, Conflict("first"), None, None)
    assert steps.undone == ["1", "0"]


@pytest.mark.parametrize("problem", [Unavailable("no"), ValueError("a bug")])
async def test_an_undo_that_fails_does_not_stop_the_others(
    problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the first error is the one that is told."""
    steps = Steps()
    with pytest.raises(Conflict, match="first"):
        await _fail_with(steps, Conflict("first"), None, problem)
    assert steps.undone == ["1", "0"]
    assert "so did undoing 1" in caplog.text


async def test_a_cancelled_request_is_undone() -> None:
    """The engine hung up, or the driver stops."""
    steps = Steps()
    waiting = asyncio.Event()

    async def work() -> None:
        async with Undo("the test") as undo:
            undo.push("a", lambda: steps.undo("a"))
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(work())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps.undone == ["a"]
