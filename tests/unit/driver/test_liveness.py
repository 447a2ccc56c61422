"""Young and old endpoints, although clocks are set."""

from macvlan_global.driver.liveness import Ages
from testkit.fake_clock import FakeClock


def test_an_object_of_this_process_is_young_whatever_the_wall_clock_says() -> None:
    """And old once its time has passed by the steady clock. An object of an earlier process goes by its record."""
    now, steady = FakeClock(1000), FakeClock(0)
    ages = Ages(60, now, steady)
    ages.begin("e1")
    now.advance(9000)
    assert ages.is_young("e1", 1000)
    assert not ages.is_young("e2", 1000)
    steady.advance(60)
    assert not ages.is_young("e1", 10000)
    assert ages.is_young("e2", 9990)
    assert ages.is_young("e2", 10050), "written while the clock was ahead"


def test_only_young_objects_are_remembered() -> None:
    """A driver that runs for years sees many come and go."""
    now, steady = FakeClock(0), FakeClock(0)
    ages = Ages(60, now, steady)
    for number in range(1000):
        ages.begin(f"e{number}")
        steady.advance(1)
    assert len(ages._begun) == 60


def test_objects_are_remembered_that_were_young_when_the_engine_was_asked() -> None:
    """What it said then is no word about them, however old they are now."""
    now, steady = FakeClock(0), FakeClock(0)
    ages = Ages(60, now, steady)
    ages.begin("old")
    steady.advance(60)
    ages.begin("young")
    asked = ages.moment()
    ages.keep_since(asked)
    steady.advance(3600)
    ages.begin("later")
    assert [ages.is_young(each, 0, asked) for each in ("young", "later")] == [True, True]
    assert not ages.is_young("young", 0)
    now.advance(5000)
    assert not ages.is_young("old", 0, ages.moment())
    assert len(ages._begun) == 2
