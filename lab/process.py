"""Running commands, waiting for conditions, and ending processes by id."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lab.errors import CommandError, LabError
from lab.speed import Allowance

Completed = subprocess.CompletedProcess[str]

PROGRAM_SECONDS = 0.02
"""A look that takes longer than that starts a program."""
LONGEST_PAUSE_SECONDS = 0.5


def run(
    command: Sequence[str],
    *,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float | None = 120,
) -> Completed:
    """Run a command to its end and return what it said.

    Standard input is empty unless `stdin` is given, never the caller's.

    Raises:
        CommandError: it ended with a code other than zero, and `check` is true.
        LabError: it was still running after `timeout` seconds (of `lab.speed`), and was killed.
    """
    process = subprocess.Popen(
        list(command),
        text=True,
        errors="replace",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
    )
    with process:
        try:
            stdout, stderr = _hear(process, command, stdin or "", None if timeout is None else Allowance(timeout))
        except BaseException:
            process.kill()
            raise
    if check and process.returncode != 0:
        raise CommandError(command, process.returncode, stdout, stderr)
    return subprocess.CompletedProcess(list(command), process.returncode, stdout, stderr)


def _hear(
    process: "subprocess.Popen[str]", command: Sequence[str], stdin: str, limit: Allowance | None
) -> tuple[str, str]:
    """Output of a process to its end."""
    given: str | None = stdin
    while True:
        try:
            return process.communicate(given, timeout=None if limit is None else max(min(limit.left, 1.0), 0.01))
        except subprocess.TimeoutExpired as late:
            given = None  # it is given the rest of what it has not read yet
            if limit is not None and limit.over:
                raise LabError(f"{' '.join(command)} was still running after {limit}") from late


def ended_within(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait for a process to end; whether it did in so many seconds (of `lab.speed`)."""
    try:
        wait_until(lambda: process.poll() is not None, "end", seconds=seconds)
    except LabError:
        return False
    return True


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    seconds: float = 10,
    every: float = 0.01,
    explain: Callable[[], str] = str,
) -> None:
    """Poll `condition` until it holds.

    The pause between two looks is `every` seconds. If a look starts a program it is twice as long as that took, up to
    `LONGEST_PAUSE_SECONDS`: else looking would take the processor from what is waited for.

    Raises:
        LabError: it did not hold within `seconds` (of `lab.speed`); the message
            names `what` and ends with the text of `explain()`, asked only then.
    """
    limit = Allowance(seconds)
    while True:
        looked = time.monotonic()
        if condition():
            return
        if limit.over:
            raise LabError(f"no {what} within {limit} {explain()}".rstrip())
        took = time.monotonic() - looked
        time.sleep(max(every, min(2 * took, LONGEST_PAUSE_SECONDS)) if took > PROGRAM_SECONDS else every)


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not: all that is left is its name."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def kill(pids: Iterable[int]) -> None:
    """Kill processes by id and return once none of them runs; those already gone are no error."""
    waiting = list(pids)
    for pid in waiting:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    # the last one of a namespace takes down its file systems, which may be a large part of a disk
    wait_until(lambda: not any(map(alive, waiting)), f"end of processes {waiting}", seconds=60)


def first_process(parent: int) -> int:
    """The child of a process that is process 1 of a namespace of its own; 0 while there is none."""
    for child in _text(Path(f"/proc/{parent}/task/{parent}/children")).split():
        status = _text(Path(f"/proc/{child}/status"))
        if any(line.split()[2:] == ["1"] for line in status.splitlines() if line.startswith("NSpid:")):
            return int(child)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def tail(path: Path, lines: int = 30) -> str:
    """The last lines of a log, or a note that there is none."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as missing:
        return f"(no log: {missing})"
