"""Which address comes next."""

import pytest

from macvlan_global.ipam.allocator import COOLING_SECONDS, Occupancy
from macvlan_global.ipam.intervals import IntervalSet, LastResorts


def _choose(occupancy: Occupancy, count: int, now: float = 0.0) -> list[int | None]:
    return [occupancy.choose(1, 6, now) for _ in range(count)]


def test_the_cursor_walks_on_and_stops_when_all_are_held() -> None:
    """Every number once, then none."""
    assert _choose(Occupancy([]), 7) == [1, 2, 3, 4, 5, None, None]


def test_a_freed_number_is_not_chosen_next() -> None:
    """The walk goes on behind the last choice."""
    occupancy = Occupancy([])
    _choose(occupancy, 2)
    occupancy.free(1, now=0)
    assert _choose(occupancy, 1) == [3]


def test_the_walk_comes_round_to_what_has_cooled_off() -> None:
    """After the end it begins anew."""
    occupancy = Occupancy([])
    _choose(occupancy, 5)
    occupancy.free(2, now=0)
    assert _choose(occupancy, 1, now=COOLING_SECONDS) == [2]


def test_a_cooling_number_is_taken_if_nothing_else_is_left_and_the_coolest_first() -> None:
    """A full pool is worse than a warm address."""
    occupancy = Occupancy([])
    _choose(occupancy, 5)
    occupancy.free(4, now=1)
    occupancy.free(2, now=2)
    assert _choose(occupancy, 3, now=3) == [4, 2, None]


def test_a_cooling_number_outside_the_window_is_left_alone() -> None:
    """Two ranges of one subnet share an occupancy, not their addresses."""
    occupancy = Occupancy([1, 2, 3, 9])
    occupancy.free(9, now=0)
    assert occupancy.choose(1, 4, now=0) is None


def test_freeing_what_is_not_held_changes_nothing() -> None:
    """A late or repeated release does not make an address twice as free."""
    occupancy = Occupancy([3])
    occupancy.free(2, now=0)
    occupancy.free(3, now=0)
    occupancy.free(3, now=0)
    assert occupancy.held_in(1, 6) == 0
    assert _choose(occupancy, 5) == [1, 2, 4, 5, 3]


def test_taking_a_cooling_number_ends_its_cooling() -> None:
    """Somebody asked for this very one: it must not be freed when its cooling would have ended."""
    occupancy = Occupancy([3])
    occupancy.free(3, now=0)
    occupancy.take(3)
    assert _choose(occupancy, 5, now=COOLING_SECONDS * 2) == [1, 2, 4, 5, None]


def test_it_begins_behind_the_last_choice_of_an_earlier_run() -> None:
    """A restart does not begin at the start of the pool again."""
    assert Occupancy([1, 2], cursor=2).choose(1, 6, 0) == 3
    assert Occupancy([1], cursor=77).choose(1, 6, 0) == 2, "a cursor of another range does not count"


def test_an_empty_window_has_nothing() -> None:
    """A range that holds only the network address, say."""
    assert Occupancy([]).choose(1, 1, 0) is None


def test_what_hosts_have_is_never_chosen_and_what_was_asked_for_comes_last() -> None:
    """A cool static address before one that cools off; without leave, none of them."""
    hosts, remembered = IntervalSet([2]), LastResorts()
    for number in (3, 4):
        remembered.add(number, "static")
    occupancy = Occupancy([], hosts=hosts, remembered=remembered)
    assert _choose(occupancy, 2) == [1, 5]
    occupancy.take(3)
    occupancy.free(3, now=0)
    assert occupancy.choose(1, 6, 0, remembered=False) is None
    assert _choose(occupancy, 3) == [4, 3, None]
    hosts.fill(())
    assert _choose(occupancy, 1) == [2]


def test_a_number_to_be_skipped_is_not_chosen_and_ends_no_search() -> None:
    """Neither of those that are free, nor of those that cool off: what is remembered comes next, and then none."""
    remembered = LastResorts()
    remembered.add(4, "static")
    occupancy = Occupancy([1], remembered=remembered)
    assert occupancy.choose(1, 6, 0, skipped={2, 3}) == 5
    occupancy.take(3)
    occupancy.free(3, now=0)
    assert [occupancy.choose(1, 6, 0, skipped={2, 3}) for _ in range(2)] == [4, None]
    assert _choose(occupancy, 3) == [2, 3, None]


def test_each_window_has_its_own_walk() -> None:
    """Ranges of one wire may overlap; what one has given is taken for the other."""
    occupancy = Occupancy([])
    assert [occupancy.choose(1, 6, 0), occupancy.choose(3, 9, 0), occupancy.choose(1, 6, 0)] == [1, 3, 2]
    assert [occupancy.choose(3, 9, 0), occupancy.choose(1, 6, 0)] == [4, 5]
    occupancy.forget(1, 6)
    assert (occupancy.held_in(1, 9), occupancy.choose(3, 9, 0)) == (0, 3)


def test_a_remembered_number_is_a_last_resort_in_its_window_only_and_never_a_hosts() -> None:
    """Those outside, and those that a host has, are as good as held."""
    remembered = LastResorts()
    for number in (2, 4, 9):
        remembered.add(number, "static")
    occupancy = Occupancy([1, 3, 5], hosts=IntervalSet([2]), remembered=remembered)
    assert _choose(occupancy, 2) == [4, None]


def test_the_walk_comes_round_to_the_last_choice_itself() -> None:
    """It is the only one that was given back."""
    occupancy = Occupancy([])
    last = _choose(occupancy, 3)[-1]
    assert last == 3
    _choose(occupancy, 2)
    occupancy.go_on(1, 6, last)
    occupancy.free(last, now=0)
    assert _choose(occupancy, 1, now=COOLING_SECONDS) == [last]


def test_what_cools_off_here_is_passed_over_though_the_store_has_it_no_more() -> None:
    """The taken addresses are read anew: neighbours remember the old holder's MAC all the same."""
    occupancy = Occupancy([1, 2])
    occupancy.free(2, now=0)
    occupancy.learn(0, 10, [1])
    assert _choose(occupancy, 4, now=1) == [3, 4, 5, 2]


def test_a_number_that_is_freed_twice_cools_off_from_the_second_time() -> None:
    """Another one that was freed in between is cooler."""
    occupancy = Occupancy([1, 2, 3, 4, 5])
    occupancy.free(1, now=0)
    occupancy.free(2, now=1)
    occupancy.free(1, now=2)
    assert _choose(occupancy, 3, now=3) == [2, 1, None]


def test_nothing_cools_off_in_a_pool_that_is_gone() -> None:
    """The next pool there begins with all of it, and counts none of it twice."""
    occupancy = Occupancy([1, 2, 3])
    occupancy.free(2, now=0)
    occupancy.forget(1, 6)
    assert occupancy.held_in(1, 6) == 0
    assert _choose(occupancy, 6, now=1) == [1, 2, 3, 4, 5, None]


def test_what_is_remembered_goes_in_the_order_of_its_last_use_and_not_when_it_is_forgotten() -> None:
    """The longest unused first; what is remembered no more is as any other."""
    remembered = LastResorts()
    for number in (1, 2, 3, 1):
        remembered.add(number, "static")
    assert list(remembered) == [2, 3, 1]
    remembered.drop(2, "static")
    assert (list(remembered), remembered.next_other(1, 4)) == ([3, 1], 2)
    assert _choose(Occupancy([], remembered=remembered), 5) == [2, 4, 5, 3, 1]


@pytest.mark.parametrize("years", [10, -10])
def test_a_clock_that_is_set_makes_nothing_cool_off_for_years(years: float) -> None:
    """What was freed before is free, whichever way the clock went."""
    occupancy = Occupancy([1, 2])
    occupancy.free(1, now=0)
    assert _choose(occupancy, 5, now=years * 31_536_000) == [1, 3, 4, 5, None]


def test_remembered_numbers_are_in_the_order_of_the_stores_revisions() -> None:
    """However they come to be known: those of each network are told by themselves. What was used just now is last."""
    remembered = LastResorts()
    remembered.add(1, "a", 30)
    remembered.add(2, "b", 10)
    remembered.add(3, "c", 20)
    assert list(remembered) == [2, 3, 1]
    remembered.add(2, "b")
    assert list(remembered) == [3, 1, 2]
    remembered.add(2, "again", 5)
    remembered.add(3, "c", 40)
    assert list(remembered) == [1, 2, 3]
    remembered.drop(2, "b")
    assert list(remembered) == [1, 2, 3]
    remembered.drop(2, "again")
    assert list(remembered) == [1, 3]


def test_after_a_jump_a_window_goes_on_at_another_offset() -> None:
    """Another host allocates here too, as a lost race showed."""
    occupancy = Occupancy((), spread=iter([0.0, 0.5]))
    assert [occupancy.choose(0, 100, 0.0), occupancy.choose(0, 100, 0.0)] == [0, 1]
    occupancy.jump(0, 100)
    assert occupancy.choose(0, 100, 0.0) == 50


def test_an_address_that_is_seen_in_use_outside_is_no_last_resort() -> None:
    """It cools off, and nothing else is left."""
    occupancy = Occupancy(range(4), seen=IntervalSet([2]))
    occupancy.free(2, 0.0)
    assert occupancy.choose(0, 4, 1.0) is None
    occupancy.free(3, 0.0)
    assert occupancy.choose(0, 4, 1.0) == 3
