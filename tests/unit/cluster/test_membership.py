"""Membership: the living hosts, as far as was seen."""

from macvlan_global.cluster.membership import Membership, MembershipChange
from macvlan_global.store.records import AliveRecord


def _alive(host: str, name: str = "") -> AliveRecord:
    return AliveRecord(id=host, name=name or host, boot="b", incarnation="i", at=0)


def test_nobody_counts_as_gone_before_anything_was_seen() -> None:
    """Not knowing is not death."""
    members = Membership("a")
    assert members.is_live("b")
    assert members.gone_for("b", 100) is None


def test_a_host_that_was_never_seen_is_gone_since_the_first_look() -> None:
    """Not since the beginning of time."""
    members = Membership("a")
    assert members.replace_all([_alive("a")], 100) == MembershipChange(joined=("a",))
    assert not members.is_live("b")
    assert members.gone_for("b", 130) == 30


def test_joins_and_leaves_are_told_once() -> None:
    """With the names; a record that is only written anew is neither."""
    members = Membership("a")
    members.replace_all([_alive("a")], 100)
    assert members.update([_alive("b", "bert")], [], 110) == MembershipChange(joined=("bert",))
    assert not members.update([_alive("b", "bert")], [], 111)
    assert members.update([], ["b"], 120) == MembershipChange(left=("bert",))
    assert not members.update([], ["b"], 120)
    assert members.gone_for("b", 150) == 30
    assert members.update([_alive("b", "bert")], [], 151) == MembershipChange(joined=("bert",))
    assert members.gone_for("b", 160) is None


def test_a_second_whole_look_tells_what_changed_meanwhile() -> None:
    """And counts anew how long anybody is gone: he may have been back in the gap."""
    members = Membership("a")
    members.replace_all([_alive("a"), _alive("b")], 100)
    members.update([], ["b"], 110)
    assert members.replace_all([_alive("a"), _alive("c")], 700) == MembershipChange(joined=("c",))
    assert members.gone_for("b", 710) == 10


def test_out_of_sight_nobody_is_gone() -> None:
    """A store that is away must not make hosts look dead."""
    members = Membership("a")
    members.replace_all([_alive("a"), _alive("b")], 100)
    members.update([], ["b"], 110)
    members.on_lost()
    assert members.is_live("b")
    assert members.gone_for("b", 10_000) is None


def test_this_host_lives_whatever_the_store_says() -> None:
    """It is asking."""
    members = Membership("a")
    members.replace_all([], 100)
    assert members.is_live("a")
    assert members.gone_for("a", 200) is None


def test_names_outlive_their_hosts() -> None:
    """A living host's own word counts more than an old row."""
    members = Membership("a")
    members.replace_all([_alive("b", "new")], 100)
    members.add_names({"b": "old", "c": "carl"})
    assert members.names == {"b": "new", "c": "carl"}
    members.update([], ["b"], 110)
    assert members.names["b"] == "new"
