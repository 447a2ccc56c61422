"""Thousands of schedules of whole clusters, each as its seed has it: no address ever has two holders."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from testkit.simulation import STEPS, Outcome, again, simulate

ROOT = Path(__file__).parents[2]
KNOWN = range(200)
"""Seeds that are the same in each run: what is broken in between shows at once."""
FOUND = (
    *(974030515800016, 5004061, 6002209, 1043333147722908, 154212603433033, 976334558141036),
    *(117945647659826, 1079157450177348, 940818635211041, 244847989525669, 244847989525612),
    *(325796076718995, 325796076720003, 325796076718331, 564969599631262, 75025214055452),
    *(74825656504989, 74825656508329, 74825656510950, 47211759336003, 47211759336607, 47211759342888),
    *(191314395024405, 59479344883807, 7550595256128, 219129899138426, 163871295922231),
    *(16814014101906, 211245690640028, 914132561951321, 194833828354249, 81339585863811),
    *(29480327735790, 181340156968753),
)
"""Seeds that nobody had tried, and that found something."""
FOUND_LONGER = {150: (162246480717006, 108448456924370, 108448456927381, 8146068235742)}
"""The same, by the number of steps that they were found with."""
FRESH = 400
"""So many seeds that nobody has tried are added in each run."""
TOLD = 2
"""So many schedules that went wrong are told in full."""


def test_schedules_that_are_known(summaries: list[str]) -> None:
    """All faults, all interleavings that these seeds have: nothing is wrong while they run, nor when they are over."""
    _run([*KNOWN, *FOUND], f"seeds 0 to {len(KNOWN) - 1}, and {len(FOUND)} that found something", summaries)


def test_longer_schedules_that_are_known(summaries: list[str]) -> None:
    """What the usual number of steps did not bring about."""
    for steps, seeds in FOUND_LONGER.items():
        _run(seeds, f"{len(seeds)} of {steps} steps that found something", summaries, steps)


def test_schedules_that_nobody_has_tried(summaries: list[str]) -> None:
    """Each run looks elsewhere. What it finds can be played again by its seed."""
    base = int.from_bytes(os.urandom(5)) * 1000
    _run(range(base, base + FRESH), f"fresh seeds {base} to {base + FRESH - 1}", summaries)


def test_a_seed_tells_the_same_story_each_time() -> None:
    """To the last message, in processes whose sets of texts have other orders, and whatever was played before."""
    seeds = list(range(20))
    first = dict(zip(seeds, _play_in_process(seeds, "1"), strict=True))
    second = dict(zip(reversed(seeds), _play_in_process(reversed(seeds), "2"), strict=True))
    assert first == second
    for seed in seeds[:3]:  # and in this one
        assert first[seed] == _story(simulate(seed))


def _story(outcome: Outcome) -> str:
    return repr((outcome.tell(), outcome.events))


def _play_in_process(seeds: Iterable[int], hashing: str) -> list[str]:
    """The whole story of each seed, as a process plays them one after the other."""
    play = "print(repr((outcome.tell(), outcome.events)))"
    code = f"from testkit.simulation import simulate\nfor seed in {list(seeds)}:\n outcome = simulate(seed)\n {play}"
    env = os.environ | {"PYTHONHASHSEED": hashing}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env, cwd=ROOT)
    return done.stdout.splitlines()


def _run(seeds: Iterable[int], which: str, summaries: list[str], steps: int = STEPS) -> None:
    """Simulate, say what came of it, and fail with the stories of what went wrong."""
    done: Counter[str] = Counter()
    wrong: list[Outcome] = []
    try:
        for seed in seeds:
            outcome = _simulate(seed, steps)
            done.update(
                schedules=1,
                hosts=outcome.hosts,
                operations=outcome.operations,
                containers=outcome.containers,
                faults=outcome.faults,
                violations=len(outcome.verdict.violations),
            )
            if outcome.verdict.violations:
                wrong.append(outcome)
    finally:
        summaries.append(f"{which}: " + ", ".join(f"{count} {what}" for what, count in done.items()))
    if wrong:
        stories = "\n\n".join(f"{each.tell()}\n{again(each.seed, steps)}" for each in wrong[:TOLD])
        failed = ", ".join(str(each.seed) for each in wrong)
        pytest.fail(f"{len(wrong)} schedules went wrong, with the seeds {failed}\n\n{stories}", pytrace=False)


def _simulate(seed: int, steps: int) -> Outcome:
    try:
        return simulate(seed, steps=steps)
    except Exception as error:
        error.add_note(again(seed, steps))
        raise
