"""The host and its containers reach each other: `-o host_access=true`."""

from lab.process import wait_until
from lab.site import Site, links

SHIM, HOST = "mgh-eth1", "192.168.1.2"
LAN = ("--subnet=192.168.1.0/24", "--gateway=192.168.1.1", "-o", "parent=eth1", "-o", "host_access=true")


def _host_reaches(site: Site, address: str) -> bool:
    return site.host.run(["ping", "-c", "1", "-W", "2", address], check=False).returncode == 0


def test_host_and_containers_reach_each_other_and_no_address_is_spent(site: Site) -> None:
    """From the host's own address; what somebody deletes comes back, under running containers and by another run of
    the driver too; all of it is gone with the network."""
    site.host.run(["ip", "address", "add", f"{HOST}/24", "dev", "eth1"])
    try:
        site.create("lan", *LAN, "--aux-address", f"host={HOST}")
        site.start("lan", "web")
        address = site.address("web", "lan")
        assert site.reaches("web", HOST)
        assert _host_reaches(site, address)
        assert [each.kind for each in site.driver.admin.addresses()].count("host") == 0
        site.host.run(["ip", "route", "delete", address])
        wait_until(lambda: _host_reaches(site, address), "the route again")
        site.host.run(["ip", "link", "delete", SHIM])
        wait_until(lambda: _host_reaches(site, address), "the shim again")
        site.driver.kill()
        site.host.run(["ip", "link", "delete", SHIM])
        site.driver.start()
        site.driver.wait_for_engine()
        wait_until(lambda: _host_reaches(site, address), "the shim by another run")
        site.docker("restart", "-t", "0", "web")
        assert _host_reaches(site, site.address("web", "lan"))
        assert site.driver.admin.status().problems == []
        site.docker("rm", "-f", "web")
        assert address not in site.shell("ip route")
        site.docker("network", "rm", "lan")
        assert SHIM not in links(site.host)
    finally:
        site.host.run(["ip", "address", "delete", f"{HOST}/24", "dev", "eth1"])


def test_the_host_is_given_addresses_where_it_has_none(site: Site) -> None:
    """One of each family, shown as kind host; links that are made inside containers are reached as well."""
    direct = ("--ipv6", "--subnet=fd18::/64", "-o", "attach=direct")
    site.create("lan", *LAN, *direct)
    site.start("lan", "web")
    leg = site.endpoint("web", "lan")
    own = {each.address for each in site.driver.admin.addresses() if each.kind == "host"}
    assert len(own) == 2
    for address in own:
        assert site.reaches("web", address)
    for address in (leg["IPAddress"], leg["GlobalIPv6Address"]):
        assert _host_reaches(site, address)
    private = ("--subnet=192.168.2.0/24", "-o", "parent=eth1", "-o", "host_access=true", "-o", "macvlan_mode=private")
    said = site.refusal(*site.create_command("other", *private))
    assert "-o host_access=true does not work in mode private" in said
    site.docker("rm", "-f", "web")
    site.docker("network", "rm", "lan")
    assert SHIM not in links(site.host)
