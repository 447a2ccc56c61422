"""Decisions about shims, on plain facts."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_interface

import pytest

from macvlan_global.errors import Invalid
from macvlan_global.host_access.desired import (
    AddressNeed,
    HostAccessFacts,
    WantedShim,
    desired,
    needs,
    own_source,
    steps,
)
from macvlan_global.kernel.ports import HostPath, Shim
from macvlan_global.options.network import parse_options
from macvlan_global.store.records import EndpointRecord, NetworkRecord, SubnetRecord
from macvlan_global.subnets import Address

LAN = SubnetRecord(space="lan", subnet="10.8.0.0/24", gateway="10.8.0.1")
LAN6 = SubnetRecord(space="lan", subnet="fd08::/64")
HOST, C1, C6 = ip_address("10.8.0.2"), ip_address("10.8.0.50"), ip_address("fd08::50")
MAC = "02:00:00:00:00:50"


def _network(*subnets: SubnetRecord, name: str = "n1", parent: str = "eth0", **options: str) -> NetworkRecord:
    return NetworkRecord(id=name, name=name, given=options, subnets=list(subnets), parent=parent, at=0)


def _endpoint(network: str = "n1", **fields: str) -> EndpointRecord:
    known = {"address": str(C1), "sandbox": "/netns/1", "boot": "now"} | fields
    return EndpointRecord(network=network, id="e1", mac=MAC, link="mg-e1", at=0, **known)  # type: ignore[arg-type]


def _facts(
    *networks: NetworkRecord,
    endpoints: tuple[EndpointRecord, ...] = (_endpoint(),),
    own: Mapping[str, str] | None = None,
    given: Mapping[tuple[str, str], Address] | None = None,
    configured: str = "",
) -> HostAccessFacts:
    addresses = [(link, ip_interface(each)) for each, link in (own or {}).items()]
    return HostAccessFacts(networks, endpoints, addresses, given or {}, "now", [*map(ip_address, configured.split())])


def test_a_container_is_reached_from_the_hosts_own_address() -> None:
    """No address of the pool is spent on it, and the shim has none."""
    facts = _facts(_network(LAN), own={"10.8.0.2/24": "eth0", "192.168.1.2/24": "eth1"})
    assert list(needs(facts)) == []
    assert desired(facts).shims == {"eth0": WantedShim("eth0", paths=frozenset({HostPath(C1, MAC, HOST)}))}


def test_without_an_own_address_one_of_the_pool_is_needed() -> None:
    """Once a container runs, and not before; then it is on the shim, and paths begin with it."""
    network, given = _network(LAN), {("n1", LAN.subnet): HOST}
    assert list(needs(_facts(network, endpoints=()))) == []
    facts = _facts(network, endpoints=(_endpoint(), _endpoint()))
    assert list(needs(facts)) == [AddressNeed(network, LAN)]
    assert "was given no address of 10.8.0.0/24 yet" in desired(facts).problems[0]
    found = desired(_facts(network, given=given))
    assert found.shims["eth0"] == WantedShim("eth0", frozenset({HOST}), frozenset({HostPath(C1, MAC, HOST)}))
    assert found.problems == ()
    assert list(needs(_facts(network, given=given))) == []


def test_ipv6_always_needs_an_address_of_the_pool() -> None:
    """Though the host has one in the subnet: the shim would answer for it on the wire."""
    network, six = _network(LAN6), ip_address("fd08::3")
    facts = _facts(network, endpoints=(_endpoint(address="", address6=str(C6)),), own={"fd08::2/64": "eth0"})
    assert list(needs(facts)) == [AddressNeed(network, LAN6)]
    found = desired(HostAccessFacts([network], facts.endpoints, facts.own, {("n1", LAN6.subnet): six}, "now"))
    assert found.shims["eth0"].paths == {HostPath(C6, MAC, six)}
    assert found.shims["eth0"].ipv6


def test_addresses_of_another_ipam_driver_are_not_taken() -> None:
    """The operator is told what would work, for each family."""
    other = SubnetRecord(space="", subnet=LAN.subnet), SubnetRecord(space="", subnet=LAN6.subnet)
    facts = _facts(_network(*other), endpoints=(_endpoint(address6=str(C6)),))
    assert list(needs(facts)) == []
    assert [each.partition(": ")[2].partition(";")[0] for each in desired(facts).problems] == [
        "it has no address in 10.8.0.0/24",
        "it needs an address of fd08::/64 for itself",
    ]


def test_a_configured_address_is_needed_before_the_first_container() -> None:
    """In its subnet, instead of another one; not where the host has an address of its own, and the first of two."""
    network, both = _network(LAN, LAN6), "192.0.2.1 10.8.0.9 fd08::9 10.8.0.10"
    four, six = ip_address("10.8.0.9"), ip_address("fd08::9")
    wanted = AddressNeed(network, LAN, four), AddressNeed(network, LAN6, six)
    assert list(needs(_facts(network, endpoints=(), configured=both))) == [*wanted]
    given: dict[tuple[str, str], Address] = {("n1", LAN.subnet): ip_address("10.8.0.3"), ("n1", LAN6.subnet): six}
    facts = _facts(network, given=given, configured=both)
    assert list(needs(facts)) == [wanted[0]]
    assert desired(facts).problems == (
        "the host has one address in each subnet, 10.8.0.9 in 10.8.0.0/24; take 10.8.0.10 out of host_access_addresses",
    )
    assert list(needs(_facts(network, own={"10.8.0.2/24": "eth0"}, configured=both))) == [wanted[1]]


@pytest.mark.parametrize(
    ("space", "parent", "shared"), [("lan", "eth0", True), ("other", "eth0", False), ("lan", "eth1", False)]
)
def test_a_configured_address_serves_all_networks_on_a_wire(space: str, parent: str, shared: bool) -> None:
    """Given once for a space and a parent, it is the source of the paths of each; elsewhere it is not there."""
    low, high = (SubnetRecord(space=at, subnet=LAN.subnet) for at in ("lan", space))
    networks = _network(low), _network(high, name="n2", parent=parent)
    endpoints = (_endpoint("n2"),)
    given = ip_address("10.8.0.250")
    facts = _facts(*networks, endpoints=endpoints, configured="10.8.0.250", given={("n1", LAN.subnet): given})
    assert [each.network.id for each in needs(facts)] == ([] if shared else ["n2"])
    assert {each.source for each in desired(facts).shims[parent].paths} == ({given} if shared else set())


def test_a_configured_address_in_a_subnet_of_another_ipam_driver() -> None:
    """Nobody's books are asked: it is on the shim, paths begin with it, and containers reach the host there."""
    other = SubnetRecord(space="", subnet=LAN.subnet), SubnetRecord(space="", subnet=LAN6.subnet)
    facts = _facts(_network(*other), endpoints=(_endpoint(address6=str(C6)),), configured="10.8.0.9 fd08::9")
    four, six = ip_address("10.8.0.9"), ip_address("fd08::9")
    assert list(needs(facts)) == []
    found = desired(facts)
    paths = frozenset({HostPath(C1, MAC, four), HostPath(C6, MAC, six)})
    assert (found.shims["eth0"], found.problems) == (WantedShim("eth0", frozenset({four, six}), paths), ())
    assert [(each.address, each.address6) for each in found.reach] == [(str(four), str(six))]
    unneeded = desired(_facts(_network(*other), own={"10.8.0.2/24": "eth0"}, configured="10.8.0.9"))
    assert unneeded.shims["eth0"].addresses == frozenset()
    null = SubnetRecord(space="", subnet="::/0")
    assert desired(_facts(_network(null), endpoints=(), configured="fd08::9")).shims["eth0"].addresses == frozenset()


@pytest.mark.parametrize(
    ("subnet", "configured", "why"),
    [
        (LAN.subnet, "10.8.0.1", "is in use by the network as its gateway"),
        (LAN.subnet, "10.8.0.50", "is in use by a container of network n1"),
        (LAN.subnet, "10.8.0.255", "is the network or broadcast address"),
        (LAN6.subnet, "fd08::2", "is in use by interface eth0 of this host"),
    ],
)
def test_a_configured_address_that_somebody_has_is_not_used(subnet: str, configured: str, why: str) -> None:
    """The operator is told which, and why."""
    network = _network(SubnetRecord(space="", subnet=subnet, gateway="10.8.0.1"))
    found = desired(_facts(network, own={"fd08::2/64": "eth0"}, configured=configured))
    assert found.shims["eth0"].addresses == frozenset()
    said = f"the host gets no address of {subnet} on network n1: {configured} of host_access_addresses {why}"
    assert [each for each in found.problems if each.startswith(said)]


@pytest.mark.parametrize(
    "endpoint",
    [_endpoint(sandbox=""), _endpoint(boot="before"), _endpoint(state="leaving"), _endpoint(network="n2")],
    ids=["not joined", "of another boot", "leaving", "of another network"],
)
def test_a_container_that_does_not_run_here_is_not_led_to(endpoint: EndpointRecord) -> None:
    """The shim is there for the network."""
    found = desired(_facts(_network(LAN), endpoints=(endpoint,), own={"10.8.0.2/24": "eth0"}))
    assert found.shims == {"eth0": WantedShim("eth0")}


def test_one_address_in_two_spaces_is_led_to_once() -> None:
    """A host has one route to it; the operator is told of the other one."""
    two = _network(SubnetRecord(space="b", subnet="10.8.0.0/24"), name="n2", parent="eth1")
    endpoints = (_endpoint(), _endpoint("n2"))
    found = desired(_facts(_network(LAN), two, endpoints=endpoints, own={"10.8.0.2/24": "eth0"}))
    assert (len(found.shims["eth0"].paths), len(found.shims["eth1"].paths)) == (1, 0)
    assert found.problems[0].startswith("the host does not reach 10.8.0.50 of network n2: a container of network n1")


def test_the_parents_own_address_comes_first() -> None:
    """Another link's in the same subnet does as well."""
    own = [("eth1", ip_interface("10.8.0.9/24")), ("eth0", ip_interface("10.8.0.2/24"))]
    assert own_source(LAN, "eth0", own) == HOST
    assert own_source(LAN, "eth0", own[:1]) == ip_address("10.8.0.9")
    assert own_source(LAN, "eth0", []) is None


def _wants(*, default: bool, **options: str) -> bool:
    return parse_options(options).wants_host_access(default=default)


def test_networks_of_a_default_are_those_in_mode_bridge() -> None:
    """The option wins over the default, in both directions."""
    assert _wants(default=True)
    assert not _wants(default=False)
    assert not _wants(default=True, macvlan_mode="private")
    assert not _wants(default=True, host_access="false")
    assert _wants(default=False, host_access="true")


@pytest.mark.parametrize("mode", ["private", "vepa", "passthru"])
def test_modes_without_a_way_between_links_are_refused(mode: str) -> None:
    """With the reason, and the mode that works; switched off it is no contradiction."""
    with pytest.raises(Invalid, match=f"host_access=true does not work in mode {mode}: .*; use mode bridge"):
        parse_options({"host_access": "true", "macvlan_mode": mode})
    assert parse_options({"host_access": "false", "macvlan_mode": mode}).host_access is False


def test_steps_lead_from_what_is_to_what_must_be() -> None:
    """What is not wanted goes, half of a path too; an address comes before paths that begin with it, and goes last."""
    old, new = HostPath(C1, MAC, HOST), HostPath(C1, MAC, ip_address("10.8.0.3"))
    gone, half = ip_address("10.8.0.60"), ip_address("10.8.0.61")
    wanted = WantedShim("eth0", frozenset({new.source}), frozenset({new}))
    found = Shim(
        "mgh-eth0",
        "eth0",
        MAC,
        addresses=frozenset({HOST}),
        paths=frozenset({old, HostPath(gone, MAC, HOST)}),
        unfinished=frozenset({half}),
    )
    assert [(each.verb, str(each.address)) for each in steps(wanted, found)] == [
        ("lead away", str(gone)),
        ("lead away", str(half)),
        ("add", "10.8.0.3"),
        ("lead", str(C1)),
        ("delete", str(HOST)),
    ]
    assert steps(wanted, Shim("mgh-eth0", "eth0", MAC, addresses=wanted.addresses, paths=wanted.paths)) == []
