"""A network that is made on one host is there on all of them, and goes from all of them."""

import json
import re
import shlex
from functools import partial
from typing import Any

import pytest

from lab import DockerError
from lab.cluster_site import ClusterSite, at_once, networks, settle
from lab.site import Site
from lab.unixhttp import ask

TAKEN_BACK_SECONDS = 40.0
"""A host takes a removal back after ten seconds, and looks seldom meanwhile."""
MAC = ("--subnet=10.31.0.0/24", "--gateway=10.31.0.254", "-o", "parent=eth1")


def definition(site: Site, name: str) -> dict[str, object]:
    """What the engine says of a network, as far as it is the same on every host."""
    found = site.engine("GET", f"/networks/{name}")
    same = ("Name", "Scope", "Driver", "EnableIPv6", "Internal", "Attachable", "Options", "Labels")
    subnets = sorted(found["IPAM"]["Config"], key=lambda each: str(each["Subnet"]))
    return {key: found[key] for key in same} | {"Subnets": subnets, "IPAM": found["IPAM"]["Driver"]}


def problems(site: Site) -> str:
    """What `status --json` says is wrong on a host."""
    return "\n".join(site.driver.ask("status")["problems"])


def works(site: Site, network: str) -> bool:
    """Whether a container starts on a network."""
    try:
        site.run(network, "alpine", "true")
    except DockerError:
        return False
    return True


def creates(site: Site, *arguments: str) -> bool:
    """Whether a network can be created: its subnet is free a moment after the last host has removed the one before."""
    try:
        site.create(*arguments)
    except DockerError:
        return False
    return True


def test_the_same_definition_on_each_host(cluster: ClusterSite) -> None:
    """Options, labels, subnets, ranges and exclusions are those of the command, whichever host it was typed on."""
    for number, (here, there) in enumerate([cluster.sites, cluster.sites[::-1]]):
        subnets = [f"--subnet=10.3{number}.0.0/24", f"--ip-range=10.3{number}.0.128/25", f"--subnet=fd3{number}::/64"]
        aux = [f"--aux-address=printer=10.3{number}.0.5", f"--gateway=10.3{number}.0.1"]
        more = ["--label=team=blue", "--internal", "--attachable", "-o", "parent=nosuch,eth1", "-o", "mtu=1400"]
        here.create(f"net{number}", "--ipv6", *subnets, *aux, *more)
        cluster.wait_for(f"net{number}")
        assert definition(there, f"net{number}") == definition(here, f"net{number}")
        there.docker("network", "rm", f"net{number}")
        cluster.wait_gone(f"net{number}")


def test_removed_elsewhere_with_its_last_container(cluster: ClusterSite) -> None:
    """Where a container runs, a removed network stays until it has gone; a name is free for another one at once."""
    one, two = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    two.start("mac", "two", "--ip=10.31.0.2")
    one.docker("network", "rm", "mac")
    settle(two, lambda: "network mac was removed" in problems(two), "word of the removal")
    assert networks(two).keys() == {"mac"}
    assert [each.address for each in two.driver.admin.addresses() if each.kind == "endpoint"] == ["10.31.0.2"]
    assert not works(two, "mac")
    two.docker("rm", "-f", "two")
    cluster.wait_gone("mac")
    settle(one, partial(creates, one, "mac", *MAC), "subnet that is free again")
    cluster.wait_for("mac")
    assert works(two, "mac")


def test_a_stopped_container_elsewhere_keeps_its_network(cluster: ClusterSite) -> None:
    """A prune on one host takes no network from a stopped container on another: it is there again, and it starts."""
    one, two = cluster.sites
    mtu = "com.docker.network.driver.mtu=1400"
    one.create("kept", "--subnet=10.38.0.0/24", "--gateway=10.38.0.1", "-o", "parent=eth1", "-o", mtu)
    cluster.wait_for("kept")
    two.start("kept", "app", "--ip=10.38.0.9")
    assert "mtu 1400" in two.inside("app", "ip", "link", "show", "eth0")
    two.docker("stop", "-t", "1", "app")
    one.docker("network", "prune", "-f")
    kept = "is kept for stopped containers of this host: app"
    settle(two, lambda: kept in problems(two), "word of it", seconds=TAKEN_BACK_SECONDS)
    settle(one, lambda: networks(one).keys() == {"kept"}, "the network again", seconds=TAKEN_BACK_SECONDS)
    two.docker("start", "app")
    assert works(one, "kept")
    two.docker("rm", "-f", "app")
    one.docker("network", "rm", "kept")
    cluster.wait_gone("kept")


def test_names_with_a_slash(cluster: ClusterSite) -> None:
    """`tenant/lan` and `tenant_lan` are two networks on each host, and nobody complains."""
    one, two = cluster.sites
    for number, name in enumerate(("tenant/lan", "tenant_lan")):
        one.create(name, f"--subnet=10.39.{number}.0/24", "-o", "parent=eth1")
    settle(two, lambda: networks(two).keys() == {"tenant/lan", "tenant_lan"}, "both networks")
    two.run("tenant/lan", "alpine", "true")
    assert problems(one) == problems(two) == ""
    two.docker("network", "rm", networks(two)["tenant/lan"])
    settle(one, lambda: networks(one).keys() == {"tenant_lan"}, "the removal of one")


def test_one_name_at_the_same_instant(cluster: ClusterSite) -> None:
    """Two hosts make different networks of one name at once: one wins, and the other host says why its own is none."""
    one, two = cluster.sites
    make_both_at_once(cluster)
    settle(one, lambda: len(_losers(cluster)) == 1, "one host that lost")
    (loser,) = _losers(cluster)
    (winner,) = {one, two} - {loser}
    assert works(winner, "both")
    # an engine may have made both, as it looks for the name before and not while it makes a network
    settle(loser, lambda: len(_named_both(loser)) == 1, "end of the copy")
    with pytest.raises(DockerError, match=winner.host.name):
        loser.run("both", "alpine", "true")
    loser.docker("network", "rm", "both")
    settle(loser, lambda: "both" in networks(loser), "the cluster's network")
    settle(loser, lambda: problems(loser) == "", "end of the conflict")
    assert definition(loser, "both") == definition(winner, "both")
    assert works(loser, "both")


def make_both_at_once(cluster: ClusterSite) -> None:
    """Create a network on each host, of one name, until neither was there before the other was asked for."""
    for attempt in range(20):
        replies = at_once(partial(_create, site, f"10.4{n}.0.0/24") for n, site in enumerate(cluster.sites))
        if all(status == 201 for status, _ in replies):
            return
        # the other one's was here already: also its creator sees why
        (refused,) = [reply["message"] for status, reply in replies if status != 201]
        assert "network with name both already exists" in refused, attempt
        cluster.clean()
    raise AssertionError("one was always there before the other")


def _create(site: Site, subnet: str) -> tuple[int, Any]:
    wanted = {
        "Name": "both",
        "CheckDuplicate": True,  # engine 20.10 asks for it, later ones always look
        "Driver": "macvlan-global",
        "IPAM": {"Driver": "macvlan-global", "Config": [{"Subnet": subnet}]},
        "Options": {"parent": "eth1"},
    }
    body = json.dumps(wanted).encode()
    return ask(site.host.run_folder / "docker.sock", "POST", "/networks/create", body, "application/json")


def _named_both(site: Site) -> list[str]:
    return [each["Id"] for each in site.engine("GET", "/networks") if each["Name"] == "both"]


def _losers(cluster: ClusterSite) -> list[Site]:
    return [site for site in cluster.sites if "network both" in problems(site)]


def test_a_foreign_network_of_that_name(cluster: ClusterSite) -> None:
    """A bridge of that name on another host is kept, and status and doctor tell; with it gone, ours is made."""
    one, two = cluster.sites
    bridge = two.docker("network", "create", "-d", "bridge", "--subnet=10.50.0.0/24", "mac")
    one.create("mac", *MAC)
    settle(two, lambda: "network mac" in problems(two), "word of the other network")
    assert "network mac" in two.driver.cli("doctor", "--json", check=False).stdout
    assert networks(two) == {"mac": bridge}
    two.docker("network", "rm", "mac")
    settle(two, lambda: networks(two).get("mac", bridge) != bridge, "the cluster's network")
    assert works(two, "mac")
    assert problems(two) == ""


def test_dockers_own_ipam_is_refused_with_what_works(cluster: ClusterSite) -> None:
    """Addresses of Docker's own IPAM are no cluster's: the command that is shown instead works as it is."""
    one, two = cluster.sites
    given = ["--subnet=10.31.0.0/24", "--gateway=10.31.0.254", "-o", "parent=eth1", "-o", "macvlan_mode=bridge", "mac"]
    said = one.refusal("network", "create", "-d", "macvlan-global", *given)
    shown = re.search(r"docker (network create .*)$", said)
    assert shown, said
    assert "--ipam-driver macvlan-global" in shown[1].replace("=macvlan-global", " macvlan-global")
    # the engine does not tell the driver the name
    one.docker(*("mac" if word in {"NAME", "<name>"} else word for word in shlex.split(shown[1])))
    cluster.wait_for("mac")
    assert works(two, "mac")
    assert two.engine("GET", "/networks/mac")["IPAM"]["Config"][0]["Gateway"] == "10.31.0.254"


def test_no_usable_parent_on_a_host(cluster: ClusterSite) -> None:
    """A host without any of the parents has the network; a container there fails with each entry's reason."""
    one, two = cluster.sites
    cluster.wire.plug(one.host, "red0")
    one.create("mac", "--subnet=10.31.0.0/24", "-o", "parent=toothbrush,red0")
    cluster.wait_for("mac")
    said = two.refusal("run", "--rm", "--network=mac", "alpine", "true")
    assert re.search("toothbrush: no such interface.*red0: no such interface", said)
    assert works(one, "mac")
    one.host.run(["ip", "link", "del", "red0"])


def test_a_subnet_belongs_to_one_network_of_the_cluster(cluster: ClusterSite) -> None:
    """The subnet of another host's network is refused with that network's name; one that overlaps it is not."""
    one, two = cluster.sites
    one.create("mac", *MAC)
    said = two.refusal(*Site.create_command("other", "--subnet=10.31.0.0/24", "-o", "parent=eth1"))
    assert "10.31.0.0/24" in said
    assert "mac" in said
    two.create("wider", "--subnet=10.31.0.0/16", "-o", "parent=eth1")
    cluster.wait_for("wider")
