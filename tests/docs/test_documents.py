"""The pages say all that there is: commands, flags, keys, options, errors; and their links lead somewhere."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from macvlan_global.cli.app import app
from macvlan_global.config import ENVIRONMENT_PREFIX, FLAGS, AutoPoolConfig, Config
from macvlan_global.ipam.pool_id import SPACE_OPTION
from macvlan_global.metrics.exposition import text_of
from macvlan_global.metrics.samples import Samples
from macvlan_global.options.network import KEYS
from tests.docs import metrics_page
from tests.docs.error_texts import all_texts, error_texts

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
FIRST_CELL = re.compile(r"^\| (?P<cell>`.*?`(?:, `.*?`)*) \|", re.MULTILINE)


def _pages() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "lab" / "README.md"]


def _page(name: str) -> str:
    return (ROOT / name).read_text()


def _commands() -> Iterator[tuple[str, typer.core.TyperCommand | typer.core.TyperGroup]]:
    group = get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    yield from _commands_of(group, "")


def _commands_of(
    group: typer.core.TyperGroup, before: str
) -> Iterator[tuple[str, typer.core.TyperCommand | typer.core.TyperGroup]]:
    """Those of a group, and the group itself if it does something without a word behind it."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            if command.invoke_without_command:
                yield before + name, command
            yield from _commands_of(command, f"{before}{name} ")
        elif not command.hidden:
            assert isinstance(command, typer.core.TyperCommand)
            yield before + name, command


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


# ---------------------------------------------------------------- links


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of ours leads to a file that is there."""
    text = FENCED.sub("", page.read_text())
    targets = [found["target"] for found in LINK.finditer(text)]
    local = [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index() -> None:
    """docs/README.md names every page, and docs/adr/README.md every decision."""
    for folder in (ROOT / "docs", ROOT / "docs" / "adr"):
        index = (folder / "README.md").read_text()
        names = [path.name for path in folder.glob("*.md") if path.name != "README.md"]
        assert [name for name in names if f"({name})" not in index] == []


# ---------------------------------------------------------------- command line


def test_every_command_is_documented() -> None:
    """docs/cli.md has a heading for each command, and none for one that is not there."""
    headings = re.findall(r"^##+ .*$", _page("docs/cli.md"), re.MULTILINE)
    names = list(dict.fromkeys(name.partition(" ")[0] for name, _ in _commands()))
    assert [name for name in names if not any(re.search(rf"\b{name}\b", line) for line in headings)] == []
    named = {name for line in headings for name in re.findall(r"macvlan-global (\w+)", line)}
    assert named <= set(names)


def test_every_flag_is_documented() -> None:
    """docs/cli.md names each flag of each command; those of `serve` may be keys of docs/configuration.md instead."""
    text = _page("docs/cli.md") + _page("docs/configuration.md")
    flags = {flag for _, command in _commands() for each in command.params for flag in each.opts if flag[:2] == "--"}
    keys = {flag: flag.removeprefix("--").replace("-", "_") for flag in flags}
    assert sorted(flag for flag in flags if flag not in text and f"`{keys[flag]}`" not in text) == []


@pytest.mark.parametrize(("name", "command"), list(_commands()), ids=lambda each: each if isinstance(each, str) else "")
def test_help_shows_an_example(name: str, command: typer.core.TyperCommand | typer.core.TyperGroup) -> None:
    """The help of each command has an example of that command."""
    help_text = f"{command.help}\n{command.epilog}"
    assert "Example:" in help_text
    assert re.search(rf"macvlan-global {name}\b", help_text[help_text.index("Example:") :])


# ---------------------------------------------------------------- keys and options


def test_every_key_of_the_configuration_is_documented() -> None:
    """docs/configuration.md names each key, and each environment variable that there is."""
    text = _page("docs/configuration.md")
    keys = [*Config.__struct_fields__, *AutoPoolConfig.__struct_fields__]
    assert [key for key in keys if not re.search(rf"\b{key}\b", text)] == []
    variables = {ENVIRONMENT_PREFIX + key.upper() for key in FLAGS}
    named = {found for found in re.findall(rf"{ENVIRONMENT_PREFIX}[A-Z_]+", text) if not found.endswith("_")}
    assert named <= variables


def test_every_option_is_documented() -> None:
    """docs/options.md has a row for each -o key and each --ipam-opt key, and for no other key of ours."""
    text = _page("docs/options.md")
    ours = text[: text.index("### Modes")]
    assert re.findall(r"^\| `([\w-]+)` \|", ours, re.MULTILINE) == list(KEYS)
    assert re.search(rf"^\| `{SPACE_OPTION}` \|", text, re.MULTILINE)


def test_every_metric_is_documented() -> None:
    """docs/metrics.md is the page that `python -m tests.docs.metrics_page` makes of the metrics that are exposed."""
    exposed = re.findall(r"^# TYPE (\S+) ", text_of(Samples()).decode(), re.MULTILINE)
    assert [each for each in exposed if f"| `{each}` |" not in metrics_page.page()] == []
    assert _page("docs/metrics.md") == metrics_page.page()


# ---------------------------------------------------------------- errors


def _documented_errors() -> list[str]:
    cells = FIRST_CELL.findall(_page("docs/errors.md"))
    return [text for cell in cells for text in re.findall(r"`(.+?)`", cell)]


def _is_family(family: str, text: str) -> bool:
    expression = ".*".join(re.escape(part) for part in family.split("…"))
    return re.fullmatch(expression, text, re.DOTALL) is not None


def test_every_error_is_documented() -> None:
    """Each error text of the source is in docs/errors.md, with `…` for what is filled in."""
    families = [family for family in _documented_errors() if family.strip("… ()")]
    missing = [(where, text) for where, text in error_texts() if not any(_is_family(each, text) for each in families)]
    assert missing == []


def test_every_documented_error_exists() -> None:
    """What docs/errors.md lists is still said somewhere in the source, but for what the engine itself says."""
    engine = {"invalid subnet …: it should be …", "no matching subnet for …"}
    engine |= {"no configured subnet or ip-range contain the IP address …"}
    engine |= {"Unable to locate plugin: macvlan-global", "could not find a network matching network mode …"}
    said = "\n".join(all_texts())
    fragments = {family: max(family.split("…"), key=len).strip() for family in _documented_errors()}
    assert [family for family, fragment in fragments.items() if family not in engine and fragment not in said] == []


# ---------------------------------------------------------------- the repository


def test_nothing_names_a_machine() -> None:
    """No file of the repository names a folder that is only on one machine."""
    here = re.compile(rf"(?<![\w.$}}]){re.escape(str(ROOT))}\b|/home/\w+/|\bwork/main\b")
    guilty = [str(path.relative_to(ROOT)) for path in _tracked() if here.search(path.read_text(errors="replace"))]
    assert [name for name in guilty if name != "tests/docs/test_documents.py"] == []


def test_licence_is_the_one_that_is_declared() -> None:
    """LICENSE has the text that pyproject.toml names."""
    assert 'license = "Apache-2.0"' in _page("pyproject.toml")
    assert "Apache License\n                           Version 2.0, January 2004" in _page("LICENSE")
