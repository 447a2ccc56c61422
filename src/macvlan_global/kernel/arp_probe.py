"""Probe a segment for an address, by ARP and neighbour discovery.

Only a frame sent *from* the address counts as an answer. Another host that probes for it at the same time does not have
it (RFC 5227 lets a probe count as a conflict, for a host that is about to take the address; here nobody is).
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import socket
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from macvlan_global.blocking_calls import briefly, on_thread
from macvlan_global.errors import Internal, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.kernel.arp_ndp import (
    ALL_NODES_MAC,
    ARPHRD_ETHER,
    ETH_P_ARP,
    ETH_P_IPV6,
    ICMP6,
    NEIGHBOUR_ADVERTISEMENT,
    answered_by,
)
from macvlan_global.kernel.arp_ndp import probe as probe_frame
from macvlan_global.kernel.ports import LinkFact
from macvlan_global.subnets import Address

T = TypeVar("T")

NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
NO_DESCRIPTOR = "the driver has no file descriptor left; raise LimitNOFILE= of its service"

_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_MEMBERSHIP = struct.Struct("=iHH8s")  # struct packet_mreq

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_MULTICAST = 263, 1, 0
SO_ATTACH_FILTER = 26
SIOCGIFFLAGS, IFF_UP, IFF_RUNNING = 0x8913, 0x1, 0x40
SIOCGIFINDEX = 0x8933
_FRAME_BYTES = 256
FRAMES_AT_ONCE = 64
"""Frames of others that are received before the event loop has its turn: in a storm there is always one more."""

_LD_HALF, _LD_BYTE, _LD_WORD, _JUMP_EQUAL, _AND, _RETURN = 0x28, 0x30, 0x20, 0x15, 0x54, 0x06
# SKF_AD_OFF + SKF_AD_VLAN_TAG and …_PRESENT: the tag that the kernel took out of the frame. It stays readable when it
# is there no more, on the sub-interface
_AD_PACKET_TYPE = 0xFFFFF000 + 4  # SKF_AD_OFF + SKF_AD_PKTTYPE
_AD_VLAN_TAG, _AD_VLAN_TAG_PRESENT = 0xFFFFF000 + 44, 0xFFFFF000 + 48
Instruction = tuple[int, int, int, int]
"""An instruction of classic BPF: code, jump if true, jump if false, operand."""


def address_filter(messages: Sequence[int], frame_bytes: int) -> tuple[Instruction, ...]:
    """A filter that passes untagged ARP and ICMPv6 messages of these types, up to so many bytes of each frame; a parent
    may carry a lot else, and all of it would wake us."""
    last = len(messages) - 1
    return (
        # a frame of another VLAN passes its lower link too, with the tag beside it: it is not of this link's segment
        (_LD_WORD, 0, 0, _AD_VLAN_TAG_PRESENT),
        (_JUMP_EQUAL, 3, 0, 0),
        (_LD_WORD, 0, 0, _AD_VLAN_TAG),
        (_AND, 0, 0, 0x0FFF),
        (_JUMP_EQUAL, 0, 8 + last, 0),
        (_LD_HALF, 0, 0, 12),
        (_JUMP_EQUAL, 5 + last, 0, ETH_P_ARP),
        (_JUMP_EQUAL, 0, 5 + last, ETH_P_IPV6),
        (_LD_BYTE, 0, 0, 20),
        (_JUMP_EQUAL, 0, 3 + last, ICMP6),
        (_LD_BYTE, 0, 0, 54),
        *((_JUMP_EQUAL, last - at, int(at == last), each) for at, each in enumerate(messages)),
        (_RETURN, 0, 0, frame_bytes),
        (_RETURN, 0, 0, 0),
    )


def of_direction(program: Sequence[Instruction], kind: int, *, passes: bool) -> tuple[Instruction, ...]:
    """A filter of only the frames whose packet type (PACKET_*, packet(7)) is, or is not, `kind`."""
    reject = len(program) - 1
    jump = (_JUMP_EQUAL, 0, reject, kind) if passes else (_JUMP_EQUAL, reject, 0, kind)
    return ((_LD_WORD, 0, 0, _AD_PACKET_TYPE), jump, *program)


_FILTER = address_filter((NEIGHBOUR_ADVERTISEMENT,), _FRAME_BYTES)

CLOSE_SECONDS = 1.0

_ARP_SETTINGS = Path("/proc/sys/net/ipv4/conf")
_ON_THE_SAME_SEGMENT = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap"})
"""Kinds of links that are on the segment of the link below them, and not in a VLAN of their own."""


async def probe(
    parent: str,
    address: Address,
    *,
    tries: int,
    wait: float,
    open_socket: Callable[[str], socket.socket],
) -> str:
    """The MAC of the address's holder on the segment of the link `parent`, "" if nobody answers. Sends `tries` probes,
    and waits `wait` seconds for an answer to each.

    Raises:
        NotFound: no such link.
        Unavailable: it is down or has no carrier, is not Ethernet, or CAP_NET_RAW is missing.
    """
    try:
        link = await open_on_thread(lambda: open_socket(parent), socket.socket.close)
        try:
            return await _exchange(link, parent, address, tries, wait)
        finally:
            await close_on_thread(link)
    except OSError as error:
        raise _explained(parent, address, error) from error


async def open_on_thread(opening: Callable[[], T], close: Callable[[T], None]) -> T:
    """Open packet sockets on a thread: the kernel takes its lock of links (rtnl) for that, which somebody may hold for
    seconds. If the caller is cancelled meanwhile, they are closed.

    Raises:
        RuntimeError: no thread can be started.
    """

    def close_unwanted(done: Future[T]) -> None:
        if not done.exception():
            close(done.result())

    future = on_thread(opening)
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except asyncio.CancelledError:
        future.add_done_callback(close_unwanted)
        raise


async def close_on_thread(link: socket.socket) -> None:
    """Close a packet socket on a thread: the kernel takes milliseconds for that, as it waits for its other CPUs. Not on
    one of asyncio's, which may all hang."""
    try:
        await briefly(link.close, CLOSE_SECONDS)
    except RuntimeError:  # no thread can be started
        link.close()


async def _exchange(link: socket.socket, parent: str, address: Address, tries: int, wait: float) -> str:
    frame = probe_frame(address, link.getsockname()[4])
    for _ in range(tries):
        _need_carrier(link, parent)
        link.send(frame)
        if mac := await _answer(link, address, wait):
            return mac
    _need_carrier(link, parent)  # without it meanwhile, no answer could come
    return ""


async def _answer(link: socket.socket, address: Address, wait: float) -> str:
    loop = asyncio.get_running_loop()
    mac = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait):
            for number in itertools.count(1):
                if mac := answered_by(await loop.sock_recv(link, _FRAME_BYTES), address):
                    break
                if number % FRAMES_AT_ONCE == 0:  # what has come already is received without waiting
                    await asyncio.sleep(0)
    return mac


def answers_on(on: LinkFact, having: LinkFact, address: Address) -> bool:
    """Whether this host answers for an address on the segment of the link `on`, if its link `having` has the address.

    With IPv6 a link answers for its own addresses alone. With IPv4 Linux answers on every link for every address of the
    host, on another VLAN's too, unless the operator forbids it with arp_ignore.
    """
    if having.index == on.index or (having.kind in _ON_THE_SAME_SEGMENT and having.lower == on.index):
        return True
    return address.version == 4 and not _ignores_others(on.name)


def _ignores_others(link: str) -> bool:
    """Whether arp_ignore holds for a link: its own, or that of all links (Documentation/networking/ip-sysctl)."""
    try:
        return any(int((_ARP_SETTINGS / each / "arp_ignore").read_text()) > 0 for each in ("all", link))
    except (OSError, ValueError):  # no such setting: it is as if it were not set
        return False


def open_packet_socket(parent: str) -> socket.socket:
    """A non-blocking packet socket that receives ARP and neighbour advertisements of a link's segment."""
    link = open_filtered(parent, _FILTER)
    if link.getsockname()[3] != ARPHRD_ETHER:
        link.close()
        raise Unavailable(
            f"interface {parent} cannot be probed for addresses: it is not Ethernet; use another parent, or -o "
            "probe=false"
        )
    return link


def open_filtered(parent: str, program: Sequence[Instruction]) -> socket.socket:
    """A non-blocking packet socket that receives what passes a filter on a link."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        # every protocol: a link in mode passthru takes what it wants before those who listen to one protocol
        _attach_filter(link, program)
        link.bind((parent, ETH_P_ALL))
        if link.getsockname()[3] == ARPHRD_ETHER:
            request = struct.pack("16si12x", parent.encode(), 0)
            index = struct.unpack_from("i", fcntl.ioctl(link, SIOCGIFINDEX, request), 16)[0]
            group = _MEMBERSHIP.pack(index, PACKET_MR_MULTICAST, len(ALL_NODES_MAC), ALL_NODES_MAC)
            link.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, group)
    except BaseException:
        link.close()
        raise
    return link


def _attach_filter(link: socket.socket, instructions: Sequence[Instruction]) -> None:
    program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in instructions))
    packed = struct.pack("HP", len(instructions), ctypes.addressof(program))
    link.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, packed)


def _need_carrier(link: socket.socket, parent: str) -> None:
    request = struct.pack("16sH14x", parent.encode(), 0)
    flags = struct.unpack_from("H", fcntl.ioctl(link, SIOCGIFFLAGS, request), 16)[0]
    if not flags & IFF_UP:
        raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
    if not flags & IFF_RUNNING:
        raise Unavailable(f"interface {parent} cannot be probed for addresses: it has no carrier; plug its cable in")


def _explained(parent: str, address: Address, error: OSError) -> MacvlanGlobalError:
    if error.errno in {errno.ENODEV, errno.ENXIO}:
        return NotFound(f"there is no interface {parent} on this host")
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Unavailable(
            "addresses cannot be probed: CAP_NET_RAW is missing; run the driver as root, or write its service anew "
            "(macvlan-global install)"
        )
    if error.errno == errno.ENETDOWN:
        return Unavailable(
            f"interface {parent} cannot be probed for addresses: it is down; set it up (ip link set {parent} up)"
        )
    if error.errno in {errno.ENOBUFS, errno.EAGAIN}:
        return Unavailable(f"interface {parent} cannot be probed for addresses: its send queue is full; try again")
    if error.errno in NO_DESCRIPTORS:
        return Unavailable(f"addresses cannot be probed on {parent}: {NO_DESCRIPTOR}")
    return Internal(f"probing for {address} on {parent}: {error.strerror or error}")
