"""`make test`: every suite, then in the guest kernel what the running one lacks the links for.

Engines share cgroups and the two cores of a small machine, so suites with engines run one after the other. Beside
them run those that need none and mostly compute. What the kernel lacks is not skipped: those tests are left out here
and run in the guest, and the counts of all are printed.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.guest import guest_run, kernel_has
from lab.paths import ROOT

GUEST_MARK = "MACVLAN_GLOBAL_TESTS_GUEST"
GUEST_SECONDS = 900
NEEDED = ("8021q", "dummy")
WITHOUT_ENGINES = ("unit", "property", "simulation", "contract")
"""Folders of tests that start no engine. Beside the others they cost little time."""


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
    """Suites with engines, and beside them the others, whose output follows at the end."""
    apart = [f"tests/{name}" for name in WITHOUT_ENGINES]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *apart]
    with tempfile.TemporaryFile("w+") as output:
        beside = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = _pytest(["tests", "--durations=30", *(f"--ignore={each}" for each in apart)])
            beside.wait()
        finally:
            beside.kill()
            beside.wait()
        output.seek(0)
        print("\n=== beside them: tests without engines ===", output.read(), sep="\n", flush=True)
    return [code, beside.returncode]


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
