"""An engine that an operator stops, and for which systemd listens: the driver does not start it again.

Processes are real, and so are their descriptors; the folder with /run and /proc is the test's own.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from macvlan_global.engine.socket_activation import SOCKETS, SocketActivation

_DOCKERD = """
import sys
open("/proc/self/comm", "w").write("dockerd")
print("runs", flush=True)
sys.stdin.readline()
import os
os.close(int(sys.argv[1]))  # asked to end: its containers still run
print("ends", flush=True)
sys.stdin.readline()
"""


class Stage:
    """A dockerd with a copy of a socket on which somebody else listens too."""

    def __init__(self, root: Path) -> None:
        """It runs, and has written its pid file."""
        self._root = root
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(root / "docker.sock"))
        self._listening.listen()
        copy = self._listening.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _DOCKERD, str(copy)],
            pass_fds=[copy],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.until("runs")
        (root / "run/systemd/system").mkdir(parents=True)
        self.pid_file = root / "run/docker.pid"
        self.pid_file.write_text(f"{self.process.pid}\n")
        (root / "proc/net").mkdir(parents=True)
        (root / "proc" / str(self.process.pid)).symlink_to(f"/proc/{self.process.pid}")
        self.list_socket(SOCKETS[1])

    def list_socket(self, name: str) -> None:
        """The kernel lists the socket with this name, and another one that is connected."""
        inode = os.fstat(self._listening.fileno()).st_ino
        lines = [
            "Num       RefCount Protocol Flags    Type St Inode Path",
            f"0000000000000000: 00000002 00000000 00010000 0001 01 {inode} {name}",
            f"0000000000000000: 00000003 00000000 00000000 0001 03 {inode + 1} {name}",
            "0000000000000000: 00000003 00000000 00000000 0001 03 7",
        ]
        (self._root / "proc/net/unix").write_text("\n".join(lines) + "\n")

    def until(self, said: str) -> None:
        """Wait for the word of the process."""
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == said

    def ask_to_end(self) -> None:
        """As SIGTERM does: it closes the socket, and waits for its containers."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.until("ends")

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self._listening.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An engine that runs."""
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def test_an_engine_that_is_asked_to_end_is_not_woken(stage: Stage, tmp_path: Path) -> None:
    """From the moment at which it has given its socket up until another one has it; its pid file stays for long."""
    known, new = SocketActivation(tmp_path), SocketActivation(tmp_path)
    assert known.reason() == ""
    assert known.reason() == ""
    stage.ask_to_end()
    assert known.reason() == new.reason() == "it starts or ends"
    stage.pid_file.unlink()
    assert known.reason() == new.reason() == "there is no /run/docker.pid"


def test_an_engine_with_a_pid_file_elsewhere_runs(stage: Stage, tmp_path: Path) -> None:
    """`pidfile` in daemon.json, or Docker's snap. It is looked for from time to time."""
    activation = SocketActivation(tmp_path)
    stage.pid_file.unlink()
    assert activation.reason() == ""
    stage.ask_to_end()
    assert activation.reason() == "there is no /run/docker.pid"


def test_what_cannot_be_seen_is_no_reason(stage: Stage, tmp_path: Path) -> None:
    """A driver in another PID namespace sees another process with that number, one in another network namespace does
    not see the socket."""
    stage.ask_to_end()
    stage.list_socket("/run/other.sock")
    assert SocketActivation(tmp_path).reason() == ""
    stage.list_socket(SOCKETS[0])
    assert SocketActivation(tmp_path).reason() == "it starts or ends"
    stage.pid_file.write_text("1\n")
    assert SocketActivation(tmp_path).reason() == ""


def test_without_systemd_nobody_listens_for_an_engine(stage: Stage, tmp_path: Path) -> None:
    """A connection is refused at once then."""
    stage.ask_to_end()
    stage.pid_file.unlink()
    (tmp_path / "run/systemd/system").rmdir()
    assert SocketActivation(tmp_path).reason() == ""
