"""The command line's side of the admin socket. Standard library only, so that commands start at once."""

import http.client
import os
import select
import socket
import struct
import time
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from macvlan_global import errors
from macvlan_global.admin import messages as a

T = TypeVar("T")
UCRED = struct.Struct("3i")  # process, user and group: unix(7)
SILENCE_SECONDS = 3.0
"""A driver that has not begun its answer for so long is asked whether it is alive, again each time. One that is may
take its time; one that does not say so for twice as long hangs."""


class DriverHangsError(TimeoutError):
    """The driver accepts nothing and answers nothing."""


class AdminClient:
    """Asks the running driver."""

    def __init__(self, path: str, timeout: float = 60.0, *, silence: float = SILENCE_SECONDS) -> None:
        """`path` of the admin socket; `timeout` in seconds for each answer; for `silence` see `SILENCE_SECONDS`."""
        self._path = path
        self._timeout = timeout
        self._silence = silence
        self._pid = 0

    def status(self) -> a.Status:
        """See `Views.status`. Its process id is the one that it has here: a managed plugin is the first of its own."""
        found = self._ask("GET", "/status", a.Status)
        return msgspec.structs.replace(found, pid=self._pid or found.pid)

    def networks(self) -> list[a.NetworkView]:
        """See `Views.networks`."""
        return self._ask("GET", "/networks", list[a.NetworkView])

    def addresses(self, network: str = "") -> list[a.AddressView]:
        """See `Views.addresses`."""
        return self._ask("GET", "/addresses?" + urlencode({"network": network}), list[a.AddressView])

    def remembered(self, network: str = "") -> list[a.RememberedView]:
        """See `Views.remembered`."""
        return self._ask("GET", "/addresses/remembered?" + urlencode({"network": network}), list[a.RememberedView])

    def forget_address(self, address: str) -> list[a.RememberedView]:
        """See `Views.forget_address`."""
        return self._ask("POST", "/addresses/forget?" + urlencode({"address": address}), list[a.RememberedView])

    def parents(self, network: str) -> a.ChoiceView:
        """See `Views.parents`."""
        return self._ask("GET", "/parents?" + urlencode({"network": network}), a.ChoiceView)

    def repair(self, *, dry_run: bool, grace: float | None = None) -> a.RepairView:
        """See `Views.repair`."""
        return self._ask(
            "POST",
            "/repair?" + urlencode({"dry_run": int(dry_run), **({} if grace is None else {"grace": grace})}),
            a.RepairView,
        )

    def conflicts(self) -> list[a.ConflictView]:
        """See `Views.conflicts`."""
        return self._ask("GET", "/conflicts", list[a.ConflictView])

    def page(self) -> a.PageView:
        """See `Views.page`."""
        return self._ask("GET", "/page", a.PageView)

    def hosts(self) -> list[a.HostView]:
        """See `Views.hosts`."""
        return self._ask("GET", "/hosts", list[a.HostView])

    def remove_host(self, name: str, *, force: bool) -> a.HostRemovalView:
        """See `Views.remove_host`."""
        path = "/hosts/remove?" + urlencode({"name": name, "force": int(force)})
        return self._ask("POST", path, a.HostRemovalView)

    def _ask(self, method: str, path: str, kind: type[T]) -> T:
        connection = UnixConnection(self._path, self._timeout)
        try:
            connection.request(method, path)
            self._wait(connection.sock)
            response = connection.getresponse()
            body = response.read()
            self._pid = connection.pid
        except (OSError, http.client.HTTPException) as error:
            raise errors.Unavailable(_unreachable(self._path, error)) from error
        finally:
            connection.close()
        try:
            if response.status != HTTPStatus.OK:
                problem = msgspec.json.decode(body, type=a.Problem)
                raise getattr(errors, problem.kind, errors.Internal)(problem.message)
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            raise errors.Internal(
                f"the driver at {self._path} gave an answer that this version does not know; its log may say more, and "
                "after an upgrade it must be restarted (systemctl restart macvlan-global)"
            ) from error

    def _wait(self, sock: socket.socket) -> None:
        """Wait until an answer begins.

        Raises:
            DriverHangsError: the driver does not say that it is alive.
            TimeoutError: it is, and takes too long.
        """
        deadline, waiting = time.monotonic() + self._timeout, select.poll()
        waiting.register(sock, select.POLLIN)
        while not waiting.poll(min(self._silence, max(deadline - time.monotonic(), 0.0)) * 1000):
            if time.monotonic() >= deadline:
                raise TimeoutError
            self._need_alive()

    def _need_alive(self) -> None:
        connection = UnixConnection(self._path, 2 * self._silence)
        try:
            connection.request("GET", "/")  # any answer will do: there is no such page
            connection.getresponse()
        except TimeoutError as error:
            raise DriverHangsError from error
        finally:
            connection.close()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        """`path` of the socket; `timeout` in seconds for each step."""
        super().__init__("macvlan-global", timeout=timeout)
        self._path = path
        self.pid = 0
        """Process id of the listener once connected, as seen from here; 0 if it cannot be seen."""

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
        self.pid, _, _ = UCRED.unpack(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))


def _unreachable(path: str, error: Exception) -> str:
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        return f"the driver's socket {path} is for root only; use sudo"
    if isinstance(error, DriverHangsError):
        return (
            f"the driver does not answer at {path}: it hangs, or this host is too busy. Containers run on; see its log "
            "(journalctl -u macvlan-global) and restart it (systemctl restart macvlan-global; in a swarm: docker "
            "plugin disable -f, then enable)"
        )
    if isinstance(error, TimeoutError):
        return f"the driver at {path} did not answer in time; see its log (journalctl -u macvlan-global)"
    hint = "systemctl start macvlan-global, or macvlan-global serve (in a swarm: docker plugin enable)"
    if not os.access(path, os.F_OK):  # Path.exists raises where the folder is closed to this process
        return f"the driver is not running here (no socket {path}); start it: {hint}"
    return f"the driver does not answer at {path} ({error}); start it: {hint}"
