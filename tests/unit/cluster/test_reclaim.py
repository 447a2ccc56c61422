"""The claims of dead hosts, and the probes due first."""

from collections.abc import Iterator
from typing import Literal

from macvlan_global.cluster.reclaim import MOST_TURNS, Claim, due, plan, reserved_pools, stranded, turn
from macvlan_global.store.records import AddressRecord, NetworkRecord, PoolRecord

Kind = Literal["reserved", "gateway", "aux", "endpoint", "host"]
SUBNET = "10.8.0.0/24"
POOL = PoolRecord(space="s", subnet=SUBNET, network="lan", host="b", at=0)
LAN = NetworkRecord(id="own", cluster="lan", given={}, parent="eth1", at=0)


def _address(
    address: str, host: str = "b", kind: Kind = "endpoint", network: str = "lan", endpoint: str = "e1"
) -> AddressRecord:
    return AddressRecord(
        space="s",
        subnet=SUBNET,
        address=address,
        kind=kind,
        network="" if kind == "reserved" else network,
        endpoint=endpoint if kind in {"endpoint", "host"} else "",
        host=host,
        incarnation="i",
        at=0,
    )


def test_a_containers_addresses_go_together() -> None:
    """Both families of one endpoint are one claim, asked on the parent that this host has."""
    four, six, other = _address("10.8.0.2"), _address("fd18::2"), _address("10.8.0.3", endpoint="e2")
    assert plan({"b"}, [four, six, other], [POOL], [LAN]) == [Claim((four, six), ("eth1",)), Claim((other,), ("eth1",))]


def test_addresses_of_a_dead_host_itself_are_asked_for_too() -> None:
    """Those that it was given so that its containers reach it; both families are one claim."""
    four, six = _address("10.8.0.2", kind="host", endpoint="b"), _address("fd18::2", kind="host", endpoint="b")
    assert plan({"b"}, [four, six], [POOL], [LAN]) == [Claim((four, six), ("eth1",))]
    assert plan({"c"}, [four, six], [POOL], [LAN]) == []


def test_what_living_hosts_and_networks_hold_is_not_touched() -> None:
    """Gateways and aux addresses belong to the network, whoever wrote them."""
    records = [_address("10.8.0.2", host="a"), _address("10.8.0.1", kind="gateway"), _address("10.8.0.9", kind="aux")]
    assert plan({"b"}, records, [POOL], [LAN]) == []


def test_without_a_parent_here_nobody_can_be_asked() -> None:
    """Another host may be able to."""
    record = _address("10.8.0.2")
    for networks in ([], [NetworkRecord(id="own", cluster="lan", given={}, parent="", at=0)]):
        (claim,) = plan({"b"}, [record], [POOL], networks)
        assert claim.out_of_reach == "network lan has no parent on this host to probe on"


def test_a_reserved_address_is_asked_for_where_its_subnet_is() -> None:
    """It does not say for which network it was; two networks may share a subnet."""
    record = _address("10.8.0.2", kind="reserved")
    other_pool = PoolRecord(space="s", subnet=SUBNET, range="10.8.0.128/25", network="wan", at=0)
    wan = NetworkRecord(id="wan", given={}, parent="eth2", at=0)
    assert plan({"b"}, [record], [POOL], [LAN]) == [Claim((record,), ("eth1",))]
    assert plan({"b"}, [record], [POOL, other_pool], [LAN, wan]) == [Claim((record,), ("eth1", "eth2"))]
    (claim,) = plan({"b"}, [record], [POOL, other_pool], [LAN])
    assert "network wan has no parent" in claim.out_of_reach


def test_a_reserved_address_of_no_network_is_on_no_wire() -> None:
    """Its network was never created, so there is nobody to ask."""
    record = _address("10.8.0.2", kind="reserved")
    unclaimed = PoolRecord(space="s", subnet=SUBNET, host="b", at=0)
    assert plan({"b"}, [record], [unclaimed], []) == [Claim((record,))]
    assert reserved_pools({"b"}, [unclaimed, POOL, PoolRecord(space="s", subnet=SUBNET, host="a", at=0)]) == [unclaimed]


def test_a_network_that_only_a_dead_host_knew_is_stranded() -> None:
    """Unless the cluster or this host knows it, or a living host has written something of it."""
    gateway = _address("10.8.0.1", kind="gateway")
    assert stranded({"b"}, [gateway], [POOL], set()) == ["lan"]
    assert stranded({"b"}, [], [POOL], set()) == stranded({"b"}, [gateway], [], set()) == ["lan"]
    assert stranded({"b"}, [gateway], [POOL], {"lan"}) == []
    assert stranded({"b"}, [gateway, _address("10.8.0.9", host="a", kind="aux")], [POOL], set()) == []
    assert stranded({"b"}, [_address("10.8.0.2", kind="reserved")], [], set()) == []


def test_hosts_take_turns_without_talking() -> None:
    """Each living host has its place for each dead one, and it is not the same host that begins for all."""
    live = [f"h{number}" for number in range(MOST_TURNS)]
    for dead in ("x", "y", "z"):
        assert sorted(turn(host, dead, live) for host in live) == list(range(MOST_TURNS))
    firsts = {min(live, key=lambda host: turn(host, f"d{number}", live)) for number in range(50)}
    assert len(firsts) > 4
    many = [f"h{number}" for number in range(1000)]
    assert max(turn(host, "x", many) for host in many[:20]) == MOST_TURNS


class CountedHosts(list[str]):
    """Hosts, and how many of them were looked at."""

    looked = 0

    def __iter__(self) -> Iterator[str]:
        """Count them."""
        for each in super().__iter__():
            self.looked += 1
            yield each


def test_whose_turn_it_is_costs_little_among_thousands() -> None:
    """Nothing for a host that is not gone for long, and no more than finds as many turns as there are."""
    many = CountedHosts(f"h{number}" for number in range(5000))
    assert due({f"d{number}": 599.0 for number in range(100)}, 600, "a", many) == set()
    assert many.looked == 0
    last = max((f"x{number}" for number in range(50)), key=lambda host: turn(host, "b", many[:50]))
    many.looked = 0
    assert turn(last, "b", many) == MOST_TURNS
    assert many.looked < 500


def test_nothing_is_due_before_the_grace_period() -> None:
    """And a later turn comes a tenth of it later."""
    first, second = sorted(["a", "c"], key=lambda host: turn(host, "b", ["a", "c"]))
    assert due({"b": 599.9}, 600, first, ["a", "c"]) == set()
    assert due({"b": 600.0}, 600, first, ["a", "c"]) == {"b"}
    assert due({"b": 659.9}, 600, second, ["a", "c"]) == set()
    assert due({"b": 660.0}, 600, second, ["a", "c"]) == {"b"}
