"""Tests in several processes that share one collection: what pytest says of them is what it says of one process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.paths import ROOT

MANY = """
import os, signal, pytest

@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return tmp_path_factory.mktemp("once")

@pytest.mark.parametrize("number", range(100))
def test_one_of_many(number, once, tmp_path):
    print("said by", number)
    assert tmp_path.parent == once.parent
    {body}
"""


def _pytest(folder: Path, body: str, *options: str) -> tuple[int, str]:
    (folder / "test_many.py").write_text(MANY.format(body=body))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.side_by_side", "--processes=2", *options]
    command += ["-p", "no:cacheprovider", f"-c={ROOT}/pyproject.toml", f"--basetemp={folder}/temp", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_each_test_runs_once(tmp_path: Path) -> None:
    """In one of two processes, with folders that nobody else has."""
    told = tmp_path / "told"
    told.mkdir()
    code, text = _pytest(tmp_path, f"(__import__('pathlib').Path('{told}') / f'{{number}}-{{os.getpid()}}').touch()")
    assert code == 0, text
    assert "100 passed" in text
    names = [each.name.split("-") for each in told.iterdir()]
    assert sorted(int(number) for number, _ in names) == list(range(100))
    assert len({process for _, process in names}) <= 2


def test_tests_that_share_an_address_run_in_one_process(tmp_path: Path) -> None:
    """However many they are."""
    told = tmp_path / "told"
    told.mkdir()
    body = f"(__import__('pathlib').Path('{told}') / f'{{number}}-{{os.getpid()}}').touch()\n"
    code, text = _pytest(tmp_path, f"{body}pytestmark = pytest.mark.together")
    assert (code, "100 passed" in text) == (0, True), text
    assert len(list(told.iterdir())) == 100
    assert len({each.name.split("-")[1] for each in told.iterdir()}) == 1


def test_failures_are_told_with_what_was_printed(tmp_path: Path) -> None:
    """The exit code, the count, and for each failure its assertion and its output, and nobody else's."""
    code, text = _pytest(tmp_path, "assert number % 40 != 7")
    assert (code, "3 failed, 97 passed" in text) == (1, True), text
    # in the order in which two processes come to them
    assert sorted(re.findall(r"said by \d+", text)) == ["said by 47", "said by 7", "said by 87"]
    assert "assert (47 % 40) != 7" in text


def test_the_first_failure_ends_the_run_if_asked(tmp_path: Path) -> None:
    """With -x the others are not waited for."""
    code, text = _pytest(tmp_path, "assert number != 5", "-x")
    assert (code, "1 failed" in text) == (1, True), text


@pytest.mark.parametrize(
    "body", ["number == 50 and os.kill(os.getpid(), signal.SIGKILL)", "number == 50 and os._exit(0)"]
)
def test_a_process_that_ends_is_an_error(tmp_path: Path, body: str) -> None:
    """No test is silently left out; the error tells where to look."""
    code, text = _pytest(tmp_path, body)
    assert code == pytest.ExitCode.INTERRUPTED, text
    assert re.search(r"a process ended with (-9|0); the last test that it reported was \S*test_many.py::test_one", text)
