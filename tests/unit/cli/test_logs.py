"""A message is one line of the log, whoever wrote what is in it."""

import logging

import pytest

from macvlan_global.cli.logs import LineFormatter


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
