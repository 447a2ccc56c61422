"""How large modules and functions may be, what they may be called, and that each says what it is."""

import ast
from pathlib import Path

from tests.docs.imports import PACKAGE, modules

MODULE_LINES = 500
FUNCTION_LINES = 50

ARCHITECTURE_LINES = 250
"""The map must stay a map."""

LARGER_MODULES: dict[str, int] = {}
"""What is above the limit today, and must not grow. A module that is within the limit loses its line here."""

LARGER_FUNCTIONS: dict[str, int] = {}
"""The same for functions. One that wires many parts names each of them."""

BANNED = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "core", "base"}

ROOT = Path(__file__).parents[2]


def _functions() -> dict[str, int]:
    found = {}
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[f"{name}.{node.name}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    return found


def _check(sizes: dict[str, int], limit: int, larger: dict[str, int]) -> None:
    above = {name: size for name, size in sizes.items() if size > limit}
    assert set(above) == set(larger)
    assert {name: size for name, size in above.items() if size > larger[name]} == {}


def test_modules_are_small() -> None:
    """No module is above the limit but those listed, and these do not grow."""
    _check({name: len(path.read_text().splitlines()) for name, path in modules().items()}, MODULE_LINES, LARGER_MODULES)


def test_functions_are_small() -> None:
    """No function is above the limit but those listed, and these do not grow."""
    _check(_functions(), FUNCTION_LINES, LARGER_FUNCTIONS)


def test_every_module_says_what_it_is() -> None:
    """Packages and modules have a docstring; `__main__` is no exception."""
    silent = [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_no_module_is_a_dumping_ground() -> None:
    """A name says what belongs in; these let in anything."""
    trees = [*modules().values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "lab").rglob("*.py")]
    assert [str(path) for path in trees if path.stem in BANNED] == []


def test_the_package_itself_holds_the_version_only() -> None:
    """Importing the package costs nothing and does nothing."""
    tree = ast.parse(modules()[PACKAGE].read_text())
    assert all(isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign) for node in tree.body)


def test_the_map_is_small() -> None:
    """ARCHITECTURE.md is read before anything else, in one go."""
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= ARCHITECTURE_LINES
