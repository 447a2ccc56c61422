"""Unit and property tests in their full form: `python -m tests.in_full [PYTEST OPTION…]`.

`make unit`, and the run that measures coverage, draw few examples and take each twelfth step (`testkit.brief`). Most
tests have no other form; files that do are found by their imports, so that none is forgotten.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "pytest", "-q")
FOLDERS = ("tests/unit", "tests/property")
SIZED = {"testkit.brief", "hypothesis"}
"""Modules from which numbers come that are smaller in the brief form."""


def files_with_two_forms() -> list[str]:
    """The files of unit and property tests that have a brief form and a full one, or use a part of testkit that has."""
    files = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if _has_two_forms(path, set())]


def _has_two_forms(path: Path, seen: set[Path]) -> bool:
    names = set(_imports(path))
    parts = {ROOT / f"{name.replace('.', '/')}.py" for name in names if name.startswith("testkit.")} - seen
    seen |= parts
    return bool(names & SIZED) or any(_has_two_forms(each, seen) for each in parts if each.exists())


def _imports(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, and of what it takes from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def main(options: list[str]) -> int:
    """Run them; pytest's exit code."""
    return subprocess.run([*COMMAND, *options, *files_with_two_forms()], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
