"""What shares the wire with our networks: hosts' own addresses, networks that overlap, networks of other drivers."""

import json

from lab.process import wait_until
from lab.site import Site

OURS = ("-d", "macvlan-global", "--ipam-driver", "macvlan-global")


def _create(site: Site, name: str, *options: str) -> None:
    site.docker("network", "create", *options, name)


def _address(site: Site, container: str) -> str:
    found = json.loads(site.docker("inspect", container))[0]["NetworkSettings"]["Networks"]
    return str(next(iter(found.values()))["IPAddress"])


def test_networks_that_overlap_share_a_router_and_avoid_the_host(site: Site) -> None:
    """One gateway and aux address, ranges that overlap; no address twice, none of the host; all goes with the last."""
    site.host.run(["ip", "address", "add", "10.34.0.66/24", "dev", "eth0"])
    common = ("--subnet=10.34.0.0/24", "--gateway=10.34.0.1", "--aux-address=host=10.34.0.66")
    _create(site, "low", *OURS, *common, "--ip-range=10.34.0.64/27", "-o", "parent=eth0")
    _create(site, "high", *OURS, *common, "--ip-range=10.34.0.64/26", "-o", "parent=eth1")
    for number in range(2):
        for name in ("low", "high"):
            site.docker("run", "-d", "--init", f"--network={name}", f"--name={name}{number}", "alpine", "sleep", "900")
    got = [_address(site, f"{name}{number}") for number in range(2) for name in ("low", "high")]
    assert sorted(got) == ["10.34.0.64", "10.34.0.65", "10.34.0.67", "10.34.0.68"]
    assert "default via 10.34.0.1" in site.docker("exec", "high0", "ip", "route")
    site.host.run(["ip", "address", "add", "10.34.0.99/24", "dev", "eth0"])
    for own in ("10.34.0.66", "10.34.0.99"):
        said = site.refusal("run", "--rm", "--network=low", f"--ip={own}", "alpine", "true")
        assert f"address {own} is in use: this host has it on eth0" in said
    for own in ("10.34.0.99", "10.34.0.66"):  # the secondary one first: it goes with the primary one
        site.host.run(["ip", "address", "del", f"{own}/24", "dev", "eth0"])
    site.docker("rm", "-f", "low0", "low1")
    site.docker("network", "rm", "low")
    kept = {each.address: each.kind for each in site.driver.admin.addresses()}
    assert (kept["10.34.0.1"], kept["10.34.0.66"]) == ("gateway", "aux")
    site.docker("run", "-d", "--init", "--network=high", "--ip=10.34.0.1", "--name=router", "alpine", "sleep", "900")
    said = site.refusal("run", "--rm", "--network=high", "--ip=10.34.0.1", "alpine", "true")
    assert "address 10.34.0.1 is in use by" in said


def test_a_bridge_with_our_addresses_keeps_them(site: Site) -> None:
    """Repair takes nothing from it, its pool is nobody else's, and all goes when it is removed."""
    _create(site, "br", "--ipam-driver", "macvlan-global", "--subnet=10.35.0.0/24", "--gateway=10.35.0.1")
    site.docker("run", "-d", "--init", "--network=br", "--ip=10.35.0.9", "--name=web", "alpine", "sleep", "900")

    def claimed() -> bool:
        return {each.address: each.kind for each in site.driver.admin.addresses()}.get("10.35.0.1") == "gateway"

    wait_until(claimed, "the claim of the bridge's gateway")
    for _ in range(2):
        site.driver.admin.repair(dry_run=False, grace=0.0)
    assert {each.address for each in site.driver.admin.addresses()} == {"10.35.0.1", "10.35.0.9"}
    said = site.refusal("network", "create", *OURS, "--subnet=10.35.0.0/24", "-o", "parent=eth1", "lan")
    assert "network br has it" in said
    said = site.refusal("run", "--rm", "--network=br", "--ip=10.35.0.9", "alpine", "true")
    assert "10.35.0.9 is in use by a container of network br" in said
    site.docker("rm", "-f", "web")
    site.docker("network", "rm", "br")
    # at once: the engine tells of the end of the bridge just after it released the pool
    _create(site, "lan", *OURS, "--subnet=10.35.0.0/24", "--gateway=10.35.0.2", "-o", "parent=eth1")
    assert {each.address for each in site.driver.admin.addresses()} == {"10.35.0.2"}
    site.docker("network", "rm", "lan")
    _create(site, "br2", "--ipam-driver", "macvlan-global", "--subnet=10.36.0.0/24", "--gateway=10.36.0.1")
    site.docker("network", "rm", "br2")
    wait_until(lambda: site.driver.admin.addresses() == [], "the end of the bridge")


def test_a_network_without_ip_management_has_links_and_no_subnet(site: Site) -> None:
    """The link is up, has no address, and `networks` shows no 0.0.0.0/0."""
    _create(site, "l2", "-d", "macvlan-global", "--ipam-driver", "null", "-o", "parent=eth1")
    shown = site.docker("run", "--rm", "--network=l2", "alpine", "ip", "-4", "address", "show", "eth0")
    assert "inet " not in shown
    (network,) = site.driver.admin.networks()
    assert network.subnets == []
