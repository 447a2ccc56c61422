"""The command `macvlan-global`: its subcommands, and how errors reach the operator."""

import sys
from typing import Annotated

import typer

from macvlan_global import __version__
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


@app.command("version")
def version(json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Print the version.

    Example: macvlan-global version
    """
    print(f'{{"version": "{__version__}"}}' if json else f"macvlan-global {__version__}")


def main() -> None:
    """Run the command line; an error of ours becomes one line on stderr and exit code 1."""
    try:
        app()
    except MacvlanGlobalError as error:
        print(f"macvlan-global: {error}", file=sys.stderr)
        sys.exit(1)
