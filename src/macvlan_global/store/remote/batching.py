"""Batching of operations: those that arrive at the same time share one request to the store.

A request costs the store and this process far more than the operations in it. The first operation is sent at once;
those that arrive meanwhile go in the next request, when the one under way ends, or after `GATHER` seconds. Callers that
were answered together tend to come again together: the first of them waits `AGAIN` seconds for the others. A lone
operation never waits.

A request has room for so much: `MOST` operations, and no more of them than their shares of it allow.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from macvlan_global.store.remote.members import AnswerLost

GATHER = 0.01
"""Seconds that an operation waits for the request before its own to end."""
AGAIN = 0.001
"""Seconds that the first caller who comes again waits for the others who were answered just now. Without that, the
first of sixteen goes alone, the others wait for its end, and every second request has one operation."""
MOST = 32
"""Operations of one request, if each has its usual share of it."""

Q = TypeVar("Q")
A = TypeVar("A")

Send = Callable[[Sequence[Q], float], Awaitable[Sequence[A] | None]]
"""Asks for operations, which must be over at a time of the loop's clock; what came of each, in their order.

None says that they were refused together and that nothing was done: then each is asked for alone.
"""


class _Waiting(Generic[Q, A]):
    def __init__(self, what: Q, until: float, told: "asyncio.Future[A]") -> None:
        self.what = what
        self.until = until
        self.told = told


class Batcher(Generic[Q, A]):
    """Batches operations. Two with one key never share a request."""

    def __init__(
        self,
        send: "Send[Q, A]",
        gather: float | None = GATHER,
        again: float = AGAIN,
        *,
        share: Callable[[Q], float] = lambda _what: 1 / MOST,
    ) -> None:
        """`send` asks; what it raises is raised for every operation of that request. Times are in seconds.

        Without `gather` an operation waits for the request before its own to end, however long that takes. `share` is
        the share of a request that an operation takes: together they have 1.
        """
        self._send = send
        self._gather = gather
        self._again = again
        self._share = share
        self._left = 1.0
        self._next: dict[object, _Waiting[Q, A]] = {}
        self._under_way = 0
        self._tasks = set[asyncio.Task[None]]()
        self._timer: asyncio.TimerHandle | None = None
        self._expected = 0
        self._ended = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, and nothing waits."""
        return not self._under_way and not self._next

    async def ask(self, key: object, what: Q, until: float) -> A:
        """Ask for one operation, which must be over at `until` on the loop's clock; what came of it.

        Who is cancelled while it waits is not asked for; who is cancelled later may have been.

        Raises:
            Exception: what `send` raised for it and those it went with.
        """
        loop = asyncio.get_running_loop()
        share = self._share(what)
        if self._next and (key in self._next or share > self._left or len(self._next) >= MOST):
            self._go()
        waiting = _Waiting[Q, A](what, until, loop.create_future())
        self._next[key] = waiting
        self._left -= share
        if not self._under_way:
            self._go_if_all_are_here()
        elif self._timer is None and self._gather is not None:
            self._timer = loop.call_later(self._gather, self._go)
        return await waiting.told

    def _go_if_all_are_here(self) -> None:
        """Nothing is under way: go, unless some who were answered just now have not come again yet."""
        loop = asyncio.get_running_loop()
        if len(self._next) >= self._expected or loop.time() - self._ended > GATHER:
            self._go()
        elif self._timer is None:
            self._timer = loop.call_later(self._again, self._go)

    def _go(self) -> None:
        self._stop_timer()
        many = [each for each in self._next.values() if not each.told.done()]
        self._next, self._left = {}, 1.0
        if many:
            self._under_way += len(many)
            task = asyncio.get_running_loop().create_task(self._ask(many))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    async def _ask(self, many: "Sequence[_Waiting[Q, A]]") -> None:
        try:
            answers = await self._send([each.what for each in many], min(each.until for each in many))
            if answers is not None and len(answers) != len(many):
                raise RuntimeError(f"{len(answers)} answers for {len(many)} operations")
        except Exception as error:  # noqa: BLE001 # it is theirs who wait
            self._fail(many, error)
            return
        except asyncio.CancelledError:  # the loop ends; some of them may have been done
            self._fail(many, AnswerLost("the driver is stopping"))
            raise
        if answers is None:
            await asyncio.gather(*(self._ask([each]) for each in many))
            return
        self._end(len(many))
        for each, answer in zip(many, answers, strict=True):
            if not each.told.done():
                each.told.set_result(answer)

    def _fail(self, many: "Sequence[_Waiting[Q, A]]", error: Exception) -> None:
        self._end(len(many))
        for each in many:
            if not each.told.done():
                each.told.set_exception(error)

    def _end(self, count: int) -> None:
        """So many are going to be told what came of theirs, and may come again."""
        self._under_way -= count
        if self._under_way:
            return
        self._stop_timer()  # which was for the end of this request
        self._expected = min(len(self._next) + count, MOST)
        self._ended = asyncio.get_running_loop().time()
        if self._next:
            self._go_if_all_are_here()
