"""`macvlan-global serve`: run the driver in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

from macvlan_global.cli.options import example
from macvlan_global.cli.start import run_driver

EXAMPLE = example("macvlan-global serve --log-level debug", "macvlan-global serve --metrics 127.0.0.1:9477")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("serve", epilog=EXAMPLE)(serve)


def serve(  # noqa: PLR0913, PLR0917  # one argument for each flag: typer reads them from the signature
    config: Annotated[Path | None, typer.Option(help="TOML file [/etc/macvlan-global/config.toml]")] = None,
    scope: Annotated[str | None, typer.Option(help="local or global; swarm in a managed plugin")] = None,
    driver_name: Annotated[str | None, typer.Option(help="what the engine calls this driver")] = None,
    store: Annotated[str | None, typer.Option(help="sqlite, consul://HOST:PORT,… or etcd://HOST:PORT,…")] = None,
    socket: Annotated[str | None, typer.Option(help="plugin socket that the engine calls")] = None,
    admin_socket: Annotated[str | None, typer.Option(help="socket that the other commands ask")] = None,
    state_dir: Annotated[str | None, typer.Option(help="folder of the state file")] = None,
    docker_host: Annotated[str | None, typer.Option(help="where the engine's API is")] = None,
    host_name: Annotated[str | None, typer.Option(help="name of this host [its hostname]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json")] = None,
    metrics: Annotated[str | None, typer.Option(help="serve Prometheus metrics on HOST:PORT")] = None,
    repair_grace: Annotated[
        str | None, typer.Option(help="seconds before an unused reservation counts as abandoned")
    ] = None,
    dns: Annotated[str | None, typer.Option(help="the resolver listens on HOST:PORT [127.0.0.153:53]")] = None,
    dns_ttl: Annotated[str | None, typer.Option(help="seconds that its answers may be remembered")] = None,
    host_grace: Annotated[
        str | None, typer.Option(help="seconds before addresses of a host that is gone may be given back")
    ] = None,
    probe: Annotated[
        str | None, typer.Option(help="true: ask the wire for an address before a container gets it")
    ] = None,
    attach: Annotated[str | None, typer.Option(help="plain, or direct: make links inside containers [plain]")] = None,
) -> None:
    """Run the driver in the foreground.

    It serves until SIGTERM or Ctrl-C. Containers do not notice when it is away; new ones cannot start. Every flag
    is also a key of the configuration file and an environment variable MACVLAN_GLOBAL_….
    """
    flags = {name: value for name, value in locals().items() if name != "config"}
    run_driver(config, flags)
