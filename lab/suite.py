"""`make test`: every suite; what the running kernel lacks the links for, in the guest kernel.

Suites with engines mostly wait for these, so a few run side by side, the longest first; what a suite printed comes when
it has ended. What the kernel lacks is not skipped: those tests are left out of the suites and run in the guests, and
the counts of all are printed.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.errors import LabError
from lab.guest import Silence, guest_run, kernel_has
from lab.paths import ROOT

GUEST_MARK = "MACVLAN_GLOBAL_TESTS_GUEST"
GUEST_SILENCE = Silence(400)
"""A guest goes on for as long as tests end in it: how long all of them take depends on what else this machine does."""
TIMES = ROOT / "build" / "suite-seconds.json"
"""File with the seconds that each suite took when it passed last."""
TITLE_COVERED = "unit and property tests, with coverage"
TITLE_WITHOUT = "without engines"
TITLE_ALL = "all suites"
NEEDED = ("8021q", "dummy")
AT_ONCE = 4
COVERED = ("unit", "property")
"""Folders of tests that run with the coverage of the package."""
WITHOUT_ENGINES = (*COVERED, "simulation", "contract")
"""Folders of tests that need no engine: they want a processor to themselves, and fill the end of the run."""
GUESTS = ("oldest or swarm", "not oldest and not swarm")
"""Selections of the tests for each guest, whose tests share an engine. They go first: no suite is longer."""
LONGEST = ("e2e", "cluster", "swarm", "e2e/attach", "faults", "bench", "demo", "docs", "cli", "lab")
"""The other folders, each a suite of its own. One that is not here yet goes last."""


@dataclass(frozen=True)
class Done:
    """Result of a suite."""

    title: str
    code: int
    output: str
    seconds: float


def main() -> int:
    """Run everything; 0 if all passed. Arguments go to pytest, which then runs once, without the guests."""
    if sys.argv[1:]:
        return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], cwd=ROOT, check=False).returncode
    started = time.monotonic()
    jobs: list[Callable[[], Done]] = [partial(_in_guest, each) for each in GUESTS * _guests_are_needed()]
    jobs += [partial(_pytest, folder, folder) for folder in _folders()]
    jobs += [partial(_pytest, TITLE_WITHOUT, *WITHOUT_ENGINES[len(COVERED) :]), _covered]
    print(f"{len(jobs)} suites, {AT_ONCE} at once; what each printed comes when it has ended", flush=True)
    known = read_times(TIMES)
    titles = [*map(_guest_title, GUESTS * _guests_are_needed()), *_folders(), TITLE_WITHOUT, TITLE_COVERED, TITLE_ALL]
    print(*expected(titles, known), sep="\n", flush=True)
    all_done: list[Done] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for job in as_completed([threads.submit(job) for job in jobs]):
            done = job.result()
            print(f"\n=== {done.title}, {done.seconds:.0f} s ===", done.output, sep="\n", flush=True)
            all_done.append(done)
            if done.code == 0:
                known[done.title] = done.seconds
    for done in sorted(all_done, key=lambda each: each.code != 0):
        said = done.output.strip().rsplit("\n", 1)[-1].strip("= ")
        print(f"{'passed' if done.code == 0 else 'FAILED'}  {done.title}: {said}", flush=True)
    code = max((done.code for done in all_done), key=abs)
    seconds = time.monotonic() - started
    write_times(TIMES, known if code else known | {TITLE_ALL: seconds})
    print(f"all suites took {seconds:.0f} s", flush=True)
    return code


def expected(titles: Sequence[str], known: Mapping[str, float]) -> list[str]:
    """Announcement before suites begin: how long each took last time."""
    return [
        f"  {title}: " + (f"{known[title]:.0f} s last time" if title in known else "not known yet") for title in titles
    ]


def read_times(file: Path) -> dict[str, float]:
    """Seconds of each suite that passed on this machine; nothing if that is not known or cannot be read."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {str(title): float(seconds) for title, seconds in found.items()} if isinstance(found, dict) else {}


def write_times(file: Path, times: Mapping[str, float]) -> None:
    """Keep them for the next run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({title: round(seconds, 1) for title, seconds in times.items()}, indent=1) + "\n")


def _folders() -> list[str]:
    """Every folder of tests but those that go first, in the order in which they start."""
    found = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    others = {str(folder) for folder in found if folder.parts[0] not in WITHOUT_ENGINES}
    return sorted(others, key=lambda each: (LONGEST.index(each) if each in LONGEST else len(LONGEST), each))


def _covered() -> Done:
    """Unit and property tests; the table of coverage is printed with them."""
    command = [sys.executable, "-m", "tests.covered", "-p", "no:cacheprovider", "--durations=20"]
    return _run(TITLE_COVERED, command)


def _pytest(title: str, *folders: str) -> Done:
    """Run folders of tests; folders within them are suites of their own, unless they go with those without engines."""
    within = [each for each in _folders() if each.startswith(tuple(f"{name}/" for name in folders))]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=20"]
    command += [*(f"tests/{each}" for each in folders), *(f"--ignore=tests/{each}" for each in within)]
    return _run(title, command)


def _run(title: str, command: list[str]) -> Done:
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return Done(title, done.returncode, done.stdout, time.monotonic() - began)


def _guests_are_needed() -> bool:
    return not all(kernel_has(kind) for kind in NEEDED)


def _guest_title(selected: str) -> str:
    return f"in the guest kernel, with VLAN and dummy links, {selected!r}"


def _in_guest(selected: str) -> Done:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", selected, *_suites_with_needs()]
    env = {GUEST_MARK: "1", "PYTHONPATH": str(ROOT), "CI": os.environ.get("CI", "")}
    title = _guest_title(selected)
    began = time.monotonic()
    try:
        done = guest_run(command, timeout=GUEST_SILENCE, env=env, echo=False)
    except LabError as error:
        return Done(title, 1, str(error), time.monotonic() - began)
    return Done(title, done.returncode, done.output, done.seconds)


def _suites_with_needs() -> list[str]:
    """Test files that hold such tests: collecting the others in the guest would only cost time."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if _holds_needs(path)]


def _holds_needs(path: Path) -> bool:
    return "mark.needs(" in path.read_text()


if __name__ == "__main__":
    sys.exit(main())
