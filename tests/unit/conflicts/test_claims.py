"""Claims in frames of ARP and neighbour discovery, and frames that make none."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macvlan_global.conflicts.claims import AddressClaim, claim_in, claim_key
from macvlan_global.kernel.arp_ndp import advertisement, probe

MAC = bytes.fromhex("020000000009")
TEXT = "02:00:00:00:00:09"
NOBODY = str(ip_address(0))
FOUR, SIX = ip_address("192.0.2.9"), ip_address("2001:db8::9")


def arp(sender: str, target: str, operation: int = 1) -> bytes:
    """An ARP packet of the device."""
    return (
        b"\xff" * 6
        + MAC
        + bytes.fromhex(f"0806 0001 0800 06 04 {operation:04x}")
        + (MAC + ip_address(sender).packed + bytes(6) + ip_address(target).packed)
    )


def neighbour(kind: int, source: str, target: str, *, flags: int = 0, options: bytes = b"", hops: int = 255) -> bytes:
    """A message of neighbour discovery of the device."""
    body = bytes((kind, 0, 0, 0, flags, 0, 0, 0)) + ip_address(target).packed + options
    header = bytes.fromhex(f"60000000 {len(body):04x} 3a {hops:02x}")
    return (
        bytes.fromhex("333300000001")
        + MAC
        + b"\x86\xdd"
        + header
        + (ip_address(source).packed + ip_address("ff02::1").packed + body)
    )


@pytest.mark.parametrize(
    ("frame", "claim"),
    [
        (arp("192.0.2.9", "192.0.2.1", 2), AddressClaim(FOUR, TEXT, "answers for")),
        (arp("192.0.2.9", "192.0.2.9"), AddressClaim(FOUR, TEXT, "announces")),
        (arp("192.0.2.9", "192.0.2.9", 2), AddressClaim(FOUR, TEXT, "announces")),
        (arp("192.0.2.9", "192.0.2.1"), AddressClaim(FOUR, TEXT, "uses")),
        (arp(NOBODY, "192.0.2.9"), AddressClaim(FOUR, TEXT, "probes for")),
        (neighbour(136, "fe80::9", str(SIX), flags=0x60), AddressClaim(SIX, TEXT, "answers for")),
        (neighbour(136, "fe80::9", str(SIX), flags=0x20), AddressClaim(SIX, TEXT, "announces")),
        (neighbour(135, str(SIX), "2001:db8::1"), AddressClaim(SIX, TEXT, "uses")),
        (neighbour(135, "::", str(SIX)), AddressClaim(SIX, TEXT, "probes for")),
        (advertisement(FOUR, MAC), AddressClaim(FOUR, TEXT, "announces")),
        (advertisement(SIX, MAC), AddressClaim(SIX, TEXT, "announces")),
        (probe(FOUR, MAC), AddressClaim(FOUR, TEXT, "probes for", own_probe=True)),
        (probe(SIX, MAC), AddressClaim(SIX, TEXT, "probes for", own_probe=True)),
    ],
)
def test_a_frame_claims_an_address_for_its_sender(frame: bytes, claim: AddressClaim) -> None:
    """By a reply, an announcement, as the source of a request, or by a probe; padding behind it does not matter."""
    assert claim_in(frame) == claim
    assert claim_in(frame + bytes(18)) == claim


def test_neighbours_heed_the_link_layer_address_that_a_message_names() -> None:
    """An advertisement may come from another MAC; the option counts."""
    option = bytes((2, 1)) + bytes.fromhex("02000000000b")
    frame = neighbour(136, "fe80::9", str(SIX), flags=0x20, options=bytes((14, 1)) + bytes(6) + option)
    assert claim_in(frame) == AddressClaim(SIX, "02:00:00:00:00:0b", "announces")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(60),
        arp("192.0.2.9", "192.0.2.1")[:41],
        arp("192.0.2.9", "192.0.2.1", 3),
        arp("224.0.0.9", "192.0.2.1"),
        arp(NOBODY, NOBODY),
        arp(NOBODY, "192.0.2.9", 2),
        arp("127.0.0.1", "192.0.2.1"),
        arp("192.0.2.9", "192.0.2.1").replace(MAC, bytes(6)),
        neighbour(136, "fe80::9", str(SIX), hops=64),
        neighbour(137, "fe80::9", str(SIX)),
        neighbour(136, "fe80::9", "ff02::1"),
        neighbour(136, "fe80::9", str(SIX))[:77],
        neighbour(136, "fe80::9", str(SIX), options=bytes(8)),
    ],
    ids=[
        "empty", "zeros", "cut", "rarp", "multicast", "nothing", "reply", "loopback", "no-mac", "routed", "redirect",
        "group", "cut6", "option-without-length",
    ],
)  # fmt: skip
def test_a_frame_without_a_claim(frame: bytes) -> None:
    """Cut off, of another kind, through a router, or about no address that a device can have."""
    assert claim_in(frame) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded(frame: bytes) -> None:
    """Anybody on a segment may send them: nothing is raised, and a claim is about one address and one MAC."""
    for each in (frame, arp("192.0.2.9", "192.0.2.1")[:22] + frame, neighbour(136, "fe80::9", "::")[:54] + frame):
        claim_key(each)
        claim = claim_in(each)
        assert claim is None or (len(claim.mac) == 17 and not claim.address.is_multicast)


GOOD = [
    arp("192.0.2.9", "192.0.2.1"),
    arp(NOBODY, "192.0.2.9"),
    probe(FOUR, MAC),
    advertisement(SIX, MAC),
    neighbour(135, str(SIX), "2001:db8::1", options=bytes((1, 1)) + MAC),
    neighbour(135, "::", str(SIX)),
    neighbour(136, "fe80::9", str(SIX), flags=0x60),
]


@given(st.sampled_from(GOOD), st.integers(12, 90), st.integers(0, 255), st.integers(0, 90))
def test_frames_with_one_key_make_one_claim(frame: bytes, at: int, value: int, size: int) -> None:
    """A malformed frame, which nobody heeds, does not stand for a good one that comes after it."""
    longer = frame + bytes(18)
    for other in (frame[:size], longer[:at] + bytes((value,)) + longer[at + 1 :]):
        if claim_key(frame) == claim_key(other):
            one, two = claim_in(frame), claim_in(other)
            assert one and two
            assert (one.address, one.mac, one.own_probe) == (two.address, two.mac, two.own_probe)
            assert one.how == two.how or {one.how, two.how} == {"announces", "uses"}


CHECKED = neighbour(136, "fe80::9", str(SIX), flags=0x60)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (arp("192.0.2.9", "192.0.2.1"), arp("192.0.2.9", "192.0.2.2")),
        (neighbour(135, str(SIX), "2001:db8::1"), neighbour(135, str(SIX), "2001:db8::2")),
        (CHECKED, CHECKED[:38] + ip_address("2001:db8::1").packed + CHECKED[54:56] + b"\1\2" + CHECKED[58:]),
    ],
    ids=["request", "solicitation", "advertisement"],
)
def test_whomever_a_frame_asks_or_answers_it_makes_one_claim(one: bytes, other: bytes) -> None:
    """A device that scans a subnet, and one that answers to a thousand others, cost one decision each."""
    assert claim_key(one) == claim_key(other)
