"""`macvlan-global install` and `uninstall`: the driver as a service of systemd."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from macvlan_global.cli.options import ConfigFlag, JsonFlag, example
from macvlan_global.cli.systemd import SERVICE, Installer, Step, moved_folders, unit_texts
from macvlan_global.cli.waiting import Waiting
from macvlan_global.config import load_config
from macvlan_global.errors import Conflict

INSTALL_EXAMPLE = example("macvlan-global install --dry-run", "sudo macvlan-global install")
UNINSTALL_EXAMPLE = example("sudo macvlan-global uninstall", "sudo macvlan-global uninstall --purge")

DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="change nothing; say what would be done")]
RootFlag = Annotated[Path, typer.Option("--root", help="work below this folder, for an image, and start nothing")]
PurgeFlag = Annotated[bool, typer.Option("--purge", help="remove the state too")]


class InstallResult(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of an installation. `files` holds the texts of a dry run, by path."""

    dry_run: bool
    steps: list[Step]
    files: dict[str, str] = {}


def add_to(app: typer.Typer) -> None:
    """Register both commands."""
    app.command("install", epilog=INSTALL_EXAMPLE)(install)
    app.command("uninstall", epilog=UNINSTALL_EXAMPLE)(uninstall)


def install(
    *,
    dry_run: DryRunFlag = False,
    root: RootFlag = Path("/"),
    config: ConfigFlag = None,
    json: JsonFlag = False,
) -> None:
    """Make the driver a service of systemd.

    Starts it now, and at boot. The units are macvlan-global.socket and macvlan-global.service in /etc/systemd/system,
    ordered before docker.service. Repeatable; run it again after the configuration or the path of this program
    changed. Without systemd it starts nothing, and lists the steps that are left.
    """
    installer = Installer(root.absolute(), dry_run)
    loaded = load_config(config, {}, {})  # the service has none of this environment
    texts = unit_texts(_command(config), loaded)
    if installer.systemd_runs and not dry_run:
        _refuse_beside_another(installer)
    steps = _carry_out(installer.install(texts, moved_folders(loaded)), quiet=json)
    shown = {str(path): texts[name] for name, path in installer.paths().items()} if dry_run else {}
    _tell(InstallResult(dry_run=dry_run, steps=steps, files=shown), json=json)


def uninstall(
    *,
    dry_run: DryRunFlag = False,
    purge: PurgeFlag = False,
    root: RootFlag = Path("/"),
    config: ConfigFlag = None,
    json: JsonFlag = False,
) -> None:
    """Stop the driver and remove its service.

    Removes exactly the units that install wrote. The state stays for a later installation; --purge removes the one of
    the configuration.
    """
    installer = Installer(root.absolute(), dry_run)
    loaded = load_config(config, {}, {})
    file = loaded.state_file()
    if purge and file and installer.is_there(file):
        _refuse_with_networks(installer.below(file))
    steps = _carry_out(installer.uninstall(), quiet=json)
    if purge:
        if not dry_run and root == Path("/") and (running := _drivers(root)):
            raise Conflict(f"a driver still runs (pid {running[0]}), so the state was kept; stop it, then try again")
        steps += _carry_out(installer.purge(Path(loaded.state_dir), file), quiet=json)
    _tell(InstallResult(dry_run=dry_run, steps=steps), json=json)


def _command(config: Path | None) -> list[str]:
    """The command line of the service: the program that runs now, wherever it is."""
    program = Path(sys.argv[0])
    # the interpreter is not resolved: the link to it is what makes it that of a virtual environment
    as_module = [sys.executable, "-m", "macvlan_global"]
    words = as_module if program.name == "__main__.py" else [str(program.resolve())]
    return [*words, "serve", *(["--config", str(config.resolve())] if config else [])]


def _drivers(root: Path) -> tuple[int, ...]:
    # imported here: the other commands need nothing of it
    from macvlan_global.doctor.kernel import find_drivers  # noqa: PLC0415

    return find_drivers(root)


def _refuse_beside_another(installer: Installer) -> None:
    running = _drivers(installer.root)
    if running and not (installer.paths()[SERVICE].exists() or installer.is_packaged):
        raise Conflict(
            f"a driver runs already, and not as a service (pid {running[0]}); stop it (kill {running[0]}), then try "
            "again: containers do not notice"
        )


def _refuse_with_networks(state: Path) -> None:
    # imported here: only this case reads the state
    from macvlan_global.store.sqlite import read_sqlite  # noqa: PLC0415

    count = sum(1 for each in read_sqlite(state) if each.key.startswith("networks/"))
    if count:
        raise Conflict(
            f"the state still holds {count} {'network' if count == 1 else 'networks'}; remove them first "
            "(docker network ls --filter driver=macvlan-global, then docker network rm, which in a cluster removes "
            "them from every host), or leave --purge out"
        )


def _carry_out(steps: Iterable[Step], *, quiet: bool) -> list[Step]:
    """Do the steps, and say each when it is done."""
    done: list[Step] = []
    iterator = iter(steps)
    while True:
        with Waiting("working"):
            step = next(iterator, None)
        if step is None:
            return done
        done.append(step)
        if not quiet:
            print(f"{step.outcome + ':':<15}{step.what}")


def _tell(outcome: InstallResult, *, json: bool) -> None:
    if json:
        # imported here: rich is needed for nothing else
        from macvlan_global.cli import render  # noqa: PLC0415

        render.print_json(outcome)
        return
    for path, text in outcome.files.items():
        print(f"\n--- {path}\n{text}", end="")
    if any(step.outcome == "left to do" for step in outcome.steps):
        print("\nsystemd does not run here, or not below this folder. Once it does, do what is left, in that order.")
