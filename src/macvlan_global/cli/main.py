"""The command `macvlan-global`: its subcommands, and how errors reach the operator."""

import sys

import typer

from macvlan_global.cli import cmd_serve
from macvlan_global.errors import MacvlanGlobalError

app = typer.Typer(
    name="macvlan-global",
    help="One macvlan network across all your Docker hosts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
cmd_serve.add_to(app)


def main() -> None:
    """Run the command line; an error of ours becomes one line on stderr and exit code 1."""
    try:
        app()
    except MacvlanGlobalError as error:
        print(f"macvlan-global: {error}", file=sys.stderr)
        sys.exit(1)
