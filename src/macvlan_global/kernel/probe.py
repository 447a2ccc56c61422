"""Does anybody on the wire have this address? ARP probes (RFC 5227) and neighbour solicitations (RFC 4861).

Both are asked in the name of nobody: an ARP probe has the sender address 0.0.0.0, a solicitation the source `::`. So no
neighbour learns anything from them, and the asking link needs no address of its own.

Only what speaks *with* the address counts. Another host that asks the same question at the same time does not have it
(RFC 5227 lets a probe count as a conflict, for a host that is about to take the address; here nobody is).
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import socket
import struct
from contextlib import closing

from macvlan_global.errors import Internal, MacvlanGlobalError, NotFound, Unavailable
from macvlan_global.subnets import Address

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_NEIGHBOUR = struct.Struct("!BBHI16s")  # solicitation and advertisement without options
_PSEUDO = struct.Struct("!16s16sI3xB")
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter
_MEMBERSHIP = struct.Struct("=iHH8s")  # struct packet_mreq

ETH_P_ALL, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0806, 0x86DD
ARPHRD_ETHER, ARP_REQUEST = 1, 1
ICMP6, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 58, 135, 136
SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_MULTICAST = 263, 1, 0
SO_ATTACH_FILTER = 26
SIOCGIFFLAGS, IFF_UP, IFF_RUNNING = 0x8913, 0x1, 0x40
_BROADCAST = b"\xff" * 6
_ALL_NODES_MAC = bytes.fromhex("333300000001")  # where a node answers whoever asks in the name of nobody
_NOBODY6 = bytes(16)
_FRAME_BYTES = 256

_LD_HALF, _LD_BYTE, _LD_WORD, _JUMP_EQUAL, _AND, _RETURN = 0x28, 0x30, 0x20, 0x15, 0x54, 0x06
# SKF_AD_OFF + SKF_AD_VLAN_TAG and …_PRESENT: the tag that the kernel took out of the frame. It stays readable when it
# is there no more, on the sub-interface
_AD_VLAN_TAG, _AD_VLAN_TAG_PRESENT = 0xFFFFF000 + 44, 0xFFFFF000 + 48
_FILTER = (
    # a frame of another VLAN passes its lower link too, with the tag beside it: it is not of this link's wire
    (_LD_WORD, 0, 0, _AD_VLAN_TAG_PRESENT),
    (_JUMP_EQUAL, 3, 0, 0),
    (_LD_WORD, 0, 0, _AD_VLAN_TAG),
    (_AND, 0, 0, 0x0FFF),
    (_JUMP_EQUAL, 0, 8, 0),
    (_LD_HALF, 0, 0, 12),
    (_JUMP_EQUAL, 5, 0, ETH_P_ARP),
    (_JUMP_EQUAL, 0, 5, ETH_P_IPV6),
    (_LD_BYTE, 0, 0, 20),
    (_JUMP_EQUAL, 0, 3, ICMP6),
    (_LD_BYTE, 0, 0, 54),
    (_JUMP_EQUAL, 0, 1, NEIGHBOUR_ADVERTISEMENT),
    (_RETURN, 0, 0, _FRAME_BYTES),
    (_RETURN, 0, 0, 0),
)
"""Untagged ARP and neighbour advertisements; a parent may carry a lot else, and all of it would wake us."""


async def answers(parent: str, address: Address, *, tries: int, wait: float) -> bool:
    """Whether somebody on the wire of the link `parent` has the address. Asks `tries` times, `wait` seconds each.

    Raises:
        NotFound: no such link.
        Unavailable: it is down or has no carrier, is no Ethernet, or we have no right to ask.
    """
    try:
        with closing(_open(parent)) as link:
            question = solicitation(address, link.getsockname()[4])
            for _ in range(tries):
                _need_carrier(link, parent)
                link.send(question)
                if await _heard(link, address, wait):
                    return True
            _need_carrier(link, parent)  # whoever lost the wire meanwhile has heard nobody for that reason
            return False
    except OSError as error:
        raise _explained(parent, address, error) from error


async def _heard(link: socket.socket, address: Address, wait: float) -> bool:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(wait):
            while not is_answer(await loop.sock_recv(link, _FRAME_BYTES), address):
                pass
    except TimeoutError:
        return False
    return True


def solicitation(address: Address, mac: bytes) -> bytes:
    """The frame that asks who has an address, in the name of nobody, from `mac`."""
    if address.version == 4:
        asked = _ARP.pack(1, 0x0800, 6, 4, ARP_REQUEST, mac, bytes(4), bytes(6), address.packed)
        return _ETHERNET.pack(_BROADCAST, mac, ETH_P_ARP) + asked
    # the group that only those listen to whose address ends alike, and the MAC of that group
    group = bytes.fromhex("ff0200000000000000000001ff") + address.packed[-3:]
    message = _NEIGHBOUR.pack(NEIGHBOUR_SOLICITATION, 0, 0, 0, address.packed)
    pseudo = _PSEUDO.pack(_NOBODY6, group, len(message), ICMP6)
    message = message[:2] + _checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    header = _IP6.pack(6 << 28, len(message), ICMP6, 255, _NOBODY6, group)
    return _ETHERNET.pack(b"\x33\x33" + group[-4:], mac, ETH_P_IPV6) + header + message


def is_answer(frame: bytes, address: Address) -> bool:
    """Whether who sent this frame has the address."""
    body = frame[_ETHERNET.size :]
    kind = int.from_bytes(frame[12:14], "big")
    if address.version == 4:
        if kind != ETH_P_ARP or len(body) < _ARP.size:
            return False
        hardware, protocol, *_, sender, _, _ = _ARP.unpack_from(body)
        return bool((hardware, protocol, sender) == (ARPHRD_ETHER, 0x0800, address.packed))
    if kind != ETH_P_IPV6 or len(body) < _IP6.size + _NEIGHBOUR.size:
        return False
    _, _, following, hops, _, _ = _IP6.unpack_from(body)
    what, code, _, _, target = _NEIGHBOUR.unpack_from(body, _IP6.size)
    # a hop limit below 255 says that it came through a router, which nothing of this kind may (RFC 4861, 7.1.2)
    return bool((following, hops, what, code, target) == (ICMP6, 255, NEIGHBOUR_ADVERTISEMENT, 0, address.packed))


def _open(parent: str) -> socket.socket:
    """A socket that hears the wire of a link. Without waiting: what is not there yet is waited for by the loop."""
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        # every protocol: a link in mode passthru takes what it wants before those who listen to one protocol
        _attach_filter(link)
        link.bind((parent, ETH_P_ALL))
        if link.getsockname()[3] != ARPHRD_ETHER:
            raise Unavailable(f"nobody can be asked on {parent}: it is not an Ethernet link")
        index = socket.if_nametoindex(parent)
        group = _MEMBERSHIP.pack(index, PACKET_MR_MULTICAST, len(_ALL_NODES_MAC), _ALL_NODES_MAC)
        link.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, group)
    except BaseException:
        link.close()
        raise
    return link


def _attach_filter(link: socket.socket) -> None:
    program = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in _FILTER))
    link.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), ctypes.addressof(program)))


def _need_carrier(link: socket.socket, parent: str) -> None:
    request = struct.pack("16sH14x", parent.encode(), 0)
    flags = struct.unpack_from("H", fcntl.ioctl(link, SIOCGIFFLAGS, request), 16)[0]
    if not flags & IFF_UP:
        raise OSError(errno.ENETDOWN, os.strerror(errno.ENETDOWN))
    if not flags & IFF_RUNNING:
        raise Unavailable(f"nobody can be asked on {parent}: it has no carrier; is its cable in?")


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _explained(parent: str, address: Address, error: OSError) -> MacvlanGlobalError:
    if error.errno in {errno.ENODEV, errno.ENXIO}:
        return NotFound(f"there is no interface {parent} on this host")
    if error.errno in {errno.EPERM, errno.EACCES}:
        return Unavailable(
            "nobody on the wire can be asked for an address: CAP_NET_RAW is missing; run the driver as root, or write "
            "its service anew (macvlan-global install)"
        )
    if error.errno == errno.ENETDOWN:
        return Unavailable(f"nobody can be asked on {parent}: it is down (ip link set {parent} up)")
    if error.errno in {errno.ENOBUFS, errno.EAGAIN}:
        return Unavailable(f"nobody can be asked on {parent} now: its queue is full")
    return Internal(f"asking on {parent} who has {address}: {error.strerror}")
