"""Young and old endpoints, although clocks are set."""

from macvlan_global.driver.liveness import Ages
from testkit.fake_clock import FakeClock


def test_an_object_of_this_process_is_young_whatever_the_wall_clock_says() -> None:
    """And old once its time has passed by the steady clock. An object of an earlier process goes by its record, but not
    while the clock was set a moment ago."""
    now, steady = FakeClock(1000), FakeClock(0)
    ages = Ages(60, now, steady)
    ages.begin("e1")
    assert not ages.is_young("e2", 900)
    now.advance(9000)
    assert ages.is_young("e1", 1000)
    assert ages.is_young("e2", 900), "it may have been made a moment ago, by another clock"
    _pass(60, now, steady)
    assert not ages.is_young("e1", 10000)
    assert not ages.is_young("e2", 900)
    _pass(-60, now)
    assert ages.is_young("e2", 900)
    _pass(60, now, steady)
    assert ages.is_young("e2", 10050)
    assert ages.is_young("e2", 10110), "written while the clock was ahead"


def test_a_clock_that_was_set_between_two_runs_makes_nobody_old() -> None:
    """The operator sets it while no driver runs: nothing tells how old an earlier run's object is."""
    now, steady = FakeClock(1000), FakeClock(500)
    ages = Ages(60, now, steady)
    ages.note_clock(100)
    assert ages.is_young("e1", 900)
    _pass(60, now, steady)
    assert not ages.is_young("e1", 900)
    ages = Ages(60, now, steady)
    ages.note_clock(0.5)  # as NTP slews it
    assert not ages.is_young("e1", 900)


def _pass(seconds: float, *clocks: FakeClock) -> None:
    """Let time pass; with one clock only, that is set."""
    for each in clocks:
        each.advance(seconds)


def test_only_young_objects_are_remembered() -> None:
    """A driver that runs for years sees many come and go."""
    now, steady = FakeClock(0), FakeClock(0)
    ages = Ages(60, now, steady)
    for number in range(1000):
        ages.begin(f"e{number}")
        _pass(1, now, steady)
    assert len(ages._begun) == 60


def test_objects_are_remembered_that_were_young_when_the_engine_was_asked() -> None:
    """What it said then is no word about them, however old they are now."""
    now, steady = FakeClock(0), FakeClock(0)
    ages = Ages(60, now, steady)
    ages.begin("old")
    _pass(60, now, steady)
    ages.begin("young")
    asked = ages.moment()
    ages.keep_since(asked)
    _pass(3600, now, steady)
    ages.begin("later")
    assert [ages.is_young(each, 0, asked) for each in ("young", "later")] == [True, True]
    assert not ages.is_young("young", 0)
    assert not ages.is_young("old", 0, ages.moment())
    assert len(ages._begun) == 2
