"""The original document's examples that fit a swarm, typed as they are there, on two nodes.

Only the driver's name differs, `--attachable` comes in, and `-it` is left out: there is no terminal. What a swarm has
not is left out too: IPv6 (tests 6 and 7, and a subnet of the dual stack) and aux addresses. The interface on the wire
is `eth1` on node1; on node2 it is `eth0` as well as `eno7`.
"""

import re
from collections.abc import Iterator

import pytest

from lab import ENGINES
from lab.process import wait_until
from tests.swarm.swarm_site import SOON, Node, SwarmSite

CREATE = "docker network create -d macvlan-global:latest --attachable"
BRIDGE = "-o macvlan_mode=bridge"
STAY = "-d --init alpine sleep 600"
TWO_SUBNETS = "--subnet=192.168.1.0/24 --subnet=192.168.10.0/24 --gateway=192.168.1.1 --gateway=192.168.10.1"

# the tests for parent lists: subnets, options, network
LISTS = {
    "test 1": (TWO_SUBNETS, '-o parent=eth0 -o parent="bond0,  eth0,  eth1"', "mac1"),
    "test 2": ("--subnet=192.168.1.0/24 --gateway=192.168.1.254", "-o parent=bond0,eth1,eth0,", "mac2"),
    "test 3": (TWO_SUBNETS, '-o parent="bond0,  eth1,  eth0,"', "mac3"),
    "test 5": (TWO_SUBNETS, '-o parent="toothbrush, eth1, eth0"', "mac5"),
}


@pytest.fixture
def seed(swarm: SwarmSite) -> Iterator[SwarmSite]:
    """The nodes, where node2 has an eth0."""
    node2 = swarm.nodes[1]
    swarm.wire.plug(node2.host, "eth0")
    yield swarm
    for node in swarm.nodes:
        node.clean()
    node2.host.run(["ip", "link", "delete", "eth0"])


def test_single_parent(swarm: SwarmSite) -> None:
    """The first example: one command on the manager; containers on the node that has this parent."""
    one, two = swarm.nodes
    one.shell(f"{CREATE} --subnet=192.168.1.0/24 --gateway=192.168.1.254 -o parent=eth1 {BRIDGE} mac")
    one.shell(f"docker run --net=mac --ip=192.168.1.10 --name=one {STAY}")
    assert one.inside("one", "ip", "route").startswith("default via 192.168.1.254 dev eth0")
    assert one.leg("one")["linkinfo"]["info_data"]["mode"] == "bridge"
    assert one.stands_on("one") == "eth1"
    refusal = two.refusal("run", "--net=mac", "--rm", "alpine", "true")
    assert "no usable parent interface on this host: eth1: no such interface" in refusal


def test_two_subnets_with_ranges(seed: SwarmSite) -> None:
    """The dual-stack example without IPv6: addresses come from the ranges, and from outside if they are asked for."""
    one, two = seed.nodes
    one.shell(
        f"{CREATE} --subnet=192.168.222.0/24 --subnet=192.168.224.0/24 "
        "--ip-range=192.168.222.0/25 --ip-range=192.168.224.0/25 "
        f'-o parent="bond0,  eth0,  eth1" {BRIDGE} dualstack'
    )
    two.shell(f"docker run --net=dualstack --name=any {STAY}")
    subnet, _, last = two.address_of("any", "dualstack").rpartition(".")
    assert subnet in {"192.168.222", "192.168.224"}
    assert int(last) < 128
    one.shell(f"docker run --net=dualstack --ip=192.168.222.10 --name=ten {STAY}")
    two.shell(f"docker run --net=dualstack --ip=192.168.222.220 --name=high {STAY}")
    pings = "docker run --net=dualstack --ip=192.168.222.21 --rm alpine ping -c4 -i0.2"
    assert "4 packets received" in two.shell(f"{pings} 192.168.222.10")
    assert "4 packets received" in one.shell(f"{pings} 192.168.222.220")


@pytest.mark.parametrize("example", LISTS)
def test_parent_lists(seed: SwarmSite, example: str) -> None:
    """Tests 1, 2, 3 and 5: blanks, empty entries, names of other hosts; each node takes what it has, and they talk."""
    subnets, parents, name = LISTS[example]
    one, two = seed.nodes
    one.shell(f"{CREATE} {subnets} {parents} {BRIDGE} {name}")
    one.shell(f"docker run --net={name} --ip=192.168.1.10 --name=one {STAY}")
    two.shell(f"docker run --net={name} --ip=192.168.1.11 --name=two {STAY}")
    assert (one.stands_on("one"), two.stands_on("two")) == ("eth1", "eth0")
    assert two.reaches("two", "192.168.1.10")


def test_8_null_parent(swarm: SwarmSite) -> None:
    """Test 8: the document's words are said where a container starts, and the node keeps nothing of the network."""
    one, two = swarm.nodes
    subnets = TWO_SUBNETS.replace("192.168.1.", "192.168.100.").replace("192.168.10.", "192.168.110.")
    one.shell(f"{CREATE} {subnets} {BRIDGE} mac8")
    said = two.refusal("run", "--net=mac8", "--rm", "alpine", "true")
    assert "no parent interface was passed, use for example '-o parent=\"eth0,eth1,eth3\"'" in said


def test_parent_files(seed: SwarmSite) -> None:
    """Config file: the same path names another interface on each node, as TOML on one and as a plain line on two."""
    one, two = seed.nodes
    one.shell("""printf '[macvlan]\\nversion = "0.1"\\nparent = "eth1"\\n' > /etc/net1.toml""")
    two.shell("echo eth0 > /etc/net1.toml")
    one.shell(f"{CREATE} --subnet=192.168.1.0/24 --gateway=192.168.1.1 -o parent-file=/etc/net1.toml mcv0")
    one.shell(f"docker run --net=mcv0 --name=one --ip=192.168.1.10 {STAY}")
    two.shell(f"docker run --net=mcv0 --name=two {STAY}")
    assert (one.stands_on("one"), two.stands_on("two")) == ("eth1", "eth0")
    assert two.reaches("two", "192.168.1.10")


# On one engine: in the guest kernel, a swarm takes three times as long to come up as these two.
SLOW = pytest.mark.parametrize("_running", ENGINES[-1:], indirect=True)


@SLOW
@pytest.mark.needs("8021q", "dummy")
def test_toothbrush_foo_10_bar_10(swarm: SwarmSite) -> None:
    """Host 1 has foo and host 2 gets bar: each makes its own tagged sub-interface, until its last container goes."""
    one, two = swarm.nodes
    one.shell("ip link add foo type dummy && ip link set foo up")
    one.shell(
        f"{CREATE} --subnet=192.168.20.0/24 --gateway=192.168.20.1 "
        f'-o parent="toothbrush, foo.10, bar.10" {BRIDGE} mcv20'
    )
    one.shell(f"docker run --net=mcv20 --name=one {STAY}")
    assert one.stands_on("one") == "foo.10"
    assert re.search(r"foo\.10: .*bar\.10: ", two.refusal("run", "--net=mcv20", "--rm", "alpine", "true"))

    two.shell("ip link add bar type dummy && ip link set bar up")
    two.shell(f"docker run --net=mcv20 --name=two {STAY}")
    assert two.stands_on("two") == "bar.10"
    made = two.link("bar.10")
    assert made is not None
    info = made["linkinfo"]["info_data"]
    assert (made["link"], info["protocol"], info["id"]) == ("bar", "802.1Q", 10)
    for node, dummy in ((one, "foo"), (two, "bar")):
        node.clean()
        _ends(node, f"{dummy}.10")
        node.shell(f"ip link del {dummy}")


@SLOW
@pytest.mark.needs("8021q")
def test_a_list_of_sub_interfaces(swarm: SwarmSite) -> None:
    """The second trunk example: the first entry whose master the node has; one that the operator made stays."""
    one, two = swarm.nodes
    swarm.wire.plug(two.host, "eth3")
    one.shell("ip link add link eth1 name eth1.65 type vlan id 65 && ip link set eth1.65 up")
    before = one.link("eth1.65")
    one.shell(
        f"{CREATE} --subnet=192.168.65.0/24 --gateway=192.168.65.254 "
        f"-o =bond0.65,eth3.65,eth1.65,eth0.65 {BRIDGE} vlan65"
    )
    one.shell(f"docker run --net=vlan65 --ip=192.168.65.10 --name=one {STAY}")
    two.shell(f"docker run --net=vlan65 --name=two {STAY}")
    assert (one.stands_on("one"), two.stands_on("two")) == ("eth1.65", "eth3.65")
    assert two.reaches("two", "192.168.65.10")
    swarm.clean()
    _ends(two, "eth3.65")
    after = one.link("eth1.65")
    assert before is not None
    assert after is not None
    assert [after[key] for key in ("ifindex", "address")] == [before[key] for key in ("ifindex", "address")]
    one.shell("ip link del eth1.65")
    two.shell("ip link del eth3")


def _ends(node: Node, link: str) -> None:
    """Wait until an interface is gone: a node forgets a network a moment after its last container there."""
    wait_until(lambda: node.link(link) is None, f"end of {link}", seconds=SOON, every=0.2)
