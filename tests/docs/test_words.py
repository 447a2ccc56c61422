"""Words of the code: one class for one name, and docstrings that begin with the name of a thing."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.imports import modules, room

ROOT = Path(__file__).parents[2]
BESIDE = ("testkit", "lab", "demo", "bench", "plugin", "packages")
"""Folders beside the package that are looked at too."""

QUESTION = re.compile(r"(What|Who|Whom|Whose|How|Which|Where|When|Why)\b")


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


@pytest.mark.parametrize("name", sorted(_rooms()))
def test_a_docstring_names_the_thing(name: str) -> None:
    """Its first sentence begins with the thing, and never with a question."""
    assert _questions(_rooms()[name]) == []


def test_a_class_name_is_unique_in_the_package() -> None:
    """One name is one thing wherever it is read; names that begin with an underscore are their module's own."""
    names = Counter(
        node.name
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_text_sends_its_reader_to_a_page_of_the_repository() -> None:
    """A host has the package, with manual pages and no others."""
    named = re.compile(r"docs/\S*\.md")
    said = [
        f"{path.name}: {node.value}"
        for path in modules().values()
        for node in _without_docstrings(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and named.search(node.value)
    ]
    assert said == []


def _without_docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return (node for node in ast.walk(tree) if id(node) not in told)
