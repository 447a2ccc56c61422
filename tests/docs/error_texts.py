"""Every error text in the source, with `…` for what is filled in."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "macvlan_global"
CLASSES = {"Invalid", "NotFound", "Conflict", "Exhausted", "Unavailable", "Internal"}


def error_texts() -> Iterator[tuple[str, str]]:
    """(module, text) of each error that is made with its text in place."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _name(node.func) in CLASSES and node.args:
                text = _text(node.args[0])
                if text:
                    yield str(path.relative_to(SOURCE)), text


def all_texts() -> Iterator[str]:
    """Every text in the source, as long as it stands there, with `…` for what is filled in."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant | ast.JoinedStr) and (text := _text(node)):
                yield text


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "…" for part in node.values)
    return ""
