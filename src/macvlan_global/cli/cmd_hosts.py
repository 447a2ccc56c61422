"""`macvlan-global hosts`: the hosts of the cluster, and letting go of one that is gone for good."""

import time
from typing import Annotated

import typer

from macvlan_global.admin.messages import HostRemovalView, HostView
from macvlan_global.cli.cells import BAD, GOOD, WARN, Cell
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, driver_at, example, hand_on
from macvlan_global.cli.times import ago
from macvlan_global.cli.waiting import Waiting

EXAMPLE = example("macvlan-global hosts", "macvlan-global hosts --json | jq -r '.[] | select(.state==\"down\").name'")
REMOVE_EXAMPLE = example("macvlan-global hosts remove bert")
HEADINGS = ("NAME", "STATE", "VERSION", "ENGINE", "LAST SEEN", "NETWORKS", "ADDRESSES")
STYLES = {"up": GOOD, "down": BAD}
REMOVE_SECONDS = 600.0
"""Timeout for probing the network: three seconds for each container of the host, sixteen at a time."""

HostArgument = Annotated[str, typer.Argument(help="name, id or the beginning of an id", metavar="HOST")]
ForceFlag = Annotated[bool, typer.Option("--force", help="skip probing: reclaim addresses that may still be in use")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(name="hosts", invoke_without_command=True, callback=hosts, epilog=EXAMPLE)
    group.command("remove", epilog=REMOVE_EXAMPLE)(remove)
    app.add_typer(group, rich_help_panel=None)


def hosts(
    context: typer.Context,
    *,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
) -> None:
    """List the hosts of the cluster, or remove one.

    STATE is up while the host's driver runs and reaches the store. ADDRESSES counts those of its containers.
    """
    if context.invoked_subcommand:
        hand_on(context)
        return
    with Waiting("asking the driver"):
        found = driver_at(admin_socket, config).hosts()
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    render.print_table(HEADINGS, [_row(each) for each in found])


def remove(
    host: HostArgument,
    *,
    force: ForceFlag = False,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Reclaim the addresses of a host that is gone for good.

    Probes for each of its addresses on the network's parent here, and keeps those that a device answers for. The host
    is removed once it holds nothing any more. Exit code 1 if something was kept.
    """
    with Waiting("probing for its addresses"):
        found = driver_at(admin_socket, config, timeout=REMOVE_SECONDS).remove_host(host, force=force)
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
    else:
        rows: list[list[Cell]] = [[each, "reclaimed", ""] for each in found.given_back]
        rows += [[each.address, ("kept", WARN), each.reason] for each in found.kept]
        if rows:
            render.print_table(("ADDRESS", "OUTCOME", "REASON"), rows)
        render.print_text(_summary(found), "" if found.removed else WARN)
    if not found.removed:
        raise typer.Exit(1)


def _summary(found: HostRemovalView) -> str:
    if found.removed:
        return f"Host {found.name} is removed."
    return (
        f"Host {found.name} is not removed: it still holds addresses. Stop the devices that answer for them, or run "
        "this on a host that has the network; --force skips probing."
    )


def _row(each: HostView) -> list[Cell]:
    seen = ago(time.time() - each.seen) if each.seen else "never"
    counts = [str(each.networks), str(each.addresses)]
    state: Cell = (each.state, STYLES.get(each.state, ""))
    return [each.name, state, each.version or "-", each.engine or "-", seen, *counts]
