"""The tutorial of two hosts, typed literally: its blocks, its hosts, and writing down what the commands print now.

    .venv/bin/python -m tests.demo.tutorial

A block is fenced as `shell-session`. A line that begins with `host1$ ` or `host2$ ` is a command, continued by a
backslash at its end; the lines below it are what it prints. See tests/docs/console.py for what counts as equal.
"""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab import Host, Wire, engine, ensure_stores
from lab.paths import ROOT
from lab.process import alive, wait_until
from tests.docs.console import Command, matches, rewritten

PAGE = ROOT / "docs" / "two-hosts.md"
INTERFACES = {"host1": "foo", "host2": "bar"}
VERSION = "newest"
LOOKS = ("consul members", "docker network ls", "docker exec", "grep", "macvlan-global hosts", "macvlan-global status")
SOON = 15.0

_PROMPT = re.compile(r"(?P<host>host[12])\$ (?P<text>.*)")


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


def say(host: Host, command: str) -> tuple[int, str]:
    """Type a command line on a host; its exit code and all that it printed."""
    programs = [str(Path(sys.executable).parent), str(ensure_stores()), engine(VERSION).search_path]
    script = f"export COLUMNS; {{ {command}\n}} 2>&1"
    done = host.run(["sh", "-c", script], check=False, env={"COLUMNS": "120", "PATH": ":".join(programs)})
    return done.returncode, done.stdout


def follow(hosts: dict[str, Host], commands: list[Typed]) -> Iterator[tuple[Typed, int, str]]:
    """Type one command after the other, as fast as a person would; each with its exit code and what it printed."""
    for each in commands:
        host = hosts[each.host]
        code, printed = say(host, each.command.text)
        if each.command.text.startswith("kill "):
            pid = int(host.run(["cat", "/run/macvlan-global.pid"]).stdout)
            wait_until(partial(_ended, pid), "end of the driver")
        deadline = time.monotonic() + SOON
        while each.looks and not matches(each.command.shown, printed) and time.monotonic() < deadline:
            code, printed = say(host, each.command.text)
        yield each, code, printed


def _ended(pid: int) -> bool:
    return not alive(pid)


def _rewrite() -> None:
    text = PAGE.read_text()
    with hosts_of_the_tutorial() as hosts:
        printed = [(each.command, said) for each, _, said in follow(hosts, typed(text))]
    PAGE.write_text(rewritten(text, printed))


if __name__ == "__main__":
    _rewrite()
