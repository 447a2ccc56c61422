"""Claims on addresses in frames of ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861). Pure.

A frame claims an address for a MAC: its sender has the address, or, by a probe, is about to take it. Anybody on a
segment may send such frames, malformed ones included; a frame without a claim gives None, and nothing is raised.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from macvlan_global.kernel.arp_ndp import (
    ARP_REQUEST,
    ARPHRD_ETHER,
    ETH_P_ARP,
    ETH_P_IPV6,
    ICMP6,
    NEIGHBOUR_ADVERTISEMENT,
    NEIGHBOUR_SOLICITATION,
    is_probe_of_ours,
)
from macvlan_global.subnets import Address

How = Literal["answers for", "announces", "uses", "probes for"]
"""The act that claims an address: a reply to a request, a gratuitous ARP or unsolicited advertisement, the source of
another request, or a probe of duplicate address detection."""

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_AT, _IP6_AT, _ICMP6_AT, _OPTIONS_AT = 14, 14, 54, 78
_ARP_REPLY = 2
_SOLICITED = 0x40
_SOURCE_OPTION, _TARGET_OPTION = 1, 2
_NO_ADDRESS4, _NO_ADDRESS6, _NO_MAC = bytes(4), bytes(16), bytes(6)
_ARP_TYPE, _IP6_TYPE = ETH_P_ARP.to_bytes(2, "big"), ETH_P_IPV6.to_bytes(2, "big")


@dataclass(frozen=True, slots=True)
class AddressClaim:
    """A claim of the device `mac` on an address. `own_probe` marks the probes that drivers like this one send."""

    address: Address
    mac: str
    how: How
    own_probe: bool = False


def claim_key(frame: bytes) -> bytes:
    """The part of a frame that says which claim it makes: frames with one key make one claim, whomever they ask or
    answer, or none of them makes any."""
    if frame[12:14] == _ARP_TYPE:
        # a request names its target besides, but only that of a probe matters, and whose probe it is
        is_probe = frame[28:32] == _NO_ADDRESS4
        key = frame[_ARP_AT:42] + bytes((is_probe_of_ours(frame),)) if is_probe else frame[_ARP_AT:32]
        return key if len(frame) >= _ARP_AT + _ARP.size else b"cut" + key
    # sender, EtherType, version; length, next header, hop limit; type and code, without the checksum
    key = frame[6:15] + frame[18:22] + frame[_ICMP6_AT : _ICMP6_AT + 2]
    if len(frame) < _OPTIONS_AT:
        return b"cut" + key
    if frame[_ICMP6_AT] == NEIGHBOUR_SOLICITATION and frame[22:38] != _NO_ADDRESS6:
        return b"from" + key + frame[22:38] + frame[_OPTIONS_AT : _OPTIONS_AT + 8]
    return key + frame[_ICMP6_AT + 4 : _OPTIONS_AT + 8]


def claim_in(frame: bytes) -> AddressClaim | None:
    """The claim that a frame makes, None if it makes none."""
    claim = None
    if frame[12:14] == _ARP_TYPE:
        claim = _in_arp(frame)
    elif frame[12:14] == _IP6_TYPE:
        claim = _in_neighbour_discovery(frame)
    if claim is None or claim.address.is_multicast or claim.address.is_loopback or claim.address.is_unspecified:
        return None
    return claim


def _in_arp(frame: bytes) -> AddressClaim | None:
    if len(frame) < _ARP_AT + _ARP.size:
        return None
    hardware, protocol, mac_size, size, act, mac, sender, _, target = _ARP.unpack_from(frame, _ARP_AT)
    known = (hardware, protocol, mac_size, size) == (ARPHRD_ETHER, 0x0800, 6, 4) and act in {ARP_REQUEST, _ARP_REPLY}
    is_probe = sender == _NO_ADDRESS4
    if not known or mac == _NO_MAC or (is_probe and act != ARP_REQUEST):
        return None
    if is_probe:
        return AddressClaim(IPv4Address(target), mac.hex(":"), "probes for", is_probe_of_ours(frame))
    if sender == target:
        return AddressClaim(IPv4Address(sender), mac.hex(":"), "announces")
    # as neighbours believe it: what relays a frame may put its own MAC in front
    return AddressClaim(IPv4Address(sender), mac.hex(":"), "answers for" if act == _ARP_REPLY else "uses")


def _in_neighbour_discovery(frame: bytes) -> AddressClaim | None:
    if len(frame) < _OPTIONS_AT or frame[_IP6_AT] >> 4 != 6 or frame[_IP6_AT + 6] != ICMP6:
        return None
    # a hop limit below 255 says that it came through a router, which nothing of this kind may (RFC 4861, 7.1)
    if frame[_IP6_AT + 7] != 255 or frame[_ICMP6_AT + 1] != 0:
        return None
    kind, source, target = frame[_ICMP6_AT], frame[22:38], frame[62:78]
    if kind == NEIGHBOUR_SOLICITATION and source == _NO_ADDRESS6:
        return AddressClaim(IPv6Address(target), frame[6:12].hex(":"), "probes for", is_probe_of_ours(frame))
    if kind == NEIGHBOUR_SOLICITATION:
        return _with_option(frame, source, _SOURCE_OPTION, "uses")
    if kind == NEIGHBOUR_ADVERTISEMENT:
        solicited = frame[_ICMP6_AT + 4] & _SOLICITED
        return _with_option(frame, target, _TARGET_OPTION, "answers for" if solicited else "announces")
    return None


def _with_option(frame: bytes, address: bytes, wanted: int, how: How) -> AddressClaim | None:
    """A claim for the link-layer address of an option; for the sender of the frame if there is none. None if the
    options are malformed: then nobody heeds the frame (RFC 4861, 7.1)."""
    end = min(len(frame), _ICMP6_AT + int.from_bytes(frame[18:20], "big"))
    mac, at = frame[6:12], _OPTIONS_AT
    while at + 8 <= end:
        size = frame[at + 1] * 8
        if not size:
            return None
        if frame[at] == wanted:
            mac = frame[at + 2 : at + 8]
            break
        at += size
    return None if mac == _NO_MAC else AddressClaim(IPv6Address(address), mac.hex(":"), how)
