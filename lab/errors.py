"""Errors of the lab.

LabError              anything that the lab itself could not do
└── CommandError      a command ended with a code other than zero
    └── DockerError   that command was `docker`
"""

import shlex
from collections.abc import Sequence


class LabError(Exception):
    """The lab could not do what was asked; the message says what and why."""


class CommandError(LabError):
    """A command failed. Carries all that it said, for the reader of a test log."""

    def __init__(self, command: Sequence[str], returncode: int, stdout: str, stderr: str) -> None:
        """Keep what the command said, and put all of it into the message."""
        self.command = tuple(command)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
        last = (stderr.strip() or stdout.strip()).rpartition("\n")[2].strip()
        super().__init__(
            f"{shlex.join(self.command)} ended with {returncode}{last and f': {last}'}\n"
            f"--- stdout\n{stdout.rstrip()}\n--- stderr\n{stderr.rstrip()}"
        )


class DockerError(CommandError):
    """The docker command refused; `stderr` holds the engine's own words."""
