"""What two hosts of a cluster know of each other's wire: addresses of hosts, of stopped containers, and MACs."""

import json
from functools import partial

from lab import DockerError, Host
from lab.cluster_site import ClusterSite, settle
from lab.site import Site
from macvlan_global.admin.messages import ConflictView

SMALL = ("--subnet=10.62.0.0/29", "--gateway=10.62.0.1", "-o", "parent=eth1")
"""It has five addresses for containers."""
FIRST = "10.62.0.2"
MAC = "--mac-address=02:42:0a:3e:00:99"


def _words(site: Site, *options: str) -> str:
    """The refusal of a container with these options, "" if it starts."""
    try:
        site.run("mac", *options, "alpine", "true")
    except DockerError as error:
        return error.stderr
    return ""


def _says(site: Site, words: str, *options: str) -> bool:
    return words in _words(site, *options)


def _starts(site: Site, *options: str) -> bool:
    return not _words(site, *options)


def _watches(site: Site) -> bool:
    watch = site.driver.admin.status().watch
    return watch is not None and "eth1" in watch.parents


def _conflicts(site: Site, mac: str) -> list[ConflictView]:
    return [each for each in site.driver.admin.conflicts() if each.mac == mac]


def _announce(device: Host) -> None:
    device.run(["arping", "-c", "1", "-U", "-I", "lan0", FIRST], check=False)


def _sees(site: Site, mac: str, device: Host | None = None) -> bool:
    """Whether a host has seen a device with this MAC, which may announce itself again."""
    if device:
        _announce(device)
    return bool(_conflicts(site, mac))


def _names(site: Site, mac: str, device: Host) -> bool:
    """Whether it knows the name of the container whose address that is."""
    _announce(device)
    return [each.container for each in _conflicts(site, mac)] == ["static"]


def test_the_address_of_a_host_is_no_container_s_anywhere(cluster: ClusterSite) -> None:
    """It came after the network, on an interface that is no parent; once it is gone, a container may have it."""
    one, two = cluster.sites
    one.create("mac", *SMALL)
    cluster.wait_for("mac")
    own = f"{FIRST}/29"
    two.host.run(["ip", "address", "add", own, "dev", "eth0"])
    try:
        for site, who in ((one, f"host {two.host.name}"), (two, "this host")):
            why = f"address {FIRST} is in use: {who} has it on eth0"
            settle(site, partial(_says, site, why, f"--ip={FIRST}"), f"refusal of {FIRST}")
        for number, site in enumerate((one, two, one, two)):
            site.start("mac", f"c{number}")
            assert site.address(f"c{number}", "mac") != FIRST
        assert "no free address" in one.refusal("run", "--rm", "--network=mac", "alpine", "true")
    finally:
        two.host.run(["ip", "address", "del", own, "dev", "eth0"])
    settle(one, partial(_starts, one, f"--ip={FIRST}"), f"{FIRST} being free")


def test_a_stopped_container_elsewhere_keeps_its_address(cluster: ClusterSite) -> None:
    """It was given with --ip: containers of another host get all others before, and it starts again. Both hosts see a
    device that announces it then, although the container is silent."""
    one, two = cluster.sites
    one.create("mac", *SMALL)
    cluster.wait_for("mac")
    two.start("mac", "static", f"--ip={FIRST}")
    two.docker("stop", "-t", "1", "static")
    others = [f"c{number}" for number in range(4)]
    for name in others:
        one.start("mac", name)
    assert FIRST not in {one.address(name, "mac") for name in others}
    two.docker("start", "static")
    assert two.address("static", "mac") == FIRST
    for site in (one, two):
        settle(site, partial(_watches, site), "watch for conflicts")
    with Host("device", group="one-wire") as device:
        cluster.wire.plug(device, "lan0", addresses=[f"{FIRST}/29"])
        mac = str(json.loads(device.run(["ip", "-json", "link", "show", "dev", "lan0"]).stdout)[0]["address"])
        settle(two, partial(_sees, two, mac, device), "conflict of its container")
        settle(one, partial(_sees, one, mac), "conflict of the other one's container")  # the device is silent by now
        for site in (one, two):  # an engine says the name of a container a moment after it started
            settle(site, partial(_names, site, mac, device), "name of that container")
    for site, ours in ((one, False), (two, True)):
        (found,) = _conflicts(site, mac)
        assert (found.address, found.container, found.host) == (FIRST, "static", two.host.name)
        assert (f"on host {two.host.name}" in found.holder) == (not ours)


def test_a_mac_is_on_one_host_only(cluster: ClusterSite) -> None:
    """The second container with it is refused with the name of the first, until that is gone."""
    one, two = cluster.sites
    one.create("mac", *SMALL)
    cluster.wait_for("mac")
    one.start("mac", "first", MAC)
    said = two.refusal("run", "--rm", "--network=mac", MAC, "alpine", "true")
    assert "--mac-address 02:42:0a:3e:00:99 is in use on network mac: " in said
    named = f"container first on host {one.host.name} has it"
    settle(two, partial(_says, two, named, MAC), "name of the first")
    one.docker("rm", "-f", "first")
    two.start("mac", "second", MAC)
    said = one.refusal("run", "--rm", "--network=mac", MAC, "alpine", "true")
    assert f"on host {two.host.name} has it" in said


def test_a_network_without_ip_management_is_on_all_hosts(cluster: ClusterSite) -> None:
    """Its containers have a link each, and no address; removed on one host, it goes from all."""
    one, two = cluster.sites
    one.docker("network", "create", "-d", "macvlan-global", "--ipam-driver", "null", "-o", "parent=eth1", "mac")
    cluster.wait_for("mac")
    for site in (one, two):
        shown = site.run("mac", "alpine", "ip", "address", "show", "eth0")
        assert ",UP," in shown
        assert "inet " not in shown
    assert two.driver.admin.addresses() == []
    two.docker("network", "rm", "mac")
    cluster.wait_gone("mac")


def test_hosts_and_containers_of_a_cluster_reach_each_other(cluster: ClusterSite) -> None:
    """With host access a host reaches its own containers over its shim and those of the other host over the wire, from
    its own address, and both hosts are reached from all of them."""
    one, two = cluster.sites
    own = {one: "10.63.0.4", two: "10.63.0.5"}
    for site, address in own.items():
        site.host.run(["ip", "address", "add", f"{address}/29", "dev", "eth1"])
    try:
        one.create("mac", "--subnet=10.63.0.0/29", "-o", "parent=eth1", "-o", "host_access=true")
        cluster.wait_for("mac")
        containers = {one: "10.63.0.2", two: "10.63.0.3"}  # no host need know of the other one's address yet
        for site, address in containers.items():
            site.start("mac", "web", f"--ip={address}")
        for site in own:
            for target in containers.values():
                assert site.host.run(["ping", "-c1", "-W5", target], check=False).returncode == 0
            for target in own.values():
                assert site.reaches("web", target)
            over = site.shell("ip route show dev mgh-eth1")
            assert [each in over for each in containers.values()] == [each == site for each in own]
        assert [each.kind for each in one.driver.admin.addresses()].count("host") == 0
    finally:
        for site, address in own.items():
            site.host.run(["ip", "address", "del", f"{address}/29", "dev", "eth1"])
