"""Many entries of a store do not keep the event loop from others."""

import asyncio

from macvlan_global.store.ports import Entry
from macvlan_global.store.remote.many import AT_ONCE, free


async def test_others_have_their_turn_while_many_entries_are_freed() -> None:
    """After each piece; whoever frees 100,000 at once stands still for 15 ms."""
    entries = [Entry(f"names/one/{number}", b"", number) for number in range(3 * AT_ONCE + 1)]
    left: list[int] = []

    async def look() -> None:
        while True:
            left.append(len(entries))
            await asyncio.sleep(0)

    looking = asyncio.ensure_future(look())
    await asyncio.sleep(0)
    await free(entries)
    looking.cancel()
    assert left[:4] == [3 * AT_ONCE + 1, 2 * AT_ONCE + 1, AT_ONCE + 1, 1]
    assert entries == []
