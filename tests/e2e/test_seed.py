"""Every single-host example of the original document, typed as it is there, on real engines.

Only the driver's name differs, and `-it` is left out: there is no terminal. With MACVLAN_GLOBAL_DOCS_OUT set to a
folder, what was typed and printed on the newest engine is written there, for `docs/examples`.
"""

import os
import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lab import ENGINES, CommandError, Host, Wire
from lab.driver import Driver
from lab.site import Site, links

DOCS_OUT = "MACVLAN_GLOBAL_DOCS_OUT"
CREATE = "docker network create -d macvlan-global --ipam-driver macvlan-global"
BRIDGE = "-o macvlan_mode=bridge"
TWO_SUBNETS = "--subnet=192.168.1.0/24 --subnet=192.168.10.0/24 --gateway=192.168.1.1 --gateway=192.168.10.1"


class Terminal:
    """Types commands on a site and keeps what came of them."""

    def __init__(self, site: Site) -> None:
        """Nothing was typed yet."""
        self.site = site
        self.said: list[str] = []

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

    def show(self, network: str, *host_links: str) -> None:
        """Keep what a reader wants to see of a network: its definition, and `ip -d link` of links of the host."""
        self.type(f"docker network inspect {network}")
        for link in host_links:
            self.type(f"ip -d link show {link}")

    def _keep(self, line: str, printed: str) -> None:
        self.said.append("\n".join(each.rstrip() for each in (f"$ {line}", *printed.rstrip().splitlines())))


@pytest.fixture
def terminal(site: Site, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """A terminal on the site; its transcript goes to the documents if somebody asked for them."""
    terminal = Terminal(site)
    yield terminal
    folder = os.environ.get(DOCS_OUT)
    if folder and site.version == ENGINES[-1]:
        name = re.sub(r"^test-(?=\D)", "", request.function.__name__.replace("_", "-"))
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.txt").write_text("\n\n".join(terminal.said) + "\n")


def on_parent(site: Site, container: str, parent: str, mode: str = "bridge") -> bool:
    """Whether a container's eth0 is a macvlan of this mode on this interface of the host."""
    leg, lower = site.leg(container), site.link(parent)
    assert lower is not None
    info = leg["linkinfo"]
    return bool(
        leg["link_index"] == lower["ifindex"] and info["info_kind"] == "macvlan" and info["info_data"]["mode"] == mode
    )


def is_tagged(site: Site, name: str, vlan: int, master: str) -> bool:
    """Whether the host has a sub-interface of this name, tagged, on this master, and up."""
    link = site.link(name)
    return bool(
        link
        and link["linkinfo"]["info_kind"] == "vlan"
        and link["linkinfo"]["info_data"]["id"] == vlan
        and link["linkinfo"]["info_data"]["protocol"] == "802.1Q"
        and link["link"] == master
        and "UP" in link["flags"]
    )


def goes_with(terminal: Terminal, network: str, sub_interface: str, master: str) -> None:
    """Remove the containers and the network: the sub-interface that was made for it goes, its master stays."""
    if containers := terminal.site.docker("ps", "-q").split():
        terminal.type(f"docker rm -f {' '.join(containers)}")
    terminal.type(f"docker network rm {network}")
    assert "does not exist" in terminal.refused(f"ip link show {sub_interface}")
    assert terminal.site.link(master) is not None


# ------------------------------------------------------------------ plain parents


def test_single_parent(terminal: Terminal, site: Site) -> None:
    """The first example: a network on eth1, a container with --ip, and another one that it reaches."""
    terminal.type(f"{CREATE} --subnet=192.168.1.0/24 --gateway=192.168.1.254 -o parent=eth1 {BRIDGE} mac")
    terminal.show("mac", "eth1")
    terminal.type("docker run --net=mac --ip=192.168.1.10 --name=one -d --init alpine sleep 600")
    terminal.type("docker exec one ip addr show eth0")
    assert "default via 192.168.1.254 dev eth0" in terminal.type("docker exec one ip route")
    assert "4 packets received" in terminal.type("docker run --net=mac --rm alpine ping -c4 -i0.2 192.168.1.10")
    assert site.address("one", "mac") == "192.168.1.10"
    assert on_parent(site, "one", "eth1")
    terminal.type("docker rm -f one")
    terminal.type("docker network rm mac")


def test_single_parent_with_the_engines_own_ipam(site: Site) -> None:
    """The first example word for word: without --ipam-driver, Docker itself gives the addresses."""
    site.shell(
        "docker network create -d macvlan-global --subnet=192.168.1.0/24 --gateway=192.168.1.254 -o parent=eth1 "
        "-o macvlan_mode=bridge mac"
    )
    site.start("mac", "one", "--ip=192.168.1.10")
    site.start("mac", "two")
    assert site.reaches("two", "192.168.1.10")
    assert on_parent(site, "one", "eth1")


def test_dual_stack(terminal: Terminal, site: Site) -> None:
    """Two IPv4 subnets and an IPv6 one, ranges and exclusions, and the six runs of the document in their order."""
    terminal.type(
        f"{CREATE} --ipv6 --subnet=192.168.222.0/24 --subnet=192.168.224.0/24 --subnet=fd18::/64 "
        '--aux-address="exclude1=fd18::2" --aux-address="exclude2=192.168.222.2" '
        '--aux-address="exclude3=192.168.224.2" '
        "--ip-range=192.168.222.0/25 --ip-range=192.168.224.0/25 "
        f'-o parent="bond0,  eth0,  eth1" {BRIDGE} dualstack'
    )
    terminal.show("dualstack")
    first = terminal.type("docker run --net=dualstack -d --init alpine sleep 600")
    taken = terminal.type("docker run --net=dualstack --ip=192.168.222.10 --ip6=fd18::10 -d --init alpine sleep 600")
    terminal.type("docker run --net=dualstack --ip=192.168.222.20 --ip6=fd18::20 -d --init alpine sleep 600")
    third = "docker run --net=dualstack --ip=192.168.222.21 --ip6=fd18::21 --rm alpine"
    assert "4 packets received" in terminal.type(f"{third} ping6 -c4 -i0.2 fd18::20")
    assert "4 packets received" in terminal.type(f"{third} ping -c4 -i0.2 192.168.222.20")
    fifth = terminal.type("docker run --net=dualstack --ip6=fd18::11 -d --init alpine sleep 600")
    last = "docker run --net=dualstack --ip6=fd18::10 --rm alpine ip -6 addr show eth0"
    assert "address fd18::10 is in use by" in terminal.refused(last)
    terminal.type(f"docker rm -f {taken[:12]}")
    assert "fd18::10/64" in terminal.type(last)

    ranges = [ip_network("192.168.222.0/25"), ip_network("192.168.224.0/25")]
    for container in (first, fifth):
        address = ip_address(site.address(container, "dualstack"))
        assert any(address in each for each in ranges)
        assert str(address) not in {"192.168.222.2", "192.168.224.2"}
        assert on_parent(site, container, "eth0")
    assert site.endpoint(first, "dualstack")["GlobalIPv6Address"] not in {"fd18::2", ""}
    assert site.endpoint(fifth, "dualstack")["GlobalIPv6Address"] == "fd18::11"


# ------------------------------------------------------------------- 802.1Q trunks


@pytest.mark.needs("8021q")
def test_vlan_trunk(terminal: Terminal, site: Site) -> None:
    """Trunk example 1: eth0.65 is made, tagged and up, carries containers, and goes with its network."""
    terminal.type(f"{CREATE} --subnet=192.168.65.0/24 --gateway=192.168.65.254 -o parent=eth0.65 {BRIDGE} vlan65")
    terminal.show("vlan65", "eth0.65")
    terminal.type("docker run --net=vlan65 --ip=192.168.65.10 --name=one -d --init alpine sleep 600")
    assert "1 packets received" in terminal.type("docker run --net=vlan65 --rm alpine ping -c1 192.168.65.10")
    assert is_tagged(site, "eth0.65", 65, "eth0")
    assert on_parent(site, "one", "eth0.65")
    goes_with(terminal, "vlan65", "eth0.65", "eth0")


@pytest.mark.needs("8021q")
def test_vlan_list(terminal: Terminal, site: Site) -> None:
    """Trunk example 2: a list under an option without a name; the first entry whose master is there is made."""
    terminal.type(
        f"{CREATE} --subnet=192.168.65.0/24 --gateway=192.168.65.254 "
        f"-o =bond0.65,eth3.65,eth1.65,eth0.65 {BRIDGE} vlan65"
    )
    terminal.show("vlan65", "eth1.65")
    assert "192.168.65.10/24" in terminal.type(
        "docker run --net=vlan65 --ip=192.168.65.10 --rm alpine ip addr show eth0"
    )
    assert is_tagged(site, "eth1.65", 65, "eth1")
    assert site.link("eth0.65") is None
    goes_with(terminal, "vlan65", "eth1.65", "eth1")


@pytest.mark.needs("8021q", "dummy")
def test_toothbrush_foo_10(terminal: Terminal, site: Site) -> None:
    """Parents that differ between hosts: the same command makes foo.10 where foo is, and bar.10 where bar is."""
    create = (
        f"{CREATE} --subnet=192.168.20.0/24 --gateway=192.168.20.1 "
        f'-o parent="toothbrush, foo.10, bar.10" {BRIDGE} mcv20'
    )
    for master in ("foo", "bar"):
        terminal.type(f"ip link add {master} type dummy")
        terminal.type(f"ip link set {master} up")
        terminal.type(create)
        terminal.type("docker run --net=mcv20 --rm alpine ip addr show eth0")
        terminal.type(f"ip -d link show {master}")
        terminal.type(f"ip -d link show {master}.10")
        assert is_tagged(site, f"{master}.10", 10, master)
        terminal.type("docker network rm mcv20")
        assert site.link(f"{master}.10") is None
        terminal.type(f"ip link del {master}")


# -------------------------------------------------------------------- parent files


def test_parent_file_as_toml(terminal: Terminal, site: Site) -> None:
    """Config file example 1: the parent is named in a TOML file on the host."""
    terminal.type("""printf '[macvlan]\\nversion = "0.1"\\nparent = "eth1"\\n' > /etc/net1.toml""")
    terminal.type("cat /etc/net1.toml")
    terminal.type(f"{CREATE} --subnet=192.168.1.0/24 --gateway=192.168.1.1 -o parent-file=/etc/net1.toml mcv0")
    terminal.show("mcv0")
    container = terminal.type("docker run --net=mcv0 -d --init alpine sleep 600")
    assert on_parent(site, container, "eth1")


@pytest.mark.needs("8021q")
def test_parent_file_as_a_plain_line(terminal: Terminal, site: Site) -> None:
    """Config file example 2: one line of text names a sub-interface, which is made."""
    terminal.type("echo eth0.30 > /etc/vlan30.conf")
    terminal.type(f"{CREATE} --subnet=172.16.86.0/24 --gateway=172.16.86.2 -o parent-file=/etc/vlan30.conf vlan30")
    terminal.show("vlan30", "eth0.30")
    assert "default via 172.16.86.2" in terminal.type("docker run --net=vlan30 --rm alpine ip route")
    assert is_tagged(site, "eth0.30", 30, "eth0")
    goes_with(terminal, "vlan30", "eth0.30", "eth0")


# ------------------------------------------- the document's tests of parent lists


def runs_on(terminal: Terminal, network: str, parent: str) -> None:
    """Run the document's container on a network: it has its address, and its link is on this parent."""
    site = terminal.site
    terminal.type(f"docker run --net={network} --ip=192.168.1.10 --name=one -d --init alpine sleep 600")
    assert "192.168.1.10/24" in terminal.type("docker exec one ip addr show eth0")
    assert on_parent(site, "one", parent)
    assert [each.parent for each in site.driver.admin.networks()] == [parent]


def test_1_repeated_option_and_a_list_with_blanks(terminal: Terminal) -> None:
    """Test 1: of two -o parent the last counts; bond0 is not there, so eth0 is taken."""
    terminal.type(f'{CREATE} {TWO_SUBNETS} -o parent=eth0 -o parent="bond0,  eth0,  eth1" {BRIDGE} mac1')
    runs_on(terminal, "mac1", "eth0")


def test_2_trailing_comma(terminal: Terminal) -> None:
    """Test 2: no blanks and a comma too many; eth1 comes before eth0."""
    terminal.type(f"{CREATE} --subnet=192.168.1.0/24 --gateway=192.168.1.254 -o parent=bond0,eth1,eth0, {BRIDGE} mac2")
    runs_on(terminal, "mac2", "eth1")


def test_3_blanks_and_a_trailing_comma(terminal: Terminal) -> None:
    """Test 3: extra blanks and a comma too many."""
    terminal.type(f'{CREATE} {TWO_SUBNETS} -o parent="bond0,  eth1,  eth0," {BRIDGE} mac3')
    runs_on(terminal, "mac3", "eth1")


def test_4_single_parent(terminal: Terminal) -> None:
    """Test 4: one parent and two subnets, each with its gateway."""
    terminal.type(f"{CREATE} {TWO_SUBNETS} -o parent=eth0 {BRIDGE} mac4")
    runs_on(terminal, "mac4", "eth0")
    assert "default via 192.168.1.1 " in terminal.type("docker exec one ip route")
    other = terminal.type("docker run --net=mac4 --ip=192.168.10.10 --rm alpine ip route")
    assert "default via 192.168.10.1 " in other


def test_5_an_invalid_interface_among_valid_ones(terminal: Terminal) -> None:
    """Test 5: a name that no interface has is passed over."""
    terminal.type(f'{CREATE} {TWO_SUBNETS} -o parent="toothbrush, eth1, eth0" {BRIDGE} mac5')
    runs_on(terminal, "mac5", "eth1")


IPV6_ONLY = "--ipv6 --subnet=fd1a::/64"


def test_6_on_a_host_without_foo(terminal: Terminal, site: Site) -> None:
    """Test 6, host 1: foo is not there, so the network stands on eth1."""
    terminal.type(f"{CREATE} {IPV6_ONLY} -o parent=foo,eth1,pancakes {BRIDGE} mac6")
    terminal.type("docker run --net=mac6 --ip6=fd1a::10 --name=one -d --init alpine sleep 600")
    assert "fd1a::10/64" in terminal.type("docker exec one ip -6 addr show eth0")
    assert on_parent(site, "one", "eth1")
    assert "1 packets received" in terminal.type("docker run --net=mac6 --rm alpine ping6 -c1 fd1a::10")


@pytest.mark.needs("8021q", "dummy")
def test_6_and_7_on_a_host_with_foo(terminal: Terminal, site: Site) -> None:
    """Tests 6 and 7, host 2: foo is there and comes first; without it, test 7 makes eth1.20."""
    terminal.type("ip link add foo type dummy")
    terminal.type("ip link set foo up")
    terminal.type(f"{CREATE} {IPV6_ONLY} -o parent=foo,eth1,pancakes {BRIDGE} mac6")
    terminal.type("docker run --net=mac6 --ip6=fd1a::10 --name=one -d --init alpine sleep 600")
    assert on_parent(site, "one", "foo")
    terminal.type("docker rm -f one")
    terminal.type("docker network rm mac6")
    assert site.link("foo") is not None

    seven = f"{CREATE} {IPV6_ONLY} -o parent=foo.10,eth1.20,pancakes {BRIDGE} mac7"
    terminal.type(seven)
    terminal.type("docker run --net=mac7 --ip6=fd1a::10 --name=one -d --init alpine sleep 600")
    assert is_tagged(site, "foo.10", 10, "foo")
    assert on_parent(site, "one", "foo.10")
    terminal.type("docker rm -f one")
    terminal.type("ip link del foo")  # takes foo.10 along, behind the driver's back
    terminal.type("docker network rm mac7")

    terminal.type(seven)
    assert is_tagged(site, "eth1.20", 20, "eth1")
    goes_with(terminal, "mac7", "eth1.20", "eth1")


NULL_PARENT = (
    f"{CREATE} --subnet=192.168.100.0/24 --subnet=192.168.110.0/24 --gateway=192.168.100.1 --gateway=192.168.110.1 "
    f"{BRIDGE} mac8"
)


@pytest.mark.needs("dummy")
def test_8_null_parent_in_local_scope(terminal: Terminal, site: Site) -> None:
    """Test 8, local scope: the network stands on a dummy of its own, which goes with it."""
    network = terminal.type(NULL_PARENT)
    dummy = f"dm-{network[:12]}"
    terminal.show("mac8", dummy)
    link = site.link(dummy)
    assert link is not None
    assert link["linkinfo"]["info_kind"] == "dummy"
    site.docker("network", "rm", "mac8")
    assert site.link(dummy) is None


@pytest.mark.parametrize("version", ENGINES)
def test_8_null_parent_in_global_scope(version: str) -> None:
    """Test 8, global scope: refused in the document's words, and nothing is made."""
    with Wire() as wire, Host("global") as host:
        wire.plug(host)
        driver = Driver(host, "--scope=global")
        driver.start()
        host.start_engine(version, image=False)
        site = Site(wire, host, driver, version)
        before = links(host)
        with pytest.raises(CommandError) as refused:
            site.shell(NULL_PARENT)
        text = "no parent interface was passed, use for example '-o parent=\"eth0,eth1,eth3\"'"
        assert f"Error response from daemon: remote: {text}" in refused.value.stderr
        assert site.state() == []
        assert links(host) == before
        driver.stop()
