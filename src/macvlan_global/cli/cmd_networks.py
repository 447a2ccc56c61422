"""`macvlan-global networks`: the networks of this host, their parents, and how full they are."""

from collections.abc import Iterator

import typer

from macvlan_global.admin.messages import NetworkView, SubnetView
from macvlan_global.cli.cells import Cell
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, driver_at, example
from macvlan_global.cli.times import amount
from macvlan_global.cli.waiting import Waiting

EXAMPLE = example("macvlan-global networks", "macvlan-global networks --json | jq '.[].subnets'")
HEADINGS = ("NETWORK ID", "NAME", "PARENT", "STATE", "MODE", "ENDPOINTS", "SUBNET", "GATEWAY", "USED")
STYLES = {"up": "green", "down": "red", "missing": "red"}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("networks", epilog=EXAMPLE)(networks)


def networks(*, json: JsonFlag = False, admin_socket: AdminSocketFlag = None, config: ConfigFlag = None) -> None:
    """List networks, their parents and addresses in use.

    A network with several subnets has a line for each. STATE is the parent's: up, down or missing.
    Problems of networks are listed below the table.
    """
    with Waiting("asking the driver"):
        found = driver_at(admin_socket, config).networks()
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    ordered = sorted(found, key=lambda each: each.name)
    render.print_table(HEADINGS, [row for each in ordered for row in _rows(each)])
    for each in ordered:
        if each.problem:
            render.print_text(f"{each.name}: {each.problem}", "yellow")


def _rows(network: NetworkView) -> Iterator[list[Cell]]:
    mode = f"{network.mode}, internal" if network.internal else network.mode
    head: list[Cell] = [
        network.id[:12],
        network.name,
        (network.parent or "-") + (" (made)" if network.parent_made else ""),
        (network.parent_state, STYLES.get(network.parent_state, "")),
        mode,
        str(network.endpoints),
    ]
    for subnet in network.subnets or [SubnetView(subnet="-")]:
        yield [*head, *_subnet(subnet)]
        head = [""] * len(head)


def _subnet(subnet: SubnetView) -> tuple[str, str, str]:
    within = f" (range {subnet.range})" if subnet.range and subnet.range != subnet.subnet else ""
    # another IPAM driver counts its own addresses
    used = f"{subnet.used} of {amount(subnet.size)}" if subnet.size else "-"
    return subnet.subnet + within, subnet.gateway or "-", used
