"""Choosing the parent: each row a list, the host, and what comes of it, with the reason."""

from dataclasses import replace
from ipaddress import ip_interface, ip_network

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.kernel.ports import LinkFact, RouteFacts
from macvlan_global.parents.rules import (
    NO_PARENT_GLOBAL,
    Parent,
    ParentFacts,
    choose_parent,
    isolated,
    names_to_look_up,
    no_usable_parent,
    refuse_without_parent,
    split_entries,
    wants_routes,
)


def _link(name: str, index: int, **facts: object) -> LinkFact:
    given: dict[str, object] = {"mac": f"02:00:00:00:00:{index:02x}", "mtu": 1500, "up": True, **facts}
    return LinkFact(name=name, index=index, **given)  # type: ignore[arg-type]


LINKS = {
    link.name: link
    for link in (
        _link("lo", 1, loopback=True),
        _link("eth0", 2),
        _link("eth1", 3, mtu=9000),
        _link("down0", 4, up=False),
        _link("port0", 5, master="br0"),
        _link("br0", 6),
        _link("eth0.10", 7, kind="vlan", lower=2, vlan_id=10),
        _link("eth0.20", 8, kind="vlan", lower=2, vlan_id=20, up=False),
        _link("br.lan", 9),
    )
} | {"uplink-of-the-house": _link("eth0", 2)}

ROUTES = RouteFacts(
    addresses=(("lo", ip_interface("127.0.0.1/8")), ("eth1", ip_interface("192.168.1.7/24"))), default_link="eth0"
)

FACTS = ParentFacts(
    LINKS,
    ROUTES,
    {"lan": "nosuch, eth1", "trunk": "eth0", "empty": ""},
    ours=frozenset({"eth0.20"}),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("eth0", "eth0", id="one"),
        pytest.param("eth1,eth0", "eth1", id="order is preference"),
        pytest.param("nosuch,eth1", "eth1", id="the first usable"),
        pytest.param(" , ,nosuch ,\teth1 , ", "eth1", id="blanks and empty entries"),
        pytest.param("lo,eth0", "eth0", id="loopback is passed over"),
        pytest.param("down0,eth0", "eth0", id="down is passed over"),
        pytest.param("port0,br0", "br0", id="a bridge's port is passed over"),
        pytest.param("a-name-that-is-too-long,eth0", "eth0", id="a long name is passed over"),
        pytest.param("a/b,eth0", "eth0", id="a strange name is passed over"),
        pytest.param("eth0\x00,eth1", "eth1", id="a NUL does not end a name"),
        pytest.param("eth0.0,eth0.4095,eth0.x,eth0.,eth1", "eth1", id="bad VLAN ids are passed over"),
        pytest.param("eth0.10", "eth0.10", id="a sub-interface that exists"),
        pytest.param("eth0.20", "eth0.20", id="a sub-interface of ours that is down"),
        pytest.param("eth0.30", "eth0.30", id="a sub-interface to be made"),
        pytest.param("nosuch.10,eth0.30", "eth0.30", id="a missing master is passed over"),
        pytest.param("br.lan.10", "br.lan.10", id="split at the last dot"),
        pytest.param("br.lan", "br.lan", id="a name with a dot that exists"),
        pytest.param("auto", "eth1", id="auto: carries the subnet"),
        pytest.param("auto.7", "eth0.7", id="auto.VID: on the default route's"),
        pytest.param("lan", "eth1", id="an alias"),
        pytest.param("lan.7", "eth1.7", id="an alias with a VLAN"),
        pytest.param("trunk.10", "eth0.10", id="an alias with a VLAN that exists"),
        pytest.param("empty,eth0", "eth0", id="an alias of nothing"),
        pytest.param("uplink-of-the-house", "eth0", id="an alternative name, longer than names"),
    ],
)
def test_the_first_usable_entry_is_the_parent(text: str, name: str) -> None:
    """Whatever stands before it."""
    choice = choose_parent(text, FACTS, [ip_network("192.168.1.0/24")])
    assert choice.parent is not None
    assert choice.parent.name == name
    assert [verdict.usable for verdict in choice.verdicts] == [False] * (len(choice.verdicts) - 1) + [True]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("nosuch", "no such interface"),
        ("lo", "loopback interface cannot carry a macvlan"),
        ("lo.5", "loopback interface cannot carry a VLAN"),
        ("down0", "it is down (ip link set down0 up)"),
        ("down0.5", "its master down0 is down (ip link set down0 up)"),
        ("port0", "it is a port of br0; use br0 instead"),
        ("eth0.0", "VLAN id 0 is not between 1 and 4094"),
        ("eth0.4095", "VLAN id 4095 is not between 1 and 4094"),
        ("eth0.abc", "'abc' is not a VLAN id"),
        ("eth0.", "'' is not a VLAN id"),
        ("eth0.-1", "'-1' is not a VLAN id"),
        ("eth0.٣", "'٣' is not a VLAN id"),
        ("nosuch.5", "its master nosuch does not exist"),
        (".5", "its master (none) does not exist"),
        ("abcdefghijklmnop", "longer than 15 characters"),
        ("abcdefghijkl.4094", "longer than 15 characters"),
        ("a b", "not an interface name"),
        ("a:b", "not an interface name"),
        ("..", "not an interface name"),
        ("eth0\x00", "not an interface name"),
    ],
)
def test_each_entry_that_is_passed_over_has_its_reason(entry: str, reason: str) -> None:
    """In words for the operator, in the verdict and in the error."""
    choice = choose_parent(entry, FACTS)
    assert choice.parent is None
    assert reason in choice.verdicts[0].reason
    assert f"{entry}: " in no_usable_parent(choice)


def test_auto_without_a_route_is_not_usable() -> None:
    """Nothing carries the subnet and nothing goes further."""
    choice = choose_parent("auto, auto.5", ParentFacts(LINKS, RouteFacts()), [ip_network("10.0.0.0/24")])
    assert choice.parent is None
    assert "no default route" in choice.verdicts[0].reason


def test_a_sub_interface_behind_auto_that_exists_is_judged_as_it_is() -> None:
    """Down, say: it is not ours to set up."""
    default = FACTS.routes.default_link
    there = replace(LINKS[default], name=f"{default}.7", up=False)
    facts = replace(FACTS, links={**FACTS.links, there.name: there})
    choice = choose_parent("auto.7", facts)
    assert choice.parent is None
    assert choice.verdicts[0].reason == f"{there.name}, it is down (ip link set {there.name} up)"


def test_auto_tells_why() -> None:
    """By the subnet it carries, or by the default route."""
    carries = choose_parent("auto", FACTS, [ip_network("192.168.1.0/25")])
    default = choose_parent("auto", FACTS, [ip_network("10.0.0.0/24")])
    assert carries.verdicts[0].reason == "eth1 (carries 192.168.1.0/24), exists"
    assert default.verdicts[0].reason == "eth0 (has the default route), exists"


def test_a_sub_interface_to_be_made_knows_its_master() -> None:
    """And has the master's MTU and MAC, which it will inherit."""
    made = choose_parent("eth1.30", FACTS).parent
    assert made == Parent("vlan", "eth1.30", master="eth1", vlan_id=30, mtu=9000, mac="02:00:00:00:00:03")


def test_what_we_made_is_said_to_be_ours() -> None:
    """And is a parent even while it is down: we set it up."""
    assert choose_parent("eth0.20", FACTS).explain() == "eth0.20: exists (made by the driver)"


def test_nothing_after_the_first_usable_entry_is_looked_at() -> None:
    """The verdicts end with it."""
    assert [verdict.entry for verdict in choose_parent("eth0,nosuch", FACTS).verdicts] == ["eth0"]


def test_entries_of_a_parent_file_are_never_named() -> None:
    """The file may be any file of the host, a password file for one."""
    choice = choose_parent("hunter2, secret.7, correct horse", FACTS)
    text = no_usable_parent(choice, "/etc/secret")
    assert "/etc/secret" in text
    assert "none of the 3 entries" in text
    assert not any(word in text for word in ("hunter2", "secret.7", "horse"))


def test_a_network_without_a_parent_stands_on_a_dummy_of_its_own() -> None:
    """Named for the network."""
    assert isolated("0123456789abcdef").parent == Parent("dummy", "dm-0123456789ab")


def test_only_global_scope_refuses_a_network_without_a_parent() -> None:
    """In the words of the seed."""
    refuse_without_parent("local")
    with pytest.raises(Invalid) as refused:
        refuse_without_parent("global")
    assert str(refused.value) == NO_PARENT_GLOBAL


def test_entries_are_split_at_commas() -> None:
    """Nothing but blanks and commas is an empty list."""
    assert split_entries(" a ,, b,") == ("a", "b")
    assert split_entries(" , ,") == ()


def test_only_names_that_can_be_are_looked_up() -> None:
    """With the masters of sub-interfaces and what aliases stand for."""
    assert names_to_look_up("eth0.5, a/b, lan, x\x00", {"lan": "eth1"}) == ("eth0.5", "eth0", "eth1")


def test_routes_are_wanted_only_for_auto() -> None:
    """They cost a dump."""
    assert wants_routes("eth0,auto", {})
    assert wants_routes("up.5", {"up": "auto"})
    assert not wants_routes("eth0,automat", {})


def test_auto_takes_the_narrowest_network_that_holds_the_subnet() -> None:
    """Not the first that overlaps: a tunnel with a wide network, or a bridge that is down."""
    up = LINKS["eth0"]
    links = {name: replace(up, name=name) for name in ("tun0", "eth1", "eth0")}
    links["docker0"] = replace(up, name="docker0", up=False)
    addresses = (
        ("tun0", ip_interface("10.0.0.1/8")),
        ("eth1", ip_interface("10.8.0.5/24")),
        ("docker0", ip_interface("172.17.0.1/16")),
    )
    facts = ParentFacts(links, RouteFacts(addresses=addresses, default_link="eth0"))
    wanted = {"10.8.0.0/24": "eth1", "10.9.0.0/24": "tun0", "172.17.3.0/24": "eth0", "10.0.0.0/7": "eth0"}
    for subnet, name in wanted.items():
        choice = choose_parent("auto", facts, [ip_network(subnet)])
        assert choice.parent is not None
        assert choice.parent.name == name, subnet
