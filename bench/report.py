"""The table: on the screen, and as Markdown between two markers of a document."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.rounds import Row, Spread

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"
HEADINGS = ("what", "ours", "beside", "yardstick", "ratio", "goal", "met")
_QUIET = 0.5
_SCALE = {"ms": 1e3, "us": 1e6, "s": 1.0, "MB": 1e-6, "kB": 1e-3, "/s": 1.0, "Gbit/s": 1e-9}


def cells(row: Row) -> tuple[str, ...]:
    """A row as texts, in the order of `HEADINGS`."""
    ratio, met = row.ratio(), row.met()
    return (
        row.what,
        _figure(row.ours, row.unit),
        _figure(row.yardstick, row.unit) if row.yardstick else "",
        row.beside,
        f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "",
        _goal(row),
        "" if met is None else ("yes" if met else "NO"),
    )


def show(rows: Iterable[Row]) -> None:
    """Print the table."""
    table = Table(title="ours beside yardsticks: median (p10-p90), taken in turns")
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*cells(row), style="red" if row.met() is False else "")
    Console(width=max(150, Console().width)).print(table)


def markdown(rows: Iterable[Row], load: float, before: str = "") -> str:
    """The table for a document, and what it was measured on; `load` is the machine's load average before that.

    Rows of the table `before` that were not measured now stay where they are.
    """
    now = {row.what: _line(cells(row)) for row in rows}
    kept = {line.split(" | ")[0].removeprefix("| "): line for line in before.splitlines() if line.startswith("| ")}
    kept = {what: line for what, line in kept.items() if what not in {HEADINGS[0], "---"}}
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS)), *(kept | now).values()]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GB, Linux {platform.release().partition('-')[0]}"
    how = f"load average before the run {load:.1f}" + (", so figures are noisy" if load > _QUIET else "")
    return "\n".join([*lines, "", f"Measured on {machine}, Python {platform.python_version()}; {how}."])


def write(rows: Iterable[Row], document: Path, load: float, *, whole: bool = True) -> None:
    """Put the table between the document's markers; see `markdown`. Unless it is the `whole` one, other rows stay.

    Raises:
        ValueError: the document has no markers.
    """
    text = document.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{document} has no line {BEGIN} or no line {END}")
    before = "" if whole else text.partition(BEGIN)[2].partition(END)[0]
    table = f"{BEGIN}\n{markdown(rows, load, before)}\n{END}"
    document.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table, text, flags=re.DOTALL))


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _figure(samples: Sequence[float], unit: str) -> str:
    spread = Spread.of([sample * _SCALE[unit] for sample in samples])
    shown = "us" if unit == "us" else unit
    middle, low, high = (_rounded(each) for each in (spread.median, spread.low, spread.high))
    return f"{middle} {shown}" if len(samples) == 1 else f"{middle} {shown} ({low}-{high})"


def _rounded(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    sign = "<=" if row.sense == "at most" else ">="
    return f"{sign} {row.goal:g}" if row.yardstick else f"{sign} {row.goal * _SCALE[row.unit]:g} {row.unit}"
