"""One at a time for each key."""

import asyncio

from lab.speed import within
from macvlan_global.keyed_lock import KeyedLock


async def test_turns_of_one_key_come_in_order_and_others_do_not_wait() -> None:
    """Who asked first is first; another key is free meanwhile; and nothing is kept when all are done."""
    turns = KeyedLock()
    order: list[str] = []

    async def take(key: str, name: str) -> None:
        async with turns.of(key):
            order.append(f"{name} begins")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append(f"{name} ends")

    async with turns.of("c"):
        await asyncio.gather(take("a", "a1"), take("a", "a2"), take("b", "b1"))
        assert len(turns) == 1
    assert order == ["a1 begins", "b1 begins", "a1 ends", "b1 ends", "a2 begins", "a2 ends"]
    assert len(turns) == 0


async def test_whoever_gives_up_waiting_leaves_no_trace() -> None:
    """The next one gets its turn all the same."""
    turns = KeyedLock()
    async with turns.of("a"):
        waiting = asyncio.ensure_future(turns.of("a").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with within(1), turns.of("a"):
        assert len(turns) == 1
    assert len(turns) == 0
