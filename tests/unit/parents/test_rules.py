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
    wants_sub_interfaces,
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


def test_all_sub_interfaces_are_wanted_only_where_one_may_be_made() -> None:
    """They cost a dump; a container's start may wait on it."""
    assert wants_sub_interfaces("eth1.10", FACTS)
    assert wants_sub_interfaces("eth1.20.200", FACTS)
    assert wants_sub_interfaces("auto.7", FACTS)
    assert wants_sub_interfaces("trunk.7", FACTS)
    assert not wants_sub_interfaces("eth0.10,br.lan,foo.10,nosuch", FACTS)


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


# ------------------------------------------------- the kernel's word counts, not the name

TUNNELS = {"tun0": 0xFFFE, "ppp0": 512, "wg0": 0xFFFE, "tunl0": 768, "gre0": 778, "sit0": 776, "can0": 280, "ib0": 32}


@pytest.mark.parametrize("name", TUNNELS)
def test_a_link_without_ethernet_is_passed_over(name: str) -> None:
    """As a parent and as a master; a list goes on."""
    facts = replace(FACTS, links={**LINKS, name: _link(name, 40, hardware=TUNNELS[name])})
    choice = choose_parent(f"{name}, {name}.7, eth1", facts)
    assert choice.parent is not None
    assert choice.parent.name == "eth1"
    assert [("not an Ethernet link" in each.reason) for each in choice.verdicts] == [True, True, False]


@pytest.mark.parametrize(
    ("port", "master", "reason"),
    [
        (
            _link("p", 41, master="br0", master_kind="bridge"),
            _link("br0", 42, kind="bridge"),
            "it is a port of br0; use br0 instead",
        ),
        (
            _link("p", 41, master="bond0", master_kind="bond"),
            _link("bond0", 42, kind="bond"),
            "it is a port of bond0; use bond0 instead",
        ),
        (
            _link("p", 41, master="bond0", master_kind="bond"),
            _link("bond0", 42, kind="bond", master="br0", master_kind="bridge"),
            "it is a port of bond0; use br0 instead",
        ),
        (
            _link("p", 41, master="bond0", master_kind="bond"),
            _link("bond0", 42, kind="bond", master="vrf-blue", master_kind="vrf"),
            "it is a port of bond0; use bond0 instead",
        ),
        (
            _link("p", 41, master="team0", master_kind="team"),
            _link("team0", 42, kind="team"),
            "it is a port of team0; use team0 instead",
        ),
        (
            _link("p", 41, master="eth9"),
            _link("eth9", 42),
            "it is a port of eth9; use eth9 instead",
        ),
        (
            _link("p", 41, master="ovs-system", master_kind="openvswitch"),
            _link("ovs-system", 42, kind="openvswitch", up=False),
            "it is a port of Open vSwitch; use an internal port of its bridge instead",
        ),
        (
            _link("p", 41, master="bond0", master_kind="bond"),
            _link("bond0", 42, kind="bond", master="ovs-system", master_kind="openvswitch"),
            "it is a port of bond0, which is one of Open vSwitch; use an internal port of its bridge instead",
        ),
        (
            _link("p", 41, master="bat0", master_kind="batadv"),
            _link("bat0", 42, kind="batadv", master="br0", master_kind="bridge"),
            "it carries the mesh of bat0 (batman-adv); use br0 instead",
        ),
    ],
)
def test_the_advice_for_a_port_is_one_that_works(port: LinkFact, master: LinkFact, reason: str) -> None:
    """The topmost master; for Open vSwitch, whose datapath carries nothing, an internal port."""
    facts = replace(FACTS, links={**LINKS, port.name: port, master.name: master})
    choice = choose_parent("p", facts)
    assert choice.parent is None
    assert choice.verdicts[0].reason.startswith(reason)


@pytest.mark.parametrize("told", ["by the link", "by the master"])
def test_a_vrf_takes_nothing_from_its_links(told: str) -> None:
    """It routes; so a link in it is a parent, and a master of sub-interfaces."""
    kind = "vrf" if told == "by the link" else ""
    links = {
        "eth1": _link("eth1", 3, master="vrf-blue", master_kind=kind),
        "vrf-blue": _link("vrf-blue", 42, kind="vrf"),
    }
    assert choose_parent("eth1", ParentFacts(links)).parent == Parent(
        "existing", "eth1", mtu=1500, mac=links["eth1"].mac
    )
    sub = choose_parent("eth1.5", ParentFacts(links)).parent
    assert sub is not None
    assert sub.name == "eth1.5"


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        (_link("x", 43, kind="vrf"), "it is a VRF, which is a routing table"),
        (_link("x", 43, kind="ipvlan"), "it is an ipvlan link"),
        (_link("mgh-eth0", 43, kind="macvlan", alias="macvlan-global"), "it is the host's own link to its containers"),
        (_link("ovs-system", 43, kind="openvswitch"), "it is the datapath of Open vSwitch"),
    ],
)
def test_some_kinds_are_ethernet_and_carry_no_macvlan(link: LinkFact, reason: str) -> None:
    """The kernel takes none on them."""
    facts = replace(FACTS, links={link.name: link})
    for entry in (link.name, f"{link.name}.5"):
        choice = choose_parent(entry, facts)
        assert choice.parent is None
        assert reason in choice.verdicts[0].reason


@pytest.mark.parametrize("kind", ["", "veth", "tun", "bridge", "bond", "macvlan", "macvtap", "vxlan", "openvswitch"])
def test_other_kinds_of_ethernet_are_parents(kind: str) -> None:
    """A tap device (kind tun), an internal port of Open vSwitch, a bond itself."""
    assert choose_parent("x", replace(FACTS, links={"x": _link("x", 43, kind=kind)})).parent is not None


# ------------------------------------------------- a VLAN of a master, whatever the link is called

VLAN10 = _link("vlan10", 50, kind="vlan", lower=3, vlan_id=10, vlan_protocol=0x8100)


@pytest.mark.parametrize(
    ("there", "usable", "reason"),
    [
        (VLAN10, True, "VLAN 10 of eth1 is vlan10 here, exists"),
        (replace(VLAN10, up=False), False, "VLAN 10 of eth1 is vlan10 here, it is down (ip link set vlan10 up)"),
        (
            replace(VLAN10, master="br10", master_kind="bridge"),
            False,
            "VLAN 10 of eth1 is vlan10 here, it is a port of br10; use br10 instead",
        ),
        (
            replace(VLAN10, master="vrf-blue", master_kind="vrf"),
            True,
            "VLAN 10 of eth1 is vlan10 here, exists",
        ),
    ],
)
def test_a_vlan_that_is_there_under_another_name_is_used(there: LinkFact, usable: bool, reason: str) -> None:
    """Or the reason why it cannot be; the kernel has one link for a VLAN of a master."""
    choice = choose_parent("eth1.10,eth0", replace(FACTS, links={**LINKS, "vlan10": there}))
    assert choice.parent is not None
    assert choice.parent.name == ("vlan10" if usable else "eth0")
    assert choice.verdicts[0].reason == reason


LONG = _link("enp130s0f1np1", 60)
VLAN100 = _link("vlan100", 61, kind="vlan", lower=60, vlan_id=100)


@pytest.mark.parametrize("entry", ["enp130s0f1np1.100", "uplink.100", "auto.100", "an-alternative-name.100"])
@pytest.mark.parametrize(
    ("there", "usable", "reason"),
    [
        (VLAN100, True, "VLAN 100 of enp130s0f1np1 is vlan100 here, exists"),
        (replace(VLAN100, up=False), False, "is vlan100 here, it is down (ip link set vlan100 up)"),
        (None, False, "longer than 15 characters"),
    ],
)
def test_a_vlan_with_a_short_name_is_used_though_its_master_has_a_long_one(
    entry: str, there: LinkFact | None, usable: bool, reason: str
) -> None:
    """The length counts only where the link would have to be made and named so."""
    links = {**LINKS, LONG.name: LONG, "an-alternative-name": LONG} | ({there.name: there} if there else {})
    aliases, routes = {"uplink": LONG.name}, RouteFacts(default_link=LONG.name)
    choice = choose_parent(entry, ParentFacts(links, routes, aliases))
    assert (choice.parent.name if choice.parent else "") == ("vlan100" if usable else "")
    assert reason in choice.verdicts[0].reason


def test_a_name_that_is_too_long_is_told_once() -> None:
    """In front of the reason; behind `auto` it is that of the link."""
    facts = ParentFacts({LONG.name: LONG}, RouteFacts(default_link=LONG.name))
    bad = "enp130s0f1np1.100: not an interface name: longer than 15 characters"
    assert choose_parent("enp130s0f1np1.100", facts).explain() == bad
    assert choose_parent("auto.100", facts).explain() == f"auto.100: {bad}"
    said = choose_parent("eth1.0000000000010", FACTS).explain()
    assert said == "eth1.0000000000010: not an interface name: longer than 15 characters"


@pytest.mark.parametrize(
    "other",
    [
        replace(VLAN10, vlan_protocol=0x88A8),
        replace(VLAN10, vlan_id=11),
        replace(VLAN10, lower=2),
        replace(VLAN10, kind="macvlan", vlan_id=0),
    ],
)
def test_another_vlan_is_no_reason_not_to_make_one(other: LinkFact) -> None:
    """By another protocol (802.1ad), with another id, on another master."""
    parent = choose_parent("eth1.10", replace(FACTS, links={**LINKS, "vlan10": other})).parent
    assert parent is not None
    assert (parent.kind, parent.name) == ("vlan", "eth1.10")


@pytest.mark.parametrize("entry", ["eth0.010", "eth0.0010", "auto.010", "trunk.010"])
def test_zeros_before_a_vlan_id_are_the_same_vlan(entry: str) -> None:
    """Whether it is there or made; no second name for it."""
    there = choose_parent(entry, FACTS).parent
    assert there == Parent("existing", "eth0.10", mtu=1500, mac="02:00:00:00:00:07")
    without = {name: link for name, link in LINKS.items() if name != "eth0.10"}
    made = choose_parent(entry, replace(FACTS, links=without)).parent
    assert made is not None
    assert (made.kind, made.name, made.vlan_id) == ("vlan", "eth0.10", 10)


# ------------------------------------------------- VLANs in VLANs


def test_a_vlan_in_a_vlan_is_made_with_its_master() -> None:
    """Both links, in one option."""
    choice = choose_parent("eth1.20.200", FACTS)
    outer = Parent("vlan", "eth1.20", master="eth1", vlan_id=20, mtu=9000, mac="02:00:00:00:00:03")
    inner = Parent("vlan", "eth1.20.200", master="eth1.20", vlan_id=200, mtu=9000, mac=outer.mac, below=outer)
    assert choice.parent == inner
    assert choice.verdicts[0].reason == "VLAN 200 in VLAN 20 of eth1 is made, on eth1.20"


def test_a_vlan_in_a_vlan_stands_on_the_one_that_is_there() -> None:
    """By its name, or by the VLAN that it is."""
    by_name = choose_parent("eth0.10.200", FACTS).parent
    by_vlan = choose_parent("eth1.10.200", replace(FACTS, links={**LINKS, "vlan10": VLAN10})).parent
    assert by_name is not None
    assert (by_name.name, by_name.master, by_name.below) == ("eth0.10.200", "eth0.10", None)
    assert by_vlan is not None
    assert (by_vlan.name, by_vlan.master, by_vlan.below) == ("eth1.10.200", "vlan10", None)


def test_a_vlan_in_a_vlan_that_is_there_is_used() -> None:
    """Under whatever name."""
    inner = _link("customer", 51, kind="vlan", lower=7, vlan_id=200)
    choice = choose_parent("eth0.10.200", replace(FACTS, links={**LINKS, "customer": inner}))
    assert choice.parent is not None
    assert choice.parent.name == "customer"


@pytest.mark.parametrize(
    ("entry", "name"),
    [("auto.20.200", "eth0.20.200"), ("trunk.30.200", "eth0.30.200"), ("eth1.1.2.3", "eth1.1.2.3")],
)
def test_what_stands_for_a_master_does_so_for_vlans_in_vlans(entry: str, name: str) -> None:
    """`auto`, aliases; and a third VLAN."""
    parent = choose_parent(entry, FACTS).parent
    assert parent is not None
    assert parent.name == name


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("eth9.20.200", "its master eth9.20 does not exist"),
        ("eth1.4095.200", "its master eth1.4095 does not exist"),
        ("down0.20.200", "its master down0.20 cannot be: its master down0 is down"),
        ("lo.20.200", "its master lo.20 cannot be: the loopback interface cannot carry a VLAN"),
        ("enp0s31f.200.20", None),
        ("enp0s31f6.200.20", "longer than 15 characters"),
    ],
)
def test_a_vlan_in_a_vlan_that_cannot_be_has_its_reason(entry: str, reason: str | None) -> None:
    """That of the master that fails."""
    links = {**LINKS, "enp0s31f": _link("enp0s31f", 60), "enp0s31f6": _link("enp0s31f6", 61)}
    choice = choose_parent(entry, replace(FACTS, links=links))
    if reason is None:
        assert choice.parent is not None
    else:
        assert choice.parent is None
        assert reason in choice.verdicts[0].reason


# ------------------------------------------------- auto takes only what can carry containers


def _auto(*links: LinkFact, wireless: tuple[str, ...] = (), carrying: str = "") -> tuple[str, str]:
    """The choice of `auto` with default routes through these links in this order."""
    addresses = ((carrying, ip_interface("10.0.0.9/16")),) if carrying else ()
    default, *further = [link.name for link in links]
    routes = RouteFacts((), addresses, default, tuple(further), frozenset(wireless))
    choice = choose_parent(
        "auto", ParentFacts({link.name: link for link in links}, routes), [ip_network("10.0.0.0/24")]
    )
    return (choice.parent.name if choice.parent else "", choice.verdicts[0].reason)


def test_auto_goes_past_a_tunnel_to_the_next_default_route() -> None:
    """A VPN has the better one, and even an address of the subnet."""
    tunnel, eth0 = _link("tun0", 70, hardware=0xFFFE), _link("eth0", 2)
    assert _auto(tunnel, eth0) == ("eth0", "eth0 (has the default route), exists")
    assert _auto(tunnel, eth0, carrying="tun0")[0] == "eth0"


def test_auto_goes_past_wifi_and_links_without_a_wire() -> None:
    """Wi-Fi carries one MAC; a cable that is out is taken only if there is nothing else."""
    wlan0, eth0 = _link("wlan0", 70), _link("eth0", 2)
    unplugged = replace(eth0, carrier=False)
    assert _auto(wlan0, eth0, wireless=("wlan0",))[0] == "eth0"
    assert _auto(unplugged, _link("eth1", 3))[0] == "eth1"
    assert _auto(unplugged) == (
        "eth0",
        "eth0 (has the default route), exists, but has no carrier now (see its cable and switch port)",
    )


def test_auto_that_finds_nothing_says_why_for_each() -> None:
    """A router on PPPoE has no other default route; the operator names the interface."""
    name, reason = _auto(_link("ppp0", 70, hardware=512), _link("wlan0", 71), wireless=("wlan0",))
    assert name == ""
    assert "ppp0 (has the default route), not an Ethernet link" in reason
    assert "wlan0 (has the default route), a Wi-Fi interface, which carries one MAC only" in reason
    assert reason.endswith("name the interface to use instead")


def test_a_sub_interface_behind_auto_is_made_on_the_first_that_can() -> None:
    """Not on a tunnel."""
    links = {"tun0": _link("tun0", 70, hardware=0xFFFE), "eth0": _link("eth0", 2)}
    facts = ParentFacts(links, RouteFacts(default_link="tun0", further_defaults=("eth0",)))
    choice = choose_parent("auto.7", facts)
    assert choice.parent is not None
    assert choice.parent.name == "eth0.7"


def test_an_entry_without_a_carrier_is_usable_and_says_so() -> None:
    """The cable may come back; at the boot it takes seconds."""
    choice = choose_parent("eth0", ParentFacts({"eth0": _link("eth0", 2, carrier=False)}))
    assert choice.parent is not None
    assert "no carrier" in choice.verdicts[0].reason
