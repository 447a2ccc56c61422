"""The driver, serving in the background."""

import contextlib
from pathlib import Path

from demo.background import Background, accepts
from demo.errors import DemoError
from demo.places import KEPT, PROGRAM, RUN, shown
from demo.screen import Screen

SOCKET = Path("/run/docker/plugins/macvlan-global.sock")
"""Path at which the engine looks for a driver called macvlan-global."""
ADMIN_SOCKET = Path("/run/macvlan-global/admin.sock")
STATE = KEPT / "state"

_driver = Background("driver")
LOG = _driver.log


def is_ours() -> bool:
    """Whether the driver that serves was started by the demo."""
    return _driver.pid is not None


def ensure(screen: Screen) -> None:
    """Have a driver that serves; one that was installed on this machine is as good.

    Raises:
        DemoError: it did not come up.
    """
    if accepts(SOCKET):
        screen.say("the driver serves already" if is_ours() else f"a driver of this machine serves on {SOCKET} already")
        return
    if not PROGRAM.exists():
        raise DemoError(f"{shown(PROGRAM)} is missing; `make clean`, then `make run`")
    RUN.mkdir(parents=True, exist_ok=True, mode=0o755)
    # its own settings, whatever /etc/macvlan-global/config.toml holds for a driver that is installed here
    config = RUN / "config.toml"
    config.write_text(f'state_dir = "{STATE}"\n')
    screen.command(f"{shown(PROGRAM)} serve --config {config} 2>{LOG} &")
    _driver.start([str(PROGRAM), "serve", "--config", str(config)], lambda: accepts(SOCKET) and accepts(ADMIN_SOCKET))
    screen.say(f"serving on {SOCKET}, state in {STATE}")


def stop(screen: Screen) -> None:
    """Stop the driver if the demo started it, and clear its folders of sockets. Repeatable."""
    if pid := _driver.pid:
        screen.command(f"kill {pid}  # macvlan-global")
        _driver.stop()
    for path in (SOCKET, ADMIN_SOCKET):
        with contextlib.suppress(OSError):  # not there, not a socket, not empty: somebody else's then
            if not accepts(path):
                path.unlink(missing_ok=True)
            path.parent.rmdir()
    with contextlib.suppress(OSError):
        SOCKET.parent.parent.rmdir()
