"""Compose with an engine that tells names: the address and the MAC of a service stay, over all that makes it anew."""

import json
from collections.abc import Iterator

import pytest

from lab import Host, Wire
from lab.compose import Project
from lab.driver import SOCKET, Driver
from lab.site import Site
from tests.e2e.name_teller import NameTeller

FILE = """
services:
  web: {image: alpine, command: sleep 600, init: true, networks: [lan]}
networks:
  lan: {external: true}
"""
BEHIND = "behind.sock"


@pytest.fixture
def told() -> Iterator[tuple[Site, NameTeller]]:
    """A host with the newest engine, and what tells the names of its containers."""
    with Wire() as wire, Host("told") as host:
        wire.plug(host, "eth0")
        with NameTeller(host.run_folder / SOCKET, host.run_folder / BEHIND) as teller:
            driver = Driver(host, f"--socket=/run/{BEHIND}")
            driver.start()
            host.start_engine()
            yield Site(wire, host, driver, "newest"), teller
            driver.stop()


def _leg(site: Site, container: str) -> tuple[str, str]:
    found = json.loads(site.docker("inspect", container))[0]["NetworkSettings"]["Networks"]["lan"]
    return found["IPAddress"], found["MacAddress"]


def test_a_service_keeps_its_address_and_its_mac(told: tuple[Site, NameTeller]) -> None:
    """Recreated, removed and made anew, and over `down` and `up` on a network that stays, while others come."""
    site, teller = told
    site.create("lan", "--subnet=10.18.0.0/24", "--gateway=10.18.0.1", "-o", "parent=eth0")
    project = Project(site.host, FILE, "shop")
    teller.name = "shop-web-1"
    project.type("up", "-d")
    first = _leg(site, "shop-web-1")
    for words in (("up", "-d", "--force-recreate"), ("rm", "--stop", "--force", "web"), ("up", "-d"), ("down",)):
        project.type(*words)
        if words[0] == "up":
            assert _leg(site, "shop-web-1") == first

    teller.name = "other"
    site.start("lan", "other")
    other = _leg(site, "other")
    assert not set(other) & set(first)
    teller.name = "shop-web-1"
    project.type("up", "-d")
    assert _leg(site, "shop-web-1") == first
    assert {(each.address, each.name, each.mac) for each in site.driver.admin.remembered()} == {
        (first[0], "shop-web-1", first[1]),
        (other[0], "other", other[1]),
    }
    project.type("down")
    site.docker("rm", "-f", "other")
    site.docker("network", "rm", "lan")
    assert site.driver.admin.remembered() == []
