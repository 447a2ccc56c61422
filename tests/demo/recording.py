"""Terminal recordings in the second form of asciinema (asciicast v2): a header, then a line for each piece of output.
That of `make demo` is made by the test that runs it.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.paths import ROOT
from tests.docs.console import shape

RECORDING = ROOT / "docs" / "demo" / "two-hosts.cast"
TITLE = "macvlan-global: one network on two hosts"
COLUMNS, ROWS = 120, 40
IDLE_SECONDS = 2.0
"""A player waits no longer than that between two pieces."""
STAYS = "Press Enter, and all of it goes."
"""Line with which the demo waits."""
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_VARYING = (
    (re.compile(r"\[\d+\.\d\d s\]|\bIt took \d+ s\b"), "<time>"),
    (re.compile(r"\b(?:\d+ \w+|less than a second) ago\b"), "<ago>"),
    (re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+"), "<moment>"),
    (re.compile(r" as that command ends$|, \d+ ms after that command ended$"), "<soon>"),
    (re.compile(r"\b\d+( +<ago> +<ago> .*) (announces|answers for|uses|probes for) it$"), r"<frames>\1 claims it"),
    (re.compile(r"http://127\.0\.0\.1:\d+/ on this machine"), "<page>"),
)

_SOMETIMES = ("watch triggered with 1 hosts", "warning: no other nameserver is listed")
"""Lines that depend on which host is faster, and on the nameservers of this machine."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Output of a terminal, and when it came, in seconds from the start."""

    at: float
    text: str


def command(*options: str) -> list[str]:
    """The command line of what `make demo` runs."""
    return [sys.executable, "-m", "demo.two_hosts", *options]


def start(*options: str, colours: bool = False) -> "subprocess.Popen[bytes]":
    """Start the demo, its output in pipes."""
    environment = os.environ | {"COLUMNS": str(COLUMNS)} | ({"FORCE_COLOR": "1"} if colours else {})
    return subprocess.Popen(
        command(*options),
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def pieces(demo: "subprocess.Popen[bytes]") -> Iterator[Piece]:
    """Output as it comes, line by line, until its end."""
    assert demo.stdout is not None
    begun = time.monotonic()
    for line in demo.stdout:
        yield Piece(round(time.monotonic() - begun, 3), line.decode())


def written(heard: Sequence[Piece]) -> str:
    """The file of a recording."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "idle_time_limit": IDLE_SECONDS, "title": TITLE}
    events = [[each.at, "o", each.text.replace("\n", "\r\n")] for each in heard]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (header, *events))


def read(text: str) -> list[Piece]:
    """The pieces of a recording.

    Raises:
        ValueError: it is none, or times go back.
    """
    header, *events = [json.loads(line) for line in text.splitlines()]
    if header["version"] != 2 or not (header["width"] and header["height"]):
        raise ValueError("this is no recording of the second form")
    heard = [Piece(at, text.replace("\r\n", "\n")) for at, kind, text in events if kind == "o"]
    if len(heard) != len(events) or [each.at for each in heard] != sorted(each.at for each in heard):
        raise ValueError("a piece is no output, or its time is before the one above it")
    return heard


def plain(heard: Sequence[Piece]) -> str:
    """Text of a recording without its colours."""
    return _ESCAPES.sub("", "".join(each.text for each in heard))


def story(heard: Sequence[Piece]) -> list[str]:
    """Lines of a recording without what differs from run to run."""
    lines = []
    for line in plain(heard).splitlines():
        if any(each in line for each in _SOMETIMES):
            continue
        text = line.strip()
        for pattern, placeholder in _VARYING:
            text = pattern.sub(placeholder, text)
        lines.append(shape(text))
    return lines
