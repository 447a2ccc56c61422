"""What may happen to a store, a host or a request: containers go on, nobody waits long, no address has two holders.

The store has three members on machines of their own, and there are three hosts. After each test the engine's longest
wait for an answer of the driver is looked at, on every host.
"""

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lab import DockerError
from lab.cluster import paused
from lab.cluster_site import at_once, networks, settle
from lab.driver import SOCKET
from lab.paths import BUILD
from lab.site import Site
from lab.speed import patience
from lab.unixhttp import ask
from tests.cluster.fragile import FragileCluster, calls, holders

PATIENCE = 10.0
"""Seconds that an engine may wait for an answer of the driver."""
COMMAND = 2 * PATIENCE
"""Seconds that a command may take, with all that the engine asks for it and does itself."""
MAC = ("--subnet=10.91.0.0/24", "--gateway=10.91.0.254", "-o", "parent=eth1")

on_consul = pytest.mark.parametrize("_running", ["consul"], indirect=True)
on_etcd = pytest.mark.parametrize("_running", ["etcd"], indirect=True)
on_both = pytest.mark.parametrize("_running", ["consul", "etcd"], indirect=True)


@pytest.fixture(scope="module")
def _running(request: pytest.FixtureRequest) -> Iterator[FragileCluster]:
    with tempfile.TemporaryDirectory(dir=BUILD) as disk, FragileCluster(request.param, Path(disk)) as cluster:
        yield cluster


@pytest.fixture
def cluster(_running: FragileCluster) -> Iterator[FragileCluster]:
    """Three hosts and their store, all well; afterwards nothing may be left, nor may an engine have waited long."""
    yield _running
    _running.clean()
    for site in _running.sites:
        took, call = calls(site)[0]
        assert took < patience(PATIENCE), f"{call} took {took} s on {site.host.name}"


@contextlib.contextmanager
def soon() -> Iterator[None]:
    """What is done in the block takes no longer than a command may."""
    begin = time.monotonic()
    yield
    took = time.monotonic() - begin
    assert took < patience(COMMAND), f"it took {took:.1f} s"


def one_more(site: Site, *arguments: str) -> str:
    """What docker said when it refused to start one more container."""
    with soon():
        return site.refusal("run", "--rm", "--network=mac", *arguments, "alpine", "true")


def starts(site: Site) -> None:
    """Driver and engine of a host start, as when it boots; neither takes long."""
    for start in (site.driver.start, site.host.restart_engine):
        with soon():
            start()


def works(site: Site, *arguments: str) -> bool:
    """Whether a container starts."""
    with contextlib.suppress(DockerError), soon():
        site.run("mac", *arguments, "alpine", "true")
        return True
    return False


def is_settled(site: Site) -> bool:
    """Whether a host has told the store all that it has to tell, and reads it."""
    status = site.driver.admin.status()
    return status.addresses is not None and status.waiting == 0


def is_held(site: Site, address: str, container: str, by: Site) -> bool:
    """Whether a host sees an address as that of a container on a host; the container's name is learnt after it runs."""
    return holders(site).get(address) == f"{container} {by.host.name}"


def named_holders(site: Site, **running: Site) -> dict[str, str]:
    """Who holds each address, once a host knows the names of these containers."""
    for name, where in running.items():
        settle(site, partial(is_held, site, where.address(name, "mac"), name, where), f"name of container {name}")
    return holders(site)


def given(*sites: Site) -> list[str]:
    """The address of every container on these hosts, as their engines know it."""
    running = [each for site in sites for each in site.engine("GET", "/containers/json")]
    return [str(each["NetworkSettings"]["Networks"]["mac"]["IPAddress"]) for each in running]


# ---------------------------------------------------------------- the store is away


@on_consul
def test_the_store_is_away_when_a_host_starts(cluster: FragileCluster) -> None:
    """The engine comes up with the containers that ran, new ones are refused, and all is well when the store comes."""
    one, two, three = cluster.sites
    one.host.stop_engine()
    one.host.start_engine(one.version, live_restore=True)
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    one.start("mac", "old", "--ip=10.91.0.10")
    two.start("mac", "peer", "--ip=10.91.0.20")
    three.start("mac", "always", "--ip=10.91.0.30", "--restart=always")
    at_once(site.host.stop_engine for site in (one, three))
    at_once(site.driver.stop for site in (one, three))
    cluster.pause_store()
    at_once(partial(starts, site) for site in (one, three))
    assert three.docker("ps", "-q") == ""
    assert one.docker("ps", "--format={{.Names}}") == "old"
    assert one.reaches("old", "10.91.0.20")
    assert "store" in one_more(one)
    assert networks(one).keys() == {"mac"}
    cluster.heal()
    for site in (one, three):  # each is in the cluster when it has asked the store again, by its own clock
        settle(site, partial(works, site), "container after the store came")
    three.docker("start", "always")
    assert three.reaches("always", "10.91.0.10")
    cluster.wait_up()
    assert "old" in one_more(two, "--ip=10.91.0.10")
    one.docker("rm", "-f", "old")
    two.start("mac", "heir", "--ip=10.91.0.10")


@on_both
def test_the_store_is_away_for_a_while(cluster: FragileCluster) -> None:
    """Containers run on and can be removed, new ones are refused; what happened is told later, by the next driver."""
    one, two, three = cluster.sites
    one.create("mac", *MAC)
    one.create("goes", "--subnet=10.92.0.0/24", "-o", "parent=eth1")
    cluster.wait_for("mac")
    cluster.wait_for("goes")
    for number, name in enumerate(("stays", "early", "late"), 10):
        one.start("mac", name, f"--ip=10.91.0.{number}")
    two.start("mac", "peer", "--ip=10.91.0.20")
    if cluster.store.scheme == "consul":
        cluster.kill_store()
    else:
        cluster.pause_store()
    assert "store" in one_more(one)
    with soon():
        said = two.refusal(*Site.create_command("other", "--subnet=10.93.0.0/24", "-o", "parent=eth1"))
    assert "store" in said
    for command in (["stop", "-t0", "early"], ["rm", "early"], ["network", "rm", "goes"]):
        with soon():
            one.docker(*command)
    one.driver.kill()
    assert one.reaches("stays", "10.91.0.20")
    with soon():
        one.driver.start()
    with soon():
        one.docker("rm", "-f", "late")
    assert one.driver.admin.status().waiting >= 3
    assert one.reaches("stays", "10.91.0.20")
    one.driver.stop()
    cluster.heal()
    one.driver.start()
    for site in cluster.sites:
        settle(site, partial(is_settled, site), "word of all that happened")
    cluster.wait_gone("goes")
    cluster.wait_up()
    for number in (11, 12):
        three.start("mac", f"heir{number}", f"--ip=10.91.0.{number}")
    assert "stays" in one_more(three, "--ip=10.91.0.10")
    one.driver.wait_for_engine()


@on_both
def test_away_for_longer_than_any_lease(cluster: FragileCluster) -> None:
    """However long the store was away: hosts whose leases ended are back at once, with all that they had."""
    one, two, three = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    for number, site in enumerate(cluster.sites, 10):
        site.start("mac", f"c{number}", f"--ip=10.91.0.{number}")
    before = named_holders(one, c10=one, c11=two, c12=three)
    at_once([partial(cluster.end_lease, site.driver.admin.status().host_id) for site in cluster.sites])
    cluster.wait_up()
    assert holders(three) == before
    assert "c11" in one_more(one, "--ip=10.91.0.11")
    assert two.reaches("c11", "10.91.0.12")


# ---------------------------------------------------------------- a member is


@on_both
def test_the_leader_is_killed(cluster: FragileCluster) -> None:
    """Two hosts ask for one address at that moment: one gets it. Then a pool is filled to the last address."""
    one, two, three = cluster.sites
    one.create("mac", "--subnet=10.91.0.0/29", "--gateway=10.91.0.6", "-o", "parent=eth1")
    cluster.wait_for("mac")
    killed = cluster.store.kill_leader()
    commands = ["docker", "run", "-d", "--init", "--network=mac", "--ip=10.91.0.3", "alpine", "sleep", "600"]
    with soon():
        at_once(partial(site.host.run, commands, check=False) for site in (one, two))
    settle(three, partial(works, three), "container after another member leads", seconds=COMMAND)
    first = given(one, two)
    assert first in ([], ["10.91.0.3"])
    starts = [partial(site.start, "mac", f"c{n}") for n, site in enumerate([two, one, three, one, three])]
    with soon():
        at_once(starts[: 5 - len(first)])
    assert sorted(given(*cluster.sites)) == [f"10.91.0.{number}" for number in range(1, 6)]
    assert "no free address" in one_more(three)
    two.docker("rm", "-f", "c0")
    assert works(three)
    cluster.store.start(killed)


@on_etcd
def test_a_member_answers_slowly(cluster: FragileCluster) -> None:
    """Whichever member stands still, the one that all hosts ask first or the leader: containers start and go."""
    one, two, _ = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    for number, member in enumerate((0, cluster.store.leader())):
        with paused(cluster.store, member):
            settle(one, partial(works, one), "container beside a member that stands still", seconds=COMMAND)
            with soon():
                two.start("mac", f"c{number}")
            with soon():
                two.docker("rm", "-f", f"c{number}")
        cluster.store.wait_ready()


# ---------------------------------------------------------------- a host is


@on_both
def test_one_host_is_cut_off(cluster: FragileCluster) -> None:
    """Its containers answer on the wire and keep their addresses; that of one that went is not freed a second time."""
    one, two, three = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    one.start("mac", "one", "--ip=10.91.0.10")
    two.start("mac", "runs", "--ip=10.91.0.20")
    two.start("mac", "leaves", "--ip=10.91.0.21")
    host = two.driver.admin.status().host_id
    cluster.cut_off(two)
    cluster.end_lease(host)
    with soon():
        two.docker("rm", "-f", "leaves")
    assert "store" in one_more(two)
    assert two.reaches("runs", "10.91.0.10")
    settle(one, lambda: "10.91.0.21" not in holders(one), "address that nobody answers for")
    one.start("mac", "heir", "--ip=10.91.0.21")
    settle(
        one,
        lambda: any("answers for 10.91.0.20" in site.driver.log_text() for site in (one, three)),
        "answer from the host that is cut off",
    )
    assert "runs" in one_more(three, "--ip=10.91.0.20")
    cluster.mend(two)
    cluster.wait_up()
    settle(two, partial(is_settled, two), "late release")
    assert holders(two)["10.91.0.21"] == f"heir {one.host.name}"
    assert "heir" in one_more(two, "--ip=10.91.0.21")
    assert works(two)


@on_consul
def test_the_steady_clock_of_a_host_jumps(cluster: FragileCluster) -> None:
    """A month ahead and back again, by the clock that leases and waits go by: the host lives, and keeps what it has."""
    one, two, three = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    two.start("mac", "runs", "--ip=10.91.0.20")
    for number, ahead in enumerate((30 * 86400, 0)):
        two.start("mac", f"goes{number}", "--ip=10.91.0.21")
        cluster.set_steady_clock(two, ahead)
        with soon():
            two.docker("rm", "-f", f"goes{number}")
        settle(two, partial(is_settled, two), "word of all that happened")
        cluster.wait_up()
        assert "runs" in one_more(three, "--ip=10.91.0.20")
        assert works(one, "--ip=10.91.0.21")
        assert works(two, "--ip=10.91.0.21")


@on_etcd
def test_a_host_loses_power_and_is_back_soon(cluster: FragileCluster) -> None:
    """Nobody gets its addresses meanwhile, and its containers come back with them."""
    one, _, three = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    three.start("mac", "asked", "--ip=10.91.0.30", "--restart=always")
    three.start("mac", "given", "--restart=always")
    three.start("mac", "ended")
    cluster.power_off(three)
    assert three.host.name in one_more(one, "--ip=10.91.0.30")
    three = cluster.power_on(three)
    settle(three, lambda: len(given(three)) == 2, "containers that came back", seconds=30)
    assert three.address("asked", "mac") == "10.91.0.30"
    settle(one, lambda: set(holders(one)) == {"10.91.0.254", *given(three)}, "addresses of those that ended")
    assert "asked" in one_more(one, "--ip=10.91.0.30")


@on_etcd
def test_a_host_loses_power_and_others_get_its_addresses(cluster: FragileCluster) -> None:
    """Once its lease and the grace are over its addresses are free; it is back, and takes none from their holders."""
    one, two, three = cluster.sites
    cluster.wait_up()
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    three.start("mac", "asked", "--ip=10.91.0.30", "--restart=always")
    three.start("mac", "given", "--ip=10.91.0.31")
    cluster.power_off(three)
    # the lease is over by itself here, as in real life
    settle(one, lambda: not {"10.91.0.30", "10.91.0.31"} & holders(one).keys(), "end of a dead host", seconds=40)
    two.start("mac", "heir", "--ip=10.91.0.30")
    three = cluster.power_on(three)
    cluster.wait_up()
    assert given(three) == []
    with soon():
        assert "heir" in three.refusal("start", "asked")
    assert holders(three)["10.91.0.30"] == f"heir {two.host.name}"
    three.docker("start", "given")
    assert three.reaches("given", "10.91.0.30")


# ---------------------------------------------------------------- a request is


@on_consul
def test_a_release_arrives_late(cluster: FragileCluster) -> None:
    """Whatever is released or deleted that somebody else has by now, or nobody knows: it is his, and all is well."""
    one, two, _ = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    network = networks(two)["mac"]
    two.start("mac", "first", "--ip=10.91.0.10")
    endpoint = two.endpoint("first", "mac")["EndpointID"]
    two.docker("rm", "-f", "first")
    for heir in (two, one):
        heir.start("mac", "heir", "--ip=10.91.0.10")
        for call in ("NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint"):
            assert plugin(two, call, NetworkID=network, EndpointID=endpoint) == {}
        assert (
            plugin(two, "IpamDriver.ReleaseAddress", PoolID="macvlan-global/10.91.0.0/24", Address="10.91.0.10") == {}
        )
        assert plugin(two, "IpamDriver.ReleasePool", PoolID="macvlan-global/10.91.0.0/24") == {}
        for site in (one, two):
            settle(site, partial(is_held, site, "10.91.0.10", "heir", heir), "holder of the address")
        assert "heir" in one_more(two, "--ip=10.91.0.10")
        heir.docker("rm", "-f", "heir")


@on_consul
def test_the_same_request_twice(cluster: FragileCluster) -> None:
    """A call that is repeated gets the same answer and takes nothing more; what nobody came for is found."""
    one, two, three = cluster.sites
    one.create("mac", *MAC)
    cluster.wait_for("mac")
    pool = "macvlan-global/10.91.0.0/24"
    asked = partial(plugin, two, "IpamDriver.RequestAddress", PoolID=pool, Address="10.91.0.10")
    first = asked()
    assert asked() == first == {"Address": "10.91.0.10/24", "Data": {}}
    endpoint = {"NetworkID": networks(two)["mac"], "EndpointID": "e" * 64, "Interface": {"Address": "10.91.0.10/24"}}
    made = partial(plugin, two, "NetworkDriver.CreateEndpoint", **endpoint)
    both = at_once([made, made])
    assert both[0] == both[1] == made()
    assert "in use" in one_more(three, "--ip=10.91.0.10")
    plugin(two, "IpamDriver.RequestAddress", PoolID=pool, Address="")
    assert len(holders(one)) == 3
    two.driver.admin.repair(dry_run=False, grace=0)
    assert holders(one).keys() == {"10.91.0.254"}


def plugin(site: Site, call: str, **request: object) -> dict[str, object]:
    """What the driver answers to a call of the engine's."""
    with soon():
        status, reply = ask(site.host.run_folder / SOCKET, "POST", f"/{call}", json.dumps(request).encode())
    assert status == 200
    answer: dict[str, object] = reply
    return answer


def _still_holds(site: Site, before: dict[str, str]) -> bool:
    return before.items() <= holders(site).items()


# ---------------------------------------------------------------- the past


@on_both
def test_the_store_is_restored_from_an_older_snapshot(cluster: FragileCluster, tmp_path: Path) -> None:
    """What came after the snapshot is told again: no container loses its address to another, and no network goes."""
    one, two, three = cluster.sites
    one.create("mac", "--subnet=10.91.0.0/28", "--gateway=10.91.0.14", "-o", "parent=eth1")
    cluster.wait_for("mac")
    one.start("mac", "before", "--ip=10.91.0.10")
    two.start("mac", "gone", "--ip=10.91.0.9")
    cluster.store.save(tmp_path / "snapshot")
    two.start("mac", "after", "--ip=10.91.0.11")
    three.start("mac", "any")
    two.docker("rm", "-f", "gone")
    two.create("younger", "--subnet=10.92.0.0/24", "--gateway=10.92.0.1", "-o", "parent=eth1")
    cluster.wait_for("younger")
    before = named_holders(one, before=one, after=two, any=three)
    assert "10.91.0.9" not in before
    cluster.store.restore(tmp_path / "snapshot")
    for site in cluster.sites:
        settle(site, partial(_still_holds, site, before), "all that was held")
    # what ended after the snapshot is given back when it is no longer young, or when an operator says that it is not
    two.driver.admin.repair(dry_run=False, grace=0)
    assert holders(one) == before
    assert "after" in one_more(one, "--ip=10.91.0.11")
    for name in ("mac", "younger"):
        cluster.wait_for(name)
    cluster.wait_up()
    at_once(partial(site.start, "mac", f"c{number}") for number in range(3) for site in cluster.sites)
    everywhere = given(*cluster.sites)
    assert len(set(everywhere)) == len(everywhere) == 12
    assert one.reaches("before", "10.91.0.11")
    one.docker("network", "rm", "younger")
    cluster.wait_gone("younger")
