"""`macvlan-global repair`: compare state, kernel and engine, and put right what differs."""

from typing import Annotated

import typer

from macvlan_global.cli.cells import BAD, WARN, Cell
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, driver_at, example
from macvlan_global.cli.waiting import Waiting

EXAMPLE = example("macvlan-global repair --dry-run", "macvlan-global repair")
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="only say what would be done")]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("repair", epilog=EXAMPLE)(repair)


def repair(
    *,
    dry_run: DryRunFlag = False,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Correct differences from kernel and engine.

    Compares state, kernel and engine, and prints each correction with its reason. The driver does the same
    when it starts and when the engine comes back. Exit code 1 if a correction failed.
    """
    with Waiting("comparing state, kernel and engine"):
        found = driver_at(admin_socket, config).repair(dry_run=dry_run)
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
    else:
        if not found.engine:
            text = "The engine does not answer: the state was compared with the kernel only."
            render.print_text(text, WARN)
        if not found.corrections and not found.failed:
            render.print_text("Nothing to correct.")
        else:
            outcome = "to do" if found.dry_run else "done"
            rows: list[list[Cell]] = [[each.action, outcome, each.subject, each.reason] for each in found.corrections]
            rows += [[each.action, ("failed", BAD), each.subject, each.reason] for each in found.failed]
            render.print_table(("CORRECTION", "OUTCOME", "WHAT", "REASON"), rows)
    if found.failed:
        raise typer.Exit(1)
