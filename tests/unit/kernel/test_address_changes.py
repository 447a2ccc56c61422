"""When the host's own addresses are read anew: the kernel tells of changes at sockets."""

import errno
import socket

import pytest

from macvlan_global.kernel.address_changes import ADDRESSES, ROUTES, ROUTES_PAUSE, AddressChanges
from testkit.fake_clock import FakeClock

FULL = OSError(errno.ENOBUFS, "full")
BROKEN = OSError(errno.EIO, "broken")


class Told:
    """A socket at which things are told, or fail."""

    def __init__(self) -> None:
        """Nothing is told yet."""
        self.queue: list[bytes | OSError] = []
        self.opened = 0
        self.closed = 0

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


class Kernel:
    """Two sockets, of addresses and of routes."""

    def __init__(self) -> None:
        """Nothing is told."""
        self.addresses, self.routes = Told(), Told()
        self.refusal: OSError | None = None

    def open(self, groups: int) -> Told:
        """Open one of them."""
        if self.refusal:
            raise self.refusal
        told = {ADDRESSES: self.addresses, ROUTES: self.routes}[groups]
        told.opened += 1
        return told


@pytest.fixture
def kernel() -> Kernel:
    """Nothing is told."""
    return Kernel()


def _settled(kernel: Kernel, clock: FakeClock, seconds: float = 0.0) -> AddressChanges:
    """After a first dump that took some seconds."""
    changes = AddressChanges(kernel.open, steady=clock)
    assert changes.begin()
    clock.advance(seconds)
    changes.end()
    assert not changes.begin()
    return changes


def test_a_change_of_addresses_is_read_at_once(kernel: Kernel) -> None:
    """And once."""
    changes = _settled(kernel, FakeClock(), seconds=10)
    kernel.routes.queue += [b"a route", b"a route"]
    kernel.addresses.queue += [b"an address", b"an address"]
    assert changes.begin()
    changes.end()
    assert not changes.begin()


@pytest.mark.parametrize(
    "told", [b"a route", FULL, BROKEN], ids=["a change", "too many to tell", "a socket that broke"]
)
def test_changes_of_routes_wait_where_reading_them_takes_long(kernel: Kernel, told: bytes | OSError) -> None:
    """A routing daemon must not have the whole table read for each container, whatever becomes of its socket."""
    clock = FakeClock()
    changes = _settled(kernel, clock, seconds=3)
    for _ in range(5):
        kernel.routes.queue.append(told)
        assert not changes.begin()
    clock.advance(3 * ROUTES_PAUSE)
    assert changes.begin()


def test_a_flood_of_routes_hides_no_address(kernel: Kernel) -> None:
    """It is read at once, before and after the socket of routes is opened anew."""
    clock = FakeClock()
    changes = _settled(kernel, clock, seconds=3)
    for told in (FULL, b"a route", BROKEN):
        kernel.routes.queue.append(told)
        for _ in range(2):
            kernel.addresses.queue.append(b"an address")
            assert changes.begin()
            clock.advance(3)
            changes.end()
            assert not changes.begin()


def test_what_failed_is_read_again(kernel: Kernel) -> None:
    """A dump, and a socket of addresses that dropped some or broke: changes until it is opened anew count, too."""
    changes = _settled(kernel, FakeClock())
    kernel.addresses.queue.append(b"an address")
    assert changes.begin()
    changes.fail()
    assert changes.begin()
    changes.end()
    for opened, failure in enumerate((FULL, BROKEN), 1):
        kernel.addresses.queue.append(failure)
        for _ in range(2):
            assert changes.begin()
            changes.end()
        assert kernel.addresses.opened == opened + 1
        assert not changes.begin()
    for _ in range(2):
        changes.close()
    assert kernel.addresses.closed == kernel.addresses.opened
    assert kernel.routes.closed == kernel.routes.opened == 1


def test_without_a_socket_nothing_is_taken_for_read(kernel: Kernel) -> None:
    """No descriptor is left, say; the next question opens it."""
    changes = _settled(kernel, FakeClock(), seconds=3)
    kernel.addresses.queue.append(FULL)
    kernel.routes.queue.append(FULL)
    assert changes.begin()
    changes.end()
    kernel.refusal = OSError(errno.EMFILE, "Too many open files")
    for _ in range(2):
        with pytest.raises(OSError, match="Too many"):
            changes.begin()
    kernel.refusal = None
    assert changes.begin()


def test_the_real_sockets_never_block() -> None:
    """Whatever is told there or not."""
    changes = AddressChanges()
    assert changes.begin()
    changes.end()
    for told in (changes._told_addresses, changes._told_routes):
        assert isinstance(told._socket, socket.socket)
        assert not told._socket.getblocking()
    changes.close()
