"""Runs of numbers behave as a set of numbers does."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from macvlan_global.ipam.intervals import IntervalSet
from tests.property.examples import examples

NUMBERS = st.integers(0, 40)
CHANGES = st.lists(st.tuples(st.booleans(), NUMBERS), max_size=80)


@settings(max_examples=examples(300))
@given(st.lists(NUMBERS), CHANGES, NUMBERS, NUMBERS)
def test_as_a_set(first: list[int], changes: list[tuple[bool, int]], start: int, stop: int) -> None:
    """After any changes: size, membership, what is held in a window, and the next free number."""
    held, model = IntervalSet(first), set(first)
    for adds, number in changes:
        (held.add if adds else held.discard)(number)
        (model.add if adds else model.discard)(number)
    assert len(held) == len(model)
    assert [number for number in range(42) if number in held] == sorted(model)
    assert held.held_in(start, stop) == len(model & set(range(start, stop)))
    assert held.next_free(start, stop) == next((each for each in range(start, stop) if each not in model), None)
    held.cut(start, stop)
    left = model - set(range(start, stop))
    assert (len(held), [number for number in range(42) if number in held]) == (len(left), sorted(left))


@settings(max_examples=examples(300))
@given(st.lists(NUMBERS), CHANGES)
def test_runs_are_sorted_apart_and_not_empty(first: list[int], changes: list[tuple[bool, int]]) -> None:
    """Which is what makes a full stretch one step."""
    held = IntervalSet(first)
    for adds, number in changes:
        (held.add if adds else held.discard)(number)
    borders = [border for run in zip(held._starts, held._ends, strict=True) for border in run]
    assert all(one < other for one, other in pairwise(borders))
