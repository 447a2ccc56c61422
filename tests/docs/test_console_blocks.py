"""Every console block of the README and the pages is run, in order, as one session a page."""

from pathlib import Path

import pytest

from lab.site import Site
from tests.docs.console import Command, matches, parse
from tests.docs.session import CONFIG, say

ROOT = Path(__file__).parents[2]
WRITTEN_BY_PROGRAMS = (ROOT / "docs" / "examples", ROOT / "docs" / "benchmarks.md")
"""Pages that tests/e2e and `make bench` write from what they ran."""

NOT_RUN = {
    "README.md": 1,
    "docs/cli.md": 1,
    "docs/conflicts.md": 1,
    "docs/hosts.md": 3,
    "docs/install.md": 1,
    "docs/names.md": 1,
    "docs/operating.md": 2,
}
"""How many blocks of a page are not run; each has its reason above it."""


def _pages() -> list[Path]:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if not {page, *page.parents} & {*WRITTEN_BY_PROGRAMS}]


def _with_blocks() -> list[object]:
    params: list[object] = []
    for page in _pages():
        parsed = parse(page.read_text())
        if parsed.commands:
            # such as pytest.mark.needs("8021q"): the page is then run in the guest kernel
            marks = [pytest.mark.needs(*parsed.needs)] if parsed.needs else []
            params.append(pytest.param(page, marks=marks, id=str(page.relative_to(ROOT))))
    return params


@pytest.mark.parametrize("page", _with_blocks())
def test_commands_print_what_the_page_shows(site: Site, page: Path) -> None:
    """Each command of the page prints what the page shows below it."""
    for command in parse(page.read_text()).commands:
        code, printed = say(site, command.text)
        assert matches(command.shown, printed), _difference(page, command, printed)
        assert code == 0 or command.may_fail, f"{page.name}: {command.text!r} ended with exit code {code}"


def test_blocks_that_are_not_run_are_few_and_listed() -> None:
    """Each page has as many blocks that are not run as this list says."""
    found = {str(page.relative_to(ROOT)): parse(page.read_text()) for page in _pages()}
    counts = {name: sum(1 for block in page.blocks if block.not_run) for name, page in found.items()}
    assert {name: count for name, count in counts.items() if count} == NOT_RUN


def test_parents_page_shows_the_configuration_of_the_host() -> None:
    """The aliases that docs/parents.md explains are those of the host that its blocks are run on."""
    assert f"```toml\n{CONFIG}```" in (ROOT / "docs" / "parents.md").read_text()


def _difference(page: Path, command: Command, printed: str) -> str:
    shown = "\n".join(command.shown)
    return f"{page.name} line {command.first + 1}: {command.text}\n--- the page shows\n{shown}\n--- printed\n{printed}"
