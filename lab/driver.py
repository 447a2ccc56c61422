"""The driver of this project, running on a simulated host."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.hosts import Host
from lab.process import Completed, ended_within, tail, wait_until
from lab.speed import patience
from macvlan_global.admin.client import AdminClient

SOCKET = "docker/plugins/macvlan-global.sock"
ADMIN_SOCKET = "macvlan-global/admin.sock"


class Driver:
    """One `macvlan-global serve` on a host, with its state where the host keeps /var/lib."""

    def __init__(self, host: Host, *flags: str, env: Mapping[str, str] | None = None) -> None:
        """Nothing runs yet; `flags` go to `serve`."""
        self._host = host
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self.command = [sys.executable, "-m", "macvlan_global", "serve", "--log-level=debug", *flags]
        self.log = host.folder / "driver.log"

    @property
    def pid(self) -> int:
        """The process id of the running driver."""
        assert self._process is not None, "the driver was not started"  # noqa: S101
        return self._process.pid

    @property
    def admin(self) -> AdminClient:
        """The driver's admin socket, from outside the host."""
        return AdminClient(str(self._host.run_folder / ADMIN_SOCKET))

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, env: Mapping[str, str] | None = None) -> None:
        """Start it and return once both its sockets answer.

        Raises:
            LabError: it ended, or did not answer in time; the message holds the end of its log.
        """
        self.begin(env=env)
        # the plugin socket listens from the first moment on, and what connects to it waits: it is asked last
        sockets = [self._host.run_folder / ADMIN_SOCKET, self._host.run_folder / SOCKET]
        wait_until(
            lambda: not self.running or all(_accepts(each) for each in sockets),
            "driver",
            seconds=30,
            explain=lambda: tail(self.log),
        )
        wait_until(lambda: self.running, "driver that stays", seconds=0.1, explain=lambda: tail(self.log))

    def begin(self, *, env: Mapping[str, str] | None = None) -> None:
        """Start it, and do not wait for it."""
        self._process = self._host.popen(self.command, log=self.log, env={**(self._env or {}), **(env or {})})

    def wait_for_engine(self) -> None:
        """Return once the driver follows the events of the engine."""
        wait_until(
            lambda: self.admin.status().engine_followed,
            "driver that follows the engine",
            explain=lambda: tail(self.log),
        )

    def stop(self) -> None:
        """End it as systemd would, with SIGTERM."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL."""
        self._end(signal.SIGKILL)

    def wait(self, seconds: float = 30) -> int:
        """Wait for it to end by itself; its exit code."""
        assert self._process is not None  # noqa: S101
        return self._process.wait(patience(seconds))

    def cli(self, *arguments: str, check: bool = True) -> Completed:
        """Run another command of `macvlan-global` on the host."""
        return self._host.run([sys.executable, "-m", "macvlan_global", *arguments], check=check)

    def ask(self, *arguments: str) -> Any:
        """The same with `--json`, parsed."""
        return json.loads(self.cli(*arguments, "--json").stdout)

    def log_text(self) -> str:
        """All that it logged so far."""
        return self.log.read_text(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self.running:
            os.kill(self._process.pid, number)
            assert ended_within(self._process, 30), f"the driver did not end; {tail(self.log)}"  # noqa: S101


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
