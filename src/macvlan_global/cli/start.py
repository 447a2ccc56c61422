"""Start of the driver without a library for its flags: containers may be waiting for it.

`serve` is the one command that a machine starts. Its flags are the keys of `config.FLAGS`, each with one value; to read
those takes no parser. Loading typer, and all that it brings, took a third of the start and 15 MB. Anything but exactly
such flags is left to typer, which has the same description: help, completion, abbreviations, mistakes and their texts.

The plugin's socket listens before the libraries are loaded, which is most of a start. An engine that enables a managed
plugin gives up after three tries to connect, within ten seconds and whatever its `--timeout` says; a connection that it
has may wait.
"""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from macvlan_global.cli.lean import loading
from macvlan_global.cli.logs import set_up_logging
from macvlan_global.config import FLAGS, load_config
from macvlan_global.listening import plugin_socket
from macvlan_global.store.state_folder import locked_state

_KEYS = {f"--{key.replace('_', '-')}": key for key in ("config", *FLAGS)}


def plain_flags(arguments: Sequence[str]) -> dict[str, str] | None:
    """The values of a plain `serve --flag value --flag=value …`, by key; None if it is anything else."""
    if not arguments or arguments[0] != "serve":
        return None
    values: dict[str, str] = {}
    rest = list(arguments[1:])
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in _KEYS or not (equals or rest):
            return None
        values[_KEYS[flag]] = value if equals else rest.pop(0)
    return values


def run_driver(config: Path | None, flags: Mapping[str, str | None]) -> None:
    """Run the driver until SIGTERM or SIGINT.

    Raises:
        Invalid: the configuration is not right.
        Unavailable: the state or a socket cannot be used.
    """
    loaded = load_config(config, os.environ, flags)
    set_up_logging(loaded.log_level, loaded.log_format)
    _raise_descriptor_limit()
    signal.signal(signal.SIGTERM, _end)  # until the driver's own: what is open is to be closed
    state = locked_state(loaded.store, Path(loaded.state_dir))
    with state, plugin_socket(Path(loaded.socket), os.environ) as listener:
        # no other store speaks TLS, nor does a plain docker_host
        with loading(certificates="+https://" in loaded.store):
            # imported here so that the socket is there at once, and other commands do not pay
            import asyncio  # noqa: PLC0415

            from macvlan_global.daemon import Daemon  # noqa: PLC0415
            from macvlan_global.daemon import serve as serve_until_stopped  # noqa: PLC0415

        asyncio.run(serve_until_stopped(Daemon(loaded, listener=listener)))


def _raise_descriptor_limit() -> None:
    """Let the driver open as many files as it may. The soft limit, mostly 1,024, is for programs that use select(2);
    here each parent that is watched for conflicts takes two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end(*_: object) -> NoReturn:
    sys.exit(0)
