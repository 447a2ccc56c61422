"""Screen of the demo: each step, the command as a user would type it, what it said, and how long it took."""

import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from demo.errors import DemoError
from demo.places import ROOT

_INDENT = "   "


class Screen:
    """Prints steps; commands run through it are shown."""

    def __init__(self) -> None:
        """Colours only on a terminal, and lines are never broken: commands must stay ready to paste."""
        self._console = Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()
        self._steps = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A numbered step; its time is printed when it is done."""
        self._steps += 1
        begun = time.monotonic()
        self._console.print(f"\n[bold]{self._steps}. {title}[/bold]")
        yield
        self._console.print(Text(f"{_INDENT}[{time.monotonic() - begun:.2f} s]", style="dim"))

    def say(self, text: str) -> None:
        """A remark within a step."""
        self._console.print(Text(_INDENT + text))

    def plain(self, text: str = "") -> None:
        """A line of its own."""
        self._console.print(Text(text))

    def command(self, command: Sequence[str] | str, *, host: str = "") -> None:
        """Show a command without running it. `host` is where it is typed, if there are several."""
        line = command if isinstance(command, str) else shlex.join(command)
        self._console.print(Text(f"{_INDENT}{host}$ {line}", style="cyan"))

    def run(self, *command: str, env: dict[str, str] | None = None) -> str:
        """Show a command, run it, and show what it printed.

        Raises:
            DemoError: it failed; with the last thing that it said.
        """
        self.command(command)
        said = run(*command, env=env)
        for line in filter(str.strip, said.splitlines()):
            self.say(line)
        return said

    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Run a command unseen; what it printed.

    Raises:
        DemoError: it failed; with the last thing that it said.
    """
    done = attempt(*command, env=env)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise DemoError(f"`{shlex.join(command)}` failed: {said}")
    return done.stdout.strip()


def attempt(*command: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail."""
    try:
        return subprocess.run(
            command,
            text=True,
            errors="replace",
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=env,
            cwd=ROOT,  # commands are shown with paths as they are to type from here
            check=False,
        )
    except FileNotFoundError as error:
        raise DemoError(f"the command {command[0]} is missing; install it, then `make run`") from error
