"""The host's own addresses and routes, dumped again only after the kernel has told of a change.

The kernel queues RTM_NEWADDR and RTM_DELADDR at a multicast socket (rtnetlink(7)) before `ip address add` returns. So a
look at that socket, one system call, tells whether what was dumped before still holds. Routing daemons change routes
all the time, and a dump of a full table takes long: after a change of routes alone, a dump waits for twenty times as
long as the last one took.
"""

import errno
import socket
import time
from collections.abc import Callable
from typing import Protocol

from macvlan_global.kernel.rtnl import (
    RTM_DELADDR,
    RTM_NEWADDR,
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
    kinds,
)

GROUPS = RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE
ROUTES_PAUSE = 20
"""A dump for the sake of routes alone waits for so many times as long as the last dump took."""
_BYTES = 1 << 16


class ChangeSocket(Protocol):
    """A socket at which changes are queued; it never blocks."""

    def recv(self, size: int, /) -> bytes:
        """The next datagram; BlockingIOError if there is none."""
        ...

    def close(self) -> None:
        """Close it. Idempotent."""
        ...


def open_change_socket() -> ChangeSocket:
    """A multicast socket of rtnetlink in the network namespace of the calling thread."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        opened.setblocking(False)
        opened.bind((0, GROUPS))
    except BaseException:
        opened.close()
        raise
    return opened


class AddressChanges:
    """Says when the host's addresses and routes must be dumped. For one thread."""

    def __init__(
        self,
        open_socket: Callable[[], ChangeSocket] = open_change_socket,
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before the first question; `steady` is a clock that nobody sets."""
        self._open_socket = open_socket
        self._steady = steady
        self._socket: ChangeSocket | None = None
        self._addresses = True
        self._routes = True
        self._begun = 0.0
        self._routes_from = 0.0

    def begin(self) -> bool:
        """Whether a dump is due. If so, `end` or `fail` follows; changes meanwhile make the next one due.

        Raises:
            OSError: there is no such socket.
        """
        self._drain()
        if not self._addresses and not (self._routes and self._steady() >= self._routes_from):
            return False
        self._addresses = self._routes = False
        self._begun = self._steady()
        return True

    def end(self) -> None:
        """The dump succeeded."""
        now = self._steady()
        self._routes_from = now + (now - self._begun) * ROUTES_PAUSE

    def fail(self) -> None:
        """The dump failed, and is due again."""
        self._addresses = True

    def close(self) -> None:
        """Close the socket. Idempotent."""
        if self._socket is not None:
            self._socket.close()

    def _drain(self) -> None:
        if self._socket is None:
            self._socket = self._open_socket()
            self._addresses = True  # nobody knows of changes before
        try:
            while True:
                for kind in kinds(self._socket.recv(_BYTES)):
                    if kind in {RTM_NEWADDR, RTM_DELADDR}:
                        self._addresses = True
                    else:
                        self._routes = True
        except BlockingIOError:
            return
        except OSError as error:
            self._addresses = True
            if error.errno != errno.ENOBUFS:  # changes were dropped, for want of room
                self._socket.close()
                self._socket = None
        except ValueError:  # not to be parsed, so a change of whatever
            self._addresses = True
