"""A bell says what changed since it was seen, or that it cannot tell."""

import pytest

from macvlan_global.store.followed import ends_with_network, group_of, is_group
from macvlan_global.store.remote.bell import LONGEST, RING, Bell, are_other_history, new_bell, read_bell, rung
from macvlan_global.store.remote.bell import missed as missed_of


def _rung(bell: Bell, *changes: str) -> Bell:
    """Rung once for each change."""
    for each in changes:
        bell = rung(bell, [each])
    return bell


def missed(seen: Bell, now: Bell) -> tuple[str, ...] | None:
    """What a single bell tells."""
    return missed_of({"0": seen}, {"0": now})


def is_other_history(seen: Bell, now: Bell) -> bool:
    """Whether a single bell has another history."""
    return are_other_history({"0": seen}, {"0": now})


def test_nothing_changed_since_now() -> None:
    """Of a new bell, and of one that was rung."""
    bell = new_bell()
    assert missed(bell, bell) == ()
    bell = _rung(bell, "h/a", "h/b")
    assert missed(bell, bell) == ()


def test_what_changed_is_told_once_each_in_order() -> None:
    """However often it changed."""
    before = _rung(new_bell(), "h/a")
    assert missed(before, _rung(before, "h/b", "h/a", "h/b")) == ("h/b", "h/a")


def test_a_ring_holds_so_many_and_one_is_needed_to_know_the_place() -> None:
    """Who is further behind is told nothing."""
    before = _rung(new_bell(), "h/a")
    changes = [f"h/{number}" for number in range(RING)]
    assert missed(before, _rung(before, *changes[:-1])) == tuple(changes[:-1])
    assert missed(before, _rung(before, *changes)) is None
    assert missed(new_bell(), _rung(new_bell(), "h/a")) is None
    fresh = new_bell()
    assert missed(fresh, _rung(fresh, *changes)) == tuple(changes)


def test_another_history_of_one_bell_is_noticed() -> None:
    """A store that was restored from an older copy and written to since: by its length, or by a mark."""
    copy = _rung(new_bell(), "h/a")
    seen = _rung(copy, "h/b", "h/c")
    for other in (copy, _rung(copy, "h/b"), _rung(copy, "h/b", "h/c"), _rung(copy, "h/d", "h/e", "h/f")):
        assert missed(seen, other) is None
        assert is_other_history(seen, other)
    assert not is_other_history(copy, seen)
    assert not is_other_history(seen, _rung(seen, *"abcdef"))
    assert is_other_history(seen, new_bell())


def test_several_bells_tell_together() -> None:
    """One that is new tells all that it was rung for; one that is gone leaves nothing that is sure."""
    one, two = _rung(new_bell(), "h/a"), _rung(new_bell(), "h/b")
    assert missed_of({"0": one}, {"0": _rung(one, "h/c"), "1": two}) == ("h/c", "h/b")
    assert missed_of({"0": one}, {"0": one, "1": _rung(two, *(f"h/{n}" for n in range(RING)))}) is None
    assert missed_of({"0": one, "1": two}, {"0": one}) is None
    assert are_other_history({"0": one, "1": two}, {"0": one})
    assert not are_other_history({"0": one}, {"0": _rung(one, "h/c"), "1": two})


def test_many_keys_of_a_folder_are_one_entry() -> None:
    """By what they begin with together: what is read is not much more than what changed."""
    before = new_bell()
    hosts = [f"{host}/{number:02}" for host in ("h1", "h2") for number in range(20)]
    assert missed(before, rung(before, hosts)) == ("h1/", "h2/")
    assert missed(before, rung(before, ["s/010.008.000.001", "s/010.008.000.009", "s/010.008.000.007"])) == (
        "s/010.008.000.00",
    )
    assert missed(before, rung(before, ["a", "b", "c", "d"])) == ("a", "b", "c", "d"), "the whole group is no folder"


@pytest.mark.parametrize("end", ["e" * 500, "ü" * 500, "host/" + "\U0001f600" * 100])
def test_a_long_key_is_cut(end: str) -> None:
    """To a text that it begins with, of so many bytes at most."""
    before = new_bell()
    (told,) = missed(before, rung(before, [end])) or ()
    assert end.startswith(told)
    assert LONGEST - 4 < len(told.encode()) <= LONGEST


def test_a_key_that_is_no_text_is_told_by_its_beginning() -> None:
    """JSON has no place for the rest."""
    before = new_bell()
    assert missed(before, rung(before, ["a\udcff/b"])) == ("a",)


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b"\xff", b'{"e":"x","n":7,"r":[]}', b'{"e":"x","v":2}'])
def test_what_is_no_bell_is_none(value: bytes) -> None:
    """Anybody may write there, newer versions too."""
    assert read_bell(value) is None


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("names/n1/h1/e1", "names/n1/"),
        ("names/n1/h1", "names/n1/"),
        ("names/n1", ""),
        ("names/n1/", ""),
        ("names//x", ""),
        ("definitions/lan", "definitions/"),
        ("definitions/", ""),
        ("removed/id", "removed/"),
        ("avoided/static/s/010.008.000.009", "avoided/static/"),
        ("avoided/names/n1/web", "avoided/names/n1/"),
        ("avoided/hosts/h1", "avoided/hosts/"),
        ("addresses/s/010.008.000.009", ""),
        ("alive/h1", ""),
        ("a", ""),
        ("", ""),
    ],
)
def test_the_group_of_a_key(key: str, group: str) -> None:
    """That of its network, that of its table, or none."""
    assert group_of(key) == group
    assert group == "" or is_group(group)


def test_a_prefix_is_a_group_or_is_not() -> None:
    """A part of one, or several together, are none; and some go with their network."""
    assert not any(map(is_group, ["", "names/", "names/n1/h1/", "avoided/", "names/n1", "alive/"]))
    assert ends_with_network("names/n1/")
    assert ends_with_network("avoided/names/n1/")
    assert not ends_with_network("definitions/")
