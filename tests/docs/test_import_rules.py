"""Who may import whom: the contracts of pyproject.toml, and the matrix of ARCHITECTURE.md against the code."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.docs.imports import PACKAGE, imports, matrix, modules

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (?P<rooms>`\w+`(?:, `\w+`)*) \|(?P<imports>[\w, ]*)\|$", re.MULTILINE)


def _contracts() -> list[dict[str, list[str]]]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts: list[dict[str, list[str]]] = document["tool"]["importlinter"]["contracts"]
    return contracts


def _written_matrix() -> dict[str, set[str]]:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text[text.index("## Who imports whom") :]
    return {
        room: {each for part in row["imports"].split(",") if (each := part.strip())}
        for row in ROW.finditer(section)
        for room in re.findall(r"\w+", row["rooms"])
    }


def test_contracts_are_kept() -> None:
    """Layers, doors and pure modules are as pyproject.toml says; a module that is gone is an error too."""
    # a process of its own: it sets logging up for all, and other tests read the log
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_matrix_is_that_of_the_code() -> None:
    """ARCHITECTURE.md lists exactly what is imported: nothing is missing, and nothing is there for nobody."""
    real = matrix()
    assert _written_matrix() == real


def test_matrix_goes_down() -> None:
    """A room imports only rooms that stand below it in the list."""
    rooms = list(_written_matrix())
    for room, imported in _written_matrix().items():
        assert all(rooms.index(each) > rooms.index(room) for each in imported), room


def test_every_door_is_used_by_those_who_may() -> None:
    """A module that may import a protected one does so: a permission that nobody needs is taken away."""
    for contract in _contracts():
        for importer in contract.get("allowed_importers", []):
            wanted = tuple(contract["protected_modules"])  # a module, or a room with all that is in it
            found = [
                name for name in imports(modules()[importer]) if f"{name}.".startswith(tuple(f"{w}." for w in wanted))
            ]
            assert found, f"{importer} imports none of {wanted}"


def test_only_the_doors_import_third_parties() -> None:
    """Each library has its rooms, and a room that no longer needs one loses it here."""
    ours = {PACKAGE}
    libraries = {"aiohttp", "dns", "msgspec", "prometheus_client", "rich", "typer", "sqlite3"}
    found: dict[str, set[str]] = {}
    for name, path in modules().items():
        for imported in imports(path):
            top = imported.split(".")[0]
            if top in libraries - ours:
                found.setdefault(top, set()).add(name.split(".")[1])
    found.pop("msgspec")  # plain data: any room may have it
    assert found == {
        "aiohttp": {"admin", "engine", "store", "web"},
        "dns": {"dns"},
        "prometheus_client": {"metrics"},
        "rich": {"cli"},
        "sqlite3": {"store"},
        "typer": {"cli"},
    }
