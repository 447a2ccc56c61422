"""Pages about several hosts, typed literally: their blocks, and writing down what the commands print now.

    .venv/bin/python -m tests.demo.tutorial

does that for the tutorial of two hosts, whose hosts are here too. A block is fenced as `shell-session`. A line that
begins with `host1$ `, `host2$ `, `node1$ ` or `node2$ ` is a command, continued by a backslash at its end; the lines
below it are what it prints. See tests/docs/console.py for what counts as equal.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab import Host, Wire, engine, ensure_stores
from lab.again import again, name_of, words_of
from lab.errors import CommandError
from lab.paths import ROOT
from lab.process import alive, wait_until
from lab.speed import Allowance
from tests.docs.console import Command, matches, rewritten

PAGE = ROOT / "docs" / "two-hosts.md"
INTERFACES = {"host1": "foo", "host2": "bar"}
VERSION = "newest"
LOOKS = (
    *("consul members", "docker network ls", "docker exec", "grep", "macvlan-global hosts", "macvlan-global status"),
    *("docker service ps", "docker run --rm", "macvlan-global networks", "macvlan-global addresses"),
)
SOON = 15.0

_PROMPT = re.compile(r"(?P<host>(?:host|node)[12])\$ (?P<text>.*)")


@dataclass(frozen=True, slots=True)
class Typed:
    """A command and the host that it is typed on."""

    host: str
    command: Command

    @property
    def looks(self) -> bool:
        """Whether it only shows how things are, so that a person who sees too little looks again."""
        return self.command.text.startswith(LOOKS)


def typed(text: str) -> list[Typed]:
    """Every command of a page, in order."""
    lines = text.splitlines()
    found = []
    at = 0
    inside = False
    while at < len(lines):
        prompt = _PROMPT.fullmatch(lines[at]) if inside else None
        if prompt is None:
            inside = lines[at] == "```shell-session" or (inside and lines[at] != "```")
            at += 1
            continue
        begin, words = at, prompt["text"]
        while words.endswith("\\"):
            at += 1
            words = words[:-1] + lines[at].strip()
        at += 1
        output = at
        while lines[at] != "```" and not _PROMPT.fullmatch(lines[at]):
            at += 1
        found.append(Typed(prompt["host"], Command(words, tuple(lines[output:at]), begin, at)))
    return found


@contextmanager
def hosts_of_the_tutorial() -> Iterator[dict[str, Host]]:
    """Two hosts with engines, on a LAN and on the wire that containers shall use; neither store nor driver."""
    with ExitStack() as stack:
        lan, wire = stack.enter_context(Wire()), stack.enter_context(Wire())
        hosts = {}
        for number, (name, interface) in enumerate(INTERFACES.items(), 1):
            host = hosts[name] = stack.enter_context(Host(name))
            lan.plug(host, "eth0", addresses=[f"10.0.0.{number}/24"])
            wire.plug(host, interface)
            host.run(["sh", "-c", "echo nameserver 10.0.0.254 >/etc/resolv.conf"])
            host.start_engine(VERSION)
        yield hosts


def say(host: Host, command: str, programs: Sequence[str] | None = None) -> tuple[int, str]:
    """Type a command line on a host, in the folder of the repository; its exit code and all that it printed.

    `programs` are the folders of programs that the host has beside Docker's; by default the store's and ours.
    """
    if programs is None:
        programs = [str(Path(sys.executable).parent), str(ensure_stores())]
    script = f"export COLUMNS; cd {ROOT}; {{ {command}\n}} 2>&1"
    path = ":".join([*programs, engine(VERSION).search_path])
    done = host.run(["sh", "-c", script], check=False, env={"COLUMNS": "120", "PATH": path})
    return done.returncode, done.stdout


def _patiently(host: Host, command: str, programs: Sequence[str] | None) -> tuple[int, str]:
    """The same; a docker command for which the engine had no time is typed again, as an operator would."""
    words = words_of(command)

    def call() -> str:
        code, printed = say(host, command, programs)
        if code:
            raise CommandError(["sh", "-c", command], code, "", printed)
        return printed

    def clear() -> None:
        if name := name_of(words):
            host.run(["docker", "rm", "-f", name], check=False)

    try:
        return 0, again(call, words, clear, where=host.name)
    except CommandError as failed:
        return failed.returncode, failed.stderr


def follow(
    hosts: Mapping[str, Host], commands: list[Typed], programs: Sequence[str] | None = None
) -> Iterator[tuple[Typed, int, str]]:
    """Type one command after the other, as fast as a person would; each with its exit code and what it printed."""
    for each in commands:
        host = hosts[each.host]
        code, printed = _patiently(host, each.command.text, programs)
        if each.command.text.startswith("kill "):
            pid = int(host.run(["cat", "/run/macvlan-global.pid"]).stdout)
            wait_until(partial(_ended, pid), "end of the driver")
        limit = Allowance(SOON)
        while each.looks and not matches(each.command.shown, printed) and not limit.over:
            code, printed = say(host, each.command.text, programs)
        yield each, code, printed


def check(hosts: Mapping[str, Host], page: Path, programs: Sequence[str] | None = None) -> None:
    """Type all that a page says.

    Raises:
        AssertionError: a command printed something else than the page shows below it, or failed and should not.
    """
    commands = typed(page.read_text())
    assert {each.host for each in commands} == set(hosts)
    for each, code, printed in follow(hosts, commands, programs):
        shown = "\n".join(each.command.shown)
        where = f"line {each.command.first + 1}: {each.host}$ {each.command.text}"
        assert matches(each.command.shown, printed), f"{where}\n--- the page shows\n{shown}\n--- printed\n{printed}"
        assert code == 0 or each.command.may_fail, f"{where} ended with exit code {code}"


def rewrite(hosts: Mapping[str, Host], page: Path, programs: Sequence[str] | None = None) -> None:
    """Type all that a page says, and put below each command what it prints now."""
    text = page.read_text()
    printed = [(each.command, said) for each, _, said in follow(hosts, typed(text), programs)]
    page.write_text(rewritten(text, printed))


def _ended(pid: int) -> bool:
    return not alive(pid)


if __name__ == "__main__":
    with hosts_of_the_tutorial() as tutorial:
        rewrite(tutorial, PAGE)
