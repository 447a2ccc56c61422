"""Definitions: from an engine's network and back, and in what two networks differ."""

from dataclasses import replace

import msgspec
import pytest

from macvlan_global.engine.inspected import network, network_request
from macvlan_global.engine.ports import EngineNetwork, EngineSubnet
from macvlan_global.replication.definition import cluster_id, definition_of, differences, to_create
from macvlan_global.store.records import DefinitionRecord

LAN = EngineNetwork(
    id="aa11",
    name="lan",
    ipam_driver="",
    internal=True,
    options={"parent": "eth1, eth0", "mode": "private"},
    ipam_options={"space": "blue"},
    subnets=(
        EngineSubnet("fd1a::/64", gateway="fd1a::1"),
        EngineSubnet("10.8.0.0/24", "10.8.0.128/25", "10.8.0.254", {"printer": "10.8.0.7"}),
    ),
    labels={"com.docker.compose.project": "shop"},
    attachable=True,
    ipv6=True,
)
DEFINED = definition_of(LAN, "host-a", 5.0)


def _made_from(definition: DefinitionRecord) -> EngineNetwork:
    """The network that another host's engine shows once it was made there."""
    wanted = to_create(definition)
    return EngineNetwork(
        "bb22",
        wanted.name,
        "",
        wanted.internal,
        wanted.options,
        wanted.ipam_options,
        wanted.subnets,
        labels=wanted.labels,
        attachable=wanted.attachable,
        ipv4=wanted.ipv4,
        ipv6=wanted.ipv6,
    )


def test_hosts_may_call_the_driver_differently() -> None:
    """A definition names no driver: the same network is the same to all engines, and each makes it by its own names."""

    def shown(called: str) -> EngineNetwork:
        return network({"Id": "aa11", "Name": "lan", "Driver": called, "IPAM": {"Driver": called}}, called, called)

    defined = definition_of(shown("macvlan-global"), "host-a", 5.0)
    assert definition_of(shown("macvlan-global:latest"), "host-a", 5.0) == defined
    assert differences(defined, shown("lan")) == []
    made = network_request(to_create(defined), "lan", "lan")
    assert (made["Driver"], made["IPAM"]["Driver"]) == ("lan", "lan")


def test_a_network_comes_out_as_it_was() -> None:
    """Options, labels, flags and subnets in their order; besides, its pools are joined."""
    made = _made_from(msgspec.json.decode(msgspec.json.encode(DEFINED), type=DefinitionRecord))
    assert made == replace(LAN, id="bb22", ipam_options={"space": "blue", "network": "aa11"})
    assert [each.space for each in DEFINED.subnets] == ["blue", "blue"]
    assert (DEFINED.host, DEFINED.at) == ("host-a", 5.0)


def test_a_copy_defines_the_same_network() -> None:
    """A host that has a copy can publish it again: the same id, and no trace of the copy in its IPAM options."""
    copy = _made_from(DEFINED)
    assert cluster_id(copy) == "aa11"
    assert msgspec.structs.replace(definition_of(copy, "host-a", 5.0)) == DEFINED


def test_what_is_the_same_does_not_differ() -> None:
    """Neither the original nor a copy; and engine 28 lists the subnets of families the other way round."""
    assert differences(DEFINED, LAN) == []
    assert differences(DEFINED, _made_from(DEFINED)) == []
    assert differences(DEFINED, replace(LAN, subnets=LAN.subnets[::-1])) == []


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (
            replace(LAN, subnets=(EngineSubnet("10.9.0.0/24"),)),
            (
                "subnets: 10.8.0.0/24 (range 10.8.0.128/25, gateway 10.8.0.254, printer 10.8.0.7), "
                "fd1a::/64 (gateway fd1a::1) there and 10.9.0.0/24 here"
            ),
        ),
        (replace(LAN, options={}), "options: -o mode=private -o parent=eth1, eth0 there and nothing here"),
        (replace(LAN, ipam_options={}), "options: --ipam-opt space=blue there and nothing here"),
        (replace(LAN, labels={}), "labels: --label com.docker.compose.project=shop there and nothing here"),
        (replace(LAN, internal=False), "internal: yes there and no here"),
        (replace(LAN, attachable=False), "attachable: yes there and no here"),
        (replace(LAN, ipv4=False), "IPv4: yes there and no here"),
        (replace(LAN, ipv6=False), "IPv6: yes there and no here"),
    ],
)
def test_every_difference_has_words(here: EngineNetwork, words: str) -> None:
    """Both sides are named."""
    assert differences(DEFINED, here) == [words]
