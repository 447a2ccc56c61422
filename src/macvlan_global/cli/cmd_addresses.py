"""`macvlan-global addresses`: who holds which address."""

import time
from ipaddress import ip_address
from typing import Annotated

import typer

from macvlan_global.admin.messages import AddressView
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, complete_network, driver_at, example
from macvlan_global.cli.times import ago
from macvlan_global.cli.waiting import Waiting

EXAMPLE = example("macvlan-global addresses", "macvlan-global addresses lan --json")
HEADINGS = ("ADDRESS", "NETWORK", "KIND", "HOLDER", "MAC", "HOST", "SINCE")

OneNetwork = Annotated[
    str,
    typer.Argument(
        help="name, id or the beginning of an id; all networks if it is left out",
        metavar="NETWORK",
        autocompletion=complete_network,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("addresses", epilog=EXAMPLE)(addresses)


def addresses(
    network: OneNetwork = "",
    *,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
) -> None:
    """List the addresses in use and their holders.

    KIND is endpoint (a container), gateway, aux, host (a host itself, by host_access), or reserved (not claimed yet).
    """
    with Waiting("asking the driver"):
        found = driver_at(admin_socket, config).addresses(network)
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    render.print_table(HEADINGS, [_row(each) for each in sorted(found, key=_order)])


def _order(address: AddressView) -> tuple[str, int, int]:
    parsed = ip_address(address.address)
    return address.network, parsed.version, int(parsed)


def _row(each: AddressView) -> list[str]:
    mac, holder, network = each.mac or "-", each.holder or "-", each.network or "-"
    return [each.address, network, each.kind, holder, mac, each.host, ago(time.time() - each.at)]
