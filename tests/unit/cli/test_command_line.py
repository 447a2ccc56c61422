"""The command line without a driver: help, mistakes, version, and how errors reach the operator."""

import json
import logging
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from macvlan_global import __main__ as module
from macvlan_global import __version__
from macvlan_global.cli import main as entry
from macvlan_global.cli.app import app
from macvlan_global.cli.lean import loading
from macvlan_global.cli.logs import set_up_logging
from macvlan_global.cli.options import complete_network
from macvlan_global.cli.render import print_pairs, print_table, print_text
from macvlan_global.cli.start import plain_flags, run_driver
from macvlan_global.cli.waiting import Waiting
from macvlan_global.errors import Invalid, Unavailable
from tests.unit.running import command

COMMANDS = [command.name for command in app.registered_commands] + ["hosts", "dns"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Every command's help has one."""
    done = command(capsys, str(name), "--help")
    assert done.code == 0
    assert "macvlan-global" in done.text
    assert f"{name}" in done.text


def test_without_a_word_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """As docker does, with exit code 0."""
    done = command(capsys)
    assert done.code == 0
    assert all(str(name) in done.text for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nope"], 2, "No such command 'nope'; see `macvlan-global --help`"),
        (["parents"], 2, "Missing argument 'NETWORK'; see `macvlan-global parents --help`"),
        (["status", "--admin-socket", "/none.sock"], 1, "the driver is not running here (no socket /none.sock)"),
        (["status", "--config", "/none.toml"], 1, "the configuration file /none.toml cannot be read"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str) -> None:
    """Nothing is printed; 2 is wrong usage, 1 the rest."""
    done = command(capsys, *words)
    assert (done.code, done.text) == (code, "")
    assert done.error.startswith(said)


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """With the program's name before it, and exit code 1."""
    with pytest.raises(SystemExit) as ended:
        entry.main(["status", "--admin-socket", "/none.sock"])
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert said.startswith("macvlan-global: the driver is not running here")
    assert said.count("\n") == 1


def test_wrong_usage_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    """By way of `main`, too."""
    with pytest.raises(SystemExit) as ended:
        entry.main(["nope"])
    assert ended.value.code == 2
    assert "No such command" in capsys.readouterr().err


def test_serve_reads_its_plain_flags_without_a_parser(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong value is told as everywhere."""
    assert plain_flags(["serve", "--log-level", "loud", "--metrics=x"]) == {"log_level": "loud", "metrics": "x"}
    assert plain_flags(["serve", "--help"]) is plain_flags(["status"]) is plain_flags(["serve", "--metrics"]) is None
    with pytest.raises(SystemExit) as ended:
        entry.main(["serve", "--log-level", "loud"])
    assert ended.value.code == 1
    assert "log_level = 'loud' (--log-level) is invalid" in capsys.readouterr().err


def test_a_driver_that_cannot_use_its_configuration_does_not_start() -> None:
    """The error names the file."""
    with pytest.raises(Invalid, match=r"/none\.toml cannot be read"):
        run_driver(Path("/none.toml"), {})


@pytest.mark.parametrize(("words", "text"), [([], f"macvlan-global {__version__}\n"), (["--json"], None)])
def test_version(capsys: pytest.CaptureFixture[str], words: list[str], text: str | None) -> None:
    """As text and as JSON."""
    done = command(capsys, "version", *words)
    assert done.text == text if text else done.json == {"version": __version__}


def test_names_are_not_completed_without_a_driver() -> None:
    """None, and no error: a key press must not print one."""
    assert complete_network("la") == []


def test_a_table_has_no_lines_and_no_blanks_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as their widest cell, and three blanks apart."""
    print_table(("A", "LAST"), [("one", "x"), ("1", ("long", "red"))])
    print_pairs([("Name", "lan"), ("State", ("down", "red"))])
    print_text("Nothing to correct.")
    assert capsys.readouterr().out == (
        "A     LAST\none   x\n1     long\nName:   lan\nState:  down\nNothing to correct.\n"
    )


def test_what_others_wrote_is_no_command_of_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of hosts and containers come from a store that others write: escapes are shown, and a row is one line."""
    evil, shown = "a\x1b]0;pwned\x07\nb\x9b2J", "a\\x1b]0;pwned\\x07\\nb\\x9b2J"
    print_table(("NAME", "HOST"), [(evil, ("c", "red")), ("d", (evil, "red"))])
    assert capsys.readouterr().out.split("\n")[1:] == [f"{shown}   c", f"d{' ' * len(shown)}  {shown}", ""]
    print_pairs([("Name", evil)])
    assert capsys.readouterr().out == f"Name:  {shown}\n"
    print_text(evil)
    assert capsys.readouterr().out == f"{shown}\n"
    with pytest.raises(SystemExit):
        entry.main(["status", "--admin-socket", "/nowhere/\x1b[2J"])
    assert "/nowhere/\\x1b[2J" in capsys.readouterr().err


def test_nothing_is_shown_of_waiting_outside_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log never holds it."""
    with Waiting("asking the driver"):
        pass
    assert capsys.readouterr().err == ""


def test_libraries_load_without_certificates_and_the_environment_stays() -> None:
    """The variables are what they were before."""

    before = os.environ.get("SSL_CERT_FILE")
    with loading(certificates=False):
        assert os.environ["SSL_CERT_FILE"] == os.devnull
    assert os.environ.get("SSL_CERT_FILE") == before


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, ours = root.handlers[:], root.level, logging.getLogger("macvlan_global").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("macvlan_global").setLevel(ours)


@pytest.mark.usefixtures("_logging_as_it_was")
def test_the_log_as_json_has_a_line_for_each_record(capsys: pytest.CaptureFixture[str]) -> None:
    """Level, logger, message, and an exception if there was one; libraries stay at warning."""
    set_up_logging("info", "json")
    log = logging.getLogger("macvlan_global.test")
    log.info("made %s", "lan")
    log.debug("not shown")
    logging.getLogger("other").info("not shown")
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("failed")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["level"], first["logger"], first["message"]) == ("info", "macvlan_global.test", "made lan")
    assert "ValueError: bad" in second["exception"]


@pytest.mark.usefixtures("_logging_as_it_was")
def test_the_log_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, logger and message."""
    set_up_logging("warning", "text")
    logging.getLogger("macvlan_global.test").warning("look")
    assert capsys.readouterr().err.endswith("WARNING macvlan_global.test: look\n")


@pytest.mark.usefixtures("_logging_as_it_was")
def test_a_driver_may_open_as_many_files_as_its_service_allows(tmp_path: Path) -> None:
    """Each parent that is watched takes two. A start that fails later has raised the limit all the same."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    handler = signal.getsignal(signal.SIGTERM)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        (tmp_path / "file").touch()
        with pytest.raises(Unavailable, match="cannot be used"):
            run_driver(None, {"state_dir": str(tmp_path / "file/state")})
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        signal.signal(signal.SIGTERM, handler)


def test_the_module_runs_the_same_command_line() -> None:
    """`python -m macvlan_global` is the program."""
    assert vars(module)["main"] is entry.main
