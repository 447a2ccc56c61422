"""The host's own addresses and routes, dumped again only after the kernel has told of a change.

The kernel queues changes at multicast sockets (rtnetlink(7)) before `ip address add` returns. So a look at them, one
system call each, tells whether what was dumped before still holds. Routing daemons change routes all the time, and a
dump of a full table takes long: after a change of routes alone, a dump waits for twenty times as long as the last one
took.

Addresses have a socket of their own. One that overflows (ENOBUFS, netlink(7)) has dropped nobody knows what: with one
for both, a daemon that writes a full table would make addresses doubtful, and these wait for nothing.
"""

import socket
import time
from collections.abc import Callable
from typing import Protocol

from macvlan_global.kernel.rtnl import (
    RTMGRP_IPV4_IFADDR,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV6_IFADDR,
    RTMGRP_IPV6_ROUTE,
)

ADDRESSES = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR
ROUTES = RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE
ROUTES_PAUSE = 20
"""A dump for the sake of routes alone waits for so many times as long as the last dump took."""
_BYTES = 1
"""Room for a datagram: that there is one says enough, and the kernel drops the rest of it."""


class ChangeSocket(Protocol):
    """A socket at which changes are queued; it never blocks."""

    def recv(self, size: int, /) -> bytes:
        """The next datagram; BlockingIOError if there is none."""
        ...

    def close(self) -> None:
        """Close it. Idempotent."""
        ...


def open_change_socket(groups: int) -> ChangeSocket:
    """A socket of rtnetlink that receives these multicast groups (RTMGRP_*), in the network namespace of the calling
    thread."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        opened.setblocking(False)
        opened.bind((0, groups))
    except BaseException:
        opened.close()
        raise
    return opened


class AddressChanges:
    """Says when the host's addresses and routes must be dumped. For one thread."""

    def __init__(
        self,
        open_socket: Callable[[int], ChangeSocket] = open_change_socket,
        *,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before the first question; `open_socket` gets multicast groups, `ADDRESSES` or `ROUTES`;
        `steady` is a clock that nobody sets."""
        self._told_addresses = _Told(lambda: open_socket(ADDRESSES))
        self._told_routes = _Told(lambda: open_socket(ROUTES))
        self._steady = steady
        self._addresses = True
        self._routes = True
        self._begun = 0.0
        self._routes_from = 0.0

    def begin(self) -> bool:
        """Whether a dump is due. If so, `end` or `fail` follows; changes meanwhile make the next one due.

        Raises:
            OSError: there is no such socket.
        """
        self._addresses |= self._told_addresses.any()
        self._routes |= self._told_routes.any()
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
        """Close the sockets. Idempotent."""
        self._told_addresses.close()
        self._told_routes.close()


class _Told:
    """A socket at which changes are told, opened when it is asked for them."""

    def __init__(self, open_socket: Callable[[], ChangeSocket]) -> None:
        self._open_socket = open_socket
        self._socket: ChangeSocket | None = None

    def any(self) -> bool:
        """Whether there may have been a change since the last question.

        Raises:
            OSError: the socket cannot be opened.
        """
        told = False
        if self._socket is None:
            self._socket = self._open_socket()
            told = True  # nobody knows of changes before
        try:
            while True:
                self._socket.recv(_BYTES)
                told = True
        except BlockingIOError:
            return told
        except OSError:
            # also for ENOBUFS: until such a socket is read to its end, the kernel drops all further changes, and does
            # not say so again (netlink_overrun in net/netlink/af_netlink.c)
            self.close()
            return True

    def close(self) -> None:
        """Close it, until the next question. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
