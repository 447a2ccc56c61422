"""A message is one line of the log, whoever wrote what is in it."""

import logging
import os

import pytest

from macvlan_global.cli.logs import LineFormatter, PatientHandler


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("names/a", "names/a"),
        ("names/\n2026 WARNING forged", "names/\\n2026 WARNING forged"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u2028b", "a\\u2028b"),
        ("é\u00a0", "é\\xa0"),
    ],
)
def test_what_others_wrote_begins_no_line(key: str, shown: str) -> None:
    """Control characters and separators are escaped; letters of any script are not."""
    record = logging.LogRecord("x", logging.WARNING, "", 0, "key %s", (key,), None)
    assert LineFormatter("%(levelname)s %(message)s").format(record) == f"WARNING key {shown}"


def test_a_trace_has_its_lines() -> None:
    """It comes behind the message."""
    try:
        raise KeyError("x")
    except KeyError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "a bug", (), (KeyError, error, error.__traceback__))
    lines = LineFormatter("%(message)s").format(record).splitlines()
    assert lines[0] == "a bug"
    assert lines[-1] == "KeyError: 'x'"


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    """Lines are dropped, and once the journal goes on, one line says how many."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream, os.fdopen(read, "rb", buffering=0) as reader:
        handler = PatientHandler(stream)
        for number in range(5000):
            handler.emit(
                logging.LogRecord("x", logging.INFO, "", 0, "line %04d of a log that nobody reads", (number,), None)
            )
        kept = reader.read(1 << 20).decode().splitlines()
        assert kept[0] == "line 0000 of a log that nobody reads"
        assert 1000 < len(kept) < 5000
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "later", (), None))
        handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "last", (), None))
        told = reader.read(1 << 20).decode().splitlines()
    assert told == [f"{5000 - len(kept)} lines were dropped: nobody read the log", "later", "last"]


def test_a_long_line_is_written_whole() -> None:
    """A trace may be longer than what a pipe takes at once."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream, os.fdopen(read, "rb", buffering=0) as reader:
        PatientHandler(stream).emit(logging.LogRecord("x", logging.INFO, "", 0, "y" * 20_000, (), None))
        assert reader.read(1 << 20) == b"y" * 20_000 + b"\n"
