"""Repair's plan: one test for each correction, and for each thing that is left alone."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from macvlan_global.engine.ports import EngineEndpoint, EngineNetwork, EngineSubnet
from macvlan_global.ipam.owners import Holder
from macvlan_global.kernel.ports import LinkFact
from macvlan_global.reconcile import corrections
from macvlan_global.reconcile import plan as r
from macvlan_global.store.records import (
    AddressRecord,
    EndpointRecord,
    LinkRecord,
    NetworkClaim,
    NetworkRecord,
    PoolRecord,
    SubnetRecord,
)

OLD, YOUNG, NOW = 0.0, 990.0, 1000.0
SUBNET = "192.168.1.0/24"
ETH0 = LinkFact("eth0", 2, "02:00:00:00:00:02", 1500, up=True)
SUB = LinkFact("eth0.10", 3, "02:00:00:00:00:02", 1500, up=True, kind="vlan", lower=2, vlan_id=10)


def network(identity: str = "n1", at: float = OLD, parent: str = "eth0.10", name: str = "office") -> NetworkRecord:
    """A network of ours."""
    subnets = [SubnetRecord(space="s", subnet=SUBNET, gateway="192.168.1.1")]
    return NetworkRecord(id=identity, name=name, given={}, subnets=subnets, parent=parent, at=at)


def endpoint(identity: str = "e1", at: float = OLD, on: str = "n1", boot: str = "now") -> EndpointRecord:
    """An endpoint of ours."""
    link = f"mg-{identity:0>12}"
    return EndpointRecord(network=on, id=identity, address="192.168.1.9", mac="x", link=link, boot=boot, at=at)


def address(kind: str, text: str = "192.168.1.9", at: float = OLD, host: str = "a", **who: str) -> AddressRecord:
    """An address that is held."""
    held = {"space": "s", "subnet": SUBNET, "address": text, "kind": kind, "host": host, "incarnation": "r", "at": at}
    return AddressRecord(**held, **who)  # type: ignore[arg-type]


def pool(network_id: str = "n1", at: float = OLD, subnet: str = SUBNET) -> PoolRecord:
    """A pool that is held."""
    return PoolRecord(space="s", subnet=subnet, network=network_id, at=at)


def owned(name: str = "eth0.10", at: float = OLD) -> LinkRecord:
    """A link that we made."""
    return LinkRecord(name=name, kind="vlan", master="eth0", vlan_id=10, at=at)


ENGINE_ENDPOINT = EngineEndpoint("e1", "web", "x", "192.168.1.9")
ENGINE = EngineNetwork(
    "n1",
    "office",
    "",
    ipam_options={"space": "s"},
    subnets=(EngineSubnet(SUBNET),),
    endpoints=(ENGINE_ENDPOINT,),
)
STRAY = LinkFact("mg-0123456789ab", 9, "x", 1500, up=False, kind="macvlan", lower=3)
WHOLE = r.ReconcileFacts(
    host="a",
    boot="now",
    now=NOW,
    grace=60,
    networks=(network(),),
    endpoints=(endpoint(),),
    owned=(owned(),),
    shared=r.Shared(
        pools=(pool(),),
        addresses=(
            address("gateway", "192.168.1.1", network="n1"),
            address("endpoint", network="n1", endpoint="e1"),
        ),
    ),
    links={"eth0": ETH0, "eth0.10": SUB},
    engine=(ENGINE,),
)
"""A host on which all is well."""
ASTRAY: dict[str, Any] = {
    "links": {**WHOLE.links, STRAY.name: STRAY},
    "engine_links": frozenset({"mg-e1"}),
    "stray_since": {STRAY.name: OLD},
}
"""On that host a link of which nobody has an endpoint."""
HELD = r.Shared() if WHOLE.shared is None else WHOLE.shared


def but(facts: r.ReconcileFacts, **changes: Any) -> r.ReconcileFacts:
    """These facts with something changed, be it of the host or of what hosts share."""
    of_all = {
        key: changes.pop(key)
        for key in ("pools", "addresses", "defined", "removed", "some_unreadable")
        if key in changes
    }
    return replace(facts, shared=replace(HELD, **of_all), **changes)


NO_ENGINE = but(WHOLE, engine=None)


def kinds(facts: r.ReconcileFacts) -> list[str]:
    """The corrections, in order, by what they are."""
    return [type(each).__name__ for each in r.plan(facts)]


def test_a_host_on_which_all_is_well_needs_nothing() -> None:
    """With the engine's view and without."""
    assert r.plan(WHOLE) == []
    assert r.plan(NO_ENGINE) == []


# --------------------------------------------------------------- corrected


def test_a_network_that_the_engine_does_not_have_goes_with_all_that_is_its() -> None:
    """One correction: its endpoints, addresses and pool go with it. Its parent is then unused."""
    plan = r.plan(but(WHOLE, engine=()))
    assert [(type(each).__name__, each.subject) for each in plan] == [
        ("DeleteNetwork", "network office"),
        ("RemoveLink", "sub-interface eth0.10 (VLAN 10 on eth0)"),
    ]


def test_a_network_that_only_the_engine_has_is_adopted_with_its_endpoints() -> None:
    """First the network, then what is in it."""
    empty = but(WHOLE, networks=(), endpoints=(), owned=(), pools=(), addresses=())
    plan = r.plan(empty)
    assert plan == [
        corrections.AdoptNetwork("network office", "the engine has it, and the state does not", ENGINE),
        corrections.AdoptEndpoint(
            "endpoint of web (192.168.1.9)", "the engine has it, and the state does not", "n1", ENGINE_ENDPOINT
        ),
    ]


def test_an_endpoint_that_only_the_engine_has_is_adopted() -> None:
    """Its address is not taken for one that nobody has."""
    assert kinds(but(WHOLE, endpoints=())) == ["AdoptEndpoint"]


@pytest.mark.parametrize("at", [OLD, YOUNG])
@pytest.mark.parametrize("facts", [WHOLE, NO_ENGINE])
def test_an_endpoint_of_an_earlier_boot_goes_whatever_its_age(facts: r.ReconcileFacts, at: float) -> None:
    """No container outlives its boot."""
    dead = but(facts, endpoints=(endpoint(at=at, boot="before"),))
    assert corrections.DeleteEndpoint(
        "endpoint e1 (192.168.1.9)", "it was made before the last boot", "n1", "e1"
    ) in r.plan(dead)


def test_an_endpoint_that_the_engine_does_not_have_goes() -> None:
    """The container went while the driver was away."""
    assert kinds(but(WHOLE, engine=(replace(ENGINE, endpoints=()),))) == ["DeleteEndpoint"]


def test_an_endpoint_without_a_network_goes() -> None:
    """If the engine does not have the network either."""
    facts = but(WHOLE, networks=(), owned=(), pools=(), addresses=(), engine=())
    assert [each.reason for each in r.plan(facts)] == ["its network is gone"]


def test_a_link_that_no_endpoint_has_is_deleted() -> None:
    """A crash between undo and its end."""
    assert r.plan(replace(WHOLE, **ASTRAY)) == [
        corrections.DeleteStray("link mg-0123456789ab", "no endpoint has it", "mg-0123456789ab")
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"engine_links": None},
        {"engine_links": frozenset({STRAY.name})},
        {"stray_since": {STRAY.name: YOUNG}},
        {"stray_since": {}},
        {"clock_set": True},
    ],
)
def test_a_link_that_may_be_another_drivers_is_left_alone(changes: dict[str, Any]) -> None:
    """The engine was not asked, or has its endpoint on whatever network, or the link is not seen for long: the
    container of another driver on this host may just be starting."""
    assert r.plan(replace(WHOLE, **ASTRAY | changes)) == []


@pytest.mark.parametrize("facts", [WHOLE, NO_ENGINE])
def test_a_parent_of_ours_that_is_gone_or_down_is_restored(facts: r.ReconcileFacts) -> None:
    """After a reboot, or a deletion behind our back."""
    gone = r.plan(but(facts, links={"eth0": ETH0}))
    down = r.plan(but(facts, links={"eth0": ETH0, "eth0.10": replace(SUB, up=False)}))
    assert [(type(each).__name__, each.reason) for each in gone + down] == [
        ("RestoreLink", "network office uses it, and it is gone"),
        ("RestoreLink", "it is down"),
    ]


SHIM = LinkFact("mgh-eth0.10", 30, "02:00:00:00:00:5a", 1500, True, "macvlan", lower=SUB.index, alias="macvlan-global")


@pytest.mark.parametrize(
    "links", [{"eth0": ETH0, "eth0.10": SUB}, {"eth0": ETH0}, {"eth0": ETH0, "eth0.10": SUB, SHIM.name: SHIM}]
)
def test_a_parent_of_ours_that_no_network_uses_is_removed(links: dict[str, LinkFact]) -> None:
    """There or not: if not, its record goes."""
    facts = but(WHOLE, networks=(network(parent="eth0"),), links=links)
    assert kinds(facts) == ["RemoveLink"]


def test_masters_are_restored_before_what_stands_on_them() -> None:
    """A VLAN in a VLAN, both gone after a reboot."""
    upper = structs.replace(owned("eth0.10.20"), master="eth0.10", vlan_id=20)
    facts = but(WHOLE, networks=(network(parent="eth0.10.20"),), owned=(upper, owned()), links={"eth0": ETH0})
    assert [each.link.name for each in r.plan(facts) if isinstance(each, corrections.RestoreLink)] == [
        "eth0.10",
        "eth0.10.20",
    ]


def test_records_that_turn_in_a_circle_do_not_turn_us() -> None:
    """They are wrong, and repair ends all the same."""
    circle = (structs.replace(owned("a.1"), master="b.1"), structs.replace(owned("b.1"), master="a.1"))
    facts = but(WHOLE, networks=(network(parent="a.1"),), owned=circle)
    assert {each.link.name for each in r.plan(facts) if isinstance(each, corrections.RestoreLink)} == {"a.1", "b.1"}


def test_an_address_that_was_asked_for_and_never_used_is_given_back() -> None:
    """The answer was lost, or the engine died between its two requests."""
    asked = address("reserved", "192.168.1.10")
    plan = r.plan(but(WHOLE, addresses=(*HELD.addresses, asked)))
    assert [each.address for each in plan if isinstance(each, corrections.GiveBackAddress)] == [asked]


def test_one_that_a_container_has_in_another_space_is_given_back_all_the_same() -> None:
    """The same number on another wire."""
    asked = structs.replace(address("reserved"), space="lab")
    plan = r.plan(but(WHOLE, addresses=(*HELD.addresses, asked)))
    assert [each.address for each in plan if isinstance(each, corrections.GiveBackAddress)] == [asked]


def test_an_address_whose_endpoint_or_network_is_gone_is_given_back() -> None:
    """If the engine does not have them either."""
    lost = (
        address("endpoint", "192.168.1.11", network="n1", endpoint="gone"),
        address("gateway", "10.0.0.1", network="gone"),
        address("aux", "10.0.0.2", network="gone", label="x"),
    )
    plan = r.plan(but(WHOLE, addresses=(*HELD.addresses, *lost)))
    assert [each.address for each in plan if isinstance(each, corrections.GiveBackAddress)] == list(lost)
    assert len(plan) == 3


def test_a_pool_without_a_network_is_given_back() -> None:
    """Claimed by one that is gone, or reserved for one that never came."""
    pools = (pool(), pool("gone", subnet="10.1.0.0/24"), pool("", subnet="10.2.0.0/24"))
    plan = r.plan(but(WHOLE, pools=pools))
    assert [(each.subject, each.reason) for each in plan] == [
        ("pool 10.1.0.0/24", "its network is gone"),
        ("pool 10.2.0.0/24", "it is reserved, and no network of the engine has it"),
    ]


# -------------------------------------------------------------- left alone


_GONE = {
    "pools": (pool(), pool("gone", subnet="10.1.0.0/24")),
    "addresses": (*HELD.addresses, address("gateway", "10.1.0.1", network="gone")),
}


@pytest.mark.parametrize("kind", ["endpoint", "host"])
def test_a_network_without_a_definition_lives_while_other_hosts_have_addresses_on_it(kind: str) -> None:
    """It was removed a moment ago, or the removal is being taken back: it is theirs to say what becomes of it."""
    theirs = address(kind, "10.1.0.9", host="b", network="gone", endpoint="e9")
    assert len(r.plan(but(WHOLE, **_GONE))) == 2
    assert r.plan(but(WHOLE, **(_GONE | {"addresses": (*_GONE["addresses"], theirs)}))) == []


def test_nothing_of_a_network_is_given_back_while_a_definition_cannot_be_read() -> None:
    """It may be that of the network: a newer release wrote it."""
    assert r.plan(but(WHOLE, **_GONE, some_unreadable=True)) == []


def test_what_is_young_is_left_alone() -> None:
    """A request may be under way."""
    facts = but(
        WHOLE,
        networks=(network(at=YOUNG),),
        endpoints=(endpoint(at=YOUNG),),
        owned=(owned(at=YOUNG), owned("eth0.20", at=YOUNG)),
        pools=(pool(at=YOUNG), pool("", at=YOUNG, subnet="10.0.0.0/24")),
        addresses=(
            address("reserved", at=YOUNG),
            address("reserved", "192.168.1.10", at=YOUNG),
            address("endpoint", "192.168.1.11", network="n1", endpoint="gone", at=YOUNG),
            address("gateway", "10.0.0.1", network="gone", at=YOUNG),
        ),
        engine=(),
    )
    assert r.plan(facts) == []


def test_without_the_engine_only_what_is_proven_is_corrected() -> None:
    """What the engine may have is left alone: a record that is missing may be lost, or be of a newer version."""
    facts = but(
        NO_ENGINE,
        pools=(pool(), pool("", subnet="10.0.0.0/24")),
        addresses=(*HELD.addresses, address("reserved", "192.168.1.10")),
    )
    assert r.plan(facts) == []
    assert r.plan(but(facts, networks=())) == []
    assert r.plan(but(facts, endpoints=())) == []
    assert r.plan(but(facts, networks=(), endpoints=())) == []


def test_a_network_that_only_the_engine_has_keeps_what_it_may_stand_on() -> None:
    """It is adopted; its endpoints, addresses, pool and parent are not taken for a gone network's."""
    assert kinds(but(WHOLE, networks=())) == ["AdoptNetwork"]


def test_addresses_of_another_host_are_left_alone() -> None:
    """It looks after its own."""
    others = (
        address("reserved", "192.168.1.10", host="b"),
        address("endpoint", "192.168.1.11", host="b", network="n1", endpoint="theirs"),
        address("gateway", "10.0.0.1", host="b", network="theirs"),
    )
    assert r.plan(but(WHOLE, addresses=(*HELD.addresses, *others))) == []


def test_an_address_that_a_container_uses_is_claimed_for_it() -> None:
    """Reserved, not known to the store, or said to be of a host that this one was before it lost its id."""
    gateway, held = HELD.addresses
    for found in ((address("reserved"),), (), (structs.replace(held, host="earlier"),)):
        (correction,) = r.plan(but(WHOLE, addresses=(gateway, *found)))
        assert isinstance(correction, corrections.ClaimAddress)
        assert (correction.address, correction.holder) == ("192.168.1.9", Holder("endpoint", "n1", "e1"))


def test_an_address_is_claimed_anew_if_the_store_says_another_mac() -> None:
    """A driver was killed between two writes. Older releases wrote no MAC, and adopted endpoints may have none."""
    gateway, held = HELD.addresses
    wrong = structs.replace(held, mac="y")
    (correction,) = r.plan(but(WHOLE, addresses=(gateway, wrong)))
    assert isinstance(correction, corrections.ClaimAddress)
    assert correction.reason == "e1 has the MAC x, and the store says y"
    assert r.plan(but(WHOLE, addresses=(gateway, structs.replace(held, mac="x")))) == []
    assert r.plan(but(WHOLE, addresses=(gateway, held))) == []
    nameless = structs.replace(endpoint(), mac="")
    assert r.plan(but(WHOLE, endpoints=(nameless,), addresses=(gateway, wrong))) == []


def test_what_the_store_lost_of_what_is_young_is_claimed_at_once() -> None:
    """A copy lacks what is youngest, and others may be given it. What has just come has not claimed its own yet."""
    facts = but(WHOLE, networks=(network(at=YOUNG),), endpoints=(endpoint(at=YOUNG),), pools=(), addresses=())
    assert r.plan(facts) == []
    plan = r.plan(replace(facts, settled=frozenset({"e1"})))
    assert [each.subject for each in plan] == ["address 192.168.1.9"]
    plan = r.plan(replace(facts, settled=frozenset({"e1", "n1"})))
    assert [each.subject for each in plan] == [f"pool {SUBNET}", "address 192.168.1.1", "address 192.168.1.9"]


def test_a_correction_is_known_again_when_it_is_planned_later() -> None:
    """Also one that holds the time: what one repair plans and the next one still wants was not put right."""
    facts = but(WHOLE, pools=(), addresses=())
    first, later = r.plan(facts), r.plan(replace(facts, now=facts.now + 60))
    assert len(first) == 3
    assert all(any(each.is_like(other) for other in first) for each in later)
    assert not any(each.is_like(other) for each in first for other in first if each is not other)


def test_what_the_store_lost_of_a_network_is_written_anew() -> None:
    """It was restored from a copy that is older than the network: its pool, and its gateway."""
    plan = r.plan(but(WHOLE, pools=(), addresses=HELD.addresses[1:]))
    assert [type(each).__name__ for each in plan] == ["RestorePool", "ClaimAddress"]


def test_a_store_that_is_away_proves_nothing() -> None:
    """Pools and addresses are left alone, and what is of this host is put right."""
    plan = r.plan(replace(WHOLE, shared=None, **ASTRAY))
    assert [type(each).__name__ for each in plan] == ["DeleteStray"]


def test_what_other_hosts_asked_for_is_theirs() -> None:
    """Pools and addresses of another host, reserved or claimed for networks that this one does not have."""
    theirs = structs.replace(pool("", subnet="10.0.0.0/24"), host="b"), structs.replace(pool("n9"), host="b")
    held = (address("reserved", "10.0.0.2", host="b"), address("gateway", "10.0.0.1", host="b", network="n9"))
    facts = but(WHOLE, pools=(*HELD.pools, *theirs), addresses=(*HELD.addresses, *held))
    assert r.plan(facts) == []


def test_a_network_that_the_cluster_has_is_not_deleted_because_the_engine_lost_it() -> None:
    """Replication makes it again, or learns that it was removed."""
    ours = structs.replace(network(), cluster="n1", published=True)
    facts = but(WHOLE, networks=(ours,), endpoints=(), engine=(), addresses=HELD.addresses[:1])
    assert r.plan(facts) == []


def test_a_network_that_is_gone_here_and_was_removed_in_the_cluster_is_deleted() -> None:
    """By its id in the cluster; with the record its parent goes. What it claims is the cluster's to forget."""
    ours = structs.replace(network(), cluster="c1", published=True)
    facts = but(WHOLE, networks=(ours,), endpoints=(), engine=(), pools=(), addresses=(), removed=frozenset({"c1"}))
    assert kinds(facts) == ["DeleteNetwork", "RemoveLink"]
    assert kinds(replace(facts, engine=(replace(ENGINE, endpoints=()),))) == [], "it is in use here yet"
    assert kinds(replace(facts, shared=None)) == [], "the store does not say so"
    used = kinds(replace(facts, endpoints=(endpoint(),)))
    assert (used[0], "DeleteNetwork" in used) == ("DeleteEndpoint", False), "its endpoints go first"


def test_a_removed_network_is_forgotten_with_its_last_endpoint() -> None:
    """On whichever host: the pool and the gateway go when nobody has an address of it."""
    facts = but(WHOLE, networks=(), endpoints=(), owned=(), engine=(), links={"eth0": ETH0}, removed=frozenset({"n1"}))
    assert r.plan(replace(facts, host="b")) == []
    (correction,) = r.plan(but(replace(facts, host="b"), addresses=HELD.addresses[:1], removed=frozenset({"n1"})))
    where = frozenset({("s", "192.168.1.0/24")})
    assert correction == corrections.ForgetNetwork(
        "network n1", "it was removed, and its last endpoint is gone", "n1", where
    )


def test_a_pool_that_the_engine_has_is_left_alone() -> None:
    """By its network's id, or by its subnet while it is only reserved."""
    theirs = replace(ENGINE, id="n2", name="other", subnets=(EngineSubnet("10.2.0.0/24"),), endpoints=())
    pools = (pool(), pool("n2", subnet="10.1.0.0/24"), pool("", subnet="10.2.0.0/24"))
    assert kinds(but(WHOLE, engine=(ENGINE, theirs), pools=pools)) == ["AdoptNetwork"]


def test_links_of_others_are_left_alone() -> None:
    """Another name, another kind, or an endpoint's."""
    links = {
        link.name: link
        for link in (
            replace(STRAY, name="mg-other"),
            replace(STRAY, name="veth0123456"),
            replace(STRAY, name="mg-aaaaaaaaaaaa", kind="dummy"),
            replace(STRAY, name=endpoint().link),
        )
    }
    assert r.plan(but(WHOLE, links={**WHOLE.links, **links})) == []


def test_another_link_in_the_place_of_ours_is_left_alone() -> None:
    """It is down, and it is not what we made: it is not ours to set up."""
    other = replace(SUB, up=False, vlan_id=20)
    assert r.plan(but(WHOLE, links={"eth0": ETH0, "eth0.10": other})) == []


def test_a_parent_that_is_not_ours_is_left_alone() -> None:
    """Down or gone, it is for the operator to see to."""
    facts = but(WHOLE, networks=(network(parent="eth0"),), owned=(), links={"eth0": replace(ETH0, up=False)})
    assert r.plan(facts) == []
    assert r.plan(but(facts, links={})) == []


def test_each_correction_says_what_and_why() -> None:
    """In words that go into the log."""
    facts = but(WHOLE, **ASTRAY | {"links": {"eth0": ETH0, STRAY.name: STRAY}}, engine=(), pools=(pool("gone"),))
    plan = r.plan(facts)
    assert len(plan) > 3
    assert all(each.subject and each.reason for each in plan)


def test_a_swarms_network_is_adopted_only_where_a_container_is_on_it() -> None:
    """A manager's engine shows every network of the swarm; the others are not on this node."""
    swarms = replace(ENGINE, scope="swarm")
    assert kinds(but(WHOLE, networks=(), engine=(swarms,))) == ["AdoptNetwork"]
    elsewhere = replace(swarms, endpoints=())
    nothing = but(WHOLE, networks=(), endpoints=(), owned=(), pools=(), addresses=(), engine=(elsewhere,))
    assert "AdoptNetwork" not in kinds(nothing)


def test_nothing_is_old_that_is_young_by_the_clock_as_it_is_afterwards() -> None:
    """The clock was set while the host was observed, and the record is of the time after that."""
    new = endpoint("e2", at=NOW + 5_000)
    facts = replace(but(WHOLE, endpoints=(endpoint(), new)), later=NOW + 5_001)
    assert [each for each in r.plan(facts) if isinstance(each, corrections.DeleteEndpoint)] == []
    assert kinds(replace(facts, later=NOW + 5_060)) == ["DeleteEndpoint"]


def test_a_pool_that_is_only_reserved_in_the_store_is_written_anew() -> None:
    """The copy that was put back is of the moment before its network was created; others may be given it."""
    assert "RestorePool" in kinds(but(WHOLE, pools=(pool(network_id=""),)))


def test_what_a_network_has_that_the_cluster_defines_stays() -> None:
    """Also if this host, which asked for it, does not have the network just now."""
    assert WHOLE.shared
    held = (*WHOLE.shared.addresses, address("gateway", "192.168.2.1", network="n2"))
    pools = (pool(), structs.replace(pool("n2", subnet="192.168.2.0/24"), host="a"))
    assert kinds(but(WHOLE, pools=pools, addresses=held, defined=frozenset({"n2"}))) == []
    assert sorted(kinds(but(WHOLE, pools=pools, addresses=held))) == ["GiveBackAddress", "GiveBackPool"]


def test_a_master_that_a_network_uses_itself_comes_before_what_stands_on_it() -> None:
    """Whichever network is looked at last."""
    upper = structs.replace(owned("eth0.10.20"), master="eth0.10", vlan_id=20)
    networks = (network(parent="eth0.10.20"), network("n2", parent="eth0.10", name="zoo"))
    engine = (ENGINE, replace(ENGINE, id="n2", name="zoo", endpoints=()))
    facts = but(WHOLE, networks=networks, engine=engine, owned=(upper, owned()), links={"eth0": ETH0})
    assert [each.link.name for each in r.plan(facts) if isinstance(each, corrections.RestoreLink)] == [
        "eth0.10",
        "eth0.10.20",
    ]


def test_the_gateway_of_a_removed_network_is_claimed_while_a_container_is_on_it() -> None:
    """Nobody else is to get it until the last one has gone; the pool is not written anew."""
    lost = but(
        WHOLE, removed=frozenset({"n1"}), pools=(), addresses=(address("endpoint", network="n1", endpoint="e1"),)
    )
    assert [each.address for each in r.plan(lost) if isinstance(each, corrections.ClaimAddress)] == ["192.168.1.1"]
    assert "RestorePool" not in kinds(lost)
    idle = but(replace(WHOLE, endpoints=()), removed=frozenset({"n1"}), pools=(), addresses=())
    assert [each for each in r.plan(idle) if isinstance(each, corrections.ClaimAddress)] == []


def test_a_removed_network_is_forgotten_though_its_claims_stand_behind_another_ones() -> None:
    """They share a gateway."""
    shared = structs.replace(
        address("gateway", "192.168.1.1", network="n1"), sharers=[NetworkClaim(kind="gateway", network="n9", host="b")]
    )
    held = (shared, address("endpoint", network="n1", endpoint="e1"))
    plan = r.plan(but(WHOLE, addresses=held, removed=frozenset({"n9"})))
    assert [each.network for each in plan if isinstance(each, corrections.ForgetNetwork)] == ["n9"]


OWN_ACCESS = address("host", "192.168.1.30", network="n1", endpoint="a")


def test_an_address_that_this_host_has_itself_and_does_not_know_of_is_given_back() -> None:
    """Its state was put back from an older copy. The shim has another one, or none."""
    facts = replace(
        WHOLE, host_access=frozenset({("s", "192.168.1.31"), ("t", "192.168.1.30")}), host_access_known=True
    )
    facts = but(facts, addresses=(*HELD.addresses, OWN_ACCESS))
    assert r.plan(facts) == [
        corrections.GiveBackAddress("address 192.168.1.30", "this host does not use it any more", OWN_ACCESS)
    ]


@pytest.mark.parametrize(
    ("held", "facts"),
    [
        (OWN_ACCESS, {"host_access": frozenset({("s", "192.168.1.30")}), "host_access_known": True}),
        (OWN_ACCESS, {"on_shims": frozenset({"192.168.1.30"}), "host_access_known": True}),
        (OWN_ACCESS, {"host_access_known": False}),
        (
            structs.replace(OWN_ACCESS, kind="reserved", network="", endpoint=""),
            {"host_access": frozenset({("s", "192.168.1.30")}), "host_access_known": True},
        ),
        (
            structs.replace(OWN_ACCESS, kind="endpoint", endpoint="gone"),
            {"on_shims": frozenset({"192.168.1.30"}), "host_access_known": True},
        ),
        (structs.replace(OWN_ACCESS, host="b", endpoint="b"), {"host_access_known": True}),
        (structs.replace(OWN_ACCESS, at=YOUNG), {"host_access_known": True}),
    ],
    ids=["given", "on a shim", "unreadable", "not claimed yet", "of an endpoint before", "of another host", "young"],
)
def test_an_address_that_a_host_has_itself_stays(held: AddressRecord, facts: dict[str, Any]) -> None:
    """Unless this host surely does not use it."""
    assert r.plan(but(replace(WHOLE, **facts), addresses=(*HELD.addresses, held))) == []


def test_a_removed_network_on_which_a_host_has_an_address_is_not_forgotten() -> None:
    """That host keeps it for a stopped container."""
    theirs = structs.replace(OWN_ACCESS, host="b", endpoint="b")
    gone = replace(WHOLE, networks=(), endpoints=(), owned=(), engine=())
    assert kinds(but(gone, addresses=(theirs,), removed=frozenset({"n1"}))) == []
    assert kinds(but(gone, addresses=(), removed=frozenset({"n1"}))) == ["ForgetNetwork"]


@pytest.mark.parametrize(("cluster", "told"), [("n1", ["RestorePool"]), ("", [])])
def test_a_pool_that_another_network_has_is_told_of_networks_of_the_cluster(cluster: str, told: list[str]) -> None:
    """The store was restored from an older copy. From before the cluster each host may have one of the same subnet."""
    mine = structs.replace(network(), cluster=cluster, published=bool(cluster))
    assert kinds(but(WHOLE, networks=(mine,), pools=(structs.replace(pool("other"), host="b"),))) == told


def test_a_removed_network_whose_addresses_this_host_does_not_see_is_others_to_forget() -> None:
    """Its pool is known, and what is in its subnet was not read."""
    gone = replace(WHOLE, networks=(), endpoints=(), owned=(), engine=())
    facts = but(gone, addresses=(), removed=frozenset({"n1"}))
    assert facts.shared
    assert kinds(replace(facts, shared=replace(facts.shared, seen=frozenset()))) == []


def test_a_pool_whose_addresses_this_host_does_not_see_is_not_given_back() -> None:
    """Nor its gateway. Its network went while this host looked, and containers of other hosts may be there: they are
    looked for the next time, since the pool is this host's and its network is not known."""
    mine = structs.replace(pool(), host="a")
    facts = but(
        replace(WHOLE, networks=(), endpoints=(), owned=(), engine=()), pools=(mine,), addresses=HELD.addresses[:1]
    )
    assert facts.shared
    assert kinds(replace(facts, shared=replace(facts.shared, seen=frozenset()))) == []
    looked_at = r.unknown_subnets((mine, pool("")), (), "a")
    assert looked_at == {(mine.space, mine.subnet)}
    assert not r.unknown_subnets((mine,), (network(),), "a") | r.unknown_subnets((mine,), (), "b")
    seen = replace(facts, shared=replace(facts.shared, seen=looked_at))
    assert kinds(seen) == ["GiveBackAddress", "GiveBackPool"]


def test_an_address_that_a_young_container_has_reserved_is_not_claimed_yet() -> None:
    """It was complete, and lets go of its address just now, or asks for it once more."""
    settled = replace(WHOLE, endpoints=(endpoint(at=YOUNG),), settled=frozenset({"e1"}))
    gateway, _ = HELD.addresses
    assert kinds(but(settled, addresses=(gateway, address("reserved", at=YOUNG)))) == []
    assert kinds(but(settled, addresses=(gateway,))) == ["ClaimAddress"]
