"""Links that are made inside containers: names, what is in there, and everything that happens to a container."""

import contextlib
from collections.abc import Iterator

import pytest

from lab import ENGINES, Host, Wire
from lab.driver import Driver
from lab.errors import LabError
from lab.process import wait_until
from lab.site import Site
from tests.e2e.attach.legs_seen import as_lines, inside, names, seen

OLDEST, NEWEST = ENGINES
IFNAME = "com.docker.network.endpoint.ifname"
SYSCTLS = "com.docker.network.endpoint.sysctls"
LAN = ("--subnet=10.7.0.0/24", "--gateway=10.7.0.1", "-oparent=eth1")
BACK = ("--subnet=10.8.0.0/24", "--gateway=10.8.0.1", "-oparent=eth1")
DUAL = ("--ipv6", *LAN, "--subnet=fd07::/64", "--gateway=fd07::1")
IPS = ("--ip=10.7.0.9", "--ip6=fd07::9")
MAC = "--mac-address=02:00:00:00:00:aa"


def idle(site: Site, name: str = "box") -> None:
    """A container that runs, on a network that is none of ours and has nothing."""
    site.docker("run", "-d", "--init", "--network=none", f"--name={name}", "alpine", "sleep", "600")
    site.docker("network", "disconnect", "none", name)


def connect(site: Site, network: str, *arguments: str, container: str = "box") -> None:
    """`docker network connect`, at which every engine has the container's namespace."""
    site.docker("network", "connect", *arguments, network, container)


def becomes(site: Site, wanted: list[str], container: str = "box") -> None:
    """Wait until the interfaces of a container are called this."""
    wait_until(lambda: names(site, container) == wanted, f"{wanted}", explain=lambda: str(names(site, container)))


# ------------------------------------------------------------------------- names


def test_names_begin_as_the_network_says_and_are_counted(site: Site) -> None:
    """In each container; who leaves makes room, and who comes takes it."""
    site.create("lan", *LAN, "-oifname=lan")
    site.create("back", *BACK, "-oifname=lan")
    site.create("other", "--subnet=10.9.0.0/24", "-oparent=eth1", "-oattach=direct")
    idle(site)
    for network in ("lan", "back", "other"):
        connect(site, network)
    becomes(site, ["lan0", "lan1", "mv0"])
    site.docker("network", "disconnect", "lan", "box")
    becomes(site, ["lan1", "mv0"])
    connect(site, "lan")
    becomes(site, ["lan0", "lan1", "mv0"])


def test_a_container_asks_for_a_name(site: Site) -> None:
    """By our option or by the engine's, also on a network that says nothing."""
    site.create("lan", *LAN)
    site.create("back", *BACK, "-oattach=direct")
    idle(site)
    connect(site, "lan", "--driver-opt", "ifname=uplink")
    connect(site, "back", "--driver-opt", f"{IFNAME}=wan")
    becomes(site, ["uplink", "wan"])


def test_a_container_has_its_name_from_the_start(site: Site) -> None:
    """Where the engine has the namespace in time, which is told where it has not; and again after a restart."""
    site.create("lan", *DUAL, "-oifname=lan")
    site.start("lan", "box", *IPS)
    direct = site.version == NEWEST
    for _ in range(2):
        becomes(site, ["lan0"] if direct else ["eth0"])
        told = site.driver.admin.status().problems
        assert [each for each in told if "attached in mode plain" in each] == ([] if direct else told)
        assert direct or "1 container is attached in mode plain" in told[0]
        site.docker("restart", "-t1", "box")
    if direct:
        option = f"name=lan,driver-opt={IFNAME}=wan"
        assert "wan" in site.docker("run", "--rm", f"--network={option}", "alpine", "ip", "link", "show", "wan")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("eth0", "is reserved for the engine"),
        ("eth7", "is reserved for the engine"),
        ("a234567890123456", "16 characters; use 1 to 15"),
        ("la/n", "not a valid interface name"),
        ("lo", "the loopback interface"),
        ("lan0", "the interface name lan0 is taken in this container"),
    ],
)
def test_a_name_that_cannot_be_is_refused(site: Site, asked: str, said: str) -> None:
    """With the reason; what is there stays as it is, and nothing is left of the rest."""
    site.create("lan", *LAN, "-oifname=lan")
    site.create("back", *BACK)
    idle(site)
    connect(site, "lan", "--ip=10.7.0.9")
    before = site.driver.admin.addresses()
    assert said in site.refusal("network", "connect", "--driver-opt", f"ifname={asked}", "back", "box")
    assert names(site, "box") == ["lan0"]
    assert site.driver.admin.addresses() == before


def test_names_of_a_plain_network_are_the_engines(site: Site) -> None:
    """Whether the network or a container asks for another."""
    assert "-o ifname=lan needs -o attach=direct" in site.refusal(
        *site.create_command("lan", *LAN, "-oattach=plain", "-oifname=lan")
    )
    assert "-o attach=other is not an attach mode" in site.refusal(*site.create_command("lan", *LAN, "-oattach=other"))
    site.create("lan", *LAN, "-oattach=plain")
    idle(site)
    said = site.refusal("network", "connect", "--driver-opt", "ifname=wan", "lan", "box")
    assert "interface name wan was requested on a network with -o attach=plain" in said


# ------------------------------------------------------------ the same as plain


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        (DUAL, IPS),
        (LAN, ("--ip=10.7.0.9",)),
        ((*DUAL, "--internal"), IPS),
        ((*LAN, "-omtu=1400", "-omode=private"), ("--ip=10.7.0.9",)),
        ((*LAN, "-omode=passthru"), ("--ip=10.7.0.9",)),
    ],
    ids=["dual stack", "IPv4", "internal", "MTU and mode", "passthru"],
)
def test_what_is_inside_is_what_a_plain_attach_gives(
    site: Site, network: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    """Interfaces, addresses, routes, IPv6 on or off, and what the engine shows, at a start and at a connect."""
    found = []
    for way in ("plain", "direct"):
        site.create("lan", *network, f"-oattach={way}")
        site.start("lan", "box", *arguments)
        started = seen(site, "box")
        site.docker("rm", "-f", "box")
        idle(site)
        connect(site, "lan", *arguments)
        found.append([*as_lines(started), *as_lines(seen(site, "box"))])
        site.docker("rm", "-f", "box")
        site.docker("network", "rm", "lan")
    assert found[1] == found[0]


def test_settings_of_an_interface(site: Site) -> None:
    """The engine's option is heeded by the driver for a link that it makes, and what cannot be is refused."""
    site.create("lan", *LAN, "-oattach=direct")
    idle(site)
    connect(site, "lan", "--driver-opt", f"{SYSCTLS}=net.ipv4.conf.IFNAME.log_martians=1")
    assert inside(site, "box", "cat", "/proc/sys/net/ipv4/conf/mv0/log_martians").strip() == "1"
    site.docker("network", "disconnect", "lan", "box")
    option = f"{SYSCTLS}=net.ipv4.conf.IFNAME.nosuch=1"
    assert "no setting net.ipv4.conf.IFNAME.nosuch" in site.refusal(
        "network", "connect", "--driver-opt", option, "lan", "box"
    )
    becomes(site, [])


def test_beside_other_networks_the_gateway_moves(site: Site) -> None:
    """Two of ours, a bridge and a built-in macvlan: whoever is left leads out, and all reach their own."""
    site.create("lan", *LAN, "-oattach=direct")
    site.create("back", *BACK, "-oattach=direct")
    site.docker(
        "network", "create", "-d", "macvlan", "--subnet=10.20.0.0/24", "--gateway=10.20.0.1", "-oparent=eth0", "zz"
    )
    idle(site)
    for network in ("lan", "back", "zz"):
        connect(site, network)
    ways = {"lan": "10.7.0.1", "back": "10.8.0.1", "zz": "10.20.0.1"}

    def leads() -> str:
        return inside(site, "box", "ip", "-4", "route", "show", "default").split()[2]

    while ways:
        gone = next(name for name, gateway in ways.items() if gateway == leads())
        del ways[gone]
        site.docker("network", "disconnect", gone, "box")
        if ways:
            assert leads() in ways.values()


def test_neighbours_reach_a_container_right_after_it_was_restarted(site: Site) -> None:
    """Its MAC is another one then, and they are told: on both engines, both ways."""
    site.create("lan", *LAN, "-oattach=direct")
    site.create("back", *BACK, "-oattach=plain")
    for network, base in (("lan", "10.7.0"), ("back", "10.8.0")):
        site.start(network, f"near-{network}", f"--ip={base}.8")
        site.start(network, f"far-{network}", f"--ip={base}.9")
        assert site.reaches(f"near-{network}", f"{base}.9")
        before = site.endpoint(f"far-{network}", network)["MacAddress"]
        site.docker("restart", "-t1", f"far-{network}")
        assert site.endpoint(f"far-{network}", network)["MacAddress"] != before
        assert site.reaches(f"near-{network}", f"{base}.9")


def test_a_mac_that_was_asked_for_is_there_again_after_a_restart(site: Site) -> None:
    """The link that had it is gone by then."""
    site.create("lan", *LAN, "-oattach=direct")
    site.start("lan", "box", "--ip=10.7.0.9", MAC)
    for _ in range(3):
        site.docker("restart", "-t1", "box")
    assert site.endpoint("box", "lan")["MacAddress"] == "02:00:00:00:00:aa"


# ------------------------------------------------------------- engine and driver


@pytest.fixture(params=ENGINES)
def live(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A host whose engine restarts under running containers, and on which direct is the default."""
    yield from _made(request.param, live_restore=True)


@pytest.fixture(params=ENGINES)
def direct(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A host on which direct is the default."""
    yield from _made(request.param, live_restore=False)


def _made(version: str, *, live_restore: bool) -> Iterator[Site]:
    with Wire() as wire, Host("direct") as host:
        wire.plug(host)
        driver = Driver(host, "--attach=direct")
        driver.start()
        host.start_engine(version, live_restore=live_restore)
        yield Site(wire, host, driver, version)
        driver.stop()


def test_the_old_engine_forgets_the_name_of_a_link_on_an_internal_network(live: Site) -> None:
    """A link made inside comes beside it all the same: docs/limits.md says so."""
    live.create("inner", "--subnet=10.3.0.0/24", "--internal", "-oparent=eth1", "-oattach=plain")
    live.create("next", "--subnet=10.4.0.0/24", "-oparent=eth1", "-oattach=plain")
    live.create("back", *BACK)
    live.start("inner", "box")
    live.host.restart_engine()
    live.driver.wait_for_engine()
    refusal = pytest.raises(LabError, match="file exists")
    with contextlib.nullcontext() if live.version == NEWEST else refusal:
        live.docker("network", "connect", "next", "box")
    live.docker("network", "connect", "back", "box")
    assert live.endpoint("box", "back")["IPAddress"]


def test_the_engine_restarts_under_a_container_with_two_links(live: Site) -> None:
    """It takes both for the one that leaves, and sets the other one down: the driver sets it up again, whole.

    The newer engine would crash: there, no link is made inside, which is told, and all goes as it does plain.
    """
    live.create("lan", *DUAL)
    live.create("back", *BACK)
    idle(live)
    connect(live, "back", "--ip=10.8.0.9")
    connect(live, "lan", *IPS)
    live.start("lan", "other", "--ip=10.7.0.8", "--ip6=fd07::8")
    live.host.restart_engine()
    live.driver.wait_for_engine()
    both = ["mv0", "mv1"] if live.version == OLDEST else ["eth0", "eth1"]
    assert names(live, "box") == both
    told = " ".join(live.driver.admin.status().problems)
    assert ("has live-restore" in told) == (live.version == NEWEST)
    live.docker("network", "disconnect", "back", "box")
    becomes(live, both[1:])
    after = seen(live, "box")
    assert after["links"]["10.7.0.9"]["up"]
    assert [each[0] for each in after["links"]["10.7.0.9"]["addresses"]] == ["10.7.0.9", "fd07::9"]
    assert any('"dst": "default"' in each and '"10.7.0.1"' in each for each in after["routes"][0])
    assert any('"dst": "default"' in each and '"fd07::1"' in each for each in after["routes"][1])
    assert live.reaches("other", "10.7.0.9")
    assert live.reaches("box", "fd07::8")
    connect(live, "back", "--ip=10.8.0.9")
    wait_until(lambda: len(names(live, "box")) == 2, "both again")
    live.docker("restart", "-t1", "box")
    assert live.reaches("other", "10.7.0.9")
    live.docker("rm", "-f", "box", "other")


def test_the_driver_is_killed_under_a_container_with_a_link_inside(direct: Site) -> None:
    """The next one takes the link out, and knows who has what; also if its state was lost."""
    direct.create("lan", *LAN)
    idle(direct)
    for forget in (False, True):
        connect(direct, "lan", "--ip=10.7.0.9")
        direct.driver.kill()
        if forget:
            direct.host.run(["sh", "-c", "rm /var/lib/macvlan-global/state.db*"])
        direct.driver.start()
        direct.driver.wait_for_engine()
        wait_until(lambda: _held(direct) == ["10.7.0.9"], "address of the container")
        direct.docker("network", "disconnect", "lan", "box")
        becomes(direct, [])
        assert _held(direct) == []


def test_the_engine_is_killed_under_a_container_with_links_inside(direct: Site) -> None:
    """Without live-restore it ends what ran, and starts again what is to: with its addresses and its names."""
    direct.create("lan", *LAN)
    direct.start("lan", "box", "--ip=10.7.0.9", "--restart=always")
    direct.host.kill_engine()
    direct.host.restart_engine()
    wait_until(lambda: _running(direct, "box"), "container that came back", seconds=60)
    becomes(direct, ["mv0"] if direct.version == NEWEST else ["eth0"])
    direct.start("lan", "other")
    assert direct.reaches("other", "10.7.0.9")
    direct.docker("rm", "-f", "box", "other")
    wait_until(lambda: _held(direct) == [], "end of all addresses")


def _held(site: Site) -> list[str]:
    return [each.address for each in site.driver.admin.addresses() if each.kind == "endpoint"]


def _running(site: Site, container: str) -> bool:
    return site.docker("inspect", "-f", "{{.State.Running}}", container) == "true"
