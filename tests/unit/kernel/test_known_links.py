"""A link that was looked at is known until the kernel tells of a change of it, or cannot tell any more."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from macvlan_global.kernel.known_links import MOST_KNOWN, KnownLinks
from macvlan_global.kernel.ports import LinkFact
from macvlan_global.kernel.rtnl import RTM_DELLINK, RTM_NEWLINK
from testkit.played_netlink import link_payload

LAN, PORT = LinkFact("lan0", 2, "02:00:00:00:00:aa", 1500, up=True), LinkFact("port0", 3, "", 1500, up=True)


class Played:
    """A kernel that tells of links, and may fail to."""

    def __init__(self) -> None:
        """All is well, and nothing changes."""
        self.refusal: OSError | None = None
        self.failure: OSError | None = None
        self.opened = 0
        self.is_open = False
        self._ours, self._far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    def open(self) -> "Played":
        """The socket."""
        if self.refusal:
            raise self.refusal
        self.opened += 1
        self.is_open = True
        return self

    def tell(self, kind: int, payload: bytes) -> None:
        """One message."""
        self.say(struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload)

    def say(self, raw: bytes) -> None:
        """Any bytes."""
        self._far.send(raw)

    def fileno(self) -> int:
        """Not needed here."""
        return -1

    def recv(self, size: int, /) -> bytes:
        """What was said, or the failure once."""
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        return self._ours.recv(size)

    def close(self) -> None:
        """Closed by who opened it."""
        self.is_open = False

    def end(self) -> None:
        """Both ends."""
        self._ours.close()
        self._far.close()


@pytest.fixture
def played() -> Iterator[Played]:
    """A kernel."""
    played = Played()
    yield played
    played.end()


@pytest.fixture
def known(played: Played) -> KnownLinks:
    """With two links that were looked at."""
    known = KnownLinks(played.open)
    assert known.get("lan0") is None
    known.keep("lan0", LAN, since=known.changes)
    known.keep("port0", PORT, 9, since=known.changes)
    assert (known.get("lan0"), known.get("port0")) == (LAN, PORT)
    return known


@pytest.mark.parametrize("kind", [RTM_NEWLINK, RTM_DELLINK])
def test_a_change_is_heard_of(played: Played, known: KnownLinks, kind: int) -> None:
    """Of the link itself, whatever its name is by now, and of nobody else."""
    played.tell(kind, link_payload(7, "other"))
    assert (known.get("lan0"), known.get("port0")) == (LAN, PORT)
    played.tell(kind, link_payload(2, "renamed"))
    assert (known.get("lan0"), known.get("port0")) == (None, PORT)


def test_the_bridge_of_a_port_counts_too(played: Played, known: KnownLinks) -> None:
    """Its name is part of what is known of the port."""
    played.tell(RTM_NEWLINK, link_payload(9, "br1"))
    assert (known.get("lan0"), known.get("port0")) == (LAN, None)


def test_a_link_that_changed_while_it_was_looked_at_is_not_kept(played: Played, known: KnownLinks) -> None:
    """Nobody can tell whether the answer came before."""
    since = known.changes
    played.tell(RTM_NEWLINK, link_payload(4, "eth4"))
    assert known.get("lan0") == LAN
    known.keep("eth4", LinkFact("eth4", 4, "", 1500, up=True), since=since)
    assert known.get("eth4") is None


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.EBADF])
def test_what_may_have_been_missed_is_a_change_of_all(played: Played, known: KnownLinks, error: int) -> None:
    """For want of room, or with a socket that broke, of which there is another one then."""
    played.failure = OSError(error, "failed")
    assert (known.get("lan0"), known.get("port0")) == (None, None)
    assert played.opened == (1 if error == errno.ENOBUFS else 2)
    known.keep("lan0", LAN, since=known.changes)
    assert known.get("lan0") == LAN


@pytest.mark.parametrize("raw", [b"nonsense", struct.pack("=IHHII", 18, RTM_NEWLINK, 0, 0, 0) + b"ab"])
def test_what_makes_no_sense_is_a_change_of_all(played: Played, known: KnownLinks, raw: bytes) -> None:
    """It may have been one of any."""
    played.say(raw)
    assert (known.get("lan0"), known.get("port0")) == (None, None)


def test_without_a_socket_nothing_is_known(played: Played) -> None:
    """Until there is one."""
    known = KnownLinks(played.open)
    played.refusal = OSError(errno.EMFILE, "Too many open files")
    for _ in range(2):
        assert known.get("lan0") is None
        known.keep("lan0", LAN, since=known.changes)
    played.refusal = None
    assert known.get("lan0") is None
    known.keep("lan0", LAN, since=known.changes)
    assert known.get("lan0") == LAN


def test_after_the_end_nothing_is_known(played: Played, known: KnownLinks) -> None:
    """And no socket is opened any more."""
    for _ in range(2):
        known.close()
    assert not played.is_open
    assert known.get("lan0") is None
    known.keep("lan0", LAN, since=known.changes)
    assert known.get("lan0") is None
    assert played.opened == 1


def test_what_is_kept_is_bounded(known: KnownLinks) -> None:
    """Names are what users write."""
    for number in range(MOST_KNOWN + 10):
        known.keep(f"x{number}", LAN, since=known.changes)
    assert len(known._known) <= MOST_KNOWN
