"""Attaching and detaching containers, on a kernel and an engine in memory."""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from macvlan_global.attach.attach import plain_against_wish
from macvlan_global.attach.deferred_delete import DELAY_SECONDS
from macvlan_global.driver.driver import Settings
from macvlan_global.driver.endpoints import JoinResult
from macvlan_global.driver.requests import EndpointRequest
from macvlan_global.errors import Conflict, Invalid, NotFound, Unavailable
from macvlan_global.kernel.names import link_name
from macvlan_global.options.endpoint import EndpointOptions
from testkit.fake_engine import Subnet, engine_id
from testkit.rig import Rig

LAN = Subnet("192.168.1.0/24", gateway="192.168.1.1")
BACK = Subnet("192.168.2.0/24", gateway="192.168.2.1")
pytestmark = pytest.mark.virtual_time

BOX = "/netns/box"
E1, E2 = engine_id("e1"), engine_id("e2")


async def _rig(*, settings: Settings | None = None, **options: str) -> Rig:
    rig = await Rig.build("eth0", settings=settings)
    rig.kernel.namespaces.add(BOX)
    await rig.engine.create_network("n1", LAN, options={"parent": "eth0", **options})
    return rig


async def _join(
    rig: Rig, endpoint: str = E1, last: int = 9, *, network: str = "n1", sandbox: str = BOX, **asked: str
) -> JoinResult:
    base = "192.168.1" if network == "n1" else "192.168.2"
    await rig.driver.ipam.request_address(f"macvlan-global/{base}.0/24", f"{base}.{last}")
    options = EndpointOptions(**{key: value for key, value in asked.items() if key != "mac"})
    wanted = EndpointRequest.read(
        engine_id(network), endpoint, f"{base}.{last}/24", mac=asked.get("mac", ""), options=options
    )
    await rig.driver.endpoints.create(wanted)
    return await rig.driver.endpoints.join(engine_id(network), endpoint, sandbox)


def _inside(rig: Rig, sandbox: str = BOX) -> list[str]:
    return sorted(rig.kernel.sandboxed.get(sandbox, {}))


@contextlib.asynccontextmanager
async def _running(rig: Rig) -> AsyncIterator[None]:
    """The driver's own tasks run."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(rig.driver.attacher.run())
        yield
        work.cancel()


async def _until(wanted: object, seen: object) -> None:
    for _ in range(1000):
        if callable(seen) and seen() == wanted:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"never {wanted}")


async def test_plain_is_the_default() -> None:
    """The link is on the host, for the engine to move."""
    rig = await _rig()
    joined = await _join(rig)
    assert (joined.ifname, joined.link in rig.kernel.hosted, _inside(rig)) == ("", True, [])


@pytest.mark.parametrize(
    ("options", "settings", "names"),
    [
        ({"attach": "direct"}, None, ["mv0", "mv1"]),
        ({"ifname": "lan"}, None, ["lan0", "lan1"]),
        ({}, Settings(attach="direct"), ["mv0", "mv1"]),
        ({"attach": "plain"}, Settings(attach="direct"), []),
    ],
)
async def test_who_says_how(options: dict[str, str], settings: Settings | None, names: list[str]) -> None:
    """The network, or else the host; a name implies the way that has names."""
    rig = await _rig(settings=settings, **options)
    for number, endpoint in enumerate((E1, E2)):
        joined = await _join(rig, endpoint, 9 + number)
        assert joined.ifname == (names[number] if names else "")
        assert joined.gateway == "192.168.1.1"
    assert _inside(rig) == names


async def test_a_leg_has_what_the_engine_would_give() -> None:
    """Addresses with the subnet's prefix, the settings asked for, and the name asked for."""
    rig = await _rig()
    joined = await _join(rig, ifname="wan", sysctls="net.ipv4.conf.IFNAME.log_martians=1")
    assert joined.ifname == "wan"
    leg = rig.kernel.configs[link_name(E1)]
    assert ([str(each) for each in leg.addresses], leg.settings, leg.numbered) == (
        ["192.168.1.9/24"],
        (("ipv4/conf/*/log_martians", "1"),),
        False,
    )


async def test_a_name_where_the_engine_gives_them_is_refused() -> None:
    """And nothing is held."""
    rig = await _rig(attach="plain")
    with pytest.raises(Invalid, match="interface name wan was requested on a network with -o attach=plain"):
        await _join(rig, ifname="wan")
    assert await rig.driver.endpoints.all() == []


async def test_a_name_that_is_taken_is_refused_and_the_next_try_may_have_another() -> None:
    """The first container's link stays as it is."""
    rig = await _rig()
    await _join(rig, ifname="wan")
    with pytest.raises(Conflict, match="wan is taken"):
        await _join(rig, E2, 10, ifname="wan")
    assert _inside(rig) == ["wan"]
    await rig.driver.endpoints.delete(engine_id("n1"), E2)
    assert (await _join(rig, E2, 10, ifname="lan")).ifname == "lan"


async def test_without_a_namespace_the_way_is_plain_and_told() -> None:
    """Once for each network, with the reason; it is forgotten with the container."""
    rig = await _rig(attach="direct")
    joined = await _join(rig, sandbox="/netns/later")
    assert (joined.ifname, joined.link in rig.kernel.hosted) == ("", True)
    network = (await rig.driver.networks.all())[0]
    told = plain_against_wish(network, await rig.driver.endpoints.all())
    assert (
        told
        == f"network {engine_id('n1')[:12]}: 1 container is attached in mode plain (eth0, …): there is no namespace yet"
    )
    await rig.driver.endpoints.delete(engine_id("n1"), E1)
    assert plain_against_wish(network, await rig.driver.endpoints.all()) == ""


async def test_a_join_that_comes_twice_makes_one_link() -> None:
    """Also if the driver died after the kernel had made it."""
    rig = await _rig(attach="direct")
    await _join(rig)
    again = await rig.driver.endpoints.join(engine_id("n1"), E1, BOX)
    assert (again.ifname, _inside(rig)) == ("mv0", ["mv0"])


async def test_a_late_join_that_fails_leaves_the_link_of_a_running_container() -> None:
    """The parent went down meanwhile."""
    rig = await _rig(attach="direct")
    await _join(rig)
    before = await rig.driver.endpoints.get(engine_id("n1"), E1)
    rig.kernel.failing["add_in_sandbox"] = Unavailable("the parent went down")
    with pytest.raises(Unavailable, match="went down"):
        await rig.driver.endpoints.join(engine_id("n1"), E1, BOX)
    assert _inside(rig) == ["mv0"]
    assert await rig.driver.endpoints.get(engine_id("n1"), E1) == before


async def test_an_endpoint_that_joins_again_at_once_keeps_its_link() -> None:
    """The deletion of the link that it had before was deferred; the new one has the same alias."""
    rig = await _rig(attach="direct")
    async with _running(rig):
        await _join(rig)
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        assert (await rig.driver.endpoints.join(engine_id("n1"), E1, BOX)).ifname == "mv0"
        await asyncio.sleep(2 * DELAY_SECONDS)
        assert _inside(rig) == ["mv0"]
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        await rig.driver.endpoints.delete(engine_id("n1"), E1)
        await _until([], lambda: _inside(rig))
    assert await rig.driver.tables.endpoints.scan() == []


async def test_a_join_that_comes_after_the_deletion_is_refused() -> None:
    """The engine plays it: it repeats a request late, while the link of the deleted endpoint is still to go."""
    rig = await _rig(attach="direct")
    async with _running(rig):
        await _join(rig)
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        await rig.driver.endpoints.delete(engine_id("n1"), E1)
        with pytest.raises(NotFound, match="not known"):
            await rig.driver.endpoints.join(engine_id("n1"), E1, BOX)
        await _until([], lambda: _inside(rig))
    assert await rig.driver.tables.endpoints.scan() == []


async def test_a_link_loses_its_addresses_at_once_and_goes_in_a_moment() -> None:
    """The engine is not kept waiting; its record goes last, and holds nothing meanwhile."""
    rig = await _rig(attach="direct")
    async with _running(rig):
        await _join(rig)
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        assert rig.kernel.configs[link_name(E1)].addresses == ()
        assert _inside(rig) == ["mv0"]
        await rig.driver.endpoints.delete(engine_id("n1"), E1)
        assert await rig.driver.endpoints.all() == []
        await rig.driver.ipam.release_address("macvlan-global/192.168.1.0/24", "192.168.1.9")
        assert (await rig.driver.ipam.request_address("macvlan-global/192.168.1.0/24", "192.168.1.9")).startswith("192")
        await _until([], lambda: _inside(rig))
    assert [row.record.id for row in await rig.driver.tables.endpoints.scan()] == []


@pytest.mark.parametrize("options", [{"mac": "address"}, {"mode": "passthru"}, {}])
async def test_a_mac_that_may_be_wanted_again_is_free_at_once(options: dict[str, Any]) -> None:
    """Of an address, of the parent, or asked for: the next link with it is made right afterwards."""
    rig = await _rig(attach="direct", **options)
    mac: dict[str, Any] = {} if options else {"mac": "02:00:00:00:00:aa"}
    async with _running(rig):
        await _join(rig, **mac)
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        assert _inside(rig) == []
        await rig.driver.endpoints.delete(engine_id("n1"), E1)
        await rig.driver.ipam.release_address("macvlan-global/192.168.1.0/24", "192.168.1.9")
        assert (await _join(rig, E2, **mac)).ifname == "mv0"


async def test_a_name_is_free_for_who_comes_next() -> None:
    """A container that is disconnected and connected again has its name again."""
    rig = await _rig(attach="direct")
    async with _running(rig):
        await _join(rig)
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        await rig.driver.endpoints.delete(engine_id("n1"), E1)
        assert (await _join(rig, E2, 10)).ifname == "mv0"
        assert _inside(rig) == ["mv0"]
    assert [row.record.id for row in await rig.driver.tables.endpoints.scan()] == [E2]


async def test_what_a_killed_driver_was_about_to_take_away_is_taken_away_by_the_next() -> None:
    """It finds the record."""
    rig = await _rig(attach="direct")
    async with _running(rig):
        await _join(rig)
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        await rig.driver.endpoints.delete(engine_id("n1"), E1)
    assert _inside(rig) == ["mv0"], "it was too early"
    rig = await Rig.build(kernel=rig.kernel, disk=rig.disk, clock=rig.clock, engine=rig.engine)
    await rig.mend(engine=False)
    assert _inside(rig) == []
    assert await rig.driver.tables.endpoints.scan() == []


async def test_a_link_that_cannot_be_looked_for_is_looked_for_again() -> None:
    """By the next repair."""
    rig = await _rig(attach="direct")
    async with _running(rig):
        await _join(rig)
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        rig.kernel.failing["delete_in_sandbox"] = Unavailable("not now")
        await rig.driver.endpoints.delete(engine_id("n1"), E1)
        await _until({}, lambda: rig.kernel.failing)
        await rig.mend(engine=False)
        await _until([], lambda: _inside(rig))
    await rig.mend(engine=False)
    assert await rig.driver.tables.endpoints.scan() == []


async def test_a_link_that_the_engine_set_down_is_up_again() -> None:
    """After the engine deleted another endpoint of the same container."""
    rig = await _rig(attach="direct")
    await rig.engine.create_network("n2", BACK, options={"parent": "eth0", "ifname": "back"})
    await _join(rig)
    await _join(rig, E2, network="n2")
    rig.kernel.sandboxed[BOX]["back0"] = replace(rig.kernel.sandboxed[BOX]["back0"], up=False)
    await rig.driver.endpoints.leave(engine_id("n1"), E1)
    await rig.driver.endpoints.delete(engine_id("n1"), E1)
    assert rig.kernel.sandboxed[BOX]["back0"].up
    assert [str(each) for each in rig.kernel.configs[link_name(E2)].gateways] == ["192.168.2.1"]


@pytest.fixture
def quick() -> Iterator[dict[str, Any]]:
    """Options of a network that advertises as fast as it can be."""
    yield {"com.docker.network.advertise_addr_nmsgs": "2", "com.docker.network.advertise_addr_ms": "100"}


async def test_a_link_that_is_made_inside_is_advertised(quick: dict[str, Any]) -> None:
    """As often as the network says."""
    rig = await _rig(attach="direct", **quick)
    async with _running(rig):
        await _join(rig)
        await _until(["mv0", "mv0"], lambda: rig.kernel.advertised)


async def test_a_link_that_the_engine_moves_is_advertised_once_it_is_there(quick: dict[str, Any]) -> None:
    """No engine does that right for a plugin's addresses."""
    rig = await _rig(**quick)
    async with _running(rig):
        joined = await _join(rig)
        rig.kernel.move(joined.link, BOX)
        await _until(["eth0", "eth0"], lambda: rig.kernel.advertised)


async def test_nothing_is_advertised_that_the_network_does_not_want_told() -> None:
    """0 is a number of advertisements."""
    silent: dict[str, Any] = {"com.docker.network.advertise_addr_nmsgs": "0"}
    rig = await _rig(attach="direct", **silent)
    async with _running(rig):
        await _join(rig)
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        await _until([], lambda: _inside(rig))
    assert rig.kernel.advertised == []


FOREIGN = OSError(errno.EMFILE, "Too many open files")


async def test_a_foreign_error_in_one_deferred_deletion_leaves_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its trace, and the driver runs on; the link is deleted when its container leaves again."""
    rig = await _rig(attach="direct")
    rig.kernel.namespaces.add("/netns/other")
    async with _running(rig):
        await _join(rig)
        await _join(rig, E2, 10, sandbox="/netns/other")
        rig.kernel.failing["delete_in_sandbox"] = FOREIGN
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        await rig.driver.endpoints.leave(engine_id("n1"), E2)
        await _until([], lambda: _inside(rig, "/netns/other"))
        assert _inside(rig) == ["mv0"]
        assert [each.exc_info[1] for each in caplog.records if each.exc_info] == [FOREIGN]
        await rig.driver.endpoints.leave(engine_id("n1"), E1)
        await _until([], lambda: _inside(rig))


async def test_a_foreign_error_in_one_advertisement_leaves_the_next(
    quick: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its trace, and the driver runs on."""
    rig = await _rig(attach="direct", **quick)
    rig.kernel.failing["advertise"] = FOREIGN
    async with _running(rig):
        await _join(rig)
        await _until([FOREIGN], lambda: [each.exc_info[1] for each in caplog.records if each.exc_info])
        await _join(rig, E2, 10)
        await _until(["mv1", "mv1"], lambda: rig.kernel.advertised)
