"""A terminal on each host of `make demo`: what is typed there is shown, run by a shell, and what it says is shown."""

import os

from demo.errors import DemoError
from demo.places import PROGRAM
from demo.screen import Screen
from lab.hosts import Host
from lab.packages import engine


class Terminal:
    """One host's. The engine's command line and ours are on its PATH."""

    def __init__(self, screen: Screen, host: Host, version: str) -> None:
        """`version` is the label of the host's engine."""
        self.host = host
        self._screen = screen
        path = f"{PROGRAM.parent}:{engine(version).search_path}"
        self._env = {"PATH": path, "COLUMNS": "120", "TERM": os.environ.get("TERM", "dumb")}

    def type(self, line: str) -> str:
        """Output of a command.

        Raises:
            DemoError: it failed; with the last thing that it said.
        """
        code, said = self._type(line)
        if code:
            raise DemoError(f"`{line}` on {self.host.name} failed: {_last(said)}")
        return said

    def refused(self, line: str) -> str:
        """Refusal of a command that must be refused.

        Raises:
            DemoError: it was not refused.
        """
        code, said = self._type(line)
        if not code:
            raise DemoError(f"`{line}` on {self.host.name} was not refused: {_last(said)}")
        return said

    def _type(self, line: str) -> tuple[int, str]:
        self._screen.command(line, host=self.host.name)
        done = self.host.run(["sh", "-c", f"exec 2>&1; {line}"], check=False, env=self._env)
        for each in filter(str.strip, done.stdout.splitlines()):
            self._screen.say(each.rstrip())
        return done.returncode, done.stdout


def _last(said: str) -> str:
    return (said.strip().splitlines() or ["(nothing)"])[-1]
