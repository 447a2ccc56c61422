"""Findings of the doctor from facts (a table), and facts of the kernel from a tree of files."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from macvlan_global.doctor import kernel
from macvlan_global.doctor.examine import examine
from macvlan_global.doctor.facts import (
    DoctorFacts,
    DriverFacts,
    EngineFacts,
    KernelFacts,
    LinkFacts,
    ManagerFacts,
    NetworkFacts,
    PlatformFacts,
    PluginFacts,
    ProcessFacts,
    SocketFacts,
    StateFacts,
)
from macvlan_global.doctor.findings import Finding, report
from macvlan_global.doctor.network_managers import read_managers

ALL_RIGHTS = 1 << 12 | 1 << 21
WELL: dict[str, Any] = {
    "process": ProcessFacts("the driver", 7, ALL_RIGHTS),
    "kernel": KernelFacts("6.1", {"macvlan": "loaded", "8021q": "loadable", "dummy": "built in"}),
    "platform": PlatformFacts("QEMU", "Standard PC"),
    "engine": EngineFacts("unix:///run/docker.sock", version="28.5.2", plugins=("bridge", "macvlan-global")),
    "socket": SocketFacts("/run/docker/plugins/macvlan-global.sock", True, True, 0o600, 0),
    "driver": DriverFacts(version="1.0", processes=(7,), unit=True),
    "state": StateFacts("/var/lib/macvlan-global/state.db", True, size=4096, free=10**9),
    "config": "there is no /etc/macvlan-global/config.toml; the defaults apply",
}
LAN = NetworkFacts("lan", "eth0")


def problems(**changed: object) -> list[Finding]:
    """All that is not ok on a host that is well but for these facts."""
    return [each for each in examine(DoctorFacts(**WELL | changed)) if each.level != "ok"]


def on(*links: LinkFacts, networks: tuple[NetworkFacts, ...] = (LAN,), **changed: object) -> list[Finding]:
    """The same, for networks on these links."""
    return problems(networks=networks, links={link.name: link for link in links}, **changed)


def test_conflicts_are_warnings() -> None:
    """Each with its remedy."""
    (found,) = problems(conflicts=("address 10.8.0.9 is in conflict; give that device another address",))
    assert (found.level, found.check, found.do) == ("warning", "conflicts", "give that device another address")


def test_a_host_that_is_well_has_nothing_to_tell() -> None:
    """Every check says ok, none is left out, and none says what to do."""
    found = examine(DoctorFacts(**WELL, networks=(LAN,), links={"eth0": LinkFacts("eth0")}))
    assert {each.check for each in found} == {
        *("platform", "kernel", "rights", "engine", "driver", "socket", "config", "state", "parents")
    }
    assert report(found).worst == "ok"
    assert not any(each.do for each in found)


KERNEL: KernelFacts = WELL["kernel"]
ENGINE: EngineFacts = WELL["engine"]
SOCKET: SocketFacts = WELL["socket"]
PLUGIN = PluginFacts("macvlan-global:latest", "p1", True, "/run/macvlan-global/plugin.sock")
DISABLED = replace(PLUGIN, enabled=False)
NODE = EngineFacts("x", version="28.5.2", swarm=True, plugin=PLUGIN)


def modules(**states: str) -> KernelFacts:
    """A kernel with these modules otherwise than well; `8021q` is spelled `vlan`."""
    renamed = {"8021q" if name == "vlan" else name: state for name, state in states.items()}
    return KernelFacts("6.1", KERNEL.modules | renamed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "level", "seen", "do"),
    [
        ({"kernel": modules(macvlan="missing")}, "error", "has no macvlan: no network", "modules-extra"),
        ({"kernel": modules(vlan="missing")}, "warning", "has no 8021q: parents such as eth0.10", "modules-extra"),
        ({"kernel": modules(dummy="missing")}, "warning", "has no dummy: networks without a parent", "modules-extra"),
        ({"kernel": modules(vlan="unknown")}, "note", "has 8021q cannot be told", "modprobe 8021q"),
        ({"process": ProcessFacts("the driver", 7, 1 << 12)}, "error", "pid 7) lacks CAP_SYS_ADMIN", "as root"),
        ({"process": ProcessFacts("the driver", 7, 0)}, "error", "CAP_NET_ADMIN and CAP_SYS_ADMIN", "as root"),
        (
            {"engine": EngineFacts("unix:///x", "refused")},
            "error",
            "does not answer: refused",
            "systemctl start docker",
        ),
        ({"engine": EngineFacts("x", version="19.03.8")}, "warning", "19.03.8 is older than 20.10", "upgrade"),
        ({"engine": EngineFacts("x", version="30.0.1")}, "note", "30.0.1 is newer than 29", "newer macvlan-global"),
        ({"engine": EngineFacts("x", version="dev")}, "note", "'dev' cannot be read", "20.10 to 29"),
        (
            {"engine": EngineFacts("x", version="28.0.0", swarm=True)},
            "note",
            "in a swarm",
            "install the managed plugin on every node",
        ),
        (
            {
                "engine": replace(NODE, plugin=replace(PLUGIN, enabled=False)),
                "driver": DriverFacts("away", managed=True),
            },
            "error",
            "plugin macvlan-global:latest is disabled",
            "docker plugin enable macvlan-global:latest",
        ),
        ({"engine": NODE, "driver": DriverFacts("away", managed=True)}, "error", "away", "the engine's log"),
        ({"engine": NODE, "driver": DriverFacts(processes=(7, 8), unit=True)}, "warning", "2 drivers run", "stop"),
        ({"engine": EngineFacts("x", version="28.0.0", rootless=True)}, "error", "is rootless", "runs as root"),
        (
            {"engine": EngineFacts("x", version="28.0.0", system="Docker Desktop")},
            "error",
            "Docker Desktop runs the engine in a virtual machine",
            "on a Linux machine",
        ),
        ({"platform": PlatformFacts(wsl=True)}, "error", "Windows Subsystem for Linux", "on a Linux machine"),
        ({"platform": PlatformFacts(container=True)}, "note", "inside a container", "on the host"),
        ({"platform": PlatformFacts("VMware, Inc.", "VMware7,1")}, "warning", "VMware drops", "forged transmits"),
        ({"platform": PlatformFacts("innotek GmbH", "VirtualBox")}, "warning", "VirtualBox drops", "Promiscuous Mode"),
        (
            {"platform": PlatformFacts("Microsoft Corporation", "Virtual Machine")},
            "warning",
            "Hyper-V drops",
            "-MacAddressSpoofing On",
        ),
        ({"platform": PlatformFacts("Amazon EC2", "t3.micro")}, "warning", "Amazon EC2 drops", "within this machine"),
        (
            {"platform": PlatformFacts("Google", "Google Compute Engine")},
            "warning",
            "Google Cloud drops",
            "within this",
        ),
        ({"platform": PlatformFacts("OpenStack Foundation", "Nova")}, "warning", "port security", "openstack port set"),
        ({"driver": DriverFacts("the driver is not running", unit=True)}, "error", "not running", "systemctl start"),
        ({"driver": DriverFacts("the driver is not running")}, "error", "not running", "macvlan-global install"),
        ({"driver": DriverFacts("no answer in time", silent=True)}, "error", "no answer", "restart the driver"),
        (
            {"driver": DriverFacts(processes=(7, 8), unit=True)},
            "warning",
            "2 drivers run on this host: pids 7, 8",
            "stop",
        ),
        (
            {"driver": DriverFacts(spec_files=("/etc/docker/plugins/macvlan-global.spec",))},
            "warning",
            ".spec",
            "remove",
        ),
        ({"driver": DriverFacts("a is for root; use sudo", closed=True)}, "warning", "cannot be told", "use sudo"),
        (
            {"driver": DriverFacts(unused_store="etcd://a")},
            "warning",
            "the scope is local, and etcd://a is not used",
            "take the label macvlan-global.scope=local away",
        ),
        ({"driver": DriverFacts(alone=True)}, "warning", "no other host has its networks", "set store to a consul://"),
        ({"driver": DriverFacts(unit=False)}, "note", "does not start with the machine", "macvlan-global install"),
        (
            {"driver": DriverFacts(engine_problem="away", unit=True)},
            "warning",
            "not to the driver: away",
            "docker_host",
        ),
        ({"socket": SocketFacts(SOCKET.path)}, "error", "plugin socket /run/docker/plugins", "restart"),
        ({"socket": SocketFacts(SOCKET.path, True)}, "error", "is no socket", "remove it"),
        ({"socket": SocketFacts(SOCKET.path, True, True, 0o666)}, "warning", "has mode 0666 and owner 0", "chmod 0600"),
        ({"socket": SocketFacts(SOCKET.path, True, True, 0o600, 33)}, "warning", "owner 33", "chown root:root"),
        ({"socket": SocketFacts("/tmp/x.sock", True, True, 0o600)}, "warning", "does not look", "/run/docker/plugins"),
        ({"config_problem": "unknown key 'sokcet' in /x"}, "error", "unknown key 'sokcet'", "correct it"),
        (
            {"state": StateFacts("/s", True, "/s is damaged. It was left as it is. Put back")},
            "error",
            "/s is damaged",
            "Put",
        ),
        (
            {"state": StateFacts("/s", True, foreign=("networks/a",))},
            "warning",
            "newer version",
            "newer macvlan-global",
        ),
        ({"state": StateFacts("/s", True, size=3 * 10**8)}, "note", "grown to 300 MB", "macvlan-global addresses"),
        ({"state": StateFacts("/s", True, free=2 * 10**6)}, "warning", "only 2000 kB are free", "make room"),
        ({"state": StateFacts("/s", True, free=0)}, "error", "only 0 kB are free", "make room"),
    ],
)
def test_one_thing_is_wrong(changed: dict[str, object], level: str, seen: str, do: str) -> None:
    """One fact otherwise than well gives one finding, of this level, that says what was seen and what to do."""
    (found,) = problems(**changed)
    assert (found.level, seen in found.seen, do in found.do) == (level, True, True), found


def test_a_managed_plugin_has_no_service_and_no_socket_of_ours() -> None:
    """The engine starts it and makes its socket; a service of this host may run beside it."""
    managed = DriverFacts(version="1.0", processes=(7,), unit=False, managed=True)
    assert problems(engine=NODE, driver=managed, socket=SocketFacts("/run/docker/plugins/x.sock")) == []
    assert problems(engine=NODE, driver=DriverFacts(version="1.0", processes=(8,), unit=True)) == []


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "23.0.1", "28.5.2+dfsg4", "29.0.0"])
def test_engines_that_are_known_are_well(version: str) -> None:
    """From 20.10 to 29, however a distribution decorates them."""
    assert problems(engine=EngineFacts("x", version=version)) == []


@pytest.mark.parametrize(
    ("links", "level", "seen", "do"),
    [
        ((), "error", "eth0 (network lan) does not exist", "macvlan-global parents lan"),
        ((LinkFacts("eth0", up=False, carrier=None),), "error", "eth0 (network lan) is down", "ip link set eth0 up"),
        ((LinkFacts("eth0", carrier=False),), "warning", "no carrier", "cable"),
        ((LinkFacts("eth0", wireless=True),), "error", "Wi-Fi carries one MAC only", "wired"),
        ((LinkFacts("eth0", port_of="br0"),), "error", "is a port of br0", "use br0 as the parent"),
        ((LinkFacts("eth0", port_of="ovs-system"),), "error", "is a port of Open vSwitch", "internal port"),
        ((LinkFacts("eth0", ethernet=False),), "error", "is not an Ethernet link", "use one that is"),
        ((LinkFacts("eth0", bond_mode="balance-alb"),), "warning", "rewrites MACs", "802.3ad"),
        ((LinkFacts("eth0", bond_mode="balance-tlb"),), "warning", "rewrites MACs", "802.3ad"),
        (
            (LinkFacts("eth0", bond_mode="active-backup", fail_over_mac="active"),),
            "warning",
            "fail_over_mac=active",
            "fail_over_mac=none",
        ),
        (
            (LinkFacts("eth0", below=("bond0",)), LinkFacts("bond0", bond_mode="balance-alb")),
            "warning",
            "eth0 (network lan), on bond0: a bond in mode balance-alb",
            "802.3ad",
        ),
    ],
)
def test_parents_that_are_not_well(links: tuple[LinkFacts, ...], level: str, seen: str, do: str) -> None:
    """One finding for each, which names parent and network."""
    (found,) = on(*links)
    assert (found.level, seen in found.seen, do in found.do) == (level, True, True), found


def test_a_network_of_the_cluster_may_have_no_parent_here() -> None:
    """That is as it should be on a host with other interfaces: a note, which names the network."""
    (found,) = on(networks=(NetworkFacts("far", ""),))
    assert (found.level, found.seen) == ("note", "no parent for far: no container can start there on this host")
    assert "macvlan-global parents far" in found.do


def test_what_is_below_a_sub_interface_counts_too() -> None:
    """Wi-Fi, carrier, state and MTU of the link below are told, with its name."""
    below = LinkFacts("wlan0", up=False, carrier=None, wireless=True, mtu=1400)
    found = on(LinkFacts("eth0", below=("wlan0",)), below)
    texts = [each.seen for each in found]
    assert [each.level for each in found] == ["error", "error", "warning"]
    assert "eth0 (network lan), on wlan0: Wi-Fi" in texts[0]
    assert "on wlan0, which is down" in texts[1]
    assert "MTU 1500, and wlan0 below it 1400" in texts[2]


def test_links_that_stand_on_each_other_in_a_ring_end() -> None:
    """A veth pair has each end as the link below the other."""
    assert on(LinkFacts("eth0", below=("eth1",)), LinkFacts("eth1", below=("eth0",))) == []


def test_a_network_that_wants_more_than_its_parent_carries() -> None:
    """The MTU of the network is above that of the parent."""
    (found,) = on(LinkFacts("eth0"), networks=(NetworkFacts("lan", "eth0", mtu=9000),))
    assert (found.level, "asks for 9000" in found.seen) == ("error", True)


@pytest.mark.parametrize(("filtered", "count"), [(True, 1), (False, 0), (None, 0)])
def test_a_bridge_as_parent_is_filtered_by_iptables(filtered: bool | None, count: int) -> None:
    """Only with br_netfilter on, and only a bridge."""
    kernel_facts = KernelFacts("6.1", KERNEL.modules, bridge_filter=filtered)
    found = on(LinkFacts("eth0", bridge=True), kernel=kernel_facts)
    assert ["bridge-nf-call-iptables" in each.seen for each in found] == [True] * count
    assert on(LinkFacts("eth0"), kernel=kernel_facts) == []


@pytest.mark.parametrize(
    ("kernel_facts", "ipv6", "levels"),
    [
        (KernelFacts("6.1", KERNEL.modules, has_ipv6=False), True, ["error"]),
        (KernelFacts("6.1", KERNEL.modules, has_ipv6=False), False, ["note"]),
        (KernelFacts("6.1", KERNEL.modules, ipv6_off=True), True, ["note"]),
        (KernelFacts("6.1", KERNEL.modules, ipv6_off=True), False, []),
    ],
)
def test_ipv6_that_is_off(kernel_facts: KernelFacts, *, ipv6: bool, levels: list[str]) -> None:
    """It matters as much as there are networks that want it."""
    found = on(LinkFacts("eth0"), networks=(NetworkFacts("lan", "eth0", ipv6=ipv6),), kernel=kernel_facts)
    assert [each.level for each in found] == levels


def test_bonds_that_leave_macs_alone_are_well() -> None:
    """The usual modes."""
    for mode in ("802.3ad", "active-backup", "balance-xor", "balance-rr", "broadcast"):
        assert on(LinkFacts("eth0", bond_mode=mode, fail_over_mac="none")) == []


def test_a_network_without_a_gateway_is_told() -> None:
    """Nobody was told when it was created."""
    (found,) = on(LinkFacts("eth0"), networks=(replace(LAN, gateway=False),))
    assert (found.level, "no gateway for lan: containers have no default route" in found.seen) == ("note", True)
    assert "--gateway" in found.do


def test_networks_on_one_wire_that_do_not_know_each_other_are_told() -> None:
    """Different address spaces, or IPAM drivers, with addresses in common; not on wires of their own."""
    red = NetworkFacts("red", "eth0", subnets=(("red", "10.0.0.0/24"),))
    blue = NetworkFacts("blue", "eth0", subnets=(("blue", "10.0.0.128/25"),))
    (found,) = on(LinkFacts("eth0"), networks=(red, blue))
    assert found.level == "warning"
    assert "networks blue and red are on one wire (eth0)" in found.seen
    assert "10.0.0.128/25 and 10.0.0.0/24" in found.seen
    builtin = replace(ENGINE, neighbours=(NetworkFacts("old", "eth0", subnets=(("", "10.0.0.0/16"),)),))
    (found,) = on(LinkFacts("eth0"), networks=(red,), engine=builtin)
    assert "networks old and red are on one wire (eth0)" in found.seen
    links = (LinkFacts("eth0"), LinkFacts("eth1"))
    for other in (
        replace(blue, parent="eth1"),
        replace(blue, subnets=(("red", "10.0.0.0/24"),)),
        replace(blue, subnets=(("blue", "10.0.1.0/24"), ("blue", "fd00::/64"))),
    ):
        assert on(*links, networks=(red, other)) == []


def test_network_managers_that_would_make_a_host_of_our_links_are_told() -> None:
    """A wildcard by its file, with the link; NetworkManager without the rule."""
    managers = ManagerFacts((("/etc/systemd/network/10-all.network", "eth0.65"),), unguarded=True)
    wildcard, unguarded = on(LinkFacts("eth0"), managers=managers)
    assert (wildcard.level, unguarded.level) == ("warning", "note")
    assert "/etc/systemd/network/10-all.network of systemd-networkd matches eth0.65" in wildcard.seen
    assert "macvlan-global install" in wildcard.do
    assert "macvlan-global install" in unguarded.do


OURS = "[Match]\nName=macvlan-global-* mg-0\n[Link]\nUnmanaged=yes\n"


@pytest.mark.parametrize(
    ("files", "caught"),
    [
        ({"10-all.network": "[Match]\nName=eth*\n[Network]\nDHCP=yes"}, True),
        ({"10-all.network": "[Match]\nName=*\n"}, True),
        ({"10-all.network": "[Match]\nName=en* eth0.*\n"}, True),
        ({"10-all.network": "[Match]\nName=!lo\n"}, True),
        ({"10-all.network": "[Match]\nType=vlan\n"}, True),
        ({"10-all.network": "[Match]\nKind=vlan\n"}, True),
        ({"10-all.network": "[Match]\nName=eth0\n"}, False),
        ({"10-all.network": "[Match]\nName=!eth0.65\n"}, True),
        ({"10-all.network": "[Match]\nName=!eth0.65 macvlan-global-*\n"}, False),
        ({"10-all.network": "[Match]\nName=eth*\nType=ether\n"}, False),
        ({"10-all.network": "[Match]\nName=eth*\nType=!vlan bond\n"}, False),
        ({"10-all.network": "[Match]\nName=eth*\nDriver=virtio_net\n"}, False),
        ({"10-all.network": "[Match]\n"}, False),
        ({"10-all.network": "# nothing\nName=eth*\n"}, False),
        ({"00-macvlan-global.network": OURS, "10-all.network": "[Match]\nName=eth*\n"}, False),
        ({"00-a.network": "[Match]\nName=eth*\n", "00-macvlan-global.network": OURS}, True),
        (
            {"05-mine.network": "[Match]\nName=eth0.65\n[Link]\nUnmanaged=true\n", "10-x.network": "[Match]\nName=*"},
            False,
        ),
        ({"10-all.link": "[Match]\nName=eth*\n"}, False),
    ],
)
def test_a_file_of_networkd_catches_our_link_or_does_not(
    tmp_path: Path, files: dict[str, str], *, caught: bool
) -> None:
    """The first that matches it counts, by its name or its alternative name."""
    write(tmp_path, {f"etc/systemd/network/{name}": text for name, text in files.items()})
    (tmp_path / "run/systemd/netif").mkdir(parents=True)
    found = read_managers(tmp_path, [("eth0.65", "vlan")])
    assert bool(found.wildcards) is caught
    assert read_managers(tmp_path, []) == ManagerFacts()


def test_a_file_of_etc_counts_before_one_of_usr(tmp_path: Path) -> None:
    """Of the same name; without networkd none does."""
    files: dict[str, str | bytes] = {
        "usr/lib/systemd/network/10-a.network": "[Match]\nName=*\n",
        "etc/systemd/network/10-a.network": "[Match]\nName=eth9\n",
    }
    write(tmp_path, files)
    (tmp_path / "run/systemd/netif").mkdir(parents=True)
    assert read_managers(tmp_path, [("eth0.65", "vlan")]) == ManagerFacts()
    (tmp_path / "etc/systemd/network/10-a.network").unlink()
    assert read_managers(tmp_path, [("eth0.65", "vlan")]).wildcards
    (tmp_path / "run/systemd/netif").rmdir()
    assert read_managers(tmp_path, [("eth0.65", "vlan")]) == ManagerFacts()


def test_bonds_and_hardware_are_read_from_sysfs(tmp_path: Path) -> None:
    """The words of the bonding driver, without their numbers."""
    write(
        tmp_path,
        {
            "sys/class/net/bond0/type": "1\n",
            "sys/class/net/bond0/bonding/mode": "balance-alb 6\n",
            "sys/class/net/bond0/bonding/fail_over_mac": "none 0\n",
            "sys/class/net/tun0/type": "65534\n",
        },
    )
    links = kernel.read_links(tmp_path)
    assert (links["bond0"].bond_mode, links["bond0"].fail_over_mac, links["bond0"].ethernet) == (
        "balance-alb",
        "none",
        True,
    )
    assert not links["tun0"].ethernet


def test_one_finding_for_a_parent_of_several_networks() -> None:
    """All are named, up to what can be read."""
    networks = tuple(NetworkFacts(f"n{number}", "eth0") for number in range(7))
    (found,) = on(networks=networks)
    assert "networks n0, n1, n2, n3, n4 and 2 more" in found.seen


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """A tree of files below a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


@pytest.mark.parametrize(
    ("files", "states"),
    [
        ({"proc/modules": "macvlan 32768 1 - Live\n8021q 40960 0\n"}, ("loaded", "loaded", "unknown")),
        ({"proc/config.gz": gzip.compress(b"CONFIG_MACVLAN=y\n")}, ("built in", "missing", "missing")),
        ({"boot/config-6.1-x": "CONFIG_MACVLAN=y\nCONFIG_DUMMY=m\n"}, ("built in", "missing", "unknown")),
        ({"lib/modules/6.1-x/modules.builtin": "kernel/drivers/net/macvlan.ko\n"}, ("built in", "unknown", "unknown")),
        (
            {"lib/modules/6.1-x/modules.dep": "kernel/net/8021q/8021q.ko.xz: kernel/x.ko\nkernel/net/dummy.ko.zst:\n"},
            ("missing", "loadable", "loadable"),
        ),
        ({}, ("unknown", "unknown", "unknown")),
    ],
)
def test_modules_are_found_wherever_a_kernel_tells(
    tmp_path: Path, files: dict[str, str | bytes], states: tuple[str, ...]
) -> None:
    """Loaded, built in, loadable or missing; a kernel that tells nothing is not taken for one without."""
    root = write(tmp_path, files | {"proc/sys/kernel/osrelease": "6.1-x\n"})
    found = kernel.read_kernel(root).modules
    assert tuple(found[name] for name in ("macvlan", "8021q", "dummy")) == states


def test_the_machine_underneath_is_read_from_dmi(tmp_path: Path) -> None:
    """Vendor and product, and the names by which WSL and containers are known."""
    dmi = "sys/class/dmi/id"
    root = write(
        tmp_path,
        {
            f"{dmi}/sys_vendor": "QEMU\n",
            f"{dmi}/product_name": "Standard PC\n",
            f"{dmi}/chassis_asset_tag": "OracleCloud.com\n",
            "proc/sys/kernel/osrelease": "5.15.90.1-microsoft-standard-WSL2\n",
            ".dockerenv": "",
        },
    )
    assert kernel.read_platform(root) == PlatformFacts("QEMU", "Standard PC OracleCloud.com", wsl=True, container=True)


COMMANDS = {
    2: "/usr/bin/python3\0-BIS\0/usr/bin/macvlan-global\0serve\0",
    3: "/opt/mg/bin/python3.11\0-m\0macvlan_global\0serve\0--config\0/x.toml\0",
    4: "/usr/local/bin/macvlan-global\0serve\0",
    5: "timeout\00060\0macvlan-global\0serve\0",
    6: "sudo\0python3\0-m\0macvlan_global\0serve\0",
    7: "/usr/bin/python3\0/usr/bin/macvlan-global\0status\0",
    8: "/usr/bin/python3.11\0-m\0macvlan_global\0serve\0",
    9: "serve\0",
    10: "vi\0macvlan-global\0",
}
"""Command lines of processes by their ids."""


def test_drivers_are_those_that_serve_in_our_root_folder(tmp_path: Path) -> None:
    """A program that waits for a driver is none, and a managed plugin, whose root folder is its own, no second one."""
    root = write(tmp_path, {f"proc/{number}/cmdline": words for number, words in COMMANDS.items()})
    for name in ("self", *map(str, COMMANDS)):
        (root / "proc" / name / "ns").mkdir(parents=True)
        (root / "proc" / name / "ns/net").symlink_to("net:[4711]")
        (root / "proc" / name / "root").symlink_to(root / "proc" / name if name == "8" else root)
    (root / "proc/4/root").unlink()
    assert kernel.find_drivers(root) == (2, 3, 4)


def test_wifi_is_seen_by_its_folder(tmp_path: Path) -> None:
    """`phy80211` or `wireless` in sysfs."""
    files: dict[str, str | bytes] = {"flags": "0x1003\n", "mtu": "1500\n", "carrier": "0\n", "phy80211/name": "phy0\n"}
    root = write(tmp_path, {f"sys/class/net/wlan0/{name}": text for name, text in files.items()})
    assert kernel.read_links(root) == {"wlan0": LinkFacts("wlan0", carrier=False, wireless=True)}
