"""`make test`: every suite, then in the guest kernel what the running one lacks the links for.

Suites with engines mostly wait for these, so two run side by side: those of one host, and those of several hosts with a
cluster store, after which come those that need no engine. What the kernel lacks is not skipped: those tests are left
out here and run in the guest, and the counts of all are printed.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.guest import guest_run, kernel_has
from lab.paths import ROOT

GUEST_MARK = "MACVLAN_GLOBAL_TESTS_GUEST"
GUEST_SECONDS = 900
NEEDED = ("8021q", "dummy")
SEVERAL_HOSTS = ("global", "faults")
WITHOUT_ENGINES = ("unit", "property", "simulation", "contract")
"""Folders of tests. All others are about one host."""


def main() -> int:
    """Run everything; 0 if all passed. Arguments go to pytest, which then runs once, without the guest."""
    if sys.argv[1:]:
        return _pytest(sys.argv[1:])
    started = time.monotonic()
    codes = _native()
    if not all(kernel_has(kind) for kind in NEEDED):
        codes.append(_in_guests())
    print(f"all suites took {time.monotonic() - started:.0f} s", flush=True)
    return max(codes, key=abs)


def _native() -> list[int]:
    """Suites of one host, and beside them the others, whose output follows at the end."""
    several, without = ([f"tests/{name}" for name in names] for names in (SEVERAL_HOSTS, WITHOUT_ENGINES))
    others = [f"--ignore={each}" for each in (*several, *without)]
    with ThreadPoolExecutor() as threads:
        beside = threads.submit(lambda: [_quietly(*several), _quietly(*without)])
        codes = [_pytest(["tests", "--durations=20", *others])]
        for code, output in beside.result():
            print("\n=== beside them ===", output, sep="\n", flush=True)
            codes.append(code)
    return codes


def _quietly(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=20", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def _pytest(arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode


def _in_guests() -> int:
    """One guest for each engine, side by side: a guest uses one processor."""
    print("\n=== the same, in the guest kernel: tests that want VLAN and dummy links ===", flush=True)
    with ThreadPoolExecutor() as threads:
        return max(threads.map(_in_guest, ("oldest", "not oldest")))


def _in_guest(selected: str) -> int:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", selected, *_suites_with_needs()]
    env = {GUEST_MARK: "1", "PYTHONPATH": str(ROOT), "CI": os.environ.get("CI", "")}
    done = guest_run(command, timeout=GUEST_SECONDS, env=env, echo=False)
    print(f"--- tests of the guest kernel that are {selected!r}, {done.seconds:.0f} s\n{done.output}", flush=True)
    return done.returncode


def _suites_with_needs() -> list[str]:
    """Test files that hold such tests: collecting the others in the guest would only cost time."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if _holds_needs(path)]


def _holds_needs(path: Path) -> bool:
    return "mark.needs(" in path.read_text()


if __name__ == "__main__":
    sys.exit(main())
