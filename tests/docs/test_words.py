"""Words of the code: one class for one name, and docstrings that begin with the name of a thing."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.imports import modules, room

ROOT = Path(__file__).parents[2]
BESIDE = ("testkit", "lab")
"""Folders beside the package that are looked at too."""

QUESTION = re.compile(r"(What|Who|Whom|Whose|How|Which|Where|When|Why)\b")

NOT_YET = {
    *("attach", "cluster", "driver", "ipam", "libnetwork"),
    *("testkit", "lab"),
}
"""Rooms with docstrings that begin with a question. A room that is clean loses its place here."""


def _docstrings(path: Path) -> Iterator[str]:
    """Docstrings of a module and of all in it, those of constants too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def _rooms() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for name, path in modules().items():
        found.setdefault(room(name), []).append(path)
    return found | {folder: sorted((ROOT / folder).rglob("*.py")) for folder in BESIDE}


def _questions(paths: list[Path]) -> list[str]:
    return [f"{path.name}: {text[:60]}" for path in paths for text in _docstrings(path) if QUESTION.match(text)]


@pytest.mark.parametrize("name", sorted(set(_rooms()) - NOT_YET))
def test_a_docstring_names_the_thing(name: str) -> None:
    """Its first sentence begins with the thing, and never with a question."""
    assert _questions(_rooms()[name]) == []


@pytest.mark.parametrize("name", sorted(NOT_YET))
def test_a_room_that_is_clean_is_held_to_it(name: str) -> None:
    """A room of the list still has such docstrings; else it is to be taken off the list."""
    assert _questions(_rooms()[name]) != []


def test_a_class_name_is_unique_in_the_package() -> None:
    """One name is one thing wherever it is read; names that begin with an underscore are their module's own."""
    names = Counter(
        node.name
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []
