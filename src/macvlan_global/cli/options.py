"""What the commands have in common: their flags, and how they find the running driver."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macvlan_global.cli.complete import complete_network
from macvlan_global.config import load_config

if TYPE_CHECKING:
    from macvlan_global.admin.client import AdminClient

JsonFlag = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
ConfigFlag = Annotated[Path | None, typer.Option("--config", help="TOML file [/etc/macvlan-global/config.toml]")]
AdminSocketFlag = Annotated[
    str | None,
    typer.Option("--admin-socket", help="the driver's socket for commands [/run/macvlan-global/admin.sock]"),
]
NetworkArgument = Annotated[
    str,
    typer.Argument(help="name, id or the beginning of an id", metavar="NETWORK", autocompletion=complete_network),
]


def driver_at(admin_socket: str | None, config: Path | None, *, timeout: float = 60.0) -> "AdminClient":
    """A client of the running driver; `timeout` in seconds for its answer. With `admin_socket` given no configuration
    is read, so that a mistake in the file cannot stand in the way. Where no service runs, a managed plugin is asked.

    Raises:
        Invalid: the configuration is not right.
    """
    # imported here: commands that do not ask the driver need no HTTP
    from macvlan_global.admin.client import AdminClient  # noqa: PLC0415

    return AdminClient(admin_socket or load_config(config, os.environ, {}).admin_socket_here(), timeout)


def example(*lines: str) -> str:
    """The end of a help text: what a user would type. The mark keeps the lines as they are."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
