"""Output of the process itself: readers that go early, full disks, and encodings without our characters."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.running import running, with_networks

PROGRAM = (sys.executable, "-m", "macvlan_global")


def _writes_to(output: int, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A command line as a process of its own, to its end, with this output; buffered as Python does it by itself."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | environment
    return subprocess.run(
        [*PROGRAM, *words], stdout=output, stderr=subprocess.PIPE, encoding="latin-1", check=False, env=own
    )


def _without_reader(*words: str, **environment: str) -> tuple[int, str]:
    """Exit code and error of a command line whose output nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = _writes_to(writer, *words, **environment)
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", [("version",), ("--help",)])
def test_a_reader_that_goes_early_is_no_error(words: tuple[str, ...], *, buffered: bool) -> None:
    """Whether the output breaks in the middle of the command (typer sees that first) or at its end."""
    environment = {} if buffered else {"PYTHONUNBUFFERED": "1"}
    assert _without_reader(*words, **environment) == (0, "")


async def test_a_reader_of_a_table_may_go_early(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`macvlan-global addresses | true` succeeds."""
    async with running(tmp_path, capsys) as daemon:
        await with_networks(daemon)
        words = ("addresses", "--admin-socket", daemon.config.admin_socket)
        assert await asyncio.to_thread(_without_reader, *words) == (0, "")


def test_an_error_stays_one_without_a_reader(tmp_path: Path) -> None:
    """Its code and its line are those of the error."""
    code, said = _without_reader("status", "--admin-socket", str(tmp_path / "none.sock"))
    assert code == 1
    assert said.startswith("macvlan-global: the driver is not running here")


def test_a_disk_that_is_full_at_the_end_is_an_error_in_one_line() -> None:
    """A short output is written as the process ends."""
    with Path("/dev/full").open("w") as full:
        done = _writes_to(full.fileno(), "version")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the output cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_an_output_that_lacks_a_character_gets_an_escape(tmp_path: Path, encoding: str) -> None:
    """The arrow before a remedy, say, which is Python's escape in text, and one of JSON in JSON."""
    folder = (
        "--root",
        str(tmp_path),
        "--config",
        str(tmp_path / "é→😀.toml"),
        "--admin-socket",
        str(tmp_path / "none"),
    )
    text = _writes_to(subprocess.PIPE, "doctor", *folder, PYTHONIOENCODING=encoding)
    assert (text.returncode, text.stderr) == (1, "")
    assert "\\u2192 correct it: the driver does not start with it" in text.stdout
    found = _writes_to(subprocess.PIPE, "doctor", "--json", *folder, PYTHONIOENCODING=encoding)
    assert any("é→😀.toml cannot be read" in each["seen"] for each in json.loads(found.stdout)["findings"])
