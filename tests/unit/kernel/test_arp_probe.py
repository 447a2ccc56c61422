"""Probes on a segment where others talk, and packet sockets that cannot be opened."""

import asyncio
import errno
import os
import socket
from ipaddress import ip_address

import pytest

from macvlan_global.errors import Unavailable
from macvlan_global.kernel.arp_ndp import advertisement
from macvlan_global.kernel.arp_probe import FRAMES_AT_ONCE, _answer, probe
from macvlan_global.kernel.neighbour_watch import PacketNeighbourSocket

ADDRESS = ip_address("192.0.2.9")
MAC = b"\2\0\0\0\0\7"
NOISE = advertisement(ip_address("192.0.2.77"), MAC)


class Storm(socket.socket):
    """A socket of a segment on which a frame of others always waits: switches in a loop, say. It has an end, so that
    whoever waits for one is found out."""

    def __init__(self) -> None:
        """Nothing was received yet."""
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.setblocking(False)
        self.left = 200_000

    def recv(self, _size: int, _flags: int = 0) -> bytes:
        """See `socket.recv`."""
        if not self.left:
            raise BlockingIOError
        self.left -= 1
        return NOISE


async def test_a_storm_of_other_frames_keeps_nobody_waiting() -> None:
    """The wait for an answer ends in time, and others have their turn meanwhile."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.ensure_future(others())
    with Storm() as storm:
        assert await _answer(storm, ADDRESS, 0.02) == ""
        assert storm.left > 0
        assert turns >= (200_000 - storm.left) // FRAMES_AT_ONCE
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_answer_among_others_is_heard() -> None:
    """It is the last of many."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setblocking(False)
        for frame in (NOISE, NOISE, advertisement(ADDRESS, MAC)):
            theirs.send(frame)
        assert await _answer(ours, ADDRESS, 5) == "02:00:00:00:00:07"


NONE_LEFT = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _none_left(*_: object) -> socket.socket:
    raise NONE_LEFT


async def test_without_a_descriptor_the_error_says_what_helps() -> None:
    """The process has as many files open as it may."""
    with pytest.raises(Unavailable, match=r"probed on eth0: .* raise LimitNOFILE= of its service"):
        await probe("eth0", ADDRESS, tries=1, wait=0.01, open_socket=_none_left)
    with pytest.raises(Unavailable, match=r"eth0 cannot be watched .* raise LimitNOFILE= of its service"):
        PacketNeighbourSocket("eth0", _none_left)
