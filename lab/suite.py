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
TITLE_IN_FULL = "unit and property tests, in full"
TITLE_ALL = "all suites"
NEEDED = ("8021q", "dummy")
AT_ONCE = 4
COVERED = ("unit", "property")
"""Folders of tests that run as two suites: all with the coverage of the package, and those that have a full form."""
GUESTS = ("oldest or swarm", "not oldest and not swarm")
"""Selections of the tests for each guest, whose tests share an engine. They go first: no suite takes more processor."""
BY_ENGINE = ("e2e",)
"""Folders whose tests run on one engine or the other, and mostly wait for it: two suites each."""
LONGEST = (
    "swarm",
    "e2e, 'not oldest'",
    "e2e, 'oldest'",
    "e2e/attach",
    "cluster",
    "demo",
    "packages",
    "simulation",
    "faults",
    TITLE_IN_FULL,
    TITLE_COVERED,
    "contract",
    "lab",
    "cli",
    "bench",
    "page",
    "docs",
)
"""The other suites, the longest first, so that none is left alone at the end; a folder that is not here goes last."""


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
    suites: dict[str, Callable[[], Done]] = {
        _guest_title(each): partial(_in_guest, each) for each in GUESTS * _guests_are_needed()
    }
    suites |= _suites()
    print(f"{len(suites)} suites, {AT_ONCE} at once; what each printed comes when it has ended", flush=True)
    known = read_times(TIMES)
    print(*expected([*suites, TITLE_ALL], known), sep="\n", flush=True)
    all_done: list[Done] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for job in as_completed([threads.submit(suite) for suite in suites.values()]):
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


def _suites() -> dict[str, Callable[[], Done]]:
    """The suites but the guests, by title and in the order in which they start."""
    found = {str(path.parent.relative_to(ROOT / "tests")) for path in (ROOT / "tests").rglob("test_*.py")}
    suites: dict[str, Callable[[], Done]] = {TITLE_COVERED: _covered, TITLE_IN_FULL: _in_full}
    for folder in (each for each in found if each.partition("/")[0] not in COVERED):
        within = [each for each in found if each.startswith(f"{folder}/")]
        for selected in ("oldest", "not oldest") if folder in BY_ENGINE else ("",):
            title = f"{folder}, {selected!r}" if selected else folder
            suites[title] = partial(_pytest, title, folder, within, selected)
    order = sorted(suites, key=lambda each: (LONGEST.index(each) if each in LONGEST else len(LONGEST), each))
    return {title: suites[title] for title in order}


def _covered() -> Done:
    """Unit and property tests; the table of coverage is printed with them."""
    command = [sys.executable, "-m", "tests.covered", "-p", "no:cacheprovider", "--durations=20"]
    return _run(TITLE_COVERED, command)


def _in_full() -> Done:
    """Unit and property tests with all their examples and steps: what coverage is measured on draws few."""
    return _run(TITLE_IN_FULL, [sys.executable, "-m", "tests.in_full", "-p", "no:cacheprovider", "--durations=20"])


def _pytest(title: str, folder: str, without: Sequence[str], selected: str) -> Done:
    """Run a folder of tests, those of them that -k selects; folders within it are suites of their own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=20", f"tests/{folder}"]
    command += [f"--ignore=tests/{each}" for each in without]
    return _run(title, [*command, "-k", selected] if selected else command)


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
