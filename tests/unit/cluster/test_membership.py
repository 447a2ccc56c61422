"""Who lives, as far as was seen."""

from macvlan_global.cluster.membership import Membership, MembershipChange
from macvlan_global.store.records import AliveRecord


def _alive(host: str, name: str = "") -> AliveRecord:
    return AliveRecord(id=host, name=name or host, boot="b", incarnation="i", at=0)


def test_nobody_counts_as_gone_before_anything_was_seen() -> None:
    """Not knowing is not death."""
    roll = Membership("a")
    assert roll.is_live("b")
    assert roll.gone_for("b", 100) is None


def test_a_host_that_was_never_seen_is_gone_since_the_first_look() -> None:
    """Not since the beginning of time."""
    roll = Membership("a")
    assert roll.see_all([_alive("a")], 100) == MembershipChange(joined=("a",))
    assert not roll.is_live("b")
    assert roll.gone_for("b", 130) == 30


def test_joins_and_leaves_are_told_once() -> None:
    """With the names; a record that is only written anew is neither."""
    roll = Membership("a")
    roll.see_all([_alive("a")], 100)
    assert roll.see([_alive("b", "bert")], [], 110) == MembershipChange(joined=("bert",))
    assert not roll.see([_alive("b", "bert")], [], 111)
    assert roll.see([], ["b"], 120) == MembershipChange(left=("bert",))
    assert not roll.see([], ["b"], 120)
    assert roll.gone_for("b", 150) == 30
    assert roll.see([_alive("b", "bert")], [], 151) == MembershipChange(joined=("bert",))
    assert roll.gone_for("b", 160) is None


def test_a_second_whole_look_tells_what_changed_meanwhile() -> None:
    """And counts anew how long anybody is gone: he may have been back in the gap."""
    roll = Membership("a")
    roll.see_all([_alive("a"), _alive("b")], 100)
    roll.see([], ["b"], 110)
    assert roll.see_all([_alive("a"), _alive("c")], 700) == MembershipChange(joined=("c",))
    assert roll.gone_for("b", 710) == 10


def test_out_of_sight_nobody_is_gone() -> None:
    """A store that is away must not make hosts look dead."""
    roll = Membership("a")
    roll.see_all([_alive("a"), _alive("b")], 100)
    roll.see([], ["b"], 110)
    roll.lose_sight()
    assert roll.is_live("b")
    assert roll.gone_for("b", 10_000) is None


def test_this_host_lives_whatever_the_store_says() -> None:
    """It is asking."""
    roll = Membership("a")
    roll.see_all([], 100)
    assert roll.is_live("a")
    assert roll.gone_for("a", 200) is None


def test_names_outlive_their_hosts() -> None:
    """A living host's own word counts more than an old row."""
    roll = Membership("a")
    roll.see_all([_alive("b", "new")], 100)
    roll.learn_names({"b": "old", "c": "carl"})
    assert roll.named == {"b": "new", "c": "carl"}
    roll.see([], ["b"], 110)
    assert roll.named["b"] == "new"
