"""`make test`: every suite; what the running kernel lacks the links for, in the guest kernel.

Suites with engines mostly wait for these, so three run side by side, the longest first; what a suite printed comes when
it has ended. What the kernel lacks is not skipped: those tests are left out of the suites and run in the guests, and
the counts of all are printed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError
from lab.guest import guest_run, kernel_has
from lab.paths import ROOT

GUEST_MARK = "MACVLAN_GLOBAL_TESTS_GUEST"
GUEST_SECONDS = 1500
NEEDED = ("8021q", "dummy")
AT_ONCE = 3
COVERED = ("unit", "property")
"""Folders of tests that go first, with the coverage of the package."""
WITHOUT_ENGINES = (*COVERED, "simulation", "contract")
"""Folders of tests that need no engine; the guests come behind them."""
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
    jobs: list[Callable[[], list[Done]]] = [_without_engines]
    jobs += [lambda folder=folder: [_pytest(folder, folder)] for folder in _folders()]  # type: ignore[misc]
    print(f"{len(jobs)} suites, {AT_ONCE} at once; what each printed comes when it has ended", flush=True)
    all_done: list[Done] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for job in as_completed([threads.submit(job) for job in jobs]):
            for done in job.result():
                print(f"\n=== {done.title}, {done.seconds:.0f} s ===", done.output, sep="\n", flush=True)
                all_done.append(done)
    for done in sorted(all_done, key=lambda each: each.code != 0):
        said = done.output.strip().rsplit("\n", 1)[-1].strip("= ")
        print(f"{'passed' if done.code == 0 else 'FAILED'}  {done.title}: {said}", flush=True)
    print(f"all suites took {time.monotonic() - started:.0f} s", flush=True)
    return max((done.code for done in all_done), key=abs)


def _folders() -> list[str]:
    """Every folder of tests but those that go first, in the order in which they start."""
    found = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    others = {str(folder) for folder in found if folder.parts[0] not in WITHOUT_ENGINES}
    return sorted(others, key=lambda each: (LONGEST.index(each) if each in LONGEST else len(LONGEST), each))


def _without_engines() -> list[Done]:
    return [_covered(), _pytest("without engines", *WITHOUT_ENGINES[len(COVERED) :]), *_in_guests()]


def _covered() -> Done:
    """Unit and property tests; the table of coverage is printed with them."""
    command = [sys.executable, "-m", "tests.covered", "-p", "no:cacheprovider", "--durations=20"]
    return _run("unit and property tests, with coverage", command)


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


def _in_guests() -> list[Done]:
    """Tests that want links which this kernel lacks. One guest for each engine, side by side: each has a processor."""
    if all(kernel_has(kind) for kind in NEEDED):
        return []
    with ThreadPoolExecutor() as threads:
        return list(threads.map(_in_guest, ("oldest", "not oldest")))


def _in_guest(selected: str) -> Done:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", selected, *_suites_with_needs()]
    env = {GUEST_MARK: "1", "PYTHONPATH": str(ROOT), "CI": os.environ.get("CI", "")}
    title = f"in the guest kernel, with VLAN and dummy links, {selected!r}"
    began = time.monotonic()
    try:
        done = guest_run(command, timeout=GUEST_SECONDS, env=env, echo=False)
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
