"""`macvlan-global parents`: how a network's parent is chosen, entry by entry."""

import typer

from macvlan_global.admin.messages import ChoiceView
from macvlan_global.cli.cells import BAD, GOOD, WARN, Cell
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, NetworkArgument, driver_at, example
from macvlan_global.cli.waiting import Waiting

EXAMPLE = example("macvlan-global parents lan")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("parents", epilog=EXAMPLE)(parents)


def parents(
    network: NetworkArgument,
    *,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Show how a network's parent is chosen, and why.

    Evaluates the entries of the list or parent file in order, on this host and now. The first usable entry wins; the
    rest is not checked.
    """
    with Waiting("asking the driver"):
        found = driver_at(admin_socket, config).parents(network)
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    render.print_pairs([("Network", found.network), ("Asked for", found.source), ("Parent", _parent(found))])
    print()
    rows: list[list[Cell]] = [
        [each.entry, ("chosen", GOOD) if each.usable else ("passed over", WARN), each.reason] for each in found.verdicts
    ]
    render.print_table(("ENTRY", "VERDICT", "REASON"), rows)


def _parent(found: ChoiceView) -> Cell:
    if not found.chosen:
        return f"{found.current or 'none'}; no entry is usable now, so no container can start on it", BAD
    if found.chosen != found.current:
        return f"{found.current or 'none'}; {found.chosen} would be chosen now", WARN
    return found.current
