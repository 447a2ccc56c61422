"""Commands that an engine's own limit ended are typed again, as an operator would, and told.

An engine waits so many seconds by the clock for a swarm to attach a container (20), for a node to join (20), for a
plugin's socket (9) and for its containerd (15), on a machine of any speed. That it had not enough time is no refusal.
It is told at the end of the tests how often that was.
"""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from lab.errors import CommandError

T = TypeVar("T")
TRIES = 4
SOCKET_TRIES = 12
"""For a plugin's socket: the engine's nine seconds cannot be made longer (`--timeout` is for its answers). Ours listens
once its interpreter and configuration are loaded, but on a busy machine the guest kernel may be fifty times slower."""
_OUT_OF_TIME = re.compile(r"context deadline exceeded|DeadlineExceeded|Timeout was reached before node joined")
_NO_SOCKET_YET = re.compile(r"dial unix \S+\.sock: connect: (?:no such file or directory|connection refused)")

notes: list[str] = []
"""Commands that began again in this process, a line for each time."""


def ran_out(command: Sequence[str], said: str) -> bool:
    """Whether a docker command ended since the engine's own time was over; not because something is wrong.

    Args:
        command: its words, without `docker`.
        said: what it wrote to standard error.
    """
    if _waits_for_socket(command):
        return _NO_SOCKET_YET.search(said) is not None
    return _OUT_OF_TIME.search(said) is not None


def again(call: Callable[[], T], command: Sequence[str], before: Callable[[], object], *, where: str) -> T:
    """Output of a docker command in the end: it is called several times, as long as the engine had no time.

    Args:
        call: runs it.
        command: its words, without `docker`.
        before: clears what the last try left behind.
        where: the host, for the line that tells of it.

    Raises:
        CommandError: it was refused, or the engine never had time enough.
    """
    tries = SOCKET_TRIES if _waits_for_socket(command) else TRIES
    for number in range(2, tries + 1):
        try:
            return call()
        except CommandError as refused:
            if not ran_out(command, refused.stderr):
                raise
            last = refused.stderr.strip().rpartition("\n")[2]
            notes.append(f"{where}: `docker {' '.join(command)}` began again, try {number} of {tries}: {last}")
            print(notes[-1], flush=True)
            before()
    return call()


def _waits_for_socket(command: Sequence[str]) -> bool:
    return tuple(command[:2]) == ("plugin", "enable")


def words_of(line: str) -> list[str]:
    """The words of a command line after `docker`; none if it is another command."""
    return line.split()[1:] if line.startswith("docker ") else []


def name_of(command: Sequence[str]) -> str:
    """The name that `docker run` or `docker create` gives a container; empty if it gives none."""
    if command[:1] and command[0] not in {"run", "create"}:
        return ""
    return next((word.removeprefix("--name=") for word in command if word.startswith("--name=")), "")
