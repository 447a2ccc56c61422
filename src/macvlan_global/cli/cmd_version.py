"""`macvlan-global version`."""

import typer

from macvlan_global import __version__
from macvlan_global.cli.options import JsonFlag, example

EXAMPLE = example("macvlan-global version")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("version", epilog=EXAMPLE)(version)


def version(*, json: JsonFlag = False) -> None:
    """Print the version."""
    print(f'{{\n  "version": "{__version__}"\n}}' if json else f"macvlan-global {__version__}")
