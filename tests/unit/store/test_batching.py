"""Operations of a store that share requests: who goes with whom, and what each is told."""

import asyncio
from collections.abc import Sequence

import pytest

from lab.speed import within
from macvlan_global.errors import Unavailable
from macvlan_global.store.remote.batching import AGAIN, GATHER, MOST, Batcher
from macvlan_global.store.remote.members import AnswerLost

pytestmark = pytest.mark.virtual_time

NEVER = 1e6
"""Seconds; so long that only the end of a request lets the next one go."""


class _Requests:
    """Requests that end when told to; `x…` is refused wherever it is, `lost…` breaks its request."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.untils: list[float] = []
        self.go = asyncio.Event()

    async def send(self, many: Sequence[str], until: float) -> list[str] | None:
        self.asked.append(list(many))
        self.untils.append(until)
        await self.go.wait()
        if any(each.startswith("lost") for each in many):
            raise AnswerLost("broken")
        if len(many) > 1 and any(each.startswith("x") for each in many):
            return None
        if many[0].startswith("x"):
            raise Unavailable(f"{many[0]} is refused")
        return [each.upper() for each in many]


def _ask(together: Batcher[str, str], *whats: str, until: float = 1e9) -> list[asyncio.Task[str]]:
    return [asyncio.ensure_future(together.ask(each, each, until)) for each in whats]


async def _let_run() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _asked(requests: _Requests, count: int) -> None:
    async with within(5):
        while len(requests.asked) < count:  # noqa: ASYNC110 # it is a clock that makes it so
            await asyncio.sleep(GATHER / 10)


async def test_the_first_goes_at_once_and_the_others_together() -> None:
    """At the end of the first, at the latest; each is told its own answer."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER)
    tasks = _ask(together, "a", "b", "c")
    await _let_run()
    assert requests.asked == [["a"]]
    requests.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C"]
    assert requests.asked == [["a"], ["b", "c"]]


async def test_those_who_were_answered_come_again_together() -> None:
    """As long as all of them come; the first of them does not go alone."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER, NEVER)
    requests.go.set()

    async def ask_without_end(name: str, steps: int) -> None:
        while True:
            await together.ask(name, name, 1e9)
            for _ in range(steps):  # one is quicker than the other
                await asyncio.sleep(0)

    tasks = [asyncio.ensure_future(ask_without_end(name, steps)) for steps, name in enumerate("abcd")]
    for _ in range(1000):  # in turns, in which no time passes
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [sorted(many) for many in requests.asked[:5]] == [["a"], *[["a", "b", "c", "d"]] * 4]


async def test_who_does_not_come_again_is_not_waited_for_any_longer() -> None:
    """A moment, once; then the others are asked for."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER, AGAIN)
    requests.go.set()
    await asyncio.gather(*_ask(together, "a", "b", "c", "d"))
    assert await asyncio.gather(*_ask(together, "e", "f")) == ["E", "F"]
    assert requests.asked == [["a"], ["b", "c", "d"], ["e", "f"]]


async def test_who_is_alone_never_waits() -> None:
    """Neither for those of long ago nor for anybody who might come."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER, NEVER)
    requests.go.set()
    for name in "abc":
        assert await together.ask(name, name, 1e9) == name.upper()


async def test_a_request_that_hangs_holds_nobody_up() -> None:
    """An operation that comes meanwhile waits for a few milliseconds, and later ones go together again."""
    requests = _Requests()
    together = Batcher(requests.send)
    tasks = _ask(together, "a", "b", "c")
    await _asked(requests, 2)
    tasks += _ask(together, "d", "e")
    await _asked(requests, 3)
    assert requests.asked == [["a"], ["b", "c"], ["d", "e"]]
    requests.go.set()
    assert await asyncio.gather(*tasks) == ["A", "B", "C", "D", "E"]


async def test_two_with_one_key_never_share_a_request() -> None:
    """A store refuses a transaction that writes a key twice; the second goes after the first went."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER)
    requests.go.set()
    asked = [together.ask("key", str(number), 1e9) for number in range(4)]
    assert await asyncio.gather(together.ask("other", "o", 1e9), *asked) == ["O", "0", "1", "2", "3"]
    assert [len(many) for many in requests.asked] == [1] * 5


async def test_a_request_has_no_more_than_a_store_takes() -> None:
    """Those beyond go in the next one, without a wait."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER)
    requests.go.set()
    names = [f"{number:03}" for number in range(2 * MOST + 2)]
    assert await asyncio.gather(*_ask(together, *names)) == names
    assert [len(many) for many in requests.asked] == [1, MOST, MOST, 1]


async def test_it_must_be_over_when_the_first_of_them_must() -> None:
    """Nobody waits longer than its own operation may take."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER)
    tasks = [*_ask(together, "a", until=9.0), *_ask(together, "b", until=5.0), *_ask(together, "c", until=7.0)]
    await _let_run()
    requests.go.set()
    await asyncio.gather(*tasks)
    assert requests.untils == [9.0, 5.0]


async def test_who_is_cancelled_while_it_waits_is_not_asked_for() -> None:
    """One that is cancelled later is asked for; both leave the others alone."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER)
    tasks = _ask(together, "a", "b", "c", "d")
    await _let_run()
    tasks[0].cancel()
    tasks[1].cancel()
    await _let_run()
    requests.go.set()
    said = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in said[:2])
    assert said[2:] == ["C", "D"]
    assert requests.asked == [["a"], ["c", "d"]]


async def test_a_lost_answer_is_lost_for_all_of_its_request() -> None:
    """And for nobody else: each finds out for itself what was done."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER)
    requests.go.set()
    tasks = _ask(together, "a", "lost", "b")
    said = await asyncio.gather(*tasks, return_exceptions=True)
    assert said[0] == "A"
    assert [type(each) for each in said[1:]] == [AnswerLost, AnswerLost]
    assert await together.ask("c", "c", 1e9) == "C"


async def test_what_is_refused_together_is_asked_for_alone() -> None:
    """So that one that cannot be done hinders nobody."""
    requests = _Requests()
    together = Batcher(requests.send, NEVER)
    requests.go.set()
    said = await asyncio.gather(*_ask(together, "a", "b", "x", "c"), return_exceptions=True)
    assert [said[0], said[1], said[3]] == ["A", "B", "C"]
    assert str(said[2]) == "x is refused"
    assert requests.asked == [["a"], ["b", "x", "c"], ["b"], ["x"], ["c"]]


async def test_an_answer_that_is_missing_is_an_error_and_no_wait() -> None:
    """A bug in what asks must not leave anybody waiting for ever."""

    async def send(many: Sequence[str], until: float) -> list[str]:
        return []

    with pytest.raises(RuntimeError, match="0 answers for 1"):
        await Batcher(send).ask("a", "a", 1e9)
