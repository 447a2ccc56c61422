"""Findings of the doctor, and the report of all of them."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")
MOST_NAMES = 5


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at.

    `level`: ok; note (good to know); warning (something will not work, or not well); error (the driver or a network
    cannot work as it is). `check` is the subject, `seen` what was found, `do` what to do about it, "" for nothing.
    """

    level: Level
    check: str
    seen: str
    do: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All findings, and the worst level among them."""

    worst: Level
    findings: list[Finding]


def report(findings: list[Finding]) -> Report:
    """Put findings together."""
    return Report(worst=max((each.level for each in findings), key=LEVELS.index, default="ok"), findings=findings)


def listed(names: Iterable[str]) -> str:
    """The names with commas between, and how many more there are than can be read."""
    found = list(names)
    shown = ", ".join(found[:MOST_NAMES])
    return shown if len(found) <= MOST_NAMES else f"{shown} and {len(found) - MOST_NAMES} more"
