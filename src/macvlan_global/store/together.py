"""Operations that are asked for at the same time share one request to the store.

A request costs the store and this process far more than what is in it. Whoever comes first is asked for at once; those
who come while that is under way wait for its end, or a few milliseconds, and then go together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from macvlan_global.store.endpoints import AnswerLost

GATHER = 0.01
"""Seconds that an operation waits for the request before its own to end."""
MOST = 32
"""Operations of one request. Consul takes 64 steps in a transaction, of which an operation has up to two."""

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


class Together(Generic[Q, A]):
    """Puts operations together. Two with one key never share a request."""

    def __init__(self, send: "Send[Q, A]", gather: float = GATHER) -> None:
        """`send` asks; what it raises is raised for every operation of that request. `gather` is in seconds."""
        self._send = send
        self._gather = gather
        self._next: dict[object, _Waiting[Q, A]] = {}
        self._under_way = set[asyncio.Task[None]]()
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, key: object, what: Q, until: float) -> A:
        """Ask for one operation, which must be over at `until` on the loop's clock; what came of it.

        Who is cancelled while it waits is not asked for; who is cancelled later may have been.

        Raises:
            Exception: what `send` raised for it and those it went with.
        """
        loop = asyncio.get_running_loop()
        if key in self._next or len(self._next) >= MOST:
            self._go()
        waiting = _Waiting[Q, A](what, until, loop.create_future())
        self._next[key] = waiting
        if not self._under_way:
            self._go()
        elif self._timer is None:
            self._timer = loop.call_later(self._gather, self._go)
        return await waiting.told

    def _go(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        many = [each for each in self._next.values() if not each.told.done()]
        self._next = {}
        if many:
            task = asyncio.get_running_loop().create_task(self._ask(many))
            self._under_way.add(task)
            task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not self._under_way:
            self._go()

    async def _ask(self, many: "Sequence[_Waiting[Q, A]]") -> None:
        try:
            answers = await self._send([each.what for each in many], min(each.until for each in many))
            if answers is None:
                await asyncio.gather(*(self._ask([each]) for each in many))
                return
            if len(answers) != len(many):
                raise RuntimeError(f"{len(answers)} answers for {len(many)} operations")
        except Exception as error:  # noqa: BLE001 # it is theirs who wait
            _tell(many, error)
        except asyncio.CancelledError:  # the loop ends; some of them may have been done
            _tell(many, AnswerLost("the driver is stopping"))
            raise
        else:
            for each, answer in zip(many, answers, strict=True):
                if not each.told.done():
                    each.told.set_result(answer)


def _tell(many: "Sequence[_Waiting[Q, A]]", error: Exception) -> None:
    for each in many:
        if not each.told.done():
            each.told.set_exception(error)
