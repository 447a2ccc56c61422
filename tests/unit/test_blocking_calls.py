"""Calls that hang keep nobody but those who need them."""

import asyncio
import threading

import pytest

from lab.speed import patience
from macvlan_global.blocking_calls import BlockingCalls, briefly


async def test_a_call_that_hangs_stops_no_other() -> None:
    """It is given up in time, not tried again while it hangs, and there again when it is over."""
    gone, begun = threading.Event(), []

    def call(key: str) -> str:
        begun.append(key)
        if key == "dead":
            gone.wait()
        return key.upper()

    calls = BlockingCalls(call, most=2)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await calls.result("dead", 0.01)
    assert begun == ["dead"]
    assert await calls.result("good", patience(10)) == "GOOD"
    # the threads of asyncio are all free
    assert await asyncio.gather(*(asyncio.to_thread(str, each) for each in range(40)))
    gone.set()
    assert await calls.result("dead", patience(10)) == "DEAD"


async def test_no_more_than_a_few_hang() -> None:
    """Another one is refused at once, until one is over."""
    gone = threading.Event()

    def call(key: str) -> str:
        gone.wait()
        return key

    calls = BlockingCalls(call, most=2)
    for each in ("a", "b"):
        with pytest.raises(TimeoutError):
            await calls.result(each, 0.01)
    with pytest.raises(TimeoutError, match="2 calls hang"):
        await calls.result("c", patience(10))
    gone.set()
    assert await calls.result("a", patience(10)) == "a"


async def test_its_exception_is_that_of_the_request() -> None:
    """Whatever it is."""

    def call(key: str) -> str:
        raise KeyError(key)

    with pytest.raises(KeyError, match="a"):
        await BlockingCalls(call, most=1).result("a", patience(10))


async def test_a_brief_call_is_given_up() -> None:
    """None comes of one that takes too long."""
    gone = threading.Event()
    assert await briefly(gone.wait, 0.01) is None
    gone.set()
    assert await briefly(gone.wait, patience(10)) is True
