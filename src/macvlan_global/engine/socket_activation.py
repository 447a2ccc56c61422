"""An engine for which systemd listens (docker.socket): a connection starts it again, also one that an operator stopped.

dockerd ends its API as soon as it is asked to end, and ends once all its containers have: ten seconds later, or more.
systemd keeps the listening socket meanwhile, accepts nothing, and starts dockerd again for whoever connected. So nobody
connects while systemd says that the engine is stopping, or is stopped.
"""

import subprocess
from pathlib import Path

SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")
"""The engine's socket by its usual names. systemd listens at one of them."""
SERVICE, SOCKET = "docker.service", "docker.socket"
PID_FILE = "run/docker.pid"  # /var/run is a link to /run where systemd runs
SYSTEMD = "run/systemd/system"  # sd_booted(3)
PATIENCE_SECONDS = 2.0

_RUNS = {"active", "activating", "reloading"}


def reason_not_to_wake(root: Path = Path("/"), systemctl: str = "systemctl") -> str:
    """The reason not to connect to one of `SOCKETS` now; "" if there is none. Blocks for some milliseconds, and for
    `PATIENCE_SECONDS` at most.

    If systemd cannot be asked, as by a managed plugin, the pid file decides, which dockerd removes when it ends. `root`
    and `systemctl` are others in tests.
    """
    if not (root / SYSTEMD).exists():
        return ""
    missing = "" if (root / PID_FILE).exists() else f"there is no /{PID_FILE}"
    states = _states(systemctl)
    if states is None:
        return missing
    service, listening = states
    if listening != "active" or service in _RUNS:  # a connection starts nothing
        return ""
    if service == "deactivating":
        return f"{SERVICE} is stopping"
    return missing and f"{SERVICE} is stopped"  # with a pid file another service may be the engine's


def _states(systemctl: str) -> tuple[str, str] | None:
    """The states of the engine's service and socket, as systemd names them; None if it does not tell."""
    asked = [systemctl, "show", "--property=ActiveState", "--value", SERVICE, SOCKET]
    try:
        told = subprocess.run(  # noqa: S603 - the words are ours
            asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS
        )
        service, socket = told.stdout.split()
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return service, socket
