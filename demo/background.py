"""Processes that stay after `make run` has ended, and are found again by `make stop`."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from demo.errors import DemoError
from demo.places import RUN
from lab.errors import LabError
from lab.process import alive, tail, wait_until

STOP_SECONDS = 30.0


class Background:
    """One such process. Its note holds process id and start time: an id alone may by now be somebody else's."""

    def __init__(self, name: str) -> None:
        """`name` is what note and log are called."""
        self.name = name
        self.log = RUN / f"{name}.log"
        self._note = RUN / f"{name}.pid"

    @property
    def pid(self) -> int | None:
        """Its process id if we started it and it lives."""
        try:
            pid, started = self._note.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if alive(int(pid)) and _start_time(int(pid)) == started else None

    def start(self, command: Sequence[str], ready: Callable[[], bool], *, seconds: float = 30.0) -> None:
        """Start it and return once `ready()`.

        Raises:
            DemoError: it ended, or was not ready in time; with the end of its log.
        """
        RUN.mkdir(parents=True, exist_ok=True, mode=0o755)
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
            )
        self._note.write_text(f"{process.pid} {_start_time(process.pid)}\n")
        try:
            wait_until(lambda: process.poll() is not None or ready(), "answer", seconds=seconds, every=0.02)
        except LabError as late:
            raise DemoError(f"{self.name} did not answer within {seconds:g} s; it said: {self._last_words()}") from late
        if process.poll() is not None:
            raise DemoError(f"{self.name} ended at once; it said: {self._last_words()}")

    def stop(self) -> bool:
        """End it if it lives; whether it did. SIGTERM first, SIGKILL if that does not help."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            try:
                wait_until(lambda: not _is_there(pid), f"end of {self.name}", seconds=STOP_SECONDS)
            except LabError:
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: not _is_there(pid), f"end of {self.name}")
        self._note.unlink(missing_ok=True)
        return pid is not None

    def _last_words(self) -> str:
        lines = [line for line in tail(self.log, 10).splitlines() if line.strip()]
        return lines[-1] if lines else "(nothing)"


def accepts(path: Path) -> bool:
    """Whether somebody serves at this unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def kill_container_processes(cgroup: str, folder: Path) -> None:
    """Kill what a killed engine left: processes in its cgroup, and shims with sockets in its folder."""
    here = Path("/proc/self/ns/net").stat().st_ino
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            shim = str(folder).encode() in (entry / "cmdline").read_bytes()
            # the folder has the same path on every host of the lab
            if (shim and (entry / "ns/net").stat().st_ino == here) or cgroup in (entry / "cgroup").read_text():
                os.kill(int(entry.name), signal.SIGKILL)


def _is_there(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # ours to bury if this very run started it
        os.waitpid(pid, os.WNOHANG)
    return alive(pid)


def _start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # proc(5): field 22, starttime
    except OSError:
        return ""
