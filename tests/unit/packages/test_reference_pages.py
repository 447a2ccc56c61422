"""Manual pages, completion and the configuration file of the package: all that there is, and nothing else."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from macvlan_global.cli.app import app
from macvlan_global.config import FLAGS, Config, load_config
from packages import completion, configuration, manpages, reference

SOURCE = reference.source()
PAGES = manpages.pages(SOURCE, "1.2.3", 1_700_000_000)
COMMANDS = [each for top in SOURCE.program.commands for each in top.tree()]


def typed(page: str) -> str:
    """A page as a reader sees its words."""
    return page.replace("\\-", "-").replace("\\(dq", '"').replace("\\(aq", "'").replace("\\(ga", "`")


def test_every_command_has_a_page() -> None:
    """As have the program and its configuration."""
    commands = [each.name for each in app.registered_commands] + [
        each.typer_instance.info.name for each in app.registered_groups if each.typer_instance
    ]
    expected = {"macvlan-global.8", "macvlan-global-config.5", *(f"macvlan-global-{name}.8" for name in commands)}
    assert set(PAGES) == expected


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: " ".join(each.words))
def test_a_page_has_each_option_with_the_text_of_its_help(command: reference.Command) -> None:
    """Options, arguments and examples, of commands below it too."""
    page = typed(PAGES["-".join(command.words[:2]) + ".8"])
    assert command.summary in page
    for flag in command.flags:
        assert f".B {flag.shown}\n{flag.text.replace('…', '...')}\n" in page
    assert command.commands or command.examples
    for example in command.examples:
        assert f"\n{example}\n" in page


def test_the_page_of_the_configuration_has_every_key() -> None:
    """With its default and its description; the tables as well."""
    page = typed(PAGES["macvlan-global-config.5"])
    for name, text in FLAGS.items():
        assert re.search(rf"^\.B {name} = .+\n{re.escape(text.replace('…', '...'))}$", page, re.MULTILINE)
    for table in set(Config.__struct_fields__) - set(FLAGS):
        assert re.search(rf"^\.B \[+{table}\]+$", page, re.MULTILINE)


def test_nothing_in_a_text_is_read_as_a_request() -> None:
    """Only our own requests begin a line, and every backslash begins an escape that we wrote."""
    command = reference.Command(("mg", "x"), "mg x", ".so /etc/shadow", ("'quoted' \\n -x --long a-b",), (), (), ())
    source = reference.Source(reference.Command(("mg",), "mg", "s", (), (), (), (command,)), (), ())
    page = manpages.pages(source, "1", 0)["mg-x.8"]
    assert "\n\\&.so /etc/shadow\n" in page
    assert "\n\\(aqquoted\\(aq \\en \\-x \\-\\-long a-b\n" in page


def test_the_date_of_pages_is_the_one_that_is_given() -> None:
    """The day of the build is not in them."""
    assert all('2023-11-14 "macvlan-global 1.2.3"' in page for page in PAGES.values())


def test_the_configuration_file_sets_nothing(tmp_path: Path) -> None:
    """All of it is comments; a driver with it is one without it."""
    file = tmp_path / "config.toml"
    file.write_text(configuration.text(SOURCE))
    assert tomllib.loads(file.read_text()) == {}
    assert load_config(file, {}, {}) == Config()


def test_the_configuration_file_shows_every_key_with_its_default(tmp_path: Path) -> None:
    """Without the marks of its comments it is valid, and sets what holds without it."""
    file = tmp_path / "config.toml"
    file.write_text(re.sub(r"^#(?=[\w\[])", "", configuration.text(SOURCE), flags=re.MULTILINE))
    assert set(tomllib.loads(file.read_text())) == set(Config.__struct_fields__)
    loaded = load_config(file, {}, {})
    assert msgspec.structs.replace(loaded, parents={}, auto_pools=[]) == Config()


def test_each_shell_has_a_script_that_asks_the_command() -> None:
    """In the place where it is looked for, for the command by its name."""
    assert len(completion.scripts()) == 3
    for path, script in completion.scripts().items():
        assert Path(path).name.lstrip("_").removesuffix(".fish") == "macvlan-global"
        assert (
            f"_MACVLAN_GLOBAL_COMPLETE=complete_{next(s for s, p in completion.PLACES.items() if p == path)}" in script
        )
