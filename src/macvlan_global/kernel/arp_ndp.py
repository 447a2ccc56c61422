"""Frames of ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861): probes, their answers, advertisements. Pure.

Probes have no sender address: an ARP probe has 0.0.0.0, a solicitation the source `::` (as in duplicate address
detection, RFC 4862). So no neighbour learns anything from them, and the sending link needs no address of its own.

They carry a mark, by which other hosts know that a driver asks, which takes no address: in the padding of an ARP frame,
which is as long as it must be all the same, and as the nonce of a solicitation (RFC 7527).
"""

import struct

from macvlan_global.subnets import Address

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IP6 = struct.Struct("!IHBB16s16s")
_NEIGHBOUR = struct.Struct("!BBHI16s")  # solicitation and advertisement without options
_PSEUDO = struct.Struct("!16s16sI3xB")

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
ARPHRD_ETHER, ARP_REQUEST = 1, 1
ICMP6, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 58, 135, 136
_OVERRIDE = 0x20000000
_BROADCAST = b"\xff" * 6
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
ALL_NODES_MAC = b"\x33\x33" + _ALL_NODES[-4:]
"""Destination of neighbour advertisements sent in reply to a probe with source `::`."""
_UNSPECIFIED = bytes(16)
_ARP_MARK = b"macvlan-global".ljust(18, b"\0")
_NONCE = bytes((14, 1)) + b"mv-glb"  # RFC 3971 section 5.3.2, in units of 8 bytes


def probe(address: Address, mac: bytes) -> bytes:
    """Probe for an address, from `mac`: an ARP probe (RFC 5227 section 1.1), or a neighbour solicitation."""
    if address.version == 4:
        packet = _ARP.pack(1, 0x0800, 6, 4, ARP_REQUEST, mac, bytes(4), bytes(6), address.packed)
        return _ETHERNET.pack(_BROADCAST, mac, ETH_P_ARP) + packet + _ARP_MARK
    # solicited-node multicast group (RFC 4291 2.7.1) and its MAC
    group = bytes.fromhex("ff0200000000000000000001ff") + address.packed[-3:]
    message = _NEIGHBOUR.pack(NEIGHBOUR_SOLICITATION, 0, 0, 0, address.packed) + _NONCE
    return _to_group(mac, _UNSPECIFIED, group, message)


def is_probe_of_ours(frame: bytes) -> bool:
    """Whether a probe carries the mark of `probe`."""
    if frame[12:14] == ETH_P_ARP.to_bytes(2, "big"):
        return frame[_ETHERNET.size + _ARP.size :].startswith(_ARP_MARK)
    return frame[_ETHERNET.size + _IP6.size + _NEIGHBOUR.size :].startswith(_NONCE)


def advertisement(address: Address, mac: bytes) -> bytes:
    """Advertise that `mac` has an address, so that neighbours replace another MAC that they know for it."""
    if address.version == 4:  # an ARP announcement, RFC 5227 section 2.3
        packet = _ARP.pack(1, 0x0800, 6, 4, ARP_REQUEST, mac, address.packed, bytes(6), address.packed)
        return _ETHERNET.pack(_BROADCAST, mac, ETH_P_ARP) + packet
    # an unsolicited neighbour advertisement, RFC 4861 section 7.2.6, which overrides what neighbours know
    option = bytes((2, 1)) + mac  # target link-layer address, in units of 8 bytes
    message = _NEIGHBOUR.pack(NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE, address.packed) + option
    return _to_group(mac, address.packed, _ALL_NODES, message)


def answered_by(frame: bytes, address: Address) -> str:
    """The MAC of the address's holder, if this frame is sent by it; else ""."""
    body = frame[_ETHERNET.size :]
    kind = int.from_bytes(frame[12:14], "big")
    if address.version == 4:
        if kind != ETH_P_ARP or len(body) < _ARP.size:
            return ""
        hardware, protocol, _, _, _, mac, sender, _, _ = _ARP.unpack_from(body)
        # as neighbours believe it: what relays a frame may put its own MAC in front
        return _text(mac) if (hardware, protocol, sender) == (ARPHRD_ETHER, 0x0800, address.packed) else ""
    if kind != ETH_P_IPV6 or len(body) < _IP6.size + _NEIGHBOUR.size:
        return ""
    _, _, following, hops, _, _ = _IP6.unpack_from(body)
    kind_of_message, code, _, _, target = _NEIGHBOUR.unpack_from(body, _IP6.size)
    # a hop limit below 255 says that it came through a router, which nothing of this kind may (RFC 4861, 7.1.2)
    answers = (following, hops, kind_of_message, code, target) == (
        ICMP6,
        255,
        NEIGHBOUR_ADVERTISEMENT,
        0,
        address.packed,
    )
    return _text(frame[6:12]) if answers else ""


def _to_group(mac: bytes, sender: bytes, group: bytes, message: bytes) -> bytes:
    """An ICMPv6 message from a link to a multicast group."""
    pseudo = _PSEUDO.pack(sender, group, len(message), ICMP6)
    message = message[:2] + _checksum(pseudo + message).to_bytes(2, "big") + message[4:]
    header = _IP6.pack(6 << 28, len(message), ICMP6, 255, sender, group)
    return _ETHERNET.pack(b"\x33\x33" + group[-4:], mac, ETH_P_IPV6) + header + message


def _text(mac: bytes) -> str:
    return mac.hex(":")


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
