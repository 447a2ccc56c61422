"""Starts the driver, and knows its flags without a library: containers may be waiting for it.

`serve` is the one command that is started by a machine. Its flags are the scalar keys of the configuration, each with
one value. To read those takes no parser; loading one (typer, and what it brings) took a third of the start and 15 MB.
Whatever is not exactly such flags is left to typer: help, completion, abbreviations, mistakes and their texts.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from macvlan_global.cli.lean import loading
from macvlan_global.cli.logs import set_up_logging
from macvlan_global.config import SCALARS, load_config

FLAGS = {f"--{key.replace('_', '-')}": key for key in ("config", *SCALARS)}
"""Every flag of `serve`, and its key."""


def plain_flags(arguments: Sequence[str]) -> dict[str, str] | None:
    """The values of a plain `serve --flag value --flag=value …`, by key; None if it is anything else."""
    if not arguments or arguments[0] != "serve":
        return None
    values: dict[str, str] = {}
    rest = list(arguments[1:])
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in FLAGS or not (equals or rest):
            return None
        values[FLAGS[flag]] = value if equals else rest.pop(0)
    return values


def run_driver(config: Path | None, flags: Mapping[str, str | None]) -> None:
    """Run the driver until SIGTERM or SIGINT.

    Raises:
        Invalid: the configuration is not right.
        Unavailable: the state or a socket cannot be used.
    """
    loaded = load_config(config, os.environ, flags)
    set_up_logging(loaded.log_level, loaded.log_format)
    # no other store speaks TLS, nor does a plain docker_host
    with loading(certificates="+https://" in loaded.store):
        # imported here so that a mistake in the configuration is told at once, and other commands do not pay
        import asyncio  # noqa: PLC0415

        from macvlan_global.daemon import Daemon  # noqa: PLC0415
        from macvlan_global.daemon import serve as serve_until_stopped  # noqa: PLC0415

    asyncio.run(serve_until_stopped(Daemon(loaded)))
