"""The judgement of claims: what is a conflict, and what only looks like one."""

from ipaddress import ip_address

import pytest

from macvlan_global.conflicts.claimants import ADDRESSES_MOST, FORGOTTEN_SECONDS, PROBES_MOST, Claimants, Suspects
from macvlan_global.conflicts.claims import AddressClaim, How
from macvlan_global.conflicts.judge import Holding, Kind, Sighting, Span, judge

ADDRESS = ip_address("10.8.0.9")
OURS, THEIRS, PARENT = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
HOWS: tuple[How, ...] = ("answers for", "announces", "uses", "probes for")


def holding(kind: Kind = "container", *, here: bool = True, mac: str = OURS, since: float = 0) -> Holding:
    """A holder of the address."""
    return Holding(ADDRESS, kind, "web", "lan", "one", mac, here=here, endpoint="e1", since=since)


def seen(mac: str = THEIRS, how: How = "announces", *, at: float = 100, own_probe: bool = False) -> Sighting:
    """A sighting of a claim."""
    return Sighting(AddressClaim(ADDRESS, mac, how, own_probe), at, at)


@pytest.mark.parametrize("how", HOWS)
def test_another_mac_for_the_address_of_a_container_is_a_conflict(how: How) -> None:
    """Whether it answers, announces, uses or probes; a changed MAC of the container would explain it."""
    found = judge(seen(how=how), [holding()], {PARENT}, {})
    assert (found.judged, found.mac, found.holder_mac, found.certain) == ("conflict", THEIRS, OURS, False)


@pytest.mark.parametrize("how", HOWS)
def test_the_container_itself_is_none(how: How) -> None:
    """Its own duplicate address detection neither."""
    assert judge(seen(OURS, how), [holding()], {PARENT}, {}).judged == "ours"


def test_a_frame_of_the_holder_before_is_none() -> None:
    """A container that is started again with its address has another MAC: frames under way are of the one before."""
    assert judge(seen(at=100), [holding(since=99.5)], {PARENT}, {}).judged == "ours"
    assert judge(seen(at=102), [holding(since=99.5)], {PARENT}, {}).judged == "conflict"


def test_probes_of_drivers_are_none() -> None:
    """This host's come from its parent, those of other hosts carry a mark; a mark on anything else is worth nothing."""
    assert judge(seen(PARENT, "probes for"), [holding()], {PARENT}, {}).judged == "ours"
    assert judge(seen(how="probes for", own_probe=True), [holding()], {PARENT}, {}).judged == "ours"
    assert judge(seen(own_probe=True), [holding()], {PARENT}, {}).judged == "conflict"


def test_this_host_s_own_address_is_for_its_links() -> None:
    """With whichever of its MACs it answers; any other is a conflict. The host must not have a container's address."""
    assert judge(seen(PARENT), [holding("host", mac="")], {PARENT}, {}).judged == "ours"
    assert judge(seen(), [holding("host", mac="")], {PARENT}, {}).judged == "conflict"
    assert judge(seen(PARENT), [holding()], {PARENT}, {}).judged == "conflict"


def test_two_containers_with_one_address_are_a_conflict() -> None:
    """Although both are ours."""
    found = judge(seen(), [holding(mac=THEIRS), holding()], set(), {})
    assert (found.judged, found.mac, found.holder_mac, found.certain) == ("conflict", THEIRS, OURS, True)


def test_a_container_of_another_host_may_have_changed_its_mac() -> None:
    """So a foreign MAC is a conflict only while the known one claims the address too, and suspect until then. A probe
    is none: the container answers it."""
    there = [holding(here=False)]
    assert judge(seen(), there, set(), {THEIRS: Span(100, 100)}).judged == "suspect"
    assert judge(seen(how="probes for"), there, set(), {OURS: Span(90, 120)}).judged == "ours"
    assert judge(seen(), [holding(here=False, mac="")], set(), {THEIRS: Span(100, 100)}).judged == "ours"
    alive = {OURS: Span(90, 120), THEIRS: Span(100, 110)}
    assert judge(seen(), there, set(), alive).judged == "conflict"
    moved = {OURS: Span(80, 90), THEIRS: Span(100, 110)}
    assert judge(seen(), there, set(), moved).judged == "suspect"


@pytest.mark.parametrize("kind", ["gateway", "host"])
def test_of_two_routers_the_first_has_the_address(kind: Kind) -> None:
    """They alternate: that is a conflict, whichever is seen. One that takes over from the other is none, and
    if that comes back it is none either."""
    there = [holding(kind, here=False, mac="")]
    both = {OURS: Span(90, 120, 1), THEIRS: Span(100, 110, 2)}
    for mac in (OURS, THEIRS):
        found = judge(seen(mac), there, set(), both)
        assert (found.judged, found.mac, found.holder_mac) == ("conflict", THEIRS, OURS)
    assert judge(seen(), there, set(), {OURS: Span(80, 90), THEIRS: Span(100, 110, 1)}).judged == "ours"
    assert judge(seen(OURS), there, set(), {OURS: Span(80, 120, 1), THEIRS: Span(100, 110, 1)}).judged == "ours"


def test_a_probe_for_a_gateway_that_is_there_is_a_conflict() -> None:
    """A router that starts probes for its own address; and before a gateway was seen, nobody knows whose it is."""
    there = [holding("gateway", here=False, mac="")]
    assert judge(seen(how="probes for"), there, set(), {OURS: Span(90, 95)}).judged == "conflict"
    assert judge(seen(how="probes for"), there, set(), {THEIRS: Span(90, 95)}).judged == "ours"
    assert judge(seen(how="probes for"), there, set(), {}).judged == "ours"


def test_a_device_with_a_container_s_mac_is_a_conflict() -> None:
    """It has another address. The container's own frames are none, to another container or sent back by a switch."""
    other = Sighting(AddressClaim(ip_address("10.8.0.77"), OURS, "uses"), 100, 100)
    found = judge(other, [], set(), {}, [holding()])
    assert (found.judged, found.same_mac, found.mac) == ("conflict", True, OURS)
    for each in (
        Sighting(other.claim, 100, 100, outgoing=True),
        Sighting(other.claim, 100, 100, reflected=True),
        Sighting(other.claim, 100, 100, to_one=True),
        seen(OURS),
    ):
        holdings = [holding()] if each.claim.address == ADDRESS else []
        assert judge(each, holdings, set(), {}, [holding()]).judged != "conflict"


def test_an_address_that_nobody_of_ours_has_is_outside() -> None:
    """Unless this host's own link claims it."""
    assert judge(seen(), [], {PARENT}, {}).judged == "outside"
    assert judge(seen(PARENT), [], {PARENT}, {}).judged == "ours"


def test_claimants_begin_anew_after_a_silence() -> None:
    """A span grows with each claim, and ends five minutes after the last one."""
    claimants = Claimants()
    claimants.note(ADDRESS, OURS, 0, 1)
    assert claimants.note(ADDRESS, OURS, 200, 201) == {OURS: Span(0, 201)}
    assert claimants.note(ADDRESS, THEIRS, 600, 600) == {THEIRS: Span(600, 600)}
    assert claimants.is_claimed(ADDRESS, 500)
    assert not claimants.is_claimed(ADDRESS, 601)
    assert claimants.note(ADDRESS, OURS, 601, 602) == {THEIRS: Span(600, 600), OURS: Span(601, 602, 1)}


def test_claimants_are_bounded() -> None:
    """A device that claims every address, with every MAC, displaces the oldest."""
    claimants = Claimants()
    for number in range(ADDRESSES_MOST + 1):
        claimants.note(ip_address(number + 2**24), OURS, 0, 0)
    assert not claimants.of(ip_address(2**24))
    for number in range(20):
        claimants.note(ADDRESS, f"02:00:00:00:00:{number:02x}", 0, 0)
    assert len(claimants.of(ADDRESS)) == 8


def test_a_suspect_is_probed_for_a_few_times() -> None:
    """Not twice at one moment, and again after a while; another one is due for itself, and the oldest is forgotten."""
    suspects = Suspects()
    due = [suspects.is_due(ADDRESS, THEIRS, at / 2) for at in range(20)]
    assert due[:4] == [True, False, False, True]
    assert sum(due) == PROBES_MOST
    assert suspects.is_due(ADDRESS, PARENT, 10)
    assert suspects.is_due(ADDRESS, THEIRS, FORGOTTEN_SECONDS + 1)
    for number in range(ADDRESSES_MOST):
        assert suspects.is_due(ip_address(number + 2**24), OURS, FORGOTTEN_SECONDS + 1)
    assert suspects.is_due(ADDRESS, THEIRS, FORGOTTEN_SECONDS + 1)
