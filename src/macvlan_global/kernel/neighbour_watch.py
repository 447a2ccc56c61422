"""Packet sockets that receive ARP and neighbour discovery of a segment, one for each direction, and send nothing.

A classic BPF filter in the kernel passes nothing else, so what a parent carries besides wakes nobody. Frames that this
host and the containers on the link send pass the link too (PACKET_OUTGOING, packet(7)): a container may use an address
that is another one's. They have a socket of their own, since to ask for the direction of each frame costs as much as to
receive it.
"""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable

from macvlan_global.errors import Internal, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel.arp_ndp import NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION
from macvlan_global.kernel.arp_probe import (
    NO_DESCRIPTOR,
    NO_DESCRIPTORS,
    SOL_PACKET,
    address_filter,
    close_on_thread,
    of_direction,
    open_filtered,
)
from macvlan_global.kernel.ports import ARPHRD_ETHER, NeighbourFrame

_FRAME_BYTES = 128
"""Longer than every frame that matters, without its further options."""
_BUFFER_BYTES = 1 << 20
_STATISTICS = struct.Struct("=II")  # struct tpacket_stats
PACKET_STATISTICS, PACKET_OUTGOING = 6, 4
SO_RCVBUFFORCE = 33

_FILTER = address_filter((NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT), _FRAME_BYTES)


def open_watch_socket(parent: str, outgoing: bool) -> socket.socket:
    """A non-blocking packet socket that receives what is filtered on a link: the frames that this host sends
    (`outgoing`), or all others."""
    opened = open_filtered(parent, of_direction(_FILTER, PACKET_OUTGOING, passes=outgoing))
    try:
        try:  # socket(7): above net.core.rmem_max, with CAP_NET_ADMIN
            opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    except BaseException:
        opened.close()
        raise
    return opened


class PacketNeighbourSocket:
    """See `macvlan_global.kernel.ports.NeighbourSocket`."""

    def __init__(self, parent: str, open_socket: Callable[[str, bool], socket.socket]) -> None:
        """Open both on the link `parent`.

        Raises:
            NotFound: no such link.
            Unavailable: it is down, is not Ethernet, or CAP_NET_RAW is missing.
        """
        self._parent = parent
        self._sockets: list[tuple[socket.socket, bool]] = []
        try:
            for outgoing in (True, False):
                self._sockets.append((open_socket(parent, outgoing), outgoing))
            if self._sockets[0][0].getsockname()[3] != ARPHRD_ETHER:
                raise Unavailable(f"interface {parent} cannot be watched for conflicts: it is not Ethernet")
        except OSError as error:
            self.abandon()
            raise self._explained(error) from error
        except BaseException:
            self.abandon()
            raise

    async def wait(self) -> None:
        """See `NeighbourSocket.wait`."""
        loop = asyncio.get_running_loop()
        readable = loop.create_future()

        def wake() -> None:
            if not readable.done():
                readable.set_result(None)

        for each, _ in self._sockets:
            loop.add_reader(each, wake)
        try:
            await readable
        finally:
            for each, _ in self._sockets:
                loop.remove_reader(each)

    def take(self, most: int) -> list[NeighbourFrame]:
        """See `NeighbourSocket.take`. Half of them may be outgoing, so that a flood from outside hides none of ours."""
        frames: list[NeighbourFrame] = []
        for each, outgoing in self._sockets:
            receive = each.recv
            room = (most + 1) // 2 if outgoing else most - len(frames)
            try:
                for _ in range(room):
                    frames.append((receive(_FRAME_BYTES), outgoing))  # noqa: PERF401 - those before an error count
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._explained(error) from error
        return frames

    def dropped(self) -> int:
        """See `NeighbourSocket.dropped`. The kernel begins to count anew with each question."""
        dropped = 0
        for each, _ in self._sockets:
            try:
                seen = each.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
            except OSError as error:
                raise self._explained(error) from error
            dropped += int(_STATISTICS.unpack(seen)[1])
        return dropped

    async def close(self) -> None:
        """See `NeighbourSocket.close`."""
        for each, _ in self._sockets:
            await close_on_thread(each)

    def abandon(self) -> None:
        """Close them at once, on the calling thread."""
        for each, _ in self._sockets:
            each.close()

    def _explained(self, error: OSError) -> MacvlanGlobalError:
        if error.errno in {errno.ENODEV, errno.ENXIO}:
            return NotFound(f"there is no interface {self._parent} on this host")
        if error.errno in {errno.EPERM, errno.EACCES}:
            return Unavailable(
                "conflicts cannot be watched for: CAP_NET_RAW is missing; run the driver as root, write its service "
                "anew (macvlan-global install), or set conflict_watch = false"
            )
        if error.errno == errno.ENETDOWN:
            return Unavailable(f"interface {self._parent} cannot be watched for conflicts: it is down")
        if error.errno in NO_DESCRIPTORS:
            return Unavailable(f"interface {self._parent} cannot be watched for conflicts: {NO_DESCRIPTOR}")
        return Internal(f"watching {self._parent} for conflicts: {error.strerror or error}")
