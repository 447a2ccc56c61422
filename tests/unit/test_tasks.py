"""Tasks without an end, on virtual time: failures are logged and tried again, and only a cancellation ends them."""

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from macvlan_global.errors import Conflict, Unavailable
from macvlan_global.tasks import Crowd, attempt, each, forever, when
from testkit.virtual_time import VirtualLoop

EPSILON = 1e-6
"""Times are sums of floating-point numbers."""


def play(story: Callable[[], Awaitable[None]]) -> None:
    """Run a story on an event loop where waiting takes no time."""

    async def run() -> None:
        await story()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


async def run_for(seconds: float, endless: Awaitable[object]) -> None:
    """Run what has no end for so long, then cancel it."""
    task = asyncio.ensure_future(endless)
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


class Script:
    """Work that does what its script says: raises an error, or waits for a second and returns."""

    def __init__(self, *script: BaseException | None) -> None:
        """After the script, everything works."""
        self._script = list(script)
        self.times: list[float] = []

    async def __call__(self) -> None:
        """One pass."""
        self.times.append(asyncio.get_running_loop().time())
        error = self._script.pop(0) if self._script else None
        if error:
            raise error
        await asyncio.sleep(1)

    @property
    def pauses(self) -> list[float]:
        """Seconds between the passes."""
        return [later - earlier for earlier, later in itertools.pairwise(self.times)]


def test_work_is_run_again_whatever_it_raises() -> None:
    """An error of ours, a foreign exception, a group of them and a stray cancellation: the next pass comes."""

    async def story() -> None:
        group = ExceptionGroup("two", [OSError(24, "Too many open files"), ValueError("x")])
        work = Script(Unavailable("away"), OSError(24, "Too many open files"), group, asyncio.CancelledError(), None)
        await run_for(60, forever("testing", work, first=1, last=1))
        assert len(work.times) > 20

    play(story)


def test_pauses_double_up_to_the_last_and_begin_anew_after_success() -> None:
    """Each pause is between half of its length and all of it; a pass that works resets them."""

    async def story() -> None:
        away = Unavailable("away")
        work = Script(away, away, away, away, None, away, away)
        await run_for(60, forever("testing", work, first=1, last=4))
        longest = [1, 2, 4, 4, 1, 1, 2]  # the fifth is no pause: the pass itself takes a second
        for pause, limit in zip(work.pauses, longest, strict=False):
            assert limit / 2 - EPSILON <= pause <= limit + EPSILON

    play(story)


def test_a_failure_is_logged_once_until_it_changes_or_work_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    """Three times the same is one line; another one is a line; that it works again is said; then it is news again."""

    async def story() -> None:
        away, refused = Unavailable("away"), Unavailable("refused")
        work = Script(away, away, Unavailable("away"), refused, None, refused, None)
        await run_for(60, forever("testing", work, first=1, last=1))

    caplog.set_level(logging.INFO)
    play(story)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "testing failed, it is tried again: away"),
        ("WARNING", "testing failed, it is tried again: refused"),
        ("INFO", "testing works again"),
        ("WARNING", "testing failed, it is tried again: refused"),
        ("INFO", "testing works again"),
    ]


def test_a_foreign_exception_is_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    """It is a bug, whatever level the loop has for errors that are expected."""

    async def story() -> None:
        work = Script(OSError(24, "Too many open files"), Unavailable("away"))
        await run_for(60, forever("testing", work, first=1, last=1, level=logging.DEBUG))

    caplog.set_level(logging.INFO)
    play(story)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info and record.exc_info[0] is OSError


def test_a_fatal_error_ends_the_loop() -> None:
    """The driver must stop then; another error of ours does not end it."""

    async def story() -> None:
        with pytest.raises(Conflict, match="another host"):
            await forever(
                "testing", Script(Unavailable("x"), Conflict("another host")), first=1, last=1, fatal=(Conflict,)
            )
        await run_for(9, forever("testing", Script(Conflict("another address")), first=1, last=1))

    play(story)


def test_each_item_of_a_stream_resets_the_pause() -> None:
    """A stream that gave something begins again after the first pause; without items the pause grows."""

    async def story() -> None:
        begins: list[float] = []
        loop = asyncio.get_running_loop()

        async def stream() -> AsyncGenerator[None]:
            begins.append(loop.time())
            if len(begins) <= 3:
                yield
                raise Unavailable("the connection is gone")

        await run_for(60, forever("testing", stream, first=1, last=64))
        pauses = [later - earlier for earlier, later in itertools.pairwise(begins)]
        assert all(0.5 <= pause <= 1 for pause in pauses[:3])
        assert pauses[5] >= 4

    play(story)


def test_a_stream_is_closed_when_its_consumer_is_cancelled() -> None:
    """Its `finally` has run when the cancellation is over, and not when it is collected."""

    async def story() -> None:
        closed: list[str] = []

        async def stream() -> AsyncGenerator[None]:
            try:
                yield
                await asyncio.Event().wait()
            finally:
                closed.append("closed")

        await run_for(1, forever("testing", stream, first=1, last=1))
        assert closed == ["closed"]

    play(story)


def test_a_loop_ends_though_its_work_fails_on_the_way_out() -> None:
    """A cancellation during which something fails, or that somebody takes for a timeout, is one all the same."""

    async def work() -> None:
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            raise TimeoutError from None

    async def story() -> None:
        await run_for(0.5, forever("working", work, first=1, last=1))

    play(story)


def test_one_item_does_not_hold_up_or_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """A queue goes on after an item that fails, foreign or not, and beside one that takes long."""

    async def story() -> None:
        queue: asyncio.Queue[str] = asyncio.Queue()
        done: list[str] = []

        async def work(item: str) -> None:
            if item == "foreign":
                raise OSError(105, "No buffer space available")
            if item == "ours":
                raise Unavailable("away")
            await asyncio.sleep(100 if item == "long" else 0)
            done.append(item)

        for item in ("long", "foreign", "ours", "good"):
            queue.put_nowait(item)
        await run_for(10, each(queue, work, "testing"))
        assert done == ["good"]

    play(story)
    assert [record.getMessage() for record in caplog.records] == ["testing failed", "testing failed: away"]


def test_no_more_items_than_allowed_are_worked_on() -> None:
    """The rest stays in the queue, which may refuse what comes then."""

    async def story() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        now: set[int] = set()
        most = 0

        async def work(item: int) -> None:
            nonlocal most
            now.add(item)
            most = max(most, len(now))
            await asyncio.sleep(1)
            now.remove(item)

        for item in range(7):
            queue.put_nowait(item)
        await run_for(10, each(queue, work, "testing", at_once=2))
        assert (most, now, queue.qsize()) == (2, set(), 0)

    play(story)


def test_an_attempt_says_whether_it_was_done(caplog: pytest.LogCaptureFixture) -> None:
    """A failure of any kind is logged and false."""

    async def story() -> None:
        assert await attempt("testing", Script()())
        assert not await attempt("testing", Script(Unavailable("away"))())
        assert not await attempt("testing", Script(OSError(24, "Too many open files"))())

    play(story)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


def test_what_failed_is_due_again() -> None:
    """The event is set again by a failure, and stays clear after success."""

    async def story() -> None:
        due = asyncio.Event()
        due.set()
        script = Script(Unavailable("away"), OSError(24, "Too many open files"))

        async def work() -> None:
            async with when(due):
                await script()

        await run_for(60, forever("testing", work, first=1, last=1))
        assert len(script.times) == 3
        assert not due.is_set()

    play(story)


def test_a_burst_of_events_is_one_pass_and_silence_one_too() -> None:
    """Events within `settle` seconds are answered together; without any, `at_most` seconds pass."""

    async def story() -> None:
        loop, due, times = asyncio.get_running_loop(), asyncio.Event(), list[float]()

        async def work() -> None:
            async with when(due, at_most=10, settle=2):
                times.append(loop.time())

        task = asyncio.ensure_future(forever("testing", work, first=1, last=1))
        for _ in range(3):
            due.set()
            await asyncio.sleep(0.5)
        await run_for(15, asyncio.shield(task))
        task.cancel()
        assert times == [2, 12]

    play(story)


def test_what_many_hosts_do_at_once_spreads_over_a_while_that_grows_with_them() -> None:
    """Up to so much for each, and up to so much in all; a host alone waits for nobody."""
    crowd = Crowd()
    assert {crowd.spread(10.0) for _ in range(10)} == {0.0}
    for hosts, longest in ((2, 0.2), (50, 5.0), (1000, 10.0)):
        crowd.hosts = hosts
        drawn = [crowd.spread(10.0, 0.1) for _ in range(500)]
        assert 0 <= min(drawn) < longest / 4
        assert longest * 3 / 4 < max(drawn) <= longest
