"""The checker of histories finds what must never be, and excuses nothing else."""

import pytest

from macvlan_global.store.records import AddressRecord
from testkit.history import Event, What, compare_end, judge

ADDRESS = "10.80.0.7"


def told(what: What, begun: float, holder: str = "", *, host: str = "h1", asked: bool = False) -> Event:
    """Something that took a tenth of a second."""
    return Event(what, host, begun, begun + 0.1, "ok", holder, ADDRESS, asked)


def life(holder: str, begun: float, ended: float, host: str = "h1") -> list[Event]:
    """A container's: from its first request to its last."""
    begins: list[What] = ["request", "create", "run"]
    ends: list[What] = ["delete", "release"]
    events = [told(what, begun + number / 5, holder, host=host) for number, what in enumerate(begins)]
    return events + [told(what, ended + number / 5, holder, host=host) for number, what in enumerate(ends)]


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_one_after_the_other_is_fine(host: str) -> None:
    """An address that was given back may be given to anybody."""
    verdict = judge([*life("a", 0, 5), *life("b", 5.5, 9, host)])
    assert (verdict.violations, verdict.excused) == ([], [])


@pytest.mark.parametrize("host", ["h1", "h2"])
def test_two_holders_are_found(host: str) -> None:
    """An address that somebody holds is given to somebody else, here or on another host."""
    found = judge([*life("a", 0, 5), *life("b", 3, 9, host)]).violations
    assert {(each.kind, each.holders) for each in found} == {
        ("two holders", ("a", "b")),
        ("reserved while held", ("a", "b")),
    }


def test_an_address_promised_twice_is_found() -> None:
    """Two hosts are told that an address is reserved for them."""
    found = judge([told("request", 0, "a"), told("request", 0.5, "b", host="h2")]).violations
    assert [each.kind for each in found] == ["two reservations"]


def test_what_repair_took_back_may_be_promised_anew() -> None:
    """A promise that nobody came for does not last for ever."""
    events = [told("request", 0, "a"), told("take back", 30), told("request", 31, "b", host="h2")]
    assert judge(events).violations == []


def test_a_running_container_is_left_alone() -> None:
    """Repair takes nothing from a container that runs."""
    found = judge([*life("a", 0, 50), told("take back", 20, "a")]).violations
    assert [each.kind for each in found] == ["running container touched"]


@pytest.mark.parametrize(("confirmed", "violations", "excused"), [(None, 0, 1), (4.5, 0, 1), (7.0, 1, 0)])
def test_only_a_lost_write_excuses(confirmed: float | None, violations: int, excused: int) -> None:
    """A restored snapshot may have lost a claim, at any moment of its restore, until the store was seen to know it."""
    restore = Event("restore", "", 3, 6)
    events = [*life("a", 0, 20), restore, told("request", 8, "b", host="h2"), told("create", 9, "b", host="h2")]
    events += [told("confirm", confirmed, "a")] if confirmed else []
    verdict = judge(events)
    of_two = [[each for each in few if each.kind == "two holders"] for few in (verdict.violations, verdict.excused)]
    assert list(map(len, of_two)) == [violations, excused]


def test_what_came_after_a_restore_is_not_excused() -> None:
    """Two that both claimed an address after it have no excuse."""
    verdict = judge([Event("restore", "", 0, 1), *life("a", 2, 9), *life("b", 5, 9, "h2")])
    assert verdict.excused == []
    assert "two holders" in {each.kind for each in verdict.violations}


def test_the_end_is_compared() -> None:
    """An endpoint without its address, an address that nobody has, a gateway that the store forgot."""
    record = AddressRecord(
        space="s", subnet="10.80.0.0/24", address="10.80.0.9", kind="endpoint", endpoint="gone", host="h1",
        incarnation="i", at=0.0,
    )  # fmt: skip
    found = compare_end([record], {"a": ("h1", [ADDRESS])}, {"net": ["10.80.0.1"]})
    assert {(each.kind, each.address) for each in found} == {
        ("endpoint without its address", ADDRESS),
        ("held by nobody", "10.80.0.9"),
        ("gateway or aux address lost", "10.80.0.1"),
    }
