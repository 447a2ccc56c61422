"""`macvlan-global serve`: run the driver in the foreground."""

import inspect
from pathlib import Path
from typing import Annotated

import typer

from macvlan_global.cli.options import example
from macvlan_global.cli.start import run_driver
from macvlan_global.config import FLAGS

EXAMPLE = example("macvlan-global serve --log-level debug", "macvlan-global serve --metrics 127.0.0.1:9477")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("serve", epilog=EXAMPLE)(serve)


def serve(config: Path | None = None, **flags: str | None) -> None:
    """Run the driver in the foreground.

    It serves until SIGTERM or Ctrl-C. Without it containers run on; new ones cannot start. Every flag
    is also a key of the configuration file and an environment variable MACVLAN_GLOBAL_….
    """
    run_driver(config, flags)


def _describe_flags() -> None:
    """Give `serve` one parameter for each flag, from the description of the configuration: typer reads signatures."""
    kinds = {"config": Annotated[Path | None, typer.Option(help="TOML file [/etc/macvlan-global/config.toml]")]}
    kinds |= {key: Annotated[str | None, typer.Option(help=text)] for key, text in FLAGS.items()}
    serve.__annotations__ = {**kinds, "return": None}
    serve.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # PEP 362: inspect and typer look there first
        [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for key, kind in kinds.items()
        ]
    )


_describe_flags()
