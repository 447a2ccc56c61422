"""The original document's examples of several hosts, typed as they are there, on two hosts with real engines.

Only the driver's name differs, and `-it` is left out: there is no terminal. An interface of another name on a host is
a second end of the same wire where the document makes a dummy, so that containers reach each other; with dummies, the
same is done in the guest kernel. With MACVLAN_GLOBAL_DOCS_OUT set to a folder, what was typed and printed on the
newest engine on host 1 and the oldest on host 2 is written there, for `docs/examples`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import ENGINES, CommandError
from lab.cluster_site import ClusterSite
from lab.site import Site

DOCS_OUT = "MACVLAN_GLOBAL_DOCS_OUT"

CREATE = "docker network create -d macvlan-global --ipam-driver macvlan-global"
BRIDGE = "-o macvlan_mode=bridge"
STAY = "-d --init alpine sleep 600"


class Terminal:
    """Types commands on one host and keeps what came of them among what was typed on the others."""

    def __init__(self, site: Site, said: list[str]) -> None:
        """`said` is the transcript of all hosts."""
        self.site = site
        self._said = said

    def type(self, line: str) -> str:
        """What a command printed; raises `lab.CommandError` if it failed."""
        printed = self.site.shell(line)
        self._keep(line, printed)
        return printed

    def refused(self, line: str) -> str:
        """What a command said as it failed."""
        with pytest.raises(CommandError) as failed:
            self.site.shell(line)
        self._keep(line, failed.value.stderr)
        return failed.value.stderr

    def _keep(self, line: str, printed: str) -> None:
        prompt = f"{self.site.host.name}$ {line}"
        self._said.append("\n".join(each.rstrip() for each in (prompt, *printed.rstrip().splitlines())))


@pytest.fixture
def terminals(cluster: ClusterSite, request: pytest.FixtureRequest) -> Iterator[list[Terminal]]:
    """A terminal on each host; their transcript goes to the documents if somebody asked for it."""
    said: list[str] = []
    yield [Terminal(site, said) for site in cluster.sites]
    folder = os.environ.get(DOCS_OUT)
    if folder and cluster.sites[0].version == ENGINES[-1]:
        name = re.sub(r"^test-(?=\D)", "", request.function.__name__.replace("_", "-"))
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"two-hosts-{name}.txt").write_text("\n\n".join(said) + "\n")


def on_parent(site: Site, container: str, parent: str) -> bool:
    """Whether a container's eth0 is a macvlan in bridge mode on this interface of its host."""
    leg, lower = site.leg(container), site.link(parent)
    assert lower is not None
    info = leg["linkinfo"]
    return bool(leg["link_index"] == lower["ifindex"] and info["info_data"]["mode"] == "bridge")


def tag(site: Site, name: str) -> tuple[Any, ...] | None:
    """What `ip -d link` says of a sub-interface: protocol, VLAN, master, and whether it is up; None if it is not."""
    link = site.link(name)
    if link is None:
        return None
    data = link["linkinfo"]["info_data"]
    return data["protocol"], data["id"], link["link"], "UP" in link["flags"]


def test_single_parent(cluster: ClusterSite, terminals: list[Terminal]) -> None:
    """The first example over two hosts: one command makes the network on both, and their containers talk."""
    one, two = terminals
    one.type(f"{CREATE} --subnet=192.168.1.0/24 --gateway=192.168.1.254 -o parent=eth1 {BRIDGE} mac")
    cluster.wait_for("mac")
    assert "macvlan-global" in two.type("docker network ls --filter name=mac")
    one.type(f"docker run --net=mac --ip=192.168.1.10 --name=one {STAY}")
    assert "default via 192.168.1.254 dev eth0" in one.type("docker exec one ip route")
    assert "4 packets received" in two.type("docker run --net=mac --rm alpine ping -c4 -i0.2 192.168.1.10")
    assert on_parent(one.site, "one", "eth1")


def test_dual_stack(cluster: ClusterSite, terminals: list[Terminal]) -> None:
    """Two IPv4 subnets and an IPv6 one, the runs of the document shared out between the hosts.

    Addresses that are asked for come first: each host begins anywhere in the range, and may give one of them.
    """
    one, two = terminals
    one.type(
        f"{CREATE} --ipv6 --subnet=192.168.222.0/24 --subnet=192.168.224.0/24 --subnet=fd18::/64 "
        '--aux-address="exclude1=fd18::2" --aux-address="exclude2=192.168.222.2" '
        '--aux-address="exclude3=192.168.224.2" '
        "--ip-range=192.168.222.0/25 --ip-range=192.168.224.0/25 "
        f'-o parent="bond0,  eth9,  eth1" {BRIDGE} dualstack'
    )
    cluster.wait_for("dualstack")
    taken = one.type(f"docker run --net=dualstack --ip=192.168.222.10 --ip6=fd18::10 --name=taken {STAY}")
    one.type(f"docker run --net=dualstack --ip=192.168.222.20 --ip6=fd18::20 {STAY}")
    third = "docker run --net=dualstack --ip=192.168.222.21 --ip6=fd18::21 --rm alpine"
    assert "4 packets received" in two.type(f"{third} ping6 -c4 -i0.2 fd18::20")
    assert "4 packets received" in two.type(f"{third} ping -c4 -i0.2 192.168.222.20")
    first = two.type(f"docker run --net=dualstack {STAY}")
    last = "docker run --net=dualstack --ip6=fd18::10 --rm alpine ip -6 addr show eth0"
    said = two.refused(last)
    assert "fd18::10 is in use by container taken" in said
    assert one.site.host.name in said
    one.type(f"docker rm -f {taken[:12]}")
    assert "fd18::10/64" in two.type(last)
    leg = two.site.endpoint(first, "dualstack")
    assert leg["IPAddress"] not in {"192.168.222.2", "192.168.224.2", ""}
    assert leg["GlobalIPv6Address"] not in {"fd18::2", ""}


def test_6_other_parents_on_other_hosts(cluster: ClusterSite, terminals: list[Terminal]) -> None:
    """Test 6: host 1 has no foo and takes eth1; host 2 has one by the time a container runs there, and takes it."""
    one, two = terminals
    one.type(f"{CREATE} --ipv6 --subnet=fd1a::/64 -o parent=foo,eth1,pancakes {BRIDGE} mac6")
    cluster.wait_for("mac6")
    cluster.wire.plug(two.site.host, "foo")
    one.type(f"docker run --net=mac6 --ip6=fd1a::11 --name=one {STAY}")
    two.type(f"docker run --net=mac6 --ip6=fd1a::10 --name=two {STAY}")
    assert on_parent(one.site, "one", "eth1")
    assert on_parent(two.site, "two", "foo")
    assert two.site.reaches("two", "fd1a::11")
    two.type("docker rm -f two")
    two.type("ip link del foo")
    two.type(f"docker run --net=mac6 --ip6=fd1a::10 --name=two {STAY}")
    assert on_parent(two.site, "two", "eth1")


def test_8_null_parent(cluster: ClusterSite, terminals: list[Terminal]) -> None:
    """Test 8: without a parent the network is refused in the document's words, and neither host has it."""
    one, two = terminals
    said = one.refused(
        f"{CREATE} --subnet=192.168.100.0/24 --subnet=192.168.110.0/24 "
        f"--gateway=192.168.100.1 --gateway=192.168.110.1 {BRIDGE} mac8"
    )
    assert "no parent interface was passed, use for example '-o parent=\"eth0,eth1,eth3\"'" in said
    assert "mac8" not in two.type("docker network ls")
    assert two.site.driver.admin.addresses() == []


def test_parent_files(cluster: ClusterSite, terminals: list[Terminal]) -> None:
    """Config file: the same path names another interface on each host, as TOML on one and as a plain line on two."""
    one, two = terminals
    cluster.wire.plug(two.site.host, "lan0")
    one.type("""printf '[macvlan]\\nversion = "0.1"\\nparent = "eth1"\\n' > /etc/net1.toml""")
    two.type("echo lan0 > /etc/net1.toml")
    one.type(f"{CREATE} --subnet=192.168.1.0/24 --gateway=192.168.1.1 -o parent-file=/etc/net1.toml mcv0")
    cluster.wait_for("mcv0")
    one.type(f"docker run --net=mcv0 --name=one --ip=192.168.1.10 {STAY}")
    two.type(f"docker run --net=mcv0 --name=two {STAY}")
    assert on_parent(one.site, "one", "eth1")
    assert on_parent(two.site, "two", "lan0")
    assert two.site.reaches("two", "192.168.1.10")
    two.type("docker rm -f two")
    two.type("ip link del lan0")


@pytest.mark.needs("8021q", "dummy")
def test_toothbrush_foo_10_bar_10(cluster: ClusterSite, terminals: list[Terminal]) -> None:
    """Host 1 has foo and host 2 gets bar: each has its own tagged sub-interface, as long as the network is there."""
    one, two = terminals
    one.type("ip link add foo type dummy && ip link set foo up")
    one.type(
        f"{CREATE} --subnet=192.168.20.0/24 --gateway=192.168.20.1 "
        f'-o parent="toothbrush, foo.10, bar.10" {BRIDGE} mcv20'
    )
    one.type("docker run --net=mcv20 --rm alpine true")
    one.type("ip -d link show foo.10")
    assert tag(one.site, "foo.10") == ("802.1Q", 10, "foo", True)

    cluster.wait_for("mcv20")
    assert re.search(r"foo\.10: .*bar\.10: ", two.refused("docker run --net=mcv20 --rm alpine true"))
    two.type("ip link add bar type dummy && ip link set bar up")
    two.type(f"docker run --net=mcv20 --name=two {STAY}")
    assert on_parent(two.site, "two", "bar.10")
    two.type("ip -d link show bar.10")
    assert tag(two.site, "bar.10") == ("802.1Q", 10, "bar", True)
    two.type("docker rm -f two")

    one.type("docker network rm mcv20")
    cluster.wait_gone("mcv20")
    assert tag(one.site, "foo.10") is None
    assert tag(two.site, "bar.10") is None
    one.type("ip link del foo")
    two.type("ip link del bar")


@pytest.mark.needs("8021q", "dummy")
def test_7_sub_interfaces_across_hosts(cluster: ClusterSite, terminals: list[Terminal]) -> None:
    """Test 7 with its clean-up: eth1.20 on host 1, foo.10 on host 2; without foo both are on VLAN 20, and talk."""
    one, two = terminals
    one.type(f"{CREATE} --ipv6 --subnet=fd1a::/64 -o parent=foo.10,eth1.20,pancakes {BRIDGE} mac7")
    cluster.wait_for("mac7")
    two.type("ip link add foo type dummy && ip link set foo up")
    two.type(f"docker run --net=mac7 --ip6=fd1a::10 --name=two {STAY}")
    assert on_parent(two.site, "two", "foo.10")
    assert tag(one.site, "eth1.20") == ("802.1Q", 20, "eth1", True)
    two.type("docker rm -f two")
    two.type("ip link del foo")  # takes foo.10 along, behind the driver's back

    one.type(f"docker run --net=mac7 --ip6=fd1a::11 --name=one {STAY}")
    two.type(f"docker run --net=mac7 --ip6=fd1a::10 --name=two {STAY}")
    assert tag(two.site, "eth1.20") == ("802.1Q", 20, "eth1", True)
    assert two.site.reaches("two", "fd1a::11")
