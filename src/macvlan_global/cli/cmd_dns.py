"""`macvlan-global dns`: the resolver first for the engine, or not any more."""

import difflib
import os
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from macvlan_global.cli.cells import BAD, GOOD, WARN, Cell
from macvlan_global.cli.options import ConfigFlag, JsonFlag, example
from macvlan_global.cli.printable import printable
from macvlan_global.cli.waiting import Waiting
from macvlan_global.config import load_config
from macvlan_global.dns.address import PORT, ListenAddress, read_address
from macvlan_global.dns.resolvconf.ask import Verdict, ask
from macvlan_global.dns.resolvconf.install import FileChange, ResolvConf
from macvlan_global.dns.resolvconf.text import find_block, nameservers, owner_warning, warnings
from macvlan_global.errors import Invalid

STATUS_EXAMPLE = example("macvlan-global dns status")
INSTALL_EXAMPLE = example("macvlan-global dns install --dry-run", "sudo macvlan-global dns install")
REMOVE_EXAMPLE = example("sudo macvlan-global dns remove")
THEN = "Containers that are started from now on use it; restart those that run. The engine needs no restart."

DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="change nothing; say what would be changed")]
RootFlag = Annotated[Path, typer.Option("--root", help="work on /etc/resolv.conf below this folder, for an image")]


class DnsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of the resolver and of resolv.conf. `nameservers` are those of the file at `path`, in order; `link` is the
    target of a symbolic link, "" for a file. All texts are printable, whatever bytes are in the file."""

    address: str
    resolver: Verdict
    path: str
    link: str
    installed: bool
    nameservers: list[str]
    warnings: list[str]


class DnsChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change that was made, or would be: `diff` has the lines, `link` the target of the file as a link afterwards.
    All texts are printable, whatever bytes are in the file."""

    path: str
    dry_run: bool
    changed: bool
    diff: list[str]
    link: str
    warnings: list[str]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    group = typer.Typer(name="dns", help="Show, install or remove the resolver for containers' names.")
    group.command("status", epilog=STATUS_EXAMPLE)(status)
    group.command("install", epilog=INSTALL_EXAMPLE)(install)
    group.command("remove", epilog=REMOVE_EXAMPLE)(remove)
    app.add_typer(group, rich_help_panel=None)


def status(*, root: RootFlag = Path("/"), config: ConfigFlag = None, json: JsonFlag = False) -> None:
    """Show whether the resolver answers, and whether engines ask it.

    Engines ask it if it is the first nameserver in /etc/resolv.conf, which they read when a container starts.
    """
    address, file = _address(config), ResolvConf(root.absolute())
    text, link = file.read()
    block, unchanged = find_block(text or ""), FileChange(file.path, text, text, link, link)
    with Waiting("asking the resolver"):
        verdict = ask(address)
    found = DnsStatus(
        address=str(address),
        resolver=verdict,
        path=_shown(str(file.path)),
        link=_shown(link),
        installed=block is not None,
        nameservers=[_shown(each) for each in nameservers(text or "")],
        warnings=[_shown(each) for each in (*_advice(text or "", address), *file.warnings(unchanged))],
    )
    # imported here: rich costs a quarter of the start, and an error needs none of it
    from macvlan_global.cli import render  # noqa: PLC0415

    if json:
        render.print_json(found)
        return
    installed: Cell = ("yes", GOOD) if found.installed else ("no; run `macvlan-global dns install`", WARN)
    render.print_pairs(
        [
            ("Resolver", found.address),
            ("State", (found.resolver, GOOD if found.resolver == "answers" else BAD)),
            ("File", found.path + (f" (a link to {found.link})" if found.link else "")),
            ("Installed", installed),
            ("Nameservers", ", ".join(found.nameservers) or "none"),
            *(("Warning", (each, WARN)) for each in found.warnings),
        ]
    )


def install(
    *,
    dry_run: DryRunFlag = False,
    root: RootFlag = Path("/"),
    config: ConfigFlag = None,
    json: JsonFlag = False,
) -> None:
    """Make the resolver the first nameserver in /etc/resolv.conf.

    The other nameservers stay after it and get the queries for all other names. A plain file gets a marked block at its
    top. A link of systemd-resolved becomes a file with this resolver first and then systemd-resolved. Repeatable.
    """
    address, file = _address(config), ResolvConf(root.absolute())
    if address.port != PORT:
        raise Invalid(f"dns = {str(address)!r}: engines ask port {PORT} only; choose an address with that port")
    change = file.install(address.ip)
    advice = [*_advice(change.after or "", address), *file.warnings(change)]
    _carry_out(file, change, dry_run=dry_run, json=json, advice=advice)


def remove(*, dry_run: DryRunFlag = False, root: RootFlag = Path("/"), json: JsonFlag = False) -> None:
    """Remove the resolver from /etc/resolv.conf.

    Deletes the marked block; the rest of the file stays, byte for byte. Restores a link of systemd-resolved, unless the
    file that replaced it was changed since; then nothing is changed. If NetworkManager wrote the file anew, the link is
    restored too.
    """
    file = ResolvConf(root.absolute())
    change = file.remove()
    _carry_out(file, change, dry_run=dry_run, json=json, advice=list(file.warnings(change)))
    if not dry_run:
        file.forget()


def _address(config: Path | None) -> ListenAddress:
    text = load_config(config, os.environ, {}).dns
    if not text:
        raise Invalid('dns = "" in the configuration: the resolver is off on this host; set it to 127.0.0.153:53')
    return read_address(text)


def _advice(text: str, address: ListenAddress) -> list[str]:
    block = find_block(text)
    found = list(warnings(text)) if block else [owner] if (owner := owner_warning(text)) else []
    if block and block.address != address.ip:
        found.append(f"{block.address} is installed, and the resolver is on {address.ip}; run install again")
    return found


def _carry_out(file: ResolvConf, change: FileChange, *, dry_run: bool, json: bool, advice: list[str]) -> None:
    if change.needed and not dry_run:
        file.apply(change)
    found = DnsChange(
        path=_shown(str(change.path)),
        dry_run=dry_run,
        changed=change.needed,
        diff=[_shown(each) for each in _diff(change)],
        link=_shown(change.link),
        warnings=[_shown(each) for each in advice],
    )
    if json:
        # imported here: rich is needed for nothing else
        from macvlan_global.cli import render  # noqa: PLC0415

        render.print_json(found)
        return
    if not found.changed:
        print(f"{found.path} is up to date")
    else:
        print(f"{'would change' if dry_run else 'changed'}: {found.path}")
        for line in found.diff:
            print(f"  {line}")
    for each in found.warnings:
        print(f"warning: {each}")
    if found.changed and not dry_run:
        print(THEN)


def _diff(change: FileChange) -> list[str]:
    """Removed and added lines, one each, as of a diff. A link is shown as a link."""
    if change.was_link and not change.link:
        head = [f"- a link to {change.was_link}"]
        return [*head, *(f"+ {line}" for line in (change.after or "").splitlines())]
    if change.link and not change.was_link:
        return [*(f"- {line}" for line in (change.before or "").splitlines()), f"+ a link to {change.link}"]
    lines = difflib.ndiff((change.before or "").splitlines(), (change.after or "").splitlines())
    return [line for line in lines if not line.startswith("?")]


def _shown(text: str) -> str:
    """The text, printable; tabs stay, which are usual in this file and harmless to a terminal."""
    return "\t".join(map(printable, text.split("\t")))
