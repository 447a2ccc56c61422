"""The frames that ask who has an address, and those that count as an answer."""

from ipaddress import ip_address

import pytest

from macvlan_global.kernel.arp_ndp import answered_by, is_probe_of_ours, probe

MAC = bytes.fromhex("020000000001")
FOUR, SIX = ip_address("192.0.2.9"), ip_address("2001:db8::a1b2:c3d4")


def _arp(sender: str, target: str, operation: int = 2) -> bytes:
    return bytes.fromhex(f"020000000001 020000000009 0806 0001 0800 06 04 {operation:04x} 020000000009") + (
        ip_address(sender).packed + MAC + ip_address(target).packed
    )


def _advertisement(target: str, *, hops: int = 255, kind: int = 136, code: int = 0) -> bytes:
    ethernet = bytes.fromhex("333300000001 020000000009 86dd")
    header = bytes.fromhex(f"60000000 0018 3a {hops:02x}") + ip_address(target).packed + ip_address("ff02::1").packed
    return ethernet + header + bytes([kind, code, 0, 0, 0x20, 0, 0, 0]) + ip_address(target).packed


def test_an_arp_probe_is_that_of_rfc_5227() -> None:
    """To all, from 0.0.0.0, with no target MAC: nobody's cache changes by it."""
    assert probe(FOUR, MAC).hex(" ") == (
        "ff ff ff ff ff ff 02 00 00 00 00 01 08 06 "
        "00 01 08 00 06 04 00 01 02 00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 c0 00 02 09 "
        + (b"macvlan-global" + bytes(4)).hex(" ")  # in the padding to 60 bytes
    )


def test_a_solicitation_is_that_of_rfc_4862() -> None:
    """To the group of the address, from ::, hop limit 255, with a nonce and no other option, with the right
    checksum."""
    frame = probe(SIX, MAC)
    assert frame[:14].hex() == "3333ffb2c3d4" + MAC.hex() + "86dd"
    assert frame[14:54].hex() == "60000000" + "0020" + "3a" + "ff" + "00" * 16 + "ff0200000000000000000001ffb2c3d4"
    assert frame[54:56].hex() == "8700"
    assert frame[62:] == SIX.packed + bytes((14, 1)) + b"mv-glb"
    pseudo = frame[22:54] + (32).to_bytes(4, "big") + (58).to_bytes(4, "big")
    total = sum(int.from_bytes((pseudo + frame[54:])[at : at + 2], "big") for at in range(0, 40 + 32, 2))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_a_probe_is_known_by_its_mark() -> None:
    """Those of other senders have none."""
    assert is_probe_of_ours(probe(FOUR, MAC))
    assert is_probe_of_ours(probe(SIX, MAC))
    assert not is_probe_of_ours(_arp(str(ip_address(0)), "192.0.2.9", 1))
    assert not is_probe_of_ours(_advertisement(str(SIX)))


@pytest.mark.parametrize("operation", [1, 2])
def test_whoever_speaks_arp_with_the_address_has_it(operation: int) -> None:
    """A reply, and a request that says who asks."""
    assert answered_by(_arp("192.0.2.9", "192.0.2.1", operation), FOUR) == "02:00:00:00:00:09"


def test_who_only_asks_for_the_address_does_not_have_it() -> None:
    """Another host may be probing for it at the same time; another neighbour may speak."""
    assert not answered_by(probe(FOUR, MAC), FOUR)
    assert not answered_by(probe(SIX, MAC), SIX)
    assert not answered_by(_arp("192.0.2.8", "192.0.2.9"), FOUR)


def test_who_advertises_the_address_has_it() -> None:
    """Padding behind it does not matter."""
    assert answered_by(_advertisement(str(SIX)), SIX) == "02:00:00:00:00:09"
    assert answered_by(_advertisement(str(SIX)) + bytes(8), SIX) == "02:00:00:00:00:09"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(60),
        _arp("192.0.2.9", "192.0.2.1")[:40],
        _advertisement("2001:db8::1"),
        _advertisement(str(SIX), hops=64),
        _advertisement(str(SIX), kind=135),
        _advertisement(str(SIX), code=1),
        _advertisement(str(SIX))[:70],
    ],
    ids=["empty", "zeros", "cut-arp", "another", "routed", "solicitation", "code", "cut"],
)
def test_what_is_no_answer(frame: bytes) -> None:
    """Cut off, of another address, through a router, or of another kind."""
    assert not answered_by(frame, FOUR if frame[12:14] == b"\x08\x06" else SIX)
