"""Links that were looked at and have not changed since, so that a container start asks the kernel for its parent once.

The kernel queues RTM_NEWLINK and RTM_DELLINK at a multicast socket (rtnetlink(7)) before the call that changes a link
returns. So a look at that socket, one system call, tells whether what was read before still holds.
"""

import contextlib
import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass

from macvlan_global.kernel.deletion import LinkEvents, open_link_events
from macvlan_global.kernel.ports import LinkFact
from macvlan_global.kernel.rtnl import parts

MOST_KNOWN = 256
_BYTES = 1 << 16
_INDEX = struct.Struct("=i")  # of struct ifinfomsg, behind family and type
_AT_INDEX = 4


@dataclass(frozen=True, slots=True)
class _Known:
    fact: LinkFact
    indices: tuple[int, ...]


class KnownLinks:
    """Links by the names that they were looked for by. For one thread."""

    def __init__(self, listen: Callable[[], LinkEvents] = open_link_events) -> None:
        """Nothing is opened before the first question."""
        self._listen = listen
        self._events: LinkEvents | None = None
        self._known: dict[str, _Known] = {}
        self._changes = 0
        self._closed = False

    def get(self, name: str) -> LinkFact | None:
        """The link of this name or alternative name, None if it must be looked at: always, if nobody can listen."""
        self._drain()
        known = self._known.get(name)
        return known.fact if known else None

    @property
    def changes(self) -> int:
        """Number of changes that were heard of, for `keep`."""
        return self._changes

    def keep(self, name: str, fact: LinkFact, *others: int, since: int) -> None:
        """Keep a link as the kernel gave it, unless a change was heard of since `changes` was this. `others` are the
        indices of further links that the fact tells of."""
        if self._events is not None and since == self._changes:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[name] = _Known(fact, (fact.index, *others))

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._closed = True
        self._stop()

    def _drain(self) -> None:
        if self._events is None and not self._closed:
            self._forget()  # nobody knows of changes before
            with contextlib.suppress(OSError):  # no descriptor is left, say
                self._events = self._listen()
        if self._events is None:
            return
        try:
            while True:
                changed = {_INDEX.unpack_from(payload, _AT_INDEX)[0] for _, payload in parts(self._events.recv(_BYTES))}
                self._changes += 1
                for name in [name for name, known in self._known.items() if changed.intersection(known.indices)]:
                    del self._known[name]
        except BlockingIOError:
            return
        except OSError as error:
            self._forget()
            if error.errno != errno.ENOBUFS:  # changes were dropped, for want of room
                self._stop()
        except (ValueError, struct.error):  # not to be parsed, so a change of whatever
            self._forget()

    def _forget(self) -> None:
        self._changes += 1
        self._known.clear()

    def _stop(self) -> None:
        self._forget()
        if self._events is not None:
            self._events.close()
            self._events = None
