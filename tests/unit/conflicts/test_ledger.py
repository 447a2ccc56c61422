"""What is kept of conflicts and of frames: bounded, whatever devices send."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from macvlan_global.conflicts.judge import Holding
from macvlan_global.conflicts.ledger import CONFLICTS_MOST, AddressConflict, Ledger
from macvlan_global.conflicts.tallies import Tallies
from macvlan_global.conflicts.vendors import Vendors
from tests.unit.conflicts.wire import DEVICE, announced

SEEN = AddressConflict(
    Holding(ip_address("10.8.0.9"), "container", "web", "lan", "one", here=True),
    holder_mac="02:00:00:00:00:0a",
    mac=DEVICE,
    how="announces",
    parent="eth0",
    vlan=0,
    first=100,
    last=100,
    count=1,
)
OUI = """OUI/MA-L                                                    Organization
DC-A6-32   (hex)\t\tRaspberry Pi Trading Ltd
DCA632     (base 16)\t\tRaspberry Pi Trading Ltd
00-00-0C   (hex)\t\tCisco Systems, Inc
"""


def test_the_last_thousand_conflicts_are_kept() -> None:
    """The one that was not seen for longest goes; frames are counted on."""
    ledger = Ledger()
    for number in range(CONFLICTS_MOST + 5):
        ledger.add(replace(SEEN, mac=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"))
        ledger.add(SEEN)
    assert len(ledger) == CONFLICTS_MOST
    assert ledger.all()[-1].mac == DEVICE
    assert ledger.frames == {"container": 2 * (CONFLICTS_MOST + 5), "host": 0, "gateway": 0}


@pytest.mark.parametrize("here", [True, False])
def test_a_conflict_of_a_container_gets_its_name_once_that_is_known(here: bool) -> None:
    """The engine says it a moment after the container starts, another host a moment later. It is the same conflict, and
    so it is when the container starts again."""
    ledger, holding = Ledger(), replace(SEEN.holding, here=here)
    for name, endpoint in (
        ("0123456789ab", "0123456789abcdef"),
        ("web", "0123456789abcdef"),
        ("web", "fedcba9876543210"),
    ):
        ledger.add(replace(SEEN, holding=replace(holding, name=name, endpoint=endpoint)))
    (found,) = ledger.all()
    assert (found.holding.name, found.count) == ("web", 3)


def test_conflicts_in_words() -> None:
    """Holder, place with its VLAN, device and act; the remedy follows."""
    assert SEEN.text == (
        f"address 10.8.0.9 of container web is in conflict on eth0: {DEVICE} announces it; give that device another "
        "address, or exclude this one"
    )
    there = replace(SEEN, vlan=20, other="container db", holding=replace(SEEN.holding, here=False))
    assert "of container web on host one is in conflict on eth0 (VLAN 20): container db (02:00:5e:" in there.text
    gateway = replace(SEEN, holding=Holding(ip_address("10.8.0.1"), "gateway", "network lan"))
    assert "address 10.8.0.1 of the gateway of network lan is" in gateway.text


def test_a_flood_of_claims_is_bounded() -> None:
    """What finds no room is counted; claims that are not repeated make room, and one that is repeated goes on."""
    tallies = Tallies(most=10)
    tallies.add([(announced(f"10.8.0.{number}"), False) for number in range(1, 31)], 0)
    assert tallies.overflow == 20
    assert len(list(tallies.take(1))) == 10
    assert list(tallies.take(50)) == []
    tallies.add([(announced("10.8.0.1"), False)], 50)
    ((_, tally),) = tallies.take(51)
    assert tally.steady == 50
    tallies.add([(announced("10.8.0.99"), False), (announced("10.8.0.99"), True)], 100)
    assert len(tallies) == 3
    incoming, outgoing = sorted(tallies.take(101), key=lambda each: each[0].outgoing)
    assert (incoming[0].reflected, outgoing[0].reflected) == (True, False)


async def test_vendors_are_those_of_debian_s_list(tmp_path: Path) -> None:
    """A locally administered MAC has none, and without the package there are none at all."""
    (tmp_path / "oui.txt").write_text(OUI)
    vendors = Vendors(tmp_path / "oui.txt")
    macs = ("dc:a6:32:00:00:01", "00:00:0c:00:00:01", "00:00:0d:00:00:01", DEVICE)
    assert list((await vendors.of(macs)).values()) == ["Raspberry Pi Trading Ltd", "Cisco Systems, Inc", "", ""]
    assert await Vendors(tmp_path / "none").of(macs) == dict.fromkeys(macs, "")
