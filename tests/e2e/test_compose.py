"""A project of the real `docker compose` on each engine: addresses, interfaces, scale, health, profiles, recreation."""

import pytest

from lab import DockerError
from lab.compose import Project
from lab.process import wait_until
from lab.site import Site

FILE = """
x-all: &all {{image: alpine, command: sleep 600, init: true}}
services:
  db:
    <<: *all
    {own}
    healthcheck: {{test: [CMD, "true"], interval: 1s}}
    networks:
      lan: {{ipv4_address: 10.7.0.20, ipv6_address: "fd07::20"{leg}}}
  app:
    <<: *all
    depends_on: {{db: {{condition: service_healthy}}}}
    networks:
      lan: {{gw_priority: 1, aliases: [shop]}}
      back: {{}}
      out: {{}}
  worker:
    <<: *all
    scale: 2
    networks: [lan]
  admin:
    <<: *all
    profiles: [admin]
    networks: [back]
networks:
  lan:
    driver: macvlan-global
    enable_ipv6: true
    driver_opts: {{parent: "bond0, eth1"}}
    ipam:
      driver: macvlan-global
      config:
        - {{subnet: 10.7.0.0/24, gateway: 10.7.0.1, ip_range: 10.7.0.64/26}}
        - {{subnet: "fd07::/64", gateway: "fd07::1"}}
  back:
    driver: macvlan-global
    driver_opts: {{parent: eth0}}
    ipam: {{driver: macvlan-global, config: [{{subnet: 10.8.0.0/24, gateway: 10.8.0.1}}]}}
  out: {{external: true}}
"""
OTHER = """
services:
  db: {image: alpine, command: sleep 600, init: true, networks: [lan]}
networks:
  lan: {external: true, name: one_lan}
"""
MAC = "02:42:0a:07:00:14"
LEG = f", mac_address: {MAC}, interface_name: lan"


def _file(version: str) -> str:
    """The file, with the keys that the engine has: its docs are the table of older engines in docs/compose.md."""
    return FILE.format(own="", leg=LEG) if version == "newest" else FILE.format(own=f"mac_address: {MAC}", leg="")


def _workers(site: Site, number: int) -> set[str]:
    """The addresses of the first so many workers: all different, and in the range."""
    found = {site.address(f"one-worker-{each}", "one_lan") for each in range(1, number + 1)}
    assert len(found) == number
    assert all(64 <= int(each.rpartition(".")[2]) < 128 for each in found)
    return found


def _is_the_database(site: Site) -> None:
    """The service with static addresses has them, and its MAC, on an interface of the name that the file gives it."""
    leg = site.endpoint("one-db-1", "one_lan")
    assert (leg["IPAddress"], leg["GlobalIPv6Address"], leg["MacAddress"]) == ("10.7.0.20", "fd07::20", MAC)
    name = "lan" if site.version == "newest" else "eth0"
    assert site.leg("one-db-1", name)["address"] == MAC


def test_a_project_with_everything(site: Site) -> None:
    """Addresses, MAC, several networks, an external one, scale, health checks and profiles are as the file has them."""
    site.create("out", "--subnet=10.9.0.0/24", "--gateway=10.9.0.1", "-o", "parent=eth0")
    if site.version == "oldest":
        for key, said in (("interface_name: lan", "requires Docker Engine v28.1"), (f"mac_address: {MAC}", "1.44")):
            with pytest.raises(DockerError, match=said):
                # of a whole project, Compose leaves what it made before the refusal: none, one or both of the workers,
                # and numbers new ones after the highest
                Project(site.host, FILE.format(own="", leg=f", {key}"), "one").type("up", "-d", "db")
        assert site.engine("GET", "/containers/json?all=1") == []
    one = Project(site.host, _file(site.version), "one")
    one.type("up", "-d")
    _is_the_database(site)
    assert {each: site.endpoint("one-app-1", each)["IPAddress"][:5] for each in ("one_lan", "one_back", "out")} == {
        "one_lan": "10.7.",
        "one_back": "10.8.",
        "out": "10.9.",
    }
    assert "via 10.7.0.1 " in site.inside("one-app-1", "ip", "route", "get", "192.0.2.1")
    wait_until(lambda: site.reaches("one-app-1", "db"), "service that is found by name")
    wait_until(lambda: site.reaches("one-worker-1", "shop"), "service that is found by its alias")
    _workers(site, 2)

    one.type("up", "-d", "--scale", "worker=3", "--no-recreate")
    _workers(site, 3)
    one.type("--profile", "admin", "up", "-d", "admin")
    assert site.address("one-admin-1", "one_back").startswith("10.8.")
    one.type("up", "-d", "--force-recreate", "--no-deps", "db")
    _is_the_database(site)

    other = Project(site.host, OTHER, "other")
    other.type("up", "-d")
    found = site.inside("one-app-1", "nslookup", "db")
    assert all(each in found for each in ("10.7.0.20", site.address("other-db-1", "one_lan")))
    assert "10.7.0.20" not in site.inside("one-app-1", "nslookup", "other-db-1")
    other.type("down")

    one.type("--profile", "*", "down")
    assert [each["Name"] for each in site.engine("GET", "/networks") if each["Driver"] == "macvlan-global"] == ["out"]
    one.type("up", "-d", "db")
    _is_the_database(site)
    one.type("down")


ANEW = f"""
services:
  fixed:
    image: alpine
    command: sleep 600
    init: true
    mac_address: "{MAC}"
    networks: {{lan: {{ipv4_address: 10.17.0.20}}}}
  any: {{image: alpine, command: sleep 600, init: true, networks: [lan]}}
networks:
  lan:
    driver: macvlan-global
    driver_opts: {{parent: eth0}}
    ipam:
      driver: macvlan-global
      config: [{{subnet: 10.17.0.0/24, gateway: 10.17.0.1, ip_range: 10.17.0.16/29}}]
"""
"""A service with a static address that is within the range of the others, and one without."""


def test_what_stays_when_services_are_made_anew(site: Site) -> None:
    """These engines tell no names (docs/sticky.md): an address and a MAC of the file stay, the others are free ones.

    While the service with the static address is away, others get its address last; `down` forgets it with the network.
    """
    anew = Project(site.host, ANEW, "anew")
    seen = []
    for words in (("up", "-d"), ("up", "-d", "--force-recreate"), ("down",), ("up", "-d")):
        anew.type(*words)
        if words == ("down",):
            continue
        leg = site.endpoint("anew-fixed-1", "anew_lan")
        assert (leg["IPAddress"], leg["MacAddress"]) == ("10.17.0.20", MAC)
        seen.append(site.endpoint("anew-any-1", "anew_lan"))
    assert len({each["MacAddress"] for each in seen}) == len(seen)
    assert all(each["IPAddress"].startswith("10.17.0.") and each["IPAddress"] != "10.17.0.20" for each in seen)

    anew.type("rm", "--stop", "--force", "fixed")
    assert [(each.address, each.name) for each in site.driver.admin.remembered()] == [("10.17.0.20", "")]
    anew.type("up", "-d", "--scale", "any=7", "--no-recreate", "any")
    others = {site.address(f"anew-any-{number}", "anew_lan") for number in range(1, 8)}
    assert others == {f"10.17.0.{last}" for last in range(16, 24)} - {"10.17.0.20"}
    anew.type("up", "-d", "fixed")
    assert site.address("anew-fixed-1", "anew_lan") == "10.17.0.20"
    anew.type("down")
    assert site.driver.admin.remembered() == []
