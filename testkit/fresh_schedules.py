"""Schedules of the simulation that nobody has tried, on all cores, for as long as they are given.

    python -m testkit.fresh_schedules 3600        # seconds
    python -m testkit.fresh_schedules 3600 150    # longer ones, of so many steps

A longer one finds more: what the usual 30 steps cannot bring about, and more in the same time.
It prints each minute how many there were, the whole story of each that went wrong, and how to play that again.
"""

import gc
import itertools
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from macvlan_global.store.memory import MemoryStore
from testkit.simulation import STEPS, again, simulate

TOLD_EVERY = 60.0
"""Seconds between two lines about all that is well."""


@dataclass(frozen=True, slots=True)
class Played:
    """A schedule that was played. `wrong` is its story if it went wrong, or the traceback of a bug; else ""."""

    seed: int
    wrong: str = ""


def play(seed: int, store: Callable[[], MemoryStore] = MemoryStore, steps: int = STEPS) -> Played:
    """Play one schedule; `store` and `steps` are as in `simulate`."""
    try:
        outcome = simulate(seed, store=store, steps=steps)
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding, and the others are played
        return Played(seed, traceback.format_exc())
    return Played(seed, outcome.tell() if outcome.verdict.violations else "")


def play_fresh(seconds: float, processes: int, steps: int = STEPS) -> Iterator[Played]:
    """Play schedules of `steps` for so many seconds in so many processes, at least one in each; each as it ends.

    Raises:
        RuntimeError: a process was killed.
    """
    until = time.monotonic() + seconds
    playing: dict[Connection, multiprocessing.Process] = {}
    for _ in range(processes):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        playing[ours] = multiprocessing.Process(target=_play_until, args=(until, steps, theirs), daemon=True)
        playing[ours].start()
        theirs.close()
    while playing:
        for each in wait(list(playing)):
            assert isinstance(each, Connection)
            try:
                yield each.recv()
            except EOFError:
                ended = playing.pop(each)
                ended.join()
                if ended.exitcode:
                    raise RuntimeError(f"a process ended with {ended.exitcode}") from None


def _play_until(until: float, steps: int, played: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says how far it came
    gc.freeze()  # what is imported stays to the end: it need not be searched for garbage again and again
    gc.set_threshold(20_000, 5, 1000)
    for seed in itertools.count(int.from_bytes(os.urandom(6))):
        played.send(play(seed, steps=steps))
        if time.monotonic() >= until:
            return


def main() -> int:
    """Play for the seconds that are named, and tell; 1 if anything went wrong."""
    seconds, steps = float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else STEPS
    begun = told = time.monotonic()
    done = wrong = 0
    try:
        for each in play_fresh(seconds, len(os.sched_getaffinity(0)), steps):
            done += 1
            if each.wrong:
                wrong += 1
                _say(f"{each.wrong}\n{again(each.seed, steps)}\n")
            if time.monotonic() - told >= TOLD_EVERY:
                told = time.monotonic()
                _say(_summary(done, wrong, told - begun))
    except KeyboardInterrupt:
        pass
    _say(_summary(done, wrong, time.monotonic() - begun))
    return int(wrong > 0)


def _summary(done: int, wrong: int, seconds: float) -> str:
    return f"{done} schedules, {done * 60 / seconds:.0f} a minute, {wrong} went wrong"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
