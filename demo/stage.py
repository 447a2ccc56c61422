"""The stage of `make demo`: hosts on which commands are typed, and what is told of what came of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from demo.screen import Screen
from demo.terminal import Terminal
from lab.packages import ENGINES
from lab.process import wait_until
from lab.site import Site

CONTAINERS = ("one", "two")
VERSION = ENGINES[-1]
SOON = 30.0


@dataclass(frozen=True)
class Place:
    """A host of the story: what is typed on it, and what the lab knows of it."""

    terminal: Terminal
    site: Site

    def type(self, line: str) -> str:
        """See `Terminal.type`."""
        return self.terminal.type(line)

    def pings(self, source: str, target: str, *options: str) -> None:
        """Have a container ping another one.

        Raises:
            DemoError: there was no answer.
        """
        self.type(" ".join(["docker exec", source, "ping", *options, "-c 1 -W 2", target]))

    def knows(self, name: str) -> bool:
        """Whether this host's container finds a name of both kinds of addresses; nothing of it is shown."""
        own = next(each for each in CONTAINERS if each != name)
        said = self.terminal.host.run(["docker", "exec", own, "nslookup", name], check=False)
        return said.returncode == 0 and said.stdout.count("Address") >= 3


def until(screen: Screen, what: str, holds: Callable[[], bool]) -> None:
    """Wait until something holds, and tell how long after the last command that was."""
    begun = time.monotonic()
    wait_until(holds, what, seconds=SOON)
    late = round((time.monotonic() - begun) * 1000)
    screen.say(f"{what}, {late} ms after that command ended" if late > 1 else f"{what} as that command ends")
