"""Unix sockets to serve on: made by us, for root only, or handed over by systemd."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from macvlan_global.errors import Unavailable

SD_LISTEN_FDS_START = 3  # sd_listen_fds(3)
BACKLOG = 1024
"""Connections that wait until the driver serves; beyond them the kernel refuses (EAGAIN, unix(7))."""


@contextmanager
def plugin_socket(path: Path, environment: Mapping[str, str]) -> Iterator[socket.socket]:
    """The socket of the plugin, listening: the one that systemd hands over, or one at `path` that the end removes.

    What connects before the driver serves waits in it: an engine asks again for some seconds only where there is no
    socket, and as long as it takes where there is one.

    Raises:
        Unavailable: see `listen`.
    """
    given = handed_over(environment)
    if given is not None:  # it is systemd's to remove
        with given:
            yield given
        return
    with listen(path, what="the plugin socket") as listener:
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def listen(path: Path, *, what: str) -> socket.socket:
    """A listening unix socket at `path` that only root may use; one left by a dead process is replaced.

    Raises:
        Unavailable: another process serves there, or the path cannot be used.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_socket():
            raise Unavailable(f"{what} {path} is there already, and is no socket; give another path")
        if path.exists() and _somebody_serves(path):
            raise Unavailable(f"{what} {path} is served by another process; stop it first (`macvlan-global status`)")
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # never open to others, not even between bind and chmod
        try:
            listener.bind(str(path))
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except OSError as error:
        raise Unavailable(f"{what} {path} cannot be used: {error}") from error
    return listener


def handed_over(environment: Mapping[str, str]) -> socket.socket | None:
    """The socket that systemd hands over (LISTEN_FDS, sd_listen_fds(3)), or None."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or int(environment.get("LISTEN_FDS", "0")) < 1:
        return None
    os.set_inheritable(SD_LISTEN_FDS_START, False)
    return socket.socket(fileno=SD_LISTEN_FDS_START)


def _somebody_serves(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def tell_systemd(state: str, environment: Mapping[str, str]) -> None:
    """Send `state` (as "READY=1") to systemd if it asked for it (sd_notify(3))."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.send(state.encode())
