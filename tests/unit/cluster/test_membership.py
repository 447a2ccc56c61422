"""Membership: the living hosts, as far as was seen."""

from macvlan_global.cluster.membership import MOST_HEARD, Membership, MembershipChange
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


def test_each_time_that_a_host_comes_is_counted() -> None:
    """Also after a time in which nothing was seen; a record that is only written anew is none."""
    members = Membership("a")
    assert members.arrivals("b") == 0
    members.replace_all([_alive("b")], 100)
    members.update([_alive("b")], [], 101)
    members.on_lost()
    members.replace_all([_alive("b")], 110)
    assert members.arrivals("b") == 1
    members.update([], ["b"], 120)
    members.update([_alive("b")], [], 121)
    members.replace_all([], 130)
    members.replace_all([_alive("b")], 140)
    assert members.arrivals("b") == 3


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


def test_names_are_known_though_the_store_has_lost_them() -> None:
    """It was restored from a copy that is older than a host, which is dead by then."""
    members = Membership("a")
    members.replace_all([_alive("b", "bert")], 100)
    members.replace_all([], 110)
    members.add_names({"c": "carl"})
    assert members.names == {"b": "bert", "c": "carl"}
    assert members.gone_for("b", 130) == 20


def test_a_host_of_which_only_names_are_known_is_gone_since_they_were_heard_of() -> None:
    """Until nothing is left of it. A host that is known anyhow stays what it is."""
    members = Membership("a")
    members.replace_all([_alive("b", "bert")], 100)
    members.add_names({"c": "carl"})
    members.hear_of({"a", "b", "c", "d" * 32}, 150)
    members.hear_of({"d" * 32}, 160)
    assert members.names == {"b": "bert", "c": "carl", "d" * 32: "d" * 12}
    assert [members.gone_for(each, 170) for each in ("a", "b", "c", "d" * 32)] == [None, None, 70, 20]
    for host in ("c", "d" * 32):
        members.forget(host)
    assert members.names == {"b": "bert", "c": "carl"}


def test_a_host_of_which_only_names_were_known_may_live() -> None:
    """Its heartbeat is heard of later than its names; it is forgotten no more than any other."""
    members = Membership("a")
    members.replace_all([], 100)
    members.hear_of({"b", "c"}, 110)
    members.update([_alive("b", "bert")], [], 120)
    assert members.gone_for("b", 130) is None
    members.replace_all([_alive("b", "bert"), _alive("c", "carl")], 140)
    for host in ("b", "c"):
        members.forget(host)
    assert members.names == {"b": "bert", "c": "carl"}


def test_hosts_of_which_only_names_are_known_are_few() -> None:
    """Anybody may write names of any number of hosts; the others are known when something is done about these. They
    are told of once, and may live, or have a row by then."""
    members = Membership("a")
    members.replace_all([], 100)
    everybody = [f"h{number:02}" for number in range(2 * MOST_HEARD)]
    members.hear_of(everybody, 110)
    assert list(members.names) == everybody[:MOST_HEARD]
    members.forget(everybody[0])
    assert list(members.names) == everybody[1 : MOST_HEARD + 1]
    members.hear_of(everybody, 120)
    assert len(members.names) == MOST_HEARD
    members.add_names({everybody[1]: "row", everybody[-1]: "row"})
    members.update([_alive(everybody[2], "anna"), _alive(everybody[-2], "bert")], [], 130)
    assert [members.gone_for(each, 170) for each in everybody[MOST_HEARD : MOST_HEARD + 3]] == [60, 60, 60]
    assert members.gone_for(everybody[-2], 170) is None
    for host in everybody:
        members.forget(host)
    left = {everybody[1]: "row", everybody[2]: "anna", everybody[-2]: "bert", everybody[-1]: "row"}
    assert members.names == left | {everybody[0]: everybody[0]}
    members.replace_all([], 140)
    members.forget(everybody[0])
    assert members.names == left


def test_a_host_that_waited_to_be_known_is_not_gone_for_longer_than_anything_was_seen() -> None:
    """It may have lived while the store was away."""
    members = Membership("a")
    members.replace_all([], 100)
    everybody = [f"h{number:02}" for number in range(MOST_HEARD + 1)]
    members.hear_of(everybody, 110)
    members.on_lost()
    members.replace_all([], 160)
    members.forget(everybody[0])
    assert members.gone_for(everybody[-1], 170) == 10
