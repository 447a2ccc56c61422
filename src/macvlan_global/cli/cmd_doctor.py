"""`macvlan-global doctor`: look at the host, the engine, the driver and the parents, and say what to do."""

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from macvlan_global.cli.cells import DIM, Cell
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, example
from macvlan_global.cli.waiting import Waiting
from macvlan_global.doctor.findings import LEVELS, Finding, Report, report

EXAMPLE = example("macvlan-global doctor", "macvlan-global doctor --json | jq '.findings[] | select(.level != \"ok\")'")
STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}

RootFlag = Annotated[Path, typer.Option("--root", help="look below this folder instead of /", hidden=True)]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor", epilog=EXAMPLE)(doctor)


def doctor(
    *,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
    root: RootFlag = Path("/"),
) -> None:
    """Check this host, with a remedy for each finding.

    Checks kernel modules, rights, the engine, the driver, its sockets, its configuration and state, the parents in use,
    and MAC filters of hypervisors and clouds. Changes nothing. Exit code 1 if there is a finding of level error.
    """
    # imported here: the other commands need nothing of it
    from macvlan_global.cli.systemd import outdated  # noqa: PLC0415
    from macvlan_global.doctor.examine import examine  # noqa: PLC0415
    from macvlan_global.doctor.gather import gather  # noqa: PLC0415

    with Waiting("looking at this host"):
        found = report(examine(gather(config, admin_socket, os.environ, root, outdated=outdated(root))))
    # imported here: rich costs a quarter of the start, and completion and errors need none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
    else:
        rows: list[list[Cell]] = [row for each in found.findings for row in _rows(each)]
        render.print_table(("LEVEL", "CHECK", "FINDING"), rows)
        print()
        render.print_text(_summary(found))
    if found.worst == "error":
        raise typer.Exit(1)


def _rows(finding: Finding) -> list[list[Cell]]:
    first: list[Cell] = [(finding.level, STYLES[finding.level]), finding.check, finding.seen]
    return [first, ["", "", (f"→ {finding.do}", DIM)]] if finding.do else [first]


def _summary(found: Report) -> str:
    counts = Counter(each.level for each in found.findings)
    parts = [
        f"{counts[level]} {level}{'s' if counts[level] > 1 else ''}"
        for level in reversed(LEVELS)
        if counts[level] and level != "ok"
    ]
    return f"{', '.join(parts)}, {counts['ok']} ok." if parts else f"All well: {counts['ok']} checks."
