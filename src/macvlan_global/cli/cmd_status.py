"""`macvlan-global status`: the driver in one view."""

import typer

from macvlan_global.admin.messages import ResolverView, Status
from macvlan_global.cli.cells import BAD, WARN, Cell
from macvlan_global.cli.options import AdminSocketFlag, ConfigFlag, JsonFlag, driver_at, example
from macvlan_global.cli.times import duration
from macvlan_global.cli.waiting import Waiting

MOST_KEYS = 10
EXAMPLE = example("macvlan-global status", "macvlan-global status --json | jq .engine")


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("status", epilog=EXAMPLE)(status)


def status(*, json: JsonFlag = False, admin_socket: AdminSocketFlag = None, config: ConfigFlag = None) -> None:
    """Show the state of the running driver, the engine and the store."""
    with Waiting("asking the driver"):
        found = driver_at(admin_socket, config).status()
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    render.print_pairs(
        [
            ("Driver", f"macvlan-global {found.version}, pid {found.pid}, up {duration(found.up_seconds)}"),
            ("Host", found.host),
            ("Scope", found.scope),
            ("Store", f"{found.store}, state in {found.state_dir}"),
            *([("Unused", (f"{found.unused_store}, in scope {found.scope}", WARN))] if found.unused_store else []),
            ("Socket", found.socket),
            ("Engine", _engine(found)),
            ("Networks", str(found.networks)),
            ("Endpoints", str(found.endpoints)),
            ("Addresses", "unknown" if found.addresses is None else str(found.addresses)),
            *([("Hosts", ", ".join(found.hosts))] if found.hosts else []),
            *([("Resolver", _resolver(found.resolver))] if found.resolver else []),
            *([("Outage", (found.store_problem, BAD))] if found.store_problem else []),
            *([("Waiting", (f"{found.waiting} releases and removals for the store", WARN))] if found.waiting else []),
            *(("Problem", (problem, WARN)) for problem in found.problems),
            *(("Problem", (problem, WARN)) for problem in (found.watch.problems if found.watch else [])),
            *(("Skipped", (key, WARN)) for key in _skipped(found.foreign_records)),
        ]
    )


def _skipped(keys: list[str]) -> list[str]:
    shown = [f"{key!r} in the store (by a newer version, or malformed; not touched)" for key in keys[:MOST_KEYS]]
    return shown if len(keys) <= MOST_KEYS else [*shown, f"{len(keys) - MOST_KEYS} more (--json names them)"]


def _resolver(found: ResolverView) -> Cell:
    if not found.listening:
        return found.problem, BAD
    if not found.known:
        return f"{found.address}, has not read the names yet", WARN
    return f"{found.address}, {found.names} endpoints known"


def _engine(found: Status) -> Cell:
    if not found.engine:
        return found.engine_problem or "the engine does not answer", BAD
    extras = ["in a swarm"] if found.swarm else []
    extras += ["live-restore"] if found.live_restore else []
    return ", ".join([f"Docker {found.engine}", *extras])
