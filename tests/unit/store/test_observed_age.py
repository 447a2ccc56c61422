"""Records age by the time that this host observed them, over restarts of its driver."""

from macvlan_global.store.memory import MemoryStore
from macvlan_global.store.observed_age import SAVE_SECONDS, ObservedAges
from macvlan_global.store.table import Tables
from testkit.fake_clock import FakeClock

DAY = 86400.0


class Machine:
    """A disk, and a steady clock that begins anew with each boot."""

    def __init__(self) -> None:
        """Boot it."""
        self.tables = Tables(MemoryStore(), MemoryStore())
        self.boot()

    def boot(self) -> ObservedAges:
        """Begin another run."""
        self.steady = FakeClock(5.0)
        self.ages = ObservedAges(self.tables, "tombstones", steady=self.steady)
        return self.ages


async def test_time_adds_up_over_runs() -> None:
    """The time between two runs does not count, nor does a clock that begins anew."""
    machine = Machine()
    for _ in range(3):
        ages = machine.boot()
        await ages.update({"a"})
        machine.steady.advance(30 * DAY)
        await ages.update({"a"})
    assert ages.older_than(89 * DAY) == ["a"]
    assert ages.older_than(91 * DAY) == []


async def test_a_crash_loses_minutes_and_never_adds_any() -> None:
    """A tombstone that was first seen after the last save is no older than it was."""
    machine = Machine()
    await machine.ages.update({"a"})
    machine.steady.advance(SAVE_SECONDS - 1)
    await machine.ages.update({"a", "b"})
    machine.steady.advance(SAVE_SECONDS - 1)
    await machine.ages.update({"a", "b"})
    again = machine.boot()
    await again.update({"a", "b"})
    assert again.older_than(SAVE_SECONDS - 2) == ["a"]
    assert sorted(again.older_than(-1)) == ["a", "b"]


async def test_one_that_went_and_came_back_begins_anew() -> None:
    """As after a store that was restored from an older copy. Nothing is left of one that went."""
    machine = Machine()
    await machine.ages.update({"a", "b"})
    machine.steady.advance(DAY)
    await machine.ages.update({"b"})
    assert len(await machine.tables.observed.entries("tombstones")) == 1
    await machine.ages.update({"a", "b"})
    assert machine.ages.older_than(DAY - 1) == ["b"]


async def test_thousands_at_once() -> None:
    """All of them are known to the next run."""
    machine = Machine()
    ids = {f"{number:064x}" for number in range(2_000)}
    await machine.ages.update(ids)
    machine.steady.advance(DAY)
    await machine.ages.update(ids)
    again = machine.boot()
    await again.update(ids)
    assert len(again.older_than(DAY - 1)) == len(ids)
