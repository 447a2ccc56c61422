"""What the reader of a history takes for a hold, where engines and hosts are late."""

import pytest

from testkit.history import Event, judge

GATEWAY, ADDRESS = "10.0.0.1", "10.0.0.2"


def test_a_copy_that_comes_after_the_removal_holds_nothing() -> None:
    """A host was making it while the network was removed; a container of another network has the address by now."""
    events = [
        Event("fix", "h0", 0, 1, "ok", "n1", GATEWAY),
        Event("unfix", "h0", 2, 2, "ok", "n1", GATEWAY),
        Event("fix", "h1", 1, 3, "ok", "n1", GATEWAY),
        Event("request", "h2", 4, 5, "ok", "e1", GATEWAY),
    ]
    assert judge(events).violations == []
    kinds = [each.kind for each in judge(each for each in events if each.what != "unfix").violations]
    assert kinds == ["gateway or aux address handed out"]


def test_the_gateway_may_be_a_container_that_asked_for_it() -> None:
    """On a network whose gateway it is, whatever another network on the wire calls it. An aux address may be none."""
    gateway = Event("fix", "h0", 0, 1, "ok", "n1", GATEWAY, asked=True)
    aux = Event("fix", "h0", 0, 1, "ok", "n2", GATEWAY)
    asked = Event("request", "h1", 2, 3, "ok", "e1", GATEWAY, asked=True)
    assert judge([gateway, aux, asked]).violations == []
    late = [Event("release", "h1", 1, 2.5, "ok", "e0", GATEWAY), Event("create", "h1", 4, 5, "ok", "e1", GATEWAY)]
    assert judge([gateway, aux, asked, *late]).violations == [], "a release that came late took the reservation"
    unfix = Event("unfix", "h0", 2.5, 3, "ok", "n1", GATEWAY)
    assert judge([gateway, aux, asked, unfix]).violations == [], "its network was removed while it was being made"
    by_chance = Event("request", "h1", 2, 3, "ok", "e1", GATEWAY)
    for wrong in (
        [aux, asked],
        [gateway, by_chance],
        [gateway, Event("unfix", "h0", 1, 2, "ok", "n1", GATEWAY), aux, asked],
    ):
        assert {each.kind for each in judge(wrong).violations} == {"gateway or aux address handed out"}


def test_a_release_on_its_host_may_take_what_is_just_being_reserved() -> None:
    """It does not say whose it is. What was reserved before the release began, or after it, or elsewhere, is held."""
    release = Event("release", "h0", 4, 6, "ok", "e0", ADDRESS)
    slow = Event("request", "h0", 3, 9, "ok", "e1", ADDRESS, asked=True)
    other = Event("request", "h0", 7, 8, "ok", "e2", ADDRESS)
    assert judge([release, slow, other]).violations == []
    for clear in (
        [slow, other],
        [Event("release", "h1", 4, 6, "ok", "e0", ADDRESS), slow, other],
        [release, Event("request", "h0", 6.5, 9, "ok", "e1", ADDRESS, asked=True), other],
    ):
        assert [each.kind for each in judge(clear).violations] == ["two reservations"]


def test_who_lost_a_reservation_without_knowing_may_claim_it() -> None:
    """A restore took it while its container was being made, and it was promised again. Else there is no excuse."""
    slow = [
        Event("request", "h1", 0, 1, "ok", "e0", ADDRESS, asked=True),
        Event("create", "h1", 1, 9, "ok", "e0", ADDRESS),
    ]
    next_one = [
        Event("request", "h1", 6, 7, "ok", "e1", ADDRESS),
        Event("create", "h1", 7, 11, "failed", "e1", ADDRESS),
    ]
    restored = judge([*slow, Event("restore", "", 5, 5), *next_one])
    assert (restored.violations, restored.excused[-1].kind) == ([], "reservation lost")
    assert [each.kind for each in judge([*slow, *next_one]).violations] != []


@pytest.mark.parametrize(("claims", "is_excused"), [(2, True), (5.5, False)])
def test_a_claim_may_be_lost_before_it_is_answered(claims: float, *, is_excused: bool) -> None:
    """A restore took it on its way, so somebody else got the address first. One that began later has no excuse."""
    slow = [
        Event("request", "h1", 0, 1, "ok", "e0", ADDRESS),
        Event("create", "h1", claims, 12, "ok", "e0", ADDRESS),
    ]
    next_one = [
        Event("request", "h1", 6, 7, "ok", "e1", ADDRESS),
        Event("create", "h1", 7, 8, "ok", "e1", ADDRESS),
    ]
    kinds = {each.kind for each in judge([*slow, Event("restore", "", 5, 5), *next_one]).violations}
    assert ("two holders" in kinds) != is_excused
