"""Fresh schedules by hand: each process plays others, and whatever goes wrong is told."""

from macvlan_global.store.memory import MemoryStore
from testkit.fresh_schedules import play, play_fresh
from testkit.simulation import simulate
from tests.simulation.test_simulation_finds import OverwritingStore


def test_each_process_plays_others() -> None:
    """At least one each, and what is told of it is what it comes to here."""
    played = list(play_fresh(0.0, 2))
    assert len({each.seed for each in played}) == 2
    for each in played:
        outcome = simulate(each.seed)
        assert each.wrong == (outcome.tell() if outcome.verdict.violations else "")


def test_whatever_goes_wrong_is_told() -> None:
    """A violation with the whole story, and a bug with its traceback."""

    def broken() -> MemoryStore:
        raise ZeroDivisionError

    stories = {seed: story for seed in range(20) if (story := play(seed, OverwritingStore).wrong)}
    assert all(story.startswith(f"seed {seed}:\n") for seed, story in stories.items())
    assert any("two holders" in story for story in stories.values())
    assert "ZeroDivisionError" in play(0, broken).wrong
