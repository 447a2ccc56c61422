"""Rendering of answers: tables as `docker` prints them, pairs, and JSON."""

import codecs
import json
import sys
from collections.abc import Iterable, Sequence

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from macvlan_global.cli.cells import Cell
from macvlan_global.cli.printable import printable

UNLIMITED = 100_000
NARROWEST_LAST_COLUMN = 24


def print_json(answer: object) -> None:
    """Print an answer for programs: two blanks of indentation, keys in the order of the documentation. Where the output
    has another encoding than UTF-8, its characters are escapes of JSON (RFC 8259, section 7)."""
    text = msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()
    if codecs.lookup(sys.stdout.encoding or "utf-8").name != "utf-8":
        text = json.dumps(json.loads(text), indent=2)
    sys.stdout.write(text + "\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows below upper-case headings, without lines around them.

    Nothing is ever cut off. On a terminal that is too narrow the last column is folded if that is enough, and else
    the terminal breaks the lines; into a pipe every row is one line. Control characters are escaped.
    """
    cells = [[_text(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], overflow="fold")
    for row in cells:
        table.add_row(*row)
    widths = [max(len(head), *(cell_len(row[at].plain) for row in cells), 0) for at, head in enumerate(headings[:-1])]
    _print(table, sum(widths) + 3 * len(widths))


def print_pairs(pairs: Iterable[tuple[str, Cell]]) -> None:
    """Print `name: value`, one a line, values below each other."""
    found = [(name, _text(value)) for name, value in pairs]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in found:
        table.add_row(f"{name}:", value)
    _print(table, max(len(name) for name, _ in found) + 3)


def print_text(text: str, style: str = "") -> None:
    """Print a line of prose; on a terminal it is broken between words."""
    console = _console(0)
    console.print(_text((text, style)), soft_wrap=not console.is_terminal)


def _text(cell: Cell) -> Text:
    text, style = (cell, "") if isinstance(cell, str) else cell
    return Text(printable(text), style)


def _console(fixed: int) -> Console:
    """A console as wide as the terminal if at least the last column fits behind `fixed` others, else without end."""
    console = Console(highlight=False)
    if not console.is_terminal or console.width - fixed < NARROWEST_LAST_COLUMN:
        console = Console(highlight=False, width=UNLIMITED)
    return console


def _print(table: Table, fixed: int) -> None:
    console = _console(fixed)
    with console.capture() as capture:
        console.print(table)
    # rich fills the last column with blanks
    sys.stdout.write("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))
