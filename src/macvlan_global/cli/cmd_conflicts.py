"""`macvlan-global conflicts`: devices that use addresses of containers, hosts or gateways."""

import time

import typer

from macvlan_global.admin.messages import ConflictView
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, driver_at, example
from macvlan_global.cli.times import ago
from macvlan_global.cli.waiting import Waiting

EXAMPLE = example("macvlan-global conflicts", "macvlan-global conflicts --json")
HEADINGS = ("ADDRESS", "HOLDER", "MAC", "PARENT", "FRAMES", "FIRST", "LAST", "DEVICE")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("conflicts", epilog=EXAMPLE)(conflicts)


def conflicts(*, json: JsonFlag = False, admin_socket: AdminSocketFlag = None, config: ConfigFlag = None) -> None:
    """List devices that claim addresses which a container, a host or a gateway has.

    The latest conflict is the last one. MAC is the holder's; DEVICE claims the address too.
    """
    with Waiting("asking the driver"):
        found = driver_at(admin_socket, config).conflicts()
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    render.print_table(HEADINGS, [_row(each) for each in found])


def _row(each: ConflictView) -> list[str]:
    now = time.time()
    parent = f"{each.parent} (VLAN {each.vlan})" if each.vlan else each.parent
    known = [word for word in (each.other, each.vendor) if word]
    device = f"{each.mac} ({', '.join(known)})" if known else each.mac
    doing = f"{device} has this MAC and {each.claimed}" if each.claimed else f"{device} {each.how} it"
    times = [ago(now - each.first), ago(now - each.last)]
    return [each.address, each.holder, each.holder_mac or "-", parent, str(each.count), *times, doing]
