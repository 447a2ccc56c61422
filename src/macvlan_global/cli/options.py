"""Flags that commands share, and the client for the running driver."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer._click.core import ParameterSource  # typer brings its own click

from macvlan_global.config import load_config
from macvlan_global.errors import MacvlanGlobalError

if TYPE_CHECKING:
    from macvlan_global.admin.client import AdminClient

PATIENCE_SECONDS = 1.0
"""A key press must not hang on an engine or a driver that is busy."""


def complete_network(incomplete: str) -> list[str]:
    """Names of networks that begin with what was typed; none if the driver does not answer, or not soon."""
    # imported here: only a key press needs it
    from macvlan_global.admin.client import AdminClient  # noqa: PLC0415

    try:
        driver = AdminClient(load_config(None, os.environ, {}).admin_socket_here(), timeout=PATIENCE_SECONDS)
        return sorted(each.name for each in driver.networks() if each.name.startswith(incomplete))
    except MacvlanGlobalError:
        return []


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


def hand_on(context: typer.Context) -> None:
    """Give the options that stand between a group and its subcommand to the subcommand, unless it has them again: each
    names a driver or a form of the answer, which the whole line means."""
    params = context.params.items()
    given = {name: value for name, value in params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    context.default_map = {str(context.invoked_subcommand): given}


def example(*lines: str) -> str:
    """The end of a help text: what a user would type. The mark keeps the lines as they are."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
