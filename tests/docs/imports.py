"""Who imports whom in the package, room by room."""

import ast
import functools
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
PACKAGE = "macvlan_global"


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def tree(path: Path) -> ast.Module:
    """A module, parsed once."""
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> set[str]:
    """Dotted names of all that a module imports, within functions too: of ours the module, of others as written."""
    known = modules()
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {name if (name := f"{node.module}.{alias.name}") in known else node.module for alias in node.names}
    return found


def room(module: str) -> str:
    """The room a module is in: its package, or its own name if it stands beside the packages."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


@functools.cache
def matrix() -> dict[str, set[str]]:
    """Which other rooms each room imports. The package itself (its version) counts as no room."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, path in modules().items():
        ours = {each for each in imports(path) if each.startswith(PACKAGE + ".")}
        found[room(name)] |= {room(each) for each in ours} - {room(name)}
    found.pop(PACKAGE, None)
    return dict(found)
