"""The driver is replaced by a newer one, and by the old one again, while containers run on its networks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import ENGINES, Host, Wire
from lab.driver import Driver
from lab.paths import ROOT
from lab.process import wait_until
from lab.release import EARLIER, source_of
from lab.site import Site
from macvlan_global.store.address_keys import padded

pytestmark = pytest.mark.by_turns

NETWORK = ("--subnet=192.168.1.0/24", "--ip-range=192.168.1.64/26", "--gateway=192.168.1.254", "-o", "parent=eth1")
SECOND = ("--subnet=192.168.2.0/24", "--ipv6", "--subnet=fd02::/64", "-o", "parent=eth1", "-o", "attach=direct")


@pytest.fixture(params=ENGINES)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A host whose engine is served by the earlier driver."""
    with Wire() as wire, Host("upgrade") as host:
        wire.plug(host)
        driver = Driver(host)
        driver.start(env=earlier())
        host.start_engine(request.param)
        yield Site(wire, host, driver, request.param)
        driver.stop()


def earlier() -> dict[str, str]:
    """The environment in which `serve` is the earlier driver: its package comes before the installed one."""
    return {"PYTHONPATH": str(source_of(EARLIER))}


def held(site: Site) -> dict[str, str]:
    """Addresses and what they are held as, in the driver's state."""
    return {each.address: f"{each.kind} {each.holder}" for each in site.driver.admin.addresses()}


def seen(site: Site) -> dict[str, object]:
    """All that an operator's programs may read of the driver: networks, addresses, containers' interfaces."""
    admin = site.driver.admin
    return {
        "addresses": sorted(admin.addresses(), key=lambda each: each.address),
        "networks": sorted(admin.networks(), key=lambda each: each.name),
        "keys": sorted(map(as_now, site.state())),
    }


def as_now(key: str) -> str:
    """A key as this version has it: in those of addresses each byte has three digits, and each group four."""
    start, _, last = key.rpartition("/")
    if not start.startswith("addresses/") or len(last) in {15, 39}:
        return key
    return f"{start}/{padded(last)}"


def fill(site: Site) -> None:
    """Networks and containers of each kind that a state file tells about."""
    site.create("lan", *NETWORK, "--aux-address=printer=192.168.1.7")
    site.create("second", *SECOND)
    site.start("lan", "fixed", "--ip=192.168.1.10", "--restart=always")
    site.start("lan", "chosen")
    site.start("lan", "mac", "--mac-address=02:00:00:00:aa:01")
    site.start("second", "inside")
    site.start("lan", "stopped", "--ip=192.168.1.11")
    site.docker("network", "connect", "--ip=192.168.2.20", "second", "fixed")
    site.docker("stop", "-t0", "stopped")


def test_an_upgrade_under_running_containers(site: Site) -> None:
    """Containers go on, all that the driver shows stays, and the newer driver serves what the old one made."""
    fill(site)
    known = {"fixed", "chosen", "mac", "inside"}
    wait_until(lambda: all(any(name in who for who in held(site).values()) for name in known), "names of containers")
    before = seen(site)
    site.driver.kill() if site.version == "newest" else site.driver.stop()
    assert site.reaches("chosen", "192.168.1.10")
    site.driver.start()
    site.driver.wait_for_engine()
    assert seen(site) == before
    assert site.driver.admin.repair(dry_run=True, grace=0).corrections == []
    assert site.reaches("chosen", "192.168.1.10")
    assert site.reaches("inside", "192.168.2.20")

    assert "in use by container chosen" in site.refusal(
        "run", "--rm", "--network=lan", f"--ip={site.address('chosen', 'lan')}", "alpine", "true"
    )
    site.docker("start", "stopped")
    assert site.address("stopped", "lan") == "192.168.1.11"
    site.docker("restart", "-t0", "fixed")
    assert (site.address("fixed", "lan"), site.address("fixed", "second")) == ("192.168.1.10", "192.168.2.20")
    site.start("lan", "new")
    assert site.reaches("new", "192.168.1.10")
    assert len({site.address(name, "lan") for name in ("fixed", "chosen", "mac", "stopped", "new")}) == 5
    site.clean()
    assert site.driver.admin.addresses() == []
    assert site.driver.admin.networks() == []
    wait_until(lambda: site.state() == [], "end of all records", explain=lambda: str(site.state()))


def test_a_downgrade_is_refused_under_running_containers(site: Site) -> None:
    """The earlier driver leaves the state of the newer one as it is. Containers run meanwhile."""
    site.driver.stop()
    site.driver.start()
    site.driver.wait_for_engine()
    fill(site)
    wait_until(lambda: any("inside" in who for who in held(site).values()), "name of a container")
    before = held(site)
    site.driver.stop()
    site.driver.begin(env=earlier())
    assert site.driver.wait() != 0
    assert "It was left as it is. Start the newer macvlan-global that wrote it" in site.driver.log_text()
    assert site.reaches("chosen", "192.168.1.10")
    site.driver.start()
    site.driver.wait_for_engine()
    assert held(site) == before
    assert site.driver.admin.repair(dry_run=True, grace=0).corrections == []
    site.docker("restart", "-t0", "fixed")
    assert site.address("fixed", "lan") == "192.168.1.10"
    site.clean()
    assert site.driver.admin.addresses() == []


def test_the_earlier_driver_is_another_one() -> None:
    """The two drivers of this module come from two trees."""
    assert source_of(EARLIER) != Path(ROOT / "src")
    assert (source_of(EARLIER) / "macvlan_global/links/parent.py").exists()
    assert not (ROOT / "src/macvlan_global/links").exists()
