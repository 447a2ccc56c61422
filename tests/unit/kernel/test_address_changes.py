"""When the host's own addresses are read anew: the kernel tells of changes at a socket."""

import errno
import socket
import struct

import pytest

from macvlan_global.kernel.address_changes import ROUTES_PAUSE, AddressChanges
from macvlan_global.kernel.rtnl import RTM_DELADDR, RTM_NEWADDR, RTM_NEWROUTE
from testkit.fake_clock import FakeClock


def _message(kind: int) -> bytes:
    return struct.pack("=IHHII", 16, kind, 0, 0, 0)


class Told:
    """A socket at which things are told, or fail."""

    def __init__(self) -> None:
        """Nothing is told yet."""
        self.queue: list[bytes | OSError] = []
        self.opened = 0
        self.closed = 0

    def open(self) -> "Told":
        """Open it."""
        self.opened += 1
        return self

    def recv(self, _size: int, /) -> bytes:
        """The next one."""
        if not self.queue:
            raise BlockingIOError
        told = self.queue.pop(0)
        if isinstance(told, OSError):
            raise told
        return told

    def close(self) -> None:
        """Close it."""
        self.closed += 1


@pytest.fixture
def told() -> Told:
    """Nothing is told."""
    return Told()


def _settled(told: Told, clock: FakeClock, seconds: float = 0.0) -> AddressChanges:
    """After a first dump that took some seconds."""
    changes = AddressChanges(told.open, steady=clock)
    assert changes.begin()
    clock.advance(seconds)
    changes.end()
    assert not changes.begin()
    return changes


@pytest.mark.parametrize("kind", [RTM_NEWADDR, RTM_DELADDR])
def test_a_change_of_addresses_is_read_at_once(told: Told, kind: int) -> None:
    """And once."""
    changes = _settled(told, FakeClock(), seconds=10)
    told.queue += [_message(RTM_NEWROUTE), _message(RTM_NEWROUTE) + _message(kind)]
    assert changes.begin()
    changes.end()
    assert not changes.begin()


def test_changes_of_routes_wait_where_reading_them_takes_long(told: Told) -> None:
    """A routing daemon must not have the whole table read for each container."""
    clock = FakeClock()
    changes = _settled(told, clock, seconds=3)
    told.queue.append(_message(RTM_NEWROUTE))
    assert not changes.begin()
    clock.advance(3 * ROUTES_PAUSE)
    assert changes.begin()


def test_what_failed_is_read_again(told: Told) -> None:
    """A dump, and a socket that dropped changes, broke, or told nonsense; a broken one is opened anew."""
    changes = _settled(told, FakeClock())
    told.queue.append(_message(RTM_NEWADDR))
    assert changes.begin()
    changes.fail()
    assert changes.begin()
    changes.end()
    for failure, opened in ((OSError(errno.ENOBUFS, "full"), 1), (b"nonsense", 1), (OSError(errno.EIO, "broken"), 2)):
        told.queue.append(failure)
        assert changes.begin()
        changes.end()
        changes.begin()
        changes.end()
        assert told.opened == opened
        assert not changes.begin()
    changes.close()
    assert told.closed == 2


def test_the_real_socket_never_blocks() -> None:
    """Whatever is told there or not."""
    changes = AddressChanges()
    assert changes.begin()
    changes.end()
    assert isinstance(changes._socket, socket.socket)
    assert not changes._socket.getblocking()
    changes.close()
