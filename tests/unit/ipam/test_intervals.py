"""Runs of numbers."""

from macvlan_global.ipam.intervals import IntervalSet


def _runs(held: IntervalSet) -> list[tuple[int, int]]:
    return list(zip(held._starts, held._ends, strict=True))


def test_numbers_in_any_order_become_runs() -> None:
    """Repeats count once, and neighbours are one run."""
    held = IntervalSet([5, 1, 2, 2, 3, 9])
    assert _runs(held) == [(1, 4), (5, 6), (9, 10)]
    assert len(held) == 5


def test_adding_joins_the_runs_on_both_sides() -> None:
    """What a gap of one held apart becomes one run."""
    held = IntervalSet([1, 2, 4, 5])
    held.add(3)
    assert _runs(held) == [(1, 6)]


def test_adding_and_removing_are_idempotent() -> None:
    """Twice is once."""
    held = IntervalSet()
    for _ in range(2):
        held.add(7)
    assert len(held) == 1
    for _ in range(2):
        held.discard(7)
    assert len(held) == 0
    assert _runs(held) == []


def test_removing_splits_or_shortens_a_run() -> None:
    """At its start, at its end, in its middle."""
    held = IntervalSet(range(10))
    for number in (0, 9, 5):
        held.discard(number)
    assert _runs(held) == [(1, 5), (6, 9)]


def test_the_next_free_number_leaps_over_a_run() -> None:
    """And there is none if the run reaches the end of the window."""
    held = IntervalSet(range(10, 20))
    assert held.next_free(12, 30) == 20
    assert held.next_free(5, 30) == 5
    assert held.next_free(12, 20) is None
    assert held.next_free(7, 7) is None


def test_held_in_a_window_cuts_runs_at_its_borders() -> None:
    """Runs that reach over a border count with their part inside."""
    held = IntervalSet([*range(10, 20), *range(30, 40)])
    assert held.held_in(15, 35) == 10
    assert held.held_in(20, 30) == 0
    assert held.held_in(0, 100) == 20
    assert held.held_in(25, 25) == 0


def test_a_full_slash_eight_is_one_run() -> None:
    """Sixteen million numbers, and the next free one is one step away."""
    held = IntervalSet()
    held._starts, held._ends, held._size = [0], [1 << 24], 1 << 24
    held.discard(12_345_678)
    assert held.next_free(0, 1 << 24) == 12_345_678


def test_cutting_leaves_the_numbers_on_both_sides() -> None:
    """The first one behind the cut as well, and the count is right."""
    held = IntervalSet(range(3, 10))
    held.cut(0, 5)
    assert (_runs(held), len(held)) == ([(5, 10)], 5)
    held.cut(7, 8)
    assert (_runs(held), len(held)) == ([(5, 7), (8, 10)], 4)
