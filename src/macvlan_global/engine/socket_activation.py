"""An engine for which systemd listens (docker.socket): a connection starts it again, also one that an operator stopped.

dockerd closes its copy of the listening socket as soon as it is asked to end, and ends once all its containers have:
ten seconds later, or more. systemd keeps its own copy, accepts nothing, and starts dockerd again for whoever connected
meanwhile. So nobody connects before it is known that a dockerd has the socket.
"""

import time
from collections.abc import Iterator
from pathlib import Path

SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")
"""The engine's socket by its usual names. systemd listens at one of them."""
PID_FILE = "run/docker.pid"  # /var/run is a link to /run where systemd runs
SYSTEMD = "run/systemd/system"  # sd_booted(3)
ENGINE = "dockerd"
SEARCHED_EVERY = 5.0
"""Seconds between two looks at all processes, for an engine whose pid file is elsewhere (`pidfile` in daemon.json)."""

_LISTENS = 0x10000  # __SO_ACCEPTCON, linux/net.h


class SocketActivation:
    """Whether a connection would start an engine that does not run."""

    def __init__(self, root: Path = Path("/")) -> None:
        """`root` is for tests: the folder with /run and /proc."""
        self._root = root
        self._seen: tuple[Path, str] | None = None  # dockerd's descriptor of the socket, and what it is
        self._searched = -SEARCHED_EVERY

    def reason(self) -> str:
        """The reason not to connect to one of `SOCKETS` now; "" if there is none, or it is not known.

        dockerd's descriptors are those that this process may see: a driver in a PID namespace of its own goes by the
        pid file alone, which dockerd removes when it ends.
        """
        if not (self._root / SYSTEMD).exists() or self._still_has_it():
            return ""
        named = _text(self._root / PID_FILE).strip()
        pids = [named] if self._is_engine(named) else [] if named else list(self._search())
        listening = self._listening() if pids else set()
        for pid in pids:
            for descriptor, is_what in self._descriptors(pid):
                if is_what in listening:
                    self._seen = descriptor, is_what
                    return ""
        if not named:
            return f"there is no /{PID_FILE}"
        # without the socket in the list this is another network namespace, where dockerd's is not seen
        return "it starts or ends" if listening else ""

    def _still_has_it(self) -> bool:
        if self._seen is None:
            return False
        descriptor, is_what = self._seen
        try:
            return str(descriptor.readlink()) == is_what
        except OSError:
            return False

    def _is_engine(self, pid: str) -> bool:
        return pid.isdecimal() and _text(self._root / "proc" / pid / "comm").strip() == ENGINE

    def _search(self) -> Iterator[str]:
        """Process ids of every dockerd that is seen here; none if that was looked for a moment ago."""
        now = time.monotonic()
        if now - self._searched >= SEARCHED_EVERY:
            self._searched = now
            yield from (each.name for each in (self._root / "proc").iterdir() if self._is_engine(each.name))

    def _descriptors(self, pid: str) -> Iterator[tuple[Path, str]]:
        try:
            descriptors = list((self._root / "proc" / pid / "fd").iterdir())
        except OSError:  # it has ended, or we may not look
            return
        for each in descriptors:
            try:
                yield each, str(each.readlink())
            except OSError:
                continue

    def _listening(self) -> set[str]:
        """Listening sockets with one of the engine's names, as descriptors of them are called: proc(5), unix(7)."""
        found = set()
        for line in _text(self._root / "proc/net/unix").splitlines()[1:]:
            fields = line.split(maxsplit=7)
            # number, references, protocol, flags, type, state, inode and path
            if len(fields) == 8 and fields[7] in SOCKETS and int(fields[3], 16) & _LISTENS:
                found.add(f"socket:[{fields[6]}]")
        return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
