"""One Docker Engine: its settings, its start, its readiness, its end.

Paths are as the engine sees them from inside its host, where /run and
/var/lib/docker are the host's own: so all of them are Docker's defaults, and
`docker` needs no option. The engine starts its own containerd.
"""

import contextlib
import http.client
import json
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.again import TRIES, notes
from lab.errors import LabError
from lab.packages import Engine
from lab.process import alive, ended_within, tail, wait_until
from lab.unixhttp import UnixConnection

Spawn = Callable[[Sequence[str], Path], "subprocess.Popen[bytes]"]
READY_SECONDS = 90.0
# A stop takes containers down too: those that ignore SIGTERM take ten seconds.
STOP_SECONDS = 30.0
# An engine waits 15 seconds by the clock for its containerd, and ends; a service manager would start it again.
_NO_TIME = "timeout waiting for containerd to start"


def answers(path: Path) -> bool:
    """Whether an engine serves its API at this socket."""
    connection = UnixConnection(path, timeout=5)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def settings(cgroup: str, *, live_restore: bool, extra: Mapping[str, Any] | None) -> dict[str, Any]:
    """The engine's daemon.json; `extra` wins, and a value of None there takes a default away."""
    defaults: dict[str, Any] = {
        "hosts": ["unix:///run/docker.sock"],
        "storage-driver": "overlay2",
        "live-restore": live_restore,
        # No default bridge and no packet filter: neither is looked at here, and
        # both take most of the time of a start.
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "userland-proxy": False,
        # Containers of one host are found, and ended, by the name of their cgroup.
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "cgroup-parent": f"/{cgroup}",
    }
    merged = defaults | dict(extra or {})
    return {name: value for name, value in merged.items() if value is not None}


class Daemon:
    """A dockerd and the containerd that it starts, on one host."""

    def __init__(self, engine: Engine, folder: Path, log: Path, spawn: Spawn) -> None:
        """Prepare a daemon; nothing runs yet.

        Args:
            engine: which engine.
            folder: the host's /run, as seen from outside.
            log: file that everything the daemon says is added to.
            spawn: starts a command on the host with its output added to a file.
        """
        self.engine = engine
        self.socket = folder / "docker.sock"
        self.log = log
        self._folder = folder
        self._spawn = spawn
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether dockerd runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of dockerd.

        Raises:
            LabError: it was not started.
        """
        if self._process is None:
            raise LabError("the engine was not started")
        return self._process.pid

    def start(self, config: Mapping[str, Any]) -> None:
        """Start with these settings and return when the API answers.

        Raises:
            LabError: it ended, or did not answer in time; with the end of its log.
        """
        if self.running:
            raise LabError("the engine runs already")
        (self._folder / "daemon.json").write_text(json.dumps(config, indent=1))
        command = ["dockerd", "--config-file=/run/daemon.json", "--pidfile=/run/docker.pid"]
        for number in range(1, TRIES + 1):
            self._process = self._spawn(command, self.log)
            wait_until(
                lambda: not self.running or answers(self.socket),
                f"answer from engine {self.engine.version}",
                seconds=READY_SECONDS,
                explain=self._log_end,
            )
            if self.running:
                return
            if number == TRIES or _NO_TIME not in tail(self.log, 1):
                raise LabError(f"engine {self.engine.version} ended at once {self._log_end()}")
            notes.append(f"{self.log}: the engine began again, try {number + 1} of {TRIES}: {_NO_TIME}")
            self._bury_containerd()

    def stop(self) -> None:
        """Ask the engine to end (SIGTERM) and wait until it has; nothing if it does not run."""
        self._end_with(signal.SIGTERM)

    def kill(self) -> None:
        """End the engine as a crash would (SIGKILL): containers stay."""
        self._end_with(signal.SIGKILL)
        self._bury_containerd()

    def _bury_containerd(self) -> None:
        """Wait for containerd, which the kernel kills with its dockerd, and forget its pid.

        Where the machine's init collects dead processes late, or never, the
        next dockerd would take the dead one for alive and wait for its answer.
        """
        note = self._folder / "docker/containerd/containerd.pid"
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid = int(note.read_text())
            wait_until(lambda: not alive(pid), "end of containerd")
            note.unlink()

    def _end_with(self, number: signal.Signals) -> None:
        if self._process is None or not self.running:
            return
        self._process.send_signal(number)
        if not ended_within(self._process, STOP_SECONDS):
            raise LabError(f"the engine did not end within {STOP_SECONDS:g} s {self._log_end()}")

    def _log_end(self) -> str:
        return f"\n--- end of {self.log}\n{tail(self.log)}"
