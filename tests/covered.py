"""Unit and property tests with line and branch coverage of the package: `python -m tests.covered [PYTEST OPTION…]`.

The tests run in their brief form (`testkit.brief`): what is drawn or walked besides runs the same lines, and to trace
them is most of the work. `tests.in_full` has the full form. It fails if a test fails, if the total is below
`fail_under` of pyproject.toml, or if a file is at 0 %.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "pytest", "-q", "--cov", "--cov-report=term")
SUITES = ("tests/unit", "tests/property")


def uncovered() -> list[str]:
    """Files of the package of which no line was run, in the data of the last run."""
    measured = coverage.Coverage()
    measured.load()
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        measured.json_report(outfile=report.name)
        files = json.loads(Path(report.name).read_text())["files"]
    return [name for name, each in files.items() if each["summary"]["num_statements"] and not each["executed_lines"]]


def main(options: list[str]) -> int:
    """Run the suites; 0 if all is well."""
    env = os.environ | {"MACVLAN_GLOBAL_TESTS_BRIEF": "1"}
    code = subprocess.run([*COMMAND, *options, *SUITES], cwd=ROOT, env=env, check=False).returncode
    missed = uncovered()
    for name in missed:
        print(f"no line of {name} was run by unit and property tests: at least its main case wants a test")
    return code or int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
