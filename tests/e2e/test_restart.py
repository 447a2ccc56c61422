"""Driver and engine are stopped, killed and started in turn; containers, addresses and networks come through."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import ENGINES, Host, Wire
from lab.driver import SOCKET, Driver
from lab.paths import BUILD
from lab.process import wait_until
from lab.site import Site
from lab.unixhttp import ask

NETWORK = ("--subnet=192.168.1.0/24", "--gateway=192.168.1.254", "-o", "parent=eth1")

MakeSite = Callable[..., Site]


@pytest.fixture(params=ENGINES)
def make_site(request: pytest.FixtureRequest) -> Iterator[MakeSite]:
    """Makes a site of its own for a test that restarts things; called again with the same state folder, it is that
    host after a power cut."""
    with Wire() as wire:
        made: list[Host] = []

        def make(*flags: str, live_restore: bool = False, state: Path | None = None) -> Site:
            host = Host("restart", state=state)
            made.append(host)
            wire.plug(host)
            driver = Driver(host, *flags)
            driver.start()
            host.start_engine(request.param, live_restore=live_restore)
            return Site(wire, host, driver, request.param)

        yield make
        for host in made:
            host.close()


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder that outlives a host, on a file system that can carry an overlay. To be asked for before the hosts that
    have it: it is removed after their end then."""
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        yield Path(folder)


def running(site: Site, container: str) -> bool:
    """Whether a container runs."""
    return site.docker("ps", "-q", "--filter", f"name=^{container}$", "--filter", "status=running") != ""


def address(site: Site, container: str) -> str:
    """The address that the engine shows for a container."""
    return site.docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)


def held(site: Site) -> dict[str, str]:
    """Addresses and what they are held as, in the driver's state."""
    return {each.address: each.kind for each in site.driver.admin.addresses()}


def pings(site: Site, source: str, target: str) -> bool:
    """Whether one container reaches another."""
    return "0% packet loss" in site.docker("exec", source, "ping", "-c1", "-W2", target)


def test_the_driver_restarts_under_live_containers(make_site: MakeSite) -> None:
    """Containers go on talking, and the new driver knows every one of them."""
    site = make_site()
    site.create("mac", *NETWORK)
    site.start("mac", "one", "--ip=192.168.1.10")
    site.start("mac", "two")
    before = held(site)
    for end in (site.driver.stop, site.driver.kill):
        end()
        assert pings(site, "two", "192.168.1.10")
        site.driver.start()
        assert held(site) == before
        assert pings(site, "one", address(site, "two"))
    site.docker("rm", "-f", "one", "two")
    assert held(site) == {"192.168.1.254": "gateway"}
    site.docker("network", "rm", "mac")
    assert held(site) == {}


def test_the_engine_restarts_without_live_restore(make_site: MakeSite) -> None:
    """A container with a restart policy comes back with the address it was given, and nothing is held twice."""
    site = make_site()
    site.create("mac", *NETWORK)
    site.start("mac", "one", "--ip=192.168.1.10", "--restart=always")
    site.start("mac", "two", "--restart=always")
    site.start("mac", "three")
    site.host.restart_engine()
    wait_until(lambda: running(site, "one") and running(site, "two"), "containers that came back", seconds=30)
    assert address(site, "one") == "192.168.1.10"
    assert pings(site, "two", "192.168.1.10")
    assert not running(site, "three")
    assert held(site) == {"192.168.1.254": "gateway", "192.168.1.10": "endpoint", address(site, "two"): "endpoint"}


def test_the_engine_restarts_with_live_restore(make_site: MakeSite) -> None:
    """Containers run on through the engine's restart, and can be removed afterwards."""
    site = make_site(live_restore=True)
    site.create("mac", *NETWORK)
    site.start("mac", "one", "--ip=192.168.1.10")
    site.start("mac", "two")
    before = held(site)
    started = site.docker("inspect", "-f", "{{.State.StartedAt}}", "one")
    site.host.restart_engine()
    assert site.docker("inspect", "-f", "{{.State.StartedAt}}", "one") == started
    assert pings(site, "two", "192.168.1.10")
    assert held(site) == before
    site.docker("rm", "-f", "one", "two")
    assert held(site) == {"192.168.1.254": "gateway"}


def test_the_engine_crashes(make_site: MakeSite) -> None:
    """After a SIGKILL of the engine, a container with a fixed address and a restart policy has it again."""
    site = make_site()
    site.create("mac", *NETWORK)
    site.start("mac", "one", "--ip=192.168.1.10", "--restart=always")
    site.host.kill_engine()
    site.host.restart_engine()
    wait_until(lambda: running(site, "one"), "container that came back", seconds=60)
    assert address(site, "one") == "192.168.1.10"
    site.driver.admin.repair(dry_run=False, grace=0)
    assert held(site) == {"192.168.1.254": "gateway", "192.168.1.10": "endpoint"}


def test_the_engine_starts_while_the_driver_is_down(make_site: MakeSite) -> None:
    """It comes up after a while and has all networks; what is on ours starts once the driver is there."""
    site = make_site()
    site.create("mac", *NETWORK)
    site.start("mac", "one", "--ip=192.168.1.10", "--restart=always")
    site.host.stop_engine()
    site.driver.stop()
    site.host.start_engine(site.version)
    assert site.docker("run", "--rm", "--network=none", "alpine", "echo", "works") == "works"
    assert not running(site, "one")
    site.driver.start()
    site.docker("start", "one")
    site.docker("run", "--rm", "--network=mac", "alpine", "ping", "-c1", "-W2", "192.168.1.10")
    assert address(site, "one") == "192.168.1.10"


def test_a_network_is_removed_while_the_driver_is_down(make_site: MakeSite) -> None:
    """The engine forgets the network without asking us; the driver finds out when it is back, and gives all back."""
    site = make_site()
    site.create("mac", *NETWORK)
    assert [each.name for each in site.driver.admin.networks()] == ["mac"]
    site.driver.stop()
    site.docker("network", "rm", "mac")
    site.driver.start()
    corrections = site.driver.admin.repair(dry_run=False, grace=0).corrections
    assert [(each.action, each.subject) for each in corrections] == [("DeleteNetwork", "network mac")]
    assert held(site) == {}
    site.create("mac", *NETWORK)


def test_what_was_asked_for_and_never_used_is_given_back_by_itself(make_site: MakeSite) -> None:
    """The driver dies with an answer on its way: it is too young for the first repair, and found by the next one."""
    site = make_site("--repair-grace=1")
    site.create("mac", *NETWORK)
    request = {"PoolID": "macvlan-global/192.168.1.0/24", "Address": "192.168.1.50"}
    server = site.host.run_folder / SOCKET
    assert ask(server, "POST", "/IpamDriver.RequestAddress", json.dumps(request).encode())[0] == 200
    site.driver.kill()
    site.driver.start()
    wait_until(lambda: held(site) == {"192.168.1.254": "gateway"}, "address given back", seconds=20)


def test_the_host_loses_power(disk: Path, make_site: MakeSite) -> None:
    """After a power cut the container with a restart policy has its address again, and others hold none."""
    site = make_site(state=disk)
    site.create("mac", *NETWORK)
    site.start("mac", "one", "--ip=192.168.1.10", "--restart=always")
    site.start("mac", "two")
    site.host.close()
    again = make_site(state=disk)
    wait_until(lambda: running(again, "one"), "container that came back", seconds=30)
    again.driver.admin.repair(dry_run=False, grace=0)
    assert held(again) == {"192.168.1.254": "gateway", "192.168.1.10": "endpoint"}


def test_the_state_is_lost(make_site: MakeSite) -> None:
    """With the state file gone, networks and running containers are taken over from the engine."""
    site = make_site()
    site.create("mac", *NETWORK, "--aux-address=printer=192.168.1.7")
    site.start("mac", "one", "--ip=192.168.1.10")
    before = held(site)
    site.driver.stop()
    site.host.run(["sh", "-c", "rm /var/lib/macvlan-global/state.db*"])
    site.driver.start()
    wait_until(lambda: held(site) == before, "addresses taken over", explain=lambda: str(held(site)))
    site.start("mac", "two")
    assert pings(site, "one", address(site, "two"))
    site.docker("rm", "-f", "one", "two")
    assert held(site) == {"192.168.1.254": "gateway", "192.168.1.7": "aux"}
    site.docker("network", "rm", "mac")
    assert held(site) == {}


def test_a_second_driver_leaves_the_first_alone(make_site: MakeSite) -> None:
    """A driver on a state folder that is in use says so and ends."""
    site = make_site()
    second = site.driver.cli("serve", "--socket=/run/other.sock", "--admin-socket=/run/other-admin.sock", check=False)
    assert second.returncode == 1
    assert "another macvlan-global uses the state folder /var/lib/macvlan-global" in second.stderr
    assert site.driver.running
