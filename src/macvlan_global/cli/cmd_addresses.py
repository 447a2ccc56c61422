"""`macvlan-global addresses`: the holders of addresses, and those that are remembered."""

import time
from ipaddress import ip_address
from typing import Annotated

import typer
from typer._click import Context  # typer brings its own click
from typer.core import TyperGroup, TyperOption

from macvlan_global.admin.messages import AddressView, RememberedView
from macvlan_global.cli.options import (
    AdminSocketFlag,
    ConfigFlag,
    JsonFlag,
    complete_network,
    driver_at,
    example,
    hand_on,
)
from macvlan_global.cli.times import ago
from macvlan_global.cli.waiting import Waiting

EXAMPLE = example("macvlan-global addresses", "macvlan-global addresses lan --json")
FORGET_EXAMPLE = example("macvlan-global addresses forget 10.65.0.9")
HEADINGS = ("ADDRESS", "NETWORK", "KIND", "HOLDER", "MAC", "HOST", "SINCE")
REMEMBERED_HEADINGS = ("ADDRESS", "NETWORK", "NAME", "MAC", "HOST", "LAST USED")

OneNetwork = Annotated[
    str,
    typer.Argument(
        help="name, id or the beginning of an id; all networks if it is left out",
        metavar="NETWORK",
        autocompletion=complete_network,
    ),
]


RememberedFlag = Annotated[
    bool,
    typer.Option("--remembered", help="list addresses that stay with names of containers, the longest unused first"),
]
AddressArgument = Annotated[str, typer.Argument(help="an address, without prefix length", metavar="ADDRESS")]


class AddressesGroup(TyperGroup):
    """A group with an argument of its own, which is left out before a subcommand: `addresses forget`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """See click: the first word that is no option is a subcommand, or options may follow it."""
        valued = {
            name for each in self.params if isinstance(each, TyperOption) and not each.is_flag for name in each.opts
        }
        at = 0
        while at < len(args) and args[at].startswith("-"):
            at += 2 if args[at] in valued else 1
        if at < len(args) and args[at] in self.commands:
            return super().parse_args(ctx, [*args[:at], "", *args[at:]])
        ctx.allow_interspersed_args = True
        return super().parse_args(ctx, args)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(
        name="addresses", cls=AddressesGroup, invoke_without_command=True, callback=addresses, epilog=EXAMPLE
    )
    group.command("forget", epilog=FORGET_EXAMPLE)(forget)
    app.add_typer(group, rich_help_panel=None)


def addresses(
    context: typer.Context,
    network: OneNetwork = "",
    *,
    remembered: RememberedFlag = False,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
) -> None:
    """List the addresses in use and their holders, or forget one that is remembered.

    KIND is endpoint (a container), gateway, aux, host (a host itself, by host_access), or reserved (not claimed yet).
    """
    if context.invoked_subcommand:
        hand_on(context)
        return
    driver = driver_at(admin_socket, config)
    with Waiting("asking the driver"):
        found: list[AddressView] | list[RememberedView] = (
            driver.remembered(network) if remembered else driver.addresses(network)
        )
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    kept = [each for each in found if isinstance(each, RememberedView)]
    held = sorted((each for each in found if isinstance(each, AddressView)), key=_order)
    rows = [_remembered_row(each) for each in kept] if remembered else [_row(each) for each in held]
    render.print_table(REMEMBERED_HEADINGS if remembered else HEADINGS, rows)


def forget(
    address: AddressArgument,
    *,
    json: JsonFlag = False,
    admin_socket: AdminSocketFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Forget a remembered address.

    It was kept for a container that is gone, and is as free as any from now on.
    """
    with Waiting("asking the driver"):
        found = driver_at(admin_socket, config).forget_address(address)
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    for each in found:
        whose = f"of container {each.name} on network {each.network}" if each.name else "given by --ip"
        render.print_text(f"Address {each.address}, {whose}, is forgotten.", "")


def _order(address: AddressView) -> tuple[str, int, int]:
    parsed = ip_address(address.address)
    return address.network, parsed.version, int(parsed)


def _row(each: AddressView) -> list[str]:
    mac, holder, network = each.mac or "-", each.holder or "-", each.network or "-"
    return [each.address, network, each.kind, holder, mac, each.host, ago(time.time() - each.at)]


def _remembered_row(each: RememberedView) -> list[str]:
    used = "now" if each.in_use else ago(time.time() - each.at)
    return [each.address, each.network or "-", each.name or "(--ip)", each.mac or "-", each.host, used]
