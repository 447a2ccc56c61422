"""Runs of numbers behave as a set of numbers does, and remembered ones are chosen last."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from macvlan_global.ipam.allocator import Occupancy
from macvlan_global.ipam.intervals import IntervalSet, LastResorts
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


_STEPS = st.lists(
    st.tuples(st.sampled_from(["use", "forget", "take", "free", "choose"]), st.integers(0, 15), st.sampled_from("ab")),
    max_size=60,
)


@settings(max_examples=examples(300))
@given(steps=_STEPS, hosts=st.sets(st.integers(0, 15), max_size=4))
def test_remembered_numbers_are_chosen_last_and_the_longest_unused_first(
    steps: list[tuple[str, int, str]], hosts: set[int]
) -> None:
    """Against a plain list: nothing held, nothing of a host, and nothing remembered while others are free."""
    remembered = LastResorts()
    occupancy = Occupancy([], hosts=IntervalSet(hosts), remembered=remembered)
    order: list[int] = []
    reasons: dict[int, set[str]] = {}
    taken: set[int] = set()
    cooling: set[int] = set()
    for step, number, reason in steps:
        if step == "use":
            remembered.add(number, reason)
            reasons.setdefault(number, set()).add(reason)
            order = [each for each in order if each != number] + [number]
        elif step == "forget":
            remembered.drop(number, reason)
            reasons.get(number, set()).discard(reason)
            order = [each for each in order if reasons.get(each)]
        elif step == "take":
            occupancy.take(number)
            taken.add(number)
            cooling.discard(number)
        elif step == "free" and number in taken:
            occupancy.free(number, 0)
            taken.discard(number)
            cooling.add(number)
        elif step == "choose":
            plain = set(range(16)) - hosts - taken - set(order)
            chosen = occupancy.choose(0, 16, 0)
            last = [each for each in order if each not in hosts | taken | cooling]
            if plain:
                assert chosen in plain
            elif last:
                assert chosen == last[0]
            else:
                assert chosen in ({*order} & cooling) - hosts or (chosen is None and not ({*order} & cooling) - hosts)
            if chosen is not None:
                taken.add(chosen)
                cooling.discard(chosen)
        assert list(remembered) == order
